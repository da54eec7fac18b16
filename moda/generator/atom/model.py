"""AToM's network: from noisy landmarks, speech and the first frame's face to landmarks without noise.

Its names are those of the released file, so that this loads key by key; what that file holds and nothing uses is not
here (moda.generator.atom.published). Source: MoDiTalker, arXiv 2403.19144.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.generator.atom.config import AtomConfig

LIPS_AND_JAW = (*range(17), *range(48, 68))
UPPER_FACE = tuple(range(17, 48))
TIME_TOKENS = 2
EPSILON = 1e-5


class Sinusoid(nn.Module):
    """(B,) times -> (B, width): sines, then cosines, of frequencies from 1 down to 1 / 10000."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, t: Tensor) -> Tensor:
        half = self.width // 2
        steps = torch.arange(half, device=t.device, dtype=torch.float32)
        angles = t.float()[:, None] * torch.exp(steps * (-math.log(10000) / (half - 1)))
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


def rotate(x: Tensor, positions: Tensor) -> Tensor:
    """(..., N, D) with neighboring pairs turned by position * 10000^(-2 i / D), over the whole width."""
    width = x.shape[-1]
    frequency = 1 / 10000 ** (torch.arange(0, width, 2, device=x.device)[: width // 2].float() / width)
    angles = positions.to(x.device).float()[:, None] * frequency
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)


class Attention(nn.Module):
    """Heads over one packed projection of queries, keys and values."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, N, D), (B, M, D), (B, M, D) -> (B, N, D)."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, w, b).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for x, w, b in zip((q, k, v), weights, biases)
        )
        dropout = self.dropout if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        return self.out_proj(out.transpose(1, 2).flatten(-2))


class EncoderLayer(nn.Module):
    def __init__(self, c: AtomConfig) -> None:
        super().__init__()
        self.self_attn = Attention(c.width, c.heads, c.dropout)
        self.linear1, self.linear2 = nn.Linear(c.width, c.hidden), nn.Linear(c.hidden, c.width)
        self.norm1, self.norm2 = nn.LayerNorm(c.width), nn.LayerNorm(c.width)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        h = self.norm1(x)
        turned = rotate(h, positions)
        x = x + self.dropout(self.self_attn(turned, turned, h))
        h = self.dropout(F.gelu(self.linear1(self.norm2(x))))
        return x + self.dropout(self.linear2(h))


class Film(nn.Module):
    """(1 + scale) y + shift, both from the conditioning vector, alike for all frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Mish(), nn.Linear(width, 2 * width))

    def forward(self, y: Tensor, tau: Tensor) -> Tensor:
        scale, shift = self.block(tau)[:, None].chunk(2, dim=-1)
        return (1 + scale) * y + shift


class DecoderLayer(nn.Module):
    """Lips look at speech, the upper face at itself; both meet in what they see of the face and the time."""

    def __init__(self, c: AtomConfig) -> None:
        super().__init__()
        self.residual = c.residual
        self.self_attn = Attention(c.width, c.heads, c.dropout)
        self.multihead_attn = Attention(c.width, c.heads, c.dropout)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(c.width) for _ in range(3))
        self.film1, self.film2, self.film3 = (Film(c.width) for _ in range(3))
        self.linear3 = nn.Linear(c.width, 2 * c.width)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, lips: Tensor, upper: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """(B, F, D) each."""
        at = memory.frames
        lips = lips + self.film1(self._itself(self.norm1(lips), at), memory.lips)
        upper = upper + self.film1(self._itself(self.norm1(upper), at), memory.upper)
        seen = self.multihead_attn(rotate(self.norm2(lips), at), memory.keys, memory.all)
        lips = lips + self.film2(self.dropout(seen), memory.lips)
        upper = upper + self.film2(self._itself(self.norm2(upper), at), memory.upper)
        s = lips + upper
        r = self.dropout(self.multihead_attn(rotate(self.norm3(s), at), memory.face_keys, memory.face))
        both = r + self.film3(r, memory.lips)
        return self.linear3(s + both if self.residual else both).chunk(2, dim=-1)

    def _itself(self, x: Tensor, at: Tensor) -> Tensor:
        turned = rotate(x, at)
        return self.dropout(self.self_attn(turned, turned, x))


class Decoder(nn.Module):
    def __init__(self, c: AtomConfig) -> None:
        super().__init__()
        self.stack = nn.ModuleList([DecoderLayer(c) for _ in range(c.layers)])

    def forward(self, lips: Tensor, upper: Tensor, memory: Memory) -> Tensor:
        for layer in self.stack:
            lips, upper = layer(lips, upper, memory)
        return torch.cat([lips, upper], dim=-1)


@dataclass(frozen=True, eq=False)
class Condition:
    """What speech and face say, whatever the time and the noise: normalized tokens, and a vector of each.

    audio (B, A, D), face (B, F, D); audio_hidden, face_hidden (B, D)
    """

    audio: Tensor
    face: Tensor
    audio_hidden: Tensor
    face_hidden: Tensor


