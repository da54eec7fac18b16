"""Speech to face curves: the embedded model's face, with the jaw and the rounding of a performer whose curves were recorded.

Filmed lips tell of a jaw what lips show (r 0.5 with a recorded one); the speech encoder's features tell it well
(docs/exchange.md). So jawOpen, mouthFunnel and mouthPucker are linear in five frames of the features, and mouthClose
says how much less the generated lips stand apart than such a jaw would have them.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from moda.errors import ModaError
from moda.interchange.arkit import CURVES, curves, shapes
from moda.motion import Motion, join
from moda.motion.explicit import INDEX, SPACE
from moda.validation import check_whole

if TYPE_CHECKING:
    from moda.audio.speech import SpeechEncoder

TOLD = ("jawOpen", "mouthFunnel", "mouthPucker")
PARTING = [
    CURVES.index(f"mouth{way}{side}") for way in ("LowerDown", "UpperUp") for side in ("Left", "Right")
]
AROUND = 2  # frames before and after that a curve is told from


def neighbors(features: np.ndarray) -> np.ndarray:
    """(T, 1, width) -> (T, (2 AROUND + 1) width), the ends repeated."""
    padded = np.pad(features[:, 0], ((AROUND, AROUND), (0, 0)), mode="edge")
    return np.concatenate([padded[i : i + len(features)] for i in range(2 * AROUND + 1)], axis=1)


@cache
def _fitted() -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    from moda.weights.folder import EMBEDDED

    return load_file(EMBEDDED / "curves.safetensors")


def told(encoder: SpeechEncoder, features: np.ndarray) -> np.ndarray:
    """(T, 1, width) features of the embedded encoder -> (T, 3) TOLD, 0..1; 0 where nobody speaks."""
    fitted = _fitted()
    values = neighbors(features) @ fitted["weight"] + fitted["bias"]
    return np.clip(values, 0, 1) * encoder.voice_in(features)[:, None]


def performed(encoder: SpeechEncoder, features: np.ndarray, motion: Motion) -> np.ndarray:
    """(T, 52) curves of a motion that was generated from these features, with TOLD in place of what its points say."""
    values = curves(motion).astype(np.float64)
    jaw, funnel, pucker, close = (CURVES.index(name) for name in (*TOLD, "mouthClose"))
    values[:, [jaw, funnel, pucker]] = told(encoder, features)
    upper, lower = INDEX["lip_upper_inner"], INDEX["lip_lower_inner"]
    opens = shapes()[:, lower, 1] - shapes()[:, upper, 1]  # how far a curve parts the lips, eye distances
    wanted = motion.exp[:, lower, 1] - motion.exp[:, upper, 1]
    values[:, close] = 0
    values[:, close] = np.clip((wanted - values @ opens) / opens[close], 0, values[:, jaw])
    # Where such a jaw parts them too little, the lips part by themselves.
    missing = np.clip(wanted - values @ opens, 0, None)[:, None] / opens[PARTING].sum()
    values[:, PARTING] = np.clip(values[:, PARTING] + missing, 0, 1)
    # What is still too open is a funnel's; lips that are pushed forward and meet are a pucker.
    less = np.clip((values @ opens - wanted) / opens[funnel], 0, values[:, funnel])
    values[:, funnel] -= less
    values[:, pucker] = np.minimum(values[:, pucker] + less, 1)
    return values.astype(np.float32)


def speak(
    sound: str | os.PathLike, seed: int = 0, progress: Callable[[float], None] | None = None
) -> tuple[Motion, np.ndarray]:
    """A sound file -> the motion of a mean face that speaks it, and its (T, 52) curves.

    Errors: ModaError for a file without sound.
    """
    from moda.audio.decode import iter_audio, sound_seconds
    from moda.audio.speech import SpeechEncoder
    from moda.constants import FPS
    from moda.face.pose import canonical
    from moda.pipeline import TalkingHead

    encoder, generator = SpeechEncoder.load(), TalkingHead.from_pretrained("embedded", "cpu").generator
    check_whole("seed", seed, 0, 2**63 - 1)
    seconds, features, done = sound_seconds(sound), [], 0
    for piece in encoder.encode(iter_audio(sound)):
        features.append(piece)
        done += len(piece)
        if progress and seconds:
            progress(min(1.0, done / FPS / seconds))
    start = Motion.still(1, SPACE)
    motion = join(list(generator.stream(features, SPACE.identity(canonical()), start, seed=seed)))
    if not len(motion):
        raise ModaError(f"{sound} is too short for a single frame")
    motion = SPACE.generated(motion, start)
    return motion, performed(encoder, np.concatenate(features), motion)
