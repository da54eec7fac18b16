"""Lids as a generator samples them, made into blinks as people's are.

A sampled blink closes part of the way, for one frame as often as for three: the mean of many that begin at different
times. So where lids clearly begin to close they blink whole, both at once, in the time that a blink takes, and for a while
they do not begin again. Frame by frame, so that a stream equals the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moda.constants import FPS
from moda.motion.motion import Motion

START = 0.45  # closure of both eyes together at which lids are taken to blink
RISE = 0.3  # and how far that is above the least of the frames just before: who squints does not blink
RECENT = 10  # those frames
# Closure, frame by frame: 0.28 s, as filmed ones.
BLINK = np.array([0.0, 0.45, 1.0, 1.0, 0.75, 0.45, 0.2, 0.0])
LEVELS = tuple(BLINK[1:-1].tolist())
SHUT = 2  # of LEVELS, the frame that lasts while the sampled lids stay closed,
HOLD, LONGEST = 0.5, 6  # above HOLD, so many frames more at the most
PAUSE = 10  # frames after a blink in which lids close by CALM at most
CALM = 0.3
MEMORY = 30 * FPS  # frames that can be taken back


@dataclass(frozen=True)
class State:
    """frame: of the blink and the pause after it, -1 in between; held: frames that it has been shut longer;
    recent: the last closures."""

    frame: int = -1
    held: int = 0
    recent: tuple[float, ...] = ()

    def after(self, closure: float) -> State:
        rest = min(self.recent, default=closure)
        recent = (*self.recent, closure)[-RECENT:]
        if self.frame == SHUT and closure > HOLD and self.held < LONGEST:
            return State(SHUT, self.held + 1, recent)
        if 0 <= self.frame < len(LEVELS) + PAUSE - 1:
            return State(self.frame + 1, self.held, recent)
        begins = closure > START and closure - rest > RISE
        return State(0 if begins else -1, 0, recent)

    def closed(self, eyes: np.ndarray) -> np.ndarray:
        """(2,) closures as sampled -> as they shall be."""
        rest = min(self.recent)
        if self.frame < 0:
            return eyes
        if self.frame <= SHUT:
            return np.maximum(eyes, LEVELS[self.frame])
        if self.frame < len(LEVELS):
            return np.full(2, max(LEVELS[self.frame], rest), eyes.dtype)
        return np.minimum(eyes, max(CALM, rest))


class Blinks:
    """Of one performance: motion goes through in pieces of any lengths."""

    def __init__(self) -> None:
        self._states = [State()]

    def __call__(self, motion: Motion) -> Motion:
        """(T) frames as sampled -> the same with whole blinks; of a space without partial blinks, as they are."""
        space = motion.space
        if not space.partial_blinks or not len(motion):
            return motion
        eyes = space.lid_closure(motion)
        wanted = eyes.copy()
        for i, pair in enumerate(eyes):
            state = self._states[-1].after(float(pair.mean()))
            self._states.append(state)
            wanted[i] = state.closed(pair)
        self._states = self._states[-MEMORY:]
        return motion if np.array_equal(wanted, eyes) else space.close_lids(motion, wanted)

    def rewind(self, frames: int) -> None:
        """As if the last `frames` frames had not come."""
        del self._states[len(self._states) - frames :]
        self._states = self._states or [State()]