@dataclass(frozen=True, eq=False)
class Memory:
    """What the decoder looks at: all tokens, those of time and face, both also turned by their places, and the
    conditioning vectors of lips and upper face. frames: (F,) the frames' places."""

    all: Tensor
    keys: Tensor
    face: Tensor
    face_keys: Tensor
    lips: Tensor
    upper: Tensor
    frames: Tensor


class MotionDecoder(nn.Module):
    """x_0 of (noisy residual r_t, time, audio, a_0); r and a in centimeters, x right, y up, z to the viewer."""

    def __init__(self, config: AtomConfig) -> None:
        super().__init__()
        c = self.config = config
        width = c.width
        self.null_cond_embed = nn.Parameter(torch.randn(1, c.tokens, width))
        self.null_cond_hidden = nn.Parameter(torch.randn(1, width))
        self.face_null_cond_embed = nn.Parameter(torch.randn(1, c.frames, width))
        self.time_mlp = nn.Sequential(Sinusoid(width), nn.Linear(width, 4 * width), nn.Mish())
        self.to_time_cond = nn.Sequential(nn.Linear(4 * width, width))
        self.to_time_tokens = nn.Sequential(nn.Linear(4 * width, TIME_TOKENS * width))
        self.cond_projection = nn.Linear(c.audio_width, width)
        self.cond_encoder = nn.ModuleList([EncoderLayer(c) for _ in range(c.encoder_layers)])
        self.face_projection = nn.Linear(c.numbers, width)
        self.face_encoder = nn.ModuleList([EncoderLayer(c) for _ in range(c.encoder_layers)])
        self.non_attn_cond_projection = _hidden(width)
        self.non_attn_face_projection = _hidden(width)
        self.norm_cond = nn.LayerNorm(width)
        self.input_projection_lip = nn.Linear(3 * len(LIPS_AND_JAW), width)
        self.input_projection_wo_lip = nn.Linear(3 * len(UPPER_FACE), width)
        self.seqTransDecoder = Decoder(c)
        self.final_layer = nn.Linear(2 * width, c.numbers)

    def condition(self, audio: Tensor, face: Tensor, drop: Tensor) -> Condition:
        """audio (B, A, audio width), face: a_0 (B, F or 1, 204), drop (B,) bool: samples that know neither."""
        config = self.config
        frames = torch.arange(config.frames)
        places = torch.arange(config.tokens)
        c = self.cond_projection(audio)
        for layer in self.cond_encoder:
            c = layer(c, places / config.audio_tokens if config.aligned else places)
        f = self.face_projection(face).expand(-1, config.frames, -1)
        for layer in self.face_encoder:
            f = layer(f, frames)
        gone = drop[:, None, None]
        c = torch.where(gone, self.null_cond_embed, c)
        f = torch.where(gone, self.face_null_cond_embed, f)
        h_c = torch.where(drop[:, None], self.null_cond_hidden, self.non_attn_cond_projection(c.mean(dim=1)))
        h_f = self.non_attn_face_projection(f.mean(dim=1))
        return Condition(self.norm_cond(c), self.norm_cond(f), h_c, h_f)

    def forward(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """x (B, F, 204), t (B,) -> (B, F, 204)."""
        points = x.unflatten(-1, (-1, 3))
        lips = self.input_projection_lip(points[:, :, list(LIPS_AND_JAW)].flatten(2))
        upper = self.input_projection_wo_lip(points[:, :, list(UPPER_FACE)].flatten(2))
        return self.final_layer(self.seqTransDecoder(lips, upper, self._memory(t, condition)))

    def _memory(self, t: Tensor, condition: Condition) -> Memory:
        config = self.config
        sinusoid, *rest = self.time_mlp
        hidden = sinusoid(t).to(condition.audio.dtype)
        for layer in rest:
            hidden = layer(hidden)
        time = self.norm_cond(self.to_time_tokens(hidden).unflatten(-1, (TIME_TOKENS, -1)))
        everything = torch.cat([condition.audio, time, condition.face], dim=1)
        face = torch.cat([time, condition.face], dim=1)
        tau, h_c, h_f = self.to_time_cond(hidden), condition.audio_hidden, condition.face_hidden
        lips = tau + h_f + h_c if config.separate else tau + 2 * h_f + h_c
        frames, tokens = torch.arange(config.frames), torch.arange(config.tokens)
        if config.aligned:  # frames, and what belongs to them, lie at the same places
            times = torch.arange(TIME_TOKENS) + config.frames
            places = torch.cat([tokens / config.audio_tokens, times, frames])
            face_places = torch.cat([times, frames])
        else:
            places, face_places = torch.arange(everything.shape[1]), torch.arange(face.shape[1])
        return Memory(
            everything,
            rotate(everything, places),
            face,
            rotate(face, face_places),
            lips,
            tau + h_f if config.separate else lips,
            frames,
        )


def _hidden(width: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
