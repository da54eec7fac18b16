"""When the sounds of a language are spoken: phone times from Praat's TextGrid files, or of English by pocketsphinx."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import numpy as np

from moda.constants import FPS
from moda.errors import ModaError, why

Segment = tuple[float, float, str]  # start, end in seconds, phone

# What is spoken with closed lips, in ARPAbet and in IPA, which every aligner's phone sets come from.
BILABIAL = {"p", "b", "m", "em", "ɓ", "pp", "bb", "mm", "pf"}
_INTERVAL = re.compile(
    r"intervals\s*\[\d+\]:\s*xmin\s*=\s*(\S+)\s*xmax\s*=\s*(\S+)\s*text\s*=\s*\"((?:[^\"]|\"\")*)\""
)


def read_textgrid(path: Path) -> list[Segment]:
    """The tier of a TextGrid (long form) whose name has "phone" in it, as forced aligners write it.

    Errors: ModaError for a file that cannot be read or has no such tier.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        for tier in re.split(r"item\s*\[\d+\]:", text)[1:]:
            name = re.search(r'name\s*=\s*"([^"]*)"', tier)
            if name and "phone" in name[1].lower():
                return [(float(a), float(b), phone) for a, b, phone in _INTERVAL.findall(tier)]
    except (OSError, ValueError) as error:
        raise ModaError(f"the phone times {path} cannot be read: {why(error)}") from error
    raise ModaError(f"{path} is no TextGrid in long form with a tier of phones")


def is_bilabial(phone: str) -> bool:
    """Whether it is spoken with closed lips, stress, length and aspiration apart."""
    return (
        "".join(c for c in unicodedata.normalize("NFD", phone.lower()) if c.isalpha() and c not in "ʰʲʷˠː")
        in BILABIAL
    )


def closed_in(segments: list[Segment], frames: int) -> np.ndarray:
    """-> (frames,) how far the lips have to meet in each video frame, 0..1: the part of it that p, b or m take, and
    for each of them one frame wholly."""
    closed = np.zeros(frames, np.float32)
    edges = np.arange(frames + 1) / FPS
    for start, end, name in segments:
        if not is_bilabial(name):
            continue
        part = FPS * np.clip(np.minimum(edges[1:], end) - np.maximum(edges[:-1], start), 0, None)
        if part.any():
            part[part.argmax()] = 1.0
        closed = np.maximum(closed, part)
    return closed.astype(np.float32)


def segments_of(known: Path, wave: np.ndarray) -> list[Segment]:
    """The phones of a sound (n,) at 16 kHz, from a .TextGrid of them, or a .txt of what is said in English.

    Errors: ModaError for a file that cannot be read; without pocketsphinx; for a text that does not fit the sound.
    """
    if known.suffix != ".txt":
        return read_textgrid(known)
    try:
        text = known.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ModaError(f"the transcript {known} cannot be read: {why(error)}") from error
    segments = Aligner()(wave, text)
    if not segments:
        raise ModaError(f"the words of {known} do not fit their sound")
    return segments


class Aligner:
    """Finds phones (ARPAbet, "SIL" between words) in (n,) float32 sound at 16 kHz.

    Without a transcript the words are recognized first: wrong words that sound alike still give mostly right phones.
    Errors: ModaError without pocketsphinx.
    """

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder, get_model_path
        except ImportError as error:
            raise ModaError("aligning a transcript needs pocketsphinx: pip install pocketsphinx") from error
        self._decoder = Decoder(lm=get_model_path("en-us/en-us.lm.bin"), loglevel="FATAL")

    def __call__(self, sound: np.ndarray, text: str | None = None) -> list[Segment]:
        """Segments in order, or an empty list where nothing fitted."""
        decoder, raw = self._decoder, (np.clip(sound, -1, 1) * 32767).astype(np.int16).tobytes()
        try:
            if text is None:
                decoder.activate_search("_default")
            else:
                words = [w for w in re.findall(r"[a-z']+", text.lower()) if decoder.lookup_word(w)]
                decoder.set_align_text(" ".join(words))
            self._decode(raw)
            decoder.set_alignment()  # a second pass, over the states of the words found
            self._decode(raw)
        except RuntimeError:
            return []
        return [
            (phone.start / 100, (phone.start + phone.duration) / 100, phone.name)
            for word in decoder.get_alignment() or []
            for phone in word
        ]

    def _decode(self, raw: bytes) -> None:
        self._decoder.start_utt()
        self._decoder.process_raw(raw, full_utt=True)
        self._decoder.end_utt()
