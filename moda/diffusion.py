"""Denoising diffusion in discrete time: noise schedules, and DDIM over a sparse grid of their times.

x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e, with a_t the running product of 1 - beta. A network predicts x_0 or e; the solver
knows only a function that gives both. Sources: DDPM, arXiv 2006.11239; DDIM, arXiv 2010.02502; the cosine schedule,
arXiv 2102.09672.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# (x_t, t) -> the network's own output; (x_t, t) -> x_0, e
Network = Callable[[Tensor, int], Tensor]
Estimate = Callable[[Tensor, int], tuple[Tensor, Tensor]]
Pair = tuple[int, int]  # from time t to time s < t; -1 is the data


@dataclass(frozen=True, eq=False)
class Schedule:
    """alphas: (N,) float32, what is left of the data's power at each of the N times."""

    alphas: Tensor

    @classmethod
    def cosine(cls, times: int = 1000) -> Schedule:
        """a(u) ~ cos^2((u / N + 0.008) / 1.008 pi / 2), no beta above 0.999."""
        u = torch.arange(times + 1, dtype=torch.float64) / times
        g = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = (1 - g[1:] / g[:-1]).clamp(max=0.999).float()
        return cls(torch.cumprod(1 - betas, dim=0))

    @classmethod
    def scaled_linear(cls, times: int = 1000, first: float = 0.0015, last: float = 0.0195) -> Schedule:
        """The square roots of the betas are evenly spaced."""
        betas = torch.linspace(first**0.5, last**0.5, times, dtype=torch.float64) ** 2
        return cls(torch.cumprod(1 - betas, dim=0).float())

    def __len__(self) -> int:
        return len(self.alphas)

    def alpha(self, t: int) -> Tensor:
        return self.alphas[t] if t >= 0 else torch.ones(())

    def noised(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t of data and noise (B, ...) at times t (B,)."""
        alpha = self.alphas.to(x.device)[t].reshape(-1, *[1] * (x.ndim - 1))
        return alpha.sqrt() * x + (1 - alpha).sqrt() * noise

    def grid(self, steps: int, part: float = 1.0) -> list[Pair]:
        """`steps` pairs (t, s) that cover all times, from the noisiest on; of them the last `part`."""
        span = len(self)
        times = [math.trunc(-1 + span * i / steps) for i in range(steps, -1, -1)]
        pairs = list(zip(times[:-1], times[1:]))
        return pairs[math.trunc(steps * (1 - part)) :]


def from_data(network: Network, schedule: Schedule, bound: float | None) -> Estimate:
    """Of a network that predicts x_0, which is cut to +-bound; e follows from what is left."""

    def estimate(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        data = network(x, t)
        data = data if bound is None else data.clamp(-bound, bound)
        alpha = schedule.alphas[t]
        return data, (x * (1 / alpha).sqrt() - data) / (1 / alpha - 1).sqrt()

    return estimate


def from_noise(network: Network, schedule: Schedule, bound: float | None) -> Estimate:
    """Of a network that predicts e, which stays as it is when x_0 is cut to +-bound."""

    def estimate(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
        noise, alpha = network(x, t), schedule.alphas[t]
        data = x * (1 / alpha).sqrt() - noise * (1 / alpha - 1).sqrt()
        return data if bound is None else data.clamp(-bound, bound), noise

    return estimate


def ddim(
    estimate: Estimate,
    schedule: Schedule,
    x: Tensor,
    pairs: Sequence[Pair],
    draw: Callable[[], Tensor],
    eta: float = 1.0,
    after: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[Tensor]:
    """x_s after every pair (t, s), from x at the first t on; the last one is the data.

    draw:  gives noise of x's shape; asked once a step, except for the last
    eta:   1 draws as much noise as the ancestral sampler, 0 none
    after: what is done to every x_s, such as binding it to its neighbors
    """
    for t, s in pairs:
        data, noise = estimate(x, t)
        if s < 0:
            x = data
        else:
            now, then = schedule.alpha(t), schedule.alpha(s)
            sigma = eta * ((1 - now / then) * (1 - then) / (1 - now)).sqrt()
            # In float32 this may fall below 0 where steps are few.
            c = (1 - then - sigma**2).clamp(min=0).sqrt()
            x = data * then.sqrt() + c * noise + sigma * draw()
        if after:
            x = after(x)
        yield x
