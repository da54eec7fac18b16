"""Time, operations and memory of each stage, beside what the machine's matrix product reaches in the same run."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from moda.bench.timing import Row, timed
from moda.constants import KEYPOINTS
from moda.packed import PackedLinear
from moda.render.liveportrait import cost
from moda.render.liveportrait.appearance import CHANNELS, DEPTH
from moda.render.liveportrait.crop import INPUT
from moda.render.liveportrait.reader import Reader
from moda.render.liveportrait.renderer import EXACT, PRECISIONS, LivePortraitRenderer
from moda.render.liveportrait.warping import SIDE


class RandomReader(Reader):
    """Random weights of the shapes asked for: for timing without any file."""

    def __init__(
        self, name: str, device: str = "cpu", dtype: torch.dtype = torch.float32, fast: bool = True
    ) -> None:
        super().__init__(name, {}, device, dtype, fast)
        self.generator = torch.Generator().manual_seed(0)

    def take(self, key: str, *shape: int) -> Tensor:
        w = torch.randn(shape, generator=self.generator)
        if len(shape) > 1:
            return w / math.prod(shape[1:]) ** 0.5
        return w.abs() + 1 if key.endswith("running_var") else w * 0.1 + float(key.endswith("weight"))

    def spectral(self, prefix: str, *shape: int) -> Tensor:
        return self.take(prefix + ".weight", *shape)


def random_renderer(
    device: str = "cpu", precision: str = "float32", fast: bool | None = None
) -> LivePortraitRenderer:
    """A renderer with random weights. fast: see Reader; as `LivePortraitRenderer.load` chooses unless given."""
    dtype = PRECISIONS[precision]
    if fast is None:
        fast = torch.device(device).type == "cpu" and dtype == torch.float32
    return LivePortraitRenderer(
        lambda name: RandomReader(name, device, torch.float32 if name in EXACT else dtype, fast)
    )


def bench(renderer: LivePortraitRenderer | None = None, runs: int = 3) -> list[Row]:
    """The stages F (once a source), M (a picture), W and G (a frame) and W+G; random weights unless given.

    Between stages the peak, a product of 1024 x 1024 matrices, is measured anew: shared machines drift.
    """
    renderer = renderer or random_renderer()
    device, dtype = renderer.device, renderer.dtype
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=generator) * scale).to(device)

    picture = randn(1, INPUT, INPUT, 3, scale=0.2).add(0.5).clamp(0, 1)
    points = randn(KEYPOINTS, 3, scale=0.4).clamp(-0.95, 0.95)
    volume = randn(DEPTH, SIDE, SIDE, CHANNELS).to(dtype)
    source = renderer.warping.prepare(volume, points)
    driving = points[None] + randn(1, KEYPOINTS, 3, scale=0.05)
    features = randn(1, SIDE, SIDE, 256, scale=0.5).to(dtype)
    stages: dict[str, Callable[[], object]] = {
        "F": lambda: renderer.appearance(picture.to(dtype)),
        "M": lambda: renderer.extractor(picture),
        "W": lambda: renderer.warping(source, driving),
        "G": lambda: renderer.decoder(features),
    }
    published = cost.published()
    rows = []
    for name, call in stages.items():
        gflop = cost.count(call)  # also the first, slow run
        seconds, peaks = [], [matrix_speed(device, dtype)]
        for _ in range(runs):
            seconds.append(timed(call, device))
            peaks.append(matrix_speed(device, dtype))
        rows.append(Row.of(name, min(seconds), gflop, published.get(name, gflop), max(peaks)))
    w, g = rows[-2:]
    peak = max(w.speed / w.share, g.speed / g.share)
    rows.append(Row.of("W+G", w.seconds + g.seconds, w.gflop + g.gflop, w.published + g.published, peak))
    return rows


def matrix_speed(device: torch.device, dtype: torch.dtype = torch.float32, size: int = 1024) -> float:
    """GFLOP/s of a square matrix product, the best of eight."""
    a, b = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    product = PackedLinear(b)
    return 2e-9 * size**3 / min(timed(lambda: product(a), device) for _ in range(8))
