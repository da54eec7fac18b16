"""Time and memory of every stage of a real run, beside what the machine can do in the same minutes."""

from __future__ import annotations

import os
import tempfile
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moda.bench.timing import peak_memory
from moda.constants import SAMPLE_RATE
from moda.errors import ModaError
from moda.motion import join
from moda.motion.space import converted
from moda.validation import check_number

if TYPE_CHECKING:
    from moda.pipeline import TalkingHead

ASSETS = Path(__file__).parents[2] / "assets"
SECONDS = 20.0
LONG_SECONDS = 300.0
MAX_SECONDS = 3600.0
SECONDS_NEURAL = 0.4  # of video that a neural renderer draws on a processor in a minute or two

Report = Callable[[str], None]


def bench(
    model: str = "embedded",
    device: str = "auto",
    seconds: float | None = None,
    long: bool = False,
    precision: str = "float32",
    report: Report = print,
) -> dict:
    """Generate a video of the demo's portrait saying the demo's speech, over and over; -> what was measured.

    seconds: of speech; 20 unless given, less where every frame takes a neural renderer on a processor
    long:    also five minutes of it, to see that memory stays
    model, device, precision: as `TalkingHead`

    Of the official model, where its weights are not here, the parts alone are timed, with random weights.

    {"machine": {...}, "load": s, "runs": [{"seconds", "frames", "stages": {name: s}, "total", "processor_seconds",
    "real_time_factor", "peak_memory_gb"}], "operations": [...]}; a stage's time is that of the stage run alone
    Errors: ModaError, as `TalkingHead`; also without the repository's assets.
    """
    from moda.pipeline import TalkingHead

    if seconds is not None:
        check_number("seconds", seconds, 0.04, MAX_SECONDS)
    check_assets()
    result: dict = {"model": str(model), "precision": precision, "runs": []}
    try:
        start = time.perf_counter()
        head = TalkingHead.from_pretrained(model, device, precision=precision)
    except ModaError as error:
        if str(model) != "official":
            raise
        from moda.device import resolve_device

        device = resolve_device(device)
        result |= {"device": device, "machine": machine(device, report)}
        report(f"{error}; its parts are timed with random weights")
        return result | {"operations": published_operations(device, precision, report)}
    head.encoder, head.generator, head.renderer()  # noqa: B018 - loads them
    result |= {"load": time.perf_counter() - start, "device": head.device}
    result["machine"] = machine(head.device, report)
    slow = head.renderer().seconds_a_frame > 0.5 and head.device == "cpu"
    seconds = seconds or (SECONDS_NEURAL if slow else SECONDS)
    report(f"model {model} loaded in {result['load']:.1f} s")
    head(ASSETS / "astronaut.jpg", np.zeros(SAMPLE_RATE, np.float32)).motion  # noqa: B018 - what only first runs pay

    for length in (seconds, LONG_SECONDS) if long else (seconds,):
        run = _run(head, length)
        result["runs"].append(run)
        report(f"\n{length:g} s of speech, {run['frames']} frames of 512x512; stages one after the other")
        for name, spent in run["stages"].items():
            report(f"  {name:<20}{spent:8.2f} s{spent / length:8.3f} s a second of speech")
        report(
            f"  {'whole path':<20}{run['total']:8.2f} s{run['real_time_factor']:8.3f} s a second of speech"
        )
        report(f"  {'processor time':<20}{run['processor_seconds']:8.2f} s, of all cores together")
        report(f"  peak memory {run['peak_memory_gb']:.2f} GB")
    result["operations"] = show(head.generator.operations() + head.renderer().operations(), report)
    return result


def check_assets() -> None:
    if not (ASSETS / "speech.wav").exists():
        raise ModaError(
            f"there is no {ASSETS / 'speech.wav'}; run the benchmark in a clone of the repository"
        )


def machine(device: str, report: Report) -> dict[str, str | float]:
    """What the machine reaches now: a large matrix product and a copy, best of several."""
    import torch

    from moda.bench.timing import timed

    place = torch.device(device)
    a, b = (torch.ones(2048, 2048, device=place) for _ in range(2))
    big = torch.ones(64_000_000, device=place)
    product = min(timed(lambda: a @ b, place) for _ in range(5))
    copy = min(timed(big.clone, place) for _ in range(4))
    found: dict[str, str | float] = {
        "cores": os.cpu_count() or 1,
        "torch threads": torch.get_num_threads(),
        "matrix product GFLOP/s": round(2e-9 * 2048**3 / product, 1),
        "copy GB/s": round(2e-9 * big.nbytes / copy, 1),
    }
    report("  ".join(f"{name} {value}" for name, value in found.items()))
    return found


