"""A video of a face -> Motion, 25 frames a second whatever the video's own rate."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from moda.constants import FPS
from moda.errors import ModaError
from moda.face import expression, pose
from moda.face.gaps import fill
from moda.motion import Motion
from moda.motion.explicit import (
    BROWS,
    IRISES,
    LANDMARK_OF,
    LID_APERTURE,
    LIDS,
    MOUTH,
    NECK_PIVOT,
    angles,
    rotation,
)

# Standard deviation in frames of the zero-phase smoothing: landmarks tremble by a pixel, heads do not.
SMOOTH_POSE, SMOOTH_BROWS, SMOOTH_IRISES, SMOOTH_MOUTH, SMOOTH_LIDS = 1.5, 1.5, 1.0, 0.6, 0.5
# A head's size changes as it leans, slowly; what changes faster is half the landmarks' trembling in depth.
SMOOTH_SCALE = 8.0
FACE_CENTER = np.array([0.0, 0.3, -0.1])  # head-fixed: what stays in its place when the size is smoothed


JUMP = 0.8  # eye distances between two frames: nobody moves so fast, so the picture was cut
RESIZED = 1.25  # likewise for the size
AWAY = 0.5  # seconds without a face after which it may be another's, or elsewhere
SHORT = 10  # frames; a shorter shot says too little of whose face it is
# Mean distance of two faces' resting shapes, in eye distances: of 34 people 6 in 7 pairs lie above (clip by clip 4 in
# 5), of one person's clips 98 in 100 below.
STRANGER = 0.036


@dataclass(frozen=True)
class Track:
    """A followed face.

    motion:    (T) explicit space, or the renderer's
    lost:      frames of the video in which no face was seen
    keypoints: (21, 3) the person's neutral points, head-fixed: the identity. Of several the one seen longest.
    fps:       the video's own rate
    frames:    how many frames the video has; 0 if not counted
    people:    how many people it is, one after the other, as far as the shape of their faces tells
    """

    motion: Motion
    lost: int
    keypoints: np.ndarray
    fps: float
    frames: int = 0
    people: int = 1

    def remarks(self) -> list[str]:
        """Lines for a person about what went wrong; [] if nothing did."""
        lines = []
        if self.lost:
            of = f" of {self.frames}" if self.frames else ""
            lines.append(
                f"in {self.lost}{of} frames no whole face was seen; there the last pose was held, then eased to rest"
            )
        if self.people > 1:
            lines.append(
                f"the face changes: it seems to be {self.people} people's, each moves from their own rest"
            )
        return lines


def track(path: str | os.PathLike, progress: Callable[[float], None] | None = None) -> Track:
    """Follow the face in a video file.

    progress: called with the part done, 0..1.
    Raises ModaError: no such file, no video, no face in it.
    """
    times, landmarks = landmarks_of(path, progress)
    seen = ~np.isnan(landmarks).any(axis=(1, 2))
    if not seen.any():
        raise ModaError(f"no face was found in the video {os.fspath(path)}")
    fps = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else float(FPS)
    motion, keypoints, people = _measured(landmarks, times)
    return Track(motion, int((~seen).sum()), keypoints, fps, len(seen), people)


def landmarks_of(path: str | os.PathLike, progress: Callable[[float], None] | None = None):
    """-> times (N,) seconds of the video's own frames, landmarks (N, 478, 3) pixels, NaN where no face is."""
    from moda.face.follow import follow_face
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

    Pose is absolute; scale and translation are relative to where the head rests, in each shot anew. While no face is
    seen, the last pose is held, then eased to rest.
    """
    return _measured(landmarks, times)[:2]


def _measured(landmarks: np.ndarray, times: np.ndarray) -> tuple[Motion, np.ndarray, int]:
    """-> Motion, neutral points, number of people."""
    seen = np.flatnonzero(~np.isnan(landmarks).any(axis=(1, 2)))
    lm = landmarks[seen].astype(np.float64)
    _, scale, center, shape = pose.head_fixed(lm)  # against the mean face
    shots = _shots(times[seen], scale, center)
    owner = _people(shape, shots)
    numbers = np.zeros((len(seen), 70))
    neutrals: list[np.ndarray] = []
    for person in range(owner.max() + 1):
        mine = owner == person
        values, neutral = _person(lm[mine], shape[mine], shots[mine])
        numbers[mine] = values
        neutrals.append(neutral)
    rest = np.zeros(70)
    rest[63] = 1.0
    rest[67:] = np.median(numbers[:, 67:], axis=0)
    # To 25 fps, middle of frame to middle of frame. Times count from the file's beginning, as its sound does.
    own_step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1 / FPS
    frames = max(1, round((times[-1] + own_step) * FPS))
    grid = (np.arange(frames) + 0.5) / FPS
    even = fill(times[seen] + own_step / 2, numbers, rest, grid)
    longest = int(np.bincount(owner).argmax())
    return Motion.from_array(smooth(even)), neutrals[longest], len(neutrals)


def _person(lm: np.ndarray, mean_shape: np.ndarray, shots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One person's landmarks (T, 478, 3), -> numbers (T, 70), neutral points (21, 3).

    Place and size are relative to where each shot has the head at rest.
    """
    # Against this person's own face, so that no feature of theirs moves the pose.
    own = np.median(mean_shape, axis=0)
    rotation, scale, center, shape = pose.head_fixed(lm, own)
    unit, origin = pose.eye_distance(own), pose.eye_center(own)
    center = center + scale[:, None] * np.einsum("tij,j->ti", rotation, origin)
    scale, shape = scale * unit, (shape - origin) / unit

    neutral = expression.neutral_points(shape)
    exp = shape[:, LANDMARK_OF] - neutral
    right, left = (np.linalg.norm(neutral[u] - neutral[v]) for u, v in ((12, 13), (14, 15)))  # upper, lower
    exp[:, LIDS] *= LID_APERTURE / np.array([right, right, left, left])[:, None]
    pivot = center + scale[:, None] * np.einsum("tij,j->ti", rotation, NECK_PIVOT)
    t = np.zeros((len(lm), 3))  # t[2] stays 0: not to be seen in a picture
    size = np.ones(len(lm))
    for shot in np.unique(shots):
        inside = shots == shot
        usual = _at_rest(pivot[inside, :2], np.median(scale[inside]))
        reference = np.median(scale[inside][usual])
        t[inside, :2] = (pivot[inside, :2] - np.median(pivot[inside, :2][usual], axis=0)) / reference
        size[inside] = scale[inside] / reference
    pitch, yaw, roll = angles(rotation)
    numbers = np.concatenate(
        [exp.reshape(len(exp), -1), size[:, None], t, np.stack([pitch, yaw, roll], axis=1)], axis=1
    )
    return numbers, neutral


