"""Time and memory of every stage of a real run, beside what the machine can do in the same minutes."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from moda.constants import SAMPLE_RATE
from moda.errors import ModaError
from moda.media.files import whole
from moda.timing import peak_memory

ASSETS = Path(__file__).parent.parent / "assets"
SECONDS = 20.0
LONG_SECONDS = 300.0
MAX_SECONDS = 3600.0
SECONDS_NEURAL = 0.4  # of video that LivePortrait draws on a processor in a minute or two


def bench(
    model: str = "embedded",
    device: str = "cpu",
    seconds: float | None = None,
    long: bool = False,
    precision: str = "float32",
    report: Callable[[str], None] = print,
) -> dict:
    """Generate a video of the demo's portrait saying the demo's speech, over and over; -> what was measured.

    seconds: of speech; 20 unless given, less where every frame takes a neural renderer on a processor
    long:    also five minutes of it, to see that memory stays
    model, device, precision: as `TalkingHead.from_pretrained`

    Of the official model, where its weights are not here, the parts alone are timed, with weights by chance.

    {"machine": {...}, "load": s, "runs": [{"seconds", "stages": {name: s}, "total", "processor_seconds",
    "real_time_factor", "fps_drawn_and_encoded", "peak_memory_gb"}], "operations": [...]}
    Errors: ModaError, as `TalkingHead`; also without the repository's assets.
    """
    from moda.pipeline import TalkingHead, check_number

    if seconds is not None:
        check_number("seconds", seconds, 0.04, MAX_SECONDS)
    if not (ASSETS / "speech.wav").exists():
        raise ModaError(
            f"there is no {ASSETS / 'speech.wav'}; run the benchmark in a clone of the repository"
        )
    result = {
        "model": str(model),
        "device": device,
        "precision": precision,
        "machine": machine(device),
        "runs": [],
    }
    report("  ".join(f"{name} {value}" for name, value in result["machine"].items()))
    try:
        start = time.perf_counter()
        head = TalkingHead.from_pretrained(model, device, precision=precision)
    except ModaError as error:
        if str(model) != "official" or device != "cpu":
            raise
        report(f"{error}; its parts are timed with weights by chance")
        return result | {"operations": _operations(None, None, report)}
    head.encoder, head.generator, head.renderer()  # noqa: B018 - loads them
    loading = time.perf_counter() - start
    neural = head.renderer_name == "liveportrait" and device == "cpu"
    seconds = seconds or (SECONDS_NEURAL if neural else SECONDS)
    result["load"] = loading
    report(f"model {model} loaded in {loading:.1f} s")
    head(ASSETS / "astronaut.jpg", np.zeros(SAMPLE_RATE, np.float32)).motion  # noqa: B018 - what only first runs pay

    for length in (seconds, LONG_SECONDS) if long else (seconds,):
        run = _run(head, length)
        result["runs"].append(run)
        report(f"\n{length:g} s of speech, {run['frames']} frames of 512x512")
        for name, spent in run["stages"].items():
            report(f"  {name:<20}{spent:8.2f} s{spent / length:8.3f} s a second of speech")
        report(
            f"  {'whole path':<20}{run['total']:8.2f} s{run['real_time_factor']:8.3f} s a second of speech"
        )
        report(f"  {'processor time':<20}{run['processor_seconds']:8.2f} s, of all cores together")
        report(
            f"  drawing and encoding {run['fps_drawn_and_encoded']:.1f} frames/s, peak {run['peak_memory_gb']:.2f} GB"
        )
    result["operations"] = _operations(head.generator, head.renderer(), report)
    return result


def machine(device: str = "cpu") -> dict[str, str | float]:
    """What the machine reaches now: a large matrix product and a copy, best of several."""
    import torch

    a, b = (torch.ones(2048, 2048, device=device) for _ in range(2))
    big = torch.ones(64_000_000, device=device)

    def best(call: Callable[[], object], runs: int) -> float:
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            call()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        return min(times)

    return {
        "cores": os.cpu_count() or 1,
        "torch threads": torch.get_num_threads(),
        "matrix product GFLOP/s": round(2e-9 * 2048**3 / best(lambda: a @ b, 5), 1),
        "copy GB/s": round(2e-9 * big.nbytes / best(big.clone, 4), 1),
    }


class Clock:
    """Seconds spent in each of several nested iterators, each without those that it draws from."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._inside: list[str] = []
        self._since = 0.0

    def _turn(self) -> None:
        now = time.perf_counter()
        if self._inside:
            self.spent[self._inside[-1]] = self.spent.get(self._inside[-1], 0.0) + now - self._since
        self._since = now

    def watch(self, name: str, items: Iterator) -> Iterator:
        items = iter(items)
        while True:
            self._turn()
            self._inside.append(name)
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self._turn()
                self._inside.pop()
            yield item


