"""Convolutions with fewer multiplications: the same sums, taken tile by tile.

A kernel of three taps slides over a line of inputs. Whole tiles of the result are

    y = A [(G w) * (B x)]        x: a tile's inputs, w: the three taps, *: product by element

with small constant matrices, so only the products in the middle depend on both weights and picture. In two
dimensions the matrices apply along both axes, and with channels each product becomes a matrix product
(pixels x channels_in) @ (channels_in x channels_out): one batched matrix product does nearly all the work.

`F43` makes 4 outputs with 6 products instead of 12: in two dimensions 4 times fewer.
`UP2` and `UP4` are convolutions of a map enlarged 2 or 4 times by nearest neighbour, computed at the small
size. Neighbours are equal there but at the edges between pixels, so with d_i = x_i - x_(i-1)

    first of the copies  S x_i - w0 d_i;   last  S x_i + w2 d_(i+1);   between  S x_i       S = w0 + w1 + w2

3 products for 2 (6 taps) or 4 (12 taps) outputs: 4 and 16 times fewer in two dimensions.

Source: S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and S. Gray, arXiv 1509.09308.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Algorithm:
    """A (outputs, products), G (products, 3), B (products, inputs); the next tile starts `step` inputs on."""

    a: np.ndarray
    g: np.ndarray
    b: np.ndarray
    step: int

    @property
    def outputs(self) -> int:
        return self.a.shape[0]

    @property
    def products(self) -> int:
        return self.b.shape[0]

    @property
    def inputs(self) -> int:
        return self.b.shape[1]

    @property
    def enlarges(self) -> int:
        """Outputs for each input: 1, or how often the map is enlarged before the convolution."""
        return self.outputs // self.step


def _toom_cook(outputs: int, points: list[float]) -> Algorithm:
    """F(outputs, 3) by evaluation at the given points and at infinity (`outputs` + 1 points)."""
    n = outputs + 2
    powers = np.vander(points, n, increasing=True)  # (n - 1, n)
    evaluate = np.vstack([powers, np.eye(n)[-1]])  # of a polynomial of n coefficients
    # A polynomial product g * w is evaluate^-1 [(evaluate g) * (evaluate w)]; the convolution is its transpose.
    # Spread the denominators so that B stays small whole numbers.
    b = np.linalg.inv(evaluate).T
    scale = np.abs(np.array([np.prod([p - q for q in points if q != p]) for p in points] + [1.0]))
    a = evaluate[:, :outputs].copy()
    a[-1] = np.eye(outputs)[-1]
    g = evaluate[:, :3].copy()
    g[-1] = [0, 0, 1]
    return Algorithm(a=a.T, g=g / scale[:, None], b=b * scale[:, None], step=outputs)


def _nearest(times: int) -> Algorithm:
    """Convolution of 3 taps over a line enlarged `times` by nearest neighbour; products S x, w0 d, w2 d'."""
    a = np.zeros((times, 3))
    a[:, 0] = 1
    a[0, 1] = -1
    a[-1, 2] = 1
    return Algorithm(
        a=a,
        g=np.array([[1.0, 1, 1], [1, 0, 0], [0, 0, 1]]),
        b=np.array([[0.0, 1, 0], [-1, 1, 0], [0, -1, 1]]),
        step=1,
    )


F23 = _toom_cook(2, [0, 1, -1])
F43 = _toom_cook(4, [0, 1, -1, 2, -2])
UP2 = _nearest(2)
UP4 = _nearest(4)

_ROWS = 256  # rows of the matrix products aimed at: enough for full speed, few enough to stay in the cache
_UNIT = 1 << 20  # numbers transformed at a time, likewise


