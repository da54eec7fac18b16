"""The mouth: lips that part, and what lies between them.

Above the line between the lips the picture follows the upper field, below it the lower one. In the opening: teeth
of the upper jaw, which stay with the skull, teeth of the lower jaw and a tongue, which go with it, and the dark.
"""

from __future__ import annotations

import cv2
import numpy as np

from moda.motion.explicit import INDEX, LIPS, lip_gap
from moda.render.mesh.placing import Placement, smoothstep
from moda.render.mesh.teeth import interior
from moda.render.mesh.topology import LIP_INNER_LOWER, LIP_INNER_UPPER, LIP_OUTER_LOWER, LIP_OUTER_UPPER

FINE = 6  # points drawn for each of a contour's segments
CLOSED = 0.012  # eye distances: lips no further apart than this touch
PARTED = 0.04  # from here on the gap is a gap; between, it fades in
# f and v: the lower lip rolls in under the upper teeth, which hide this much of it, where the upper lip has risen, from
# RISEN[0] on, and all the same the lips part by less than PARTS[1] (eye distances).
ROLLS_IN, RISEN, PARTS = 0.015, (0.02, 0.04), (0.06, 0.1)
AS_PICTURED = 0.2  # so near (sum of the lips' offsets) to its own open mouth, the picture shows itself


def _spline(n: int, fine: int) -> np.ndarray:
    """(M, n): n points -> M on a smooth curve through them (Catmull-Rom)."""
    rows = []
    for i in range(n - 1):
        for s in np.arange(fine) / fine:
            row = np.zeros(n)
            weights = (
                -0.5 * s + s**2 - 0.5 * s**3,
                1 - 2.5 * s**2 + 1.5 * s**3,
                0.5 * s + 2 * s**2 - 1.5 * s**3,
                -0.5 * s**2 + 0.5 * s**3,
            )
            for k, w in zip(range(i - 1, i + 3), weights):
                row[min(max(k, 0), n - 1)] += w
            rows.append(row)
    rows.append(np.eye(n)[-1])
    return np.array(rows)


SPLINE = _spline(len(LIP_INNER_UPPER), FINE)


def teeth_on_lip(exp: np.ndarray) -> float:
    """(21, 3) offsets -> 0..1, how far the lower lip lies under the upper teeth."""
    rise, gap = -exp[INDEX["lip_upper_inner"], 1], lip_gap(exp[None])[0]
    risen, parted = (smoothstep((x - low) / (high - low)) for x, (low, high) in ((rise, RISEN), (gap, PARTS)))
    return float(risen * (1 - parted))


def polygon(shape: tuple[int, int], points: np.ndarray) -> np.ndarray:
    """A polygon (N, 2) in pixels -> (H, W) float32 cover, 0..1, smooth at its edge."""
    return covered(shape, points).astype(np.float32) / 255


def covered(shape: tuple[int, int], points: np.ndarray) -> np.ndarray:
    """As `polygon`, (H, W) uint8."""
    mask = np.zeros((shape[0] * 2, shape[1] * 2), np.uint8)
    # twice the size, so that a thin opening keeps its true area
    cv2.fillPoly(mask, [np.round((points * 2 + 0.5) * 16).astype(np.int32)], (255,), cv2.LINE_AA, 4)
    return np.asarray(cv2.resize(mask, (shape[1], shape[0]), interpolation=cv2.INTER_AREA))