class _Watched:
    """A part of the pipeline, one of its methods on the clock."""

    def __init__(self, part, method: str, name: str, clock: Clock) -> None:
        self._part, self._method, self._name, self._clock = part, method, name, clock

    def __getattr__(self, attribute: str):
        value = getattr(self._part, attribute)
        if attribute != self._method:
            return value
        return lambda *args, **kwargs: self._clock.watch(self._name, value(*args, **kwargs))


def _run(head, seconds: float) -> dict:
    """The product's own path, its parts on a clock."""
    from moda.constants import DEFAULT_SIZE

    clock = Clock()
    parts = {"encoder": head.encoder, "generator": head.generator}
    renderer = head.renderer()
    head.encoder = _Watched(head.encoder, "encode", "sound to features", clock)
    head.generator = _Watched(head.generator, "stream", "generator", clock)
    head._renderers[DEFAULT_SIZE] = _Watched(renderer, "draw", "renderer", clock)
    try:
        with tempfile.TemporaryDirectory() as folder:
            speech = _speech(Path(folder) / "speech.wav", seconds)
            start, processor = time.perf_counter(), time.process_time()
            video = head(ASSETS / "astronaut.jpg", speech)
            clock.spent["portrait"] = time.perf_counter() - start
            path = Path(folder) / "out.mp4"
            video.save(path)
            total = time.perf_counter() - start
            processor = time.process_time() - processor
            frames = len(video.motion)
    finally:
        head.__dict__.update(parts)
        head._renderers[DEFAULT_SIZE] = renderer
    stages = dict(clock.spent)
    stages["video encoding"] = total - sum(stages.values())
    return {
        "seconds": seconds,
        "frames": frames,
        "stages": stages,
        "total": total,
        "processor_seconds": processor,
        "real_time_factor": total / seconds,
        "fps_drawn_and_encoded": frames / (stages["renderer"] + stages["video encoding"]),
        "peak_memory_gb": peak_memory(),
    }


def _speech(path: Path, seconds: float) -> Path:
    """The demo's speech, looped to a length, as a 16-bit file."""
    import wave

    with wave.open(str(ASSETS / "speech.wav")) as source, wave.open(str(path), "wb") as out:
        out.setparams(source.getparams())
        left = round(seconds * source.getframerate())
        while left > 0:
            source.rewind()
            count = min(left, source.getnframes())
            out.writeframes(source.readframes(count))
            left -= count
    return path


def _operations(generator, renderer, report: Callable[[str], None]) -> list[dict]:
    """Operations, speed and share of the matrix product's speed, of the parts that count them.

    generator, renderer: the model's own, or None for the published ones with weights by chance
    """
    from dataclasses import asdict

    from moda.generator.bench import bench as generator_stages

    stages = generator_stages(generator.model if generator else None)
    if renderer is None or renderer.space == "liveportrait":
        from moda.render.liveportrait.bench import bench as renderer_stages

        stages += renderer_stages(renderer)
    report(
        "\nshare: of the matrix product's speed; gain: over the published code, its operations over ours times our "
        "share over its 0.65"
    )
    report(
        f"{'stage':<24}{'seconds':>9}{'GFLOP':>9}{'published':>11}{'GFLOP/s':>9}{'share':>7}{'gain':>7}{'GB':>7}"
    )
    for row in stages:
        report(
            f"{row.name:<24}{row.seconds:>9.4f}{row.gflop:>9.2f}{row.published:>11.2f}{row.speed:>9.1f}"
            f"{row.share:>7.2f}{row.gain:>7.2f}{row.memory:>7.2f}"
        )
    return [asdict(row) | {"gain": row.gain} for row in stages]


def save(result: dict, path: Path) -> None:
    """Write the figures as JSON, whole or not at all."""
    with whole(path) as part:
        part.write_text(json.dumps(result, indent=1) + "\n")
