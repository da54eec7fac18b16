"""Reading any sound file into memory, for corpora of short clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moda.constants import SAMPLE_RATE


def read_sound(path: Path, speed: float = 1.0) -> np.ndarray:
    """-> (n,) float32 mono 16 kHz; `speed` above 1 plays it faster and higher (pitch and formants alike)."""
    import av

    resampler = av.AudioResampler("s16", "mono", round(SAMPLE_RATE / speed))
    parts = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            parts += [f.to_ndarray()[0] for f in resampler.resample(frame)]
        parts += [f.to_ndarray()[0] for f in resampler.resample(None)]
    return np.concatenate(parts).astype(np.float32) / 32768


def resample_sound(sound: np.ndarray, rate: int) -> np.ndarray:
    """(n,) int16 at `rate` -> (m,) float32 at 16 kHz."""
    import av

    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(sound, np.int16)[None], format="s16", layout="mono"
    )
    frame.sample_rate = rate
    resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
    parts = [f.to_ndarray()[0] for f in (*resampler.resample(frame), *resampler.resample(None))]
    return np.concatenate(parts).astype(np.float32) / 32768