class TileConv:
    """A 3x3 or 3x3x3 convolution, stride 1, padding 1, of a map in channels-last order.

    weight: (out, in, 3, 3) or (out, in, 3, 3, 3); bias: (out,) or None. The algorithm works on height and width;
    the three taps of depth are summed plainly.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, algorithm: Algorithm = F43) -> None:
        self.algorithm = algorithm
        self.channels_out, self.channels_in = weight.shape[:2]
        self.depth_taps = 1 if weight.ndim == 4 else 3
        self.weight = _weight_products(weight, algorithm)  # (depth taps, products^2, in, out)
        device, dtype = weight.device, weight.dtype
        self.bias = weight.new_zeros(self.channels_out) if bias is None else bias
        self.to_products = torch.from_numpy(np.kron(algorithm.b, algorithm.b)).to(device, dtype)
        self.to_outputs = torch.from_numpy(np.kron(algorithm.a, algorithm.a)).to(device, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, H, W, in) or, with three taps of depth, (N, D, H, W, in) -> the same, `out` channels, enlarged."""
        times = self.algorithm.enlarges
        *many, height, width, _ = x.shape
        y = x.new_empty(*many, height * times, width * times, self.channels_out)
        for source, target in zip(x, y) if self.depth_taps == 3 else [(x, y)]:
            for _ in self.strips(source, target):
                pass
        return y

    def strips(self, x: Tensor, into: Tensor | None = None) -> Iterator[tuple[slice, Tensor]]:
        """The result of (N, H, W, in) in strips of rows: (rows, (N, rows, W', out)). N is depth, if it has taps.

        For whoever uses a strip while it is in the cache and never needs the whole. into: where they are written,
        (N, H', W', out); else each is memory of its own.
        """
        k = self.algorithm
        n, height, width, channels = x.shape
        out, depth = self.channels_out, n + self.depth_taps - 1
        tiles_y, tiles_x = -(-height // k.step), -(-width // k.step)
        tall = max(1, min(tiles_y, _ROWS // (n * tiles_x)))  # tile rows at a time
        overlap = k.inputs - k.step  # 2: tiles begin one input before their first output
        band = x.new_zeros(n, tall * k.step + overlap, tiles_x * k.step + overlap, channels)
        inner = x.new_empty(k.products**2, depth, tall, tiles_x * channels)
        outer = x.new_empty(k.products**2, n, tall, tiles_x * out)
        if self.depth_taps == 3:  # beyond the first and the last slice
            inner[:, 0] = 0
            inner[:, -1] = 0
        for top in range(0, tiles_y, tall):
            if tiles_y - top < tall:
                tall = tiles_y - top
                inner, outer = inner[:, :, :tall].contiguous(), outer[:, :, :tall].contiguous()
            above = top * k.step - 1  # the band's first row, of x
            begin, end = max(above, 0), min(above + band.shape[1], height)
            band[:, : begin - above] = 0
            band[:, begin - above : end - above, 1 : 1 + width] = x[:, begin:end]
            band[:, end - above :] = 0
            self._transform(band, inner)
            self._multiply(inner, outer)
            first, last = top * k.outputs, min((top + tall) * k.outputs, height * k.enlarges)
            size = (n, last - first, width * k.enlarges, out)
            whole = (n, tall * k.outputs, tiles_x * k.outputs, out)  # with what the last tiles make too much
            strip = x.new_empty(size) if into is None else into[:, first:last]
            made = strip if size == whole else x.new_empty(whole)
            self._collect(outer, made)
            if made is not strip:
                strip.copy_(made[:, : size[1], : size[2]])
            yield slice(first, last), strip

    def _transform(self, band: Tensor, inner: Tensor) -> None:
        """B x along both axes: band (N, rows, columns, in) -> inner (products^2, N or N + 2, tile rows, tiles * in)."""
        k, channels = self.algorithm, band.shape[-1]
        tall, tiles_x = inner.shape[2], inner.shape[3] // channels
        inner = inner[:, self.depth_taps // 2 :]
        by_slice, by_row = band.stride(0), band.stride(1)
        for i, r in _units(len(band), tall, k.inputs**2 * tiles_x * channels):
            tiles = band[i, r.start * k.step :].as_strided(
                (k.inputs, k.inputs, i.stop - i.start, r.stop - r.start, tiles_x, channels),
                (by_row, channels, by_slice, k.step * by_row, k.step * channels, 1),
            )
            patches = tiles.reshape(k.inputs**2, -1)  # a copy, for tiles overlap
            torch.mm(self.to_products, patches, out=inner[:, i, r].flatten(1))

    def _multiply(self, inner: Tensor, outer: Tensor) -> None:
        """(G w) * (B x), each product a matrix product over channels; the taps of depth are summed."""
        step = inner.shape[2] * (inner.shape[3] // self.channels_in)  # tiles of a slice
        inner = inner.view(len(inner), -1, self.channels_in)
        outer = outer.view(len(outer), -1, self.channels_out)
        rows = outer.shape[1]
        torch.bmm(inner[:, :rows], self.weight[0], out=outer)
        for tap in range(1, self.depth_taps):
            outer.baddbmm_(inner[:, tap * step : tap * step + rows], self.weight[tap])

    def _collect(self, outer: Tensor, made: Tensor) -> None:
        """A [...] along both axes, and the bias: outer (products^2, N, tile rows, tiles * out) -> made (N, H', W', out)."""
        k, out = self.algorithm, self.channels_out
        tall, tiles_x = outer.shape[2], outer.shape[3] // out
        blocks = made.unflatten(2, (tiles_x, k.outputs)).unflatten(1, (tall, k.outputs))
        for i, r in _units(len(made), tall, k.products**2 * tiles_x * out):
            block = blocks[i, r]
            parts = self.to_outputs @ outer[:, i, r].flatten(1)
            parts = parts.view(k.outputs, k.outputs, len(block), -1, tiles_x, out)
            torch.add(parts.permute(2, 3, 0, 4, 1, 5), self.bias, out=block)


def _weight_products(weight: Tensor, algorithm: Algorithm) -> Tensor:
    """G w along both axes: (out, in, [depth], 3, 3) -> (depth or 1, products^2, in, out); in float64, by parts, for
    the largest is a gigabyte there."""
    out, ins = weight.shape[:2]
    kernels = weight.detach().reshape(out, -1, 9)  # (out, in * depth, 9)
    g = torch.from_numpy(np.kron(algorithm.g, algorithm.g)).to(weight.device)
    depth = kernels.shape[1] // ins
    made = weight.new_empty(depth, len(g), ins, out)
    for start in range(0, out, 16):
        part = kernels[start : start + 16].double() @ g.T
        made[..., start : start + 16] = part.view(-1, ins, depth, len(g)).permute(2, 3, 1, 0)
    return made


def _units(n: int, tall: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Ranges of slices and rows, each together one block of memory of about `_UNIT` numbers; a row has `size`."""
    rows = max(1, min(tall, _UNIT // size))
    slices = max(1, _UNIT // (size * tall)) if rows == tall else 1
    for i in range(0, n, slices):
        for r in range(0, tall, rows):
            yield slice(i, min(i + slices, n)), slice(r, min(r + rows, tall))
