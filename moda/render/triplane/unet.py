"""The UNet over planes: one two-dimensional network for all three, joined by an attention after every block.

Names are those of the released form. Source: PVDM, arXiv 2302.07685; its blocks: arXiv 2105.05233.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.render.triplane.config import TriplaneConfig, UNetConfig

PREFIX = "diffusion_model."  # of the released names


@dataclass(frozen=True, eq=False)
class Planes:
    """xy: (B, C, h, w). yt, xt: (2 B, C, t, w), one after the other: of one shape, so they go through as one batch."""

    xy: Tensor
    t: Tensor

    @classmethod
    def split(cls, x: Tensor, c: TriplaneConfig) -> Planes:
        """(B, C, length) -> the planes."""
        xy, yt, xt = x.split(c.plane_sizes, dim=-1)
        t = torch.cat([yt, xt])
        return cls(xy.unflatten(-1, (c.side, c.side)), t.unflatten(-1, (c.frames, c.side)))

    def joined(self) -> Tensor:
        """-> (B, C, length)."""
        yt, xt = self.t.flatten(2).chunk(2)
        return torch.cat([self.xy.flatten(2), yt, xt], dim=-1)

    def with_(self, joined: Tensor) -> Planes:
        """The same shapes with the numbers of (B, C, length)."""
        size = self.t[0, 0].numel()
        xy, yt, xt = joined.split([joined.shape[-1] - 2 * size, size, size], dim=-1)
        return Planes(xy.reshape(self.xy.shape), torch.cat([yt, xt]).reshape(self.t.shape))

    def beside(self, other: Planes) -> Planes:
        return Planes(torch.cat([self.xy, other.xy], dim=1), torch.cat([self.t, other.t], dim=1))


class ResBlock(nn.Module):
    """resize: 0.5 or 2 makes the picture smaller or larger on its way."""

    def __init__(self, inputs: int, outputs: int, time: int, groups: int, resize: float = 1.0) -> None:
        super().__init__()
        self.resize = resize
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * outputs))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, outputs), nn.SiLU(), nn.Identity(), nn.Conv2d(outputs, outputs, 3, padding=1)
        )
        nn.init.zeros_(cast(nn.Conv2d, self.out_layers[3]).weight)
        nn.init.zeros_(cast(Tensor, cast(nn.Conv2d, self.out_layers[3]).bias))
        self.skip_connection = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        """x (B, C, h, w), e (B, time width)."""
        norm, act, conv = self.in_layers
        h = act(norm(x))
        if self.resize == 2:
            h, x = (F.interpolate(a, scale_factor=2, mode="nearest") for a in (h, x))
        elif self.resize == 0.5:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        h = conv(h)
        scale, shift = self.emb_layers(e)[:, :, None, None].chunk(2, dim=1)
        norm, *rest = self.out_layers
        h = norm(h) * (1 + scale) + shift
        for layer in rest:
            h = layer(h)
        return self.skip_connection(x) + h


class AttentionBlock(nn.Module):
    """All places look at all others. Channels of the projection are head by head: q, k and v of each."""

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, width)
        self.qkv = nn.Conv1d(width, 3 * width, 1)
        self.proj_out = nn.Conv1d(width, width, 1)
        nn.init.zeros_(self.proj_out.weight)
        nn.init.zeros_(cast(Tensor, self.proj_out.bias))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) -> the same."""
        flat = x.flatten(2)
        qkv = self.qkv(self.norm(flat)).unflatten(1, (self.heads, 3, -1)).transpose(-1, -2)
        h = F.scaled_dot_product_attention(*(part.contiguous() for part in qkv.unbind(2)))
        return (flat + self.proj_out(h.transpose(-1, -2).flatten(1, 2))).reshape(x.shape)


class Blocks(nn.ModuleList):
    """What one step of the ladder does within a plane."""

    def forward(self, planes: Planes, e: Tensor) -> Planes:
        return Planes(self._one(planes.xy, e), self._one(planes.t, e.repeat(2, 1)))

    def _one(self, x: Tensor, e: Tensor) -> Tensor:
        for block in self:
            x = block(x, e) if isinstance(block, ResBlock) else block(x)
        return x


