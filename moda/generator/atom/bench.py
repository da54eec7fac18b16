"""Time and operations of AToM's stages, beside what a matrix product reaches in the same run."""

from __future__ import annotations

import torch

from moda.bench.timing import Row, timed
from moda.generator.atom.model import MotionDecoder
from moda.render.liveportrait.cost import count
from moda.render.triplane.bench import matrix_speed


@torch.inference_mode()
def bench(model: MotionDecoder, runs: int = 3) -> list[Row]:
    """The conditions of a window (once for all steps), a guided step. Published: conditions in every step."""
    c, parameter = model.config, next(model.parameters())
    audio = torch.zeros(2, c.tokens, c.audio_width).to(parameter)
    face, x = torch.zeros(2, 1, c.numbers).to(parameter), torch.zeros(2, c.frames, c.numbers).to(parameter)
    drop = torch.tensor([True, False], device=parameter.device)
    at = torch.full((2,), 500, device=parameter.device)
    condition = model.condition(audio, face, drop)
    every = count(lambda: model.condition(audio, face, drop))
    rows = []
    for name, call, published in (
        ("AToM, conditions", lambda: model.condition(audio, face, drop), every),
        ("AToM, a guided step", lambda: model(x, at, condition), None),
    ):
        gflop = count(call)
        peak, seconds = 0.0, []
        for _ in range(runs):
            seconds.append(timed(call, parameter.device))
            peak = max(peak, matrix_speed(parameter.device, parameter.dtype))
        rows.append(Row.of(name, min(seconds), gflop, published or gflop + every, peak))
    return rows
