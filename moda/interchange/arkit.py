"""The 52 face curves of ARKit, derived from the explicit space's 21 points, and back.

Each curve is a shape: what the points do when it is at 1. Shapes add up, so curves to motion is one product, and
motion to curves is non-negative least squares. They are derived, not Apple's: reaches are what filmed people show
(99th percentile of 113 clips), and what the 21 points cannot see stays 0: cheeks, tongue, the jaw's forward thrust
beside opening, dimples, presses and shrugs. docs/interchange.md says of each where it comes from.

Left and Right are the person's. Source of the names: Apple's documentation of ARFaceAnchor.BlendShapeLocation.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from moda.motion import Motion
from moda.motion.explicit import INDEX, LID_APERTURE, MIRROR, SPACE, UPPER_SHARE

# In the order of the Live Link Face app's own files.
CURVES = (
    "eyeBlinkLeft", "eyeLookDownLeft", "eyeLookInLeft", "eyeLookOutLeft", "eyeLookUpLeft", "eyeSquintLeft",
    "eyeWideLeft", "eyeBlinkRight", "eyeLookDownRight", "eyeLookInRight", "eyeLookOutRight", "eyeLookUpRight",
    "eyeSquintRight", "eyeWideRight", "jawForward", "jawRight", "jawLeft", "jawOpen", "mouthClose", "mouthFunnel",
    "mouthPucker", "mouthRight", "mouthLeft", "mouthSmileLeft", "mouthSmileRight", "mouthFrownLeft",
    "mouthFrownRight", "mouthDimpleLeft", "mouthDimpleRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthPressLeft", "mouthPressRight",
    "mouthLowerDownLeft", "mouthLowerDownRight", "mouthUpperUpLeft", "mouthUpperUpRight", "browDownLeft",
    "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft",
    "cheekSquintRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip

_UPPER = ("lip_upper_outer", "lip_upper_inner", "lip_upper_inner_right", "lip_upper_inner_left")
_LOWER = ("lip_lower_outer", "lip_lower_inner", "lip_lower_inner_right", "lip_lower_inner_left")
_LIPS = (*_UPPER, *_LOWER, "lip_corner_right", "lip_corner_left")
_DOWN = {  # what the lips do when the jaw opens
    "lip_lower_inner": (0, 0.160, 0.068), "lip_lower_inner_left": (0, 0.155, 0.068),
    "lip_lower_inner_right": (0, 0.155, 0.068), "lip_lower_outer": (0, 0.200, 0.090),
    "lip_corner_left": (0, 0.043, 0.047), "lip_corner_right": (0, 0.043, 0.047),
}  # fmt: skip

# curve -> point -> (x, y, z) at 1, eye distances, x to the picture's right (the person's left), y down, z away.
# Of those with sides the left one is given; the right one is its mirror image.
_SHAPES: dict[str, dict[str, tuple[float, float, float]]] = {
    "jawOpen": {"jaw": (0, 0.148, 0.100), **_DOWN},
    "jawLeft": {"jaw": (0.06, 0, 0)},
    "mouthClose": {name: (-x, -y, -z) for name, (x, y, z) in _DOWN.items() if "corner" not in name},
    "mouthFunnel": {
        **{name: (0, -0.03, -0.03) for name in _UPPER}, **{name: (0, 0.03, -0.03) for name in _LOWER},
        "lip_corner_left": (-0.06, 0, -0.02), "lip_corner_right": (0.06, 0, -0.02),
    },
    "mouthPucker": {
        **{name: (0, 0, -0.03) for name in (*_UPPER, *_LOWER)},
        "lip_corner_left": (-0.08, 0, -0.03), "lip_corner_right": (0.08, 0, -0.03),
    },
    "mouthLeft": {name: (0.05, 0, 0) for name in _LIPS},
    "mouthSmileLeft": {"lip_corner_left": (0.08, -0.07, 0.05)},
    "mouthFrownLeft": {"lip_corner_left": (0, 0.07, 0)},
    "mouthStretchLeft": {"lip_corner_left": (0.08, 0, 0.02)},
    "mouthRollLower": {"lip_lower_outer": (0, -0.06, 0.02)},
    "mouthRollUpper": {"lip_upper_outer": (0, 0.05, 0.02)},
    "mouthLowerDownLeft": {
        "lip_lower_inner_left": (0, 0.08, 0), "lip_lower_inner": (0, 0.04, 0), "lip_lower_outer": (0, 0.03, 0),
    },
    "mouthUpperUpLeft": {
        "lip_upper_inner_left": (0, -0.10, 0), "lip_upper_inner": (0, -0.05, 0), "lip_upper_outer": (0, -0.045, 0),
    },
    "eyeBlinkLeft": {
        "lid_upper_left": (0, UPPER_SHARE * LID_APERTURE, 0),
        "lid_lower_left": (0, (UPPER_SHARE - 1) * LID_APERTURE, 0),
    },
    "eyeWideLeft": {"lid_upper_left": (0, -0.035, 0)},
    "eyeSquintLeft": {"lid_lower_left": (0, -0.035, 0)},
    "eyeLookOutLeft": {"iris_left": (0.095, 0, 0)},
    "eyeLookInLeft": {"iris_left": (-0.095, 0, 0)},
    "eyeLookUpLeft": {"iris_left": (0, -0.07, 0)},
    "eyeLookDownLeft": {"iris_left": (0, 0.07, 0)},
    "browDownLeft": {"brow_left": (-0.015, 0.05, 0), "brow_center": (0, 0.02, 0)},
    "browInnerUp": {"brow_center": (0, -0.06, 0), "brow_left": (0, -0.02, 0), "brow_right": (0, -0.02, 0)},
    "browOuterUpLeft": {"brow_left": (0, -0.10, 0)},
}  # fmt: skip
UNSEEN = tuple(name for name in CURVES if name.replace("Right", "Left") not in _SHAPES)

ROUNDS = 400
LIKELY = 0.006  # what a curve costs, so that of several ways the one with the fewest is taken
_REGIONS = ("eye", "brow", "jaw mouth")


@cache
def shapes() -> np.ndarray:
    """(52, 21, 3) what the points do when each curve is at 1."""
    found = np.zeros((len(CURVES), SPACE.keypoints, 3))
    for i, name in enumerate(CURVES):
        left = name.replace("Right", "Left")
        for point, offset in _SHAPES.get(left, {}).items():
            found[i, INDEX[point]] = offset
        if name != left:
            found[i] = found[i, MIRROR] * (-1, 1, 1)
    return found


def curves(motion: Motion) -> np.ndarray:
    """-> (T, 52) in 0..1, in the order of CURVES: the shapes' non-negative mixture that comes nearest to the points.

    mouthClose never exceeds jawOpen, as in ARKit. Errors: ModaError for a motion of another space.
    """
    motion.require(SPACE, "the curves' derivation")
    basis = shapes().reshape(len(CURVES), -1)
    target = motion.exp.reshape(len(motion), -1).astype(np.float64)
    weights = np.zeros((len(motion), len(CURVES)))
    for region in _REGIONS:
        own = [
            i for i, name in enumerate(CURVES) if name.startswith(tuple(region.split())) and basis[i].any()
        ]
        columns = np.flatnonzero(np.abs(basis[own]).max(axis=0))
        weights[:, own] = _mixture(basis[own][:, columns], target[:, columns], [CURVES[i] for i in own])
    return weights.astype(np.float32)


def _mixture(basis: np.ndarray, target: np.ndarray, names: list[str]) -> np.ndarray:
    """argmin over 0 <= W <= 1 of |target - W basis|^2 / 2 + LIKELY^2 sum W, all frames at once.

    By accelerated projected gradients (FISTA, Beck & Teboulle 2009), which treat left and right alike.
    """
    gram, right = basis @ basis.T, target @ basis.T - LIKELY**2
    step = 1 / np.linalg.eigvalsh(gram)[-1]
    weights = ahead = np.zeros((len(target), len(basis)))
    limit = (names.index("mouthClose"), names.index("jawOpen")) if "mouthClose" in names else None
    for i in range(ROUNDS):
        new = np.clip(ahead - step * (ahead @ gram - right), 0, 1)
        if limit:
            new[:, limit[0]] = np.minimum(new[:, limit[0]], new[:, limit[1]])
        ahead = new + i / (i + 3) * (new - weights)
        weights = new
    return weights


def motion(
    values: np.ndarray,
    head: np.ndarray | None = None,
    fps: float = 25.0,
) -> Motion:
    """(T, 52) curves, in the order of CURVES -> Motion. head: (T, 3) degrees of pitch, yaw, roll.

    Values beyond 0..1, which some recorders write, are taken as they are up to 2.
    """
    values = np.clip(np.nan_to_num(np.asarray(values, np.float64)), -1, 2)
    still = Motion.still(len(values), SPACE, fps)
    exp = np.tensordot(values, shapes(), 1).astype(np.float32)
    pose = np.zeros((len(values), 3)) if head is None else np.asarray(head)
    pitch, yaw, roll = pose.T.astype(np.float32)
    return Motion(exp, still.scale, still.t, pitch, yaw, roll, SPACE, fps)