def _run(head: TalkingHead, seconds: float) -> dict:
    """The product's own path, and before it each of its stages alone."""
    from moda.audio.decode import iter_audio, open_listening
    from moda.audio.encoder import encode
    from moda.media.write import write_video

    stages: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        speech = looped(folder / "speech.wav", seconds)

        def stage(name: str, call: Callable[[], object]):
            start = time.perf_counter()
            value = call()
            stages[name] = time.perf_counter() - start
            return value

        character = stage("portrait", lambda: head.prepare(ASSETS / "astronaut.jpg"))
        features = stage("sound to features", lambda: list(encode(head.encoder, iter_audio(speech))))
        space = head.generator.space
        own, identity = character.own_in(space)
        start = space.start(own)
        motion = stage(
            "generator",
            lambda: join(list(head.generator.stream(features, identity, start))),
        )
        motion = converted(space.generated(motion, own), character.renderer.space)
        stage("renderer", lambda: sum(1 for _ in character.draw(motion)))
        few = list(character.draw(motion[: min(len(motion), 250)]))
        frames: Iterator[np.ndarray] = (few[i % len(few)] for i in range(len(motion)))
        stage("video encoding", lambda: write_video(folder / "alone.mp4", frames, open_listening(speech)))

        began, processor = time.perf_counter(), time.process_time()
        video = head(ASSETS / "astronaut.jpg", speech)
        video.save(folder / "out.mp4")
        total, processor = time.perf_counter() - began, time.process_time() - processor
    return {
        "seconds": seconds,
        "frames": len(video.motion),
        "stages": stages,
        "total": total,
        "processor_seconds": processor,
        "real_time_factor": total / seconds,
        "peak_memory_gb": peak_memory(),
    }


def looped(path: Path, seconds: float) -> Path:
    """The demo's speech, over and over to a length, as a 16-bit file."""
    with wave.open(str(ASSETS / "speech.wav")) as source, wave.open(str(path), "wb") as out:
        out.setparams(source.getparams())
        left = round(seconds * source.getframerate())
        while left > 0:
            source.rewind()
            count = min(left, source.getnframes())
            out.writeframes(source.readframes(count))
            left -= count
    return path


def published_operations(device: str, precision: str, report: Report) -> list[dict]:
    """Of the published networks with random weights."""
    import torch

    from moda.generator.bench import bench as generator_stages
    from moda.generator.bench import random_model
    from moda.generator.products import pack, quantize
    from moda.render.liveportrait.bench import bench as renderer_stages
    from moda.render.liveportrait.bench import random_renderer

    if precision == "int8":
        model, renderer = quantize(random_model()), random_renderer(device, "float32")
    else:
        model = pack(random_model(device=device, dtype=getattr(torch, precision)))
        renderer = random_renderer(device, precision)
    return show(generator_stages(model) + renderer_stages(renderer), report)


def show(rows: list, report: Report) -> list[dict]:
    """Operations, speed and share of the matrix product's speed, of the parts that count them."""
    from dataclasses import asdict

    report(
        "\nshare: of the matrix product's speed in the same run; published: operations of the published code"
    )
    report(f"{'stage':<24}{'seconds':>9}{'GFLOP':>9}{'published':>11}{'GFLOP/s':>9}{'share':>7}{'GB':>7}")
    for row in rows:
        report(
            f"{row.name:<24}{row.seconds:>9.4f}{row.gflop:>9.2f}{row.published:>11.2f}{row.speed:>9.1f}"
            f"{row.share:>7.2f}{row.memory:>7.2f}"
        )
    return [asdict(row) for row in rows]


def save(result: dict, path: Path) -> None:
    """Write the figures as JSON, whole or not at all."""
    import json

    from moda.media.files import whole

    with whole(path) as part:
        part.write_text(json.dumps(result, indent=1) + "\n")
