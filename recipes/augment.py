"""Making few voices many, on log-mel: throat length, room, microphone, loudness, noise, gaps.

All on (B, T, 80) natural-log mel power, each example with its own draw.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from moda.audio.mel import BANDS, FLOOR


def augment(mel: Tensor, rng: torch.Generator) -> Tensor:
    mel = warp_bands(mel, rng)
    power = (mel.exp() - FLOOR).clamp_min(0)
    power = reverberate(power, tails(len(mel), rng)) * (channel(len(mel), rng) + gain(len(mel), rng)).exp()
    power = power + noise(power, rng) + babble(power, rng)
    return mask((power + FLOOR).log(), rng)


def uniform(rng: torch.Generator, shape, low: float, high: float) -> Tensor:
    return torch.rand(shape, generator=rng) * (high - low) + low


def chance(rng: torch.Generator, count: int, p: float) -> Tensor:
    """(B, 1, 1) of 0 and 1."""
    return (torch.rand(count, 1, 1, generator=rng) < p).float()


def warp_bands(mel: Tensor, rng: torch.Generator) -> Tensor:
    """Another length of the vocal tract: frequencies times 0.84 to 1.19."""
    factor = torch.exp(uniform(rng, (len(mel), 1), -0.17, 0.17))
    band = torch.arange(BANDS, dtype=torch.float32)
    # Slaney's scale: linear below 1 kHz (band 27 of 80 or so), logarithmic above; a warp is a shift up there.
    knee, per_log = 26.0, 53.0 / math.log(8.0)
    hz = torch.where(band < knee, band / knee, ((band - knee) / per_log).exp())
    hz = hz * factor
    at = torch.where(hz < 1, hz * knee, knee + per_log * hz.clamp_min(1e-3).log()).clamp(0, BANDS - 1.001)
    low = at.floor().long()
    part = (at - low)[:, None]
    index = low[:, None].expand(-1, mel.shape[1], -1)
    return mel.gather(2, index) * (1 - part) + mel.gather(2, index + 1) * part


def channel(count: int, rng: torch.Generator) -> Tensor:
    """(B, 1, 80) a smooth colour of microphone and room, natural-log power; at times no lows or no highs."""
    x = torch.linspace(0, 1, BANDS)
    curve = torch.zeros(count, BANDS)
    for k, size in ((1, 1.0), (2, 0.6), (3, 0.4), (5, 0.3)):
        curve += (
            size
            * torch.randn(count, 1, generator=rng)
            * torch.cos(math.pi * (k * x + uniform(rng, (count, 1), 0, 2)))
        )
    cut = uniform(rng, (count, 1), 0.72, 1.6)  # low-pass at 3 kHz or above, for a third of them
    floor = uniform(rng, (count, 1), -0.9, 0.08)
    curve -= 40 * (x - cut).clamp_min(0) + 60 * (floor - x).clamp_min(0)
    return curve[:, None]


def gain(count: int, rng: torch.Generator) -> Tensor:
    """(B, 1, 1) natural-log power: 22 dB down to 13 dB up."""
    return uniform(rng, (count, 1, 1), -5.0, 3.0)


def tails(count: int, rng: torch.Generator) -> Tensor:
    """(B, 41) kernels over a frame and the 40 before it: a decaying tail, 0.1 to 0.5 s to -60 dB, for a quarter of them."""
    fade = uniform(rng, (count, 1), 0.1, 0.5)
    wet = uniform(rng, (count, 1), 0.02, 0.25) * chance(rng, count, 0.25)[:, :, 0]
    decay = torch.exp(-13.8 * torch.arange(1, 41) / 100 / fade)
    return torch.cat([torch.ones(count, 1), wet * decay], dim=1).flip(1)


def reverberate(power: Tensor, kernel: Tensor) -> Tensor:
    """(B, T, 80) power with the tails of `kernel` (B, 41)."""
    padded = torch.nn.functional.pad(power.transpose(1, 2), (40, 0))
    # bands as batch, examples as groups
    out = torch.nn.functional.conv1d(padded.transpose(0, 1), kernel[:, None], groups=len(power))
    return out.transpose(0, 1).transpose(1, 2)


def noise(power: Tensor, rng: torch.Generator) -> Tensor:
    """Coloured noise 10 to 55 dB under the loud parts."""
    b, t, _ = power.shape
    level = power.mean(2).quantile(0.9, dim=1)[:, None, None].clamp_min(1e-5)
    ratio = uniform(rng, (b, 1, 1), -12.5, -2.3).exp()
    tone = torch.exp(
        -torch.linspace(0, 1, BANDS) * uniform(rng, (b, 1, 1), -1.0, 5.0) + 0.4 * channel(b, rng)
    )
    grain = -(torch.rand(b, t, BANDS, generator=rng).clamp_min(1e-6)).log()
    return level * ratio * tone * (0.5 * grain + 0.5)


def babble(power: Tensor, rng: torch.Generator) -> Tensor:
    """Someone else, well below, for one in ten."""
    ratio = uniform(rng, (len(power), 1, 1), -7.0, -3.5).exp() * chance(rng, len(power), 0.1)
    other = power.roll(1, dims=0)
    level = power.mean((1, 2), keepdim=True) / other.mean((1, 2), keepdim=True).clamp_min(1e-6)
    return ratio * level.clamp(max=100) * other


def mask(mel: Tensor, rng: torch.Generator) -> Tensor:
    """One band of up to 14 covered, and up to 0.1 s twice (SpecAugment), at the floor's or the mean's height."""
    b, t, f = mel.shape
    mean = mel.mean((1, 2), keepdim=True)
    frame, band = torch.arange(t)[None, :, None], torch.arange(f)[None, None, :]
    width = uniform(rng, (b, 1, 1), 0, 14) * chance(rng, b, 0.5)
    start = uniform(rng, (b, 1, 1), 0, f)
    hidden = (band >= start) & (band < start + width)
    for _ in range(2):
        width = uniform(rng, (b, 1, 1), 0, 10) * chance(rng, b, 0.5)
        start = uniform(rng, (b, 1, 1), 0, t)
        hidden = hidden | ((frame >= start) & (frame < start + width))
    return torch.where(hidden, mean, mel)


def masked(count: int, frames: int, rng: torch.Generator) -> Tensor:
    """(B, T, 80) true where `mask` would cover."""
    frame, band = torch.arange(frames)[None, :, None], torch.arange(BANDS)[None, None, :]
    width = uniform(rng, (count, 1, 1), 0, 12) * chance(rng, count, 0.3)
    start = uniform(rng, (count, 1, 1), 0, BANDS)
    hidden = ((band >= start) & (band < start + width)).expand(-1, frames, -1)
    width = uniform(rng, (count, 1, 1), 0, 10) * chance(rng, count, 0.3)
    start = uniform(rng, (count, 1, 1), 0, frames)
    return hidden | ((frame >= start) & (frame < start + width))
