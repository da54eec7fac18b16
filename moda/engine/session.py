"""A session: a character that listens. Sound is pushed in, frames come out; it knows one clock.

A frame's picture and its own 40 ms of sound leave together. A file is a session with everything pushed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moda.audio.resample import Resampler
from moda.constants import FPS, SAMPLE_RATE
from moda.engine.performance import Performance, changed
from moda.errors import ModaError
from moda.motion import Motion
from moda.motion.timeline import Event, Timeline
from moda.validation import check_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MIN_RATE, MAX_RATE = 8_000, 192_000


@dataclass(frozen=True)
class Frame:
    """index:   of the session's clock, from 0, without gaps
    time:    seconds, index / 25
    picture: (H, W, 3) uint8 RGB
    sound:   (rate / 25, channels) float32, what is to be heard while the picture is seen
    motion:  Motion of one frame, what the picture was drawn from
    speaking: whether it belongs to an utterance
    """

    index: int
    time: float
    picture: np.ndarray
    sound: np.ndarray
    motion: Motion
    speaking: bool


@dataclass(frozen=True)
class State:
    """frames, seconds: given out; speaking: an utterance is under way; utterance: its frames that were given out;
    waiting: seconds of sound pushed whose frames were not given out yet."""

    frames: int
    seconds: float
    speaking: bool
    utterance: int
    waiting: float


@dataclass(frozen=True)
class Position:
    """Where an utterance was broken off: frames and seconds of it that were played."""

    frames: int
    seconds: float


class Session:
    """Made by `Character.session`. One caller at a time; others wait."""

    def __init__(
        self,
        draw: Callable[[Motion], Iterator[np.ndarray]],
        perform: Callable[[int | None], Performance],
        rate: int = SAMPLE_RATE,
        channels: int = 1,
    ) -> None:
        """draw: motion to pictures. perform: seed, or None for the first one's, to a new performance."""
        check_whole("rate", rate, MIN_RATE, MAX_RATE)
        check_whole("channels", channels, 1, 64)
        if rate % FPS:
            raise ModaError(
                f"rate is {rate}, but must be a multiple of {FPS}, so that a frame has whole samples"
            )
        self.rate, self.channels = rate, channels
        self.stride = 1  # 2: every second picture is drawn and shown twice, for machines that are late
        self._draw, self._perform = draw, perform
        self._performance = perform(None)
        self._lock = threading.Lock()
        self._clear()
        self._index = 0

    def _clear(self) -> None:
        """No utterance is under way."""
        self._resampler = Resampler(self.rate)
        self._heard = np.zeros((0, self.channels), np.float32)  # pushed, not given out
        self._since: int | None = None  # the frame that the utterance began with

    # -- sound in, frames out -----------------------------------------------------------------

    def push(self, sound: np.ndarray) -> list[Frame]:
        """Sound of any length -> the frames that are ready now.

        sound: (n,) or (n, channels) at the session's rate, float in -1..1 or int16. The first push after a flush,
        an interrupt or idling begins an utterance. Errors: ModaError for another shape or type.
        """
        heard = self._checked(sound)
        with self._lock:
            if self._since is None:
                self._since = self._index
            self._heard = np.concatenate([self._heard, heard])
            mono = heard[:, 0] if self.channels == 1 else heard.mean(axis=1)
            return self._frames(self._performance.push(self._resampler.push(mono)))

    def flush(self) -> list[Frame]:
        """The utterance is over -> its remaining frames; a live session may idle or speak again."""
        with self._lock:
            motion = self._performance.push(self._resampler.flush()) if self._since is not None else None
            rest = self._frames(motion) if motion is not None else []
            rest += self._frames(self._performance.flush())
            self._clear()
            return rest

    def idle(self, frames: int = 4) -> list[Frame]:
        """That many frames of a face that hears nothing: it blinks, moves a little, its lips closed.

        Live sessions only; 4 at a time cost as much as one. Errors: ModaError within an utterance.
        """
        check_whole("frames", frames, 1, 60 * FPS)
        with self._lock:
            return self._frames(self._performance.idle(frames))

    def interrupt(self, shown: int | None = None) -> Position:
        """Stop speaking: what was pushed and not given out is forgotten; the next frames close the lips.

        shown: index of the last frame that was really played, where later ones were thrown away; the session goes on
        from there. -> how much of the utterance was played. Live sessions only.
        """
        with self._lock:
            if shown is not None:
                check_whole("shown", shown, -1, self._index - 1)
            index = self._index if shown is None else shown + 1
            self._performance.interrupt(self._performance.frames - (self._index - index))
            began = index if self._since is None else self._since
            self._index = index
            self._clear()
            played = max(0, index - began)
            return Position(played, played / FPS)

    def set(self, **settings: object) -> None:
        """Change emotion, pose, lips, blink or gaze while it runs; see moda.engine.performance.Settings."""
        with self._lock:
            self._performance.change(changed(self._performance.settings, **settings))

    def direct(self, timeline: Timeline | Sequence[Event]) -> None:
        """Events of a timeline whose times count from the next frame that is made."""
        with self._lock:
            self._performance.direct(Timeline.read(timeline))

    def close(self) -> None:
        """It is not needed any more. Nothing to be done here; a session in another process ends."""

    def reset(self, seed: int | None = None) -> None:
        """Begin anew at frame 0, with the same seed unless another is given; the settings stay."""
        with self._lock:
            settings = self._performance.settings
            self._performance = self._perform(seed)
            self._performance.change(settings)
            self._clear()
            self._index = 0

    @property
    def state(self) -> State:
        with self._lock:
            return State(
                frames=self._index,
                seconds=self._index / FPS,
                speaking=self._since is not None,
                utterance=0 if self._since is None else self._index - self._since,
                waiting=len(self._heard) / self.rate,
            )

    # -- inside -------------------------------------------------------------------------------

    def _checked(self, sound: np.ndarray) -> np.ndarray:
        """-> (n, channels) float32."""
        sound = np.asarray(sound)
        if sound.ndim == 1:
            sound = sound[:, None]
        if sound.ndim != 2 or sound.shape[1] != self.channels:
            raise ModaError(
                f"the sound pushed has shape {sound.shape}, but (samples, {self.channels}) is needed here"
            )
        if sound.dtype == np.int16:
            return sound.astype(np.float32) / 32768
        if not np.issubdtype(sound.dtype, np.floating) or not np.isfinite(sound).all():
            raise ModaError("the sound pushed must be finite float32 in -1..1, or int16")
        return sound.astype(np.float32)

    def _frames(self, motion: Motion) -> list[Frame]:
        if not len(motion):
            return []
        stride = self.stride
        drawn = list(self._draw(motion if stride == 1 else motion[::stride]))
        return [self._frame(drawn[i // stride], motion[i : i + 1]) for i in range(len(motion))]

    def _frame(self, picture: np.ndarray, motion: Motion) -> Frame:
        size = self.rate // FPS
        sound, self._heard = self._heard[:size], self._heard[size:]
        if len(sound) < size:
            sound = np.concatenate([sound, np.zeros((size - len(sound), self.channels), np.float32)])
        frame = Frame(self._index, self._index / FPS, picture, sound, motion, self._since is not None)
        self._index += 1
        return frame
