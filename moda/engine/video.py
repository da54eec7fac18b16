"""Frames to come, with their motion and their sound."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moda.audio import decode
from moda.constants import FPS, SAMPLE_RATE
from moda.engine.parallel import ahead
from moda.errors import ModaError
from moda.motion import Motion, join

if TYPE_CHECKING:
    from moda.engine.character import Character

Audio = str | os.PathLike | np.ndarray | Iterable[np.ndarray]


class Input:
    """Sound in any of the forms that a caller may give.

    frames: expected, None where unknown. pieces(): (n,) float32 mono 16 kHz. listening(): for the video's sound track.
    """

    def __init__(self, audio: Audio) -> None:
        self.frames: int | None = None
        self.pieces: Callable[[], Iterator[np.ndarray]]
        self.listening: Callable[[], decode.Sound]
        if isinstance(audio, (str, os.PathLike)):
            seconds = decode.sound_seconds(audio)
            self.frames = max(1, round(seconds * FPS)) if seconds else None
            self.listening = lambda: decode.open_listening(audio)
            self.pieces = lambda: decode.iter_audio(audio)
        elif isinstance(audio, np.ndarray):
            if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating) or not np.isfinite(audio).all():
                raise ModaError("sound given as an array must be (n,) finite float32, mono, 16 kHz")
            self.frames = decode.frames_in(len(audio))
            if self.frames < 1:
                raise ModaError(
                    f"the sound has {len(audio)} samples, but one video frame needs 640 at 16 kHz"
                )
            wave = audio.astype(np.float32)
            self.listening = lambda: _as_heard(iter([wave]))
            self.pieces = lambda: iter([wave])
        elif isinstance(audio, Iterable) and not isinstance(audio, (bytes, bytearray)):
            stream = _Shared(iter(audio))
            self.listening = lambda: _as_heard(stream.again())
            self.pieces = lambda: stream.first()
        else:
            raise ModaError(
                f"the sound is {type(audio).__name__}, but a file, (n,) float32 at 16 kHz or pieces of that are needed"
            )


def _as_heard(pieces: Iterator[np.ndarray]) -> decode.Sound:
    return decode.Sound(SAMPLE_RATE, 1, (np.clip(piece, -1, 1)[:, None] for piece in pieces))


class _Shared:
    """A stream's pieces for two readers: the performance, which takes them, and the sound track, which follows."""

    def __init__(self, pieces: Iterator[np.ndarray]) -> None:
        self._pieces = pieces
        self._passed: deque[np.ndarray] = deque()
        self._over = False

    def first(self) -> Iterator[np.ndarray]:
        for piece in self._pieces:
            self._passed.append(np.asarray(piece, np.float32))
            yield piece
        self._over = True

    def again(self) -> Iterator[np.ndarray]:
        """What has passed; a frame's sound has always passed before the frame."""
        while self._passed:
            yield self._passed.popleft()


class Video:
    """Constant memory: frames are made as they are taken, motion is remembered (280 bytes a frame).

    expected: how many frames there will be, as far as known beforehand
    made: how, for the file's metadata
    """

    def __init__(
        self,
        character: Character,
        chunks: Iterator[Motion],
        listening: Callable[[], decode.Sound] | None,
        expected: int | None,
        made: str = "",
    ) -> None:
        self.character = character
        self._remark = made
        self.expected = expected
        self._chunks = chunks
        self._made: list[Motion] = []
        self._failed: BaseException | None = None
        self._listening = listening

    def mark(self, text: str) -> None:
        """Something more for the file's metadata."""
        self._remark = f"{self._remark}, {text}" if self._remark else text

    def _motion(self) -> Iterator[Motion]:
        """The chunks from the first on; what was generated once is not generated again."""
        index = 0
        while True:
            if index == len(self._made):
                if self._failed is not None:
                    raise self._failed
                try:
                    chunk = next(self._chunks, None)
                except BaseException as error:
                    self._failed = error  # what is missing stays missing, and is not taken for the end
                    raise
                if chunk is None:
                    return
                self._made.append(chunk)
            yield self._made[index]
            index += 1

    @property
    def motion(self) -> Motion:
        """All of it, in the renderer's space."""
        return join(list(self._motion()))

    def frames(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 RGB, 25 a second; the next motion is generated while this one is drawn."""
        for chunk in ahead(self._motion()):
            yield from self.character.draw(chunk)

    def save(self, path: str | os.PathLike, progress: Callable[[float], None] | None = None) -> Path:
        """Write H.264 and the sound to an .mp4, .mov or .mkv file, all of it or nothing.

        progress: called with the part done, 0..1. Errors: ModaError as `moda.media.write.VideoWriter`.
        """
        return save(path, self.frames(), self.expected, self._listening, self._remark, progress)


def save(
    path: str | os.PathLike,
    frames: Iterator[np.ndarray],
    expected: int | None,
    listening: Callable[[], decode.Sound] | None,
    remark: str,
    progress: Callable[[float], None] | None = None,
    crf: str | None = None,
) -> Path:
    """Frames and sound -> a file. crf: x264's quality, the writer's own unless given; the others are those of `Video`."""
    from moda.media.write import CRF, SYNTHETIC, check_output, write_video

    check_output(path)

    def counted() -> Iterator[np.ndarray]:
        for count, frame in enumerate(frames, 1):
            yield frame
            if progress and expected:
                progress(min(1.0, count / expected))

    remark = f"{SYNTHETIC}: {remark}" if remark else SYNTHETIC
    return write_video(path, counted(), listening() if listening else None, remark, crf or CRF)
