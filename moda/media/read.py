"""Video files -> RGB frames at exactly 25 a second."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from moda.constants import FPS
from moda.errors import ModaError
from moda.media.container import (
    MAX_GAP,
    decode,
    moving_pictures,
    open_container,
    start_of_file,
    stated_seconds,
)

MIN_SIDE, MAX_SIDE = 16, 16_384  # pixels
MAX_ASPECT = 8.0  # of a pixel; beyond, the number is a fault
BACK = 1.0  # seconds that a time stamp may go back before it counts as another recording's

Timed = tuple[VideoFrame, "float | None"]


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
def open_video(path: str | os.PathLike) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The opened container and its first video stream.

    Errors: ModaError if the file is missing, empty, a folder, not media, or has no picture.
    """
    with open_container(path, "video") as container:
        streams = moving_pictures(container)
        if not streams:
            raise ModaError(f"{path} has no picture in it; give a video")
        if container.format.name == "image2" or container.format.name.endswith("_pipe"):
            raise ModaError(f"{path} is a picture; give a video")
        if not streams[0].codec_context:
            raise ModaError(f"the picture of {path} is of a kind that cannot be decoded")
        streams[0].codec_context.thread_type = "AUTO"
        yield container, streams[0]


def probe(path: str | os.PathLike) -> VideoInfo:
    """Errors: as `open_video`."""
    with open_video(path) as (container, stream):
        seconds = stated_seconds(container, stream)
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
    Damaged parts are left out, with a logged warning. Errors: ModaError as `open_video`; also if
    nothing can be decoded.
    """
    with open_video(path) as (container, stream):
        aspect, usual = _aspect(stream), _usual(stream)
        shown = rgb = None  # the frame on show, and its pixels once somebody wants them
        begins = ends = 0.0
        count = 0
        frames = _frames(container, stream, path)
        while True:
            frame, time = next(frames, (None, None))
            if frame is not None:
                begins = ends if time is None else time
            until = begins if frame is not None else max(ends, 1 / FPS)
            while shown is not None and (count + 0.5) / FPS < until:
                rgb = _upright(shown, aspect) if rgb is None else rgb
                yield rgb
                count += 1
            if frame is None:
                break
            length = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else usual
            shown, rgb, ends = frame, None, begins + (length if 0 < length < MAX_GAP else usual)
        if shown is None:
            raise ModaError(f"the picture of {path} is empty: nothing could be decoded")


def timed_frames(path: str | os.PathLike) -> Iterator[tuple[float, np.ndarray, float]]:
    """The video's own frames: (seconds from the file's time 0, (H, W, 3) uint8 RGB, part of the video done 0..1).

    For those who measure: nothing is repeated or left out. Errors: as `read_video`.
    """
    with open_video(path) as (container, stream):
        aspect, usual = _aspect(stream), _usual(stream)
        seconds = container.duration / av.time_base if container.duration else None
        time = -usual
        for frame, stamp in _frames(container, stream, path):
            time = time + usual if stamp is None else max(stamp, time + 1e-6)
            yield time, _upright(frame, aspect), min(1.0, time / seconds) if seconds else 0.0
        if time < 0:
            raise ModaError(f"the picture of {path} is empty: nothing could be decoded")


def _frames(container: InputContainer, stream: Any, path: str | os.PathLike) -> Iterator[Timed]:
    """The stream's frames with their times from the file's beginning (None where the file does not say).

    Time that goes back, or leaps by more than a minute, is a fault of the stamps (recordings joined), so the picture
    goes on where it was; `moda.audio.decode` does likewise.
    """
    offset, last = -start_of_file(container), 0.0
    for frame in decode(container, stream, path, "picture"):
        if not MIN_SIDE <= min(frame.width, frame.height) <= max(frame.width, frame.height) <= MAX_SIDE:
            raise ModaError(
                f"the picture of {path} has {frame.width}x{frame.height} pixels; {MIN_SIDE} to {MAX_SIDE} a side are read"
            )
        if frame.time is None:
            yield frame, None
            continue
        if not -BACK <= frame.time + offset - last <= MAX_GAP:
            offset = last - frame.time
        last = frame.time + offset
        yield frame, max(last, 0.0)


def _aspect(stream: VideoStream) -> float:
    """Width of a pixel over its height."""
    aspect = float(stream.sample_aspect_ratio or 1)
    return aspect if 1 / MAX_ASPECT <= aspect <= MAX_ASPECT else 1.0


def _usual(stream: VideoStream) -> float:
    """Seconds a frame, as the file states."""
    rate = float(stream.average_rate or FPS)
    return 1 / rate if 0.1 <= rate <= 1000 else 1 / FPS


def _upright(frame: av.VideoFrame, aspect: float) -> np.ndarray:
    """Pixels as they are meant to be seen: square, turned by the file's rotation mark."""
    turns = round(frame.rotation / 90) % 4  # counter-clockwise
    if aspect != 1:
        frame = frame.reformat(width=round(frame.width * aspect))
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
