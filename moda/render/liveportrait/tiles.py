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
        if self.depth_taps == 3:
            return torch.stack([self._whole(item) for item in x])
        return self._whole(x)

    def _whole(self, x: Tensor) -> Tensor:
        n, height, width, _ = x.shape
        times = self.algorithm.enlarges
        y = x.new_empty(n, height * times, width * times, self.channels_out)
        for rows, strip in self.strips(x):
            y[:, rows] = strip
        return y

    def strips(self, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """The result of (N, H, W, in) in strips of rows: (rows, (N, rows, W', out)). N is depth, if it has taps.

        For whoever uses a strip while it is in the cache and never needs the whole.
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
        for top in range(0, tiles_y, tall):
            if tiles_y - top < tall:
                tall = tiles_y - top
                inner, outer = inner[:, :, :tall].contiguous(), outer[:, :, :tall].contiguous()
            if self.depth_taps == 3:
                inner[:, 0] = 0
                inner[:, -1] = 0
            above = top * k.step - 1  # of x, the band's first row
            begin, end = max(above, 0), min(above + band.shape[1], height)
            band[:, : begin - above] = 0
            band[:, begin - above : end - above, 1 : 1 + width] = x[:, begin:end]
            band[:, end - above :] = 0
            for i, r in _units(n, tall, k.inputs**2 * tiles_x * channels):
                window = band[i, r.start * k.step :]
                window = window.as_strided(
                    (k.inputs, k.inputs, len(window), r.stop - r.start, tiles_x, channels),
                    (band.stride(1), channels, band.stride(0), k.step * band.stride(1), k.step * channels, 1),
                )
                patches = window.reshape(k.inputs**2, -1)  # a copy, for tiles overlap
                i = slice(i.start + self.depth_taps // 2, i.stop + self.depth_taps // 2)
                torch.mm(self.to_products, patches, out=inner[:, i, r].flatten(1))
            rows, step = n * tall * tiles_x, tall * tiles_x
            matrices = inner.view(k.products**2, depth * step, channels)
            products = outer.view(k.products**2, rows, out)
            torch.bmm(matrices[:, :rows], self.weight[0], out=products)
            for tap in range(1, self.depth_taps):
                products.baddbmm_(matrices[:, tap * step : tap * step + rows], self.weight[tap])
            strip = x.new_empty(n, tall * k.outputs, tiles_x * k.outputs, out)
            blocks = strip.view(n, tall, k.outputs, tiles_x, k.outputs, out)
            for i, r in _units(n, tall, k.products**2 * tiles_x * out):
                results = self.to_outputs @ outer[:, i, r].flatten(1)
                block = blocks[i, r]
                results = results.view(k.outputs, k.outputs, len(block), -1, tiles_x, out)
                torch.add(results.permute(2, 3, 0, 4, 1, 5), self.bias, out=block)
            first = top * k.outputs
            last = min(first + tall * k.outputs, height * k.enlarges)
            yield slice(first, last), strip[:, : last - first, : width * k.enlarges]


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
