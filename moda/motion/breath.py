"""Breath: how far chest and shoulders have risen, a number a frame of a Motion."""

from __future__ import annotations

import numpy as np

from moda.constants import FPS

PERIOD, PEOPLE = 4.0, 0.8  # seconds of one breath at rest; how far apart people's are
INWARDS = 0.4  # part of it in which the chest rises
UNEVEN, DEEPER = 0.25, 0.15  # how much breaths differ: seconds that one is early or late, part of its depth


def breathing(frames: np.ndarray, seed: int) -> np.ndarray:
    """(T,) numbers of frames, from a performance's first -> (T,) float32, 0 breathed out (as at the first), 1 in.

    Each frame's is a function of its number alone. The seed makes people breathe apart.
    """
    seconds = np.asarray(frames, dtype=np.float64) / FPS
    period = PERIOD + PEOPLE * (seed * (np.sqrt(5) - 1) / 2 % 1 - 0.5)
    part = (seconds + UNEVEN * np.sin(2 * np.pi * seconds / (3.7 * period))) / period % 1
    way = np.where(part < INWARDS, part / INWARDS, 1 + (part - INWARDS) / (1 - INWARDS)) / 2
    depth = 1 + DEEPER * np.sin(2 * np.pi * seconds / (5.3 * period))
    return (depth * (0.5 - 0.5 * np.cos(2 * np.pi * way))).astype(np.float32)
