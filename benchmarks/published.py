"""The published networks written plainly, beside ours, in one process and alternating: the same numbers, the time of each.

    python benchmarks/published.py [--precision bfloat16] [--pairs 5] [--threads 1] [--json figures.json] [generator] [frame]

Plain: torch modules as the papers' figures read (arXiv 2507.03256, 2407.03168), the library's products and
convolutions, every token for every frame, both guidance branches, conditions and modulation at every step, no folding.
The weights are random and the same in both. Ratios are medians over pairs of runs that follow one another; of processor time, which other work on the machine
changes least, and of the clock's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from published_plain import PlainDecoder, PlainGenerator, PlainWarping
from torch import Tensor

from moda.bench.stages import machine
from moda.generator.bench import random_model
from moda.generator.products import pack
from moda.generator.sampler import Sampler
from moda.render.liveportrait.bench import RandomReader
from moda.render.liveportrait.decoder import Decoder
from moda.render.liveportrait.warping import Warping

STEPS, GUIDANCE = 10, 1.2


class Keeper(RandomReader):
    """Random weights, all of which it keeps under their published names."""

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        super().__init__(name, dtype=dtype, fast=dtype == torch.float32)
        self.kept: dict[str, Tensor] = {}

    def take(self, key: str, *shape: int) -> Tensor:
        self.kept[key] = super().take(key, *shape)
        return self.kept[key]

    def spectral(self, prefix: str, *shape: int) -> Tensor:
        return self.take(prefix + ".weight", *shape)


def pairs(plain: Callable[[], object], ours: Callable[[], object], count: int) -> dict[str, float]:
    """Seconds of each, and the ratio, as medians of pairs; every second pair the other way about."""
    times: dict[str, list[tuple[float, float]]] = {"processor": [], "clock": []}
    plain(), ours()
    for index in range(count):
        spent = {}
        for name, call in ((0, plain), (1, ours)) if index % 2 else ((1, ours), (0, plain)):
            clock, processor = time.perf_counter(), time.process_time()
            call()
            spent[name] = time.perf_counter() - clock, time.process_time() - processor
        times["clock"].append((spent[0][0], spent[1][0]))
        times["processor"].append((spent[0][1], spent[1][1]))
    found = {}
    for kind, measured in times.items():
        plains, mine = zip(*measured)
        found[f"plain_{kind}"], found[f"ours_{kind}"] = statistics.median(plains), statistics.median(mine)
        found[f"{kind}_ratio"] = statistics.median(a / b for a, b in measured)
    return found


def error(ours: Tensor, plain: Tensor) -> float:
    """The largest difference, in standard deviations of the plain code's numbers."""
    return float((ours.double() - plain.double()).abs().max() / plain.double().std())


def generator(dtype: torch.dtype, count: int, report: Callable[[str, dict], None]) -> None:
    model = random_model()
    config = model.config
    with torch.no_grad():  # as wide as trained weights: random ones of one deviation would hide the blocks
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(parameter.shape[1] ** -0.5 / 0.02)
        for name, parameter in model.named_parameters():
            if name.endswith(("norm.weight", "norms.q.weight", "norms.k.weight")):
                parameter.add_(1)
    exact = PlainGenerator(model)
    random = np.random.default_rng(0)
    identity = random.standard_normal(config.identity_dim, dtype=np.float32)
    audio = random.standard_normal(
        (config.segment, config.audio_layers, config.audio_width), dtype=np.float32
    )
    previous = random.standard_normal(config.motion_dim, dtype=np.float32)
    noise = torch.randn(config.segment, config.motion_dim, generator=torch.Generator().manual_seed(0))
    given = [torch.from_numpy(x) for x in (identity, audio, previous)]

    def plain_segment(network: PlainGenerator, kind: torch.dtype) -> Tensor:
        return network.sample(*(x.to(kind) for x in given), noise, 4, STEPS, GUIDANCE)

    truth = plain_segment(exact, torch.float32)
    if dtype == torch.float32:
        plain = exact
    else:
        model = model.to(dtype)
        plain = PlainGenerator(model)  # the exact one keeps its own float32 weights
    plain_error = error(plain_segment(plain, dtype), truth)
    ours = pack(model)
    sampler = Sampler(ours, identity, 4, 0, STEPS, GUIDANCE)

    def segment() -> Tensor:
        *_, sample = Sampler(ours, identity, 4, 0, STEPS, GUIDANCE).solve(audio, previous, noise)
        return sample

    found = error(segment(), truth)
    bound = 1e-3 if dtype == torch.float32 else 0.5
    if found > bound:
        raise SystemExit(f"the two give different numbers: {found:.2g} deviations apart")
    errors = {"error": found, "plain_error": plain_error}

    def step() -> None:
        next(iter(sampler.solve(audio, previous, noise)))

    def plain_step(network: PlainGenerator, kind: torch.dtype) -> Callable[[], Tensor]:
        return lambda: network.sample(*(x.to(kind) for x in given), noise, 4, STEPS, GUIDANCE, only=1)

    report("a guided step", pairs(plain_step(plain, dtype), step, 2 * count) | errors)
    report("a segment", pairs(lambda: plain_segment(plain, dtype), segment, count) | errors)
    if dtype != torch.float32:
        found = pairs(lambda: plain_segment(exact, torch.float32), segment, count) | errors
        report("a segment, the plain code in float32", found)


@torch.inference_mode()
def frame(dtype: torch.dtype, count: int, report: Callable[[str, dict], None]) -> None:
    keepers = {name: Keeper(name, dtype) for name in ("W", "G")}
    warping, decoder = Warping(keepers["W"]), Decoder(keepers["G"])
    plain_w, plain_g = PlainWarping(keepers["W"].kept), PlainDecoder(keepers["G"].kept)
    random = torch.Generator().manual_seed(0)
    volume = torch.randn(1, 32, 16, 64, 64, generator=random)
    source = (torch.randn(1, 21, 3, generator=random) * 0.4).clamp(-0.95, 0.95)
    driving = source + torch.randn(1, 21, 3, generator=random) * 0.05
    prepared = warping.prepare(volume[0].movedim(0, -1).to(dtype).contiguous(), source[0])

    def ours() -> Tensor:
        return decoder(warping(prepared, driving))

    def plain() -> Tensor:
        picture = plain_g(plain_w(volume.to(kind), source.to(kind), driving.to(kind)))
        return picture.movedim(1, -1)

    kind = torch.float32
    truth = plain()
    kind = dtype
    plain_w, plain_g = plain_w.to(dtype), plain_g.to(dtype)
    errors = {"error": error(ours(), truth), "plain_error": error(plain(), truth)}
    if errors["error"] > (1e-3 if dtype == torch.float32 else 0.5):
        raise SystemExit(f"the two give different numbers: {errors['error']:.2g} deviations apart")
    report("a frame, W and G", pairs(plain, ours, count) | errors)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["generator", "frame"], help="generator, frame")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    figures: dict[str, object] = {"precision": given.precision, "threads": torch.get_num_threads()}
    figures["machine"] = machine("cpu", print)

    def report(name: str, found: dict) -> None:
        figures[name] = found
        print(f"{name:<40}" + "  ".join(f"{key} {value:.3g}" for key, value in found.items()), flush=True)

    for part in given.parts:
        {"generator": generator, "frame": frame}[part](getattr(torch, given.precision), given.pairs, report)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
