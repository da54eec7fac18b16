"""The one place where the rooms meet: portrait and sound, or portrait and motion -> video."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from moda.constants import DEFAULT_SIZE, FPS, SAMPLE_RATE
from moda.errors import ModaError
from moda.motion import Motion, join
from moda.motion.edit import from_rest, gains, relative_to

log = logging.getLogger(__name__)

MIN_SIZE, MAX_SIZE = 64, 2048
MAX_FULL_SIZE = 1024  # of the square in a whole picture; drawing takes as long as it has pixels
MAX_STEPS = 1000
MAX_GUIDANCE = 20.0
MAX_GAIN = 10.0
RENDERERS = ("mesh", "liveportrait")
PRECISIONS = ("float32", "bfloat16", "float16", "int8")

Audio = "str | os.PathLike | np.ndarray | Iterable[np.ndarray]"


class TalkingHead:
    """A model that makes portraits speak.

    >>> head = TalkingHead.from_pretrained("embedded")
    >>> head("portrait.jpg", "speech.wav", seed=7).save("out.mp4")

    Its parts are loaded when they are first needed: `encoder` (sound -> features), `generator` (features -> Motion)
    and `renderer(size)` (portrait, Motion -> frames).
    """

    def __init__(
        self, folder: Path, device: str = "cpu", renderer: str | None = None, precision: str = "float32"
    ) -> None:
        from moda.weights import read_config

        self.folder = folder
        self.device = device
        self.precision = precision
        self.config = read_config(folder)
        self.renderer_name = renderer or self.config["renderer"]["name"]
        if self.renderer_name not in RENDERERS:
            raise ModaError(f"there is no renderer {self.renderer_name!r}; there are {', '.join(RENDERERS)}")
        self._renderers: dict[int, object] = {}

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike = "embedded",
        device: str = "cpu",
        renderer: str | None = None,
        precision: str = "float32",
    ) -> TalkingHead:
        """name_or_folder: "embedded" (in the package), "official" (downloaded) or a model's folder
        device:   cpu, cuda or mps
        renderer: mesh or liveportrait, in place of the model's own
        precision: float32, bfloat16, float16, or int8 for the generator on a CPU (LivePortrait then stays float32)

        Errors: ModaError if there is no such model, renderer, device or precision.
        """
        from moda.weights import resolve

        check_device(device)
        if precision not in PRECISIONS:
            raise ModaError(f"precision is {precision!r}, but must be one of {', '.join(PRECISIONS)}")
        return cls(resolve(name_or_folder), device, renderer, precision)

    # -- the parts ----------------------------------------------------------------------------

    @cached_property
    def encoder(self):
        from moda.weights import load_encoder

        return load_encoder(self.folder, self.config, self.device)

    @cached_property
    def generator(self):
        from moda.weights import load_generator

        return load_generator(self.folder, self.config, self.device, self.precision)

    def renderer(self, size: int = DEFAULT_SIZE):
        """The renderer that draws squares of `size` pixels (liveportrait: of 512, resized afterwards)."""
        if self.renderer_name == "liveportrait":
            size = DEFAULT_SIZE
        if size not in self._renderers:
            if self.renderer_name == "mesh":
                from moda.render.mesh.renderer import MeshRenderer

                self._renderers[size] = MeshRenderer(size)
            else:
                from moda.render.liveportrait.renderer import LivePortraitRenderer

                precision = "float32" if self.precision == "int8" else self.precision
                folder = self.folder / "liveportrait"
                self._renderers[size] = LivePortraitRenderer.load(folder, self.device, precision)
        return self._renderers[size]

    # -- what it does -------------------------------------------------------------------------

    def __call__(
        self,
        portrait: str | os.PathLike | np.ndarray,
        audio: Audio,
        *,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        emotion: str | None = None,
        size: int = DEFAULT_SIZE,
        full: bool = False,
        full_size: bool = False,
        pose: float = 1.0,
        lips: float = 1.0,
        blink: float = 1.0,
        face: int = 0,
    ) -> Video:
        """The portrait speaks. Nothing is generated before the video is saved or looked at.

        portrait: a picture file, or (H, W, 3) uint8 RGB
        audio:    a sound or video file, or (n,) float32 mono 16 kHz, or an iterable of pieces of that (a stream)
        seed:     the same seed gives the same video, another seed another performance
        steps, guidance: of sampling; the model's own unless given
        emotion:  one of the model's emotions
        size:     pixels of the square of head and shoulders
        full:     instead the whole picture at its own size, up to 4096 a side, the moving part pasted back
        full_size: likewise, however large (few players decode H.264 above 4096 a side)
        pose, lips, blink: gains, see `moda.motion.edit.gains`
        face:     which face of the picture, 0 is the largest

        Errors: ModaError, one line that says what is wrong with what was given.
        """
        check_whole("seed", seed, 0, 2**63 - 1)
        if steps is not None:
            check_whole("steps", steps, 1, MAX_STEPS)
        if guidance is not None:
            check_number("guidance", guidance, 0, MAX_GUIDANCE)
        sound = _Input(audio)
        self.generator.config.emotion_index(emotion)  # a wrong name is told before any work
        stage = self._stage(portrait, size, full, face, full_size)
        own, identity = stage.prepared.motion, stage.prepared.identity
        own.require(self.generator.space, "this model's generator")
        edit = self._edit(own, pose, lips, blink)

        def chunks() -> Iterator[Motion]:
            features = self.encoder.encode(sound.pieces())
            # Explicit motion is told from a head at rest; learned spaces are absolute and start from the portrait.
            start = Motion.still(1) if own.space == "explicit" else own
            for motion in self.generator.stream(features, identity, start, emotion, seed, steps, guidance):
                yield edit(_generated(motion, own))

        return Video(stage, chunks(), sound.listening, sound.frames)

    def animate(
        self,
        portrait: str | os.PathLike | np.ndarray,
        driving: str | os.PathLike | Motion,
        *,
        size: int = DEFAULT_SIZE,
        full: bool = False,
        full_size: bool = False,
        pose: float = 1.0,
        lips: float = 1.0,
        blink: float = 1.0,
        face: int = 0,
        progress: Callable[[float], None] | None = None,
    ) -> Video:
        """The portrait does what a video or a motion does (reenactment); a video's sound comes along.

        driving:  a video file, a motion file (.npz) or a Motion
        progress: called with 0..1 while a driving video is tracked
        The other arguments and the errors are those of `__call__`.
        """
        self._edit(Motion.still(1), pose, lips, blink)  # wrong numbers are told before any work
        stage = self._stage(portrait, size, full, face, full_size)
        listening = None
        if isinstance(driving, Motion):
            motion = driving
        elif Path(driving).suffix.lower() == ".npz":
            motion = Motion.load(driving)
        else:
            from moda.audio.decode import open_listening
            from moda.media.read import probe

            listening = (lambda: open_listening(driving)) if probe(driving).has_sound else None
            tracked = self.track(driving, progress)
            for line in tracked.remarks():
                log.warning(line)
            motion = tracked.motion
        motion.require(stage.renderer.space, f"the {self.renderer_name} renderer")
        if motion.fps != FPS:
            raise ModaError(f"this motion has {motion.fps:g} frames a second, but {FPS} are needed")
        own = stage.prepared.motion
        motion = self._edit(own, pose, lips, blink)(_driven(motion, own))
        return Video(stage, iter([motion]), listening, len(motion))

    def stream(
        self, portrait: str | os.PathLike | np.ndarray, pieces: Iterable[np.ndarray], **options
    ) -> Iterator[np.ndarray]:
        """Frames (H, W, 3) uint8 RGB as soon as the sound for them is there; options as `__call__` takes them.

        pieces: (n,) float32 mono 16 kHz, of any lengths. The frames are those of the whole sound given at once.
        """
        return self(portrait, pieces, **options).frames()

    def track(self, video: str | os.PathLike, progress: Callable[[float], None] | None = None):
        """A video's motion in the renderer's space: a Track with `.motion` and `.lost` (frames without a face)."""
        renderer = self.renderer()
        if renderer.space == "explicit":
            from moda.face import track

            return track(video, progress)
        return renderer.track(video, progress)

    # -- inside -------------------------------------------------------------------------------

    def _stage(self, portrait, size: int, full: bool, face: int, full_size: bool = False) -> _Stage:
        from moda.face import read_portrait
        from moda.render.paste import for_players

        check_whole("size", size, MIN_SIZE, MAX_SIZE)
        if size % 2:
            raise ModaError(f"size is {size}, but must be even")
        check_whole("face", face, 0, 99)
        source = read_portrait(portrait, face)
        full = full or full_size
        if full and not full_size:
            source = for_players(source)
        stage = _Stage(self.renderer(size), source, size, full)
        if (
            full
        ):  # a large picture's square is drawn as large as it is there, so that it stays as sharp as the rest
            own = min(2 * round(size / stage.prepared.crop.scale / 2), MAX_FULL_SIZE)
            if own > size and self.renderer(own) is not stage.renderer:
                stage = _Stage(self.renderer(own), source, own, full)
        return stage

    def _edit(self, around: Motion, pose: float, lips: float, blink: float) -> Callable[[Motion], Motion]:
        for name, value in (("pose", pose), ("lips", lips), ("blink", blink)):
            check_number(name, value, 0, MAX_GAIN)
        return lambda motion: gains(motion, around, pose, lips, blink)


def _generated(motion: Motion, own: Motion) -> Motion:
    """What a generator made, for a portrait whose own motion (one frame) is `own`."""
    if motion.space == "explicit":
        return from_rest(motion, own)
    from moda.render.liveportrait import keypoints

    return keypoints.absolute(own, motion)


def _driven(motion: Motion, own: Motion) -> Motion:
    """Another person's motion, for a portrait whose own motion (one frame) is `own`."""
    if motion.space == "explicit":
        return relative_to(motion, own)
    from moda.render.liveportrait import keypoints

    return keypoints.relative(own, motion)


