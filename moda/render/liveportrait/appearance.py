"""F, the appearance extractor: a 256x256 picture -> a volume of features (16, 64, 64, 32)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from moda.render.liveportrait.reader import Reader

DEPTH, CHANNELS = 16, 32


def halve(x: Tensor) -> Tensor:
    """(..., H, W, C) -> (..., H / 2, W / 2, C), the mean of each 2x2."""
    x = x[..., 0::2, :, :] + x[..., 1::2, :, :]
    return (x[..., 0::2, :] + x[..., 1::2, :]).mul_(0.25)


class Appearance:
    def __init__(self, read: Reader) -> None:
        self.first = read.conv(*read.plain("first.conv", 64, 3, 3, 3, norm="first.norm"))
        self.down = [
            read.conv(*read.plain(f"down_blocks.{i}.conv", 2 * c, c, 3, 3, norm=f"down_blocks.{i}.norm"))
            for i, c in enumerate((64, 128))
        ]
        w, b = read.plain("second", DEPTH * CHANNELS, 256, 1, 1)
        self.second = read.put(w.flatten(1).T), read.put(b)
        self.blocks = [_Residual(read, f"resblocks_3d.3dr{i}") for i in range(6)]
        read.finish()

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        """(N, 256, 256, 3) RGB in 0..1 -> (N, 16, 64, 64, 32)."""
        x = F.relu(self.first(image))
        for conv in self.down:
            x = halve(F.relu(conv(x)))
        weight, bias = self.second
        x = x @ weight + bias  # the channel's index before the depth's
        x = x.unflatten(-1, (CHANNELS, DEPTH)).movedim(-1, 1).contiguous()
        for block in self.blocks:
            x = block(x)
        return x


class _Residual:
    """x + conv2(relu(norm2(conv1(relu(norm1(x)))))), norm2 folded into conv1."""

    def __init__(self, read: Reader, prefix: str) -> None:
        shape = (CHANNELS, CHANNELS, 3, 3, 3)
        self.factor, self.offset = (read.put(t) for t in read.batch_norm(prefix + ".norm1", CHANNELS))
        self.conv1 = read.conv(*read.plain(prefix + ".conv1", *shape, norm=prefix + ".norm2"))
        self.conv2 = read.conv(*read.plain(prefix + ".conv2", *shape))

    def __call__(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(torch.addcmul(self.offset, x, self.factor)))
        return x + self.conv2(F.relu(y))
