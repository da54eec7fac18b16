"""S, stitching and retargeting: three small networks on keypoints, and what they are for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from moda.constants import KEYPOINTS
from moda.render.liveportrait.reader import Reader

STITCHING = (126, 128, 128, 64, 65)
LIP = (65, 128, 128, 64, 63)
EYE = (66, 256, 256, 128, 128, 64, 63)


class Mlp:
    """Linear layers with ReLU between; (N, first width) -> (N, last width)."""

    def __init__(self, read: Reader, widths: tuple[int, ...]) -> None:
        self.layers = [read.linear(f"mlp.{2 * i}", *widths[i : i + 2]) for i in range(len(widths) - 1)]
        read.finish()

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = F.relu(F.linear(x, *layer))
        return F.linear(x, *self.layers[-1])


def stitch(network: Mlp, source: Tensor, driving: Tensor) -> Tensor:
    """Keypoints (N, 21, 3) of source and driving -> driving moved so that head and shoulders stay joined."""
    offsets = network(torch.cat([source.flatten(1), driving.flatten(1)], dim=1))
    k = 3 * KEYPOINTS
    moved = driving + offsets[:, :k].view_as(driving)
    moved[..., :2] += offsets[:, None, k:]
    return moved


def retarget(network: Mlp, source: Tensor, ratios: Tensor) -> Tensor:
    """Offsets (N, 21, 3) that open eyes (ratios (N, 3)) or lips (ratios (N, 2)): the source's and the wanted."""
    return network(torch.cat([source.flatten(1), ratios], dim=1)).view_as(source)
