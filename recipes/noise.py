"""Sounds without a voice, made up: (seconds, random) -> (n,) float32 at 16 kHz, peak about 1.

    python -m recipes.noise WORK      WORK/noise_train.npz (for the encoder), WORK/noise_wav/*.wav (for the generator)

Each function stands for a kind and draws everything about it (rates, colors, pitches), so that no two are alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.signal import butter, fftconvolve, sosfilt

from moda.constants import SAMPLE_RATE as RATE

Random = np.random.Generator


def colored(n: int, random: Random, slope: float) -> np.ndarray:
    """Noise whose power falls as f^-slope."""
    spectrum = np.fft.rfft(random.standard_normal(n))
    f = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20)
    return _peak(np.fft.irfft(spectrum * f ** (-slope / 2), n))


def band(x: np.ndarray, low: float, high: float) -> np.ndarray:
    return sosfilt(butter(2, [low, min(high, RATE / 2 - 100)], "band", fs=RATE, output="sos"), x)


def _peak(x: np.ndarray) -> np.ndarray:
    return (x / (np.abs(x).max() + 1e-9)).astype(np.float32)


def _slow(n: int, random: Random, hertz: float, low: float = 0.0) -> np.ndarray:
    """A slowly wandering level between `low` and 1."""
    points = max(4, int(n / RATE * hertz) + 3)
    knots = random.uniform(low, 1, points)
    return np.interp(np.linspace(0, points - 1, n), np.arange(points), knots)


def steady(seconds: float, random: Random) -> np.ndarray:
    """White to brown, at times swelling: fans, hiss, wind."""
    n = int(seconds * RATE)
    return _peak(
        colored(n, random, random.uniform(-0.5, 2.2))
        * _slow(n, random, random.uniform(0.2, 3), random.uniform(0.1, 1))
    )


def hum(seconds: float, random: Random) -> np.ndarray:
    """Mains and engines: harmonics of a low tone that may wander."""
    n = int(seconds * RATE)
    f0 = random.choice([50, 60, 100, random.uniform(25, 180)])
    wander = 1 + random.choice([0, 0.05, 0.3]) * (_slow(n, random, 0.5) - 0.5)
    phase = 2 * np.pi * np.cumsum(f0 * wander) / RATE
    x = sum(np.sin(k * phase + random.uniform(0, 6)) * random.uniform(0, 1) / k for k in range(1, 16))
    return _peak(x + random.uniform(0, 1) * colored(n, random, 1.0))


def traffic(seconds: float, random: Random) -> np.ndarray:
    """Low rumble, cars that pass, a horn at times."""
    n = int(seconds * RATE)
    x = colored(n, random, 2.0) * 0.6
    t = np.arange(n) / RATE
    for _ in range(random.integers(1, 5)):
        at, width = random.uniform(0, seconds), random.uniform(0.4, 2)
        x = x + random.uniform(0.3, 1) * np.exp(-(((t - at) / width) ** 2)) * colored(n, random, 1.0)
    if random.random() < 0.3:
        at, long = random.uniform(0, seconds), random.uniform(0.2, 1)
        horn = sum(
            np.sin(2 * np.pi * f * k * t) / k
            for f in (random.uniform(300, 450), random.uniform(380, 520))
            for k in (1, 2, 3)
        )
        x = x + 0.2 * horn * ((t > at) & (t < at + long))
    return _peak(x)


def bursts(seconds: float, random: Random, rate: float, low: float, high: float, decay: float) -> np.ndarray:
    """Clicks at `rate` a second, each a decaying burst of noise."""
    n = int(seconds * RATE)
    x = np.zeros(n)
    hits = random.integers(0, n, random.poisson(rate * seconds))
    np.add.at(x, hits, random.uniform(0.2, 1, len(hits)) * random.choice([-1, 1], len(hits)))
    length = int(8 * decay * RATE) + 8
    kernel = random.standard_normal(length) * np.exp(-np.arange(length) / RATE / decay)
    return _peak(band(fftconvolve(x, kernel)[:n], low, high) + 1e-3 * random.standard_normal(n))


def applause(seconds: float, random: Random) -> np.ndarray:
    x = bursts(
        seconds,
        random,
        random.uniform(20, 600),
        random.uniform(300, 900),
        random.uniform(2500, 6500),
        random.uniform(0.003, 0.012),
    )
    return _peak(x * _slow(len(x), random, 0.5, 0.3))


def keys(seconds: float, random: Random) -> np.ndarray:
    """A keyboard, or steps, knocks, a clock."""
    return bursts(
        seconds,
        random,
        random.uniform(1, 11),
        random.uniform(80, 1500),
        random.uniform(2000, 7500),
        random.uniform(0.002, 0.03),
    )


def rain(seconds: float, random: Random) -> np.ndarray:
    return bursts(
        seconds,
        random,
        random.uniform(500, 4000),
        random.uniform(500, 2000),
        7500,
        random.uniform(0.0005, 0.003),
    )


def breath(seconds: float, random: Random) -> np.ndarray:
    """In and out, and rustling: noise in one or two broad bands, with pauses."""
    n = int(seconds * RATE)
    t = np.arange(n) / RATE
    x = np.zeros(n)
    at = random.uniform(0, 1)
    while at < seconds:
        long = random.uniform(0.3, 1.6)
        rise = random.uniform(0.2, 0.8)
        shape = np.interp((t - at) / long, [0, rise, 1], [0, 1, 0], left=0, right=0)
        center = random.uniform(400, 3500)
        x += (
            random.uniform(0.3, 1)
            * shape
            * band(random.standard_normal(n), center * 0.5, center * random.uniform(1.3, 2))
        )
        at += long + random.uniform(0.1, 1.5)
    return _peak(x + 1e-4 * random.standard_normal(n))


def beeps(seconds: float, random: Random) -> np.ndarray:
    """Phones, alarms, birds: tones and chirps."""
    n = int(seconds * RATE)
    x = np.zeros(n)
    at = random.uniform(0, 0.5)
    repeat = random.random() < 0.5
    f, long, gap, slide = (
        random.uniform(300, 4000),
        random.uniform(0.05, 0.6),
        random.uniform(0.05, 0.8),
        random.normal(0, 0.6),
    )
    while at < seconds:
        if not repeat:
            f, long, gap, slide = (
                random.uniform(300, 5000),
                random.uniform(0.04, 0.5),
                random.uniform(0.02, 0.6),
                random.normal(0, 0.6),
            )
        m = min(int(long * RATE), n - int(at * RATE))
        if m > 16:
            u = np.arange(m) / m
            phase = 2 * np.pi * np.cumsum(f * 2 ** (slide * u)) / RATE
            x[int(at * RATE) :][:m] += np.hanning(m) ** random.uniform(0.1, 1) * (
                np.sin(phase) + 0.3 * np.sin(2 * phase)
            )
        at += long + gap
    return _peak(x)


def music(seconds: float, random: Random) -> np.ndarray:
    """A melody over chords and drums, on instruments of random harmonics, vibrato and envelope."""
    n = int(seconds * RATE)
    x = np.zeros(n + RATE * 4)
    beat = 60 / random.uniform(60, 160)
    key = random.uniform(110, 330)
    scale = np.array([0, 2, 4, 5, 7, 9, 11] if random.random() < 0.5 else [0, 2, 3, 5, 7, 8, 10])
    parts = [
        (random.choice([0.5, 1, 2]), random.choice([1, 2, 4]), random.integers(1, 4))
        for _ in range(random.integers(1, 4))
    ]
    for length, octave, voices in parts:
        harmonics = random.uniform(0, 1, 12) / np.arange(1, 13) ** random.uniform(0.3, 2)
        attack, decay = random.uniform(0.003, 0.15), random.uniform(0.15, 3)
        vibrato, level, degree = (
            random.choice([0, 0.003, 0.012]),
            random.uniform(0.2, 1),
            int(random.integers(0, 7)),
        )
        at = 0.0
        while at < seconds:
            degree = int(np.clip(degree + random.integers(-2, 3), -5, 12))
            m = int(RATE * length * beat * random.choice([0.5, 1, 1, 2]))
            if random.random() < 0.85:
                t = np.arange(m) / RATE
                envelope = (
                    np.minimum(t / attack, 1) * np.exp(-t / decay) * np.minimum((m / RATE - t) / 0.01, 1)
                )
                for voice in range(voices):
                    step = degree + 2 * voice
                    f = key * octave / 2 * 2 ** ((scale[step % 7] + 12 * (step // 7)) / 12)
                    phase = 2 * np.pi * f * (t + vibrato * np.sin(2 * np.pi * 5.5 * t) / 20)
                    tone = sum(
                        h * np.sin((k + 1) * phase) for k, h in enumerate(harmonics) if f * (k + 1) < 7500
                    )
                    x[int(at * RATE) :][:m] += level * envelope * tone
            at += m / RATE
    x = x[:n] / (np.abs(x[:n]).max() + 1e-9)
    if random.random() < 0.5:
        for k in range(int(seconds / beat * 2)):
            m = min(int(0.15 * RATE), n - int(k * beat / 2 * RATE))
            if m > 0:
                x[int(k * beat / 2 * RATE) :][:m] += (
                    random.uniform(0.1, 0.6)
                    * random.standard_normal(m)
                    * np.exp(-np.arange(m) / RATE / random.uniform(0.01, 0.05))
                )
    return _peak(x)


def silence(seconds: float, random: Random) -> np.ndarray:
    """Nothing, or a recorder's own noise."""
    n = int(seconds * RATE)
    level = random.choice([0, 1e-4, 1e-3, 3e-3])
    return (level * colored(n, random, random.uniform(0, 1))).astype(np.float32)


KINDS: dict[str, Callable[[float, Random], np.ndarray]] = {
    f.__name__: f for f in (steady, hum, traffic, applause, keys, rain, breath, beeps, music, silence)
}


def main() -> None:
    import argparse
    import wave
    from pathlib import Path

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("work", type=Path)
    parser.add_argument(
        "--each", type=int, default=40, help="clips of 10 s of each kind; of music three times as many"
    )
    options = parser.parse_args()
    random = np.random.default_rng(0)
    sounds, names = [], []
    for kind, make in KINDS.items():
        for i in range(options.each * (3 if kind == "music" else 1)):
            sounds.append(np.int16(0.5 * 32767 * np.clip(make(10.0, random), -1, 1)))
            names.append(f"{kind}-{i}")
    np.savez(options.work / "noise_train.npz", sound=np.stack(sounds), names=names)
    folder = options.work / "noise_wav"
    folder.mkdir(exist_ok=True)
    for name, sound in list(zip(names, sounds))[::8]:
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(sound.tobytes())


if __name__ == "__main__":
    main()
