"""HuBERT's last hidden state at its own 50 features a second, two for each video frame, as MoDiTalker uses HuBERT-large.

The whole recording is normalized at once, so nothing comes before its end; then it goes through in pieces of 20 s that
know nothing of each other. Source: MoDiTalker, arXiv 2403.19144.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from moda.audio.encoder import encode
from moda.audio.hubert import HubertEncoder
from moda.constants import SAMPLES_PER_FRAME

HOP, FIELD = 320, 400  # samples between features, and that the first one needs
PIECE = 1000 * HOP
PER_FRAME = 2


def pieces(samples: int) -> list[tuple[int, int]]:
    """(first sample, length) of the pieces of a recording; the last one is left out where it gives no feature."""
    out = []
    start = 0
    while samples - start >= FIELD:
        length = min(PIECE + FIELD - HOP, samples - start)
        out.append((start, length))
        start += PIECE
    return out


def features_in(samples: int) -> int:
    """Features of so many samples."""
    return max(0, (samples - (FIELD - HOP)) // HOP)


class Hubert50Encoder:
    """Sound -> (T, 2, width)."""

    layers = PER_FRAME

    def __init__(self, model: Any) -> None:
        """model: transformers' HubertModel, which has no types."""
        self.model = model.eval().requires_grad_(False)
        self.width: int = model.config.hidden_size

    @classmethod
    def load(cls, folder: str | os.PathLike, device: str = "cpu") -> Hubert50Encoder:
        """folder: in the layout of transformers. Errors: as `HubertEncoder.load`."""
        return cls(HubertEncoder.load(Path(folder), device).model)

    def stream(self) -> Hubert50Stream:
        return Hubert50Stream(self)

    def encode(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        return encode(self, pieces)

    @torch.inference_mode()
    def features(self, wave: np.ndarray) -> np.ndarray:
        """(n,) -> (features, width): surplus cut, missing ones zero."""
        wanted = features_in(len(wave))
        out = np.zeros((wanted, self.width), np.float32)
        if not wanted:
            return out
        x = torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32))
        x = (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-7)
        device = next(self.model.parameters()).device
        made = [
            self.model(x[None, start : start + length].to(device)).last_hidden_state[0].float().cpu().numpy()
            for start, length in pieces(len(wave))
        ]
        joined = np.concatenate(made)[:wanted]
        out[: len(joined)] = joined
        return out


class Hubert50Stream:
    """One sound; everything comes at its end. See moda.audio.encoder."""

    def __init__(self, encoder: Hubert50Encoder) -> None:
        self._encoder = encoder
        self._held: list[np.ndarray] = []

    def push(self, wave: np.ndarray) -> np.ndarray:
        self._held.append(np.asarray(wave, np.float32))
        return np.zeros((0, PER_FRAME, self._encoder.width), np.float32)

    def flush(self) -> np.ndarray:
        """Silence is appended, so that every frame has both its features."""
        wave = np.concatenate(self._held) if self._held else np.zeros(0, np.float32)
        self._held = []
        frames = round(len(wave) / SAMPLES_PER_FRAME)
        if not frames:
            return np.zeros((0, PER_FRAME, self._encoder.width), np.float32)
        wave = wave[: frames * SAMPLES_PER_FRAME]
        padded = np.zeros(frames * SAMPLES_PER_FRAME + FIELD - HOP, np.float32)
        padded[: len(wave)] = wave
        return self._encoder.features(padded).reshape(frames, PER_FRAME, -1)
