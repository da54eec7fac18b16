"""Where every part of the square goes when the head moves: a forward field on a coarse grid, and its inverse.

Each node of the grid knows its place in the head (x, y from the picture, a depth) and how far it follows the
head: 1 on the head, falling to 0 down the neck and at the square's edge. Its displacement is then in closed form

    d = w * (P + t s + s' R' (X + E - pivot) - q)        q its pixel, X its place in the head, E the expression

with P where the pivot lies in the picture. E is interpolated from the mesh's displacements; there are two such
fields, one that knows the upper lip and one that knows the lower, since a mouth that opens is a tear.
"""

from __future__ import annotations

import cv2
import numpy as np

from moda.face.source import HeadPose
from moda.motion.explicit import IRISES, LIDS, NECK_PIVOT
from moda.render.mesh import head
from moda.render.mesh.basis import basis
from moda.render.mesh.placing import Placement, interpolate, smoothstep, warp
from moda.render.mesh.topology import EYES, FACE_OVAL, IRIS_RINGS, LIP_LOWER, LIP_UPPER

NODES = 128  # along the square's side, at least: 4 pixels apart at 512
AROUND_MOUTH, FADE = 0.9, 0.3  # eye distances about the lips where their two fields differ, and its soft edge
SKIN = [i for i in range(21) if i not in (*range(LIDS.start, LIDS.stop), *range(IRISES.start, IRISES.stop))]
# of exp, that move the skin; lids and irises are drawn apart
COLUMNS = np.arange(63).reshape(21, 3)[SKIN].ravel()


