"""Footage that speaks another sound: its own head, eyes and light, lips by the generator."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moda.constants import FPS, SAMPLES_PER_FRAME
from moda.engine.parallel import ahead
from moda.engine.performance import Performance, Sampling, Settings
from moda.engine.video import Audio, Input, save
from moda.face.footage import Footage
from moda.motion import Motion
from moda.motion.space import converted
from moda.motion.timeline import Event, Timeline
from moda.streams import pushed
from moda.validation import check_whole

if TYPE_CHECKING:
    from moda.engine.model import Model

log = logging.getLogger(__name__)

CRF = "14"  # finer than a generated video's: the footage has been encoded before


class Dub:
    """A dubbed video to come; close it when it is not needed any more, or use it in a `with` block.

    It is as long as the footage: sound beyond is left out, with a logged warning; where the sound ends first, lips rest.
    face:  which one of the footage's first frame with a face, 0 is the largest
    lips:  gain of their movement; seed: the same seed gives the same video
    progress: told 0..1 while the face is followed
    timeline: events that move lips (moda.motion.timeline); of the others nothing is seen, as all else is the footage's
    Errors: ModaError for what cannot be read, footage without a face, a model that cannot dub.
    """

    def __init__(
        self,
        model: Model,
        video: str | os.PathLike,
        audio: Audio,
        face: int = 0,
        lips: float = 1.0,
        seed: int = 0,
        progress: Callable[[float], None] | None = None,
        timeline: Timeline | Sequence[Event] | str | os.PathLike[str] | None = None,
    ) -> None:
        check_whole("face", face, 0, 99)
        self._settings, self._sampling = Settings(lips=lips), Sampling(seed=seed)
        self._sound, self._timeline = Input(audio), Timeline.read(timeline)
        self._model, self._repainter = model, model.repainter
        self.footage = Footage.follow(video, face, progress)
        self._remark = f"lips of {Path(video).name} dubbed, model {model.folder.name}, seed {seed}"
        unseen = int((~self.footage.seen).sum())
        if unseen:
            log.warning("in %d of %d frames no whole face was seen; they stay as they are", unseen, len(self))

    def __len__(self) -> int:
        """Frames, 25 a second."""
        return self.footage.frames

    def close(self) -> None:
        self.footage.close()

    def __enter__(self) -> Dub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def motion(self) -> Iterator[Motion]:
        """The generator's, in the repainter's space, in chunks."""
        model = self._model
        space = model.generator.space
        identity = space.identity(self.footage.person.neutral)
        performance = Performance(
            model.encoder,
            model.generator,
            Motion.still(1, space),
            identity,
            model.silence,
            self._settings,
            self._sampling,
            self._timeline,
        )
        for chunk in pushed(performance, self._pieces()):
            yield converted(chunk, self._repainter.space)

    def _pieces(self) -> Iterator[np.ndarray]:
        """The sound, cut or with silence after it, as long as the footage."""
        left = self.footage.frames * SAMPLES_PER_FRAME
        for piece in self._sound.pieces():
            if len(piece) > left:
                if len(piece) - left >= SAMPLES_PER_FRAME:
                    log.warning(
                        "the sound is longer than the video (%.1f s); the rest is left out", len(self) / FPS
                    )
                yield piece[:left]
                return
            left -= len(piece)
            yield piece
        while left > 0:
            yield np.zeros(min(left, FPS * SAMPLES_PER_FRAME), np.float32)
            left -= FPS * SAMPLES_PER_FRAME

    def frames(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 RGB, the footage's own size; the next motion is generated while this one is drawn."""
        return self._repainter.repaint(self.footage, ahead(self.motion()))

    def save(self, path: str | os.PathLike, progress: Callable[[float], None] | None = None) -> Path:
        """Write the video with the new sound, all of it or nothing. progress: told 0..1.

        Errors: ModaError as `moda.media.write.VideoWriter`.
        """
        return save(path, self.frames(), len(self), self._sound.listening, self._remark, progress, CRF)
