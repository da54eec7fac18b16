"""What drives a portrait from outside: a video of somebody, a motion file, or a Motion."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moda.constants import FPS
from moda.engine.performance import Editor, Sampling, Settings
from moda.errors import ModaError
from moda.motion import Motion, join
from moda.motion.style import Style, with_pose
from moda.motion.timeline import Timeline
from moda.streams import pushed
from moda.validation import check_choice

if TYPE_CHECKING:
    from moda.audio.decode import Sound
    from moda.engine.character import Character
    from moda.render import Renderer

log = logging.getLogger(__name__)

MODES = ("relative", "absolute")


@dataclass(frozen=True)
class Driving:
    """motion: in the renderer's space; listening: a video's sound; remark: for the file's metadata."""

    motion: Motion
    listening: Callable[[], Sound] | None = None
    remark: str = ""

    @classmethod
    def read(
        cls,
        driving: str | os.PathLike[str] | Motion,
        renderer: Renderer,
        progress: Callable[[float], None] | None = None,
    ) -> Driving:
        """Errors: ModaError for a file that is neither, and a motion of another space or rate."""
        if isinstance(driving, Motion):
            found = cls(driving)
        elif Path(driving).suffix.lower() == ".npz":
            found = cls(Motion.load(driving))
        elif Path(driving).suffix.lower() == ".csv":
            from moda.interchange.tables import read_curves

            found = cls(read_curves(driving), None, f"driven by {Path(driving).name}")
        else:
            from moda.audio.decode import open_listening
            from moda.media.read import probe

            path = Path(driving)
            listening = (lambda: open_listening(path)) if probe(path).has_sound else None
            track = renderer.track(path, progress)
            for line in track.remarks():
                log.warning(line)
            found = cls(track.motion, listening, f"driven by {path.name}")
        found.motion.require(renderer.space, "this renderer")
        if found.motion.fps != FPS:
            raise ModaError(f"this motion has {found.motion.fps:g} frames a second, but {FPS} are needed")
        return found

    def on(self, character: Character, mode: str, settings: Settings, timeline: Timeline) -> Motion:
        """The motion for a portrait. mode: see `TalkingHead.animate`."""
        check_choice("driving", mode, MODES)
        space, own, motion = character.renderer.space, character.motion, self.motion
        if mode == "relative":
            motion = space.driven(motion, own, space.resting(motion))
        return Editor(own, settings, timeline)(motion)


def performed(
    character: Character,
    settings: Settings,
    sampling: Sampling,
    timeline: Timeline,
    pieces: Iterable[np.ndarray],
    style: str | os.PathLike[str] | Motion | None,
    pose_from: str | os.PathLike[str] | Motion | None,
) -> Iterator[Motion]:
    """The performance of all the sound; with a clip's style or head movement in one chunk, and only then edited.

    The clips are read at once, so that a wrong one is said before any work.
    """
    if style is None and pose_from is None:
        return pushed(character.performance(settings, sampling, timeline), pieces)
    clips = [
        None if clip is None else Driving.read(clip, character.renderer).motion for clip in (style, pose_from)
    ]
    wanted = None if clips[0] is None else Style.of(clips[0])

    def whole() -> Iterator[Motion]:
        plain = character.performance(Settings(settings.emotion), sampling)
        motion = join(list(pushed(plain, pieces)))
        if wanted is not None:
            motion = wanted.on(motion)
        if clips[1] is not None:
            motion = with_pose(motion, clips[1], character.motion)
        yield Editor(character.motion, settings, timeline)(motion)

    return whole()
