"""Keypoints: from a network's raw numbers to points in space, and from motions to where a source's points go.

numpy throughout; the space of all Motions here is "liveportrait". Its rotation multiplies from the right and
turns the other way than moda.motion.explicit's, so it has its own functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from moda.constants import KEYPOINTS
from moda.motion import Motion

SPACE = "liveportrait"
BINS = 66  # of 3 degrees, the first centred at -97.5

# What of the expression generated motion moves; the rest stays the source's. (21, 3) bool, x y z.
MOVED = np.zeros((KEYPOINTS, 3), dtype=bool)
MOVED[[1, 2, 6, *range(11, 21)]] = True
MOVED[[3, 4], 1] = True
MOVED[5, 2] = True
MOVED[8, 2] = True
MOVED[9, 1:] = True

# Added to generated expressions, so that the eyes look at who is looking.
GAZE = np.zeros((KEYPOINTS, 3), dtype=np.float32)
GAZE[[11, 15], 1] = 0.0025
GAZE[[13, 16], 1] = 0.00075


def degrees(bins: np.ndarray) -> np.ndarray:
    """(..., 66) logits -> (...) degrees: the mean of the bins' angles."""
    e = np.exp(bins - bins.max(axis=-1, keepdims=True))
    p = e / e.sum(axis=-1, keepdims=True)
    return (p @ np.arange(BINS, dtype=np.float32) * 3 - 97.5).astype(np.float32)


def motion_of(heads: Mapping[str, np.ndarray], fps: float = 25) -> Motion:
    """The motion extractor's raw heads, (T, size) each -> Motion, tz 0."""
    t = np.array(heads["t"], dtype=np.float32)
    t[:, 2] = 0
    return Motion(
        exp=heads["exp"].reshape(-1, KEYPOINTS, 3),
        scale=heads["scale"][:, 0],
        t=t,
        pitch=degrees(heads["pitch"]),
        yaw=degrees(heads["yaw"]),
        roll=degrees(heads["roll"]),
        space=SPACE,
        fps=fps,
    )


def rotation(pitch: np.ndarray, yaw: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """(T,) degrees each -> (T, 3, 3) R = (Rz Ry Rx)^T; a row of points turns as points @ R."""
    p, y, r = (np.radians(np.asarray(a, dtype=np.float64)) for a in (pitch, yaw, roll))
    cp, sp, cy, sy, cr, sr = np.cos(p), np.sin(p), np.cos(y), np.sin(y), np.cos(r), np.sin(r)
    columns = [
        [cr * cy, sr * cy, -sy],
        [cr * sy * sp - sr * cp, sr * sy * sp + cr * cp, cy * sp],
        [cr * sy * cp + sr * sp, sr * sy * cp - cr * sp, cy * cp],
    ]
    return np.stack([np.stack(column, axis=-1) for column in columns], axis=-2).astype(np.float32)


def angles(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T, 3, 3) -> pitch, yaw, roll (T,) degrees: the inverse of `rotation` for yaw within 90 degrees."""
    m = np.asarray(matrix, dtype=np.float64)
    yaw = np.arcsin(np.clip(-m[:, 0, 2], -1, 1))
    pitch = np.arctan2(m[:, 1, 2], m[:, 2, 2])
    roll = np.arctan2(m[:, 0, 1], m[:, 0, 0])
    return tuple(np.degrees(a).astype(np.float32) for a in (pitch, yaw, roll))


def place(kp: np.ndarray, motion: Motion) -> np.ndarray:
    """Canonical keypoints (21, 3) or (T, 21, 3) moved: scale * (kp @ R + exp) + (tx, ty, 0) -> (T, 21, 3)."""
    motion.require(SPACE, "the LivePortrait renderer")
    turned = kp @ rotation(motion.pitch, motion.yaw, motion.roll)
    placed = motion.scale[:, None, None] * (turned + motion.exp)
    placed[..., :2] += motion.t[:, None, :2]
    return placed.astype(np.float32)


def absolute(source: Motion, driving: Motion) -> Motion:
    """Generated motion for a source (one frame): the pose as it is, of the expression only what speech and eyes
    need, the source's scale, tz 0."""
    driving.require(SPACE, "the LivePortrait renderer")
    t = driving.t.copy()
    t[:, 2] = 0
    exp = np.where(MOVED, driving.exp + GAZE, source.exp[0])
    return replace(driving, exp=exp, t=t, scale=np.repeat(source.scale[:1], len(driving)))


def relative(source: Motion, driving: Motion, first: Motion | None = None) -> Motion:
    """What changes in the driving motion since its first frame, added to the source (one frame); tz 0.

    first: the frame that stands for the source's own face; the driving motion's first unless given.
    """
    driving.require(SPACE, "the LivePortrait renderer")
    first = driving[0] if first is None else first
    turn = rotation(driving.pitch, driving.yaw, driving.roll) @ np.swapaxes(
        rotation(first.pitch, first.yaw, first.roll), 1, 2
    )
    pitch, yaw, roll = angles(turn @ rotation(source.pitch, source.yaw, source.roll))
    t = source.t + driving.t - first.t
    t[:, 2] = 0
    return replace(
        driving,
        exp=source.exp + driving.exp - first.exp,
        scale=source.scale * driving.scale / first.scale,
        t=t,
        pitch=pitch,
        yaw=yaw,
        roll=roll,
    )
