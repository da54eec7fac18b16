"""Keypoints: from a network's raw numbers to a motion, and from motions to where a source's points go."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from moda.motion import Motion
from moda.motion.liveportrait import KEYPOINTS, SPACE, rotation

BINS = 66  # of 3 degrees, the first centered at -97.5


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


def place(kp: np.ndarray, motion: Motion) -> np.ndarray:
    """Canonical keypoints (21, 3) or (T, 21, 3) moved: scale * (kp @ R + exp) + (tx, ty, 0) -> (T, 21, 3)."""
    motion.require(SPACE, "the LivePortrait renderer")
    turned = kp @ rotation(motion.pitch, motion.yaw, motion.roll)
    placed = motion.scale[:, None, None] * (turned + motion.exp)
    placed[..., :2] += motion.t[:, None, :2]
    return placed.astype(np.float32)
