"""Embedders: from numbers that mean something to vectors of width D; and the rotary position table."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TIME_FEATURES = 256  # numbers in the sinusoid of the time
TIME_PERIOD = 10_000.0  # its longest period
ROPE_BASE = 256.0  # segments are short, so the slowest frequency need not be slow


def sinusoid(time: Tensor) -> Tensor:
    """(B,) -> (B, 256): cosines, then sines, at frequencies 10000^(-j/128)."""
    half = TIME_FEATURES // 2
    # by exp, as the published model does: t = 1000 makes the last bits of a frequency visible
    exponents = -math.log(TIME_PERIOD) * torch.arange(half, dtype=torch.float32, device=time.device) / half
    angles = time.float()[:, None] * exponents.exp()
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Rope(NamedTuple):
    """cos, sin: (N, 1, head_dim), channels 2i and 2i+1 alike. turn: (N, 1, head_dim / 2) the same as complex numbers, where
    these are used."""

    cos: Tensor
    sin: Tensor
    turn: Tensor | None

    def first(self, n: int | None) -> Rope:
        """Of the first n tokens, or all."""
        return Rope(self.cos[:n], self.sin[:n], None if self.turn is None else self.turn[:n])


class Layout(NamedTuple):
    """How the tokens of a joint block's streams lie in one tensor.

    given: how many of each stream come in; source: (N,) which of them each of the block's tokens starts from, None: itself
    sizes: how many of each stream there are; stream: (N,) each token's
    bias: (1, N) added to each token's logit as a key, or None
    """

    given: list[int]
    source: Tensor | None
    sizes: list[int]
    stream: Tensor
    rope: Rope
    bias: Tensor | None


class Layouts(NamedTuple):
    """four: motion, audio, emotion, identity; parting: from these tokens to motion and all others; two: these.

    source: (4 frames,) which of the tokens of the four streams each later one starts from
    """

    four: Layout
    parting: Layout
    two: Layout
    source: Tensor


def layouts(frames: int, head_dim: int, like: Tensor) -> Layouts:
    """As `_layouts`; made anew for a graph that is exported, whose tensors must not be kept."""
    make = _layouts.__wrapped__ if torch.compiler.is_compiling() else _layouts
    return make(frames, head_dim, like.device, like.dtype)


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # kept for whoever comes next, who may be training
def _layouts(frames: int, head_dim: int, device: torch.device, dtype: torch.dtype) -> Layouts:
    """Among four streams emotion and identity carry no position, so their tokens are so many times the same one: one
    token serves, with the logarithm of how many added to its logit as a key. Later they have their frame's and part."""
    time = torch.arange(frames, dtype=torch.float32)
    bias = torch.zeros(1, 2 * frames + 2, dtype=dtype, device=device)
    bias[:, -2:] = math.log(frames)
    source = torch.arange(2 * frames + 2, device=device)
    source = torch.cat([source[:-2], source[-2:].repeat_interleave(frames)])

    def stream(sizes: list[int]) -> Tensor:
        return torch.cat([torch.full((n,), i, device=device) for i, n in enumerate(sizes)])

    rope = rope_table(torch.cat([time, time, torch.zeros(2)]), head_dim, device)
    sizes = [frames, frames, 1, 1]
    four = Layout(sizes, None, sizes, stream(sizes), rope, bias)
    sizes = [frames, 3 * frames]
    two = Layout(sizes, None, sizes, stream(sizes), rope_table(time.repeat(4), head_dim, device), None)
    return Layouts(four, two._replace(given=[frames, frames + 2], source=source), two, source)


def rope_table(position: Tensor, head_dim: int, device: torch.device) -> Rope:
    """For positions (N,) float32: channels 2i and 2i+1 turn at 256^(-2i/head_dim)."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    angles = position[:, None, None] * ROPE_BASE**-exponents
    cos, sin = angles.cos(), angles.sin()
    # Other runtimes know no complex numbers; here they take one pass instead of six.
    turn = torch.complex(cos, sin) if device.type == "cpu" and not torch.compiler.is_compiling() else None
    cos, sin = (x.repeat_interleave(2, dim=-1).to(device) for x in (cos, sin))
    return Rope(cos, sin, turn)


def rotate(x: Tensor, rope: Rope) -> Tensor:
    """Turn each pair of channels (2i, 2i+1) of x (B, N, ..., H, head_dim) by its token's angles."""
    shape = (-1, *[1] * (x.ndim - 3), x.shape[-1])
    if rope.turn is not None and x.dtype == torch.float32:
        turn = rope.turn.view(*shape[:-1], x.shape[-1] // 2)
        return torch.view_as_real(torch.view_as_complex(x.view(*x.shape[:-1], -1, 2)) * turn).flatten(-2)
    cos, sin = (t.to(x.dtype).view(shape) for t in (rope.cos, rope.sin))
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * cos + turned * sin


class Embedder(nn.Module):
    """Linear-SiLU-Linear: (..., inputs) -> (..., D)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.silu(self.fc1(x)))


class AudioEmbedder(nn.Module):
    """All layers of a frame's features to one token: (B, N, layers, audio_width) -> (B, N, D)."""

    def __init__(self, inputs: int, hidden: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.fc3 = nn.Linear(hidden, width)
        self.norm = nn.RMSNorm(width, eps=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        x = F.relu(self.fc1(features.flatten(2)))
        return self.norm(self.fc3(F.relu(self.fc2(x))))
