"""Sampling a stretch of motion from the velocity network: what is computed once, and the solver's steps."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from moda.generator import flow
from moda.generator.config import ModelConfig
from moda.generator.model import Modulation, MotionTransformer, Tokens


class Sampler:
    """Stretches of motion, one after the other, for one source and seed.

    All that no stretch changes is computed once: identity and emotion tokens, the null audio's token, and the
    modulation of every step for both guidance branches.
    """

    @torch.inference_mode()
    def __init__(
        self,
        model: MotionTransformer,
        identity: np.ndarray,
        emotion: int,
        seed: int,
        steps: int,
        guidance: float,
        intensity: float = 1.0,
    ) -> None:
        config = model.config
        self.model, self.steps, self.guidance = model, steps, guidance
        self.times = flow.schedule(steps, config.even_steps)
        self.device, self.dtype = model.null_audio.device, model.null_audio.dtype
        self.random = torch.Generator().manual_seed(seed)
        self.noise_scale = noise_scale(config, config.noise_scale)
        self.identity = model.identity_embedder(self._tensor(identity)[None])[:, None]
        if guidance > 1:
            self.null = model.audio_embedder(model.null_audio.expand(1, 1, config.audio_layers, -1))
        self.set_emotion(emotion, intensity)

    @torch.inference_mode()
    def set_emotion(self, emotion: int, intensity: float = 1.0) -> None:
        """The row of the emotion table, and its intensity 0..1, for all stretches to come.

        A weaker emotion's velocity lies on the straight line from no emotion's to its own.
        """
        model, none = self.model, self.model.config.no_emotion
        self.intensity = intensity if emotion != none else 1.0
        # the branches' emotions: unconditional, without emotion, with it; those that are needed
        rows = [none] * (self.guidance > 1) + [none] * (self.intensity < 1) + [emotion]
        embedded = model.emotion_embedder(torch.tensor(rows, device=self.device))
        self.branches = len(rows)
        self.emotion = embedded[:, None]
        times = torch.tensor(self.times, device=self.device)
        everything = model.modulation(times.repeat_interleave(self.branches), embedded.repeat(self.steps, 1))
        self.modulation: list[Modulation] = [
            everything.rows(slice(i * self.branches, (i + 1) * self.branches)) for i in range(self.steps)
        ]

    def noise(self, frames: int) -> Tensor:
        """(frames, dim) to start from, the next ones of this seed."""
        return torch.randn(frames, self.model.config.motion_dim, generator=self.random) * self.noise_scale

    def __call__(
        self,
        audio: np.ndarray,
        previous: np.ndarray,
        noise: Tensor | None = None,
        known: np.ndarray | None = None,
    ) -> np.ndarray:
        """Features (N, layers, width) -> (N, dim), all normalized.

        previous: (dim,) the frame before; noise: (N, dim), the next of this seed unless given;
        known: (n, dim) of the first n frames, which are held.
        """
        noise = self.noise(len(audio)) if noise is None else noise
        *_, sample = self.solve(audio, previous, noise, known)
        return sample.cpu().numpy()

    @torch.inference_mode()
    def solve(
        self, audio: np.ndarray, previous: np.ndarray, noise: Tensor, known: np.ndarray | None = None
    ) -> Iterator[Tensor]:
        """The samples (N, dim) float32 after every step, from the noise (N, dim) on, on the device."""
        n = len(audio)
        heard = self.model.audio_embedder(self._tensor(audio)[None])
        guided = self.guidance > 1
        audios = heard.expand(self.branches - guided, -1, -1)
        if guided:
            audios = torch.cat([self.null.expand(1, n, -1), audios])
        tokens = Tokens(audios, self.emotion, self.identity.expand(self.branches, -1, -1))
        velocity: flow.Velocity = partial(
            self._velocity, tokens, self._tensor(previous).expand(self.branches, n, -1)
        )
        if self.intensity < 1:
            velocity = flow.blended(velocity, self.intensity)
        if guided:
            velocity = flow.guided(velocity, self.guidance)
        start = noise[None].to(self.device)
        if known is not None and len(known):
            held = torch.as_tensor(known, device=self.device)[None]
            velocity = flow.clamped(velocity, held, start[:, : len(known)], self.times)
        for x in flow.euler(velocity, start, self.times):
            yield x[0]

    def _velocity(self, tokens: Tokens, previous: Tensor, x: Tensor, step: int) -> Tensor:
        """(1, N, dim) -> (branches, N, dim) float32: the solver adds up in single precision."""
        motion = torch.cat([previous, x.to(self.dtype).expand(self.branches, -1, -1)], dim=-1)
        return self.model.velocity(motion, tokens, self.modulation[step]).float()

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array).to(self.device, self.dtype)


def noise_scale(config: ModelConfig, parts: dict[str, float]) -> Tensor:
    """(motion_dim,) standard deviation of the starting noise of every number, by the parts of the face."""
    scale = torch.empty(config.motion_dim)
    for part, group in (("face", "face"), ("lips", "mouth"), ("pose", "pose")):
        scale[config.motion_space.columns(group)] = float(parts[part])
    return scale