class _Stage:
    """One portrait before one renderer."""

    def __init__(self, renderer, source, size: int, full: bool) -> None:
        self.renderer = renderer
        self.size = size
        self.prepared = renderer.prepare(source)
        self.paster = None
        if full:
            from moda.render.paste import Paster

            self.paster = Paster(source.image, self.prepared.crop)

    def draw(self, motion: Motion) -> Iterator[np.ndarray]:
        frames = self.renderer.draw(self.prepared, motion)
        if self.paster:
            return map(self.paster.paste, frames)
        if self.renderer.size != self.size:
            import cv2

            way = cv2.INTER_AREA if self.size < self.renderer.size else cv2.INTER_CUBIC
            return (cv2.resize(frame, (self.size, self.size), interpolation=way) for frame in frames)
        return frames


class _Input:
    """Sound in any of the forms that a caller may give."""

    def __init__(self, audio: Audio) -> None:
        from moda.audio import decode

        self.frames: int | None = None  # expected; None where unknown
        self.listening: Callable[[], decode.Sound] | None = None
        if isinstance(audio, (str, os.PathLike)):
            seconds = decode.sound_seconds(audio)
            self.frames = max(1, round(seconds * FPS)) if seconds else None
            self.listening = lambda: decode.open_listening(audio)
            self.pieces = lambda: decode.iter_audio(audio)
            return
        if isinstance(audio, np.ndarray):
            if audio.ndim != 1 or not np.issubdtype(audio.dtype, np.floating) or not np.isfinite(audio).all():
                raise ModaError("sound given as an array must be (n,) finite float32, mono, 16 kHz")
            self.frames = decode.frames_in(len(audio))
            if self.frames < 1:
                raise ModaError(
                    f"the sound has {len(audio)} samples, but one video frame needs 640 at 16 kHz"
                )
            wave = audio.astype(np.float32)
            self.listening = lambda: decode.Sound(SAMPLE_RATE, 1, iter([np.clip(wave, -1, 1)[:, None]]))
            self.pieces = lambda: iter([wave])
            return
        self.pieces = lambda: iter(audio)


