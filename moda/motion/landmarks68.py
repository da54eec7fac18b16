"""The landmarks68 space: the 68 landmarks of MoDiTalker, measured by MediaPipe's 478.

Frame, unit and pose are the explicit space's (x right, y down, z away, eye distances): an offset is taken from the
person's neutral face. Order: 0..16 jaw from the picture's left to its right, 17..26 brows, 27..35 nose, 36..47 eyes,
48..59 outer lips, 60..67 inner lips. Where the eyes look it does not know.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moda.motion import explicit
from moda.motion.explicit import ExplicitSpace
from moda.motion.space import Gain, Space, column

if TYPE_CHECKING:
    from moda.motion.motion import Motion

KEYPOINTS = 68
# (68,) of MediaPipe's 478; mirror-symmetric, the jaw evenly spaced as far as its vertices allow
LANDMARK_OF = np.array(
    [127, 234, 132, 58, 172, 136, 150, 176, 152, 400, 379, 365, 397, 288, 361, 454, 356]
    + [70, 63, 105, 66, 107, 336, 296, 334, 293, 300]
    + [168, 197, 5, 4, 98, 97, 2, 326, 327]
    + [33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380]
    + [61, 40, 37, 0, 267, 270, 291, 321, 314, 17, 84, 91]
    + [78, 82, 13, 312, 308, 317, 14, 87]
)
JAW, BROWS, NOSE, EYES, LIPS = range(17), range(17, 27), range(27, 36), range(36, 48), range(48, 68)
UPPER_LIDS = ([37, 38], [43, 44])  # of the picture's left and right eye
LOWER_LIDS = ([41, 40], [47, 46])
NOSE_BASE = 33
INNER_UPPER, INNER_LOWER = 62, 66
CENTIMETERS = 6.3  # an eye distance, of an adult
_FLIP = np.array([1.0, -1.0, -1.0], dtype=np.float32)  # to x right, y up, z to the viewer


class Landmarks68Space(ExplicitSpace):
    name = "landmarks68"
    keypoints = KEYPOINTS
    groups = {
        "mouth": (*JAW[3:14], *LIPS),
        "lips": tuple(LIPS),
        "jaw": tuple(JAW),
        "lids": tuple(i for pair in (*UPPER_LIDS, *LOWER_LIDS) for i in pair),
        "brows": tuple(BROWS),
    }

    def identity(self, shape: np.ndarray) -> np.ndarray:
        return shape[LANDMARK_OF]

    def lids_meet(self, exp: np.ndarray) -> np.ndarray:
        """As it is: how far a person's lids are apart is in their face, not in the offsets."""
        return exp

    partial_blinks = False

    def shut(self, motion: Motion, part: np.ndarray) -> Motion:
        """Of an eye of usual aperture."""
        exp = motion.exp.copy()
        for up, low in zip(UPPER_LIDS, LOWER_LIDS):
            open_ = explicit.LID_APERTURE - (exp[:, up, 1] - exp[:, low, 1])
            exp[:, up, 1] += column(part, 2) * np.maximum(open_, 0)
        return replace(motion, exp=exp)

    def emotion(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The explicit space's, carried over."""
        points, turn = explicit.SPACE.emotion(name)
        return (points.reshape(-1) @ maps()[0]).reshape(KEYPOINTS, 3), turn

    def look(self, motion: Motion, right: Gain, up: Gain, own: Gain = 1.0) -> Motion:
        """Errors: ModaError, there are no irises."""
        return Space.look(self, motion, right, up, own)

    def lip_gap(self, motion: Motion) -> np.ndarray:
        d = motion.exp[:, INNER_LOWER] - motion.exp[:, INNER_UPPER]
        return np.hypot(d[:, 1], d[:, 2]) * (d[:, 1] > 0)

    def lid_closure(self, motion: Motion) -> np.ndarray:
        """Of an eye of usual aperture."""
        pairs = zip(UPPER_LIDS, LOWER_LIDS)
        nearer = [(motion.exp[:, up, 1] - motion.exp[:, low, 1]).mean(axis=1) for up, low in pairs]
        return np.stack(nearer, axis=1) / explicit.LID_APERTURE


def centimeters(offsets: np.ndarray) -> np.ndarray:
    """(..., 68, 3) eye distances, y down, z away -> AToM's centimeters, y up, z to the viewer."""
    return offsets * (_FLIP * np.float32(CENTIMETERS))


def eye_distances(offsets: np.ndarray) -> np.ndarray:
    """The inverse of `centimeters`."""
    return offsets / (_FLIP * np.float32(CENTIMETERS))


# -- from and to the explicit space ---------------------------------------------------------------------------


@cache
def maps() -> tuple[np.ndarray, np.ndarray]:
    """(63, 204) from explicit offsets, (204, 63) to them: ridge regressions on tracked faces (recipes.fit_landmarks68)."""
    from safetensors.numpy import load_file

    tensors = load_file(Path(__file__).with_name("landmarks68.safetensors"))
    return tensors["from_explicit"].astype(np.float32), tensors["to_explicit"].astype(np.float32)


@cache
def shared() -> tuple[np.ndarray, np.ndarray]:
    """(N,) places here, (N,) in the explicit space, of the landmarks that both have: all of its lips, the chin, brows."""
    both = [i for i, landmark in enumerate(LANDMARK_OF) if landmark in explicit.LANDMARK_OF]
    return np.array(both), np.array([list(explicit.LANDMARK_OF).index(LANDMARK_OF[i]) for i in both])


def convert(motion: Motion, to: Space) -> Motion:
    """From the explicit space here, or back: points that both have as they are, the others by the maps; the pose as it
    is."""
    from_explicit, to_explicit = maps()
    ours, theirs = shared()
    matrix, into, out_of = (from_explicit, ours, theirs) if to is SPACE else (to_explicit, theirs, ours)
    exp = (motion.exp.reshape(len(motion), len(matrix)) @ matrix).reshape(len(motion), to.keypoints, 3)
    exp[:, into] = motion.exp[:, out_of]
    return replace(motion, exp=exp, space=to)


SPACE = Landmarks68Space()
