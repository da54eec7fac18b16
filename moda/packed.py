"""Matrix products whose weights were laid out for the processor once, by oneDNN.

torch's plain product hands float32 to MKL, which on an AMD processor with AVX-512 reaches 100 GFLOP/s a core where
oneDNN reaches 225; bfloat16 weights it lays out anew at every call. oneDNN's products take an activation along.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def can_pack(weight: Tensor) -> bool:
    """Whether this torch, on this machine, has packed products of this device and type."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    # With AVX2 alone MKL's products were measured to be the quicker ones.
    return weight.dtype == torch.float32 and torch.backends.cpu.get_cpu_capability() == "AVX512"


def can_halve(weight: Tensor) -> bool:
    """Whether this torch has products of float32 with weights kept in half precision (FBGEMM), and these are such."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and hasattr(torch.ops.quantized, "linear_prepack_fp16")
        and "fbgemm" in torch.backends.quantized.supported_engines
        and bool((weight.half().float() == weight).all())
    )


class PackedLinear(nn.Module):
    """y = x W^T + b, or gelu (by tanh) of it. weight: (out, in), bias: (out,) or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.bias = None if bias is None else bias.detach()
        self.packs = can_pack(weight)
        self.weight = weight.detach().contiguous()
        if self.packs:
            with torch.inference_mode(False), torch.no_grad():
                self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, None)

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        """(..., in) -> (..., out)."""
        if self.packs:
            activation: tuple[str, list, str] = ("gelu", [], "tanh") if gelu else ("none", [], "")
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *activation)
        y = F.linear(x, self.weight, self.bias)
        return F.gelu(y, approximate="tanh") if gelu else y

    def add(self, x: Tensor, to: Tensor) -> Tensor:
        """The product added to `to` (..., out)."""
        if self.packs:
            return torch.ops.mkldnn._linear_pointwise.binary(x, to, self.weight, self.bias, "add")
        return to + F.linear(x, self.weight, self.bias)


class HalfLinear:
    """PackedLinear for few rows x, whose time is that of reading W: half as many bytes, the same numbers."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.packed = torch.ops.quantized.linear_prepack_fp16(weight.detach(), bias.detach())
        self.product = torch.ops.quantized.linear_dynamic_fp16.default

    def __call__(self, x: Tensor, gelu: bool = False) -> Tensor:
        """(..., in) -> (..., out)."""
        y = self.product(x, self.packed)
        return F.gelu(y, approximate="tanh") if gelu else y


def for_few_rows(weight: Tensor, bias: Tensor) -> PackedLinear | HalfLinear:
    """The quickest of a stream's products: few rows come at a time, the weights are what takes time."""
    if not can_pack(weight) and can_halve(weight):
        return HalfLinear(weight, bias)
    return PackedLinear(weight, bias)
