"""The square about the head: cut from a picture, and pasted back into it without a seam."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import cv2
import numpy as np

from moda.face.source import Source

log = logging.getLogger(__name__)

MAX_SIDE = 4096  # pixels of a video that players decode in hardware
FEATHER = 0.06  # of the square's side: over this width the pasted frame fades in

OUT_OF_FOCUS = 0.04  # of the side: so softly, and over so much, what is made up beyond a picture's edge fades


@dataclass(frozen=True)
class Crop:
    """matrix: (2, 3) float64, pixels of the whole picture -> pixels of the square. size: the square's side."""

    matrix: np.ndarray
    size: int

    @classmethod
    def square(cls, left: float, top: float, side: float, size: int) -> Crop:
        """The upright square with this corner and side (pixels of the picture); pixel centers lie at +0.5."""
        k = size / side
        shift = [(0.5 - left) * k - 0.5, (0.5 - top) * k - 0.5]
        return cls(np.array([[k, 0, shift[0]], [0, k, shift[1]]]), size)

    @property
    def scale(self) -> float:
        """Pixels of the square a pixel of the picture."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))

    @property
    def whole(self) -> tuple[int, int, int] | None:
        """Left, top and side of an upright square that lies on whole pixels of the picture; None for any other."""
        k = self.matrix[0, 0]
        left, top = 0.5 - (self.matrix[:, 2] + 0.5) / k
        numbers = np.array([left, top, self.size / k])
        near = np.round(numbers)
        upright = k > 0 and np.allclose(self.matrix[:, :2], [[k, 0], [0, k]], rtol=0, atol=1e-9)
        if not upright or np.abs(numbers - near).max() > 1e-4:
            return None
        return int(near[0]), int(near[1]), int(near[2])

    def points(self, xy: np.ndarray) -> np.ndarray:
        """(..., 2) pixels of the picture -> of the square."""
        return xy @ self.matrix[:, :2].T + self.matrix[:, 2]

    def cut(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 -> (size, size, 3) uint8; beyond the picture's edge its last pixels go on, out of focus (a mirrored face would have two)."""
        frame = _warp(image, self.matrix, (self.size, self.size))
        corners = self.points(np.array([[-0.5, -0.5], [image.shape[1] - 0.5, image.shape[0] - 0.5]]))
        pixels = np.arange(self.size)[:, None]
        beyond = np.maximum(0, np.maximum(corners[0] - pixels, pixels - corners[1]))  # (size, 2) across, down
        beyond = np.hypot(beyond[:, 0][None], beyond[:, 1][:, None])
        if not beyond.any():
            return frame
        reach = OUT_OF_FOCUS * self.size
        soft = cv2.GaussianBlur(frame, (0, 0), reach).astype(np.float32)
        alpha = np.clip(beyond / reach, 0, 1)[..., None]
        return (frame * (1 - alpha) + soft * alpha + 0.5).astype(np.uint8)


def for_players(source: Source, most: int = MAX_SIDE) -> Source:
    """A source whose whole picture makes a video that players decode; a larger one is made smaller, with a log line."""
    height, width = source.image.shape[:2]
    if max(height, width) <= most:
        return source
    k = most / max(height, width)
    small = source.resized(round(width * k), round(height * k))
    size = f"{small.image.shape[1]}x{small.image.shape[0]}"
    log.warning("the picture's %dx%d pixels are made %s, the most that players decode", width, height, size)
    return small


def _warp(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """warpAffine that shrinks without aliasing and enlarges smoothly; beyond the edge its last pixels go on."""
    image = _softened(image, float(np.sqrt(abs(np.linalg.det(matrix[:, :2])))))
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _softened(image: np.ndarray, k: float) -> np.ndarray:
    """Before it is made k times as large: each new pixel of a smaller picture sees 1 / k old ones, what is lost is blurred."""
    if k >= 1:
        return image
    sigma = 0.5 * np.sqrt(1 / k**2 - 1)
    return cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)


class Paster:
    """Frames of the square -> whole pictures of the source's own size.

    A renderer leaves the square's edge unmoved, so a soft mask that ends there hides where the frame begins.
    """

    def __init__(self, image: np.ndarray, crop: Crop) -> None:
        self.image = image
        height, width = image.shape[:2]
        back = cv2.invertAffineTransform(crop.matrix)
        ends = (-0.5, crop.size - 0.5)  # all four corners: a square may be turned
        corners = np.array([[x, y] for x in ends for y in ends]) @ back[:, :2].T + back[:, 2]
        x0, y0 = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, [width, height])
        x1, y1 = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, [width, height])
        self._whole = crop.whole
        if self._whole:  # an upright square ends with its last pixel
            left, top, side = self._whole
            x0, y0 = np.clip([left, top], 0, [width, height])
            x1, y1 = np.clip([left + side, top + side], 0, [width, height])
        self._box = slice(y0, y1), slice(x0, x1)
        self._size = (int(x1 - x0), int(y1 - y0))
        self._matrix = back - [[0, 0, x0], [0, 0, y0]]
        # Distance to the square's edge, in its own pixels; where the picture ends first there is nothing to fade to.
        # So where the picture's upper edge is the square's own: hair that it cuts moves there too.
        edge = np.arange(crop.size) / (FEATHER * crop.size)
        ramp = np.clip(np.minimum(edge, edge[::-1]), 0, 1).astype(np.float32)
        ramp = ramp * ramp * (3 - 2 * ramp)
        down = ramp.copy()
        if crop.matrix[1, 0] == 0 and abs(corners[:, 1].min() + 0.5) < 1:
            down[: crop.size // 2] = 1
        mask = cv2.warpAffine(
            np.outer(down, ramp),
            self._matrix,
            self._size,
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        self._mask = cv2.merge([mask] * 3)
        self._under = image[self._box] * (1 - self._mask)

    def limit(self, share: np.ndarray) -> None:
        """Only that share (H, W), 0..1, of what is pasted is seen from now on."""
        self._mask = (self._mask * share[self._box][..., None]).astype(np.float32)
        self._under = self.image[self._box] * (1 - self._mask)

    def _part(self, frame: np.ndarray) -> np.ndarray:
        """What a frame is in the picture's own pixels."""
        if self._whole is None:
            return _warp(frame, self._matrix, self._size)
        left, top, side = self._whole
        rows, columns = self._box
        frame = _softened(frame, side / len(frame))
        part = cv2.resize(frame, (side, side), interpolation=cv2.INTER_CUBIC)
        return part[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]

    def onto(self, frame: np.ndarray, picture: np.ndarray) -> None:
        """As `paste`, into another picture of the same size, in place."""
        part = self._part(frame).astype(np.float32)
        under = picture[self._box]
        picture[self._box] = (under + self._mask * (part - under) + 0.5).astype(np.uint8)

    def paste(self, frame: np.ndarray) -> np.ndarray:
        """(size, size, 3) uint8 -> (H, W, 3) uint8."""
        out = self.image.copy()
        part = self._part(frame)
        out[self._box] = cv2.add(
            cv2.multiply(self._mask, part, dtype=cv2.CV_32F), self._under, dtype=cv2.CV_8U
        )
        return out
