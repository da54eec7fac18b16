"""Opening what FFmpeg reads, and decoding it as players do: what is damaged is left out, the rest kept."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
from av.container import InputContainer

from moda.errors import ModaError
from moda.media.files import check_input

log = logging.getLogger(__name__)

FAILURES = (av.error.FFmpegError, OSError, ValueError)
# What opens other files or addresses that a text names, or paints a text as a video: no media of its own.
LISTS = {"concat", "hls", "dash", "sdp", "imf", "tty", "lavfi"}
MAX_BREAKS = 20  # failed reads in a row before a file is given up
MAX_GAP = 60.0  # seconds; a longer leap of time stamps is a fault of theirs, not a pause


@contextmanager
def open_container(path: str | os.PathLike, what: str) -> Iterator[InputContainer]:
    """The opened file. what: "sound file" or "video", for messages.

    Errors: ModaError if it is missing, empty, a folder, a pipe, not media.
    """
    path = check_input(path, what)
    kind = what.split()[0]
    try:
        # By protocol, as a colon in a name would be taken for one; nothing but files, as a play list could name
        # an address.
        container = av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except FAILURES as error:
        raise ModaError(f"{path} cannot be read as {kind}: {reason(error)}") from error
    with container:
        if LISTS & set(container.format.name.split(",")):
            raise ModaError(
                f"{path} cannot be read as {kind}: it is a text that names or holds no {kind} itself"
            )
        yield container


def comment(path: str | os.PathLike) -> str:
    """What a file's metadata remark; "" where it has none, or is none that can be read."""
    try:
        with open_container(path, "video") as container:
            return container.metadata.get("comment", "")
    except ModaError:
        return ""


def decode(container: InputContainer, stream: Any, path: str | os.PathLike, what: str) -> Iterator[Any]:
    """The stream's frames. Damaged packets are left out, with one warning at the end that counts them.

    what: "sound" or "picture", for messages. Errors: ModaError if nothing can be decoded for all the damage.
    """
    some, damaged, breaks, seconds = False, 0, 0, 0.0
    problem: Exception | None = None
    while breaks < MAX_BREAKS:
        try:
            for packet in container.demux(stream):
                try:
                    frames = packet.decode()
                except FAILURES as error:
                    damaged, problem = damaged + 1, error
                    continue
                for frame in frames:
                    some, breaks, seconds = True, 0, frame.time or seconds
                    yield frame
            break
        except FAILURES as error:  # reading failed; what follows may be whole
            damaged, problem, breaks = damaged + 1, error, breaks + 1
    if problem and not some:
        raise ModaError(f"the {what} of {path} cannot be decoded: {reason(problem)}") from problem
    if breaks:
        log.warning("the %s of %s is damaged after %.1f s; the rest is left out", what, path, seconds)
    elif problem:
        count = "1 packet was" if damaged == 1 else f"{damaged} packets were"
        log.warning("the %s of %s is damaged: %s left out", what, path, count)


def stated_seconds(container: InputContainer, stream: Any) -> float | None:
    """The length that the file states for a stream, or else for all of itself; None where it does not."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def start_of(stream: Any) -> float:
    """The stream's first time stamp, seconds."""
    return float((stream.start_time or 0) * stream.time_base)


def start_of_file(container: InputContainer) -> float:
    """Time 0 of the file's sound and picture alike: where the first of them begins, seconds."""
    streams = [*container.streams.audio, *moving_pictures(container)[:1]]
    return min(start_of(stream) for stream in streams)


def moving_pictures(container: InputContainer) -> list[Any]:
    """The video streams, without the cover pictures of music files."""
    return [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]


def reason(error: Exception) -> str:
    """FFmpeg's or the system's words, without number and path."""
    return str(getattr(error, "strerror", None) or error).split("\n")[0].lower()
