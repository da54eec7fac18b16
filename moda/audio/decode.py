"""Any sound file, or the sound of any video -> mono float32 at 16 kHz, in constant memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer

from moda.audio.downmix import Downmix, to_stereo
from moda.constants import SAMPLE_RATE, SAMPLES_PER_FRAME
from moda.errors import ModaError
from moda.media.container import (
    FAILURES,
    MAX_GAP,
    decode,
    open_container,
    reason,
    start_of,
    start_of_file,
    stated_seconds,
)

log = logging.getLogger(__name__)

PIECE_SECONDS = 4.0
GAP = 0.05  # seconds that time stamps may be off before it counts as a gap; containers round them
MAX_LEAD = 600.0  # seconds of picture before the sound begins; more is a fault of the stamps
MAX_CHANNELS = 64  # FFmpeg's resampler takes no more
SILENCE = 1e-4  # a track that never gets louder than this has no sound
SILENCE_LOOK = 60.0  # seconds of a track looked at for that
MIN_RATE = 2_000  # samples a second; below, no vowel is told from another
FAINT = 0.01  # the loudest sample of a sound in which no voice is heard any more
OVERLOAD = 1.5  # lossy codecs pass full scale a little; beyond this a float file was mixed too loud


def frames_in(samples: int) -> int:
    """Video frames that belong to so many samples at 16 kHz; the one rounding rule of the project."""
    return round(samples / SAMPLES_PER_FRAME)


@contextmanager
def open_sound(path: str | os.PathLike) -> Iterator[tuple[InputContainer, AudioStream]]:
    """The opened container and its first track with sound in it.

    Errors: ModaError if the file is missing, empty, a folder, a pipe, not media, or has no sound.
    """
    with open_container(path, "sound file") as container:
        tracks = container.streams.audio
        if not tracks:
            raise ModaError(f"{path} has no sound in it; give a sound file, or a video that has sound")
        index = 0 if len(tracks) == 1 else _first_with_sound(path, len(tracks))
        stream = tracks[index]
        if not stream.codec_context or not stream.rate:
            raise ModaError(f"the sound of {path} is of a kind that cannot be decoded")
        if stream.rate < MIN_RATE:
            raise ModaError(
                f"the sound of {path} has {stream.rate} samples a second, in which no speech can be heard; "
                f"{MIN_RATE} are the least"
            )
        if stream.channels > MAX_CHANNELS:
            raise ModaError(
                f"the sound of {path} has {stream.channels} channels; {MAX_CHANNELS} are the most"
            )
        yield container, stream


def _first_with_sound(path: str | os.PathLike, count: int) -> int:
    """Of several tracks: a microphone's that was off, or a language's that is missing, is silent."""
    for index in range(count):
        with open_container(path, "sound file") as container:
            stream = container.streams.audio[index]
            if not stream.codec_context or not stream.rate or stream.channels > MAX_CHANNELS:
                continue
            try:
                left = SILENCE_LOOK * SAMPLE_RATE
                for wave, _ in _decode(container, stream, path, SAMPLE_RATE):
                    left -= len(wave)
                    if np.abs(wave).max(initial=0) > SILENCE:
                        which = (
                            "the first" if index == 0 else f"number {index + 1}, the first with sound in it,"
                        )
                        log.warning("%s has %d sound tracks; %s is used", path, count, which)
                        return index
                    if left < 0:
                        break
            except ModaError:  # cannot be decoded
                continue
    return 0


def sound_seconds(path: str | os.PathLike) -> float | None:
    """Length that the file states, in seconds (None where it states none). Errors: as `open_sound`."""
    with open_sound(path) as (container, stream):
        return stated_seconds(container, stream)


def iter_audio(path: str | os.PathLike, seconds: float = PIECE_SECONDS) -> Iterator[np.ndarray]:
    """Decode piece by piece: (n,) float32 mono 16 kHz, n = `seconds` of it; the last piece is shorter.

    Any container, codec, rate and up to 64 channels (mixed as `moda.audio.downmix` says). Gaps in the time stamps
    are silence. Damaged parts are left out, with a logged warning.
    Errors: ModaError as `open_sound`; also if nothing can be decoded or there is less than one video frame of
    sound (0.04 s).
    """
    size = max(1, round(seconds * SAMPLE_RATE))
    total = 0
    for piece in rechunk(_mono(path), size):
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

    def pieces() -> Iterator[np.ndarray]:
        loud, peak = False, 0.0
        with open_sound(path) as (container, stream):
            for wave, names in _decode(container, stream, path, rate):
                if wave.shape[1] != channels:
                    wave = wave.mean(axis=1, keepdims=True) if channels == 1 else to_stereo(wave, names)
                peak = max(peak, float(np.abs(wave).max(initial=0)))
                if not loud and (loud := peak > OVERLOAD):
                    log.warning(
                        "the sound of %s is louder than full scale and is clipped; lower its gain", path
                    )
                yield np.clip(wave, -1, 1)
        if SILENCE < peak < FAINT:
            log.warning("the sound of %s is too quiet for lips to follow; raise its gain", path)

    return Sound(rate, channels, pieces())


def _mono(path: str | os.PathLike) -> Iterator[np.ndarray]:
    with open_sound(path) as (container, stream):
        mix: Downmix | None = None
        for wave, names in _decode(container, stream, path, SAMPLE_RATE):
            if mix is None or mix.names != names:
                if mix:
                    yield from mix.flush()
                mix = Downmix(names, SAMPLE_RATE)
            if len(names) == 1:
                yield wave[:, 0]
            else:
                yield from mix.push(wave)
        if mix:
            yield from mix.flush()


Named = tuple[np.ndarray, tuple[str, ...]]


def _decode(
    container: InputContainer, stream: AudioStream, path: str | os.PathLike, rate: int
) -> Iterator[Named]:
    """(n, channels) float32 and the channels' names, as they come out of the decoder, at `rate`.

    Sample 0 is the file's time 0: in a video whose sound begins after its picture, silence comes first. Gaps in
    the time stamps are silence, too, so that sound and picture stay together. Time that goes back, or leaps by
    more than a minute, is a fault of the stamps (recordings joined): the sound goes on without a gap.
    """
    names: tuple[str, ...] = ()
    late = start_of(stream) - start_of_file(container)
    lead = round(late * rate) if 0 < late <= MAX_LEAD else 0
    resampler: av.AudioResampler | None = None
    format_now = None
    begun = 0.0  # time stamp of the sample from which `heard` counts
    heard = 0.0  # seconds decoded since
    for frame in decode(container, stream, path, "sound"):
        if frame.samples == 0 or frame.sample_rate <= 0:
            continue
        silence = 0
        if frame.time is not None:
            gap = frame.time - begun - heard
            if resampler is None or not -GAP <= gap <= MAX_GAP:
                begun, heard = frame.time, 0.0
            elif gap > GAP:
                begun, heard = frame.time, 0.0
                silence = round(gap * rate)
        heard += frame.samples / frame.sample_rate
        kind = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if resampler is None or kind != format_now or silence:
            # Joined files change their rate or channels in the middle.
            yield from _drained(resampler, names)
            resampler = av.AudioResampler(format="flt", layout=None, rate=rate)
            names = tuple(channel.name for channel in frame.layout.channels)
            format_now = kind
        yield from _zeros(lead + silence, names, rate)
        lead = 0
        frame.pts = None
        try:
            made = resampler.resample(frame)
        except FAILURES as error:
            raise ModaError(f"the sound of {path} cannot be resampled: {reason(error)}") from error
        for out in made:
            yield _samples(out, len(names)), names
    yield from _drained(resampler, names)


def _drained(resampler: av.AudioResampler | None, names: tuple[str, ...]) -> Iterator[Named]:
    """What the resampler still holds."""
    for out in resampler.resample(None) if resampler else []:
        yield _samples(out, len(names)), names


def _samples(frame: av.AudioFrame, channels: int) -> np.ndarray:
    """Packed float -> (n, C); float files hold anything, infinity too."""
    return np.nan_to_num(frame.to_ndarray().reshape(-1, channels), nan=0.0, posinf=0.0, neginf=0.0)


def _zeros(count: int, names: tuple[str, ...], rate: int) -> Iterator[Named]:
    while count:
        size = min(count, rate)
        yield np.zeros((size, len(names)), np.float32), names
        count -= size
