"""A character: a model before a portrait, prepared once, used over calls, threads and sessions, kept on disk."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from moda.constants import DEFAULT_SIZE, SAMPLE_RATE
from moda.engine.performance import Performance, Sampling, Settings
from moda.engine.session import Session
from moda.errors import ModaError, why
from moda.face.source import Source
from moda.motion import Motion, Space
from moda.motion.space import converted
from moda.motion.timeline import Event, Timeline
from moda.render.paste import Paster, for_players
from moda.validation import check_whole

if TYPE_CHECKING:
    from moda.pipeline import TalkingHead

MIN_SIZE, MAX_SIZE = 64, 2048
MAX_FULL_SIZE = 1024  # of the square in a whole picture; drawing takes as long as it has pixels
PICTURE, NUMBERS = "portrait.png", "character.safetensors"
CACHED = 16  # characters that a cache keeps


@dataclass(frozen=True)
class View:
    """How a portrait is looked at.

    size: pixels of the square of head and shoulders; with `full` the least that its moving part is drawn at
    full: instead the whole picture at its own size, up to 4096 a side, the moving part pasted back
    full_size: with `full`, however large (few players decode H.264 above 4096 a side)
    face: which face of the picture, 0 is the largest

    Errors: ModaError for numbers out of range.
    """

    size: int = DEFAULT_SIZE
    full: bool = False
    full_size: bool = False
    face: int = 0

    def __post_init__(self) -> None:
        check_whole("size", self.size, MIN_SIZE, MAX_SIZE)
        if self.size % 2:
            raise ModaError(f"size is {self.size}, but must be even")
        check_whole("face", self.face, 0, 99)


class Character:
    """Made by `TalkingHead.prepare`; nothing of it changes afterwards, so any number of threads may use it."""

    def __init__(self, head: TalkingHead, source: Source, view: View) -> None:
        if view.full and not view.full_size:
            source = for_players(source)
        self.head, self.source, self.view = head, source, view
        self.renderer = head.renderer(view.size)
        if (
            view.full
        ):  # a large picture's square is drawn as large as it is there, so that it stays as sharp as the rest
            scale = self.renderer.framing(source).scale
            self.renderer = head.renderer(
                max(view.size, min(2 * round(view.size / scale / 2), MAX_FULL_SIZE))
            )
        self.prepared = self.renderer.prepare(source)
        self._paster = None
        if view.full:
            self._paster = Paster(source.image, self.prepared.crop)

    @property
    def motion(self) -> Motion:
        """One frame: the portrait's own expression and pose in the renderer's space."""
        return self.prepared.motion

    def session(
        self,
        *,
        seed: int = 0,
        emotion: str | None = None,
        pose: float = 1.0,
        lips: float = 1.0,
        blink: float = 1.0,
        gaze: tuple[float, float] = (0.0, 0.0),
        scheme: str = "live",
        steps: int | None = None,
        guidance: float | None = None,
        rate: int = SAMPLE_RATE,
        channels: int = 1,
        timeline: Timeline | Sequence[Event] | str | os.PathLike[str] | None = None,
    ) -> Session:
        """Something to push sound into: see moda.engine.session.

        seed, scheme, steps, guidance: moda.engine.performance.Sampling; emotion, pose, lips, blink, gaze: Settings
        rate, channels: of the sound that will be pushed
        timeline: see moda.motion.timeline; Session.direct takes more while it runs
        """
        settings, events = Settings(emotion, pose, lips, blink, gaze), Timeline.read(timeline)

        def perform(other_seed: int | None) -> Performance:
            chosen = seed if other_seed is None else other_seed
            return self.performance(settings, Sampling(scheme, chosen, steps, guidance), events)

        return Session(self.draw, perform, rate, channels)

    def performance(
        self, settings: Settings, sampling: Sampling, timeline: Timeline | None = None
    ) -> Performance:
        head = self.head
        own, identity = self.own_in(head.generator.space)
        return Performance(
            head.encoder,
            head.generator,
            own,
            identity,
            head.silence,
            settings,
            sampling,
            timeline,
            self.renderer.space,
        )

    def own_in(self, space: Space) -> tuple[Motion, np.ndarray]:
        """The portrait's own motion, one frame, and its keypoints (K, 3), in a generator's space."""
        if space is self.renderer.space:
            return self.motion, self.prepared.identity
        return converted(self.motion, space), space.identity(self.source.neutral)

    def draw(self, motion: Motion) -> Iterator[np.ndarray]:
        """-> (H, W, 3) uint8 RGB, one a frame of a motion in the renderer's space."""
        frames = self.renderer.draw(self.prepared, motion)
        if self._paster:
            return map(self._paster.paste, frames)
        if self.renderer.size != self.view.size:
            way = cv2.INTER_AREA if self.view.size < self.renderer.size else cv2.INTER_CUBIC
            size = (self.view.size, self.view.size)
            return (cv2.resize(frame, size, interpolation=way) for frame in frames)
        return frames

    def draw_square(self, motion: Motion) -> Iterator[np.ndarray]:
        """As `draw`, only the square that moves, which `paste_onto` puts into the whole picture."""
        return self.renderer.draw(self.prepared, motion)

    def paste_onto(self, square: np.ndarray, picture: np.ndarray) -> None:
        """Put a drawn square into a picture (H, W, 3) of the source's size, in place. Characters of `full` only."""
        assert self._paster
        self._paster.onto(square, picture)

    def limit(self, share: np.ndarray) -> None:
        """Before anything is drawn: of what is pasted only this share (H, W), 0..1, is seen."""
        assert self._paster
        self._paster.limit(share)

    # -- on disk ------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike) -> Path:
        """Write portrait.png and character.safetensors into a folder, which is made. `TalkingHead.load` reads them.

        Errors: ModaError if it cannot be written.
        """
        from safetensors.numpy import save_file

        from moda.media.files import whole

        folder = Path(folder)
        view = {name: str(int(value)) for name, value in asdict(self.view).items()}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModaError(f"cannot write the character {folder}: {why(error)}") from error
        with whole(folder / PICTURE) as part:
            part.write_bytes(
                cv2.imencode(".png", cv2.cvtColor(self.source.image, cv2.COLOR_RGB2BGR))[1].tobytes()
            )
        with whole(folder / NUMBERS) as part:
            save_file({"landmarks": np.ascontiguousarray(self.source.landmarks)}, part, metadata=view)
        return folder


