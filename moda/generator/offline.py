"""The offline scheme, as published: segments that overlap, each starting from the last one's motion.

Any cutting of the pushes gives the same motion, to the bit; memory does not depend on the length.

Segments of N frames start every S = N - overlap frames. In each the pose is smoothed, its frame S - 1 becomes
the next one's previous frame; where two overlap, frame i is (1 - i / overlap) old + (i / overlap) new. The
joined pose is smoothed once more over the whole clip, for which one frame waits for the next.
Source: the published sampler of MoDA (arXiv 2507.03256).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from moda.motion.space import POSE_DIM

# (features (N, layers, width), previous frame (dim,)) -> (N, dim)
Sample = Callable[[np.ndarray, np.ndarray], np.ndarray]


def smooth(frames: np.ndarray) -> np.ndarray:
    """(T, dim) -> the same, its pose (the last 7 numbers) averaged over 3 frames, over 2 at either end."""
    out = frames.copy()
    pose = frames[:, -POSE_DIM:]
    if len(frames) > 1:
        out[1:-1, -POSE_DIM:] = (pose[:-2] + pose[1:-1] + pose[2:]) / np.float32(3)
        out[0, -POSE_DIM:] = (pose[0] + pose[1]) / np.float32(2)
        out[-1, -POSE_DIM:] = (pose[-2] + pose[-1]) / np.float32(2)
    return out


def fuse(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Two takes of the same frames (overlap, dim): from the old over to the new."""
    weight = (np.arange(len(old), dtype=np.float32) / np.float32(max(1, len(old))))[:, None]
    return old * (1 - weight) + new * weight


class Offline:
    """Features are pushed in, motion comes out; every frame is final when it comes."""

    def __init__(self, sample: Sample, previous: np.ndarray, segment: int, overlap: int) -> None:
        """previous: (dim,) the frame before the first. segment, overlap: N frames, and how many meet the next ones."""
        self.sample, self.segment, self.overlap = sample, segment, overlap
        self._previous = previous
        self._features: np.ndarray | None = None
        self._covered = 0  # frames of `_features` that a segment has already covered
        self._tail = np.zeros(
            (0, len(previous)), np.float32
        )  # the last segment's end, which the next one meets
        self._known = self._tail  # at most one frame that was given out and one that waits to be smoothed
        self._given = 0  # of `_known`

    def push(self, features: np.ndarray) -> np.ndarray:
        """(n, layers, width) -> (m, dim)."""
        held = features if self._features is None else np.concatenate([self._features, features])
        made = [self._tail[:0]]
        while len(held) >= self.segment:
            made.append(self._join(held[: self.segment], self.segment))
            held, self._covered = held[self.segment - self.overlap :], self.overlap
        self._features = held
        return self._smoothed(np.concatenate(made))

    def flush(self) -> np.ndarray:
        """The end: the remaining frames (m, dim), the last segment filled up with zeros. None is made of overlap alone."""
        made = [self._tail[:0]]
        held = self._features
        if held is not None and len(held) > self._covered:
            padding = np.zeros((self.segment - len(held), *held.shape[1:]), dtype=np.float32)
            made.append(self._join(np.concatenate([held, padding]), len(held)))
        made.append(self._tail)
        self._features, self._covered, self._tail = None, 0, self._tail[:0]
        return self._smoothed(np.concatenate(made), last=True)

    def _join(self, features: np.ndarray, real: int) -> np.ndarray:
        stride = self.segment - self.overlap
        frames = smooth(self.sample(features, self._previous))
        self._previous = frames[stride - 1]
        tail = self._tail
        frames = np.concatenate([fuse(tail, frames[: len(tail)]), frames[len(tail) : real]])
        done = stride if real == self.segment else real
        self._tail = frames[done:]
        return frames[:done]

    def _smoothed(self, frames: np.ndarray, last: bool = False) -> np.ndarray:
        """`smooth` of all frames joined: one frame waits for its successor, until the last."""
        known = np.concatenate([self._known, frames])
        ready = len(known) if last else max(self._given, len(known) - 1)
        out = smooth(known)[self._given : ready] if ready > self._given else known[:0]
        self._known = known[max(0, ready - 1) :]
        self._given = min(ready, 1)
        return out
