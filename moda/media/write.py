"""Frames and sound -> a video file: H.264 and AAC, interleaved, in constant memory, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from moda import __version__
from moda.audio.decode import Sound, rechunk
from moda.constants import FPS
from moda.errors import ModaError
from moda.media.container import FAILURES, reason
from moda.media.files import check_folder, whole

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
SYNTHETIC = f"synthetic media, made with moda {__version__}"
CRF = "18"  # visually lossless at this size
PRESET = "veryfast"
BITS_PER_SAMPLE = 3  # AAC, a channel; at most 96 kbit/s


def check_output(path: str | os.PathLike, inputs: Iterable[str | os.PathLike] = ()) -> Path:
    """Where a video may be written. Errors: ModaError for the extension; else as `moda.media.files.check_folder`."""
    path = Path(path)
    if path.suffix.lower() not in CONTAINERS:
        raise ModaError(f"cannot write {path}: its name must end in one of {', '.join(CONTAINERS)}")
    return check_folder(path, inputs)


class VideoWriter:
    """Write frames one by one; the sound is encoded along with them.

    The file appears at the end of the `with` block (see `moda.media.files.whole`); if the block is left by an error
    or Ctrl-C, nothing stays. The sound is cut where the picture ends.

    size:  (width, height) of the frames; an odd side is made even by repeating the last row or column
    sound: what `moda.audio.decode.open_listening` gives, or None for a silent video

    remark: written into the file's metadata; that it is synthetic media, unless given
    crf: x264's; lower is finer

    Errors: ModaError if the file cannot be written or a frame has another size.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        size: tuple[int, int],
        sound: Sound | None = None,
        remark: str = "",
        crf: str = CRF,
    ) -> None:
        self.path = check_output(path)
        self.crf = crf
        self.remark = remark or SYNTHETIC
        self.size = size
        self.frames = 0
        self.sound = sound
        self.sound_done = 0  # samples encoded

    def __enter__(self) -> VideoWriter:
        with ExitStack() as stack:
            part = stack.enter_context(whole(self.path))
            try:
                self._open(part)
            except FAILURES as error:
                raise ModaError(f"cannot write {self.path}: {reason(error)}") from error
            stack.push(self._close)
            self._leave = stack.pop_all()
        return self

    def _open(self, part: Path) -> None:
        kind = CONTAINERS[self.path.suffix.lower()]
        options = {} if kind == "matroska" else {"movflags": "+faststart"}
        self.container = av.open(f"file:{part}", "w", format=kind, options=options)
        self.container.metadata["comment"] = self.remark
        width, height = self.size
        video = self.container.add_stream("libx264", rate=FPS, options={"crf": self.crf, "preset": PRESET})
        video.width, video.height, video.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        video.codec_context.time_base = Fraction(1, FPS)
        # The colours' meaning is written into the stream, so that no player has to guess it from the size.
        context = video.codec_context
        context.color_primaries, context.color_trc = 1, 1  # BT.709, near to sRGB
        context.colorspace, context.color_range = 6, 1  # BT.601 matrix, studio swing: OpenCV's conversion
        self.video = video
        if self.sound:
            layout = "mono" if self.sound.channels == 1 else "stereo"
            rate = self.sound.rate
            self.audio = self.container.add_stream("aac", rate=rate, layout=layout)
            self.audio.bit_rate = min(96_000, BITS_PER_SAMPLE * rate) * self.sound.channels
            self.layout = layout
            self.blocks = rechunk(self.sound.pieces, 1024)

    def write(self, frame: np.ndarray) -> None:
        """(H, W, 3) uint8 RGB."""
        height, width = frame.shape[:2]
        if (width, height) != self.size:
            raise ModaError(
                f"a frame has {width}x{height} pixels, but the video was begun with {self.size[0]}x{self.size[1]}"
            )
        if width % 2 or height % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        # OpenCV's conversion is seven times as fast as FFmpeg's
        planes = np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2YUV_I420), dtype=np.uint8)
        picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        picture.pts, picture.time_base = self.frames, Fraction(1, FPS)
        self._mux(self.video, picture)
        self.frames += 1
        if self.sound:
            self._sound_until(self.frames * self.sound.rate // FPS, self.sound.rate)

    def _sound_until(self, samples: int, rate: int, exactly: bool = False) -> None:
        while self.sound_done < samples:
            block = next(self.blocks, None)
            if block is None:
                return
            block = block[: samples - self.sound_done] if exactly else block
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(block.T), format="fltp", layout=self.layout
            )
            frame.sample_rate = rate
            frame.pts, frame.time_base = self.sound_done, Fraction(1, rate)
            self._mux(self.audio, frame)
            self.sound_done += len(block)

    def _mux(self, stream: VideoStream | AudioStream, frame: Any) -> None:
        try:
            self.container.mux(stream.encode(frame))
        except FAILURES as error:
            raise ModaError(f"cannot write {self.path}: {reason(error)}") from error

    def __exit__(self, kind, error, trace) -> None:
        self._leave.__exit__(kind, error, trace)

    def _close(self, kind, error, trace) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            try:
                self.container.close()
            except FAILURES as failure:
                if kind is None:
                    raise ModaError(f"cannot write {self.path}: {reason(failure)}") from failure

    def _finish(self) -> None:
        if self.sound:
            rate = self.sound.rate
            self._sound_until((2 * self.frames + 1) * rate // (2 * FPS), rate, exactly=True)
            self._mux(self.audio, None)
        self._mux(self.video, None)


def write_video(
    path: str | os.PathLike,
    frames: Iterable[np.ndarray],
    sound: Sound | None = None,
    remark: str = "",
    crf: str = CRF,
) -> Path:
    """All frames, (H, W, 3) uint8 RGB at 25 fps, with the sound. Errors: as `VideoWriter`; also without frames."""
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ModaError(f"cannot write {path}: there are no frames")
    with VideoWriter(path, (first.shape[1], first.shape[0]), sound, remark, crf) as writer:
        writer.write(first)
        for frame in frames:
            writer.write(frame)
    return writer.path