class Mouth:
    """The mouth of one source; points in pixels of the square."""

    def __init__(
        self, image: np.ndarray, points: np.ndarray, shape: np.ndarray, exp: np.ndarray, placement: Placement
    ) -> None:
        """shape: (478, 3) head-fixed, as pictured. exp: (21, 3) the picture's own expression."""
        self.size, self.exp = image.shape[0], exp
        self.inside = interior(image, points, shape, exp, placement)

    def _changed(self, exp: np.ndarray) -> float:
        """0 where the mouth is as the picture has it, and so open that the picture shows its inside; else 1."""
        if not self.inside.parted:
            return 1.0
        return float(smoothstep(np.abs(exp - self.exp)[LIPS].sum() / AS_PICTURED))

    def box(self, points: np.ndarray, placement: Placement) -> tuple[slice, slice]:
        """(478, 2) where the landmarks are now -> rows and columns about the lips."""
        around = np.concatenate([points[LIP_OUTER_UPPER], points[LIP_OUTER_LOWER]])
        reach = 0.3 * placement.scale
        x0, y0 = np.clip(np.floor(around.min(0) - reach).astype(int), 0, self.size - 8)
        x1, y1 = np.clip(np.ceil(around.max(0) + reach).astype(int), [x0 + 8, y0 + 8], self.size)
        return slice(int(y0), int(y1)), slice(int(x0), int(x1))

    def draw(
        self,
        frame: np.ndarray,
        jaw: np.ndarray,
        box: tuple[slice, slice],
        points: np.ndarray,
        exp: np.ndarray,
        placement: Placement,
    ) -> np.ndarray:
        """frame: the square moved by the upper field. jaw: its box moved by the lower field. points: (478, 2) where
        the landmarks are now. -> frame with its mouth."""
        unit = placement.scale
        up, low = SPLINE @ points[LIP_INNER_UPPER], SPLINE @ points[LIP_INNER_LOWER]
        crossed = np.maximum(0, up[:, 1] - low[:, 1])[:, None] * [0, 0.5]
        up, low = up - crossed, low + crossed  # lips pressed together meet halfway
        origin = np.array([box[1].start, box[0].start])
        up, low = up - origin, low - origin

        below = self._below(jaw.shape[:2], up, low, points[[61, 291]] - origin, unit)
        frame[box] = cv2.blendLinear(frame[box], jaw, 1 - below, below)
        changed = self._changed(exp)
        if changed:
            self._inside(frame[box], up, low, origin, changed, exp, placement)
        return frame

    def _below(self, shape, up, low, ends, unit: float) -> np.ndarray:
        """(h, w): 1 below the line between the lips, which runs on beyond the corners `ends`, there softly."""
        height, width = shape
        line = (up + low) / 2
        on = (ends[1] - ends[0]) * [2, 0.3]
        path = np.array(
            [
                ends[0] - on,
                ends[0],
                *line,
                ends[1],
                ends[1] + on,
                [3 * width, 3 * height],
                [-2 * width, 3 * height],
            ]
        )
        sharp = covered(shape, path)
        column, row = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
        past = np.maximum(line[0, 0] - column, column - line[-1, 0]) / np.float32(0.08 * unit)
        past = smoothstep(past)[None].astype(np.float32)
        below = sharp * np.float32(1 / 255)
        below += (cv2.GaussianBlur(sharp, (0, 0), 0.06 * unit) * np.float32(1 / 255) - below) * past
        edge = np.minimum(np.minimum(column, column[::-1])[None], np.minimum(row, row[::-1])[:, None])
        return below * smoothstep(edge / np.float32(0.12 * unit))

    def _inside(self, part, up, low, origin, changed: float, exp, placement: Placement) -> None:
        """Draw into `part` what lies between the lips."""
        unit = placement.scale
        x0, y0 = np.maximum(np.floor(up.min(0)).astype(int) - 4, 0)
        x1, y1 = np.ceil(low.max(0) + [0, ROLLS_IN * unit]).astype(int) + 5
        view = part[y0:y1, x0:x1]
        if not view.size:
            return
        corner = np.array([x0, y0])
        up, low = up - corner, low - corner
        under = np.sin(np.linspace(0, np.pi, len(low))) * ROLLS_IN * teeth_on_lip(exp)
        low = low + unit * under[:, None] * placement.rotation[:2, 1]
        cover = polygon(view.shape[:2], np.concatenate([up, low[::-1]]))
        opening = np.float32(changed) * cv2.GaussianBlur(cover, (0, 0), self.inside.soft)
        gap = np.interp(np.arange(view.shape[1]), up[:, 0], low[:, 1] - up[:, 1]) / unit
        opening = opening * smoothstep((gap - CLOSED) / (PARTED - CLOSED)).astype(np.float32)
        if opening.max() > 0.02:
            inner = self.inside.draw(view.shape[:2], origin + corner, up, low, exp, placement)
            view[...] = np.clip(view + (inner - view) * opening[..., None] + 0.5, 0, 255)
