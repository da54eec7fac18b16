"""Any sound file, or the sound of any video -> mono float32 at 16 kHz, in constant memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

from moda.constants import SAMPLE_RATE, SAMPLES_PER_FRAME
from moda.errors import ModaError

log = logging.getLogger(__name__)

PIECE_SECONDS = 4.0


def frames_in(samples: int) -> int:
    """Video frames that belong to so many samples at 16 kHz; the one rounding rule of the project."""
    return round(samples / SAMPLES_PER_FRAME)


@contextmanager
def open_sound(path: str | os.PathLike) -> Iterator[tuple[av.container.InputContainer, av.AudioStream]]:
    """The opened container and its first audio stream.

    Errors: ModaError if the file is missing, empty, a folder, not media, or has no sound.
    """
    path = Path(path)
    if not path.exists():
        raise ModaError(f"there is no sound file {path}")
    if path.is_dir():
        raise ModaError(f"{path} is a folder, but a sound file is needed")
    try:
        if path.stat().st_size == 0:
            raise ModaError(f"the sound file {path} is empty")
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ModaError(f"{path} cannot be read as sound: {_reason(error)}") from error
    with container:
        if not container.streams.audio:
            raise ModaError(f"{path} has no sound in it; give a sound file, or a video that has sound")
        stream = container.streams.audio[0]
        if not stream.codec_context or not stream.rate:
            raise ModaError(f"the sound of {path} is of a kind that cannot be decoded")
        yield container, stream


def sound_seconds(path: str | os.PathLike) -> float | None:
    """Length that the file states, in seconds (None where it states none). Errors: as `open_sound`."""
    with open_sound(path) as (container, stream):
        if stream.duration:
            return float(stream.duration * stream.time_base)
        return container.duration / av.time_base if container.duration else None


def iter_audio(path: str | os.PathLike, seconds: float = PIECE_SECONDS) -> Iterator[np.ndarray]:
    """Decode piece by piece: (n,) float32 mono 16 kHz, n = `seconds` of it; the last piece is shorter.

    Any container, codec, rate and number of channels (the channels' mean). A file that breaks off gives what
    it holds and a logged warning.
    Errors: ModaError as `open_sound`; also if nothing can be decoded or there is less than one video frame of
    sound (0.04 s).
    """
    size = max(1, round(seconds * SAMPLE_RATE))
    total = 0
    for piece in rechunk(_decode(path), size):
        total += len(piece)
        if len(piece) < size and total < SAMPLES_PER_FRAME:  # the last one
            break
        yield piece
    if total == 0:
        raise ModaError(f"the sound of {path} is empty: nothing could be decoded")
    if total < SAMPLES_PER_FRAME:
        raise ModaError(
            f"the sound of {path} is {1000 * total / SAMPLE_RATE:.0f} ms long, but one video frame (40 ms) is the least"
        )


def read_audio(path: str | os.PathLike) -> np.ndarray:
    """All of it: (n,) float32 mono 16 kHz. Errors: as `iter_audio`."""
    return np.concatenate(list(iter_audio(path, seconds=30.0)))


def rechunk(pieces: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Pieces of any lengths -> pieces of exactly `size` along axis 0; the last one may be shorter, none is empty."""
    held: list[np.ndarray] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count < size:
            continue
        joined = np.concatenate(held)
        cut = len(joined) - len(joined) % size
        for start in range(0, cut, size):
            yield joined[start : start + size]
        held, count = [joined[cut:]], len(joined) - cut
    if count:
        yield np.concatenate(held)


def _decode(path: str | os.PathLike) -> Iterator[np.ndarray]:
    """Pieces as they come out of the decoder."""
    with open_sound(path) as (container, stream):
        # The layout stays the file's own: FFmpeg's own way to mono adds channels up and may clip.
        resampler = av.AudioResampler(format="fltp", rate=SAMPLE_RATE)
        done = 0
        try:
            for frame in container.decode(stream):
                frame.pts = None  # gaps in the time stamps are not filled
                for out in resampler.resample(frame):
                    done += out.samples
                    yield _mono(out)
            for out in resampler.resample(None) if done else []:
                yield _mono(out)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if not done:
                raise ModaError(f"the sound of {path} cannot be decoded: {_reason(error)}") from error
            log.warning("the sound of %s is damaged after %.1f s; the rest is left out", path, done / SAMPLE_RATE)


def _mono(frame: av.AudioFrame) -> np.ndarray:
    wave = frame.to_ndarray()
    wave = wave[0] if len(wave) == 1 else wave.mean(axis=0, dtype=np.float32)
    return np.nan_to_num(wave, copy=False, nan=0.0, posinf=0.0, neginf=0.0)  # float files may hold anything


def _reason(error: Exception) -> str:
    """FFmpeg's or the system's words, without number and path."""
    return str(getattr(error, "strerror", None) or error).split("\n")[0].lower()
