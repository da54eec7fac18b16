"""Video files -> RGB frames at exactly 25 a second."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from moda.audio.decode import moving_pictures, reason, start_of_file
from moda.constants import FPS
from moda.errors import ModaError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself; `seconds` and `frames` (at 25 fps) are None where it does not say."""

    width: int
    height: int
    fps: float | None
    seconds: float | None
    has_sound: bool

    @property
    def frames(self) -> int | None:
        return round(self.seconds * FPS) if self.seconds else None


@contextmanager
def open_video(path: str | os.PathLike) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """The opened container and its first video stream.

    Errors: ModaError if the file is missing, empty, a folder, not media, or has no picture.
    """
    path = Path(path)
    if not path.exists():
        raise ModaError(f"there is no video {path}")
    if path.is_dir():
        raise ModaError(f"{path} is a folder, but a video is needed")
    try:
        if path.stat().st_size == 0:
            raise ModaError(f"the video {path} is empty")
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ModaError(f"{path} cannot be read as video: {reason(error)}") from error
    with container:
        streams = moving_pictures(container)
        if not streams:
            raise ModaError(f"{path} has no picture in it; give a video")
        streams[0].codec_context.thread_type = "AUTO"
        yield container, streams[0]


def probe(path: str | os.PathLike) -> VideoInfo:
    """Errors: as `open_video`."""
    with open_video(path) as (container, stream):
        seconds = container.duration / av.time_base if container.duration else None
        if stream.duration:
            seconds = float(stream.duration * stream.time_base)
        return VideoInfo(
            width=stream.width,
            height=stream.height,
            fps=float(stream.average_rate) if stream.average_rate else None,
            seconds=seconds,
            has_sound=bool(container.streams.audio),
        )


def read_video(path: str | os.PathLike) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8 RGB frames at exactly 25 fps, upright, from any rate, constant or not.

    Frame k is the picture that is shown at (k + 1/2) / 25 s, counted from the file's time 0, where its sound or its
    picture begins (`moda.audio` counts alike, so frame k belongs to samples 640 k to 640 k + 639); before its first
    picture the first is shown. Frames that show the same picture are the same array.
    A file that breaks off gives what it holds and a logged warning. Errors: ModaError as `open_video`; also if
    nothing can be decoded.
    """
    with open_video(path) as (container, stream):
        zero = start_of_file(container)
        aspect = float(stream.sample_aspect_ratio or 1)
        usual = 1 / float(stream.average_rate or FPS)
        shown = rgb = None  # the frame on show, and its pixels once somebody wants them
        begins = ends = 0.0
        count = 0
        frames = _decode(container, stream, path)
        while True:
            frame = next(frames, None)
            if frame is not None:
                begins = ends if frame.time is None else max(frame.time - zero, 0.0)
            until = begins if frame is not None else max(ends, 1 / FPS)
            while shown is not None and (count + 0.5) / FPS < until:
                rgb = _upright(shown, aspect) if rgb is None else rgb
                yield rgb
                count += 1
            if frame is None:
                break
            length = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else usual
            shown, rgb, ends = frame, None, begins + length
        if shown is None:
            raise ModaError(f"the picture of {path} is empty: nothing could be decoded")


def timed_frames(path: str | os.PathLike) -> Iterator[tuple[float, np.ndarray, float]]:
    """The video's own frames: (seconds from the file's time 0, (H, W, 3) uint8 RGB, part of the video done 0..1).

    For those who measure: nothing is repeated or left out. Errors: as `read_video`.
    """
    with open_video(path) as (container, stream):
        zero = start_of_file(container)
        aspect = float(stream.sample_aspect_ratio or 1)
        usual = 1 / float(stream.average_rate or FPS)
        seconds = container.duration / av.time_base if container.duration else None
        time = -usual
        for frame in _decode(container, stream, path):
            time = time + usual if frame.time is None else max(frame.time - zero, time + 1e-6)
            yield time, _upright(frame, aspect), min(1.0, time / seconds) if seconds else 0.0
        if time < 0:
            raise ModaError(f"the picture of {path} is empty: nothing could be decoded")


def _decode(container, stream, path) -> Iterator[av.VideoFrame]:
    seconds = 0.0
    some = False
    try:
        for frame in container.decode(stream):
            some = True
            seconds = frame.time or seconds
            yield frame
    except (av.error.FFmpegError, OSError, ValueError) as error:
        if not some:
            raise ModaError(f"the picture of {path} cannot be decoded: {reason(error)}") from error
        log.warning("the picture of %s is damaged after %.1f s; the rest is left out", path, seconds)


def _upright(frame: av.VideoFrame, aspect: float) -> np.ndarray:
    """Pixels as they are meant to be seen: square, turned by the file's rotation mark."""
    turns = round(frame.rotation / 90) % 4  # counter-clockwise
    if aspect != 1:
        frame = frame.reformat(width=round(frame.width * aspect))
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
