"""Log-mel spectrogram: 80 bands, 100 frames a second, four to a video frame; whole and streamed alike."""

from __future__ import annotations

import numpy as np

from moda.audio.decode import frames_in
from moda.constants import SAMPLE_RATE, SAMPLES_PER_FRAME

BANDS = 80
WINDOW = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
FFT = 512
PER_FRAME = SAMPLES_PER_FRAME // HOP  # 4 mel frames a video frame
FLOOR = 1e-6  # added before the logarithm: silence is log(1e-6) = -13.8
_BEFORE = WINDOW // 2 - HOP // 2  # samples that the first window reaches back: 120


class LogMel:
    """Sound -> log(mel power + 1e-6), natural logarithm.

    Frame k looks at the 400 samples centered on sample 160 k + 80 (zeros beyond the ends), so that frames 4 j to
    4 j + 3 lie symmetrically in video frame j. Periodic Hann window, 512-point FFT, power, 80 triangles of unit
    area on Slaney's mel scale from 0 to 8000 Hz.
    n samples give 4 * round(n / 640) frames.

    Every four frames go through the same matrix product of the same shape, wherever the sound was cut: the
    stream equals the whole to the last bit.
    """

    def __init__(self) -> None:
        self.window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float64)
        self.filters = slaney_filters()  # (257, 80)

    def whole(self, wave: np.ndarray) -> np.ndarray:
        """(n,) float32 at 16 kHz -> (4 * round(n / 640), 80) float32."""
        stream = self.stream()
        return np.concatenate([stream.push(wave), stream.flush()])

    def stream(self, every: int = 1, lead: int = 0) -> LogMelStream:
        """every: video frames made at a time, the first time `lead` fewer: larger pieces take less time for each."""
        return LogMelStream(self, every, lead)

    def frames(self, held: np.ndarray, count: int) -> np.ndarray:
        """`count` video frames' worth; held[0] is the first sample of the first window."""
        windows = np.lib.stride_tricks.sliding_window_view(held, WINDOW)[::HOP][: count * PER_FRAME]
        spectrum = np.fft.rfft(windows * self.window, FFT)
        power = (spectrum.real**2 + spectrum.imag**2).reshape(count, PER_FRAME, -1)
        mel = np.stack([frame @ self.filters for frame in power])
        return np.log(mel + FLOOR).reshape(-1, BANDS).astype(np.float32)


class LogMelStream:
    """One sound, pushed in pieces of any lengths; each frame comes as soon as its last window is full (7.5 ms late)."""

    def __init__(self, mel: LogMel, every: int, lead: int) -> None:
        self._mel, self._every, self._lead = mel, every, lead
        self._held = np.zeros(_BEFORE, np.float32)
        self._samples = self._frames = 0  # given so far; video frames made so far

    def push(self, wave: np.ndarray) -> np.ndarray:
        """(n,) float32 -> (4 m, 80) float32."""
        self._samples += len(wave)
        self._held = np.concatenate([self._held, np.asarray(wave, np.float32)])
        ready = max(0, (len(self._held) - 2 * _BEFORE) // SAMPLES_PER_FRAME)
        return self._take(ready - (self._lead + self._frames + ready) % self._every)

    def flush(self) -> np.ndarray:
        """The end: what is left, as if silence followed."""
        rest = max(0, frames_in(self._samples) - self._frames)
        self._held = np.concatenate([self._held, np.zeros(SAMPLES_PER_FRAME + _BEFORE, np.float32)])
        return self._take(rest)

    def _take(self, count: int) -> np.ndarray:
        if count <= 0:
            return np.zeros((0, BANDS), np.float32)
        out = self._mel.frames(self._held, count)
        self._held = self._held[count * SAMPLES_PER_FRAME :]
        self._frames += count
        return out


def slaney_filters(points: int = FFT) -> np.ndarray:
    """(points / 2 + 1, 80) float64: triangles of unit area (in Hz), evenly spaced on Slaney's mel scale, 0 to 8000 Hz.

    The scale is linear (3 mel for 200 Hz) below 1000 Hz, logarithmic (27 mel for a factor 6.4) above.
    Source: M. Slaney, Auditory Toolbox, 1998.
    """
    knee, step, log_step = 1000.0, 200.0 / 3, np.log(6.4) / 27
    top = knee / step + np.log(SAMPLE_RATE / 2 / knee) / log_step
    mel = np.linspace(0, top, BANDS + 2)
    hz = np.where(mel < knee / step, mel * step, knee * np.exp((mel - knee / step) * log_step))
    bins = np.fft.rfftfreq(points, 1 / SAMPLE_RATE)[:, None]
    low, mid, high = hz[:-2], hz[1:-1], hz[2:]
    triangle = np.minimum((bins - low) / (mid - low), (high - bins) / (high - mid))
    return np.maximum(triangle, 0) * (2 / (high - low))