def _at_rest(places: np.ndarray, unit: float) -> np.ndarray:
    """(T, 2) where a head is -> the frames (indices) that show its usual place: the densest third.

    All of them if it hardly moves; of someone who sits and then walks away those in which they sit.
    """
    middle = np.median(places, axis=0)
    if np.quantile(np.linalg.norm(places - middle, axis=1), 0.9) < 0.3 * unit:
        return np.arange(len(places))
    some = places[:: max(1, len(places) // 500)]
    apart = np.linalg.norm(places[:, None] - some[None], axis=2)
    third = max(1, len(some) // 3) - 1
    core = places[np.partition(apart, third, axis=1)[:, third].argmin()]
    return np.argsort(np.linalg.norm(places - core, axis=1))[: max(1, len(places) // 3)]


def _shots(times: np.ndarray, scale: np.ndarray, center: np.ndarray) -> np.ndarray:
    """(T,) a number for each frame that grows by one wherever the picture was cut."""
    moved = np.linalg.norm(np.diff(center[:, :2], axis=0), axis=1) / np.minimum(scale[1:], scale[:-1])
    ratio = np.exp(np.abs(np.diff(np.log(scale))))
    cut = (moved > JUMP) | (ratio > RESIZED) | (np.diff(times) > AWAY)
    return np.concatenate([[0], np.cumsum(cut)])


def _people(shape: np.ndarray, shots: np.ndarray) -> np.ndarray:
    """Head-fixed shapes (T, 478, 3) and their shots (T,) -> (T,) whose face it is, 0 the first one's, 1, ..."""
    known: list[np.ndarray] = []
    owner = np.zeros(len(shots), dtype=int)
    current = 0
    for shot in np.unique(shots):
        inside = shots == shot
        if inside.sum() >= SHORT:
            usual = np.median(shape[inside], axis=0)
            usual = ((usual - pose.eye_center(usual)) / pose.eye_distance(usual))[pose.STABLE, :2]
            apart = [float(np.sqrt(((usual - face) ** 2).sum(axis=1).mean())) for face in known]
            if not known or min(apart) > STRANGER:
                known.append(usual)
                current = len(known) - 1
            else:
                current = int(np.argmin(apart))
        owner[inside] = current
    return owner


def smooth(array: np.ndarray) -> np.ndarray:
    """(T, 70) -> the same, each group of dimensions under its own small Gaussian."""
    out = array.copy()
    size = _gaussian(out[:, 63:64], SMOOTH_SCALE)
    reach = np.einsum("tij,j->ti", rotation(*out[:, 67:].T), FACE_CENTER - NECK_PIVOT)
    out[:, 64:66] += ((out[:, 63:64] - size) * reach)[:, :2]
    out[:, 63:64] = size
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
