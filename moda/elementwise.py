"""GELU and RMS norm in float32 on a processor, of operations that torch has vectorized: its own take twice as long there.

Elsewhere, and where the network is traced for another runtime, they are torch's.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

_SLOPE = math.sqrt(8 / math.pi)


def on_processor(x: Tensor) -> bool:
    """Whether x is float32 on a processor, and this is no tracing."""
    return x.is_cpu and x.dtype == torch.float32 and not torch.compiler.is_compiling()


@lru_cache
@torch.inference_mode(False)
def _constant(value: float) -> Tensor:
    return torch.tensor(value, device="cpu")


def gelu(x: Tensor) -> Tensor:
    """By tanh: x (1 + tanh(z / 2)) / 2 = x sigmoid(z), z = sqrt(8 / pi) (x + 0.044715 x^3)."""
    if not on_processor(x):
        return F.gelu(x, approximate="tanh")
    part = torch.addcmul(_constant(_SLOPE), x, x, value=0.044715 * _SLOPE).mul_(x).sigmoid_()
    return x * part if part.requires_grad else part.mul_(x)


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """x over the root of its last dimension's mean square + eps."""
    if not on_processor(x):
        return F.rms_norm(x, x.shape[-1:], eps=eps)
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x * torch.addcmul(_constant(eps), length, length, value=1 / x.shape[-1]).rsqrt_()
