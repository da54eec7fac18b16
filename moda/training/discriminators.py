"""Discriminators of pictures and clips, and the losses of the autoencoder with and without them.

Names are those of the released form. Source: MoDiTalker's and PVDM's first stage (arXiv 2403.19144, 2302.07685).
"""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

WIDTHS = (64, 128, 256, 512)
LEAK = 0.2


class PatchDiscriminator(nn.Module):
    """4x4 (4x4x4) convolutions; the first three halve the sides."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
        norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims]
        self.model0 = nn.Sequential(conv(3, WIDTHS[0], 4, stride=2, padding=2), nn.LeakyReLU(LEAK))
        for i, (inputs, outputs) in enumerate(pairwise(WIDTHS), 1):
            stride = 2 if i < len(WIDTHS) - 1 else 1
            layers = [conv(inputs, outputs, 4, stride=stride, padding=2), norm(outputs), nn.LeakyReLU(LEAK)]
            setattr(self, f"model{i}", nn.Sequential(*layers))
        self.model4 = nn.Sequential(conv(WIDTHS[-1], 1, 4, stride=1, padding=2))
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                nn.init.normal_(module.weight, 0, 0.02)
            elif isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
                nn.init.normal_(module.weight, 1, 0.02)

    def forward(self, x: Tensor) -> list[Tensor]:
        """-> the output of every stage; the last are the logits."""
        out = []
        for name in ("model0", "model1", "model2", "model3", "model4"):
            x = self.get_submodule(name)(x)
            out.append(x)
        return out


class Discriminators(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.discriminator_2d, self.discriminator_3d = PatchDiscriminator(2), PatchDiscriminator(3)

    def forward(self, clip: Tensor, frame: Tensor) -> list[list[Tensor]]:
        """clip (B, 3, T, H, W), frame: (B,) which of each -> the stages of both."""
        return [self.discriminator_2d(clip[torch.arange(len(clip)), :, frame]), self.discriminator_3d(clip)]

    def frozen(self, clip: Tensor, frame: Tensor) -> list[list[Tensor]]:
        """The same, and no gradient reaches the discriminators."""
        state = {k: v.detach() for k, v in self.state_dict().items()}
        return cast(list[list[Tensor]], functional_call(self, state, (clip, frame)))


def generator_loss(judge: Discriminators, real: Tensor, fake: Tensor, frame: Tensor) -> Tensor:
    """-logits of the fake, and 4 times the distance of all inner stages from the real ones'."""
    with torch.no_grad():
        wanted = judge.frozen(real, frame)
    total = real.new_zeros(())
    for theirs, ours in zip(wanted, judge.frozen(fake, frame)):
        total = total - ours[-1].mean() + 4 * sum(F.l1_loss(o, t) for o, t in zip(ours[:-1], theirs[:-1]))
    return total


def discriminator_loss(judge: Discriminators, real: Tensor, fake: Tensor, frame: Tensor) -> Tensor:
    """Hinge, half of each."""
    total = real.new_zeros(())
    for r, f in zip(judge(real, frame), judge(fake.detach(), frame)):
        total = total + 0.5 * (F.relu(1 - r[-1]).mean() + F.relu(1 + f[-1]).mean())
    return total


def multi_scale(ours: Tensor, theirs: Tensor, scales: int = 3) -> Tensor:
    """Differences of neighboring pixels of pictures (B, 3, H, W) at several sizes: edges, where no perceptual network
    is at hand."""
    total = ours.new_zeros(())
    for _ in range(scales):
        for axis in (2, 3):
            total = total + F.l1_loss(ours.diff(dim=axis), theirs.diff(dim=axis))
        ours, theirs = F.avg_pool2d(ours, 2), F.avg_pool2d(theirs, 2)
    return total / scales
