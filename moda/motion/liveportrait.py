"""The liveportrait space: 21 keypoints that LivePortrait's networks have learned (arXiv 2407.03168).

An offset's unit is the renderer's own. Its rotation multiplies from the right and turns the other way than the
explicit space's, so it has its own functions. What its keypoints do was found by the field, not named in training.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from moda.motion.space import Space

if TYPE_CHECKING:
    from moda.motion.motion import Motion

KEYPOINTS = 21
MOUTH = (6, 12, 14, 17, 19, 20)
LIDS = (11, 13, 15, 16)

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
    p, y, r = (np.degrees(a).astype(np.float32) for a in (pitch, yaw, roll))
    return p, y, r


class LivePortraitSpace(Space):
    name = "liveportrait"
    keypoints = KEYPOINTS
    unit = "of LivePortrait's canonical keypoints"
    groups = {"mouth": MOUTH, "lids": LIDS}

    def start(self, portrait: Motion) -> Motion:
        """Generated motion is absolute: it starts from the portrait itself."""
        return self.single(portrait.require(self, "this space"), "generation starts from")

    def generated(self, motion: Motion, portrait: Motion) -> Motion:
        """The pose as it is, of the expression only what speech and eyes need, the portrait's scale, tz 0."""
        motion.require(self, "the LivePortrait renderer")
        t = motion.t.copy()
        t[:, 2] = 0
        exp = np.where(MOVED, motion.exp + GAZE, portrait.exp[0])
        return replace(motion, exp=exp, t=t, scale=np.repeat(portrait.scale[:1], len(motion)))

    def resting(self, motion: Motion) -> Motion:
        """The first frame, as in the published code."""
        return motion[0]

    def driven(self, motion: Motion, portrait: Motion, rest: Motion) -> Motion:
        """Offsets and translation add up, scales multiply, turns follow one another; tz 0."""
        motion.require(self, "the LivePortrait renderer")
        turn = rotation(motion.pitch, motion.yaw, motion.roll) @ np.swapaxes(
            rotation(rest.pitch, rest.yaw, rest.roll), 1, 2
        )
        pitch, yaw, roll = angles(turn @ rotation(portrait.pitch, portrait.yaw, portrait.roll))
        t = portrait.t + motion.t - rest.t
        t[:, 2] = 0
        return replace(
            motion,
            exp=portrait.exp + motion.exp - rest.exp,
            scale=portrait.scale * motion.scale / rest.scale,
            t=t,
            pitch=pitch,
            yaw=yaw,
            roll=roll,
        )

    def lips_rest(self, portrait: Motion) -> np.ndarray:
        """Closed lips are not known here: the lips move about the portrait's own."""
        return portrait.exp[:, list(MOUTH)]


SPACE = LivePortraitSpace()
