"""The explicit space: 21 named points of the face, measured by landmarks.

Head-fixed frame: origin midway between the eyes' centers, x to the picture's right, y down, z away from
the camera (so the nose tip has z < 0); unit: the distance between the eyes' centers (the mean of each eye's
two corners). An offset is taken from the person's neutral face: lips closed, eyes open and looking ahead.
Head pose beside it: pitch > 0 looks up, yaw > 0 turns to the picture's right, roll > 0 tilts clockwise as seen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from moda.motion.space import Gain, Space, column

if TYPE_CHECKING:
    from moda.motion.motion import Motion

# name -> index into MediaPipe's 478 landmarks. "right" is the person's right, the picture's left.
POINTS: dict[str, int] = {
    "lip_corner_right": 61,
    "lip_corner_left": 291,
    "lip_upper_outer": 0,
    "lip_lower_outer": 17,
    "lip_upper_inner": 13,
    "lip_lower_inner": 14,
    "lip_upper_inner_right": 82,
    "lip_upper_inner_left": 312,
    "lip_lower_inner_right": 87,
    "lip_lower_inner_left": 317,
    "jaw": 152,
    "nose": 1,
    "lid_upper_right": 159,
    "lid_lower_right": 145,
    "lid_upper_left": 386,
    "lid_lower_left": 374,
    "iris_right": 468,
    "iris_left": 473,
    "brow_right": 105,
    "brow_left": 334,
    "brow_center": 9,
}
NAMES = tuple(POINTS)
LANDMARK_OF = np.array(list(POINTS.values()))  # (21,)
INDEX = {name: i for i, name in enumerate(NAMES)}

LIPS = slice(0, 10)  # the ten lip points
MOUTH = slice(0, 11)  # the lips and the jaw, what speech moves
LIDS = slice(12, 16)
IRISES = slice(16, 18)
BROWS = slice(18, 21)
UPPER_LIDS = [INDEX["lid_upper_right"], INDEX["lid_upper_left"]]
LOWER_LIDS = [INDEX["lid_lower_right"], INDEX["lid_lower_left"]]
POSE = ("scale", "t", "pitch", "yaw", "roll")

# keypoints that change places when the picture is mirrored
MIRROR = np.arange(21)
for _a, _b in [(0, 1), (6, 7), (8, 9), (12, 14), (13, 15), (16, 17), (18, 19)]:
    MIRROR[[_a, _b]] = _b, _a

# the head turns about the top of the neck, head-fixed; `t` is how far this point has moved, `scale` how much
# nearer it is, both from the clip's resting place
NECK_PIVOT = np.array([0.0, 1.6, 1.2], dtype=np.float32)

# Eyes open differently wide. Lid offsets are given as for an eye of this aperture (eye distances), so that the
# lids of every face meet at an offset of LID_APERTURE: the tracker divides by the face's own aperture, renderers
# multiply with the portrait's.
LID_APERTURE = 0.14

# Eye distances (and logarithm of the size) that a portrait's head follows another's: people who sit and speak stay
# within a tenth.
FREE, REACH = 0.25, 0.5

UPPER_SHARE = 0.9  # of the way to a shut eye that the upper lid goes

# A timeline's emotions are this much of the shapes that the generator learned beside speech: held for a moment, they
# have to be seen at once.
CLEARLY = 1.7

EYE_RADIUS = 0.19  # eye distances: 12 of 63 mm

EYE_RIGHT = (33, 133)  # outer and inner corner, landmarks
EYE_LEFT = (263, 362)


def lip_gap(exp: np.ndarray) -> np.ndarray:
    """(T, 21, 3) offsets -> (T,) distance between the inner lips at the middle, in eye distances.

    The neutral face has its lips closed, so the offset's difference is the gap itself.
    """
    d = exp[:, INDEX["lip_lower_inner"]] - exp[:, INDEX["lip_upper_inner"]]
    return np.hypot(d[:, 1], d[:, 2]) * (d[:, 1] > 0)


def rotation(pitch: np.ndarray, yaw: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """(T,) degrees each -> (T, 3, 3) R = Rz(roll) Ry(yaw) Rx(pitch); a point turns as R @ p.

    With x right, y down, z away the signs are those of the module's docstring.
    """
    p, y, r = (np.radians(np.asarray(a, dtype=np.float64)) for a in (pitch, yaw, roll))
    zero, one = np.zeros_like(p), np.ones_like(p)

    def stack(*rows: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)

    # The nose is at -z: pitch > 0 must lift it (y down, so towards -y), yaw > 0 move it to +x.
    rx = stack((one, zero, zero), (zero, np.cos(p), np.sin(p)), (zero, -np.sin(p), np.cos(p)))
    ry = stack((np.cos(y), zero, -np.sin(y)), (zero, one, zero), (np.sin(y), zero, np.cos(y)))
    rz = stack((np.cos(r), -np.sin(r), zero), (np.sin(r), np.cos(r), zero), (zero, zero, one))
    return (rz @ ry @ rx).astype(np.float32)


def angles(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(T, 3, 3) -> pitch, yaw, roll (T,) degrees; the inverse of `rotation` for |yaw| < 90."""
    m = np.asarray(matrix, dtype=np.float64)
    # R = Rz Ry Rx: row 2 is (sin y, -cos y sin p, cos y cos p)
    yaw = np.arcsin(np.clip(m[:, 2, 0], -1, 1))
    pitch = np.arctan2(-m[:, 2, 1], m[:, 2, 2])
    roll = np.arctan2(m[:, 1, 0], m[:, 0, 0])
    p, y, r = (np.degrees(a).astype(np.float32) for a in (pitch, yaw, roll))
    return p, y, r


