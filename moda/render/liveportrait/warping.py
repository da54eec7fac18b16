"""W, the warping network: the source's feature volume, moved as keypoints say -> features (64, 64, 256)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from moda.constants import KEYPOINTS
from moda.render.liveportrait.appearance import CHANNELS, DEPTH, halve
from moda.render.liveportrait.conv import WideConv2d, WideConv3d
from moda.render.liveportrait.reader import Reader

SIDE = 64
COMPRESSED = 4
MOTIONS = KEYPOINTS + 1  # the background's, which is none, first
VARIANCE = 0.01
_IN = MOTIONS * (1 + COMPRESSED)  # 110, a heatmap and the moved features for each motion
_PADDED = 112  # channels of the hourglass's input as it is stored: matrix products like multiples of 16
_OUT = 32 + _IN  # 142


@dataclass(frozen=True)
class WarpSource:
    """What of warping depends on the source alone."""

    volume: Tensor  # (1, 32, 16, 64, 64) float32, to sample from; a place in half precision is off by a tenth of a voxel
    compressed: Tensor  # (4, 16, 64, 64) float32
    keypoints: Tensor  # (21, 3) float32
    heat: Tensor  # (16, 64, 64, 21) float32: the gaussians about its keypoints


class Warping:
    def __init__(self, read: Reader) -> None:
        p = "dense_motion_network."
        w, b = read.plain(p + "compress", COMPRESSED, CHANNELS, 1, 1, 1, norm=p + "norm")
        self.compress = read.put(w.flatten(1).T).float(), read.put(b).float()
        self.hourglass = _Hourglass(read, p + "hourglass.")
        w, b = read.plain(p + "mask", MOTIONS, _OUT, 7, 7, 7)
        self.mask = WideConv3d(
            read.put(F.pad(w, (0, 0) * 3 + (0, self.hourglass.width - _OUT))), read.put(b), read.fast
        )
        w, b = read.plain(p + "occlusion", 1, _OUT * DEPTH, 7, 7)
        self.occlusion = WideConv2d(read.put(w), read.put(b), DEPTH, self.hourglass.width)
        self.third = read.conv(*read.plain("third.conv", 256, CHANNELS * DEPTH, 3, 3, norm="third.norm"))
        w, b = read.plain("fourth", 256, 256, 1, 1)
        self.fourth = read.put(w.flatten(1).T), read.put(b)
        self.dtype = read.dtype
        self.axes = [_axis(n).to(read.device) for n in (SIDE, SIDE, DEPTH)]  # x, y, z
        x, y, z = self.axes
        grid = torch.broadcast_tensors(x, y[:, None], z[:, None, None])
        self.grid = torch.stack(grid, dim=-1)  # (16, 64, 64, 3)
        read.finish()

    @torch.inference_mode()
    def prepare(self, volume: Tensor, keypoints: Tensor) -> WarpSource:
        """volume (16, 64, 64, 32) of F, keypoints (21, 3) -> everything that needs only them."""
        weight, bias = self.compress
        compressed = F.relu(volume.float() @ weight + bias)
        return WarpSource(
            volume=volume.float().movedim(-1, 0)[None].contiguous(),
            compressed=compressed.movedim(-1, 0).contiguous(),
            keypoints=keypoints.float(),
            heat=self._heat(keypoints[None].float())[0],
        )

    @torch.inference_mode()
    def __call__(self, source: WarpSource, driving: Tensor) -> Tensor:
        """driving keypoints (N, 21, 3) -> (N, 64, 64, 256)."""
        deformation, occlusion, _ = self.motion(source, driving)
        n = len(driving)
        volume = source.volume.expand(n, -1, -1, -1, -1)
        moved = F.grid_sample(volume, deformation, align_corners=False).to(self.dtype)  # zeros outside
        x = moved.flatten(1, 2).movedim(1, -1)  # the channel's index before the depth's
        x = F.leaky_relu(self.third(x), 0.01)
        weight, bias = self.fourth
        return (x @ weight + bias) * occlusion[..., None].to(x.dtype)

    def motion(self, source: WarpSource, driving: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """-> deformation (N, 16, 64, 64, 3), where each voxel looks in the source's volume, x, y, z in -1..1;
        occlusion (N, 64, 64) in 0..1; the masks' logits (N, 16, 64, 64, 22)."""
        shifts = source.keypoints - driving.float()  # (N, 21, 3)
        features = self.hourglass(self._describe(source, driving.float(), shifts))
        logits = self.mask(features).float()
        # The masks sum to one, so the mask-weighted mean of shifted grids is the grid plus the mean shift.
        mean_shift = logits.softmax(dim=-1)[..., 1:].flatten(1, 3) @ shifts
        deformation = self.grid + mean_shift.unflatten(1, (DEPTH, SIDE, SIDE))
        return deformation, torch.sigmoid(self.occlusion(features).float()), logits

    def _describe(self, source: WarpSource, driving: Tensor, shifts: Tensor) -> Tensor:
        """The hourglass's input (N, 16, 64, 64, 112)."""
        n = len(driving)
        x = torch.zeros(n, DEPTH, SIDE, SIDE, _PADDED, device=shifts.device, dtype=self.dtype)
        each = x[..., :_IN].unflatten(-1, (MOTIONS, 1 + COMPRESSED))
        each[..., 1:, 0] = self._heat(driving) - source.heat
        each[..., 0, 1:] = self._shifted(source.compressed, shifts.new_zeros(1, 3))[0].movedim(0, -1)
        for i in range(n):
            each[i, ..., 1:, 1:] = self._shifted(source.compressed, shifts[i]).permute(2, 3, 4, 0, 1)
        return x

    def _heat(self, keypoints: Tensor) -> Tensor:
        """(N, 21, 3) -> (N, 16, 64, 64, 21), a gaussian about each: the product of one along each axis."""
        x, y, z = (
            torch.exp((axis[:, None] - keypoints[:, None, :, i]).square() * (-0.5 / VARIANCE))
            for i, axis in enumerate(self.axes)
        )  # (N, size, 21) each
        return z[:, :, None, None] * (y[:, :, None] * x[:, None])[:, None]

    def _shifted(self, volume: Tensor, shifts: Tensor) -> Tensor:
        """volume (4, 16, 64, 64) looked at along the grid plus each shift (K, 3) -> (K, 4, 16, 64, 64).

        A shift by the same amount everywhere samples each axis for itself: three matrix products.
        """
        x, y, z = (_sampler(axis, shifts[:, i]) for i, axis in enumerate(self.axes))  # (K, size, size)
        k = len(shifts)
        channels = volume.shape[0]
        moved = z[:, None] @ volume.flatten(2)  # (K, 4, 16, 64 * 64)
        moved = moved.view(k, channels * DEPTH, SIDE, SIDE)
        moved = y[:, None] @ moved
        moved = moved.view(k, -1, SIDE) @ x.transpose(1, 2)
        return moved.view(k, channels, DEPTH, SIDE, SIDE)


