"""Phone times of real English speech, by the recogniser and aligner in the `pocketsphinx` package.

With a transcript the words are aligned; without one they are recognised first. Wrong words that sound alike
still give mostly right phones, and it is the phones that shape the mouth.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np

from recipes.sound import read_sound

Segment = tuple[float, float, str]  # start, end in seconds, phone


class Aligner:
    """Finds phones (ARPAbet, "SIL" between words) in (n,) float32 sound at 16 kHz."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder, get_model_path

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


def align_folder(sounds: list[Path], texts: dict[str, str], out: Path) -> dict[str, list[Segment]]:
    """File stem -> segments for all `sounds`; kept in the JSON-lines file `out`, so that a rerun goes on."""
    out.parent.mkdir(parents=True, exist_ok=True)
    done: dict[str, list[Segment]] = {}
    if out.exists():
        for line in out.read_text().splitlines():
            name, segments = json.loads(line)
            done[name] = [tuple(s) for s in segments]
    todo = [p for p in sounds if p.stem not in done]
    if todo:
        aligner = Aligner()
        with open(out, "a") as file:
            for path in todo:
                done[path.stem] = aligner(read_sound(path), texts.get(path.stem))
                file.write(json.dumps([path.stem, done[path.stem]]) + os.linesep)
                file.flush()
    return done
