"""Time and operations of the generator's stages, beside what a matrix product reaches in the same run."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from moda.bench.timing import Row, timed, wait
from moda.generator import cost
from moda.generator.config import PUBLISHED, ModelConfig
from moda.generator.model import MotionTransformer
from moda.generator.products import pack
from moda.generator.sampler import Sampler
from moda.packed import PackedLinear


def random_model(
    config: ModelConfig = PUBLISHED, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> MotionTransformer:
    """Random weights: for timing without any file."""
    with torch.device("meta"):
        model = MotionTransformer(config)
    model = model.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.02)
    return model


def bench(model: MotionTransformer | None = None, runs: int = 3) -> list[Row]:
    """The stages: conditions (once a clip), a guided step, a segment of all steps. DiT-B unless given.

    Between runs the peak, a product of the network's own shape, is measured anew: shared machines drift.
    """
    model = model or pack(random_model())
    config, device = model.config, model.null_audio.device
    random = np.random.default_rng(0)
    identity = random.standard_normal(config.identity_dim, dtype=np.float32)
    audio = random.standard_normal(
        (config.segment, config.audio_layers, config.audio_width), dtype=np.float32
    )
    previous = random.standard_normal(config.motion_dim, dtype=np.float32)
    noise = torch.randn(config.segment, config.motion_dim, generator=torch.Generator().manual_seed(0))
    guidance = max(config.guidance, 1.1)
    mine, theirs = cost.ours(config, config.steps), cost.published(config)
    sampler = Sampler(model, identity, 0, 0, config.steps, guidance)

    def conditions() -> None:
        Sampler(model, identity, 0, 0, config.steps, guidance)

    rows = [_stage("conditions, once a clip", conditions, mine.clip, mine.clip, model, runs)]
    steps: list[float] = []
    peaks = [matrix_speed(config, device, model.final.weight.dtype)]
    segments = []
    for _ in range(runs):
        start = previous_time = time.perf_counter()
        for _ in sampler.solve(audio, previous, noise):
            wait(device)
            now = time.perf_counter()
            steps.append(now - previous_time)
            previous_time = now
        segments.append(time.perf_counter() - start)
        peaks.append(matrix_speed(config, device, model.final.weight.dtype))
    rows.append(Row.of("a guided step", min(steps), mine.step, theirs.step, max(peaks)))
    whole = mine.segment + config.steps * mine.step
    rows.append(
        Row.of(
            f"a segment of {config.segment} frames",
            min(segments),
            whole,
            theirs.total(config.steps),
            max(peaks),
        )
    )
    return rows


def matrix_speed(config: ModelConfig, device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """GFLOP/s of the product of the tokens of a guided step with an MLP's matrix, the best of five."""
    a = torch.ones(8 * config.segment, config.width, device=device, dtype=dtype)
    product = PackedLinear(torch.ones(config.hidden, config.width, device=device, dtype=dtype))
    return (
        2e-9
        * len(a)
        * config.width
        * config.hidden
        / min(timed(lambda: product(a), device) for _ in range(5))
    )


def _stage(
    name: str, call: Callable[[], None], mine: float, theirs: float, model: MotionTransformer, runs: int
) -> Row:
    device = model.null_audio.device
    seconds, peaks = [], []
    for _ in range(runs):
        seconds.append(timed(call, device))
        peaks.append(matrix_speed(model.config, device, model.final.weight.dtype))
    return Row.of(name, min(seconds), mine, theirs, max(peaks))
