"""Speech features in, Motion out: the network, its statistics and its sampling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from moda.constants import KEYPOINTS, MOTION_DIM
from moda.errors import ModaError
from moda.generator import flow, post, segments
from moda.generator.config import LIP_KEYPOINTS, ModelConfig
from moda.generator.model import Modulation, MotionTransformer, Tokens
from moda.generator.statistics import Statistics
from moda.motion import Motion


class Generator:
    """Samples motion that goes with speech.

    model: a MotionTransformer, on the device and in the type that sampling shall use
    statistics: of the motion that it was trained on
    """

    def __init__(self, model: MotionTransformer, statistics: Statistics) -> None:
        if model.config.motion_dim != MOTION_DIM:
            raise ModaError(
                f"this model makes {model.config.motion_dim} numbers a frame, but a motion has {MOTION_DIM}"
            )
        self.model = model.eval()
        self.statistics = statistics

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def space(self) -> str:
        return self.config.space

    def stream(
        self,
        features: Iterable[np.ndarray],
        identity: np.ndarray,
        start: Motion,
        emotion: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> Iterator[Motion]:
        """Motion in chunks, each final when it comes, as many frames in all as there are features.

        A model with `config.rest_frames` (the published one) wants that much silence's features at their end;
        it gives its motion, shorter by as much, in one chunk: its post-step looks at the whole clip.

        features: pieces (n, layers, width) float32 of any length
        identity: (21, 3), the source's keypoints
        start:    one frame in the generator's space, what the motion starts from
        emotion:  a name of `config.emotions`, or None
        seed:     the same seed gives the same motion
        steps, guidance: the config's, unless given

        Errors: ModaError for another space, an unknown emotion, wrong shapes, steps below 1.
        """
        config = self.config
        start.require(self.space, "this generator")
        if len(start) != 1:
            raise ModaError(f"the generator starts from one frame of motion, but {len(start)} were given")
        identity = np.asarray(identity, dtype=np.float32).reshape(-1)
        if len(identity) != config.identity_dim:
            raise ModaError(
                f"the identity has {len(identity)} numbers, but this model takes {config.identity_dim}"
            )
        steps = config.steps if steps is None else steps
        if steps < 1:
            raise ModaError(f"the number of steps is {steps}, but must be 1 or more")
        guidance = config.guidance if guidance is None else guidance
        sampler = SegmentSampler(self.model, identity, config.emotion_index(emotion), seed, steps, guidance)

        ratio = self.statistics.ratio(start)
        previous = self.statistics.normalise(start, ratio)[0]
        chunks = segments.join(self._checked(features), sampler, previous, config.segment, config.overlap)
        motion = (self.statistics.restore(chunk, ratio, self.space) for chunk in chunks)
        return post.finish(motion, config.rest_frames, self.statistics.unit) if config.rest_frames else motion

    def _checked(self, features: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        wanted = (self.config.audio_layers, self.config.audio_width)
        for piece in features:
            if piece.ndim != 3 or piece.shape[1:] != wanted:
                raise ModaError(
                    f"the audio features have shape {tuple(piece.shape)}, but this generator takes (frames, "
                    f"{wanted[0]}, {wanted[1]}): encoder and generator do not belong together"
                )
            yield piece


class SegmentSampler:
    """One segment after the other, for one source, emotion and seed; see `segments.Sample`.

    All that no segment changes is computed here, once: identity and emotion tokens, the null audio's token,
    and the modulation of every step for both guidance branches.
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
    ) -> None:
        config = model.config
        self.model, self.steps, self.guidance = model, steps, guidance
        self.device, self.dtype = model.null_audio.device, model.null_audio.dtype
        self.random = torch.Generator().manual_seed(seed)
        self.noise_scale = noise_scale(config)

        # the unconditional branch comes first; without guidance there is none
        emotions = [emotion] if guidance <= 1 else [config.no_emotion, emotion]
        self.branches = len(emotions)
        rows = torch.tensor(emotions, device=self.device)
        self.emotion = model.emotion_embedder(rows)[:, None]
        self.identity = model.identity_embedder(self._tensor(identity)[None])[:, None].expand(
            self.branches, -1, -1
        )
        if self.branches == 2:
            self.null = model.audio_embedder(model.null_audio.expand(1, 1, config.audio_layers, -1))
        times = torch.tensor(flow.schedule(steps), device=self.device)
        everything = model.modulation(times.repeat_interleave(self.branches), rows.repeat(steps))
        self.modulation: list[Modulation] = [
            everything.rows(slice(i * self.branches, (i + 1) * self.branches)) for i in range(steps)
        ]

    def __call__(self, audio: np.ndarray, previous: np.ndarray, index: int) -> np.ndarray:
        """audio (N, layers, width), previous (dim,) -> (N, dim), all normalised."""
        noise = torch.randn(len(audio), len(previous), generator=self.random) * self.noise_scale
        *_, sample = self.solve(audio, previous, noise)
        return sample.cpu().numpy()

    @torch.inference_mode()
    def solve(self, audio: np.ndarray, previous: np.ndarray, noise: Tensor) -> Iterator[Tensor]:
        """The samples (N, dim) float32 after every step, from the noise (N, dim) on, on the device."""
        n = len(audio)
        tokens = self.model.audio_embedder(self._tensor(audio)[None])
        if self.branches == 2:
            tokens = torch.cat([self.null.expand(1, n, -1), tokens])
        tokens = Tokens(tokens, self.emotion, self.identity)
        velocity = partial(self._velocity, tokens, self._tensor(previous).expand(self.branches, n, -1))
        if self.branches == 2:
            velocity = flow.guided(velocity, self.guidance)
        for x in flow.euler(velocity, noise[None].to(self.device), self.steps):
            yield x[0]

    def _velocity(self, tokens: Tokens, previous: Tensor, x: Tensor, step: int) -> Tensor:
        """(1, N, dim) -> (branches, N, dim) float32: the solver adds up in single precision."""
        motion = torch.cat([previous, x.to(self.dtype).expand(self.branches, -1, -1)], dim=-1)
        return self.model.velocity(motion, tokens, self.modulation[step]).float()

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array).to(self.device, self.dtype)


def noise_scale(config: ModelConfig) -> Tensor:
    """(motion_dim,) standard deviation of the starting noise of every number."""
    scale = torch.full((config.motion_dim,), float(config.noise_scale["face"]))
    for keypoint in LIP_KEYPOINTS[config.space]:
        scale[3 * keypoint : 3 * keypoint + 3] = config.noise_scale["lips"]
    scale[3 * KEYPOINTS :] = config.noise_scale["pose"]
    return scale
