"""Clips to learn from: log-mel with what is known about them, cached.

Videos say lips, blendshape clips say jaw and mouth channels, aligned or synthesised speech says sounds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moda.audio.mel import PER_FRAME, LogMel
from moda.constants import FPS, SAMPLES_PER_FRAME
from moda.motion.explicit import MOUTH
from moda.training.speech import phones
from moda.training.speech.sound import read_sound

# How much later than the sound the picture is, in seconds: where the lips are most closed over aligned p, b and m.
# Found with moda.training.speech.offsets; clips without an entry are in time to a hundredth or two.
PICTURE_LATE = {"obama_1": -0.17, "obama_2": -0.08}

# The moving mouth channels of the blendshape rig; left and right are one. The first is the jaw.
SHAPES = {
    "jaw": (74,), "oh": (63,), "pucker": (68, 69), "funnel": (42, 43, 44, 45), "lower lip": (59, 60),
    "upper lip": (79, 80), "press": (66, 67), "suck": (75, 76, 77, 78), "corner": (53, 54),
}  # fmt: skip
SHAPES_FPS = 30
HELD_OUT = ("1114_2_05", "1114_3_16")
SPEEDS = (0.84, 0.92, 1.0, 1.09, 1.19)  # of the small corpora: other sizes of people

GRID_WORDS = (
    dict(b="bin", l="lay", p="place", s="set"),
    dict(b="blue", g="green", r="red", w="white"),
    dict(a="at", b="by", i="in", w="with"),
    {c: c for c in "abcdefghijklmnopqrstuvwxyz"},
    dict(zip("z123456789", "zero one two three four five six seven eight nine".split())),
    dict(a="again", n="now", p="please", s="soon"),
)


@dataclass
class Clip:
    """mel (4 T, 80) float16; the others are None where unknown.

    sounds (2 T,) int16 class numbers, -1 unknown; lips (T, 33) float32, explicit space, NaN unknown;
    shapes (T, 9) float32.
    """

    name: str
    speaker: str
    mel: np.ndarray
    sounds: np.ndarray | None = None
    lips: np.ndarray | None = None
    shapes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.mel) // PER_FRAME


def save(path: Path, clips: list[Clip]) -> None:
    arrays = {}
    for i, clip in enumerate(clips):
        for field in ("mel", "sounds", "lips", "shapes"):
            if (value := getattr(clip, field)) is not None:
                arrays[f"{i}/{field}"] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        np.savez(file, names=[c.name for c in clips], speakers=[c.speaker for c in clips], **arrays)
    os.replace(part, path)


def load(path: Path) -> list[Clip]:
    with np.load(path, allow_pickle=False) as file:
        clips = [Clip(str(n), str(s), np.zeros(0)) for n, s in zip(file["names"], file["speakers"])]
        for key in file.files:
            if "/" in key:
                i, field = key.split("/")
                setattr(clips[int(i)], field, file[key])
    return clips


def mel_of(sound: np.ndarray) -> np.ndarray:
    return LogMel().whole(sound).astype(np.float16)


def resample(
    values: np.ndarray, rate: float, frames: int, late: float = 0.0, speed: float = 1.0
) -> np.ndarray:
    """(N, C) at `rate`, each at its frame's middle, -> (frames, C) at 25 fps of sound played at `speed`."""
    at = (np.arange(frames) + 0.5) / FPS * speed + late
    known = (np.arange(len(values)) + 0.5) / rate
    out = np.stack([np.interp(at, known, column) for column in values.T], axis=1).astype(np.float32)
    out[(at < 0) | (at > len(values) / rate)] = np.nan
    return out


def sounds_of(segments: list, frames: int, read=phones.from_arpabet, speed: float = 1.0) -> np.ndarray | None:
    known = [(start / speed, end / speed, read(name)) for start, end, name in segments]
    return phones.frames(known, 2 * frames, 2 * FPS) if known else None


def grid_text(name: str) -> str:
    """The sentence that a GRID file's name spells: "grid_bbaf2n" -> "bin blue at f two now"."""
    return " ".join(words[letter] for words, letter in zip(GRID_WORDS, name.removeprefix("grid_")))


def person_of(name: str) -> str:
    return "grid_swwp2s" if name == "grid_pwij3p" else name.split("_")[0] if "grid" not in name else name


def video_clips(paths: list[Path], segments: dict[str, list], cache: Path) -> list[Clip]:
    """Lips by our own tracker; several speeds of each."""
    from moda.face import track
    from moda.motion import Motion

    clips = []
    for path in paths:
        motion_file = cache / "motion" / f"{path.stem}.npz"
        if motion_file.exists():
            motion = Motion.load(motion_file)
        else:
            motion_file.parent.mkdir(parents=True, exist_ok=True)
            motion = track(path).motion
            motion.save(motion_file)
        lips = motion.exp[:, MOUTH].reshape(len(motion), -1)
        for speed in SPEEDS:
            mel = mel_of(read_sound(path, speed))
            n = len(mel) // PER_FRAME
            aligned = resample(lips, FPS, n, PICTURE_LATE.get(path.stem, 0.0), speed)
            sounds = sounds_of(segments.get(path.stem, []), n, speed=speed)
            clips.append(Clip(f"{path.stem}@{speed}", person_of(path.stem), mel, sounds, aligned))
    return clips


def shape_clips(folder: Path) -> list[Clip]:
    """The blendshape performer; several speeds of each."""
    clips = []
    for path in sorted(folder.glob("*.npy")):
        weights = np.load(path).astype(np.float32)
        channels = np.stack([weights[:, list(columns)].mean(1) for columns in SHAPES.values()], axis=1)
        for speed in SPEEDS:
            mel = mel_of(read_sound(path.with_suffix(".flac"), speed))
            n = len(mel) // PER_FRAME
            clips.append(
                Clip(
                    f"{path.stem}@{speed}",
                    "facegood",
                    mel,
                    shapes=resample(channels, SHAPES_FPS, n, speed=speed),
                )
            )
    return clips


def speech_clips(paths: list[Path], segments: dict[str, list], speaker) -> list[Clip]:
    """Real speech with its sounds; clips whose sounds are unknown are left out."""
    clips = []
    for path in paths:
        if segments.get(path.stem):
            mel = mel_of(read_sound(path))
            sounds = sounds_of(segments[path.stem], len(mel) // PER_FRAME)
            clips.append(Clip(path.stem, speaker(path), mel, sounds))
    return clips


def seconds(clips: list[Clip]) -> float:
    return sum(map(len, clips)) * SAMPLES_PER_FRAME / 16000
