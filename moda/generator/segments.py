"""Long audio: segments that overlap, each starting from the last one's motion, joined while they come.

A whole clip and a stream are this same generator; memory does not depend on the length.

Segments of N frames start every S = N - overlap frames. In each the pose is smoothed, its frame S - 1 becomes
the next one's previous frame; where two overlap, frame i is (1 - i / overlap) old + (i / overlap) new. The
joined pose is smoothed once more over the whole clip, for which one frame waits for the next.
Source: the published sampler of MoDA (arXiv 2507.03256).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from moda.generator.config import POSE_DIM

# (features (N, layers, width), previous frame (dim,), number of the segment) -> (N, dim)
Sample = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


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


def cut(features: Iterable[np.ndarray], segment: int, overlap: int) -> Iterator[tuple[np.ndarray, int]]:
    """Pieces of any length (n, layers, width) -> (segment of N frames, how many of them are real).

    The last one is filled with zeros. No segment is made of overlap alone.
    """
    stride = segment - overlap
    buffer: np.ndarray | None = None
    ready = 0  # frames of the buffer that a segment has already covered

    for piece in features:
        piece = np.asarray(piece, dtype=np.float32)
        buffer = piece if buffer is None else np.concatenate([buffer, piece])
        while len(buffer) >= segment:
            yield buffer[:segment], segment
            buffer, ready = buffer[stride:], overlap
    if buffer is not None and len(buffer) > ready:
        padding = np.zeros((segment - len(buffer), *buffer.shape[1:]), dtype=np.float32)
        yield np.concatenate([buffer, padding]), len(buffer)


def fused(
    features: Iterable[np.ndarray], sample: Sample, previous: np.ndarray, segment: int, overlap: int
) -> Iterator[np.ndarray]:
    """Segments sampled one after the other and joined; the pose not yet smoothed over the joints."""
    stride = segment - overlap
    tail = np.zeros(
        (0, len(previous)), dtype=np.float32
    )  # the end of the last segment, which the next one meets
    for i, (window, real) in enumerate(cut(features, segment, overlap)):
        frames = smooth(sample(window, previous, i))
        previous = frames[stride - 1]
        frames = np.concatenate([fuse(tail, frames[: len(tail)]), frames[len(tail) : real]])
        done = stride if real == segment else real
        yield frames[:done]
        tail = frames[done:]
    if len(tail):
        yield tail


def smoothed(chunks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """`smooth` of all chunks joined, in chunks: one frame waits for its successor."""
    known, sent = None, 0  # at most one frame that was sent and one that waits
    for chunk in chunks:
        known = chunk if known is None else np.concatenate([known, chunk])
        if len(known) > sent + 1:
            yield smooth(known)[sent:-1]
        known = known[-2:]
        sent = len(known) - 1
    if known is not None:
        yield smooth(known)[sent:]


def join(
    features: Iterable[np.ndarray], sample: Sample, previous: np.ndarray, segment: int, overlap: int
) -> Iterator[np.ndarray]:
    """Features (n, layers, width) in pieces of any length -> motion (n, dim) in chunks, as many in all.

    previous: (dim,) the frame before the first; sample: see `Sample`. Every chunk is final when it comes.
    """
    return smoothed(fused(features, sample, previous, segment, overlap))
