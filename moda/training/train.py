"""Train a generator: flow matching on windows of motion, with checkpoints, resume and a picture of the losses."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moda.errors import ModaError
from moda.generator.flow import training_pair
from moda.generator.model import MotionTransformer
from moda.generator.statistics import EPSILON, Statistics
from moda.motion.space import space as find_space
from moda.training.config import TrainingConfig
from moda.training.data import Windows, make_silence, prepare, statistics

log = logging.getLogger(__name__)

PARTS = ("mouth", "face", "pose", "change")


def train(path: str | Path, progress: Callable[[float], None] | None = None) -> Path:
    """Run, or go on with, the training that a config file describes -> the folder of the finished model.

    progress: called with the part of the preparing, then of the training done, 0..1.
    Errors: ModaError for a config or data that cannot be used; a checkpoint of another config.
    """
    config = TrainingConfig.load(path)
    torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)  # gates start closed, and what trickles through them is slow to multiply
    run = Run(config, progress or (lambda part: None))
    while run.step < config.steps:
        run.advance()
        if run.step % config.save_every == 0 or run.step == config.steps:
            run.save()
    return run.export()


class Run:
    """One training run: its data, network, and everything that a checkpoint holds."""

    def __init__(self, config: TrainingConfig, progress: Callable[[float], None]) -> None:
        self.config, self.progress = config, progress
        config.out.mkdir(parents=True, exist_ok=True)
        self.windows, self.statistics = self._data()
        torch.manual_seed(config.seed)
        self.model = MotionTransformer(config.model)
        self.mean_model = deepcopy(self.model).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98)
        )
        self.step, self.losses = 0, []
        self.groups = _groups(config.model.space)
        self._resume()
        self.mean, self.std = (
            torch.from_numpy(a) for a in (self.statistics.mean, self.statistics.std + EPSILON)
        )

    def _data(self) -> tuple[Windows, Statistics]:
        from moda.audio.speech import EMBEDDED, SpeechEncoder

        config = self.config
        # A copy of the encoder belongs to the run: generator and encoder stay together whatever becomes of the original.
        folder = self.encoder_folder = config.out / "encoder"
        if not folder.exists():
            shutil.copytree(
                EMBEDDED if config.encoder == "embedded" else config.encoder, folder, ignore=_not_encoder
            )
        encoder = SpeechEncoder.load(folder)
        if encoder.width != config.model.audio_width:
            raise ModaError(
                f"audio_width is {config.model.audio_width}, but the encoder in {folder} gives {encoder.width}"
            )
        fingerprint = hashlib.sha256((folder / "encoder.safetensors").read_bytes()).hexdigest()
        clips, speech = prepare(
            config.clips, config.speech, encoder, fingerprint, config.out / "data", self.progress
        )
        if speech:
            speech += [
                make_silence(encoder, level=level, seed=i) for i, level in enumerate((0, 0, 1e-4, 1e-3, 3e-3))
            ]
        windows = Windows(clips, speech, config.model, config.real_part, config.heard_part, config.lips_gain)
        return windows, Statistics(*statistics(windows, np.random.default_rng(config.seed)))

    def advance(self) -> None:
        """One optimiser step. Its randomness depends on the seed and the step alone, so a resumed run is the same run."""
        config = self.config
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * self._rate()
        began = time.monotonic()
        parts = self.loss(self.step)
        total = sum(weight * parts[name] for name, weight in self._weights().items())
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        decay = min(config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.mean_model.parameters(), self.model.parameters()):
                mean.lerp_(now, 1 - decay)
        self.step += 1
        self.losses.append([round(float(parts[name].detach()), 5) for name in PARTS])
        self.progress(self.step / config.steps)
        if self.step % 100 == 0:
            recent = np.mean(self.losses[-100:], axis=0)
            told = ", ".join(f"{name} {value:.4f}" for name, value in zip(PARTS, recent))
            log.info("step %d: %s (%.2f s a step)", self.step, told, time.monotonic() - began)

    def loss(self, step: int) -> dict[str, Tensor]:
        """The parts of the loss on a fresh batch: mean squared error of the velocity, and of its change in time."""
        config = self.config
        random = np.random.default_rng((config.seed, step))
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        batch = [self.windows.draw(random) for _ in range(config.batch)]
        motion, previous = self._normal([w.motion for w in batch]), self._normal([w.previous for w in batch])
        audio = torch.from_numpy(np.stack([w.features for w in batch]))
        audio = audio + config.audio_noise * torch.randn(audio.shape, generator=generator)
        identity = torch.from_numpy(np.stack([w.identity for w in batch]))
        identity = identity + 0.02 * torch.randn(identity.shape, generator=generator)
        previous = previous + 0.05 * torch.randn(previous.shape, generator=generator)
        known = torch.from_numpy(np.stack([w.known for w in batch]))

        # Where sound and emotion are both left out is what guidance starts from.
        without = torch.rand(len(batch), generator=generator) < config.audio_dropout
        no_emotion = torch.rand(len(batch), generator=generator) < config.emotion_dropout
        emotion = torch.tensor([w.emotion for w in batch])
        emotion = torch.where(no_emotion | without, config.model.no_emotion, emotion)

        pair = training_pair(motion, generator)
        seen = torch.cat([previous[:, None].expand_as(motion), pair.x_t], dim=-1)
        velocity = self.model(seen, pair.time, self.model.without_audio(audio, without), emotion, identity)
        error = (velocity - pair.target) * known[..., None]
        frames = known.sum()
        parts = {
            name: error[..., dims].square().sum() / (frames * len(dims)) for name, dims in self.groups.items()
        }
        change = pair.sigma * error.diff(dim=1)
        parts["change"] = change.square().sum() / (frames * error.shape[-1])
        return parts

    def _normal(self, arrays: list[np.ndarray]) -> Tensor:
        return (torch.from_numpy(np.stack(arrays)).float() - self.mean) / self.std

    def _weights(self) -> dict[str, float]:
        return {name: getattr(self.config, f"{name}_weight") for name in PARTS}

    def _rate(self) -> float:
        """Part of the learning rate: up over the warmup, then down a cosine to a twentieth."""
        warmup, steps = self.config.warmup, self.config.steps
        if self.step < warmup:
            return (self.step + 1) / warmup
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (self.step - warmup) / max(1, steps - warmup)))

    # -- files ------------------------------------------------------------------------------------------------

    @property
    def checkpoint(self) -> Path:
        return self.config.out / "checkpoint.pt"

    def save(self) -> None:
        state = {
            "step": self.step,
            "losses": self.losses,
            "model_config": self.config.model.to_json(),
            "statistics": self.statistics.to_dict(),
            "model": self.model.state_dict(),
            "mean_model": self.mean_model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)
        (self.config.out / "loss.json").write_text(json.dumps({"parts": PARTS, "losses": self.losses}))
        plot(self.losses, self.config.out / "loss.png")

    def _resume(self) -> None:
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, weights_only=True)
        if state["model_config"] != self.config.model.to_json():
            raise ModaError(
                f"{self.checkpoint} belongs to another model; name another `out` folder, or remove it"
            )
        self.model.load_state_dict(state["model"])
        self.mean_model.load_state_dict(state["mean_model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.losses = state["step"], state["losses"]
        self.statistics = Statistics.from_dict(state["statistics"])
        log.info("going on from step %d", self.step)

    def export(self) -> Path:
        """Write the model folder that `--model` takes: the mean weights, half precision."""
        from moda.weights.load import save_model

        return save_model(self.config.out / "model", self.mean_model, self.statistics, self.encoder_folder)


def _not_encoder(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith("encoder.")]


def _groups(space: str) -> dict[str, list[int]]:
    """Numbers of the motion by the part of the face."""
    return {part: find_space(space).columns(part) for part in ("mouth", "face", "pose")}


def plot(losses: list[list[float]], path: Path) -> None:
    """Loss curves as a picture; without matplotlib (extra [train]) there is loss.json alone."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    values = np.array(losses)
    width = max(1, len(values) // 200)
    smooth = np.stack([np.convolve(v, np.ones(width) / width, mode="valid") for v in values.T], axis=1)
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, curve in zip(PARTS, smooth.T):
        axes.plot(np.arange(len(curve)) + width, curve, label=name)
    axes.set(xlabel="step", ylabel="mean squared error", yscale="log")
    axes.legend()
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot.close(figure)
