"""The demo's second portrait, drawn in code: python assets/draw_portrait.py -> assets/drawing.jpg

Coordinates are pixels of a 768 x 768 picture; shapes are smooth closed curves, shading is blurred shapes.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIZE, FINE = 768, 3  # drawn FINE times as large, then shrunk
EYES = ((320.0, 346.0), (448.0, 346.0))


def smooth(points, closed: bool = True) -> np.ndarray:
    """A Catmull-Rom curve through the points."""
    p = np.array(points, dtype=np.float64)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    t = np.linspace(0, 1, 24, endpoint=False)[:, None]
    parts = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:]):
        parts.append(
            0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
        )
    return np.concatenate(parts if closed else [*parts, p[-2:-1]])


def mirrored(points) -> list:
    """A left half from top to bottom -> the whole outline, mirrored about the middle of the picture."""
    half = [tuple(p) for p in points]
    return half + [(SIZE - x, y) for x, y in reversed(half) if x != SIZE / 2]


class Canvas:
    def __init__(self) -> None:
        self.image = np.zeros((SIZE * FINE, SIZE * FINE, 3), np.float32)

    def mask(self, points, blur: float = 0.0) -> np.ndarray:
        mask = np.zeros(self.image.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round(np.array(points) * FINE * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        mask = mask.astype(np.float32) / 255
        return cv2.GaussianBlur(mask, (0, 0), blur * FINE) if blur else mask

    def lay(self, mask: np.ndarray, colour, strength: float = 1.0) -> None:
        alpha = (mask * strength)[..., None]
        self.image += (np.float32(colour) - self.image) * alpha

    def shape(self, points, colour, blur: float = 0.0, within=None, strength: float = 1.0) -> None:
        mask = self.mask(points, blur)
        self.lay(mask if within is None else mask * within, colour, strength)

    def stroke(self, points, widths, colour, blur: float = 0.4, within=None, strength: float = 1.0) -> None:
        """A line that swells and thins: half its width at evenly spaced places."""
        line = smooth(points, closed=False)
        w = np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, len(widths)), widths)[:, None]
        along = np.gradient(line, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], axis=1) / (
            np.linalg.norm(along, axis=1)[:, None] + 1e-9
        )
        self.shape(
            np.concatenate([line + across * w, (line - across * w)[::-1]]), colour, blur, within, strength
        )


def ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    a = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    return np.stack([x + rx * np.cos(a), y + ry * np.sin(a)], axis=1)


SKIN, LIT, SHADE, DEEP = (226, 172, 142), (246, 205, 176), (190, 122, 98), (142, 78, 66)
HAIR, HAIR_LIT, HAIR_DARK = (74, 44, 38), (128, 78, 56), (44, 24, 26)
COAT, COAT_LIT, COAT_DARK = (38, 92, 98), (70, 138, 138), (22, 58, 66)
LIP, LIP_LIT, LIP_DARK = (190, 88, 84), (222, 130, 120), (120, 44, 48)


def background(c: Canvas) -> None:
    y, x = np.mgrid[0 : SIZE * FINE, 0 : SIZE * FINE].astype(np.float32) / (SIZE * FINE)
    near = np.exp(-(((x - 0.42) / 0.5) ** 2 + ((y - 0.4) / 0.55) ** 2))[..., None]
    c.image[:] = np.float32([206, 148, 92]) * (1 - near) + np.float32([250, 218, 160]) * near
    rng = np.random.default_rng(4)
    for _ in range(40):  # broad, faint strokes
        px, py = rng.uniform(-50, SIZE + 50, 2)
        dx, dy = rng.normal(0, 90), rng.normal(0, 50)
        colour = np.float32([236, 190, 128]) + rng.normal(0, 14, 3)
        c.stroke(
            [(px, py), (px + dx, py + dy), (px + 2 * dx, py + 1.5 * dy)], (4, 22, 6), colour, 7, strength=0.3
        )


def shoulders(c: Canvas) -> None:
    coat = mirrored(
        [(384, 640), (318, 628), (262, 640), (180, 664), (120, 706), (92, 790), (92, 860), (384, 860)]
    )
    m = c.mask(smooth(coat))
    c.lay(m, COAT)
    c.shape(
        smooth([(110, 700), (190, 664), (270, 650), (250, 720), (180, 800), (110, 800)]),
        COAT_LIT,
        22,
        m,
        0.55,
    )
    c.shape(smooth([(500, 660), (600, 690), (690, 760), (690, 860), (540, 860)]), COAT_DARK, 26, m, 0.7)
    neck = smooth(
        [
            (318, 500),
            (322, 580),
            (312, 622),
            (286, 648),
            (330, 700),
            (384, 724),
            (438, 700),
            (482, 648),
            (456, 622),
            (446, 580),
            (450, 500),
        ]
    )
    m = c.mask(neck)
    c.lay(m, SKIN)
    c.shape(
        smooth([(300, 500), (384, 560), (468, 500), (474, 606), (440, 618), (384, 634), (326, 604)]),
        SHADE,
        10,
        m,
        1.0,
    )
    c.shape(
        smooth(
            [(310, 520), (350, 560), (384, 570), (420, 560), (464, 520), (452, 580), (384, 596), (318, 570)]
        ),
        (158, 92, 76),
        9,
        m,
        0.75,
    )
    c.shape(smooth([(430, 540), (470, 560), (480, 680), (440, 690)]), SHADE, 14, m, 0.6)
    for side in (1, -1):  # collar bones and the neckline's edge
        c.stroke(
            [(384 + side * 16, 668), (384 + side * 44, 654), (384 + side * 78, 648)],
            (0.5, 3, 1),
            SHADE,
            2,
            m,
            0.7,
        )
    c.stroke([(284, 646), (330, 700), (384, 724), (438, 700), (484, 646)], (4, 6, 6, 6, 4), COAT_DARK, 1.2)
    c.stroke(
        [(280, 645), (328, 704), (384, 729), (440, 704), (488, 645)], (1.5, 2, 2, 2, 1.5), (232, 180, 96), 0.5
    )


def hair_behind(c: Canvas) -> None:
    outline = smooth(
        [
            (384, 112),
            (300, 124),
            (236, 176),
            (208, 260),
            (206, 360),
            (222, 450),
            (216, 540),
            (250, 590),
            (310, 600),
            (384, 560),
            (458, 600),
            (520, 590),
            (554, 540),
            (546, 450),
            (562, 360),
            (560, 260),
            (532, 176),
            (468, 124),
        ]
    )
    m = c.mask(outline)
    c.lay(m, HAIR)
    c.shape(
        smooth([(290, 420), (320, 520), (320, 600), (450, 600), (450, 520), (480, 420)]),
        HAIR_DARK,
        16,
        m,
        0.9,
    )
    c.shape(smooth([(520, 220), (570, 330), (560, 560), (500, 590), (520, 420)]), HAIR_DARK, 20, m, 0.7)
    for i in range(9):
        x = 222 + 7 * i
        c.stroke(
            [(x + 6, 330), (x - 4, 430), (x + 4, 520), (x + 26, 586)],
            (0.3, 1.6, 1.8, 0.3),
            HAIR_LIT,
            1.2,
            m,
            0.4,
        )
        x = 546 - 7 * i
        c.stroke(
            [(x - 6, 330), (x + 4, 430), (x - 4, 520), (x - 26, 586)],
            (0.3, 1.4, 1.6, 0.3),
            HAIR_LIT,
            1.4,
            m,
            0.22,
        )


def face(c: Canvas) -> np.ndarray:
    outline = mirrored(
        [
            (384, 186),
            (320, 196),
            (272, 238),
            (254, 300),
            (254, 366),
            (262, 428),
            (282, 484),
            (316, 530),
            (350, 556),
            (384, 564),
        ]
    )
    m = c.mask(smooth(outline))
    c.lay(m, SKIN)
    c.shape(
        smooth([(290, 240), (380, 214), (440, 240), (420, 300), (330, 300)]), LIT, 22, m, 0.75
    )  # forehead
    c.shape(smooth([(278, 384), (330, 382), (346, 420), (314, 458), (284, 440)]), LIT, 16, m, 0.8)  # cheeks
    c.shape(smooth([(436, 384), (480, 382), (488, 420), (460, 448)]), LIT, 16, m, 0.5)
    c.shape(
        smooth([(270, 400), (318, 404), (326, 446), (290, 462)]), (232, 130, 112), 18, m, 0.5
    )  # their colour
    c.shape(smooth([(446, 404), (498, 400), (484, 458), (446, 446)]), (222, 118, 100), 18, m, 0.5)
    c.shape(
        smooth(
            [(505, 240), (540, 300), (530, 440), (470, 560), (410, 580), (462, 516), (492, 440), (500, 330)]
        ),
        SHADE,
        18,
        m,
        0.85,
    )  # the side away from the light
    c.shape(
        smooth([(240, 300), (262, 330), (276, 450), (320, 540), (300, 560), (240, 440)]), SHADE, 14, m, 0.45
    )
    c.shape(ellipse(384, 548, 66, 16), SHADE, 12, m, 0.45)
    c.shape(ellipse(376, 524, 26, 14), LIT, 10, m, 0.6)  # chin
    c.shape(ellipse(384, 494, 38, 7), SHADE, 6, m, 0.6)  # under the lower lip
    return m


def nose(c: Canvas, m: np.ndarray) -> None:
    c.shape(
        smooth([(394, 340), (404, 380), (418, 420), (404, 436), (390, 430), (394, 390)]), SHADE, 8, m, 0.55
    )
    c.shape(smooth([(376, 320), (388, 322), (388, 400), (382, 418), (374, 400)]), LIT, 6, m, 0.85)
    c.shape(ellipse(380, 418, 13, 10), LIT, 6, m, 0.8)
    c.shape(
        smooth(
            [
                (346, 426),
                (356, 412),
                (362, 430),
                (384, 440),
                (406, 430),
                (412, 412),
                (422, 426),
                (410, 440),
                (384, 446),
                (358, 440),
            ]
        ),
        SHADE,
        4,
        m,
        0.75,
    )
    for s in (-1, 1):
        c.stroke(
            [(384 + s * 10, 439), (384 + s * 19, 434), (384 + s * 28, 438)],
            (0.8, 3.4, 0.8),
            DEEP,
            1.3,
            m,
            0.85,
        )
        c.stroke(
            [(384 + s * 33, 414), (384 + s * 40, 424), (384 + s * 35, 437)],
            (0.4, 1.8, 0.6),
            DEEP,
            1.8,
            m,
            0.5,
        )
    c.stroke([(376, 452), (378, 462), (377, 470)], (1, 3, 2), SHADE, 3, m, 0.45)


def mouth(c: Canvas, m: np.ndarray) -> None:
    upper = smooth(
        [
            (331, 478),
            (352, 470),
            (372, 462),
            (384, 466),
            (396, 462),
            (416, 470),
            (437, 478),
            (410, 480),
            (384, 482),
            (358, 480),
        ]
    )
    lower = smooth(
        [
            (331, 478),
            (358, 480),
            (384, 482),
            (410, 480),
            (437, 478),
            (420, 492),
            (402, 501),
            (384, 504),
            (366, 501),
            (348, 492),
        ]
    )
    lips = np.maximum(c.mask(upper, 0.8), c.mask(lower, 0.8)) * m
    c.shape(upper, LIP, 0.8, m)
    c.shape(lower, (206, 104, 98), 0.8, m)
    c.shape(smooth([(345, 478), (384, 470), (423, 478), (384, 484)]), LIP_DARK, 5, lips, 0.5)
    c.shape(ellipse(374, 492, 22, 5), LIP_LIT, 4, lips, 0.9)
    c.stroke(
        [(329, 477), (356, 480), (372, 479), (384, 482), (396, 479), (412, 480), (439, 477)],
        (0.6, 1.3, 1.5, 1.7, 1.5, 1.3, 0.6),
        (96, 32, 38),
        0.7,
        m,
        0.9,
    )
    for x in (328, 440):
        c.shape(ellipse(x, 477, 5, 4), DEEP, 3, m, 0.5)


def eye(c: Canvas, m: np.ndarray, x: float, y: float, side: int) -> None:
    """side: -1 the picture's left eye, 1 the right one."""

    def p(dx, dy):  # dx > 0 outwards
        return (x + side * dx, y + dy)

    c.shape(smooth([p(-34, 0), p(-16, -20), p(8, -26), p(36, -14), p(42, 4), p(0, 24)]), SHADE, 9, m, 0.6)
    c.shape(smooth([p(-20, 22), p(6, 28), p(30, 18), p(6, 36)]), SHADE, 6, m, 0.35)
    top = [p(-33, 5), p(-22, -6), p(-6, -13.5), p(10, -13.5), p(24, -7), p(35, 2)]
    bottom = [p(24, 9), p(8, 13.5), p(-8, 13), p(-22, 9.5)]
    opening = c.mask(smooth(top + bottom), 0.4)
    c.lay(opening, (238, 228, 218))
    c.shape(smooth([p(-36, 6), p(-26, -4), p(-20, 4), p(-26, 12)]), (222, 150, 138), 2.5, opening, 0.7)
    c.shape(ellipse(x, y - 1, 14.5, 14.5), (52, 36, 30), 0.6, opening)
    c.shape(ellipse(x, y - 1, 12.6, 12.6), (74, 108, 92), 0.8, opening)
    c.shape(ellipse(x, y + 5, 9, 5), (146, 172, 118), 3, opening, 0.8)
    c.shape(ellipse(x, y - 1, 6.2, 6.2), (18, 12, 14), 0.5, opening)
    c.shape(
        smooth([(q[0], q[1] - 5) for q in top] + [(q[0], q[1] + 5) for q in reversed(top)]),
        (60, 40, 40),
        3.5,
        opening,
        0.6,
    )
    c.shape(ellipse(x - 5, y - 6, 3.0, 2.6), (255, 255, 255), 0.4, opening, 0.95)
    c.stroke([p(-34, 6), *top[1:], p(41, -2)], (0.8, 1.6, 2.4, 3.0, 3.0, 1.0), (40, 20, 22), 0.5)
    c.stroke([p(-32, 7), *reversed(bottom), p(33, 3)], (0.4, 0.6, 0.8, 1.0, 0.8), DEEP, 0.8, m, 0.75)
    c.stroke(
        [p(-28, -9), p(-10, -21), p(10, -22), p(28, -14), p(38, -5)],
        (0.4, 1.3, 1.5, 1.2, 0.4),
        DEEP,
        1.0,
        m,
        0.75,
    )
    c.shape(smooth([p(-10, -17), p(8, -18), p(16, -15), p(0, -15)]), LIT, 2.5, m, 0.6)
    c.stroke(
        [p(-34, -38), p(-14, -47), p(10, -50), p(32, -44), p(48, -32)],
        (4.5, 5.5, 5, 3.6, 0.8),
        HAIR,
        1.2,
        m,
        0.95,
    )
    for i in range(8):  # hairs of the brow
        t = i / 11
        bx, by = -34 + 74 * t, -38 - 12 * np.sin(np.pi * min(1, 0.15 + 0.8 * t)) + 8 * max(0, t - 0.7)
        c.stroke([p(bx, by + 6), p(bx + 5, by), p(bx + 11, by - 4)], (0.3, 0.9, 0.2), HAIR_DARK, 0.4, m, 0.6)


