"""Landmarks as a picture of dots, which is how the networks see them."""

from __future__ import annotations

import numpy as np

# half the width of a dot's rows, -3 to 3: a filled circle of 29 pixels
HALF_WIDTHS = (0, 2, 2, 3, 2, 2, 0)
DOT = np.array([(x, y) for y, w in zip(range(-3, 4), HALF_WIDTHS) for x in range(-w, w + 1)])  # (29, 2) x, y


def draw(points: np.ndarray, width: float, size: int, dot: np.ndarray = DOT) -> np.ndarray:
    """(68, 2) pixels of a frame so wide -> (size, size) uint8: white dots on black, cut off at the border."""
    at = np.trunc(np.trunc(points) / width * size).astype(int)
    places = (at[:, None] + dot[None]).reshape(-1, 2)
    places = places[((places >= 0) & (places < size)).all(axis=1)]
    canvas = np.zeros((size, size), np.uint8)
    canvas[places[:, 1], places[:, 0]] = 255
    return canvas
