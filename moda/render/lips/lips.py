"""A frame of footage with another mouth: its own light, pose and eyes; lips as a motion in the explicit space has them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from moda.face.footage import Person, Placed
from moda.face.source import HeadPose
from moda.motion.explicit import LANDMARK_OF, MOUTH
from moda.render.lips.warp import LOWER, OUTLINE, SKIN, UPPER, backward, warp
from moda.render.mesh.basis import dense
from moda.render.mesh.field import Placement, smoothstep
from moda.render.mesh.mouth import CLOSED, PARTED, SPLINE, polygon
from moda.render.mesh.teeth import Interior, interior
from moda.render.mesh.topology import LIP_INNER_LOWER, LIP_INNER_UPPER

SIDE = 2.6  # eye distances, the square about the mouth
MIDDLE = np.array([0.0, 1.3, -0.2])  # head-fixed, its middle
LEVEL = 25.0  # degrees of roll up to which the frame's own pixels are moved; beyond, an upright copy's
CHEEKS = np.array([116, 117, 118, 101, 36, 205, 187, 123, 345, 346, 347, 330, 266, 425, 411, 352])
DARKER, BRIGHTER = 0.6, 1.5  # than in the frame that the mouth's inside is from, at most


@dataclass(frozen=True, eq=False)
class Square:
    """Where the square lies: `turn` (2, 2) and `shift` (2,) lead from the frame's pixels to its own."""

    turn: np.ndarray
    shift: np.ndarray
    size: int

    @classmethod
    def about(cls, placed: Placed) -> Square:
        middle = placed.place(MIDDLE)[:2]
        size = 8 * max(6, round(SIDE * placed.scale / 8))
        across = placed.rotation[:2, 0]
        roll = np.degrees(np.arctan2(across[1], across[0]))
        if abs(roll) < LEVEL:
            return cls(np.eye(2), (size - 1) / 2 - np.round(middle) + 0.5, size)
        cos, sin = across / np.linalg.norm(across)
        turn = np.array([[cos, sin], [-sin, cos]])
        return cls(turn, (size - 1) / 2 - turn @ middle, size)

    def points(self, xy: np.ndarray) -> np.ndarray:
        return xy @ self.turn.T + self.shift

    def pose(self, placed: Placed) -> Placement:
        turn = np.eye(3)
        turn[:2, :2] = self.turn
        center = np.array([*self.points(placed.center[:2]), placed.center[2]])
        return Placement.of(HeadPose((turn @ placed.rotation).astype(np.float32), placed.scale, center))

    @property
    def matrix(self) -> np.ndarray:
        return np.column_stack([self.turn, self.shift])

    def cut(self, frame: np.ndarray) -> np.ndarray:
        size = (self.size, self.size)
        return np.asarray(
            cv2.warpAffine(frame, self.matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        )

    def paste(self, frame: np.ndarray, square: np.ndarray, cover: np.ndarray) -> np.ndarray:
        """cover (S, S) 0..1: how much of the square is to be seen."""
        out = frame.copy()
        height, width = frame.shape[:2]
        if np.array_equal(self.turn, np.eye(2)):
            x, y = (-self.shift).astype(int)
            rows, columns = (
                slice(max(0, y), min(height, y + self.size)),
                slice(max(0, x), min(width, x + self.size)),
            )
            inner = (
                slice(rows.start - y, rows.stop - y),
                slice(columns.start - x, columns.stop - x),
            )
            square, cover = square[inner], cover[inner]
        else:
            flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
            square = np.asarray(cv2.warpAffine(square, self.matrix, (width, height), flags=flags))
            cover = cv2.warpAffine(
                cover, self.matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            )
            rows, columns = slice(0, height), slice(0, width)
        part = out[rows, columns]
        weight = cover[..., None]
        out[rows, columns] = np.where(
            weight > 0, part + (square.astype(np.float32) - part) * weight + 0.5, part
        )
        return out


class Lips:
    """Draws one person's lips on the frames of their footage."""

    def __init__(self, person: Person, frame: np.ndarray, placed: Placed) -> None:
        """frame, placed: one of the footage, whose teeth, if it shows any, are the mouth's inside for all frames."""
        self.person = person
        square = Square.about(placed)
        landmarks = square.points(placed.landmarks[:, :2])
        shape, exp = self._shape(placed)
        self._inside: Interior = interior(square.cut(frame), landmarks, shape, exp, square.pose(placed))
        self._light = _cheeks(frame, placed)

    def _shape(self, placed: Placed) -> tuple[np.ndarray, np.ndarray]:
        """-> the head-fixed shape (478, 3) as it is in the frame, and its offsets (21, 3) from the neutral one."""
        shape = (placed.landmarks - placed.center) @ placed.rotation / placed.scale
        return shape, shape[LANDMARK_OF] - self.person.keypoints

    def draw(self, frame: np.ndarray, placed: Placed, exp: np.ndarray) -> np.ndarray:
        """exp: (21, 3) offsets from the neutral face, of which those of the mouth are drawn. -> a frame of the same
        size, which outside the square is the same."""
        if placed.weight <= 0:
            return frame
        square = Square.about(placed)
        now = self._shape(placed)[1]
        wanted = np.zeros_like(exp)
        wanted[MOUTH] = now[MOUTH] + placed.weight * (exp[MOUTH] - now[MOUTH])
        source = square.points(placed.landmarks[:, :2])
        target = source.copy()
        lips = np.union1d(UPPER, LOWER)
        lips = lips[~np.isin(lips, SKIN)]
        moved = dense(wanted)
        there = square.points(placed.place(self.person.neutral + moved)[:, :2])
        target[lips] += placed.weight * (there[lips] - source[lips])
        now[: MOUTH.start], now[MOUTH.stop :] = 0, 0
        change = (moved - dense(now))[SKIN] @ placed.rotation.T * placed.scale
        target[SKIN] += change[:, :2] @ square.turn.T
        image = square.cut(frame)
        upper = warp(image, backward(source[UPPER], target[UPPER], square.size))
        lower = warp(image, backward(source[LOWER], target[LOWER], square.size))
        gain = np.clip(_cheeks(frame, placed) / self._light, DARKER, BRIGHTER)
        drawn = self._mouth(upper, lower, target, wanted, square.pose(placed), gain)
        return square.paste(frame, drawn, self._cover(square.size))

    @staticmethod
    def _cover(size: int) -> np.ndarray:
        edge = (np.arange(size) + 0.5) / size
        edge = np.clip(np.minimum(edge, 1 - edge) / 0.08, 0, 1)
        edge = edge * edge * (3 - 2 * edge)
        return np.outer(edge, edge).astype(np.float32)

    def _mouth(
        self,
        upper: np.ndarray,
        lower: np.ndarray,
        points: np.ndarray,
        exp: np.ndarray,
        placement: Placement,
        gain: np.ndarray,
    ) -> np.ndarray:
        """Above the line between the lips the upper field's picture, below it the lower one's; in the gap the inside."""
        unit, size = placement.scale, len(upper)
        up, low = SPLINE @ points[LIP_INNER_UPPER], SPLINE @ points[LIP_INNER_LOWER]
        crossed = np.maximum(0, up[:, 1] - low[:, 1])[:, None] * [0, 0.5]
        up, low = up - crossed, low + crossed
        around = points[OUTLINE]
        x0, y0 = np.clip(np.floor(around.min(0) - 0.35 * unit).astype(int), 0, size - 2)
        x1, y1 = np.clip(np.ceil(around.max(0) + 0.35 * unit).astype(int), [x0 + 2, y0 + 2], size)
        # Away from the lips both pictures are nearly the same, and meet in the box's middle.
        out = upper.astype(np.float32)
        out[y1:] = lower[y1:]
        rows = np.arange(y0, y1)
        split = np.clip((rows - (up[:, 1].mean() + low[:, 1].mean()) / 2) / (0.1 * unit) + 0.5, 0, 1)
        for columns in (slice(0, x0), slice(x1, size)):
            part = split[:, None, None]
            out[y0:y1, columns] += (lower[y0:y1, columns] - out[y0:y1, columns]) * part
        corner = np.array([x0, y0])
        up, low = up - corner, low - corner
        view = out[y0:y1, x0:x1]
        below = self._below(view.shape[:2], (up + low) / 2, unit)
        view += (lower[y0:y1, x0:x1] - view) * below
        self._open(view, up, low, corner, exp, placement, gain)
        return np.clip(out, 0, 255).astype(np.uint8)

    @staticmethod
    def _below(shape: tuple[int, ...], line: np.ndarray, unit: float) -> np.ndarray:
        """(h, w, 1) 1 below the line between the lips; it runs on level beyond their corners, softly."""
        height, width = shape[:2]
        x = np.arange(width, dtype=np.float32)
        y = np.arange(height, dtype=np.float32)[:, None]
        at = np.interp(x, line[:, 0], line[:, 1])
        beyond = np.maximum(line[0, 0] - x, x - line[-1, 0])
        soft = 0.7 + 0.1 * unit * smoothstep(beyond / (0.12 * unit))
        return np.clip((y - at) / soft + 0.5, 0, 1)[..., None].astype(np.float32)

    def _open(
        self,
        view: np.ndarray,
        up: np.ndarray,
        low: np.ndarray,
        corner: np.ndarray,
        exp: np.ndarray,
        placement: Placement,
        gain: np.ndarray,
    ) -> None:
        unit = placement.scale
        height, width = view.shape[:2]
        cover = polygon((height, width), np.concatenate([up, low[::-1]]))
        opening = np.asarray(cv2.GaussianBlur(cover, (0, 0), max(0.5, self._inside.soft * 0.6)), np.float32)
        gap = np.interp(np.arange(width), up[:, 0], low[:, 1] - up[:, 1]) / unit
        opening *= smoothstep((gap - CLOSED) / (PARTED - CLOSED)).astype(np.float32)
        if opening.max() > 0.02:
            inner = self._inside.draw((height, width), corner, up, low, exp, placement)
            view += (inner * gain.astype(np.float32) - view) * opening[..., None]


def _cheeks(frame: np.ndarray, placed: Placed) -> np.ndarray:
    """(3,) mean color of the cheeks."""
    at = np.round(placed.landmarks[CHEEKS, :2]).astype(int)
    at = np.clip(at, 0, [frame.shape[1] - 1, frame.shape[0] - 1])
    return frame[at[:, 1], at[:, 0]].astype(np.float64).mean(axis=0) + 1


def showing(placed: Placed, person: Person) -> float:
    """How good a frame is to take the mouth's inside from: lips well apart, seen from the front."""
    shape = (placed.landmarks - placed.center) @ placed.rotation / placed.scale
    gap = float(np.linalg.norm(shape[14] - shape[13]))
    return min(gap, 0.18) * float(placed.rotation[2, 2]) ** 2
