"""LPIPS's distance of pictures by VGG16's features (arXiv 1801.03924), from weights that the user has.

File: safetensors with `features.N.weight` and `.bias` as torchvision names them, and `lin0`..`lin4` (C,) if the
features are to be weighed as LPIPS does.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.errors import ModaError
from moda.weights.load import read_tensors

# VGG16: convolutions' widths between poolings; each stage's last output is compared
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Perceptual(nn.Module):
    """(B, 3, H, W) in -1..1, twice -> a scalar. Nothing of it is trained."""

    def __init__(self, path: Path) -> None:
        """Errors: ModaError for a file without the weights."""
        super().__init__()
        tensors = read_tensors(path)
        self.stages = nn.ModuleList()
        index, inputs = 0, 3
        for widths in STAGES:
            stage = nn.ModuleList()
            for width in widths:
                conv = nn.Conv2d(inputs, width, 3, padding=1)
                try:
                    weights = {k: tensors[f"features.{index}.{k}"].float() for k in ("weight", "bias")}
                    conv.load_state_dict(weights)
                except (KeyError, RuntimeError) as error:
                    raise ModaError(
                        f"{path} holds no VGG16: features.{index} is missing or misshapen"
                    ) from error
                stage.append(conv)
                index, inputs = index + 2, width
            self.stages.append(stage)
            index += 1
        self.linear = [
            tensors.get(f"lin{i}", torch.ones(widths[-1]) / widths[-1]).flatten()
            for i, widths in enumerate(STAGES)
        ]
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])
        self.requires_grad_(False)

    def forward(self, ours: Tensor, theirs: Tensor) -> Tensor:
        total = ours.new_zeros(())
        for a, b, weight in zip(self._features(ours), self._features(theirs), self.linear):
            total = total + (weight.to(a.device)[:, None, None] * (a - b) ** 2).sum(dim=1).mean()
        return total

    def _features(self, x: Tensor) -> list[Tensor]:
        x = ((x + 1) / 2 - self.get_buffer("mean")) / self.get_buffer("std")
        out = []
        for number, stage in enumerate(self.stages):
            x = F.max_pool2d(x, 2) if number else x
            for conv in stage.children():
                x = F.relu(conv(x))
            out.append(F.normalize(x, dim=1, eps=1e-10))
        return out