def hair_before(c: Canvas) -> None:
    fringe = smooth(
        [
            (432, 142),
            (372, 122),
            (300, 134),
            (246, 184),
            (222, 264),
            (226, 352),
            (240, 420),
            (258, 350),
            (268, 290),
            (304, 250),
            (372, 226),
            (430, 196),
            (470, 236),
            (500, 290),
            (512, 352),
            (528, 420),
            (544, 352),
            (546, 264),
            (524, 186),
            (480, 146),
        ]
    )
    m = c.mask(fringe, 0.6)
    shadow = c.mask(fringe + [2, 10], 8)
    c.lay(shadow * (1 - m), DEEP, 0.28)
    c.lay(m, HAIR)
    c.shape(
        smooth([(260, 200), (330, 150), (400, 150), (420, 176), (340, 200), (280, 250)]),
        HAIR_LIT,
        14,
        m,
        0.75,
    )
    c.shape(smooth([(470, 170), (520, 220), (530, 330), (500, 280), (476, 220)]), HAIR_DARK, 12, m, 0.7)
    for i in range(16):  # strands from the parting
        t = i / 15
        c.stroke(
            [
                (430 - 16 * t, 150 + 24 * t),
                (350 - 40 * t, 158 + 40 * t),
                (276 - 20 * t, 214 + 46 * t),
                (246 - 6 * t, 300 + 60 * t),
            ],
            (0.3, 1.6, 1.5, 0.3),
            HAIR_LIT if i % 3 else HAIR_DARK,
            0.9,
            m,
            0.45,
        )
        c.stroke(
            [
                (436 + 10 * t, 152 + 24 * t),
                (484 + 14 * t, 196 + 30 * t),
                (514 + 6 * t, 270 + 34 * t),
                (528, 350 + 40 * t),
            ],
            (0.3, 1.4, 1.4, 0.3),
            HAIR_DARK if i % 2 else HAIR_LIT,
            0.9,
            m,
            0.35,
        )


def draw() -> np.ndarray:
    """-> (768, 768, 3) uint8 RGB."""
    c = Canvas()
    background(c)
    hair_behind(c)
    shoulders(c)
    skin = face(c)
    nose(c, skin)
    mouth(c, skin)
    for side, (x, y) in zip((-1, 1), EYES):
        eye(c, skin, x, y, side)
    hair_before(c)
    image = cv2.resize(c.image, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    grain = cv2.GaussianBlur(
        np.random.default_rng(1).normal(0, 9, image.shape[:2]).astype(np.float32), (0, 0), 0.9
    )
    return np.clip(image + grain[..., None], 0, 255).astype(np.uint8)


if __name__ == "__main__":
    picture = cv2.cvtColor(draw(), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(Path(__file__).with_name("drawing.jpg")), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
