"""Hair that the picture's upper edge cuts, continued beyond it: the same hair mirrored, under an outline that closes."""

from __future__ import annotations

import cv2
import numpy as np

NARROW = 0.1  # eye distances: a run of hair along the edge that is shorter is a strand, not a head
SLOPE = 0.15  # eye distances below the edge over which the outline's slope is measured
TALLEST, LOWEST = 0.8, 0.25  # eye distances that hair goes on beyond the edge
JOINED = 0.5  # eye distances: runs nearer to each other are one head's
# Of the way from the edge to the face, and eye distances at least: what is repeated.
HALFWAY, THIN = 0.35, 0.12
SOFT = 0.06  # eye distances: its edge


def crown(person: np.ndarray, forehead: float, unit: float) -> np.ndarray | None:
    """(size, size, 4) uint8, color times alpha; the row in which the face begins; pixels an eye distance ->
    (rows, size, 4) uint8 to stand on top of it.

    None where the edge cuts no hair. The outline is a parabola's whose half width w falls from the edge's on as it rose
    below it: w(h)^2 = w0^2 - slope h.
    """
    size = person.shape[0]
    inside = cv2.morphologyEx(
        (person[:1, :, 3] > 127).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((1, round(JOINED * unit) | 1))
    )
    runs = _runs(inside[0] > 0, NARROW * unit)
    if not runs:
        return None
    down = min(size - 1, max(2, round(SLOPE * unit)))
    rows = min(size - 1, round(TALLEST * unit))
    column, height = np.arange(size, dtype=np.float32), np.arange(1, rows + 1, dtype=np.float32)[:, None]
    cover = np.zeros((rows, size), np.float32)
    for left, right in runs:
        middle, half = (left + right) / 2, (right - left) / 2
        wider = _runs(person[down, :, 3] > 127, 1)
        below = [(b - a) / 2 for a, b in wider if a < middle < b]
        slope = (below[0] ** 2 - half**2) / down if below else 0.0
        slope = float(np.clip(slope, half**2 / rows, half**2 / (LOWEST * unit)))
        width = np.sqrt(np.maximum(half**2 - slope * height, 0))
        cover = np.maximum(
            cover, np.clip((width - np.abs(column - middle)) / (SOFT * unit) + 0.5, 0, 1) * (width > 0)
        )
    # Back and forth between the edge and a part of the way to the face, so that no forehead comes up again.
    deep = max(2, round(max(HALFWAY * forehead, THIN * unit)))
    away = np.arange(rows, 0, -1) % (2 * deep)
    mirrored = person[np.minimum(np.minimum(away, 2 * deep - away), size - 1)].astype(np.float32)
    color = mirrored[..., :3] * (255 / np.maximum(mirrored[..., 3:], 1))
    # What is background in the mirror takes the color of the hair beside it.
    known = (mirrored[..., 3] > 252).astype(np.float32)
    soft = cv2.GaussianBlur(color * known[..., None], (0, 0), 0.1 * unit)
    soft /= np.maximum(cv2.GaussianBlur(known, (0, 0), 0.1 * unit), 1e-3)[..., None]
    color = np.where(known[..., None] > 0, color, soft) * cover[::-1, :, None]
    out = np.dstack([np.minimum(color, 255 * cover[::-1, :, None]), 255 * cover[::-1]])
    return (out + 0.5).astype(np.uint8)


def _runs(inside: np.ndarray, least: float) -> list[tuple[int, int]]:
    """(N,) bool -> first and past-the-last index of each stretch of at least so many."""
    steps = np.diff(np.concatenate([[0], inside.astype(np.int8), [0]]))
    ends = zip(np.flatnonzero(steps > 0), np.flatnonzero(steps < 0))
    return [(int(a), int(b)) for a, b in ends if b - a >= least]
