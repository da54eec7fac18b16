"""Time and operations of MToV's stages, beside what a matrix product reaches in the same run."""

from __future__ import annotations

from collections.abc import Callable

import torch

from moda.bench.timing import Row, timed
from moda.render.liveportrait.cost import count
from moda.render.triplane import cost
from moda.render.triplane.autoencoder import TriplaneAutoencoder
from moda.render.triplane.config import PUBLISHED, VideoConfig
from moda.render.triplane.painter import Painter
from moda.render.triplane.unet import PlaneUNet


def random_painter(
    config: VideoConfig = PUBLISHED, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Painter:
    """Random weights: for timing without any file."""
    with torch.device("meta"):
        rgb, dots = TriplaneAutoencoder(config.triplane), TriplaneAutoencoder(config.triplane)
        unet = PlaneUNet(config.unet, config.triplane)
    for part in (rgb, dots, unet):
        part.to(dtype).to_empty(device=device).requires_grad_(False)
        for tensor in part.parameters():
            tensor.normal_(std=0.02)
    return Painter(config, rgb, dots, unet)


@torch.inference_mode()
def bench(painter: Painter | None = None, runs: int = 2) -> list[Row]:
    """The reference's encoding (a still clip), a clip's, a step of the UNet, a clip's decoding."""
    painter = painter or random_painter()
    c = painter.config.triplane
    like = next(painter.rgb.parameters())
    clip = torch.zeros(1, 3, c.frames, c.size, c.size).to(like)
    latent, conditions = (
        torch.zeros(1, c.latent, c.length).to(like),
        torch.zeros(1, 3 * c.latent, c.length).to(like),
    )
    at = torch.full((1,), 100, device=painter.device)
    unet = painter.sampler.network
    encode = cost.encode(c)
    stages: list[tuple[str, Callable[[], object], float | None]] = [
        ("reference, its xy plane", lambda: painter.rgb.encode_still(clip[:, :, 0], ("xy",)), encode),
        ("reference, whole", lambda: painter.rgb.encode_still(clip[:, :, 0]), encode),
        ("clip encoded", lambda: painter.rgb.encode(clip), encode),
        ("a step of the UNet", lambda: unet(latent, conditions, at), None),
        ("clip decoded", lambda: painter.rgb.decode(latent), cost.decode(c)),
    ]
    rows = []
    for name, call, published in stages:
        gflop = count(call)
        peak, seconds = 0.0, []
        for _ in range(runs):
            seconds.append(timed(call, painter.device))
            peak = max(peak, matrix_speed(painter.device, painter.dtype))
        rows.append(Row.of(name, min(seconds), gflop, published or gflop, peak))
    return rows


def matrix_speed(device: torch.device, dtype: torch.dtype) -> float:
    """GFLOP/s of a product of 1024x2048 with 2048x1024, the best of three."""
    a = torch.ones(1024, 2048, device=device, dtype=dtype)
    return 2e-9 * 1024 * 2048 * 1024 / min(timed(lambda: a @ a.T, device) for _ in range(3))
