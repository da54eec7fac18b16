"""Many channels -> one that a speech encoder takes, or the two that a listener takes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

BLOCK_SECONDS = 0.1
MEMORY_SECONDS = 2.0  # over which the channels' levels and likeness are measured
OPPOSITE = -0.5  # correlation with the leading channel below which a channel is turned over
# Film sound has the voice in the middle; what is around and below it is music and noise. Two channels, and layouts
# without names, are equals.
PRIOR = {"FC": 1.0, "FL": 0.3, "FR": 0.3, "FLC": 0.5, "FRC": 0.5, "LFE": 0.0, "LFE2": 0.0}
PRIOR_AROUND = 0.1
LEFT, RIGHT = (
    ("FL", "FLC", "BL", "SL", "TFL", "TBL", "WL", "DL"),
    ("FR", "FRC", "BR", "SR", "TFR", "TBR", "WR", "DR"),
)


class Downmix:
    """A stream's channels -> mono, (n, C) pieces to (n,) pieces.

    y = sum_c w_c x_c, with w_c = sign_c * prior_c * level_c / sum(prior * level): a channel counts by how loud it
    is, so that one voice has the same level in one channel of eight as in all of them; and sign_c = -1 for a channel
    that runs opposite to the loudest, which would cancel it (a wrongly soldered cable, some "wide" effects).
    Two people on a channel each are both in the sum. Levels are those of the last two seconds; the weights glide.
    """

    def __init__(self, names: tuple[str, ...], rate: int) -> None:
        self.names = names
        film = len(names) > 2 and "FC" in names
        prior = [PRIOR.get(name, PRIOR_AROUND) if film else 1.0 for name in names]
        self._prior = np.array(prior) if any(prior) else np.ones(len(names))
        self._size = round(BLOCK_SECONDS * rate)
        self._keep = float(np.exp(-BLOCK_SECONDS / MEMORY_SECONDS))
        self._energy = np.zeros((len(names), len(names)))
        self._weights: np.ndarray | None = None
        self._held = np.zeros((0, len(names)), np.float32)

    def push(self, wave: np.ndarray) -> Iterator[np.ndarray]:
        """(n, C) -> what is ready. The same samples whatever the pieces' lengths."""
        self._held = np.concatenate([self._held, wave])
        whole = len(self._held) // self._size * self._size
        for start in range(0, whole, self._size):
            yield self._mix(self._held[start : start + self._size])
        self._held = self._held[whole:]

    def flush(self) -> Iterator[np.ndarray]:
        """The last, shorter block."""
        if len(self._held):
            yield self._mix(self._held)
            self._held = self._held[:0]

    def _mix(self, block: np.ndarray) -> np.ndarray:
        self._energy = self._keep * self._energy + block.T.astype(np.float64) @ block
        level = np.sqrt(np.diag(self._energy))
        share = self._prior * level
        lead = int(share.argmax())
        likeness = self._energy[lead] / np.maximum(level[lead] * level, 1e-12)
        share = share if share.sum() > 0 else self._prior
        weights = np.where(likeness < OPPOSITE, -1, 1) * share / share.sum()
        before = weights if self._weights is None else self._weights
        self._weights = weights
        if np.array_equal(before, weights):
            return (block @ weights).astype(np.float32)
        ramp = np.linspace(0, 1, len(block), endpoint=False)[:, None]
        return (block * (before + ramp * (weights - before))).sum(axis=1).astype(np.float32)


def to_stereo(wave: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """(n, C) -> (n, 2) for listening: left and right as named, the middle at -3 dB in both, no clipping added.

    Channels without a known place are heard in the middle; LFE is left out, as ITU-R BS.775 has it.
    """
    if wave.shape[1] == 1:
        return np.repeat(wave, 2, axis=1)
    matrix = np.zeros((wave.shape[1], 2), np.float32)
    for index, name in enumerate(names):
        front = name in ("FL", "FR")
        if name in LEFT or name in RIGHT:
            matrix[index, int(name in RIGHT)] = 1.0 if front else 0.7071
        elif not name.startswith("LFE"):
            matrix[index] = 0.7071
    total = matrix.sum(axis=0).max()
    return wave @ (matrix / total if total > 1 else matrix)
