"""Layers of the autoencoder: attention in time and in space with rotary places, and the transformers of the planes.

Names are those of the released files. Source: PVDM, arXiv 2302.07685.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.render.triplane.config import TriplaneConfig

FASTEST = 5.0  # of the scales by which places in a picture are turned, from 1 on


@dataclass(frozen=True, eq=False)
class Rotary:
    """cos, sin: (N, head width), of N places."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """(..., N, head width), neighboring channels turned."""
        a, b = x[..., 0::2], x[..., 1::2]
        crossed = torch.stack([-b, a], dim=-1).flatten(-2)
        return x * self.cos.to(x.dtype) + crossed * self.sin.to(x.dtype)

    @classmethod
    def time(cls, frames: int, width: int, device: torch.device) -> Rotary:
        """As published: channels k and k + width / 2 share a frequency though neighbors are turned together."""
        frequency = 10000 ** (-torch.arange(0, width, 2, device=device).float() / width)
        angles = torch.arange(frames, device=device).float()[:, None] * frequency.repeat(2)
        return cls(angles.cos(), angles.sin())

    @classmethod
    def space(cls, side: int, width: int, device: torch.device) -> Rotary:
        """Half the channels turn with the row, half with the column; places from -1 to 1."""
        scales = torch.logspace(0, math.log2(FASTEST), width // 4, base=2, device=device)
        places = torch.linspace(-1, 1, side, device=device)[:, None] * scales * math.pi
        places = places.repeat_interleave(2, dim=-1)  # (L, width / 2)
        rows = places[:, None].expand(-1, side, -1)
        columns = places[None].expand(side, -1, -1)
        angles = torch.cat([rows, columns], dim=-1).flatten(0, 1)
        return cls(angles.cos(), angles.sin())


class Attention(nn.Module):
    """Heads over a packed projection without bias."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.to_qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * head_width, width), nn.Identity())

    def forward(self, x: Tensor, rotary: Rotary | None = None) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, self.head_width)).transpose(1, 3).unbind(2)
        if rotary:
            q, k = rotary(q), rotary(k)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.to_out(out.transpose(1, 2).flatten(-2))

    def of_equals(self, x: Tensor) -> Tensor:
        """What it gives where all tokens of a sequence equal x (..., C): attention over equal values is that value."""
        values = self.to_qkv.weight[2 * self.heads * self.head_width :]
        return self.to_out(F.linear(x, values))

    def first(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, C): the output at index 0 alone. Keys and values are never made: the query is carried over
        to the tokens, and their weighted mean through the values."""
        q, k, v = self.to_qkv.weight.unflatten(0, (3, self.heads, self.head_width)).unbind(0)
        query = F.linear(x[:, 0], q.flatten(0, 1)).unflatten(-1, (self.heads, self.head_width))
        query = torch.einsum("bhd,hdc->bhc", query, k) / math.sqrt(self.head_width)
        weights = (query @ x.transpose(1, 2)).softmax(dim=-1)
        out = torch.einsum("bhc,hdc->bhd", weights @ x, v)
        return self.to_out(out.flatten(-2))


class Gated(nn.Module):
    """value * GELU(gate), both of the same projection."""

    def forward(self, x: Tensor) -> Tensor:
        value, gate = x.chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int, gated: bool) -> None:
        super().__init__()
        act = Gated() if gated else nn.GELU()
        self.net = nn.Sequential(
            nn.Linear(width, 2 * hidden if gated else hidden), act, nn.Identity(), nn.Linear(hidden, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Normed(nn.Module):
    """A layer's norm, and what follows it."""

    fn: Any  # Attention or FeedForward

    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm, self.fn = nn.LayerNorm(width), fn


def _parts(layers: nn.ModuleList) -> Iterable[Iterable[Normed]]:
    """The layers' parts, in order."""
    return cast("Iterable[Iterable[Normed]]", layers)


class Stack(nn.Module):
    """The encoder's or the decoder's layers over tokens (B, T, L L, C): in time, in space, each token for itself."""

    def __init__(self, c: TriplaneConfig) -> None:
        super().__init__()
        self.config = c
        self.layers = nn.ModuleList(
            [
                nn.ModuleList(
                    [
                        Normed(c.channels, Attention(c.channels, c.heads, c.head_width)),
                        Normed(c.channels, Attention(c.channels, c.heads, c.head_width)),
                        Normed(c.channels, FeedForward(c.channels, 4 * c.channels, gated=True)),
                    ]
                )
                for _ in range(c.depth)
            ]
        )

    def forward(self, x: Tensor, still: bool = False) -> Tensor:
        """still: x is one frame (B, 1, L L, C) that stands for all of a clip whose frames are equal."""
        c = self.config
        batch = len(x)
        in_time = None if still else Rotary.time(c.frames, c.head_width, x.device)
        in_space = Rotary.space(c.side, c.head_width, x.device)
        for time, space, feed in _parts(self.layers):
            h = time.norm(x)
            if in_time is None:
                x = x + time.fn.of_equals(h)
            else:
                h = time.fn(h.transpose(1, 2).flatten(0, 1), in_time)
                x = x + h.unflatten(0, (batch, -1)).transpose(1, 2)
            h = space.fn(space.norm(x).flatten(0, 1), in_space)
            x = x + h.unflatten(0, (batch, -1))
            x = x + feed.fn(feed.norm(x))
        return x


class PlaneTransformer(nn.Module):
    """Sequences (B, N, C) -> what their first token becomes (B, C)."""

    def __init__(self, c: TriplaneConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.ModuleList(
                    [
                        Normed(c.channels, Attention(c.channels, c.plane_heads, c.channels // 8)),
                        Normed(c.channels, FeedForward(c.channels, c.plane_hidden, gated=False)),
                    ]
                )
                for _ in range(c.plane_depth)
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        last = len(self.layers) - 1
        for i, (attention, feed) in enumerate(_parts(self.layers)):
            h = attention.norm(x)
            if i == last:
                x = x[:, 0] + attention.fn.first(h)
            else:
                x = x + attention.fn(h)
            x = x + feed.fn(feed.norm(x))
        return x