class Video:
    """Frames to come, with their motion and their sound. Constant memory: frames are made as they are taken.

    expected: how many frames there will be, as far as known beforehand
    """

    def __init__(
        self, stage: _Stage, chunks: Iterator[Motion], listening: Callable | None, expected: int | None
    ) -> None:
        self._stage = stage
        self._chunks = chunks
        self._made: list[Motion] = []  # 280 bytes a frame
        self._listening = listening
        self.expected = expected

    def _motion(self) -> Iterator[Motion]:
        """The chunks from the first on; what was generated once is not generated again."""
        index = 0
        while True:
            if index == len(self._made):
                chunk = next(self._chunks, None)
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
        """(H, W, 3) uint8 RGB, 25 a second."""
        for chunk in self._motion():
            yield from self._stage.draw(chunk)

    def save(self, path: str | os.PathLike, progress: Callable[[float], None] | None = None) -> Path:
        """Write H.264 and the sound to an .mp4, .mov or .mkv file, all of it or nothing.

        progress: called with the part done, 0..1. Errors: ModaError as `moda.media.write.VideoWriter`.
        """
        from moda.media.write import check_output, write_video

        check_output(path)

        def counted() -> Iterator[np.ndarray]:
            for count, frame in enumerate(self.frames(), 1):
                yield frame
                if progress and self.expected:
                    progress(min(1.0, count / self.expected))

        return write_video(path, counted(), self._listening() if self._listening else None)


def check_device(device: str) -> None:
    """Errors: ModaError if torch does not know the device, or this machine lacks it."""
    import torch

    kind = device.split(":")[0]
    there = {"cpu": lambda: True, "cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if kind not in there:
        raise ModaError(f"device is {device!r}, but must be one of {', '.join(there)}")
    if not there[kind]():
        raise ModaError(
            f"this machine has no {kind} device, or this torch was built without it; use --device cpu"
        )


def check_whole(name: str, value: int, least: int, most: int) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not least <= value <= most:
        raise ModaError(f"{name} is {value}, but must be a whole number from {least} to {most}")


def check_number(name: str, value: float, least: float, most: float) -> None:
    number = isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most:
        raise ModaError(f"{name} is {value}, but must be a number from {least:g} to {most:g}")
