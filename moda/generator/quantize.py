"""The large products in 8 bit on CPUs: weights by output channel, activations as they come, by tensor.

Of a network's work these products are all but the attention and the norms. What is computed once for a clip
(embedders, modulation) stays in float32.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from moda.generator.model import MotionTransformer


class QuantizedLinear(nn.Module):
    """A Linear whose weight is 8 bit; x has 7, because sums of 8-bit products can overflow on AVX2."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        scale = weight.detach().abs().amax(dim=1).clamp(min=1e-12).double() / 127
        zero = torch.zeros(len(weight), dtype=torch.int64)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # this way of making them is to go; its successor is another package
            quantized = torch.quantize_per_channel(weight.detach().float(), scale, zero, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(quantized, bias.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic(x, self.packed, True)


class QuantizedRows(nn.Module):
    """`RowLinear` in the parts that are asked for."""

    def __init__(self, linear: nn.Linear, bounds: list[int]) -> None:
        super().__init__()
        self.parts = {
            (start, stop): QuantizedLinear(linear.weight[start:stop], linear.bias[start:stop])
            for start, stop in zip(bounds, bounds[1:])
        }

    def rows(self, x: Tensor, start: int, stop: int) -> Tensor:
        return self.parts[start, stop](x)


def quantize(model: MotionTransformer) -> MotionTransformer:
    """Replace the blocks' products, in place. RuntimeError: no 8-bit products here."""
    width, hidden = model.config.width, model.config.hidden
    for block in (*model.blocks4, *model.blocks2):
        for stream in block.streams:
            for owner, name in ((stream, "qkv"), (stream, "out"), (stream.mlp, "fc1"), (stream.mlp, "fc2")):
                linear = getattr(owner, name)
                setattr(owner, name, QuantizedLinear(linear.weight, linear.bias))
    for block in model.blocks1:
        block.qkv_mlp = QuantizedRows(block.qkv_mlp, [0, width, 3 * width, 3 * width + hidden])
        block.out = QuantizedLinear(block.out.weight, block.out.bias)
    return model
