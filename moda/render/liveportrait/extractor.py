"""M, the motion extractor: a 256x256 picture -> keypoints, pose and expression. ConvNeXt V2, tiny.

Source: arXiv 2301.00808 (the blocks), arXiv 2407.03168 (the heads).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from moda.render.liveportrait.reader import Reader

DEPTHS, WIDTHS = (3, 3, 9, 3), (96, 192, 384, 768)
HEADS = {"kp": 63, "pitch": 66, "yaw": 66, "roll": 66, "t": 3, "exp": 63, "scale": 1}
_EPS = 1e-6


class Extractor:
    def __init__(self, read: Reader) -> None:
        d = "detector."
        self.stem = _Conv(read, d + "downsample_layers.0.0", 3, WIDTHS[0], 4)
        self.stem_norm = _Norm(read, d + "downsample_layers.0.1", WIDTHS[0])
        self.shrink = [
            (
                _Norm(read, f"{d}downsample_layers.{i}.0", WIDTHS[i - 1]),
                _Conv(read, f"{d}downsample_layers.{i}.1", WIDTHS[i - 1], WIDTHS[i], 2),
            )
            for i in (1, 2, 3)
        ]
        self.stages = [
            [_Block(read, f"{d}stages.{i}.{j}", width) for j in range(depth)]
            for i, (depth, width) in enumerate(zip(DEPTHS, WIDTHS))
        ]
        self.norm = _Norm(read, d + "norm", WIDTHS[-1])
        self.heads = {name: read.linear(f"{d}fc_{name}", WIDTHS[-1], size) for name, size in HEADS.items()}
        read.finish()

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """(N, 256, 256, 3) RGB in 0..1 -> the raw heads by name, (N, size): angles as 66 bins."""
        x = self.stem_norm(self.stem(image))
        for i, stage in enumerate(self.stages):
            if i:
                norm, conv = self.shrink[i - 1]
                x = conv(norm(x))
            for block in stage:
                x = block(x)
        x = self.norm(x.mean(dim=(1, 2)))
        return {name: F.linear(x, *head).float() for name, head in self.heads.items()}


class _Norm:
    """Layer norm over channels, the last dimension."""

    def __init__(self, read: Reader, prefix: str, width: int) -> None:
        self.weight, self.bias = (read.put(t) for t in read.plain(prefix, width))

    def __call__(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, _EPS)


class _Conv:
    """Patches of k x k pixels, side by side, to one pixel each."""

    def __init__(self, read: Reader, prefix: str, width_in: int, width_out: int, k: int) -> None:
        w, b = read.plain(prefix, width_out, width_in, k, k)
        self.k, self.weight, self.bias = k, read.put(w.permute(0, 2, 3, 1).flatten(1)), read.put(b)

    def __call__(self, x: Tensor) -> Tensor:
        n, h, w, c = x.shape
        patches = x.reshape(n, h // self.k, self.k, w // self.k, self.k, c).transpose(2, 3).flatten(3)
        return F.linear(patches, self.weight, self.bias)


class _Block:
    """x + pwconv2(grn(gelu(pwconv1(norm(dwconv(x))))))."""

    def __init__(self, read: Reader, prefix: str, width: int) -> None:
        self.depthwise = tuple(read.put(t) for t in read.plain(prefix + ".dwconv", width, 1, 7, 7))
        self.norm = _Norm(read, prefix + ".norm", width)
        self.up = read.linear(prefix + ".pwconv1", width, 4 * width)
        self.gamma, self.beta = (
            read.put(read.take(f"{prefix}.grn.{part}", 1, 1, 1, 4 * width)) for part in ("gamma", "beta")
        )
        self.down = read.linear(prefix + ".pwconv2", 4 * width, width)

    def __call__(self, x: Tensor) -> Tensor:
        weight, bias = self.depthwise
        y = F.conv2d(x.movedim(-1, 1), weight, bias, padding=3, groups=len(weight)).movedim(1, -1)
        y = F.gelu(F.linear(self.norm(y), *self.up))
        size = torch.linalg.vector_norm(y, dim=(1, 2), keepdim=True)  # global response normalization
        y = torch.addcmul(self.beta, y, 1 + self.gamma * size / (size.mean(dim=-1, keepdim=True) + _EPS))
        return x + F.linear(y, *self.down)
