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


# Of soft dots, what is red, green and blue: all but the lips, the upper lip, the lower lip.
LAYERS = (range(48), (*range(48, 55), *range(60, 65)), (*range(54, 60), 48, *range(64, 68), 60))
SPREAD = 0.7  # pixels, standard deviation of a soft dot


def soft(points: np.ndarray, size: int) -> np.ndarray:
    """(68, 2) pixels of a small square -> (size, size, 3) uint8: soft dots that say where between two pixels they are,
    so that nearly closed lips can be told from closed ones."""
    line = np.arange(size)
    x = np.exp(-0.5 * ((line - points[:, :1]) / SPREAD) ** 2)
    y = np.exp(-0.5 * ((line - points[:, 1:]) / SPREAD) ** 2)
    layers = [np.einsum("ny,nx->yx", y[list(part)], x[list(part)]) for part in LAYERS]
    return (np.clip(np.stack(layers, axis=-1), 0, 1) * 255 + 0.5).astype(np.uint8)


def picture(points: np.ndarray, region: str, size: int) -> np.ndarray:
    """(68, 2) pixels of the region's square -> (size, size, 3) uint8, as the region's networks see landmarks."""
    if region == "mouth":
        return soft(points, size)
    return np.repeat(draw(points, size, size)[..., None], 3, axis=-1)
