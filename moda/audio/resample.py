"""Streams of sound from one rate to another."""

from __future__ import annotations

import av
import numpy as np

from moda.constants import SAMPLE_RATE


class Resampler:
    """Mono float32 at `rate`, pushed in pieces, to 16 kHz; at 16 kHz it passes through."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._resampler = None if rate == SAMPLE_RATE else av.AudioResampler("fltp", "mono", SAMPLE_RATE)

    def push(self, wave: np.ndarray) -> np.ndarray:
        """(n,) -> (m,)."""
        if self._resampler is None or not len(wave):
            return wave
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[None]), format="fltp", layout="mono")
        frame.sample_rate = self.rate
        return self._joined(self._resampler.resample(frame))

    def flush(self) -> np.ndarray:
        """What the filter still holds; then it is as new."""
        if self._resampler is None:
            return np.zeros(0, np.float32)
        rest = self._joined(self._resampler.resample(None))
        self._resampler = av.AudioResampler("fltp", "mono", SAMPLE_RATE)
        return rest

    @staticmethod
    def _joined(frames: list[av.AudioFrame]) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.float32), *(frame.to_ndarray()[0] for frame in frames)])


def to_rate(wave: np.ndarray, rate: int) -> np.ndarray:
    """(n,) float32 mono at 16 kHz, a whole sound -> the same at another rate."""
    if rate == SAMPLE_RATE or not len(wave):
        return wave
    resampler = av.AudioResampler("fltp", "mono", rate)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[None]), format="fltp", layout="mono")
    frame.sample_rate = SAMPLE_RATE
    frames = [*resampler.resample(frame), *resampler.resample(None)]
    return np.concatenate([part.to_ndarray()[0] for part in frames])
