"""Speech with exactly known sounds: espeak-ng in many languages and voices, flite's recorded English voices.

Both are system packages (`apt install espeak-ng flite`); where one is missing its corpus is left out.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from moda.constants import SAMPLE_RATE
from recipes import phones
from recipes.sound import read_sound, resample_sound

log = logging.getLogger(__name__)

# Languages whose numbers espeak-ng reads out in full; chosen to differ in their sounds.
LANGUAGES = (
    "en-us en-gb de fr-fr es it pt pt-br nl sv da nb pl cs ru uk hu fi et tr el ro hi bn ta fa ar cmn ja ko vi id sw "
    "ka eu cy ga".split()
)
VARIANTS = (
    "f1 f2 f3 f4 f5 m1 m2 m3 m4 m5 m6 m7 m8 croak klatt klatt2 klatt4 Andrea Michael Mike linda steph".split()
)
FLITE_VOICES = ("slt", "rms", "awb", "kal16")


class Espeak:
    """espeak-ng's library through ctypes: text -> sound and the times of its sounds (IPA)."""

    _PHONEME_EVENT = 7

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng")
        if name is None:
            raise OSError("libespeak-ng is not installed")

        class Id(ctypes.Union):
            _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]

        class Event(ctypes.Structure):
            _fields_ = [
                (n, ctypes.c_int) for n in "type uid text_position length audio_position sample".split()
            ]
            _fields_ += [("user_data", ctypes.c_void_p), ("id", Id)]

        callback = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event)
        )
        self._library = ctypes.CDLL(name)
        # 2: synchronous, to memory; 1 | 2: events for sounds, named in IPA
        self.rate = self._library.espeak_Initialize(2, 0, None, 1 | 2)
        self._sound: list[np.ndarray] = []
        self._events: list[tuple[int, str]] = []

        def receive(samples, count, events):
            if samples and count > 0:
                self._sound.append(np.ctypeslib.as_array(samples, (count,)).copy())
            i = 0
            while events[i].type:
                if events[i].type == self._PHONEME_EVENT:
                    self._events.append((events[i].sample, events[i].id.string.decode("utf-8", "replace")))
                i += 1
            return 0

        self._receive = callback(receive)  # kept: the library calls it later
        self._library.espeak_SetSynthCallback(self._receive)

    def __call__(self, text: str, voice: str, words_a_minute: int, pitch: int):
        """-> (n,) float32 at 16 kHz, [(start, end, IPA)] in seconds; nothing if the voice is not there."""
        self._sound, self._events = [], []
        if self._library.espeak_SetVoiceByName(voice.encode()):
            return None
        self._library.espeak_SetParameter(1, words_a_minute, 0)
        self._library.espeak_SetParameter(3, pitch, 0)
        raw = text.encode()
        self._library.espeak_Synth(raw, len(raw) + 1, 0, 1, 0, 1, None, None)
        self._library.espeak_Synchronize()
        if not self._sound:
            return None
        sound = np.concatenate(self._sound)
        ends = [at for at, _ in self._events[1:]] + [len(sound)]
        segments = [(at / self.rate, end / self.rate, name) for (at, name), end in zip(self._events, ends)]
        return resample_sound(sound, self.rate), segments


def from_espeak(name: str) -> tuple[int, ...]:
    return phones.from_ipa(name) or ((phones.ID["sil"],) if not name.strip("_: ") else ())


Said = tuple[str, np.ndarray, list]  # name, (n,) float32 at 16 kHz, [(start, end in seconds, classes)]


def espeak_clips(sentences: list[str], count: int, seed: int = 0) -> Iterator[Said]:
    """`count` clips: numbers in every language in turn, sentences between, each in another voice."""
    try:
        speak = Espeak()
    except OSError as error:
        log.warning("%s: its corpus is left out", error)
        return
    rng = np.random.default_rng(seed)
    for i in range(count):
        language = LANGUAGES[i % len(LANGUAGES)]
        text = ", ".join(str(int(10 ** rng.uniform(0.5, 6))) for _ in range(5))
        if language.startswith("en") or rng.random() < 0.6:
            # foreign letters read by this language's rules: still its sounds
            text = str(rng.choice(sentences))
        variant = str(rng.choice(VARIANTS))
        said = speak(text, f"{language}+{variant}", int(rng.integers(130, 220)), int(rng.integers(20, 80)))
        if said is not None:
            sound, segments = said
            named = [(a, b, from_espeak(name)) for a, b, name in segments]
            yield f"espeak/{language}+{variant}-{i}", sound[: 12 * SAMPLE_RATE], named


def flite_clips(sentences: list[str], count: int, seed: int = 0) -> Iterator[Said]:
    """`count` clips of each voice."""
    if shutil.which("flite") is None:
        log.warning("flite is not installed: its corpus is left out")
        return
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        wav = Path(folder) / "speech.wav"
        for voice in FLITE_VOICES:
            for i, sentence in enumerate(rng.choice(sentences, count)):
                stretch = f"duration_stretch={rng.uniform(0.85, 1.3):.2f}"
                command = ["flite", "-voice", voice, "-psdur", "--setf", stretch, "-t", str(sentence)]
                said = subprocess.run([*command, "-o", str(wav)], capture_output=True, text=True, check=True)
                names, ends = zip(*(item.rsplit(":", 1) for item in said.stdout.split()))
                sound = read_sound(wav, float(rng.uniform(0.95, 1.05)))
                scale = len(sound) / SAMPLE_RATE / max(float(ends[-1]), 0.1)
                times = [0.0, *(float(end) * scale for end in ends)]
                named = [(a, b, phones.from_arpabet(n)) for a, b, n in zip(times, times[1:], names)]
                yield f"flite/{voice}-{i}", sound[: 12 * SAMPLE_RATE], named
