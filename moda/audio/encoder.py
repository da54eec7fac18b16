"""What every encoder is: sound is pushed in, features come out as soon as the sound that they need is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np

from moda.streams import pushed


class EncoderStream(Protocol):
    """One sound on its way through an encoder. Any cutting of the pushes gives the same features, to the bit."""

    def push(self, wave: np.ndarray) -> np.ndarray:
        """(n,) float32 mono at 16 kHz -> (m, layers, width) float32, m >= 0: the frames that are final now."""
        ...

    def flush(self) -> np.ndarray:
        """The sound ends here, in silence -> the remaining frames; round(n_total / 640) have then come in all."""
        ...


class Encoder(Protocol):
    """layers, width: of a frame's features, (layers, width) numbers, 25 frames a second."""

    layers: int
    width: int

    def stream(self) -> EncoderStream: ...


def encode(encoder: Encoder, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """(n,) pieces of any lengths -> (m, layers, width) pieces, m > 0, as soon as they are known."""
    return pushed(encoder.stream(), pieces)
