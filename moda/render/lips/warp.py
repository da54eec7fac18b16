"""Where the lower face's pixels come from when its mouth moves: two fields, one that knows the upper lip and one the
lower, since a mouth that opens is a tear.

The fields run backwards: radial basis functions about where the landmarks are to be, whose values lead to where they
are. So nothing has to be inverted. At the square's edge they end.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from moda.render.mesh.topology import FACE_OVAL, LIP_LOWER, LIP_OUTER_LOWER, LIP_OUTER_UPPER, LIP_UPPER

NODES = 56  # along the side
EDGE = 0.16  # of the square's side: over this width the movement comes in
SMOOTHING = 0.5  # pixels: landmarks may differ a little rather than crease the skin
AROUND = np.array(  # between mouth, chin and cheeks
    [
        200,
        199,
        175,
        18,
        83,
        313,
        201,
        421,
        194,
        418,
        204,
        424,
        32,
        262,
        208,
        428,
        202,
        422,
        214,
        434,
        192,
        416,
    ]
    + [205, 425, 36, 266, 206, 426, 165, 391, 164, 2, 98, 327, 129, 358]
)
JAW = np.array(
    [i for i in FACE_OVAL if i in {152, 148, 377, 176, 400, 149, 378, 150, 379, 136, 365, 172, 397}]
)
SKIN = np.concatenate([AROUND, JAW])
CORNERS = LIP_OUTER_UPPER[[0, -1]]
UPPER = np.concatenate([SKIN, CORNERS, LIP_UPPER])  # what the upper field knows
LOWER = np.concatenate([SKIN, CORNERS, LIP_LOWER])
OUTLINE = np.concatenate([LIP_OUTER_UPPER, LIP_OUTER_LOWER])


def step(size: int) -> int:
    """Pixels between nodes."""
    return max(2, round(size / NODES))


@cache
def _nodes(size: int) -> np.ndarray:
    """(n, n, 2) x, y of the nodes in pixels: in the middle of squares of `step` pixels."""
    line = (np.arange(-(-size // step(size))) + 0.5) * step(size) - 0.5
    return np.stack(np.meshgrid(line, line), axis=-1).astype(np.float32)


@cache
def _window(size: int) -> np.ndarray:
    """(n, n, 1) 0 at the square's edge, 1 inside."""
    at = _nodes(size)
    edge = np.minimum(at, size - 1 - at).min(axis=-1) / (EDGE * size)
    edge = np.clip(edge - 0.15, 0, 1)
    return (edge * edge * (3 - 2 * edge))[..., None].astype(np.float32)


@cache
def _rest(size: int) -> np.ndarray:
    """(M, 2) places about the square that stay."""
    line = np.linspace(0, size - 1, 7)
    edge = [(x, y) for x in line for y in line if x in (0, size - 1) or y in (0, size - 1)]
    return np.array(edge)


def backward(source: np.ndarray, target: np.ndarray, size: int) -> np.ndarray:
    """(N, 2) where points are, and are to be -> (size, size, 2) float32: where each pixel comes from."""
    rest = _rest(size)
    centers = np.concatenate([target, rest]) / size
    values = np.concatenate([source - target, np.zeros_like(rest)])
    k = len(centers)
    apart = np.linalg.norm(centers[:, None] - centers[None], axis=-1)
    system = np.zeros((k + 3, k + 3))
    system[:k, :k] = apart - SMOOTHING / size * np.eye(k)
    system[:k, k:] = np.column_stack([np.ones(k), centers])
    system[k:, :k] = system[:k, k:].T
    weights = np.linalg.solve(system, np.concatenate([values, np.zeros((3, 2))])).astype(np.float32)
    nodes = _nodes(size)
    at = nodes.reshape(-1, 2) / np.float32(size)
    c = centers.astype(np.float32)
    squared = (at**2).sum(1)[:, None] + (c**2).sum(1)[None] - 2 * at @ c.T
    moved = np.sqrt(np.maximum(squared, 0)) @ weights[:k]
    moved += np.column_stack([np.ones(len(at), np.float32), at]) @ weights[k:]
    moved = moved.reshape(nodes.shape) * _window(size)
    full = cv2.resize(moved, None, fx=step(size), fy=step(size), interpolation=cv2.INTER_LINEAR)[:size, :size]
    full = np.ascontiguousarray(full)
    line = np.arange(size, dtype=np.float32)
    full[..., 0] += line
    full[..., 1] += line[:, None]
    return full


def warp(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(S, S, 3) uint8 under a backward field (S, S, 2)."""
    return np.asarray(
        cv2.remap(image, at, np.empty(0, np.float32), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    )