class ExplicitSpace(Space):
    name = "explicit"
    keypoints = len(POINTS)
    unit = "distance between the eyes' centers"
    groups = {
        "mouth": tuple(range(21)[MOUTH]),
        "lips": tuple(range(21)[LIPS]),
        "jaw": (INDEX["jaw"],),
        "lids": tuple(range(21)[LIDS]),
        "irises": tuple(range(21)[IRISES]),
        "brows": tuple(range(21)[BROWS]),
    }

    def identity(self, shape: np.ndarray) -> np.ndarray:
        return shape[LANDMARK_OF]

    def start(self, portrait: Motion) -> Motion:
        """The same for everyone: a head at rest (straight ahead, in its place, scale 1)."""
        zero = np.zeros(1, np.float32)
        exp, t = np.zeros((1, self.keypoints, 3), np.float32), np.zeros((1, 3), np.float32)
        return replace(portrait[:1], exp=exp, t=t, scale=zero + 1, pitch=zero, yaw=zero, roll=zero)

    def generated(self, motion: Motion, portrait: Motion) -> Motion:
        """The pose is added to the portrait's; expressions are offsets from each person's own neutral face and stay.

        Errors: ModaError for another space or more than one frame in `portrait`.
        """
        motion.require(portrait.space, "this portrait")
        self.single(portrait, "a portrait has")
        return replace(
            motion,
            scale=portrait.scale * motion.scale,
            t=portrait.t + motion.t,
            pitch=portrait.pitch + motion.pitch,
            yaw=portrait.yaw + motion.yaw,
            roll=portrait.roll + motion.roll,
        )

    def resting(self, motion: Motion) -> Motion:
        """The clip's median pose; expressions are already measured from the person's own neutral face."""
        parts = {name: np.median(getattr(motion, name), axis=0, keepdims=True) for name in POSE}
        return replace(motion[:1], exp=np.zeros((1, self.keypoints, 3), np.float32), **parts)

    def driven(self, motion: Motion, portrait: Motion, rest: Motion) -> Motion:
        """The resting pose is removed and the portrait's own put in its place; the head stays within reach of it.

        Errors: as `generated`.
        """
        motion.require(self, "this space")
        parts = {name: getattr(motion, name) - getattr(rest, name) for name in ("pitch", "yaw", "roll")}
        t = within_reach(motion.t - rest.t)
        scale = np.exp(within_reach(np.log(motion.scale / rest.scale)[:, None])[:, 0])
        return self.generated(replace(motion, scale=scale, t=t, **parts), portrait)

    def lips_rest(self, portrait: Motion) -> np.ndarray:
        """The neutral face's: closed."""
        return np.zeros((1, len(self.groups["mouth"]), 3), np.float32)

    def lids_meet(self, exp: np.ndarray) -> np.ndarray:
        over = np.maximum(exp[:, UPPER_LIDS, 1] - exp[:, LOWER_LIDS, 1] - LID_APERTURE, 0)
        exp = exp.copy()
        exp[:, UPPER_LIDS, 1] -= over / 2
        exp[:, LOWER_LIDS, 1] += over / 2
        return exp

    partial_blinks = True

    def shut(self, motion: Motion, part: np.ndarray) -> Motion:
        """closure' = closure + part (1 - closure)"""
        closure = self.lid_closure(motion)
        return self.close_lids(motion, closure + part[:, None] * np.maximum(1 - closure, 0))

    def close_lids(self, motion: Motion, closure: np.ndarray) -> Motion:
        """The upper lid does UPPER_SHARE of the way."""
        more = (closure - self.lid_closure(motion)) * LID_APERTURE
        exp = motion.exp.copy()
        exp[:, UPPER_LIDS, 1] += UPPER_SHARE * more
        exp[:, LOWER_LIDS, 1] -= (1 - UPPER_SHARE) * more
        return replace(motion, exp=exp)

    def emotion(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        from moda.motion import emotions

        frame = CLEARLY * emotions.offset(name)
        return frame[: 3 * self.keypoints].reshape(self.keypoints, 3), frame[-3:]

    def look(self, motion: Motion, right: Gain, up: Gain, own: Gain = 1.0) -> Motion:
        """The irises slide over an eyeball of EYE_RADIUS."""
        exp = motion.exp.copy()
        exp[:, IRISES] *= column(own, 3)
        exp[:, IRISES, 0] += EYE_RADIUS * np.sin(np.radians(column(right, 2)))
        exp[:, IRISES, 1] -= EYE_RADIUS * np.sin(np.radians(column(up, 2)))
        return replace(motion, exp=exp)

    def lip_gap(self, motion: Motion) -> np.ndarray:
        return lip_gap(motion.exp)

    def lid_closure(self, motion: Motion) -> np.ndarray:
        return (motion.exp[:, UPPER_LIDS, 1] - motion.exp[:, LOWER_LIDS, 1]) / LID_APERTURE


def within_reach(x: np.ndarray) -> np.ndarray:
    """(T, N) -> the same below FREE; beyond, ever slower, up to REACH: who leaves the picture tears no portrait."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    room = REACH - FREE
    short = FREE + room * np.tanh(np.maximum(length - FREE, 0) / room)
    return (x * np.where(length > FREE, short / np.maximum(length, 1e-9), 1)).astype(np.float32)


SPACE = ExplicitSpace()