class Field:
    """The forward fields of one source."""

    def __init__(
        self, pose: HeadPose, shape: np.ndarray, size: int, alpha: np.ndarray | None, free: bool = False
    ) -> None:
        """pose: in the square's pixels. shape: (478, 3) head-fixed, as pictured. alpha: (size, size) the person's.
        free: the head may leave the upper edge, beyond which its hair goes on."""
        self.size, self.source = size, Placement.of(pose)
        self.step = max(1, size // NODES)  # pixels between nodes
        # Nodes lie in the middle of squares of `step` pixels, one square beyond the picture on each side: then
        # enlarging the grid by `step` gives every pixel its value.
        self.nodes = -(-size // self.step) + 2
        line = _line(slice(0, self.nodes), self.step)
        self.pixels = np.stack(np.meshgrid(line, line), axis=-1)  # (N, N, 2)
        units = (self.pixels - pose.center[:2]) / pose.scale  # eye distances in the picture
        place = ((pose.place(shape)[:, :3] - pose.center) / pose.scale).astype(np.float64)

        self.outline = head.Outline.of(alpha, pose)
        depth = head.depth(units, place, shape, pose, self.outline)
        x = np.concatenate([units, depth[..., None]], axis=-1) @ pose.rotation
        self.x = x.astype(np.float32) - NECK_PIVOT  # head-fixed, from the pivot
        edge = np.concatenate([self.pixels + 0.5, size - 0.5 - self.pixels], axis=-1) / pose.scale
        if free:
            edge[..., 1] = np.inf
        self.turns, shifts, bends, rises = head.follows(
            units, edge, pose, float(shape[152, 1]), alpha, self.step / pose.scale
        )
        # What `forward` multiplies, laid out so that one pass over the nodes does.
        self.turned = np.concatenate([self.turns * self.x, self.turns], axis=-1)  # (N, N, 4)
        self.still = (self.turns * self.pixels).astype(np.float32)
        self.swayed = np.dstack([shifts, bends, rises])  # (N, N, 3)
        self._expression(units, place, shape, pose)
        self._grids = [
            np.stack(np.meshgrid(at, at), axis=-1)
            for at in (np.arange(self.nodes, dtype=np.float32), np.arange(-(-self.nodes // 4) + 1, dtype=np.float32))
        ]  # fmt: skip

    def _expression(self, units, place, shape, pose) -> None:
        """Per node of the face's box: the linear map from offsets of the skin's points to its displacement."""
        chin = shape[152, 1]
        low, high = np.array([-1.55, -1.25]), np.array([1.55, chin + 1.0])
        corners = (
            np.array([[x, y, 0.3] for x in (low[0], high[0]) for y in (low[1], high[1])]) @ pose.rotation.T
        )
        box = np.concatenate([corners[:, :2].min(0), corners[:, :2].max(0)]) * pose.scale
        box = (box + np.tile(pose.center[:2], 2)) / self.step + 1
        x0, y0 = np.clip(np.floor(box[:2]).astype(int), 0, self.nodes - 2)
        x1, y1 = np.clip(np.ceil(box[2:]).astype(int), 2, self.nodes)
        self.box = slice(y0, y1), slice(x0, x1)
        at = units[self.box].reshape(-1, 2).astype(np.float64)

        # About the face rests everything: a wider oval, lower under the chin, which the jaw must be able to pass.
        oval = shape[FACE_OVAL].astype(np.float64)
        rest = np.column_stack([oval[:, 0] * 1.22, oval[:, 1] * 1.3, oval[:, 2] + 0.25])
        rest[oval[:, 1] > 0.8, 1] += 0.3
        rest = (rest @ pose.rotation.T)[:, :2]
        beyond = np.concatenate([rest, rest * 1.25])
        lids = np.unique(np.concatenate([c for eye in EYES for c in eye]))
        usable = np.setdiff1d(np.arange(478), np.concatenate([lids, [468, 473], *IRIS_RINGS]))
        maps = basis()[COLUMNS]
        linear = []
        for other in (LIP_LOWER, LIP_UPPER):  # each lip's field does not know the other lip
            skin = np.setdiff1d(usable, other)
            values = np.zeros((len(skin) + len(beyond), 3 * len(COLUMNS)))
            values[: len(skin)] = maps[:, skin].transpose(1, 2, 0).reshape(len(skin), -1)
            found = interpolate(np.concatenate([place[skin, :2], beyond]), values, at, smoothing=0.01)
            linear.append(found.reshape(y1 - y0, x1 - x0, 3, len(COLUMNS)))
        self.maps = self._by_column(linear[0], self.box)  # (C, h * w * 3), the upper field's
        # The lower field is another one about the mouth only.
        mouth = np.concatenate([place[LIP_UPPER, :2], place[LIP_LOWER, :2]])
        around = np.concatenate([mouth.min(0) - AROUND_MOUTH, mouth.max(0) + AROUND_MOUTH])
        within = (np.tile(pose.center[:2], 2) + around * pose.scale) / self.step + 1
        u0, v0 = np.clip(np.floor(within[:2]).astype(int), [x0, y0], [x1 - 1, y1 - 1])
        u1, v1 = np.clip(np.ceil(within[2:]).astype(int), [u0 + 1, v0 + 1], [x1, y1])
        self.mouth = slice(v0, v1), slice(u0, u1)
        part = slice(v0 - y0, v1 - y0), slice(u0 - x0, u1 - x0)
        edge = np.minimum.outer(*(np.minimum(np.arange(n), np.arange(n)[::-1]) for n in (v1 - v0, u1 - u0)))
        fade = smoothstep(edge * self.step / (FADE * pose.scale))[..., None, None]
        self.lower_maps = self._by_column((linear[1] - linear[0])[part] * fade, self.mouth)

    def _by_column(self, maps: np.ndarray, box: tuple[slice, slice]) -> np.ndarray:
        """(h, w, 3, C) of a box's nodes -> (C, h * w * 3) float32, as far as each turns with the head."""
        maps = maps * self.turns[box][..., None]
        return np.ascontiguousarray(maps.reshape(-1, maps.shape[-1]).T, dtype=np.float32)

    def forward(
        self, exp: np.ndarray, placement: Placement, breath: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """exp: (21, 3) offsets from the picture's own expression; breath: 0 as pictured, 1 breathed in -> upper, lower:
        displacements (N, N, 2), pixels."""
        turn = (placement.scale * placement.rotation[:2]).astype(np.float64)
        rigid = _transform(self.turned, np.column_stack([turn, self.source.pivot]))
        rigid -= self.still
        tilt = placement.rotation @ self.source.rotation.T
        roll = float(tilt[1, 0] - tilt[0, 1]) / 2
        scale = self.source.scale
        sway = np.column_stack([placement.pivot - self.source.pivot, [scale * roll, 0], [0, -scale * breath]])
        rigid += _transform(self.swayed, sway.astype(np.float64))
        offsets = exp.reshape(63)[COLUMNS].astype(np.float32)
        rigid[self.box] += self._moved(self.maps, offsets, turn, self.box)
        lower = rigid.copy()
        lower[self.mouth] += self._moved(self.lower_maps, offsets, turn, self.mouth)
        return rigid, lower

    @staticmethod
    def _moved(
        maps: np.ndarray, offsets: np.ndarray, turn: np.ndarray, box: tuple[slice, slice]
    ) -> np.ndarray:
        """-> (h, w, 2) pixels by which the expression moves a box's nodes."""
        shape = [s.stop - s.start for s in box]
        return _transform(np.einsum("c,cn->n", offsets, maps).reshape(*shape, 3), turn)

    def backward(self, forward: np.ndarray, box: tuple[slice, slice], above: int = 0) -> np.ndarray:
        """forward (N, N, 2): where source nodes go -> (h, w, 2) pixels: where each pixel of the box (rows, columns)
        comes from, in an image whose row `above` is the picture's first.

        b(y) = -d(y + b(y)), by iteration: first on every fourth node, where steps are cheap, then on all nodes,
        and between them linearly.
        """
        step = self.step
        nodes = tuple(slice(max(0, s.start // step), min(self.nodes, -(-s.stop // step) + 2)) for s in box)
        coarse = tuple(slice(s.start // 4, -(-(s.stop - 1) // 4) + 1) for s in nodes)
        quarter = np.ascontiguousarray(forward[::4, ::4]) / np.float32(4 * step)
        back = _iterate(quarter, self._grids[1][coarse], None, 8)
        shape = [s.stop - s.start for s in nodes]
        shift = [float(n.start / 4 - c.start) for n, c in zip(nodes, coarse)]
        matrix = np.array([[0.25, 0, shift[1]], [0, 0.25, shift[0]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        size = (shape[1], shape[0])
        start = np.asarray(
            cv2.warpAffine(np.float32(4) * back, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        )
        back = _iterate(forward / np.float32(step), self._grids[0][nodes], start, 3) * np.float32(step)
        back[..., 0] += _line(nodes[1], step)
        back[..., 1] += _line(nodes[0], step)[:, None] + np.float32(above)
        if step > 1:
            back = np.asarray(cv2.resize(back, None, fx=step, fy=step, interpolation=cv2.INTER_LINEAR))
        top, left = (s.start - (n.start - 1) * step for s, n in zip(box, nodes))
        height, width = (s.stop - s.start for s in box)
        return back[top : top + height, left : left + width]


def _transform(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(H, W, 3) under a (2, 3) or (2, 4) matrix -> (H, W, 2)."""
    return np.asarray(cv2.transform(points, matrix))


def _line(nodes: slice, step: int) -> np.ndarray:
    """Pixels of a row's nodes."""
    return (np.arange(nodes.start, nodes.stop, dtype=np.float32) - 0.5) * step - 0.5


def _iterate(forward: np.ndarray, at: np.ndarray, start: np.ndarray | None, rounds: int) -> np.ndarray:
    """forward (n, n, 2) in units of its nodes -> (h, w, 2) the displacement back at the nodes `at` (h, w, 2)."""
    back = np.zeros_like(at) if start is None else start
    for _ in range(rounds):
        moved = warp(forward, at + back)
        moved *= np.float32(-0.75)  # damped: at a nose seen from the side the field is steep
        back = np.float32(0.25) * back
        back += moved
    return back
