"""The few words that most people need: a portrait and a sound, or a portrait and a motion -> video."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np

from moda.constants import DEFAULT_SIZE, FPS, SAMPLE_RATE
from moda.errors import ModaError
from moda.motion import Motion
from moda.validation import check_choice

if TYPE_CHECKING:
    from moda.audio.encoder import Encoder
    from moda.engine.character import Character
    from moda.engine.session import Frame
    from moda.engine.video import Audio, Video
    from moda.face.tracking import Track
    from moda.generator.generator import Generator
    from moda.media.picture import Picture
    from moda.render import Renderer
    from moda.weights.description import Description

    Portrait = Picture | Character  # a picture, or what was prepared of one

log = logging.getLogger(__name__)

PRECISIONS = ("float32", "bfloat16", "float16", "int8")


class TalkingHead:
    """A model that makes portraits speak.

    >>> head = TalkingHead.from_pretrained("embedded")
    >>> head("portrait.jpg", "speech.wav", seed=7).save("out.mp4")

    Its parts are loaded when they are first needed: `encoder` (sound -> features), `generator` (features -> Motion)
    and `renderer(size)` (portrait, Motion -> frames). Threads may share it.
    """

    def __init__(
        self, folder: Path, description: Description, device: str = "cpu", precision: str = "float32"
    ) -> None:
        self.folder, self.description = folder, description
        self.device, self.precision = device, precision
        self._renderers: dict[int, Renderer] = {}
        self._lock = RLock()

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike = "embedded",
        device: str = "auto",
        renderer: str | None = None,
        precision: str = "float32",
    ) -> TalkingHead:
        """name_or_folder: "embedded" (in the package), "official" (downloaded) or a model's folder
        device:   auto, cpu, cuda or mps, for the neural networks (the embedded model's small ones stay on the CPU)
        renderer: mesh or liveportrait, in place of the model's own
        precision: float32, bfloat16, float16, or int8 for the generator on a CPU (LivePortrait then stays float32)

        Errors: ModaError if there is no such model, renderer, device or precision.
        """
        from moda.device import resolve_device
        from moda.weights import resolve
        from moda.weights.description import Description

        check_choice("precision", precision, PRECISIONS)
        folder = resolve(name_or_folder)
        return cls(
            folder, Description.read(folder).with_renderer(renderer), resolve_device(device), precision
        )

    # -- the parts ----------------------------------------------------------------------------

    @cached_property
    def encoder(self) -> Encoder:
        with self._lock:
            return self.description.encoder.load(self.folder, self.device)

    @cached_property
    def generator(self) -> Generator:
        with self._lock:
            return self.description.generator.load(self.folder, self.device, self.precision)

    @cached_property
    def silence(self) -> np.ndarray:
        """(layers, width): the encoder's features in the middle of silence."""
        from moda.audio.encoder import encode

        features = np.concatenate(list(encode(self.encoder, [np.zeros(4 * SAMPLE_RATE, np.float32)])))
        return features[len(features) // 2]

    def renderer(self, size: int = DEFAULT_SIZE) -> Renderer:
        """The renderer that draws squares of `size` pixels, or as large as it can."""
        with self._lock:
            if size not in self._renderers:
                made = self.description.renderer.load(self.folder, self.device, self.precision, size)
                self._renderers[size] = self._renderers.setdefault(made.size, made)
            return self._renderers[size]

    # -- what it does -------------------------------------------------------------------------

    def prepare(
        self,
        portrait: Picture,
        *,
        size: int = DEFAULT_SIZE,
        full: bool = False,
        full_size: bool = False,
        face: int = 0,
    ) -> Character:
        """Find the face and make ready what depends on the picture alone; everything below takes it as a portrait.

        portrait: a picture file, (H, W, 3) uint8 RGB or a PIL image
        size, full, full_size, face: see moda.engine.character.View

        Errors: ModaError, one line that says what is wrong with what was given.
        """
        from moda.engine.character import Character, View
        from moda.face import read_portrait

        view = View(size, full or full_size, full_size, face)
        return Character(self, read_portrait(portrait, face), view)

    def load(self, folder: str | os.PathLike) -> Character:
        """A character that `Character.save` wrote."""
        from moda.engine.character import load_character

        return load_character(self, folder)

    def __call__(
        self,
        portrait: Portrait,
        audio: Audio,
        *,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        emotion: str | None = None,
        pose: float = 1.0,
        lips: float = 1.0,
        blink: float = 1.0,
        gaze: tuple[float, float] = (0.0, 0.0),
        scheme: str = "offline",
        **view,
    ) -> Video:
        """The portrait speaks. Nothing is generated before the video is saved or looked at.

        portrait: as `prepare`, or what it made
        audio:    a sound or video file, or (n,) float32 mono 16 kHz, or an iterable of pieces of that (a stream)
        seed, steps, guidance, scheme: moda.engine.performance.Sampling
        emotion, pose, lips, blink, gaze: moda.engine.performance.Settings
        view:     size, full, full_size, face: as `prepare`, unless it is prepared already

        Errors: ModaError, one line that says what is wrong with what was given.
        """
        from moda.engine.performance import Sampling, Settings
        from moda.engine.video import Input, Video, perform

        sampling, settings = (
            Sampling(scheme, seed, steps, guidance),
            Settings(emotion, pose, lips, blink, gaze),
        )
        sound = Input(audio)
        self.description.generator.config.emotion_index(emotion)  # a wrong name is said before any work
        with ThreadPoolExecutor(1) as loading:  # the networks are read while the face is looked for
            loaded = loading.submit(lambda: (self.encoder, self.generator))
            character = self._character(portrait, view)
            loaded.result()
        performance = character.performance(settings, sampling)
        return Video(character, perform(performance, sound.pieces()), sound.listening, sound.frames)

    def animate(
        self,
        portrait: Portrait,
        driving: str | os.PathLike | Motion,
        *,
        pose: float = 1.0,
        lips: float = 1.0,
        blink: float = 1.0,
        mode: str = "relative",
        progress: Callable[[float], None] | None = None,
        **view,
    ) -> Video:
        """The portrait does what a video or a motion does (reenactment); a video's sound comes along.

        driving:  a video file, a motion file (.npz) or a Motion
        mode:     relative: what the driver does, from the driver's resting pose, about the portrait's own;
                  absolute: the motion as it is, so that what `motion` gave draws the same video again
        progress: called with 0..1 while a driving video is tracked
        The other arguments and the errors are those of `__call__`.
        """
        from moda.engine.performance import Editor, Settings
        from moda.engine.video import Video

        check_choice("driving", mode, ("relative", "absolute"))
        settings = Settings(None, pose, lips, blink)  # wrong numbers are said before any work
        character = self._character(portrait, view)
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
        space, own = character.renderer.space, character.motion
        motion.require(space, f"the {self.description.renderer.name} renderer")
        if motion.fps != FPS:
            raise ModaError(f"this motion has {motion.fps:g} frames a second, but {FPS} are needed")
        if mode == "relative":
            motion = space.driven(motion, own, space.resting(motion))
        motion = Editor(own, settings)(motion)
        return Video(character, iter([motion]), listening, len(motion))

    def stream(self, portrait: Portrait, pieces: Iterable[np.ndarray], **options) -> Iterator[Frame]:
        """Frames as soon as the sound for them is there; options as `prepare` and `Character.session` take them.

        pieces: (n,) at the session's rate, of any lengths.
        """
        view = {name: options.pop(name) for name in ("size", "full", "full_size", "face") if name in options}
        session = self._character(portrait, view).session(**options)
        for piece in pieces:
            yield from session.push(piece)
        yield from session.flush()

    def track(self, video: str | os.PathLike, progress: Callable[[float], None] | None = None) -> Track:
        """A video's motion in the renderer's space: a Track with `.motion` and `.lost` (frames without a face)."""
        return self.renderer().track(video, progress)

    def _character(self, portrait: Portrait, view: dict) -> Character:
        from moda.engine.character import Character

        if not isinstance(portrait, Character):
            return self.prepare(portrait, **view)
        if view:
            raise ModaError(f"this portrait is prepared already; give {', '.join(view)} to `prepare`")
        return portrait
