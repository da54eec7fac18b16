"""Fixtures that several tests share; slow tests run with --slow only."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from moda.weights.description import Description
from moda.weights.folder import EMBEDDED as EMBEDDED_FOLDER

os.environ.setdefault("GLOG_minloglevel", "3")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see moda.cli.main
ROOT = Path(__file__).parent.parent
EMBEDDED = Description.read(EMBEDDED_FOLDER).generator.config  # the shipped generator's sizes


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run what takes more than a few seconds")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs --slow"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real material beside the repository; tests that need it are skipped where it is not."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared")
    return folder


@pytest.fixture(scope="session")
def portrait() -> Path:
    return ROOT / "assets" / "astronaut.jpg"


@pytest.fixture(scope="session")
def speech() -> Path:
    return ROOT / "assets" / "speech.wav"


def tone(seconds: float, rate: int = 16_000, channels: int = 1, hertz: float = 440.0) -> np.ndarray:
    """(n, channels) float32 of amplitude 0.5, faded in over 10 ms."""
    time = np.arange(round(seconds * rate)) / rate
    wave = 0.5 * np.sin(2 * np.pi * hertz * time) * np.minimum(1, time / 0.01)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def write_sound(
    path: Path, wave: np.ndarray, rate: int, codec: str | None = None, start: float = 0.0
) -> Path:
    """(n, channels) float32 -> a file; the codec is the extension's usual one."""
    import av

    layout = {1: "mono", 2: "stereo", 6: "5.1"}[wave.shape[1]]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec or container.default_audio_codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave.T), format="fltp", layout=layout)
        frame.sample_rate = rate
        frame.pts, frame.time_base = round(start * rate), Fraction(1, rate)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return path


def write_frames(
    path: Path, frames: list[np.ndarray], times: list[float] | None = None, rate: int = 25, rotate: int = 0
) -> Path:
    """RGB frames shown from `times` (seconds; else at `rate`) -> a nearly lossless video without sound."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "5", "preset": "ultrafast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotate:
            stream.set_display_rotation(rotate)
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = round(1000 * (times[index] if times else index / rate))
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Path:
    """A model's folder like the embedded one, but small and untrained: the path is real, the performance is noise."""
    import torch

    from moda.audio.speech import Calibration, SpeechEncoder
    from moda.audio.speech_net import SpeechConfig, SpeechNet
    from moda.constants import MOTION_DIM
    from moda.generator.model import MotionTransformer
    from moda.generator.statistics import Statistics
    from moda.motion import Motion
    from moda.weights import save_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SpeechNet(
            SpeechConfig(stem=8, width=8, behind=(1, 2), ahead=(1, 1), hidden=6, directions=6, phones=5)
        )
        encoder = SpeechEncoder(net, Calibration.plain(4))
        encoder.save(folder)
        config = replace(
            EMBEDDED, width=32, heads=2, depths=(1, 1, 1), audio_width=encoder.width, audio_hidden=16, steps=2
        )
        model = MotionTransformer(config)
        for parameter in model.parameters():  # published initial values give no motion at all
            parameter.data.add_(torch.randn_like(parameter) * 0.05)
    rest = Motion.still(1).to_array()[0]
    return save_model(folder, model, Statistics(rest, np.full(MOTION_DIM, 0.02, np.float32)), folder)
