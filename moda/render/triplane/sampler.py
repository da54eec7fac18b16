"""Latents of clips by diffusion, from noise on the reference's latent."""

from __future__ import annotations

import torch
from torch import Tensor

from moda.diffusion import Schedule, ddim, from_data, from_noise
from moda.render.triplane.config import VideoConfig
from moda.render.triplane.unet import PlaneUNet


class Sampler:
    """DDIM with the noisy start: x_k of the start latent, then the last `start_part` of the grid."""

    def __init__(self, network: PlaneUNet, config: VideoConfig, steps: int | None = None) -> None:
        self.network, self.config = network, config
        self.schedule = Schedule.scaled_linear()
        self.pairs = self.schedule.grid(steps or config.steps, config.start_part)

    @torch.inference_mode()
    def __call__(self, conditions: Tensor, start: Tensor, seed: int) -> Tensor:
        """conditions (B, 3 latent, length), start: a latent (B, latent, length) to begin near. The same seed draws the
        same noise whatever the clip, so that neighbors tremble alike."""
        random = torch.Generator().manual_seed(seed)
        device, dtype = start.device, start.dtype

        def draw() -> Tensor:
            noise = torch.randn(start.shape[1:], generator=random)
            return noise.to(device).expand(start.shape)

        times = len(self.schedule)
        first = min(times - 1, int(times * self.config.start_part))
        whole = self.config.start_part >= 1
        x = (
            draw()
            if whole
            else self.schedule.noised(start.float(), draw(), torch.tensor([first], device=device))
        )

        def network(x: Tensor, t: int) -> Tensor:
            at = torch.full((len(x),), t, device=device)
            return self.network(x.to(dtype), conditions, at).float()

        reading = from_data if self.config.predicts == "data" else from_noise
        estimate = reading(network, self.schedule, self.config.bound)
        *_, out = ddim(estimate, self.schedule, x, self.pairs, draw, self.config.eta)
        return out.to(dtype)