def load_character(head: TalkingHead, folder: str | os.PathLike) -> Character:
    """What `Character.save` wrote, without looking for the face again. Errors: ModaError if it is not whole."""
    from safetensors import SafetensorError, safe_open

    from moda.face.portrait import source_of

    folder = Path(folder)
    try:
        with safe_open(folder / NUMBERS, "numpy") as file:
            landmarks, view = file.get_tensor("landmarks"), file.metadata()
        size, full, full_size, face = (int(view[name]) for name in View.__dataclass_fields__)
        seen = View(size, bool(full), bool(full_size), face)
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ModaError(f"{folder} holds no character that can be read: {error}") from error
    if landmarks.shape != (478, 3) or not np.isfinite(landmarks).all():
        raise ModaError(f"{folder / NUMBERS} holds no (478, 3) landmarks")
    from moda.media.picture import read_picture

    return Character(head, source_of(read_picture(folder / PICTURE), landmarks, str(folder)), seen)


class Cache:
    """Characters by their content: the same picture, however often it is uploaded, is prepared once."""

    def __init__(self, head: TalkingHead, limit: int = CACHED) -> None:
        self.head, self.limit = head, limit
        self._kept: OrderedDict[str, Character] = OrderedDict()
        self._lock = threading.Lock()
        self._busy: dict[str, threading.Lock] = {}

    def get(self, data: bytes, **view) -> Character:
        """data: a picture file's content; view: see View. Errors: ModaError as `TalkingHead.prepare`."""
        key = hashlib.sha256(data + repr(sorted(view.items())).encode()).hexdigest()
        with self._lock:
            mine = self._busy.setdefault(key, threading.Lock())
        with mine:  # two who ask for the same new picture wait for one preparing
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    return self._kept[key]
            try:
                character = self.head.prepare(_decoded(data), **view)
            finally:
                with self._lock:
                    self._busy.pop(key, None)
            with self._lock:
                self._kept[key] = character
                while len(self._kept) > self.limit:
                    self._kept.popitem(last=False)
            return character


def _decoded(data: bytes) -> np.ndarray:
    """A picture file's content, read as any picture file is."""
    import tempfile

    from moda.media.picture import read_picture

    with tempfile.NamedTemporaryFile(suffix=".picture") as file:
        file.write(data)
        file.flush()
        return read_picture(file.name)
