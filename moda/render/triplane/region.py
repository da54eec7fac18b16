"""What of a video the networks see: a square that goes with the head, and in it what is hidden and repainted.

head:  the square of head and shoulders about the first face seen, which stays; hidden is everything below the nose.
       As published.
mouth: the lower face, upright and as large in every frame as in any other; hidden is a field within it that does not
       depend on where the mouth is, so that neither its edge nor the chin's tells what the real mouth does.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from moda.face import pose
from moda.face.tracking import SMOOTH_POSE
from moda.motion.landmarks68 import LANDMARK_OF, NOSE_BASE
from moda.render.paste import Crop

MOUTH_SIDE = 2.2  # eye distances
MOUTH_MIDDLE = np.array([0.0, 1.3, -0.2])  # head-fixed: below the lips' line
HEAD_SIDE, HEAD_EYE_LINE = 5.4, 0.45
# Of the mouth's square: corners (left, top, right, bottom) of what is hidden, its corners' radius, its soft edge.
HIDDEN, ROUND, SOFT = (0.14, 0.27, 0.86, 0.94), 0.2, 0.05


def squares(landmarks: np.ndarray, region: str, size: int, steadied: bool = False) -> list[Crop]:
    """(T, 478, 3) pixels of one shot -> where the square lies in each frame. steadied: the landmarks do not tremble."""
    rotation, scale, center, _ = pose.head_fixed(landmarks.astype(np.float64))
    if region == "head":
        side = HEAD_SIDE * scale[0]
        left, top = center[0, :2] - [side / 2, HEAD_EYE_LINE * side]
        return [Crop.square(float(left), float(top), float(side), size)] * len(landmarks)
    middle = center + scale[:, None] * np.einsum("tij,j->ti", rotation, MOUTH_MIDDLE)
    across = rotation[:, :2, 0] / np.linalg.norm(rotation[:, :2, 0], axis=1, keepdims=True)
    numbers = np.column_stack([middle[:, :2], np.log(scale), across])
    numbers = numbers if steadied else steady(numbers)
    return [_upright(row[:2], float(np.exp(row[2])), row[3:], size) for row in numbers]


def _upright(middle: np.ndarray, scale: float, across: np.ndarray, size: int) -> Crop:
    k = size / (MOUTH_SIDE * scale)
    cos, sin = k * across / np.linalg.norm(across)
    turn = np.array([[cos, sin], [-sin, cos]])
    return Crop(np.column_stack([turn, (size - 1) / 2 - turn @ middle]), size)


def steady(numbers: np.ndarray) -> np.ndarray:
    """(T, N) under a small Gaussian in time: landmarks tremble."""
    kernel = cv2.getGaussianKernel(2 * int(np.ceil(3 * SMOOTH_POSE)) + 1, SMOOTH_POSE)
    return np.asarray(cv2.sepFilter2D(numbers, -1, np.ones(1), kernel, borderType=cv2.BORDER_REPLICATE))


@cache
def field(size: int) -> np.ndarray:
    """(size, size) float32: 1 where the mouth's square is repainted, softly 0 towards its edge."""
    left, top, right, bottom = (size * part for part in HIDDEN)
    y, x = np.mgrid[:size, :size] + 0.5
    r = ROUND * size
    dx = np.maximum(np.maximum(left + r - x, x - (right - r)), 0)
    dy = np.maximum(np.maximum(top + r - y, y - (bottom - r)), 0)
    inside = (r - np.hypot(dx, dy)) / (SOFT * size)
    inside = np.clip(inside, 0, 1)
    return (inside * inside * (3 - 2 * inside)).astype(np.float32)


def hide(picture: np.ndarray, points: np.ndarray, region: str) -> np.ndarray:
    """(S, S, 3) uint8 of the square and the 68 points (68, 2) in it -> the same with what is repainted black."""
    out = picture.copy()
    if region == "head":
        out[max(0, int(points[NOSE_BASE, 1])) :] = 0
    else:
        out[field(len(picture)) > 0] = 0
    return out


def points68(landmarks: np.ndarray, crop: Crop) -> np.ndarray:
    """(478, 3) pixels of the picture -> (68, 2) of the square."""
    return crop.points(landmarks[LANDMARK_OF, :2].astype(np.float64))
