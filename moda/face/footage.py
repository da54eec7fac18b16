"""A video whose face is followed, to be drawn on again frame by frame: landmarks on disk, few numbers in memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from moda.errors import ModaError
from moda.face import expression, pose
from moda.face.portrait import MIN_EYE_DISTANCE
from moda.face.tracking import JUMP, RESIZED
from moda.motion.explicit import LANDMARK_OF, angles

SAMPLED = 500  # frames by which a person's face is measured
STEADY = 0.8  # frames, standard deviation: landmarks tremble
MARGIN = 8  # frames looked at on either side of a part, to steady it
FADE = 5  # frames over which what is drawn comes in beside frames without a face
TURNED = (45.0, 60.0)  # degrees of yaw: from here on lips are drawn less, and not at all


@dataclass(frozen=True, eq=False)
class Person:
    """neutral: (478, 3) head-fixed, lips closed. keypoints: (21, 3) of it that the explicit space names. fit: the
    reference (478, 3) that their head is measured by, with its origin (3,) and eye distance."""

    neutral: np.ndarray
    keypoints: np.ndarray
    fit: np.ndarray
    origin: np.ndarray
    unit: float


@dataclass(frozen=True, eq=False)
class Placed:
    """One frame's face, steadied. landmarks (478, 3) pixels; rotation (3, 3), scale, center (3,) as HeadPose has them;
    weight: 0..1, how much may be drawn; shot: grows by one at every cut."""

    landmarks: np.ndarray
    rotation: np.ndarray
    scale: float
    center: np.ndarray
    weight: float
    shot: int

    def place(self, shape: np.ndarray) -> np.ndarray:
        """(..., 3) head-fixed -> pixels."""
        return self.center + self.scale * (shape @ self.rotation.T)


class Footage:
    """Made by `follow`; close it, or use it in a `with` block.

    frames: at 25 a second. seen: (T,) bool. person.
    """

    def __init__(self, path: str | os.PathLike, landmarks: np.ndarray, file: str) -> None:
        self.path, self.frames = path, len(landmarks)
        self._landmarks, self._file = landmarks, file
        self.seen = np.isfinite(landmarks[:, 0, 0])
        self.person = self._measure()
        self._shots = self._cuts()
        self._near = self._fading()

    @classmethod
    def follow(
        cls, path: str | os.PathLike, face: int = 0, progress: Callable[[float], None] | None = None
    ) -> Footage:
        """face: which one of those in the first frame that shows any; 0 is the largest.

        progress: told 0..1. Errors: ModaError as `moda.media.read.read_video`; no such face, or one that is too small.
        """
        from moda.face.follow import Follower
        from moda.media.read import probe, read_video

        total = probe(path).frames
        number, name = tempfile.mkstemp(prefix="moda-landmarks-")
        follower = Follower(face)
        blank = np.full((478, 3), np.nan, dtype=np.float32)
        count = 0
        try:
            with os.fdopen(number, "wb") as file:
                for frame in read_video(path):
                    found = follower.push(frame)
                    file.write((blank if found is None else found.astype(np.float32)).tobytes())
                    count += 1
                    if progress and total:
                        progress(min(1.0, count / total))
            landmarks = np.memmap(name, np.float32, "r", shape=(count, 478, 3))
            if not any(np.isfinite(landmarks[i, 0, 0]) for i in range(count)):
                which = "no face was" if face == 0 else f"no face number {face} (they count from 0) was"
                raise ModaError(f"{which} found in the video {os.fspath(path)}")
            return cls(path, landmarks, name)
        except BaseException:
            os.unlink(name)
            raise
        finally:
            follower.close()

    def close(self) -> None:
        del self._landmarks
        os.unlink(self._file)

    def __enter__(self) -> Footage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- once ---------------------------------------------------------------------------------

    def _measure(self) -> Person:
        seen = np.flatnonzero(self.seen)
        some = seen[np.linspace(0, len(seen) - 1, min(SAMPLED, len(seen))).astype(int)]
        landmarks = np.asarray(self._landmarks[some], dtype=np.float64)
        own = np.median(pose.head_fixed(landmarks)[3], axis=0)
        _, scale, _, shape = pose.head_fixed(landmarks, own)
        unit, origin = float(pose.eye_distance(own)), pose.eye_center(own)
        if np.median(scale) * unit < MIN_EYE_DISTANCE:
            raise ModaError(
                f"the face in {os.fspath(self.path)} is too small: {np.median(scale) * unit:.0f} pixels between the "
                f"eyes, {MIN_EYE_DISTANCE:g} are needed"
            )
        shape = (shape - origin) / unit
        keypoints = expression.neutral_points(shape)
        from moda.render.mesh.basis import basis

        moved = np.tensordot((shape[:, LANDMARK_OF] - keypoints).reshape(len(shape), -1), basis(), 1)
        neutral = np.median(shape - moved, axis=0)
        return Person(neutral.astype(np.float32), keypoints, own, origin, unit)

    def _cuts(self) -> np.ndarray:
        """(T,) which shot a frame belongs to."""
        outline = [33, 263, 1, 152]
        points = np.asarray(self._landmarks[:, outline, :2], dtype=np.float64)
        size = np.linalg.norm(points[:, 0] - points[:, 1], axis=1)
        moved = np.linalg.norm(np.diff(points.mean(axis=1), axis=0), axis=1) / np.minimum(size[1:], size[:-1])
        ratio = np.exp(np.abs(np.diff(np.log(size))))
        cut = (moved > JUMP) | (ratio > RESIZED) | (self.seen[1:] != self.seen[:-1])
        return np.concatenate([[0], np.cumsum(cut)])

    def _fading(self) -> np.ndarray:
        """(T,) 0 without a face, rising to 1 away from such frames."""
        near = np.full(self.frames, float(FADE + 1))
        for order in (range(self.frames), reversed(range(self.frames))):
            since = float(FADE + 1)
            for i in order:
                since = 0.0 if not self.seen[i] else since + 1
                near[i] = min(near[i], since)
        part = np.clip(near / (FADE + 1), 0, 1)
        return part * part * (3 - 2 * part)

    # -- frame by frame -----------------------------------------------------------------------

    def placed(self, part: int = 64) -> Iterator[Placed | None]:
        """Every frame's face, or None where it is not seen."""
        for start in range(0, self.frames, part):
            stop = min(self.frames, start + part)
            yield from self._part(start, stop)

    def _part(self, start: int, stop: int) -> list[Placed | None]:
        low, high = max(0, start - MARGIN), min(self.frames, stop + MARGIN)
        out: list[Placed | None] = [None] * (stop - start)
        for shot in np.unique(self._shots[low:high]):
            index = low + np.flatnonzero(self._shots[low:high] == shot)
            if not self.seen[index[0]]:
                continue
            landmarks = np.asarray(self._landmarks[index], dtype=np.float64)
            landmarks = _steady(landmarks.reshape(len(index), -1)).reshape(landmarks.shape)
            rotation, scale, center, _ = pose.head_fixed(landmarks, self.person.fit)
            center = center + scale[:, None] * np.einsum("tij,j->ti", rotation, self.person.origin)
            scale = scale * self.person.unit
            yaw = np.abs(angles(rotation)[1])
            away = np.clip((yaw - TURNED[0]) / (TURNED[1] - TURNED[0]), 0, 1)
            for row, i in enumerate(index):
                if start <= i < stop:
                    weight = float(self._near[i] * (1 - away[row]))
                    out[i - start] = Placed(
                        landmarks[row], rotation[row], float(scale[row]), center[row], weight, int(shot)
                    )
        return out


def _steady(x: np.ndarray) -> np.ndarray:
    """(T, D) under a small Gaussian in time."""
    radius = int(np.ceil(3 * STEADY))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / STEADY) ** 2)
    kernel /= kernel.sum()
    padded = np.concatenate([np.repeat(x[:1], radius, 0), x, np.repeat(x[-1:], radius, 0)])
    return np.asarray(sum(k * padded[i : i + len(x)] for i, k in enumerate(kernel)))
