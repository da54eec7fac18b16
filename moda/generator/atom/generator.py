"""Speech features in, landmark motion out: AToM's sampler, over sound of any length.

Windows of F frames start every `hop`. After each of the first steps of the solver a window's beginning is overwritten with
the end of the window before, as that was after the same step; so all windows could be one batch, and each can also follow
the last one with nothing kept but that one's ends. Where two windows' data meet, the one becomes the other. Source:
MoDiTalker (arXiv 2403.19144), the routine meant for long sound, which binds after every step: that left jumps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from moda.diffusion import Schedule, ddim, from_data
from moda.errors import ModaError
from moda.face.pose import canonical
from moda.generator.atom.config import AtomConfig
from moda.generator.atom.model import MotionDecoder
from moda.generator.offline import fuse
from moda.motion import Motion, Space, join
from moda.motion.landmarks68 import LANDMARK_OF, centimeters, eye_distances
from moda.streams import pushed

if TYPE_CHECKING:
    from moda.bench.timing import Row


BOUND = 0.5  # of the steps, the first ones: so long a window is bound to the one before


def face_condition(neutral: np.ndarray) -> np.ndarray:
    """(68, 3) neutral face in eye distances -> a_0 (68, 3): centimeters off the mean face."""
    return centimeters(neutral - canonical()[LANDMARK_OF]).astype(np.float32)


class AtomGenerator:
    """model: on the device and in the type that sampling shall use. Its heads do not move: a pose comes from elsewhere."""

    def __init__(self, model: MotionDecoder) -> None:
        self.model = model.eval()
        self.schedule = Schedule.cosine()

    @property
    def config(self) -> AtomConfig:
        return self.model.config

    @property
    def space(self) -> Space:
        return self.config.motion_space

    def operations(self) -> list[Row]:
        from moda.generator.atom.bench import bench

        return bench(self.model)

    def offline(
        self,
        identity: np.ndarray,
        start: Motion,
        emotion: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> AtomStream:
        """identity: (68, 3) neutral face, head-fixed. start: one frame, whose pose is held.

        Errors: ModaError for another space, an emotion (it knows none), wrong shapes, steps below 1.
        """
        self.space.single(start.require(self.space, "this generator"), "the generator starts from")
        self.config.emotion(emotion)
        identity = np.asarray(identity, dtype=np.float32)
        if identity.shape != (self.space.keypoints, 3):
            raise ModaError(f"the identity has shape {identity.shape}, but this model takes (68, 3)")
        steps = self.config.steps if steps is None else steps
        if steps < 1:
            raise ModaError(f"the number of steps is {steps}, but must be 1 or more")
        guidance = self.config.guidance if guidance is None else guidance
        return AtomStream(self, face_condition(identity), start, seed, steps, guidance)

    def live(self, *_: object, **__: object) -> AtomStream:
        """Errors: always, a ModaError."""
        raise ModaError(
            f"AToM samples {self.config.frames / 25:g} seconds at once and cannot run live; use the offline scheme"
        )

    def stream(
        self, features: Iterable[np.ndarray], identity: np.ndarray, start: Motion, *args, **options
    ) -> Iterator[Motion]:
        """The scheme over pieces of features of any length: Motion in chunks."""
        return pushed(self.offline(identity, start, *args, **options), features)


class AtomStream:
    """Features pushed in, Motion out, a hop of frames at a time."""

    scheme = None  # none that could go on or be taken back

    def __init__(
        self,
        generator: AtomGenerator,
        face: np.ndarray,
        start: Motion,
        seed: int,
        steps: int,
        guidance: float,
    ) -> None:
        """face: a_0 (68, 3)."""
        self._generator, self._start, self._guidance = generator, start, guidance
        parameter = next(generator.model.parameters())
        self._device, self._dtype = parameter.device, parameter.dtype
        self._face = torch.from_numpy(face).reshape(1, 1, -1).to(parameter)
        self._random = torch.Generator().manual_seed(seed)
        self._pairs = generator.schedule.grid(steps)
        config = generator.config
        self._held = np.zeros((0, config.audio_tokens, config.audio_width), np.float32)
        self._before: list[Tensor] = []  # the last window's end, after every step that binds
        self._tail = np.zeros((0, config.numbers), np.float32)  # its data, which the next window's meets

    def push(self, features: np.ndarray) -> Motion:
        """(n, tokens, width) -> the frames that are final now, which may be none. Errors: ModaError for another shape."""
        config = self._generator.config
        if features.ndim != 3 or features.shape[1:] != self._held.shape[1:]:
            raise ModaError(
                f"the audio features have shape {tuple(features.shape)}, but this generator takes (frames, "
                f"{config.audio_tokens}, {config.audio_width}): encoder and generator do not belong together"
            )
        self._held = np.concatenate([self._held, features.astype(np.float32)])
        made = [self._motion(np.zeros((0, config.numbers), np.float32))]
        while len(self._held) >= config.frames:
            window = self._window(self._held[: config.frames])
            made.append(self._motion(window[: config.hop]))
            self._held, self._tail = self._held[config.hop :], window[config.hop :]
        return join(made)

    def flush(self) -> Motion:
        """The sound's end: its remaining frames. The last window is filled up with the last feature."""
        config, real = self._generator.config, len(self._held)
        out = self._tail
        if real > len(self._tail):
            filled = np.concatenate([self._held, np.repeat(self._held[-1:], config.frames - real, axis=0)])
            out = self._window(filled)[:real]
        self._held, self._tail, self._before = self._held[:0], self._tail[:0], []
        return self._motion(out)

    def set_emotion(self, name: str | None) -> None:
        """Errors: ModaError for any: it knows none."""
        self._generator.config.emotion(name)

    @torch.inference_mode()
    def _window(self, features: np.ndarray) -> np.ndarray:
        """(F, tokens, width) -> (F, 204) centimeters off the neutral face."""
        config, model = self._generator.config, self._generator.model
        audio = torch.from_numpy(features).to(self._face).reshape(1, config.tokens, -1)
        branches = 1 if self._guidance <= 1 else 2
        drop = torch.tensor([True, False][-branches:], device=self._device)
        condition = model.condition(audio.expand(branches, -1, -1), self._face.expand(branches, -1, -1), drop)

        def network(x: Tensor, t: int) -> Tensor:
            at = torch.full((branches,), t, device=self._device)
            out = model(x.to(self._dtype).expand(branches, -1, -1), at, condition).float()
            if branches == 1:
                return out
            null, known = out.chunk(2)
            return null + self._guidance * (known - null)

        def draw() -> Tensor:
            return torch.randn(1, config.frames, config.numbers, generator=self._random).to(self._device)

        ends = config.frames - config.hop
        before, self._before = iter(self._before), []

        def bind(x: Tensor) -> Tensor:
            last = next(before, None)
            if last is not None:
                x = torch.cat([last, x[:, ends:]], dim=1)
            if len(self._before) < int(BOUND * len(self._pairs)):
                self._before.append(x[:, config.hop :])
            return x

        schedule = self._generator.schedule
        estimate = from_data(network, schedule, config.bound)
        *_, x = ddim(estimate, schedule, draw(), self._pairs, draw, config.eta, bind)
        out = x[0].cpu().numpy().copy()
        n = len(self._tail)
        out[:n] = fuse(self._tail, out[:n])
        return out

    def _motion(self, numbers: np.ndarray) -> Motion:
        """(T, 204) -> Motion with the start's pose."""
        space = self._generator.space
        exp = eye_distances(numbers.reshape(len(numbers), space.keypoints, 3))
        array = np.repeat(self._start.to_array(), len(numbers), axis=0)
        array[:, : 3 * space.keypoints] = exp.reshape(-1, 3 * space.keypoints)
        return Motion.from_array(array, space)