def sinusoid(t: Tensor, width: int) -> Tensor:
    """(B,) -> (B, width): cosines, then sines."""
    half = width // 2
    frequency = torch.exp(torch.arange(half, device=t.device).float() * (-math.log(10000) / half))
    angles = t.float()[:, None] * frequency
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class PlaneUNet(nn.Module):
    """The noise in a latent, of (latent with noise, conditions, time)."""

    def __init__(self, config: UNetConfig, planes: TriplaneConfig) -> None:
        super().__init__()
        c = self.config = config
        self.planes = planes
        time = 4 * c.width
        self.time_embed = nn.Sequential(nn.Linear(c.width, time), nn.SiLU(), nn.Linear(time, time))
        self.input_blocks = nn.ModuleList([Blocks([nn.Conv2d(c.inputs, c.width, 3, padding=1)])])
        self.input_attns = nn.ModuleList([nn.Identity()])
        width, skips = c.width, [c.width]
        last = len(c.multipliers) - 1
        for level, multiplier in enumerate(c.multipliers):
            for _ in range(c.blocks):
                out = c.width * multiplier
                self._down(width, out, level in c.attention, 1)
                width = out
                skips.append(width)
            if level < last:
                self._down(width, width, False, 0.5)
                skips.append(width)
        self.middle_block = Blocks(
            [
                ResBlock(width, width, time, c.groups),
                self._look(width),
                ResBlock(width, width, time, c.groups),
            ]
        )
        self.mid_attn = self._look(width)
        self.output_blocks, self.output_attns = self._output(width, skips, c.attention)
        self.out = nn.Sequential(
            nn.GroupNorm(c.groups, c.width), nn.SiLU(), nn.Conv2d(c.width, c.outputs, 3, padding=1)
        )
        nn.init.zeros_(cast(nn.Conv2d, self.out[2]).weight)
        nn.init.zeros_(cast(Tensor, cast(nn.Conv2d, self.out[2]).bias))
        self._skips, self._width = skips, width

    def _look(self, width: int) -> AttentionBlock:
        return AttentionBlock(width, self.config.heads, self.config.groups)

    def _down(self, inputs: int, outputs: int, looks: bool, resize: float) -> None:
        c = self.config
        block: list[nn.Module] = [ResBlock(inputs, outputs, 4 * c.width, c.groups, resize)]
        self.input_blocks.append(Blocks(block + ([self._look(outputs)] if looks else [])))
        self.input_attns.append(self._look(outputs))

    def _output(
        self, width: int, skips: list[int], attention: tuple[int, ...]
    ) -> tuple[nn.ModuleList, nn.ModuleList]:
        c, skips = self.config, list(skips)
        blocks, joins = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(len(c.multipliers))):
            for i in range(c.blocks + 1):
                out = c.width * c.multipliers[level]
                made: list[nn.Module] = [ResBlock(width + skips.pop(), out, 4 * c.width, c.groups)]
                if level in attention:
                    made.append(self._look(out))
                if level and i == c.blocks:
                    made.append(ResBlock(out, out, 4 * c.width, c.groups, 2))
                blocks.append(Blocks(made))
                joins.append(self._look(out))
                width = out
        return blocks, joins

    def forward(self, x: Tensor, conditions: Tensor, t: Tensor) -> Tensor:
        """x (B, latent, length), conditions (B, inputs - latent, length), t (B,) -> (B, latent, length)."""
        e = self.time_embed(sinusoid(t, self.config.width).to(x.dtype))
        h = Planes.split(torch.cat([x, conditions], dim=1), self.planes)
        kept: list[Planes] = []
        for block, join in zip(self.input_blocks, self.input_attns):
            h = block(h, e)
            h = h if isinstance(join, nn.Identity) else h.with_(join(h.joined()))
            kept.append(h)
        h = self.middle_block(h, e)
        h = h.with_(self.mid_attn(h.joined()))
        for block, join in zip(self.output_blocks, self.output_attns):
            h = block(h.beside(kept.pop()), e)
            h = h.with_(join(h.joined()))
        return Planes(self.out(h.xy), self.out(h.t)).joined()

    def unused(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of what the released form holds and nothing uses: a second way out, without attention in
        its planes."""
        blocks, joins = self._output(self._width, self._skips, ())
        both = {"output_bg_blocks": blocks, "output_bg_attns": joins}
        return {
            f"{name}.{key}": tuple(v.shape)
            for name, part in both.items()
            for key, v in part.state_dict().items()
        }


def load_published(
    tensors: Mapping[str, Tensor], who: str, config: UNetConfig, planes: TriplaneConfig
) -> PlaneUNet:
    """A state dict in the released form -> the network. Errors: ModaError naming what is missing, left over or
    misshapen."""
    from moda.weights.load import check, strict_load

    with torch.device("meta"):
        model = PlaneUNet(config, planes)
        extra = {name: torch.empty(shape) for name, shape in model.unused().items()}
    wanted = {PREFIX + name: tensor for name, tensor in (model.state_dict() | extra).items()}
    check(wanted, tensors, who)
    strict_load(model, {name: tensors[PREFIX + name] for name in model.state_dict()}, who)
    return model.eval()
