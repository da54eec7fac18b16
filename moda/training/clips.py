"""One clip of a dataset: what is stored of it, and what is asked of every clip, wherever its motion came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from moda.constants import FPS
from moda.errors import ModaError
from moda.media.files import whole
from moda.motion import Motion

SHORTEST = 2.0  # seconds of a clip
SILENT = 0.15  # part of a clip in which there is a voice at least
MAX_LAG = 6  # frames
IN_TIME = 0.2  # correlation of lips with the sound at least, at the best offset


@dataclass
class Item:
    """motion (T, 70), explicit space, 25 fps; identity (21, 3); wave (n,) float32 at 16 kHz; lag: by how many frames
    the picture comes after the sound. lips_only: nothing is known but the motion's lips, or, where `closed` (T,) is
    given, how far they have to meet in each frame, 0..1."""

    path: Path
    person: str
    motion: np.ndarray
    identity: np.ndarray
    wave: np.ndarray
    lag: int
    lips_only: bool = False
    closed: np.ndarray | None = None

    @classmethod
    def load(cls, path: Path) -> Item:
        """Errors: ModaError for a file that `moda data prepare` did not write."""
        try:
            return cls._read(path)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ModaError(f"{path} is no clip that `moda data prepare` wrote; remove it") from error

    @classmethod
    def _read(cls, path: Path) -> Item:
        with np.load(path, allow_pickle=False) as file:
            wave = file["wave"].astype(np.float32) / 32768
            closed = file["closed"] if "closed" in file else None
            lips_only = bool(file["lips_only"]) if "lips_only" in file else False
            return cls(
                path,
                str(file["person"]),
                file["motion"],
                file["identity"],
                wave,
                int(file["lag"]),
                lips_only,
                closed,
            )


@dataclass(frozen=True)
class Found:
    """What became of a stretch of a video, or of a sound: kept as `clip`, or refused for a reason.

    teaches: face, lips, or closures (of p, b and m) alone
    """

    video: str
    start: float
    end: float
    clip: str = ""
    person: str = ""
    lag: int = 0
    r: float = 0.0
    reason: str = ""
    teaches: str = "face"


def store(
    path: Path, motion: Motion, identity: np.ndarray | None, wave: np.ndarray, lag: int, person: str, source: Path,
    lips_only: bool = False, closed: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Write one clip, whole. identity None: the mean face's."""
    from moda.face.pose import canonical
    from moda.motion.explicit import LANDMARK_OF

    arrays = {"closed": closed} if closed is not None else {}
    with whole(path) as part, open(part, "wb") as file:
        np.savez(
            file, motion=motion.to_array(), identity=canonical()[LANDMARK_OF] if identity is None else identity,
            wave=np.int16(np.clip(wave, -1, 1) * 32767), lag=lag, person=person, source=str(source),
            lips_only=lips_only, **arrays,
        )  # fmt: skip


def encoded(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-> the embedded speech encoder's points (T, 21, 3), and how sure it is of a voice (T,)."""
    from moda.audio.speech import SpeechEncoder

    encoder = SpeechEncoder.load()
    features = np.concatenate(list(encoder.encode([wave])) or [np.zeros((0, 1, encoder.width), np.float32)])
    return encoder.points(features), encoder.voice_in(features)


def voiced(voice: np.ndarray) -> bool:
    return len(voice) >= SHORTEST * FPS * 0.9 and voice.mean() >= SILENT


def best_lag(heard: np.ndarray, seen: np.ndarray, most: int = MAX_LAG) -> tuple[int, float]:
    """By how many frames `seen` comes after `heard`, and their correlation there."""
    n = min(len(heard), len(seen))
    scores = {}
    for lag in range(-most, most + 1):
        a, b = heard[max(0, -lag) : n - max(0, lag)], seen[max(0, lag) : n - max(0, -lag)]
        scores[lag] = (
            float(np.corrcoef(a, b)[0, 1]) if len(a) > 2 and a.std() > 1e-6 and b.std() > 1e-6 else -1.0
        )
    best = max(scores, key=lambda lag: (round(scores[lag], 3), -abs(lag)))
    return best, scores[best]
