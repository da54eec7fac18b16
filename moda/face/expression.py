"""Expression: head-fixed shapes -> offsets of the 21 points from the person's neutral face."""

from __future__ import annotations

import numpy as np

from moda.face.pose import canonical
from moda.motion.explicit import INDEX, LANDMARK_OF, LIDS, MOUTH, POINTS

# Where a closed mouth's upper and lower inner lips meet: this part of an opening is the lower lip's.
LOWER_LIP_SHARE = 0.8
JAW_SHARE = 0.5  # the chin goes down by this part of the lower lip's way
LAUGH_GAP, WIDE, MOST_WIDER = (
    0.06,
    0.84,
    0.3,
)  # eye distances: of laughing lips, at least; of a mouth at rest, at most
RELAXED = 0.8
PAIRS = [  # upper, lower inner lip
    ("lip_upper_inner", "lip_lower_inner"),
    ("lip_upper_inner_right", "lip_lower_inner_right"),
    ("lip_upper_inner_left", "lip_lower_inner_left"),
]


def opening(shape: np.ndarray) -> np.ndarray:
    """(..., 478, 3) head-fixed -> (..., 21, 3) the offsets that opened its mouth, were it closed at rest.

    What one picture tells of its own expression: how far the lips are apart. Everything else (a smile, a
    raised brow, the gaze) is taken as the person's own.
    """
    exp = np.zeros((*shape.shape[:-2], len(POINTS), 3), dtype=np.float32)
    for upper, lower in PAIRS:
        gap = shape[..., POINTS[lower], :] - shape[..., POINTS[upper], :]
        exp[..., INDEX[lower], :] = LOWER_LIP_SHARE * gap
        exp[..., INDEX[upper], :] = (LOWER_LIP_SHARE - 1) * gap
    exp[..., INDEX["lip_lower_outer"], :] = exp[..., INDEX["lip_lower_inner"], :]
    exp[..., INDEX["lip_upper_outer"], :] = exp[..., INDEX["lip_upper_inner"], :]
    exp[..., INDEX["jaw"], :] = JAW_SHARE * exp[..., INDEX["lip_lower_inner"], :]
    return exp


def smile(shape: np.ndarray) -> np.ndarray:
    """(478, 3) head-fixed -> (21, 3) the offsets of the corners of a mouth that laughs, 0 for any other.

    Parted lips wider than anybody's at rest are laughing; then RELAXED of what their corners differ from the mean face's
    is the laugh's. How much a closed mouth smiles, one picture does not tell.
    """
    exp = np.zeros((len(POINTS), 3), dtype=np.float32)
    corners = [POINTS["lip_corner_right"], POINTS["lip_corner_left"]]
    width = float(np.linalg.norm(shape[corners[1]] - shape[corners[0]]))
    laughing = np.clip((gap(shape) - LAUGH_GAP) / LAUGH_GAP, 0, 1) * np.clip((width - WIDE) / 0.1, 0, 1)
    if laughing == 0:
        return exp
    lips = [POINTS["lip_upper_inner"], POINTS["lip_lower_inner"]]
    face = canonical()
    middle = (1 - LOWER_LIP_SHARE) * shape[lips[1]] + LOWER_LIP_SHARE * shape[lips[0]]
    rest = face[corners] - face[lips].mean(axis=0) + middle
    half = 0.5 * max(WIDE, width - MOST_WIDER)
    rest[:, 0] = shape[corners, 0].mean() + np.array([-half, half])
    exp[[INDEX["lip_corner_right"], INDEX["lip_corner_left"]]] = RELAXED * laughing * (shape[corners] - rest)
    return exp


def gap(shape: np.ndarray) -> np.ndarray:
    """(..., 478, 3) -> (...) the inner lips' distance."""
    return np.linalg.norm(
        shape[..., POINTS["lip_lower_inner"], :] - shape[..., POINTS["lip_upper_inner"], :], axis=-1
    )


def aperture(shape: np.ndarray) -> np.ndarray:
    """(..., 478, 3) -> (..., 2) distance between the lids of the right and the left eye."""
    lids = LANDMARK_OF[LIDS]
    return np.linalg.norm(shape[..., lids[[0, 2]], :] - shape[..., lids[[1, 3]], :], axis=-1)


def neutral_points(shapes: np.ndarray) -> np.ndarray:
    """(T, 478, 3) one person's head-fixed shapes -> (21, 3) where the points are at rest.

    The mouth: its most closed tenth of frames, what is still open there being closed. Eyes, brows, gaze: the
    median of the frames with open eyes.
    """
    points = shapes[:, LANDMARK_OF]
    gaps = gap(shapes)
    closed = gaps <= np.quantile(gaps, 0.1)
    eyes = aperture(shapes).mean(axis=1)
    awake = eyes >= 0.8 * np.median(eyes)
    neutral = np.median(points[awake], axis=0)
    rest = points[closed].mean(axis=0) - opening(shapes[closed].mean(axis=0))
    neutral[MOUTH] = rest[MOUTH]
    return neutral.astype(np.float32)