def _axis(size: int) -> Tensor:
    return torch.linspace(-1, 1, size)


def _sampler(axis: Tensor, shifts: Tensor) -> Tensor:
    """Linear interpolation at axis + shift as a matrix (K, size, size): zeros outside, ends at the voxels' edges.

    The grid puts its ends at the outer voxels' centers, the sampling at their outer edges: so no shift is not
    quite the identity. The published network was trained so.
    """
    size = len(axis)
    at = ((axis + shifts[:, None] + 1) * size - 1) / 2  # (K, size) in voxels
    return F.relu(1 - (at[..., None] - torch.arange(size, device=axis.device)).abs())


class _Hourglass:
    """Five halvings and five doublings of height and width, each result beside the input of its size."""

    width = 32 + _PADDED  # channels that come back, the last two of them zero

    def __init__(self, read: Reader, prefix: str) -> None:
        widths = [min(1024, 32 * 2**i) for i in range(6)]  # 32, 64 .. 1024
        self.down, self.up = [], []
        for i in range(5):
            name = f"{prefix}encoder.down_blocks.{i}."
            ins = _IN if i == 0 else widths[i]
            w, b = read.plain(name + "conv", widths[i + 1], ins, 3, 3, 3, norm=name + "norm")
            self.down.append(read.conv(_pad_channels(w, 0, _PADDED - _IN if i == 0 else 0), b))
        for i in range(5):
            name = f"{prefix}decoder.up_blocks.{i}."
            out = widths[4 - i]
            ins = widths[5] if i == 0 else 2 * widths[5 - i]
            w, b = read.plain(name + "conv", out, ins, 3, 3, 3, norm=name + "norm")
            self.up.append(read.conv(w, b, enlarge=2))
        w, b = read.plain(prefix + "decoder.conv", _OUT, _OUT, 3, 3, 3, norm=prefix + "decoder.norm")
        extra = self.width - _OUT
        self.last = read.conv(_pad_channels(w, extra, extra), F.pad(b, (0, extra)))

    def __call__(self, x: Tensor) -> Tensor:
        """(N, D, H, W, 112) -> (N, D, H, W, 144)."""
        skips = [x]
        for conv in self.down:
            skips.append(halve(F.relu(conv(skips[-1]))))
        x = skips.pop()
        for conv in self.up:
            x = torch.cat([F.relu(conv(x)), skips.pop()], dim=-1)
        return F.relu(self.last(x))


def _pad_channels(weight: Tensor, out: int, ins: int) -> Tensor:
    """Zeros for further output and input channels."""
    return F.pad(weight, (0, 0) * 3 + (0, ins, 0, out))
