"""Adan as AToM was trained with it: momentum of gradients and of their differences (arXiv 2208.06677)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


class Adan(torch.optim.Optimizer):
    """In the first step nothing but the decay happens: there is no difference yet.

    betas: shares of what is new, of the gradient, its difference and the square
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 4e-4,
        betas: tuple[float, float, float] = (0.02, 0.08, 0.01),
        eps: float = 1e-8,
        weight_decay: float = 0.02,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = closure() if closure else None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._one(p, p.grad, group)
        return loss

    def _one(self, p: Tensor, g: Tensor, group: dict) -> None:
        b1, b2, b3 = group["betas"]
        state = self.state[p]
        if not state:
            state["step"] = 0
            for name in ("m", "v", "n"):
                state[name] = torch.zeros_like(p)
            state["before"] = g.clone()
        state["step"] += 1
        k, m, v, n = state["step"], state["m"], state["v"], state["n"]
        if k > 1:
            d = g - state["before"]
            m.mul_(1 - b1).add_(g, alpha=b1)
            v.mul_(1 - b2).add_(d, alpha=b2)
            n.mul_(1 - b3).add_((g + (1 - b2) * d) ** 2, alpha=b3)
        hats = [x / (1 - (1 - b) ** k) for x, b in ((m, b1), (v, b2), (n, b3))]
        change = (hats[0] + (1 - b2) * hats[1]) / (hats[2].sqrt() + group["eps"])
        p.sub_(group["lr"] * change).div_(1 + group["weight_decay"] * group["lr"])
        state["before"] = g.clone()
