"""What of a video the networks see: a square that goes with the head, and in it what is hidden and repainted.

head:  the square of head and shoulders about the first face seen, which stays; hidden is everything below the nose.
       As published.
mouth: the lower face, upright and as large in every frame as in any other; hidden is a field within it that does not
       depend on where the mouth is, so that neither its edge nor the chin's tells what the real mouth does.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np

from moda.face import pose
from moda.face.tracking import SMOOTH_POSE
from moda.motion.landmarks68 import LANDMARK_OF, NOSE_BASE
from moda.render.paste import Crop

if TYPE_CHECKING:
    from torch import Tensor

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


# -- as published: what its data and its alignment are, for those who have them ---------------------------------------


def published_frames(frames: Tensor, nose: float | None = None) -> Tensor:
    """(T, 3, H, W) 0..255 -> (3, T, 256, 256) in -1..1: the middle square. nose: rows from here down are black."""
    import torch
    from torch.nn import functional as F

    frames = frames.clone()
    if nose is not None:
        frames[:, :, int(nose) :] = 0
        frames = torch.trunc(frames)
    height, width = frames.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frames[..., top : top + side, left : left + side]
    made = F.interpolate(square, size=(256, 256), mode="bilinear", align_corners=False)
    return (made / 127.5 - 1).transpose(0, 1)


FIVE = ((36, 39), (42, 45), (30,), (48,), (54,))  # eyes, nose tip, corners of the mouth, of the 68


def five_points(points: np.ndarray) -> np.ndarray:
    """(..., 68, D) -> (..., 5, D)."""
    return np.stack([points[..., list(part), :].mean(axis=-2) for part in FIVE], axis=-2)


def published_alignment(
    landmarks: np.ndarray,
    angles: np.ndarray,
    translation: np.ndarray,
    detected: np.ndarray,
    model: np.ndarray,
    size: tuple[int, int],
) -> np.ndarray:
    """AToM's landmarks put on frames by coefficients of Deep3DFaceRecon, for those who have it.

    landmarks (T, 68, 3) decimeters; angles, translation (T, 3): coefficients 224..226 and 254..256; detected (T, 68, 2)
    pixels of frames of `size` (width, height); model (5, 3): the face model's five points -> (T, 68, 2) pixels.

    Orthographic, as there; not its mixing of the frames' offsets, which the shift to the detected five points undoes.
    """
    width, height = size
    out = np.empty((len(landmarks), len(landmarks[0]), 2))
    for i, (points, (a, b, c)) in enumerate(zip(landmarks.astype(np.float64), angles.astype(np.float64))):
        rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        placed = points @ (rz @ ry @ rx).T + translation[i].astype(np.float64)
        at = np.trunc(placed[:, :2] * 112 + 112)
        five = five_points(detected[i]) * [1, -1] + [0, height - 1]
        design = np.column_stack([model.astype(np.float64), np.ones(5)])
        u, v = (np.linalg.lstsq(design, column, rcond=None)[0] for column in five.T)
        scale = 102 / ((np.linalg.norm(u[:3]) + np.linalg.norm(v[:3])) / 2)
        wide, high = np.trunc(width * scale), np.trunc(height * scale)
        at = (at + [wide / 2 - 112 + u[3] - width / 2, high / 2 - 112 + v[3] - height / 2]) / scale
        at[:, 1] = height - 1 - at[:, 1]
        out[i] = at + (five_points(detected[i]) - five_points(at)).mean(axis=0)
    return out
