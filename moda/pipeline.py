"""The few words that most people need: a portrait and a sound, or a portrait and a motion -> video."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from moda.constants import DEFAULT_SIZE
from moda.engine.model import Model
from moda.errors import ModaError
from moda.motion import Motion

if TYPE_CHECKING:
    from moda.engine.character import Character
    from moda.engine.dub import Dub
    from moda.engine.group import Group, Part
    from moda.engine.session import Frame
    from moda.engine.video import Audio, Video
    from moda.face.tracking import Track
    from moda.media.picture import Picture
    from moda.motion.timeline import Event, Timeline
    from moda.voice import Voice

    Portrait = Picture | Character  # a picture, or what was prepared of one
    Driver = str | os.PathLike[str] | Motion
    Directions = Timeline | Sequence[Event] | str | os.PathLike[str] | None


class TalkingHead(Model):
    """A model that makes portraits speak.

    >>> head = TalkingHead.from_pretrained("embedded")
    >>> head("portrait.jpg", "speech.wav", seed=7).save("out.mp4")

    Its parts are those of moda.engine.model.Model. Threads may share it.
    """

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
        timeline: Directions = None,
        style: Driver | None = None,
        pose_from: Driver | None = None,
        **view,
    ) -> Video:
        """The portrait speaks. Nothing is generated before the video is saved or looked at.

        portrait: as `prepare`, or what it made
        audio:    a sound or video file, or (n,) float32 mono 16 kHz, or an iterable of pieces of that (a stream)
        seed, steps, guidance, scheme: moda.engine.performance.Sampling
        emotion, pose, lips, blink, gaze: moda.engine.performance.Settings
        timeline: events, or a JSON file of them: moda.motion.timeline
        style:    a clip (video or motion) whose amounts are taken over: moda.motion.style; pose_from: whose head is
        view:     size, full, full_size, face: as `prepare`, unless it is prepared already
        Errors: ModaError, one line that says what is wrong with what was given.
        """
        from moda.engine.driving import performed
        from moda.engine.performance import Sampling, Settings
        from moda.engine.video import Input, Video
        from moda.motion.timeline import Timeline

        sampling, settings = (
            Sampling(scheme, seed, steps, guidance),
            Settings(emotion, pose, lips, blink, gaze),
        )
        sound, events = Input(audio), Timeline.read(timeline)
        self.description.generator.config.emotion(emotion)  # a wrong name is said before any work
        with ThreadPoolExecutor(1) as loading:  # the networks are read while the face is looked for
            loaded = loading.submit(lambda: (self.encoder, self.generator))
            character = self._character(portrait, view)
            loaded.result()
        chunks = performed(character, settings, sampling, events, sound.pieces(), style, pose_from)
        made = f"model {self.folder.name}, seed {seed}"
        return Video(character, chunks, sound.listening, sound.frames, made)

    def say(self, portrait: Portrait, text: str, voice: Voice, **options) -> Video:
        """The portrait says a text: sentences are spoken while later ones are still made. options: as `__call__`."""
        return self(portrait, voice.say(text), **options)

    def together(self, picture: Picture, parts: Sequence[Part], **options) -> Group:
        """Several faces of one picture speak, and listen to each other: see moda.engine.group.together."""
        from moda.engine.group import together

        return together(self, picture, parts, **options)

    def animate(
        self,
        portrait: Portrait,
        driving: Driver,
        *,
        pose: float = 1.0,
        lips: float = 1.0,
        blink: float = 1.0,
        mode: str = "relative",
        timeline: Directions = None,
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
        from moda.engine.driving import Driving
        from moda.engine.performance import Settings
        from moda.engine.video import Video
        from moda.motion.timeline import Timeline

        # wrong numbers are said before any work
        settings, events = Settings(None, pose, lips, blink), Timeline.read(timeline)
        character = self._character(portrait, view)
        found = Driving.read(driving, character.renderer, progress)
        motion = found.on(character, mode, settings, events)
        return Video(character, iter([motion]), found.listening, len(motion), found.remark)

    def dub(self, video: str | os.PathLike, audio: Audio, **options) -> Dub:
        """Footage speaks another sound: see moda.engine.dub.Dub, which has the options too."""
        from moda.engine.dub import Dub

        return Dub(self, video, audio, **options)

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
