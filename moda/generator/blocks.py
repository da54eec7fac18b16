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

from moda.generator.config import ModelConfig
from moda.generator.embed import Rope, rotate

M = TypeVar("M", bound=nn.Module)


class Several(nn.ModuleList, Generic[M]):
    """A list of modules of one kind."""

    def __iter__(self) -> Iterator[M]:
        return cast(Iterator[M], super().__iter__())


def norm(x: Tensor) -> Tensor:
    """RMS norm over the width; the scale comes from adaLN."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-6)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift, norm(x), 1 + scale)


class Linear(nn.Linear):
    """A Linear that may be asked for its GELU, and for some of its outputs.

    Its place may be taken by one with the same two methods: moda.generator.products.
    """

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        return _gelu(super().forward(x), gelu)

    def rows(self, x: Tensor, start: int, stop: int, gelu: bool = False) -> Tensor:
        return _gelu(F.linear(x, self.weight[start:stop], self.bias[start:stop]), gelu)


def _gelu(x: Tensor, wanted: bool) -> Tensor:
    return F.gelu(x, approximate="tanh") if wanted else x


class Mlp(nn.Module):
    """Linear-GELU(tanh)-Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.fc2 = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(x, gelu=True))


class HeadNorms(nn.Module):
    """RMS norms, with a learned scale each, of every head's queries and keys; then their rotation."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.q = nn.RMSNorm(head_dim, eps=1e-5)
        self.k = nn.RMSNorm(head_dim, eps=1e-5)

    def both(self, qk: Tensor, rope: Rope | None) -> tuple[Tensor, Tensor]:
        """Queries and keys (B, N, 2, H, d) -> (B, N, H, d) each."""
        scale = torch.stack([self.q.weight, self.k.weight])[:, None]
        q, k = rotate(F.rms_norm(qk, qk.shape[-1:], eps=1e-5) * scale, rope).unbind(2)
        return q, k

    def query(self, q: Tensor, rope: Rope | None) -> Tensor:
        """(B, N, D) -> (B, N, H, d)."""
        return rotate(self.q(q.unflatten(-1, (-1, len(self.q.weight)))), rope)

    def key_value(self, kv: Tensor, rope: Rope | None) -> tuple[Tensor, Tensor]:
        """(B, N, 2D) -> (B, N, H, d) twice."""
        k, v = kv.unflatten(-1, (2, -1, len(self.k.weight))).unbind(-3)
        return rotate(self.k(k), rope), v


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """q (B, N, H, d), k and v (B, M, H, d) -> (B, N, D); bias (1, M) is added to the logits."""
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)


class Stream(nn.Module):
    """What one stream owns in a joint block: everything but the attention itself."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.modulation = nn.Linear(config.width, 6 * config.width)
        self.qkv = Linear(config.width, 3 * config.width)
        self.norms = HeadNorms(config.head_dim)
        self.out = Linear(config.width, config.width)
        self.mlp = Mlp(config.width, config.hidden)

    def attend(self, x: Tensor, mod: Tensor, rope: Rope | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, D) and mod (B, 6, 1, D) -> q, k, v (B, N, H, d)."""
        shift, scale = mod[:, 0], mod[:, 1]
        qkv = self.qkv(modulate(x, shift, scale)).unflatten(-1, (3, -1, len(self.norms.q.weight)))
        return *self.norms.both(qkv[:, :, :2], rope), qkv[:, :, 2]

    def finish(self, x: Tensor, attended: Tensor, mod: Tensor) -> Tensor:
        gate, shift, scale, mlp_gate = mod[:, 2:].unbind(1)
        x = torch.addcmul(x, self.out(attended), gate)
        return torch.addcmul(x, self.mlp(modulate(x, shift, scale)), mlp_gate)


class JointBlock(nn.Module):
    """Streams with weights of their own and one attention over all their tokens."""

    def __init__(self, config: ModelConfig, streams: int) -> None:
        super().__init__()
        self.streams: Several[Stream] = Several(Stream(config) for _ in range(streams))

    def forward(
        self,
        xs: Sequence[Tensor],
        mods: Sequence[Tensor],
        ropes: Sequence[Rope | None],
        bias: Tensor | None = None,
    ) -> list[Tensor]:
        """Streams (B, N_i, D) with mods (B, 6, 1, D) each -> the same shapes.

        bias: (1, sum of N_i) added to the logits of every key.
        """
        parts = [stream.attend(x, mod, rope) for stream, x, mod, rope in zip(self.streams, xs, mods, ropes)]
        q, k, v = (torch.cat(part, dim=1) for part in zip(*parts))
        pieces = attention(q, k, v, bias).split([x.shape[1] for x in xs], dim=1)
        return [stream.finish(x, piece, mod) for stream, x, piece, mod in zip(self.streams, xs, pieces, mods)]


class SingleBlock(nn.Module):
    """One stream; attention and MLP side by side, in and out through one matrix each."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.modulation = nn.Linear(config.width, 3 * config.width)
        self.hidden = config.hidden
        self.qkv_mlp = Linear(config.width, 3 * config.width + config.hidden)
        self.norms = HeadNorms(config.head_dim)
        self.out = Linear(config.width + config.hidden, config.width)

    def forward(self, x: Tensor, mod: Tensor, rope: Rope, keep: int | None = None) -> Tensor:
        """(B, N, D) with mod (B, 3, 1, D) -> (B, keep, D): the first `keep` tokens, or all.

        The others still serve as keys and values, but nothing else of them is computed.
        """
        shift, scale, gate = mod.unbind(1)
        width = x.shape[-1]
        inner = modulate(x, shift, scale)
        kept = inner[:, :keep]
        q = self.qkv_mlp.rows(kept, 0, width)
        kv = self.qkv_mlp.rows(inner, width, 3 * width)
        hidden = self.qkv_mlp.rows(kept, 3 * width, 3 * width + self.hidden, gelu=True)
        attended = attention(self.norms.query(q, rope.first(keep)), *self.norms.key_value(kv, rope))
        return torch.addcmul(x[:, :keep], self.out(torch.cat([attended, hidden], dim=-1)), gate)
