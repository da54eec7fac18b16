"""Any sound file, or the sound of any video -> mono float32 at 16 kHz, in constant memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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
        raise ModaError(f"{path} cannot be read as sound: {reason(error)}") from error
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
    # The mean is taken here: FFmpeg's own way to mono adds channels up and may clip.
    mono = (piece.mean(axis=0, dtype=np.float32) for piece in _decode(path))
    for piece in rechunk(mono, size):
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


@dataclass(frozen=True)
class Sound:
    """Sound for listeners: `pieces` of (n, channels) float32 in -1..1, at `rate`."""

    rate: int
    channels: int  # 1 or 2
    pieces: Iterator[np.ndarray]


LISTENING_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)  # what AAC takes


def open_listening(path: str | os.PathLike) -> Sound:
    """The same sound as `iter_audio`, as good as it is in the file: up to 48 kHz, mono or stereo.

    Errors: as `open_sound`.
    """
    with open_sound(path) as (_, stream):
        rate = next((r for r in LISTENING_RATES if r >= stream.rate), LISTENING_RATES[-1])
        channels = min(2, stream.channels)
    pieces = _decode(path, rate, "mono" if channels == 1 else "stereo")
    return Sound(rate, channels, (np.clip(piece.T, -1, 1) for piece in pieces))


def _decode(
    path: str | os.PathLike, rate: int = SAMPLE_RATE, layout: str | None = None
) -> Iterator[np.ndarray]:
    """(channels, n) float32 pieces as they come out of the decoder; `layout` None keeps the file's channels.

    In a video whose sound begins after its picture, silence comes first: sample 0 is the file's time 0.
    """
    with open_sound(path) as (container, stream):
        resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        lead = round(max(0.0, start_of(stream) - start_of_file(container)) * rate)
        done = 0
        try:
            for frame in container.decode(stream):
                frame.pts = None  # gaps in the time stamps are not filled
                for out in resampler.resample(frame):
                    wave = out.to_ndarray()
                    wave = np.nan_to_num(
                        wave, copy=False, nan=0.0, posinf=0.0, neginf=0.0
                    )  # float files hold anything
                    while lead:
                        count = min(lead, rate)
                        yield np.zeros((len(wave), count), np.float32)
                        lead -= count
                    done += out.samples
                    yield wave
            for out in resampler.resample(None) if done else []:
                yield out.to_ndarray()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if not done:
                raise ModaError(f"the sound of {path} cannot be decoded: {reason(error)}") from error
            log.warning("the sound of %s is damaged after %.1f s; the rest is left out", path, done / rate)


def start_of(stream: av.stream.Stream) -> float:
    """The stream's first time stamp, seconds."""
    return float((stream.start_time or 0) * stream.time_base)


def start_of_file(container: av.container.InputContainer) -> float:
    """Time 0 of the file's sound and picture alike: where the first of them begins, seconds."""
    streams = [*container.streams.audio[:1], *moving_pictures(container)[:1]]
    return min(start_of(stream) for stream in streams)


def moving_pictures(container: av.container.InputContainer) -> list[av.VideoStream]:
    """The video streams, without the cover pictures of music files."""
    return [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]


def reason(error: Exception) -> str:
    """FFmpeg's or the system's words, without number and path."""
    return str(getattr(error, "strerror", None) or error).split("\n")[0].lower()
