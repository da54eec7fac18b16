"""The performer's jaw and rounding, told from the speech encoder's features: moda/interchange/spoken.py.

    python -m recipes.fit_spoken ../shared/data/blendshapes [--out moda/weights/embedded/curves.safetensors]

Ridge over five frames on all recordings but two, which are for measuring. Prints r there, best lag within 3 frames. To be run
again whenever the encoder is another one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from moda.audio.decode import read_audio
from moda.audio.speech import EMBEDDED, SpeechEncoder
from moda.constants import SAMPLE_RATE
from moda.interchange.arrays import read_columns
from moda.interchange.spoken import TOLD, neighbors

HELD_OUT = ("1114_2_05", "1114_3_16")
# The rig rounds the mouth by three shapes, one or the other in every recording; ARKit has one.
SHAPES = {
    "jawOpen": ("mouth_stretch_c",),
    "mouthFunnel": ("mouth_funnel_dl", "mouth_funnel_ul"),
    "mouthPucker": ("mouth_pucker_l", "mouth_oo_c", "mouth_oh_c"),
}
STRENGTH = 1000.0


def recorded(path: Path) -> np.ndarray:
    """(T, 3) TOLD of a recording at 25 frames a second; a funnel is the mean of its parts, a pucker the sum."""
    seconds = len(read_audio(path.with_suffix(".flac"))) / SAMPLE_RATE
    weights, names = read_columns(path.with_suffix(".npy"), seconds)
    columns = []
    for curve in TOLD:
        parts = weights[:, [names.index(name) for name in SHAPES[curve]]]
        columns.append(parts.mean(axis=1) if curve == "mouthFunnel" else parts.sum(axis=1))
    return np.clip(np.stack(columns, axis=1), 0, 1)


def agreement(told: np.ndarray, real: np.ndarray, lags: int = 3) -> float:
    """r at the best lag within so many frames."""
    found = []
    for lag in range(-lags, lags + 1):
        a, b = told[max(0, lag) :], real[max(0, -lag) :]
        n = min(len(a), len(b))
        found.append(np.corrcoef(a[:n], b[:n])[0, 1])
    return float(max(found))


def ridge(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    x, y = (np.concatenate(parts) for parts in zip(*pairs))
    mean, level = x.mean(axis=0), y.mean(axis=0)
    x = x - mean
    weight = np.linalg.solve(x.T @ x + STRENGTH * np.eye(x.shape[1]), x.T @ (y - level))
    return weight, level - mean @ weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=EMBEDDED / "curves.safetensors")
    options = parser.parse_args()
    encoder = SpeechEncoder.load()
    pairs = {}
    for path in sorted(options.data.glob("*.flac")):
        x = neighbors(np.concatenate(list(encoder.encode([read_audio(path)]))))
        y = recorded(path)
        n = min(len(x), len(y))
        pairs[path.stem] = (x[:n], y[:n])
    learned = {name: pair for name, pair in pairs.items() if name not in HELD_OUT}
    # As strangers see it a told curve moves less than a real one: by this factor.
    gains = []
    for name, (x, y) in learned.items():
        weight, bias = ridge([pair for other, pair in learned.items() if other != name])
        told = x @ weight + bias
        gains.append([b.std() / a.std() if b.std() > 0.01 else np.nan for a, b in zip(told.T, y.T)])
    gain = np.nanmedian(gains, axis=0)
    weight, bias = ridge(list(learned.values()))
    level = np.mean(np.concatenate([x @ weight + bias for x, _ in learned.values()]), axis=0)
    weight, bias = weight * gain, level + (bias - level) * gain
    print("gain", dict(zip(TOLD, gain.round(2))))
    for name in HELD_OUT:
        x, y = pairs[name]
        told = np.clip(x @ weight + bias, 0, 1)
        print(name, {c: round(agreement(a, b), 3) for c, a, b in zip(TOLD, told.T, y.T)})
    save_file(
        {
            "weight": np.ascontiguousarray(weight, dtype=np.float32),
            "bias": np.ascontiguousarray(bias, dtype=np.float32),
        },
        options.out,
    )


if __name__ == "__main__":
    main()
