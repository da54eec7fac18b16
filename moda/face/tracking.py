"""A video of a face -> Motion, 25 frames a second whatever the video's own rate."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from moda.constants import FPS
from moda.errors import ModaError
from moda.face import expression, pose
from moda.motion import Motion
from moda.motion.explicit import BROWS, IRISES, LANDMARK_OF, LID_APERTURE, LIDS, MOUTH, NECK_PIVOT, angles

# Standard deviation in frames of the zero-phase smoothing: landmarks tremble by a pixel, heads do not.
SMOOTH_POSE, SMOOTH_BROWS, SMOOTH_IRISES, SMOOTH_MOUTH, SMOOTH_LIDS = 1.5, 1.5, 1.0, 0.6, 0.5


@dataclass(frozen=True)
class Track:
    """motion: (T) explicit space. lost: frames in which no face was seen, held over.
    keypoints: (21, 3) the person's neutral points, head-fixed: the identity. fps: the video's own rate."""

    motion: Motion
    lost: int
    keypoints: np.ndarray
    fps: float


def track(path: str | os.PathLike, progress: Callable[[float], None] | None = None) -> Track:
    """Follow the face in a video file.

    progress: called with the part done, 0..1.
    Raises ModaError: no such file, no video, no face in it.
    """
    times, landmarks = landmarks_of(path, progress)
    seen = ~np.isnan(landmarks).any(axis=(1, 2))
    if not seen.any():
        raise ModaError(f"no face was found in the video {os.fspath(path)}")
    motion, keypoints = motion_of(landmarks, times)
    fps = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else float(FPS)
    return Track(motion, int((~seen).sum()), keypoints, fps)


def landmarks_of(path: str | os.PathLike, progress: Callable[[float], None] | None = None):
    """-> times (N,) seconds of the video's own frames, landmarks (N, 478, 3) pixels, NaN where no face is."""
    from moda.face.landmarks import follow_face
    from moda.media.read import timed_frames

    times: list[float] = []

    def frames():
        for time, frame, part in timed_frames(path):
            times.append(time)
            yield frame
            if progress:
                progress(part)

    found = list(follow_face(frames()))
    if not found:
        raise ModaError(f"the video {os.fspath(path)} holds no frames")
    blank = np.full((478, 3), np.nan, dtype=np.float32)
    return np.array(times), np.stack([blank if f is None else f for f in found])


def motion_of(landmarks: np.ndarray, times: np.ndarray) -> tuple[Motion, np.ndarray]:
    """Landmarks (N, 478, 3) in pixels (NaN where unseen) at times (N,) -> Motion at 25 fps, neutral points (21, 3).

    Pose is absolute; scale and translation are relative to the clip's median.
    """
    seen = np.flatnonzero(~np.isnan(landmarks).any(axis=(1, 2)))
    lm = landmarks[seen].astype(np.float64)
    # First against the mean face; then against this person's own, so that no feature of theirs moves the pose.
    own = np.median(pose.head_fixed(lm)[3], axis=0)
    rotation, scale, centre, shape = pose.head_fixed(lm, own)
    unit, origin = pose.eye_distance(own), pose.eye_centre(own)
    centre = centre + scale[:, None] * np.einsum("tij,j->ti", rotation, origin)
    scale, shape = scale * unit, (shape - origin) / unit

    neutral = expression.neutral_points(shape)
    exp = shape[:, LANDMARK_OF] - neutral
    right, left = (np.linalg.norm(neutral[u] - neutral[v]) for u, v in ((12, 13), (14, 15)))  # upper, lower
    exp[:, LIDS] *= LID_APERTURE / np.array([right, right, left, left])[:, None]
    reference = np.median(scale)
    pivot = centre + scale[:, None] * np.einsum("tij,j->ti", rotation, NECK_PIVOT)
    t = (pivot - np.median(pivot, axis=0)) / reference
    t[:, 2] = 0.0  # not to be seen in a picture
    pitch, yaw, roll = angles(rotation)
    numbers = np.concatenate(
        [exp.reshape(len(exp), -1), (scale / reference)[:, None], t, np.stack([pitch, yaw, roll], axis=1)],
        axis=1,
    )
    # To 25 fps, middle of frame to middle of frame; before the first, between and after the last seen frames the
    # nearest ones hold. Times count from the file's beginning, as its sound does.
    own_step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1 / FPS
    frames = max(1, round((times[-1] + own_step) * FPS))
    grid = (np.arange(frames) + 0.5) / FPS
    even = np.stack([np.interp(grid, times[seen] + own_step / 2, column) for column in numbers.T], axis=1)
    return Motion.from_array(smooth(even)), neutral


def smooth(array: np.ndarray) -> np.ndarray:
    """(T, 70) -> the same, each group of dimensions under its own small Gaussian."""
    out = array.copy()
    exp = out[:, :63].reshape(len(out), -1, 3)
    groups = [(exp[:, MOUTH], SMOOTH_MOUTH), (exp[:, LIDS], SMOOTH_LIDS), (exp[:, IRISES], SMOOTH_IRISES)]
    groups += [(exp[:, BROWS], SMOOTH_BROWS), (out[:, 63:], SMOOTH_POSE)]
    for view, sigma in groups:
        view[...] = _gaussian(view, sigma)
    return out


def _gaussian(x: np.ndarray, sigma: float) -> np.ndarray:
    radius = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.concatenate([np.repeat(x[:1], radius, 0), x, np.repeat(x[-1:], radius, 0)])
    return sum(k * padded[i : i + len(x)] for i, k in enumerate(kernel))
