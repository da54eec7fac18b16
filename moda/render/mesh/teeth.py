"""Between the lips: teeth, tongue and the dark, drawn once for a portrait in its own light and placed in each frame.

Textures are flat pictures in the head's own frame just behind the lips: one of the skull (upper teeth), two of the
jaw (lower teeth, tongue). Sizes are in eye distances (about 62 mm).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from moda.motion.explicit import INDEX
from moda.render.mesh.placing import Placement, smoothstep
from moda.render.mesh.topology import EYES, LIP_INNER_LOWER, LIP_INNER_UPPER

RES = 200  # texture pixels an eye distance
HALF_WIDTH, ABOVE, BELOW = 0.6, 0.45, 0.45  # a texture's reach about the line of the closed lips
BEHIND = 0.08  # how far behind the lips the teeth stand
OWN_TEETH = 0.04  # a mouth that is open wider than this in the picture shows teeth of its own
DARK = 0.45  # of white: an inside no brighter than this shows no teeth
MOUTH_WIDTH = 0.78  # between the inner corners, for which the teeth below are drawn

# From the middle outwards: width and edge height of each tooth (lower edge of upper teeth, upper edge of lower ones).
UPPER_TEETH = [(0.132, 0.062), (0.104, 0.053), (0.108, 0.057), (0.090, 0.044), (0.075, 0.032), (0.07, 0.02)]
LOWER_TEETH = [(0.082, 0.012), (0.088, 0.013), (0.098, 0.008), (0.090, 0.020), (0.080, 0.028), (0.07, 0.032)]
JAW_OF_LIP = 0.85  # the jaw's way as part of the lower lip's
DIM, DIM_OWN = 0.45, 0.7  # light between lips that hardly part; a picture's own teeth carry shadows already
LIT = 0.11  # eye distances: lips so far apart let in all light
# Lips that part less than WIDE let in more where the upper one has risen above RISE: that bares the teeth (f, v), while
# lips that round (u) cover them.
BARES, RISE, WIDE = 4.0, 0.03, 0.13

TOOTH = np.array([1.0, 0.955, 0.87])  # of the light
GUM, TONGUE, THROAT = (
    np.array([0.66, 0.38, 0.36]),
    np.array([0.66, 0.34, 0.32]),
    np.array([0.28, 0.11, 0.10]),
)

GRAIN = 0.03  # eye distances: what varies over a shorter way is a picture's grain

# Shade between lips is lit by flesh: less of it in the red than in the blue.
FLESH = np.array([0.7, 1.1, 1.2], dtype=np.float32)


@dataclass(frozen=True)
class Layer:
    """rgba: (h, w, 4) float32, color 0..255 already times alpha 0..1."""

    rgba: np.ndarray

    @classmethod
    def of(cls, color: np.ndarray, alpha: np.ndarray) -> Layer:
        return cls(np.concatenate([color * alpha[..., None], alpha[..., None]], axis=-1).astype(np.float32))

    def before(self, other: Layer) -> Layer:
        return Layer(other.rgba * (1 - self.rgba[..., 3:]) + self.rgba)

    def grained(self, texture: np.ndarray) -> Layer:
        """With (h, w) added to its brightness."""
        color = self.rgba[..., :3] + (texture * self.rgba[..., 3])[..., None]
        return Layer(np.concatenate([np.maximum(color, 0), self.rgba[..., 3:]], axis=-1))


def light(image: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(3,) RGB of something white in the portrait's light, from its skin and the whites of its eyes."""

    def patch(indices, grow):
        hull = cv2.convexHull(np.round(points[indices]).astype(np.int32))
        mask = np.zeros(image.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, hull, 255)
        if grow < 0:
            mask = cv2.erode(mask, np.ones((3, 3)), iterations=-grow)
        found = image[mask > 0]
        return found if len(found) else image[mask >= 0].reshape(-1, 3)

    cheeks = np.concatenate(
        [
            patch([116, 117, 118, 101, 36, 205, 187, 123], 0),
            patch([345, 346, 347, 330, 266, 425, 411, 352], 0),
        ]
    ).astype(np.float64)
    whites = np.concatenate([patch(np.concatenate(eye), -1) for eye in EYES]).astype(np.float64)
    skin = np.percentile(cheeks, 65, axis=0)
    eye = np.percentile(whites, 88, axis=0)
    level = max(np.mean(eye) * 1.02, np.mean(skin) * 0.98)
    tint = skin / skin.mean()
    return np.clip(level * (0.55 + 0.45 * tint), 40, 240)


