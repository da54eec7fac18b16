"""The mouth: lips that part, and what lies between them.

Above the line between the lips the picture follows the upper field, below it the lower one. In the opening: teeth
of the upper jaw, which stay with the skull, teeth of the lower jaw and a tongue, which go with it, and the dark.
"""

from __future__ import annotations

import cv2
import numpy as np

from moda.motion.explicit import LIPS
from moda.render.mesh.field import Field, Placement, smoothstep
from moda.render.mesh.teeth import interior
from moda.render.mesh.topology import LIP_INNER_LOWER, LIP_INNER_UPPER, LIP_OUTER_LOWER, LIP_OUTER_UPPER

FINE = 6  # points drawn for each of a contour's segments
CLOSED = 0.012  # eye distances: lips no further apart than this touch
PARTED = 0.04  # from here on the gap is a gap; between, it fades in
AS_PICTURED = 0.03  # so near (sum of the lips' offsets) to its own open mouth, the picture shows itself


def _spline(n: int, fine: int) -> np.ndarray:
    """(M, n): n points -> M on a smooth curve through them (Catmull-Rom)."""
    rows = []
    for i in range(n - 1):
        for s in np.arange(fine) / fine:
            row = np.zeros(n)
            weights = (-0.5 * s + s**2 - 0.5 * s**3, 1 - 2.5 * s**2 + 1.5 * s**3,
                       0.5 * s + 2 * s**2 - 1.5 * s**3, -0.5 * s**2 + 0.5 * s**3)
            for k, w in zip(range(i - 1, i + 3), weights):
                row[min(max(k, 0), n - 1)] += w
            rows.append(row)
    rows.append(np.eye(n)[-1])
    return np.array(rows)


SPLINE = _spline(len(LIP_INNER_UPPER), FINE)


def polygon(shape: tuple[int, int], points: np.ndarray) -> np.ndarray:
    """A polygon (N, 2) in pixels -> (H, W) float32 cover, 0..1, smooth at its edge."""
    mask = np.zeros((shape[0] * 2, shape[1] * 2), np.uint8)
    # twice the size, so that a thin opening keeps its true area
    cv2.fillPoly(mask, [np.round((points * 2 + 0.5) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return cv2.resize(mask, (shape[1], shape[0]), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


class Mouth:
    """The mouth of one source; points in pixels of the square."""

    def __init__(self, image: np.ndarray, points: np.ndarray, shape: np.ndarray, exp: np.ndarray,
                 placement: Placement) -> None:
        """shape: (478, 3) head-fixed, as pictured. exp: (21, 3) the picture's own expression."""
        self.size, self.exp = image.shape[0], exp
        self.inside = interior(image, points, shape, exp, placement)

    def _changed(self, exp: np.ndarray) -> float:
        """0 where the mouth is as the picture has it, and so open that the picture shows its inside; else 1."""
        if not self.inside.own:
            return 1.0
        return float(smoothstep(np.abs(exp - self.exp)[LIPS].sum() / AS_PICTURED))

    def draw(self, frame: np.ndarray, image: np.ndarray, field: Field, lower: np.ndarray, points: np.ndarray,
             exp: np.ndarray, placement: Placement) -> np.ndarray:
        """frame: the square moved by the upper field; image: before. lower: the lower field's way back.
        points: (478, 2) where the landmarks are now. -> frame with its mouth."""
        unit = placement.scale
        up, low = SPLINE @ points[LIP_INNER_UPPER], SPLINE @ points[LIP_INNER_LOWER]
        crossed = np.maximum(0, up[:, 1] - low[:, 1])[:, None] * [0, 0.5]
        up, low = up - crossed, low + crossed  # lips pressed together meet halfway
        around = np.concatenate([points[LIP_OUTER_UPPER], points[LIP_OUTER_LOWER]])
        x0, y0 = np.clip(np.floor(around.min(0) - 0.3 * unit).astype(int), 0, self.size - 4)
        x1, y1 = np.clip(np.ceil(around.max(0) + 0.3 * unit).astype(int), [x0 + 4, y0 + 4], self.size)
        box = slice(y0, y1), slice(x0, x1)
        origin = np.array([x0, y0])
        height, width = y1 - y0, x1 - x0
        up, low = up - origin, low - origin

        # below the line between the lips, which runs on beyond the corners
        line = (up + low) / 2
        ends = points[[61, 291]] - origin
        out = [ends[0] + (ends[0] - ends[1]) * [2, 0.3], ends[0], *line, ends[1], ends[1] + (ends[1] - ends[0]) * [2, 0.3]]
        below = polygon((height, width), np.array([*out, [3 * width, 3 * height], [-2 * width, 3 * height]]))
        soft = cv2.GaussianBlur(below, (0, 0), 0.06 * unit)
        column = np.arange(width, dtype=np.float32)
        past = np.maximum(line[0, 0] - column, column - line[-1, 0]) / (0.08 * unit)
        past = smoothstep(past)[None]
        below = below * (1 - past) + soft * past
        rows = np.arange(height, dtype=np.float32)
        frame_edge = np.minimum(np.minimum(column, column[::-1])[None], np.minimum(rows, rows[::-1])[:, None])
        below = (below * smoothstep(frame_edge / (0.12 * unit)))[..., None]

        jaw = field.warp(image, lower, box)
        part = frame[box] * (1 - below) + jaw * below
        opening = polygon((height, width), np.concatenate([up, low[::-1]]))
        gap = np.interp(column, up[:, 0], low[:, 1] - up[:, 1]) / unit
        opening *= smoothstep((gap - CLOSED) / (PARTED - CLOSED)).astype(np.float32)
        opening *= self._changed(exp)
        if opening.max() > 0.02:
            inner = self.inside.draw((height, width), origin, up, low, opening, exp, placement)
            part = part * (1 - opening[..., None]) + inner * opening[..., None]
        frame[box] = np.clip(part + 0.5, 0, 255)
        return frame
