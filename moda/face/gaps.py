"""What a followed face does while nobody sees it: short gaps are bridged; in long ones it goes to rest."""

from __future__ import annotations

import numpy as np

HOLD = 0.4  # seconds that the last pose is held, and the next one is there beforehand
EASE = 0.8  # seconds from there to rest, and from rest to where the face is seen again
BRIDGED = 2 * (HOLD + EASE)  # a shorter gap is crossed in a straight line


def fill(times: np.ndarray, values: np.ndarray, rest: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Values (N, D) of the frames with a face, at times (N,) seconds, -> (T, D) at the times `grid` (T,).

    rest: (D,) where a face is that nobody sees for long
    """
    after = np.searchsorted(times, grid)
    before = np.clip(after - 1, 0, len(times) - 1)
    after = np.clip(after, 0, len(times) - 1)
    since = np.where(grid >= times[before], grid - times[before], np.inf)
    until = np.where(times[after] >= grid, times[after] - grid, np.inf)
    even = np.stack([np.interp(grid, times, column) for column in values.T], axis=1)
    gap = since + until
    long = gap > BRIDGED  # also before the first and after the last
    leaving, coming = 1 - _smooth((since - HOLD) / EASE), 1 - _smooth((until - HOLD) / EASE)
    weight = np.where(long, np.maximum(leaving, coming), 1.0)[:, None]
    held = np.where((leaving >= coming)[:, None], values[before], values[after])
    return np.where(long[:, None], rest + weight * (held - rest), even)


def _smooth(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