def detail(image: np.ndarray, points: np.ndarray) -> float:
    """Pixels (a Gaussian's sigma) by which a drawn edge is softened to look like the portrait's own edges."""
    low, high = points[:468].min(0).astype(int), points[:468].max(0).astype(int)
    low, high = np.maximum(low, 0), np.minimum(high, image.shape[0])
    gray = cv2.cvtColor(image[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2GRAY).astype(np.float32)
    # An edge blurred by sigma loses most of what a small Gaussian takes away.
    fine = np.abs(gray - cv2.GaussianBlur(gray, (0, 0), 1.0)).mean()
    coarse = np.abs(gray - cv2.GaussianBlur(gray, (0, 0), 4.0)).mean() + 1e-3
    return float(np.clip(2.2 - 6.0 * fine / coarse, 0.9, 1.8))


def _canvas():
    x = (np.arange(int(2 * HALF_WIDTH * RES)) + 0.5) / RES - HALF_WIDTH
    y = (np.arange(int((ABOVE + BELOW) * RES)) + 0.5) / RES - ABOVE
    return np.meshgrid(x, y)


def _row(teeth, sign: float, gum_at: float, white: np.ndarray, stretch: float, dim: float) -> Layer:
    """One jaw's teeth. sign: +1 they hang down, -1 they stand up. gum_at: how long a tooth is."""
    x, y = _canvas()
    x = np.abs(x) / stretch
    color = np.zeros((*x.shape, 3))
    alpha = np.zeros_like(x)
    start = 0.0
    soft = 0.006
    for number, (width, edge) in enumerate(teeth):
        u = (x - start - width / 2) / (width / 2)  # -1..1 across the tooth
        # a rounded edge, its corners rounder on the outer side
        corner = 0.022 * np.clip(np.abs(u), 0, 1) ** 4 + 0.010 * np.clip(u, 0, 1) ** 3
        inward = (edge - sign * corner - y) * sign  # >0 within the tooth, from its edge
        cover = smoothstep(inward / soft + 0.5) * smoothstep((1.0 - np.abs(u)) * width / 2 / soft * 0.5 + 0.5)
        cover = np.where(np.abs(u) <= 1.15, cover, 0)
        gum = smoothstep((inward - gum_at - 0.03 * (1 - np.clip(u, -1, 1) ** 2)) / 0.02)[..., None]
        rounding = 1 - 0.16 * np.clip(np.abs(u), 0, 1) ** 3
        glassy = 0.93 + 0.07 * smoothstep(inward / 0.05)
        far = dim * (1 - 0.11 * number - 0.012 * number**2)
        shade = (rounding * glassy * far)[..., None]
        tooth = white * TOOTH * shade * (1 - gum) + white * GUM * far * gum
        take = cover > alpha
        color = np.where(take[..., None], tooth, color)
        alpha = np.maximum(alpha, cover)
        start += width
    # the gaps between teeth: a thin, soft dark line, not a hole
    filled = cv2.morphologyEx(alpha.astype(np.float32), cv2.MORPH_CLOSE, np.ones((1, 9)))
    gap = (filled - alpha)[..., None]
    spread = cv2.blur(alpha.astype(np.float32), (9, 9))[..., None]
    base = cv2.blur(color.astype(np.float32), (9, 9)) / np.maximum(spread, 0.05)
    color = np.where(alpha[..., None] > 0.02, color, base)
    color = color * (1 - gap) + base * 0.62 * gap
    return Layer.of(color, filled)


def _tongue(white: np.ndarray) -> Layer:
    x, y = _canvas()
    top = -0.11 + 1.1 * x**2
    alpha = smoothstep((y - top) / 0.07) * smoothstep((0.40 - np.abs(x)) / 0.1)
    groove = 1 - 0.15 * np.exp(-((x / 0.025) ** 2))
    shade = (0.6 + 0.45 * smoothstep((y - top) / 0.13)) * groove
    return Layer.of(white * TONGUE * shade[..., None], alpha)


def texture_affine(origin: np.ndarray, placement: Placement) -> np.ndarray:
    """(2, 3) texture pixels -> square pixels, for a texture whose middle is at `origin` (3,) in the head."""
    corner = origin + [-HALF_WIDTH + 0.5 / RES, -ABOVE + 0.5 / RES, 0]
    return np.column_stack([placement.scale * placement.rotation[:2, :2] / RES, placement.place(corner)])


class Interior:
    """What lies between the lips of one source."""

    def __init__(
        self,
        upper: Layer,
        lower: Layer,
        origin: np.ndarray,
        white: np.ndarray,
        soft: float,
        own: bool,
        parted: bool,
    ) -> None:
        """upper: what stays with the skull. lower: what goes with the jaw. own: the upper teeth are the picture's.
        parted: its lips are, whatever they show."""
        self.upper, self.lower = upper, lower
        self.origin, self.white, self.soft, self.own, self.parted = origin, white, soft, own, parted

    def _place(self, layer: Layer, placement, shift, origin, size) -> np.ndarray:
        matrix = texture_affine(self.origin + shift, placement)
        matrix[:, 2] -= origin
        # INTER_AREA in effect: the texture is at most twice as fine as the square, and soft
        return cv2.warpAffine(
            layer.rgba, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT
        )

    def draw(
        self,
        shape: tuple[int, int],
        origin: np.ndarray,
        up: np.ndarray,
        low: np.ndarray,
        exp: np.ndarray,
        placement: Placement,
    ) -> np.ndarray:
        """-> (h, w, 3) float32, the box at `origin` filled with the mouth's inside; up, low: the lips' edges in it."""
        unit = placement.scale
        height, width = shape
        drop = max(0.0, JAW_OF_LIP * float(exp[INDEX["lip_lower_inner"], 1]))
        jaw = np.array([0, drop, 0.25 * drop])
        column = np.arange(width, dtype=np.float32)
        row = np.arange(height, dtype=np.float32)[:, None]
        top, bottom = np.interp(column, up[:, 0], up[:, 1]), np.interp(column, low[:, 0], low[:, 1])
        gap = float((bottom - top).max())
        under = np.maximum(0, row - top) / unit
        over = np.maximum(0, bottom - row) / unit

        inner = np.empty((height, width, 3), np.float32)
        inner[:] = self.white * THROAT
        for layer, shift in ((self.lower, jaw), (self.upper, np.zeros(3))):
            placed = self._place(layer, placement, shift, origin, (width, height))
            inner *= 1 - placed[..., 3:]
            inner += placed[..., :3]
        if not self.own:
            inner = np.asarray(cv2.GaussianBlur(inner, (0, 0), self.soft))
        # the lips' shadow, the cheeks' on both sides, and little light in a mouth that is hardly open
        side = (column - up[0, 0]) / max(up[-1, 0] - up[0, 0], 1)
        side = 0.3 + 0.7 * smoothstep(np.clip(4 * side * (1 - side), 0, 1) * 1.5)
        dark = DIM_OWN if self.own else DIM
        rise = -float(exp[INDEX["lip_upper_inner"], 1])
        parted = gap / unit
        lit = parted + BARES * (rise - RISE) * max(0.0, 1 - parted / WIDE)
        wide = dark + (1 - dark) * smoothstep(lit / LIT)
        shade = (
            (0.6 + 0.4 * smoothstep(under / 0.045)) * (0.75 + 0.25 * smoothstep(over / 0.04)) * side * wide
        )
        inner *= shade[..., None].astype(np.float32) ** FLESH
        return inner


def grain(image: np.ndarray, points: np.ndarray, unit: float) -> np.ndarray:
    """(h, w) how a texture's brightness varies as the portrait's skin does: film's grain, a canvas, strokes of a brush."""
    middle, reach = points[[205, 425]], 0.14 * unit
    cheeks = []
    for x, y in middle:
        x0, y0 = int(max(0, x - reach)), int(max(0, y - reach))
        part = image[y0 : int(y + reach), x0 : int(x + reach)]
        if min(part.shape[:2]) >= 8:
            level = part.astype(np.float32).mean(axis=-1)
            cheeks.append(level - cv2.GaussianBlur(level, (0, 0), GRAIN * unit))
    shape = _canvas()[0].shape
    if not cheeks:
        return np.zeros(shape, np.float32)
    calm = min(cheeks, key=lambda part: float(part.std()))  # no shadow's or strand's edge
    k = RES / unit
    large = cv2.resize(calm, None, fx=k, fy=k, interpolation=cv2.INTER_LINEAR)
    again = [-(-n // m) for n, m in zip(shape, large.shape)]
    tiles = [np.flip(large, axis=1) if i % 2 else large for i in range(again[1])]
    row = np.concatenate(tiles, axis=1)
    whole = np.concatenate([np.flip(row, axis=0) if i % 2 else row for i in range(again[0])], axis=0)
    return whole[: shape[0], : shape[1]]


def own_teeth(image: np.ndarray, points: np.ndarray, back: np.ndarray, white: np.ndarray):
    """The upper teeth that a portrait shows between its parted lips, or None where it shows none.

    back: (2, 3) texture pixels -> the square's. white: (3,) its light. -> color (h, w, 3), alpha (h, w).
    """
    x, y = _canvas()
    size = x.shape[::-1]
    color = cv2.warpAffine(image, back, size, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP).astype(np.float32)
    turn, shift = np.linalg.inv(back[:, :2]), back[:, 2]
    upper, lower = ((points[c] - shift) @ turn.T for c in (LIP_INNER_UPPER, LIP_INNER_LOWER))
    at = np.arange(size[0])
    top, bottom = np.interp(at, upper[:, 0], upper[:, 1]), np.interp(at, lower[:, 0], lower[:, 1])
    rows = np.arange(size[1])[:, None]
    within = (rows > top) & (rows < bottom) & (at > upper[0, 0]) & (at < upper[-1, 0])
    if within.sum() < 100:
        return None
    # Teeth are bright and gray, lips red: the lowest bright gray pixel of a column is its edge.
    gray = color.mean(axis=-1)
    red = (color[..., 0] - color[..., 1:].mean(axis=-1)) / (gray + 1)
    bright = np.percentile(gray[within], 90)
    if bright < DARK * white.mean():
        return None
    teeth = (
        within & (gray > 0.6 * bright) & (red < np.percentile(red[within & (gray > 0.8 * bright)], 75) + 0.12)
    )
    toothed = cv2.blur(teeth.any(axis=0).astype(np.float32)[None], (9, 1))[0]
    edge = np.where(teeth.any(axis=0), np.where(teeth, rows, 0).max(axis=0) + 2, top + 0.75 * (bottom - top))
    edge = np.minimum(cv2.blur(edge.astype(np.float32)[None], (9, 1))[0], bottom)
    soft = 5 + 12 * (1 - toothed)  # beside the last tooth all is shadow
    ends = smoothstep(np.minimum(at - upper[0, 0], upper[-1, 0] - at) / 8)
    alpha = smoothstep((edge - rows) / soft + 0.5) * smoothstep((rows - top) / (0.1 * RES) + 1) * ends
    # A lip that rises further than in the picture shows more of the same.
    seen = np.maximum(rows, np.minimum(top + 3, edge)).astype(np.float32)
    x = np.broadcast_to(at.astype(np.float32), seen.shape)
    color = np.asarray(cv2.remap(color, np.ascontiguousarray(x), seen, cv2.INTER_LINEAR), dtype=np.float32)
    return color, alpha


def interior(image, points, shape, exp, placement: Placement) -> Interior:
    """The inside for one source; see `Mouth` for the arguments."""
    white = light(image, points)
    corners = shape[[78, 308]]
    stretch = float(np.clip(np.linalg.norm(corners[1] - corners[0]) / MOUTH_WIDTH, 0.75, 1.3))
    rest = (shape[13] - exp[INDEX["lip_upper_inner"]] + shape[14] - exp[INDEX["lip_lower_inner"]]) / 2
    origin = np.array([corners[:, 0].mean(), rest[1], rest[2] + BEHIND], dtype=np.float64)
    texture = grain(image, points, placement.scale)
    parted = bool(np.linalg.norm(shape[14] - shape[13]) > OWN_TEETH)
    own = own_teeth(image, points, texture_affine(origin, placement), white) if parted else None
    if own:
        color, alpha = own
        white = np.percentile(color[alpha > 0.9 * alpha.max()], 80, axis=0) / TOOTH
        upper = Layer.of(color, alpha)
    else:
        upper = _row(UPPER_TEETH, 1.0, 0.17, white, stretch, 0.94)
        upper = upper.grained(texture)
    lower = _row(LOWER_TEETH, -1.0, 0.14, white, stretch, 0.80).grained(texture)
    return Interior(
        upper,
        lower.before(_tongue(white).grained(texture)),
        origin,
        white,
        detail(image, points),
        own is not None,
        parted,
    )
