"""An eye in the picture: lids that close over it and an iris that moves under them.

Worked in the source's own pixels, before the head turns: columns run from corner to corner, and in each one the
lids' heights say what is upper lid, eyeball and lower lid.
"""

from __future__ import annotations

import cv2
import numpy as np

from moda.motion.explicit import LID_APERTURE
from moda.render.mesh.placing import smoothstep

COLUMNS = 96
EASE, SNAP = (
    0.5,
    0.8,
)  # parts of the way: from EASE on lids close quicker, at SNAP they meet: trackers lose a blink's tip
MEET = 0.12  # of the eye's height: closed lids meet this much above the lower lid's place
REACH = 0.42  # eye distances above a lid that follow it at most,
BROW = 0.05  # and how far below the brow's edge, as the landmarks have it, that ends
WIDEST = 0.15  # lids open by at most this part of the eye more than in the picture
SHADOW = 0.35  # darkness under a lid that has come down
LASHES = 0.4  # darkness of the line in which closed lids meet


def falloff(distance: np.ndarray) -> np.ndarray:
    """1 at 0 and below, 0 from 1 on: even enough not to stretch skin in one place."""
    t = np.clip(distance, 0, 1)
    return 1 - t * (0.6 + 0.4 * t * (3 - 2 * t))


def curve(points: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(N, 2) points with rising x -> (M,) smooth heights at `at`: cubic Hermite, flat beyond the ends."""
    x, y = points[:, 0].astype(np.float64), points[:, 1].astype(np.float64)
    x = np.maximum.accumulate(x + np.arange(len(x)) * 1e-4)
    slope = np.gradient(y, x)
    at = np.clip(at, x[0], x[-1])
    i = np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2)
    h = x[i + 1] - x[i]
    s = (at - x[i]) / h
    h00, h10, h01, h11 = 2 * s**3 - 3 * s**2 + 1, s**3 - 2 * s**2 + s, 3 * s**2 - 2 * s**3, s**3 - s**2
    return h00 * y[i] + h10 * h * slope[i] + h01 * y[i + 1] + h11 * h * slope[i + 1]


class Eye:
    """One eye of one source; sizes in pixels of the square."""

    def __init__(
        self,
        image: np.ndarray,
        landmarks: np.ndarray,
        upper: np.ndarray,
        lower: np.ndarray,
        brow: np.ndarray,
        iris: int,
        ring: np.ndarray,
        unit: float,
    ) -> None:
        """image: the square. landmarks: (478, 2) in it. unit: pixels an eye distance."""
        left, right = landmarks[upper[0]], landmarks[upper[-1]]
        self.unit = unit
        self.across = (right - left) / np.linalg.norm(right - left)
        self.down = np.array([-self.across[1], self.across[0]])
        size = image.shape[0]

        corners = np.array([left, right])
        reach = unit * np.array([0.22, 0.46])
        low = np.clip(np.floor(corners.min(0) - reach).astype(int), 0, size - 2)
        high = np.clip(np.ceil(corners.max(0) + reach).astype(int), low + 2, size)
        self.box = slice(low[1], high[1]), slice(low[0], high[0])
        self.origin = low
        px, py = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
        self.px, self.py = (px - low[0]).astype(np.float32), (py - low[1]).astype(np.float32)

        def local(points):
            return np.stack([(points - left) @ self.across, (points - left) @ self.down], axis=-1)

        uv = local(np.stack([px, py], axis=-1).astype(np.float64))
        width = float(np.linalg.norm(right - left))
        self.v = uv[..., 1].astype(np.float32)
        column = np.clip(uv[..., 0] / width, 0, 1).astype(np.float32) * (COLUMNS - 1)
        self.column = np.minimum(column.astype(np.intp), COLUMNS - 2)
        self.part = column - self.column.astype(np.float32)
        self.outside = (np.maximum(0, np.maximum(-uv[..., 0], uv[..., 0] - width)) / (0.2 * unit)).astype(
            np.float32
        )
        at = np.linspace(0, width, COLUMNS)
        self.upper, self.lower = (curve(local(landmarks[c]), at).astype(np.float32) for c in (upper, lower))
        self.lower = np.maximum(self.lower, self.upper)
        edge = local(landmarks[brow])
        edge = curve(edge[edge[:, 0].argsort()], at).astype(np.float32) + BROW * unit
        middle = at / width
        self.bump = ((4 * middle * (1 - middle)) ** 0.75).astype(np.float32)
        self.gap = float((self.lower - self.upper).max())

        # What does not change from frame to frame, pixel by pixel.
        self.v_upper, self.v_lower = self._at(self.upper), self._at(self.lower)
        self.v_brow = self._at(edge)
        self.within = (self.outside <= 0).astype(np.float32)
        self.side = 1 - smoothstep(self.outside)
        self.round = self._at(self.bump)
        self.bulge = self.round * self.within

        self.iris = local(landmarks[iris])
        self.radius = float(np.linalg.norm(landmarks[ring] - landmarks[iris], axis=1).mean())
        self.u = uv[..., 0].astype(np.float32)
        self.texture = image[self.box]
        self.ball = self._eyeball()

    def _at(self, values: np.ndarray) -> np.ndarray:
        """(COLUMNS,) -> one a pixel of the box."""
        values = values.astype(np.float32)
        low = values[self.column]
        low += np.append(np.diff(values), np.float32(0))[self.column] * self.part
        return low

    def _moved(self, texture: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        """The box's texture read at (dx, dy) pixels beside each pixel."""
        x, y = (self.px + dx).astype(np.float32), (self.py + dy).astype(np.float32)
        return cv2.remap(texture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    def _eyeball(self) -> np.ndarray:
        """The box with the eyeball continued under the lids: the iris mirrored, the white filled in."""
        v_up, v_low = self.v_upper, self.v_lower
        inside = (self.v > v_up + 0.5) & (self.v < v_low - 0.5) & (self.outside <= 0)
        near = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3)), iterations=max(3, int(0.16 * self.unit)))
        ball = cv2.inpaint(self.texture, ((near > 0) & ~inside).astype(np.uint8), 3, cv2.INPAINT_TELEA)
        du, dv = self.u - self.iris[0], self.v - self.iris[1]
        r = np.hypot(du, dv)
        # What is hidden of the iris: the same column on the other side of its middle, else this ring's mean color.
        other_v = self.iris[1] - dv
        mirrored = self._moved(self.texture, -2 * dv * self.down[0], -2 * dv * self.down[1])
        seen = ((other_v > v_up + 1) & (other_v < v_low - 1)).astype(np.float32)
        rings = np.clip(r / max(self.radius, 1) * 6, 0, 7).astype(int)
        mean = ball.astype(np.float32)
        for k in range(7):
            member = inside & (rings == k)
            if member.sum() >= 3:
                mean[rings == k] = self.texture[member].mean(axis=0)
        fill = mirrored * seen[..., None] + mean * (1 - seen[..., None])
        disc = 1 - smoothstep((r - self.radius * 0.95) / max(1.5, 0.15 * self.radius))
        alpha = (disc * ~inside)[..., None]
        ball = ball * (1 - alpha) + fill * alpha
        # its own pixels within, blending over the last ones into what is made up
        soft = cv2.GaussianBlur(ball.astype(np.float32), (0, 0), 0.8)
        keep = (cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 0.7) * inside)[..., None]
        return (self.texture * keep + soft * (1 - keep) + 0.5).astype(np.uint8)

    def draw(self, image: np.ndarray, upper: float, lower: float, gaze: np.ndarray) -> bool:
        """Into `image` (the square, changed in place): offsets of the lids' middles from the picture, as lids meet at
        LID_APERTURE, positive downwards, and of the iris (2,) in eye distances. -> whether anything was changed."""
        if max(abs(upper), abs(lower)) < 2e-4 and np.abs(gaze).max() < 2e-4:
            return False
        closing = float(np.clip((upper - lower) / LID_APERTURE, -WIDEST, 1))
        if closing > EASE:  # the last bit quicker, so that eyes shut whole
            closing = min(1.0, EASE + (closing - EASE) * (1 - EASE) / (SNAP - EASE))
        shut = float(smoothstep(np.float64((closing - 0.5) / 0.5)))
        rise = float(np.clip(lower / LID_APERTURE, -0.5, 0.5)) - MEET * shut
        v_low = self.v_lower + np.float32(rise * self.gap) * self.round
        v_up = v_low - (self.v_lower - self.v_upper) * np.float32(1 - closing)

        view = image[self.box]
        skin = self._skin(v_up, v_low, shut)
        ball, rows = self._ball(v_up, v_low, gaze)
        if ball is None:
            view[...] = skin
            return True
        v_up, v_low = v_up[rows], v_low[rows]
        v, inside = self.v[rows], self.within[rows]
        alpha = np.clip(v - v_up + 0.5, 0, 1) * np.clip(v_low - v + 0.5, 0, 1)
        alpha *= inside * np.clip((v_low - v_up) - 0.5, 0, 1)
        lowered = np.clip((v_up - self.v_upper[rows]) / (0.08 * self.unit), 0, 1)
        shade = 1 - SHADOW * lowered * np.exp(-np.maximum(0, v - v_up) / (0.035 * self.unit))
        part = skin[rows] * (1 - alpha[..., None])
        part += ball * (shade * alpha)[..., None]
        view[...] = skin
        view[rows] = part + 0.5
        return True

    def _skin(self, v_up: np.ndarray, v_low: np.ndarray, shut: float) -> np.ndarray:
        """The box's skin with lids at these heights: uint8; above the middle the upper lid's, below it the lower's."""
        middle = (v_up + v_low) / 2
        # The lid's own margin is seen against the eye; once down it lies on the lower lid, its skin to the edge.
        margin = (0.025 * self.unit * shut) * self.bulge if shut else np.float32(0)
        above = self.v < middle
        # The lid's skin is drawn from below the brow, which stays; it never folds.
        room = np.maximum(v_up - self.v_brow, 1.3 * (v_up - self.v_upper))
        room = np.clip(room, 0.04 * self.unit, REACH * self.unit)
        down = np.where(above, self.v_upper - v_up - margin, self.v_lower - v_low + margin)
        down *= falloff(
            np.where(
                above,
                (v_up - self.v) / room,
                (self.v - v_low) * np.float32(1 / (0.36 * self.unit)),
            )
        )
        down *= self.side
        skin = self._moved(self.texture, down * np.float32(self.down[0]), down * np.float32(self.down[1]))
        if shut <= 0:
            return skin
        # What was folded above the eye lies smooth; closed lids meet in a line of lashes, the upper one round over
        # the ball.
        smooth = cv2.GaussianBlur(skin, (0, 0), 0.03 * self.unit)
        near = smoothstep(1 - np.abs(v_up - self.v) / np.minimum(0.22 * self.unit, room)) * self.bulge * above
        weight = (0.75 * shut * near)[..., None].astype(np.float32)
        line = np.exp(-(((self.v - middle) / (0.018 * self.unit)) ** 2)) * np.sqrt(self.bulge)
        lid = np.exp(-((((middle - self.v) / self.unit - 0.09) / 0.05) ** 2)) * self.bulge
        lit = (1 - LASHES * shut * line + 0.08 * shut * lid)[..., None]
        return np.clip((skin * (1 - weight) + smooth * weight) * lit + 0.5, 0, 255).astype(np.uint8)

    def _ball(self, v_up: np.ndarray, v_low: np.ndarray, gaze: np.ndarray) -> tuple[np.ndarray | None, slice]:
        """The eyeball with its gaze (2,), in the rows of the box where it is seen; None where no row shows it."""
        seen = np.flatnonzero(((self.v > v_up - 1) & (self.v < v_low + 1)).any(axis=1))
        if not len(seen) or float((v_low - v_up).max()) <= 0.5:
            return None, slice(0, 0)
        rows = slice(int(seen[0]), int(seen[-1]) + 1)
        # the iris moves, the eye's ends rest
        step = np.array([gaze @ self.across, gaze @ self.down]) * self.unit
        step = np.clip(step, -0.9 * self.radius, 0.9 * self.radius)
        du, dv = self.u[rows] - float(self.iris[0] + step[0]), self.v[rows] - float(self.iris[1] + step[1])
        pull = 1 - smoothstep((np.sqrt(du * du + dv * dv) / self.radius - 1.05) / 1.5)
        move = (-(step[0] * self.across + step[1] * self.down)).astype(np.float32)
        x, y = self.px[rows] + pull * move[0], self.py[rows] + pull * move[1]
        return cv2.remap(self.ball, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE), rows
