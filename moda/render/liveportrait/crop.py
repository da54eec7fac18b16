"""The square about a face that the networks see: upright, eyes above lips, 2.3 times as large as the face."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from moda.render.paste import Crop

SIZE = 512  # pixels, the side of the square drawn
INPUT = 256  # pixels, the side of what F and M see
SCALE = 2.3
SHIFT = -0.125  # of the square's side, along the face: the square lies higher than the face's middle

_EYE_RIGHT, _EYE_LEFT = (33, 133, 159, 145), (263, 362, 386, 374)
_LIPS = (61, 291, 0, 17, 13, 14)
# The face without its forehead: jaw from temple to temple, brows. The networks were trained on squares about
# points like these.
_JAW = (127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323)
_BROWS = (454, 356, 70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
_FACE = np.array(_JAW + _BROWS + _EYE_RIGHT + _EYE_LEFT + _LIPS)


def crop_matrix(
    landmarks: np.ndarray, size: int = SIZE, scale: float = SCALE, shift: float = SHIFT, upright: bool = True
) -> np.ndarray:
    """Landmarks (478, 2 or 3) in pixels of a picture -> (2, 3) float64: the picture's pixels to the square's.

    upright: turn the face so that its lips are straight below its eyes.
    """
    points = np.asarray(landmarks, dtype=np.float64)[:, :2]
    eyes = (points[list(_EYE_RIGHT)].mean(axis=0) + points[list(_EYE_LEFT)].mean(axis=0)) / 2
    down = points[list(_LIPS)].mean(axis=0) - eyes
    length = np.linalg.norm(down)
    down = down / length if upright and length > 1e-3 else np.array([0.0, 1.0])
    axes = np.stack([[down[1], -down[0]], down])  # rows: the face's right and down in the picture
    along = points[_FACE] @ axes.T
    low, high = along.min(axis=0), along.max(axis=0)
    side = (high - low).max() * scale
    center = (low + high) / 2 + np.array([0, shift * side])  # along the face's axes
    zoom = size / side
    return np.hstack([zoom * axes, (size / 2 - zoom * center)[:, None]])


def input_crop(crop: Crop) -> Crop:
    """The same square at the size that F and M see."""
    k = INPUT / crop.size
    shift = np.array([[0, 0, (k - 1) / 2]] * 2)  # pixel centers lie at +0.5
    return replace(crop, matrix=k * crop.matrix + shift, size=INPUT)


def cut(image: np.ndarray, crop: Crop) -> np.ndarray:
    """(H, W, 3) uint8 -> (size, size, 3) uint8, the square however it is turned; beyond the picture it is mirrored.

    Where it shrinks, what is between its pixels is averaged.
    """
    import cv2

    if crop.scale < 1:
        lost = 0.5 * np.sqrt(1 / crop.scale**2 - 1)  # pixels of the picture
        image = cv2.GaussianBlur(image, (0, 0), lost, borderType=cv2.BORDER_REFLECT_101)
    size = (crop.size, crop.size)
    return cv2.warpAffine(image, crop.matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
