"""The lips' post-step of the published model: what opens far from rest is opened a little farther."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moda.errors import ModaError
from moda.motion import Motion

STEEPNESS = 5.0  # of the sigmoid over the squared offset
EVENNESS = 0.1  # share of the clip's largest squared offset that tempers the gain


def amplify_lips(motion: Motion, rest: Motion, unit: np.ndarray) -> Motion:
    """Every lip keypoint's offset from the rest pose, times 1 + w of its frame.

        w = (sigmoid(5 d) - 0.5) / (0.1 max d + 0.05)

    d: (T,) squared offset, summed over the lips, in normalized units; max d: over the clip.
    rest: one frame; unit: (dim,), see `Statistics.unit`. Source: the published sampler of MoDA.
    """
    lips = list(motion.space.groups["mouth"])
    k = motion.space.keypoints
    offset = motion.exp[:, lips] - rest.exp[:, lips]
    d = np.square(offset / unit[: 3 * k].reshape(k, 3)[lips]).sum(axis=(1, 2))
    w = (1 / (1 + np.exp(-STEEPNESS * d)) - 0.5) / (EVENNESS * d.max() + 0.05)
    exp = motion.exp.copy()
    exp[:, lips] = rest.exp[:, lips] + offset * (1 + w)[:, None, None]
    return replace(motion, exp=exp)


def finish(whole: Motion, rest_frames: int, unit: np.ndarray) -> Motion:
    """A clip that ends with `rest_frames` frames of silence -> without them, lips amplified."""
    if len(whole) <= rest_frames:
        raise ModaError(
            f"the audio features are {len(whole)} frames, but this model wants more than the {rest_frames} "
            "frames of silence that they have to end with"
        )
    rest = whole[-max(1, int(0.75 * rest_frames))]
    return amplify_lips(whole, rest, unit)[:-rest_frames]
