"""Convolutions of channels-last maps: (N, H, W, C) or (N, D, H, W, C), stride 1, the size kept.

Two ways to the same numbers: by tiles or by FFT (fewer operations: processors), or the library's convolution
(GPUs, half precision). Nothing outside this file knows which.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from moda.render.liveportrait.tiles import F43, UP2, UP4, TileConv

_ALGORITHMS = {1: F43, 2: UP2, 4: UP4}


def enlarge_nearest(x: Tensor, times: int) -> Tensor:
    """(..., H, W, C) -> (..., H * times, W * times, C)."""
    return x.repeat_interleave(times, -3).repeat_interleave(times, -2) if times > 1 else x


class Conv:
    """3x3 or 3x3x3 (from the weight), of the map enlarged `enlarge` times in height and width."""

    def __init__(self, weight: Tensor, bias: Tensor | None, enlarge: int = 1, fast: bool = True) -> None:
        self.enlarge = enlarge
        self.tiles = TileConv(weight, bias, _ALGORITHMS[enlarge]) if fast else None
        if not fast:
            order = torch.channels_last if weight.ndim == 4 else torch.channels_last_3d
            self.weight, self.bias = weight.contiguous(memory_format=order), bias

    def __call__(self, x: Tensor) -> Tensor:
        return (
            self.tiles(x)
            if self.tiles
            else convolve(enlarge_nearest(x, self.enlarge), self.weight, self.bias)
        )

    def strips(self, x: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """The result in strips of rows (rows, (N, rows, W, out)), two dimensions only."""
        if self.tiles:
            yield from self.tiles.strips(x)
        else:
            yield slice(None), self(x)


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The library's convolution, stride 1, padded to keep the size; weight (out, in, taps...)."""
    run = F.conv2d if weight.ndim == 4 else F.conv3d
    return run(x.movedim(-1, 1), weight, bias, padding=weight.shape[-1] // 2).movedim(1, -1)


class WideConv3d:
    """7x7x7: over height and width as a product of Fourier transforms of tiles, over depth as a sum.

    weight: (out, in, 7, 7, 7). With tiles of 16x16 outputs, 12 times fewer operations than the plain sum.
    """

    TILE = 16

    def __init__(self, weight: Tensor, bias: Tensor, fast: bool = True) -> None:
        self.bias, self.fast = bias, fast
        self.out, self.taps = weight.shape[0], weight.shape[-1]
        if not fast:
            self.weight = weight
            return
        self.span = self.TILE + self.taps - 1
        spectrum = torch.fft.rfft2(
            weight.double(), s=(self.span, self.span)
        ).conj()  # (out, in, depth, f, f')
        self.frequencies = spectrum.shape[-2:]
        # One matrix a frequency: in -> depth taps x out.
        matrices = spectrum.permute(3, 4, 1, 2, 0).flatten(3).flatten(0, 1)
        self.weight = matrices.to(torch.complex64).contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """(N, D, H, W, in) -> (N, D, H, W, out)."""
        if not self.fast:
            return convolve(x, self.weight, self.bias)
        return torch.stack([self._one(item) for item in x])

    def _one(self, x: Tensor) -> Tensor:
        depth, height, width, channels = x.shape
        tile, span, half = self.TILE, self.span, self.taps // 2
        tiles_y, tiles_x = -(-height // tile), -(-width // tile)
        x = F.pad(x, (0, 0, half, tiles_x * tile - width + half, half, tiles_y * tile - height + half))
        y = x.new_empty(depth, tiles_y * tile, tiles_x * tile, self.out)
        for row in range(tiles_y):
            windows = x[:, row * tile :].as_strided(
                (span, span, depth, tiles_x, channels),
                (x.stride(1), x.stride(2), x.stride(0), tile * x.stride(2), 1),
            )
            spectrum = torch.fft.rfft2(windows, dim=(0, 1)).reshape(-1, depth * tiles_x, channels)
            products = torch.bmm(spectrum, self.weight).view(-1, depth, tiles_x, self.taps, self.out)
            total = products.new_zeros(len(products), depth, tiles_x, self.out)
            for tap in range(self.taps):
                shift = tap - half  # output d sums the products of input d + shift
                if abs(shift) < depth:
                    begin, end = max(0, -shift), depth - max(0, shift)
                    total[:, begin:end] += products[:, begin + shift : end + shift, :, tap]
            total = total.view(*self.frequencies, depth, tiles_x, self.out)
            part = torch.fft.irfft2(total, s=(span, span), dim=(0, 1))[:tile, :tile]
            target = y[:, row * tile : (row + 1) * tile].unflatten(2, (tiles_x, tile))
            torch.add(part.permute(2, 0, 3, 1, 4), self.bias, out=target)
        return y[:, :height, :width]


class WideConv2d:
    """7x7 over a volume whose depth counts as channels, to one map: one matrix product, then 49 shifted sums.

    weight: (1, channels * depth, 7, 7), the channel's index before the depth's.
    """

    def __init__(self, weight: Tensor, bias: Tensor, depth: int, channels: int) -> None:
        """channels: of the volume; those beyond the weight's count are ignored."""
        self.bias, self.taps = bias, weight.shape[-1]
        # Folding spreads each pixel's product to its neighbors, so the taps are turned about.
        w = weight[0].flip(1, 2).reshape(-1, depth, self.taps**2).transpose(0, 1)  # (depth, in, taps)
        self.weight = F.pad(w, (0, 0, 0, channels - w.shape[1])).contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """(N, D, H, W, in) -> (N, H, W)."""
        _, depth, height, width, _ = x.shape
        columns = x[:, 0].flatten(1, 2) @ self.weight[0]
        for d in range(1, depth):
            columns += x[:, d].flatten(1, 2) @ self.weight[d]
        folded = F.fold(columns.transpose(1, 2), (height, width), self.taps, padding=self.taps // 2)
        return folded[:, 0] + self.bias
