"""Rectified flow between data x_0 and noise x_1, and its solver, which knows nothing but a velocity.

    x_t = sigma x_1 + (1 - sigma) x_0,   v = dx/dsigma = x_1 - x_0,   sigma = t / 1000

Source: Liu et al., arXiv 2209.03003; classifier-free guidance, arXiv 2207.12598.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

TIMES = 1000  # t runs from 0 (data) to 1000 (noise)
SIGMA_MIN = 1 / TIMES

Velocity = Callable[[Tensor, int], Tensor]  # (x_t, number of the step) -> v


@dataclass
class TrainingPair:
    """What to show the network, and what it should answer.

    time: (B,) in 1..1000; x_t, target: as x_0; sigma: (B, 1, ...) broadcasts against them
    """

    time: Tensor
    x_t: Tensor
    target: Tensor
    sigma: Tensor

    def x_0(self, velocity: Tensor) -> Tensor:
        """The data that a velocity points at: x_t - sigma v."""
        return self.x_t - self.sigma * velocity


def training_pair(x_0: Tensor, generator: torch.Generator | None = None) -> TrainingPair:
    """Noise and a time drawn uniformly, for data x_0 (B, ...)."""
    noise = torch.randn(x_0.shape, generator=generator, device=x_0.device, dtype=x_0.dtype)
    u = torch.rand(len(x_0), generator=generator, device=x_0.device, dtype=x_0.dtype)
    return pair_of(x_0, noise, u)


def pair_of(x_0: Tensor, noise: Tensor, u: Tensor) -> TrainingPair:
    """The same for a noise of the same shape and u (B,) in 0..1."""
    sigma = SIGMA_MIN + (1 - SIGMA_MIN) * u
    s = sigma.view(-1, *[1] * (x_0.ndim - 1))
    return TrainingPair(time=TIMES * sigma, x_t=s * noise + (1 - s) * x_0, target=noise - x_0, sigma=s)


def schedule(steps: int, even: bool = False) -> list[float]:
    """The times of the steps, from 1000 down: evenly to 1, as published, where the last has only a thousandth of the way
    left to go; or even, so that each goes equally far and one step less does the same.
    """
    return torch.linspace(TIMES, 0 if even else 1, steps + even)[:steps].tolist()


def euler(velocity: Velocity, noise: Tensor, times: list[float]) -> Iterator[Tensor]:
    """From noise to data; yields x after each step, the last being the sample."""
    x = noise
    for i, (now, then) in enumerate(zip(times, [*times[1:], 0.0])):
        x = x + velocity(x, i) * ((then - now) / TIMES)
        yield x


def clamped(velocity: Velocity, known: Tensor, noise: Tensor, times: list[float]) -> Velocity:
    """The velocity of an x whose first frames are known: they are held on the straight way from noise to data.

    known: (1, n, dim) data of the first n frames; noise: (1, n, dim), theirs.
    """

    def held(x: Tensor, step: int) -> Tensor:
        sigma = times[step] / TIMES
        past = sigma * noise + (1 - sigma) * known
        return velocity(torch.cat([past, x[:, known.shape[1] :]], dim=1), step)

    return held


def guided(both: Velocity, scale: float) -> Velocity:
    """v = v_u + scale (v_c - v_u), of a velocity that answers both, unconditional first, in a batch."""

    def velocity(x: Tensor, step: int) -> Tensor:
        unconditional, conditional = both(x, step).chunk(2)
        return unconditional + scale * (conditional - unconditional)

    return velocity


def blended(several: Velocity, part: float) -> Velocity:
    """Of a batch's last two velocities the one that lies `part` of the way from the first to the second."""

    def velocity(x: Tensor, step: int) -> Tensor:
        *others, without, full = several(x, step).split(1)
        return torch.cat([*others, torch.lerp(without, full, part)])

    return velocity
