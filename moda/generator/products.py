"""A model's large products made quicker for a processor: packed, to the same numbers, or in 8 bit.

Of a network's work these products are all but the attention and the norms. What is computed once for a clip
(embedders, modulation) stays as it is. Both change a model in place: it then serves sampling alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from moda import elementwise
from moda.generator.model import MotionTransformer
from moda.packed import PackedLinear, can_pack

Make = Callable[[Tensor, Tensor], nn.Module]


class QuantizedLinear(nn.Module):
    """A Linear whose weight is 8 bit, by output channel; x has 7, by tensor: sums of 8-bit products can overflow on AVX2."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        scale = weight.detach().abs().amax(dim=1).clamp(min=1e-12).double() / 127
        zero = torch.zeros(len(weight), dtype=torch.int64)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is to go some day; its successor is another package
            quantized = torch.quantize_per_channel(weight.detach().float(), scale, zero, 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(quantized, bias.detach().float())

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        y = torch.ops.quantized.linear_dynamic(x, self.packed, True)
        return elementwise.gelu(y) if gelu else y


class Rows(nn.Module):
    """`Linear` in the parts that are asked for."""

    def __init__(self, linear: nn.Linear, bounds: list[int], make: Make) -> None:
        super().__init__()
        self.parts = {
            (start, stop): make(linear.weight[start:stop], linear.bias[start:stop])
            for start, stop in zip(bounds, bounds[1:])
        }

    def rows(self, x: Tensor, start: int, stop: int, gelu: bool = False) -> Tensor:
        return self.parts[start, stop](x, gelu)


def quantize(model: MotionTransformer) -> MotionTransformer:
    """The blocks' products in 8 bit. RuntimeError: there are none here."""
    return _replace(model, QuantizedLinear)


def pack(model: MotionTransformer) -> MotionTransformer:
    """The blocks' products packed, where this machine can (moda.packed); else nothing changes."""
    return _replace(model, PackedLinear) if can_pack(model.final.weight) else model


def _replace(model: MotionTransformer, make: Make) -> MotionTransformer:
    width, hidden = model.config.width, model.config.hidden
    for block in (*model.blocks4, *model.blocks2):
        for stream in block.streams:
            for owner, name in ((stream, "qkv"), (stream, "out"), (stream.mlp, "fc1"), (stream.mlp, "fc2")):
                linear = getattr(owner, name)
                setattr(owner, name, make(linear.weight, linear.bias))
    for single in model.blocks1:
        rows = Rows(single.qkv_mlp, [0, width, 3 * width, 3 * width + hidden], make)
        for name, made in (("qkv_mlp", rows), ("out", make(single.out.weight, single.out.bias))):
            setattr(single, name, made)
    return model
