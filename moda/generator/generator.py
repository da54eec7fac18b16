"""Speech features in, Motion out: the network, its statistics and its two schemes of sampling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from moda.errors import ModaError
from moda.generator import post
from moda.generator.config import ModelConfig
from moda.generator.live import Live
from moda.generator.model import MotionTransformer
from moda.generator.offline import Offline
from moda.generator.sampler import Sampler, noise_scale
from moda.generator.statistics import Statistics
from moda.motion import Motion, Space, join
from moda.streams import pushed

if TYPE_CHECKING:
    from moda.bench.timing import Row


class Generator:
    """Samples motion that goes with speech.

    model: a MotionTransformer, on the device and in the type that sampling shall use
    statistics: of the motion that it was trained on
    """

    def __init__(self, model: MotionTransformer, statistics: Statistics) -> None:
        if len(statistics.mean) != model.config.motion_dim:
            raise ModaError(
                f"this model makes {model.config.motion_dim} numbers a frame, but its statistics have "
                f"{len(statistics.mean)}"
            )
        self.model = model.eval()
        self.statistics = statistics
        # glibc hands freed memory back beyond twice the largest block that was ever freed. Let that be more than a pass
        # uses (this is never touched), or the system gives hundreds of pages anew in each: a tenth of its time.
        torch.empty(7 << 20)

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def space(self) -> Space:
        return self.config.motion_space

    def operations(self) -> list[Row]:
        from moda.generator.bench import bench

        return bench(self.model)

    def offline(
        self,
        identity: np.ndarray,
        start: Motion,
        emotion: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> MotionStream:
        """The published scheme: segments of 80 frames that overlap by 16.

        A model with `config.rest_frames` (the published one) wants that much silence's features at their end;
        it gives its motion, shorter by as much, at the end: its post-step looks at the whole clip.

        identity: (K, 3), the source's keypoints
        start:    one frame in the generator's space, what the motion starts from
        emotion:  a name of `config.emotions`, or None
        seed:     the same seed gives the same motion
        steps, guidance: the config's, unless given

        Errors: ModaError for another space, an unknown emotion, wrong shapes, steps below 1.
        """
        sampler, previous = self._sampler(identity, start, emotion, seed, steps, guidance)
        scheme = Offline(sampler, previous, self.config.segment, self.config.overlap)
        return MotionStream(self, scheme, sampler, start)

    def live(
        self,
        identity: np.ndarray,
        start: Motion,
        silence: np.ndarray,
        emotion: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> MotionStream:
        """The live scheme (moda.generator.live); arguments as `offline`.

        silence: (layers, width) features of no sound. Errors: also for a model that needs the whole clip.
        """
        if self.config.rest_frames:
            raise ModaError(
                "this model looks at the whole clip before its lips are final; it cannot run live, use the "
                "offline scheme"
            )
        steps = self.config.live_steps if steps is None else steps
        sampler, previous = self._sampler(identity, start, emotion, seed, steps, guidance)
        if self.config.live_noise_scale:
            sampler.noise_scale = noise_scale(self.config, self.config.live_noise_scale)
        return MotionStream(self, Live(sampler, sampler.noise, previous, silence), sampler, start)

    def stream(
        self, features: Iterable[np.ndarray], identity: np.ndarray, start: Motion, *args, **options
    ) -> Iterator[Motion]:
        """The offline scheme over pieces (n, layers, width) of features of any length: Motion in chunks."""
        return pushed(self.offline(identity, start, *args, **options), features)

    def _sampler(
        self,
        identity: np.ndarray,
        start: Motion,
        emotion: str | None,
        seed: int,
        steps: int | None,
        guidance: float | None,
    ) -> tuple[Sampler, np.ndarray]:
        """-> the sampler, the normalized frame (dim,) to start from."""
        config = self.config
        self.space.single(start.require(self.space, "this generator"), "the generator starts from")
        identity = np.asarray(identity, dtype=np.float32).reshape(-1)
        if len(identity) != config.identity_dim:
            raise ModaError(
                f"the identity has {len(identity)} numbers, but this model takes {config.identity_dim}"
            )
        steps = config.steps if steps is None else steps
        if steps < 1:
            raise ModaError(f"the number of steps is {steps}, but must be 1 or more")
        guidance = config.guidance if guidance is None else guidance
        row, intensity = config.emotion(emotion)
        sampler = Sampler(self.model, identity, row, seed, steps, guidance, intensity)
        return sampler, self.statistics.normalize(start, float(self.statistics.ratio(start)))[0]


class Scheme(Protocol):
    def push(self, features: np.ndarray) -> np.ndarray: ...
    def flush(self) -> np.ndarray: ...


class MotionStream:
    """Features pushed in, Motion out: a scheme, its numbers restored to the space's units."""

    def __init__(self, generator: Generator, scheme: Scheme, sampler: Sampler, start: Motion) -> None:
        self.scheme = scheme
        self._generator, self._sampler = generator, sampler
        self._ratio = float(generator.statistics.ratio(start))
        self._held: list[Motion] = []  # of a model whose post-step wants all of it

    def push(self, features: np.ndarray) -> Motion:
        """(n, layers, width) -> the frames that are final now, which may be none. Errors: ModaError for another shape."""
        config = self._generator.config
        wanted = (config.audio_layers, config.audio_width)
        if features.ndim != 3 or features.shape[1:] != wanted:
            raise ModaError(
                f"the audio features have shape {tuple(features.shape)}, but this generator takes (frames, "
                f"{wanted[0]}, {wanted[1]}): encoder and generator do not belong together"
            )
        motion = self._restored(self.scheme.push(np.asarray(features, dtype=np.float32)))
        if not config.rest_frames:
            return motion
        self._held.append(motion)
        return motion[:0]

    def flush(self) -> Motion:
        """The sound's end: its remaining frames."""
        motion = self._restored(self.scheme.flush())
        if not self._generator.config.rest_frames:
            return motion
        whole, self._held = join([*self._held, motion]), []
        return post.finish(whole, self._generator.config.rest_frames, self._generator.statistics.unit)

    def set_emotion(self, name: str | None) -> None:
        """For all that is sampled from now on. Errors: ModaError for an unknown one."""
        self._sampler.set_emotion(*self._generator.config.emotion(name))

    def _restored(self, frames: np.ndarray) -> Motion:
        return self._generator.statistics.restore(frames, self._ratio, self._generator.space)
