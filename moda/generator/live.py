"""The live scheme: a window that slides, a few frames at a time, of which the newest are given out at once.

Each window's past is what was given out, held on its straight way from its noise to its data at every step of the
solver, so that the new frames go on from it. Noise belongs to a frame, not to a window. Lips need no more; the head
does, whose joints would show: a critically damped spring draws the given-out pose after the sampled one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from moda.constants import FPS
from moda.motion.space import POSE_DIM

WINDOW = 24  # frames
HOP = 4  # new frames a window
STIFFNESS = 0.4  # of the spring, a frame: the pose lags by 2 / STIFFNESS frames
MEMORY = 20 * FPS  # frames that can be taken back

# (features (N, layers, width), previous (dim,), noise (N, dim), known (n, dim)) -> (N, dim)
Sample = Callable[[np.ndarray, np.ndarray, Tensor, np.ndarray], np.ndarray]


@dataclass
class State:
    """The frames so far, at most MEMORY and a window of them; the first `lead` are made up, of rest.

    features (T, layers, width), noise (T, dim), sampled (T, dim); pose, speed (T, 7): of the spring.
    """

    features: np.ndarray
    noise: Tensor
    sampled: np.ndarray
    pose: np.ndarray
    speed: np.ndarray

    def cut(self, part: slice) -> State:
        return State(
            *(getattr(self, name)[part] for name in ("features", "noise", "sampled", "pose", "speed"))
        )


class Live:
    """Features are pushed in, motion comes out, HOP frames at a time."""

    def __init__(
        self,
        sample: Sample,
        draw_noise: Callable[[int], Tensor],
        previous: np.ndarray,
        silence: np.ndarray,
        window: int = WINDOW,
        hop: int = HOP,
    ) -> None:
        """previous: (dim,) the frame before the first. silence: (layers, width) features of no sound."""
        self.sample, self.draw_noise, self.silence = sample, draw_noise, silence
        self.window, self.hop = window, hop
        lead = window - hop + 1
        self.state = State(
            features=np.repeat(silence[None], lead, axis=0),
            noise=draw_noise(lead),
            sampled=np.repeat(previous[None], lead, axis=0),
            pose=np.repeat(previous[None, -POSE_DIM:], lead, axis=0),
            speed=np.zeros((lead, POSE_DIM), np.float32),
        )
        self._waiting = np.zeros((0, *silence.shape), np.float32)
        self.frames = 0  # given out

    def push(self, features: np.ndarray) -> np.ndarray:
        """(n, layers, width) -> (m, dim), m a multiple of the hop."""
        waiting = np.concatenate([self._waiting, features])
        made = [self.state.sampled[:0]]
        while len(waiting) >= self.hop:
            made.append(self._window(waiting[: self.hop]))
            waiting = waiting[self.hop :]
        self._waiting = waiting
        return np.concatenate(made)

    def flush(self) -> np.ndarray:
        """Frames for the features that wait for a whole hop, as if silence followed; then it may go on."""
        real = len(self._waiting)
        if not real:
            return self.state.sampled[:0]
        out = self.push(np.repeat(self.silence[None], self.hop - real, axis=0))
        self.rewind(self.frames - (self.hop - real))
        return out[:real]

    def rewind(self, frames: int) -> None:
        """Go on from when so many frames had been given out; what waits is forgotten."""
        back = self.frames - frames
        kept = len(self.state.sampled) - back
        if back < 0 or kept < self.window - self.hop + 1:
            raise ValueError(f"cannot go from frame {self.frames} back to {frames}")
        self.state = self.state.cut(slice(0, kept))
        self.frames = frames
        self._waiting = self._waiting[:0]

    def _window(self, features: np.ndarray) -> np.ndarray:
        """The next `hop` frames."""
        past = self.window - self.hop
        state = self.state
        noise = torch.cat([state.noise[-past:], self.draw_noise(self.hop)])
        sampled = self.sample(
            np.concatenate([state.features[-past:], features]),
            state.sampled[-past - 1],
            noise,
            state.sampled[-past:],
        )[past:]
        poses, speeds = spring(state.pose[-1], state.speed[-1], sampled[:, -POSE_DIM:])
        joined = State(
            features=np.concatenate([state.features, features]),
            noise=torch.cat([state.noise, noise[past:]]),
            sampled=np.concatenate([state.sampled, sampled]),
            pose=np.concatenate([state.pose, poses]),
            speed=np.concatenate([state.speed, speeds]),
        )
        self.state = joined.cut(slice(-(MEMORY + self.window), None))
        self.frames += self.hop
        out = sampled.copy()
        out[:, -POSE_DIM:] = poses
        return out


def spring(pose: np.ndarray, speed: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A critically damped spring from (pose, speed) (7,) after targets (n, 7) -> poses, speeds (n, 7).

    p'' = w^2 (g - p) - 2 w p',   solved exactly over each frame for its target g
    """
    decay = np.float32(np.exp(-STIFFNESS))
    poses, speeds = np.empty_like(targets), np.empty_like(targets)
    for i, target in enumerate(targets):
        away = pose - target
        slope = speed + STIFFNESS * away
        pose = target + (away + slope) * decay
        speed = (speed - STIFFNESS * slope) * decay
        poses[i], speeds[i] = pose, speed
    return poses, speeds
