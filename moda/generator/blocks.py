"""The transformer's two kinds of block: streams that attend jointly, and one stream of everything.

All are modulated by adaLN from c = time + emotion. A block is given its modulation instead of computing it
while it runs, because it is the same for all tokens, all segments and (but for the emotion) both guidance
branches of a step: see `MotionTransformer.modulation`.

Shapes: B batch, N tokens of a stream, D width, H heads, d = D / H.
Source: MoDA, arXiv 2507.03256, figure 2; MM-DiT, arXiv 2403.03206; single-stream blocks, arXiv 2302.05442.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.elementwise import gelu, rms_norm
from moda.generator.config import ModelConfig
from moda.generator.embed import Layout, Rope, rotate

M = TypeVar("M", bound=nn.Module)

Mod = Sequence[Tensor]  # a stream's adaLN: (B, 1, D) each, shift, 1 + scale, gate, in joint blocks twice


class Several(nn.ModuleList, Generic[M]):
    """A list of modules of one kind."""

    def __iter__(self) -> Iterator[M]:
        return cast(Iterator[M], super().__iter__())


def norm(x: Tensor) -> Tensor:
    """RMS norm over the width; the scale comes from adaLN."""
    return rms_norm(x, eps=1e-6)


class Linear(nn.Linear):
    """A Linear that may be asked for its GELU, and for some of its outputs.

    Its place may be taken by one with the same two methods: moda.generator.products.
    """

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        return _gelu(F.linear(x, self.weight, self.bias), gelu)

    def rows(self, x: Tensor, start: int, stop: int, gelu: bool = False) -> Tensor:
        return _gelu(F.linear(x, self.weight[start:stop], self.bias[start:stop]), gelu)


def _gelu(x: Tensor, wanted: bool) -> Tensor:
    return gelu(x) if wanted else x


class Mlp(nn.Module):
    """Linear-GELU(tanh)-Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2.forward(self.fc1.forward(x, gelu=True))


class HeadNorms(nn.Module):
    """RMS norms of every head's queries and keys, with a learned scale each."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.q = nn.RMSNorm(head_dim, eps=1e-5)
        self.k = nn.RMSNorm(head_dim, eps=1e-5)


def turned(heads: Tensor, scale: Tensor, rope: Rope) -> Tensor:
    """Queries or keys (B, N, ..., H, d), normed, scaled and turned by their tokens' angles."""
    return rotate(rms_norm(heads, eps=1e-5) * scale, rope)


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """q (B, N, H, d), k and v (B, M, H, d) -> (B, N, D); bias (1, M) is added to the logits."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)


class Stream(nn.Module):
    """What one stream owns in a joint block."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.modulation = nn.Linear(config.width, 6 * config.width)
        self.qkv = Linear(config.width, 3 * config.width)
        self.norms = HeadNorms(config.head_dim)
        self.out = Linear(config.width, config.width)
        self.mlp = Mlp(config.width, config.hidden)


class JointBlock(nn.Module):
    """Streams with weights of their own and one attention over all their tokens.

    Tokens of all streams lie in one tensor: what has no weights of a stream's own is done once.
    """

    def __init__(self, config: ModelConfig, streams: int) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.streams: Several[Stream] = Several(Stream(config) for _ in range(streams))

    def forward(self, x: Tensor, mods: Sequence[Mod], layout: Layout) -> Tensor:
        """(B, N, D), with the six numbers of every stream's adaLN -> (B, M, D), M > N where tokens part.

        Modules are asked by `forward`: what a call does besides takes as long as a small product.
        """
        streams = list(self.streams)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = zip(*mods)

        inner = map(torch.addcmul, shift, norm(x).split_with_sizes(layout.given, 1), scale)
        qkv = torch.cat([s.qkv.forward(part) for s, part in zip(streams, inner)], 1)
        if layout.source is not None:
            x, qkv = x.index_select(1, layout.source), qkv.index_select(1, layout.source)
        qkv = qkv.view(*x.shape[:2], 3, -1, self.head_dim)
        scales = torch.stack([m.weight for s in streams for m in (s.norms.q, s.norms.k)])
        scales = scales.view(-1, 2, 1, self.head_dim).index_select(0, layout.stream)
        q, k = turned(qkv[:, :, :2], scales, layout.rope).unbind(2)
        attended = attention(q, k, qkv[:, :, 2], layout.bias).split_with_sizes(layout.sizes, 1)

        out = [s.out.forward(part) for s, part in zip(streams, attended)]
        x = torch.cat(list(map(torch.addcmul, x.split_with_sizes(layout.sizes, 1), out, gate)), 1)
        inner = map(torch.addcmul, mlp_shift, norm(x).split_with_sizes(layout.sizes, 1), mlp_scale)
        out = [s.mlp.forward(part) for s, part in zip(streams, inner)]
        return torch.cat(list(map(torch.addcmul, x.split_with_sizes(layout.sizes, 1), out, mlp_gate)), 1)


class SingleBlock(nn.Module):
    """One stream; attention and MLP side by side, in and out through one matrix each."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.modulation = nn.Linear(config.width, 3 * config.width)
        self.hidden, self.head_dim = config.hidden, config.head_dim
        self.qkv_mlp = Linear(config.width, 3 * config.width + config.hidden)
        self.norms = HeadNorms(config.head_dim)
        self.out = Linear(config.width + config.hidden, config.width)

    def forward(self, x: Tensor, mod: Mod, rope: Rope, keep: int | None = None) -> Tensor:
        """(B, N, D) with the three numbers of adaLN -> (B, keep, D): the first `keep` tokens, or all.

        The others still serve as keys and values, but nothing else of them is computed.
        """
        shift, scale, gate = mod
        width = x.shape[-1]
        inner = torch.addcmul(shift, norm(x), scale)
        kept = inner[:, :keep]
        q = self.qkv_mlp.rows(kept, 0, width)
        kv = self.qkv_mlp.rows(inner, width, 3 * width)
        hidden = self.qkv_mlp.rows(kept, 3 * width, 3 * width + self.hidden, gelu=True)
        k, v = kv.view(*x.shape[:2], 2, -1, self.head_dim).unbind(2)
        k = turned(k, self.norms.k.weight, rope)
        q = turned(q.unflatten(-1, (-1, self.head_dim)), self.norms.q.weight, rope.first(keep))
        out = self.out.forward(torch.cat([attention(q, k, v), hidden], dim=-1))
        return torch.addcmul(x[:, :keep], out, gate)
