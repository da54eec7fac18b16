"""What a turned portrait hides of its head, taken from the head's other side: faces are nearly symmetric.

A head seen from one side shows little of the other: when it turns back, that side is what few pixels the picture has of
it, drawn wide. There the same place of the head's other half, mirrored and in this side's light, is shown instead. A
portrait that looks straight ahead shows both sides alike and has nothing to give.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from moda.motion.explicit import NECK_PIVOT
from moda.render.mesh.field import Field
from moda.render.mesh.head import FEATURES, HEAD_CENTER, HEAD_RADII
from moda.render.mesh.layers import spread
from moda.render.mesh.placing import NO_MAP, Placement, smoothstep, warp

BETTER = (
    0.08,
    0.3,
)  # by how much more the other side faces the viewer (1: right away) for it to be shown at all, whole
FROM, WHOLE = 0.08, 0.25  # sine of the turn towards the hidden side from which it is shown, and shown whole
ABOUT = 0.25  # eye distances over which two sides' light is compared
LIGHT = (0.4, 2.5)  # of one side's light in the other's, at most
# Eye distances aside and below the eyes, and part of the head's ellipse, where its side ends.
HALF, LOWEST, WIDEST = 1.2, 1.3, 1.2
EVEN = 0.06  # eye distances over which the weight is evened out
LOOK = 8  # pixels apart, where it is looked for
LEAST = 0.05  # of the weight: a side that is nowhere better by more than this is not kept


@dataclass(frozen=True)
class OtherSide:
    """at: (N, N, 2) pixels where each node's mirrored place is pictured. light: (N, N, 3) this side's light in that
    one's. weight: (N, N) how far the other side is shown. side: 1 where the picture's right side of the head is hidden,
    -1 its left."""

    at: np.ndarray
    light: np.ndarray
    weight: np.ndarray
    side: float

    @classmethod
    def of(cls, field: Field, person: np.ndarray) -> OtherSide | None:
        """person: (size, size, 4) uint8, its color times alpha. -> None where both sides are seen about alike."""
        pose, step = field.source, field.step
        at = (pose.pivot + pose.scale * ((field.x * [-1, 1, 1]) @ pose.rotation[:2].T)).astype(np.float32)
        facing = _facing(field.x, pose.rotation)
        there = _at_nodes(facing, at, step)
        place = field.x[..., :2] + NECK_PIVOT[:2]
        side = np.sign(((there - facing) * (np.abs(place[..., 0]) < HALF) * place[..., 0]).sum())
        skin = smoothstep((np.linalg.norm((place - FEATURES[0]) / FEATURES[1], axis=-1) - 0.8) / 0.3)
        skin *= smoothstep((side * place[..., 0] - 0.2) / 0.3) * smoothstep((LOWEST - place[..., 1]) / 0.3)
        skin *= smoothstep((WIDEST - np.linalg.norm((place - HEAD_CENTER) / HEAD_RADII, axis=-1)) / 0.15)
        alpha = person[..., 3].astype(np.float32) / 255
        both = warp(alpha, field.pixels.astype(np.float32)), _inside(alpha, at)
        weight = smoothstep((there - facing - BETTER[0]) / (BETTER[1] - BETTER[0])) * skin
        weight *= smoothstep(4 * np.minimum(*both) - 3) * smoothstep(2 * field.turns[..., 0] - 1)
        weight = cv2.GaussianBlur(weight.astype(np.float32), (0, 0), EVEN * pose.scale / step)
        if weight.max() < LEAST:
            return None
        known = (facing > 0.35) & (there > 0.35) & (np.minimum(*both) > 0.9) & (np.abs(place[..., 0]) < 0.9)
        known &= (place[..., 1] > -0.6) & (place[..., 1] < 1.3)
        if not known.any():
            return None
        light = cls._light(person, alpha, field.pixels.astype(np.float32), at, pose.scale, known, step)
        return cls(at, light, weight, float(side))

    @staticmethod
    def _light(person, alpha, here, there, unit: float, known: np.ndarray, step: int) -> np.ndarray:
        """How this side's brightness and color stand to the other's on the skin that shows both, carried on from there."""
        soft = cv2.GaussianBlur(person[..., :3].astype(np.float32), (0, 0), ABOUT * unit)
        soft /= np.maximum(cv2.GaussianBlur(alpha, (0, 0), ABOUT * unit), 0.05)[..., None]
        ratio = np.clip(warp(soft, here) / np.maximum(warp(soft, there), 1), *LIGHT)
        return spread(ratio, known.astype(np.float32), max(1.0, ABOUT * unit / step)).astype(np.float32)

    def shown(self, source: Placement, placement: Placement) -> float:
        """0..1 how far the hidden side has come into view."""
        turn = placement.rotation @ source.rotation.T
        towards = -self.side * float(turn[2, 0] - turn[0, 2]) / 2
        return float(smoothstep((towards - FROM) / (WHOLE - FROM)))

    def fill(
        self, drawn: np.ndarray, image: np.ndarray, back: np.ndarray, step: int, shown: float, start: int
    ) -> None:
        """Into `drawn` (h, w, 4), which shows `image`, whose row `start` is the picture's first, at `back` (h, w, 2)."""
        coarse = (
            _at_nodes(self.weight, back[::LOOK, ::LOOK] - np.array([0, start], dtype=np.float32), step) > 0.01
        )
        rows, columns = (np.flatnonzero(coarse.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return
        box = tuple(slice(max(0, (i[0] - 1) * LOOK), (i[-1] + 2) * LOOK) for i in (rows, columns))
        back = back[box] - np.array([0, start], dtype=np.float32)
        weight = _at_nodes(self.weight, back, step)
        other = warp(image, _at_nodes(self.at, back, step) + np.array([0, start], dtype=np.float32)).astype(
            np.float32
        )
        other[..., :3] = np.minimum(other[..., :3] * _at_nodes(self.light, back, step), other[..., 3:])
        part = drawn[box]
        # What is no person there stays none here.
        amount = (np.float32(shown) * weight * (other[..., 3] / 255))[..., None]
        part += ((other - part) * amount).astype(np.int16).astype(np.uint8)


def _nodes(at: np.ndarray, step: int) -> np.ndarray:
    """(..., 2) pixels of the picture -> of the grid."""
    return ((at + np.float32(0.5)) / np.float32(step) + np.float32(0.5)).astype(np.float32)


def _at_nodes(values: np.ndarray, at: np.ndarray, step: int) -> np.ndarray:
    """Nodes' values at (h, w, 2) pixels."""
    return np.asarray(
        cv2.remap(values, _nodes(at, step), NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    )


def _inside(alpha: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.remap(alpha, at, NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))


def _facing(x: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """(N, N, 3) nodes' places -> (N, N) float32 how far the surface faces the viewer: 1 straight, 0 from the side."""
    seen = x @ rotation.T
    across, down = np.gradient(seen, axis=1), np.gradient(seen, axis=0)
    normal = np.cross(across, down)
    return (normal[..., 2] / np.maximum(np.linalg.norm(normal, axis=-1), 1e-9)).astype(np.float32)
