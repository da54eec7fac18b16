"""A timeline: what a face does when. Emotion, gaze, head, blinks, held lips and gains, as events with a time and a length.

As a file it is a JSON array, one object an event:

    [
      {"at": 1.0, "length": 2.0, "emotion": "happiness", "intensity": 0.6},
      {"at": 3.0, "length": 1.5, "gaze": [12, 0]},
      {"at": 4.5, "length": 1.0, "gaze": "camera"},
      {"at": 5.0, "length": 1.0, "head": {"yaw": 10, "pitch": -3, "roll": 0}},
      {"at": 6.0, "blink": true},
      {"at": 6.5, "length": 0.5, "hold_lips": true},
      {"at": 7.0, "length": 2.0, "gains": {"lips": 1.3, "pose": 0.5, "blink": 1}}
    ]

`at` and `length` are seconds; an event is at its full strength between them, comes in over `fade` seconds before its
full strength and leaves over as many (0.4 unless given). Where that would move a point faster than people move, the
fade is longer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as checked

from moda.constants import FPS
from moda.errors import ModaError
from moda.motion.blinks import BLINK
from moda.validation import from_array, read_text

if TYPE_CHECKING:
    from moda.motion.motion import Motion

KINDS = ("emotion", "gaze", "head", "blink", "hold_lips", "gains")
FADE = 0.4  # seconds
LATEST = 1e7  # seconds: a session may run for months, and its events count from its beginning
# The fastest that filmed people move in a frame of 40 ms (99.9th percentile of 113 clips, 8 minutes): degrees of the
# head (pitch; yaw goes 1.9), degrees of the eyes, eye distances of the brows (lips go faster, 0.06; lids close by 0.65).
HEAD_SPEED, GAZE_SPEED, FACE_SPEED = 1.4, 9.0, 0.015
LONGEST_FADE = 5.0  # seconds that an event may need, however short its own fade

Seconds = Annotated[float, Field(ge=0, le=LATEST)]
Angle = Annotated[float, Field(ge=-45, le=45)]
Gain = Annotated[float, Field(ge=0, le=10)]
_STRICT = ConfigDict(extra="forbid")


@checked(frozen=True, config=_STRICT)
class Head:
    """Degrees that are added to the head's pose."""

    pitch: Angle = 0.0
    yaw: Angle = 0.0
    roll: Angle = 0.0


@checked(frozen=True, config=_STRICT)
class Gains:
    """Factors on the movement of head, lips and lids."""

    pose: Gain = 1.0
    lips: Gain = 1.0
    blink: Gain = 1.0


@checked(frozen=True, config=_STRICT)
class Event:
    """One thing of KINDS, at its full strength from `at` for `length` seconds.

    emotion, intensity: a name of moda.motion.emotions, 0..1
    gaze:      degrees to the picture's right and up as seen from the head, or "camera", wherever the head turns
    head:      added to the pose
    blink:     the lids shut and open again within 0.28 s; it has no length
    hold_lips: the mouth stays at rest
    gains:     factors, see Space.gains
    fade:      seconds

    Errors: pydantic's ValidationError, a ValueError, for a field; ModaError for an unknown emotion, or for none or several
    of KINDS. Files and messages give ModaError for all (`Timeline.read`).
    """

    at: Seconds
    length: Seconds = 0.0
    emotion: str | None = None
    intensity: Annotated[float, Field(ge=0, le=1)] = 1.0
    gaze: tuple[Angle, Angle] | Literal["camera"] | None = None
    head: Head | None = None
    blink: Literal[True] | None = None
    hold_lips: Literal[True] | None = None
    gains: Gains | None = None
    fade: Annotated[float, Field(ge=0, le=60)] = FADE

    def __post_init__(self) -> None:
        named = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(named) != 1:
            raise ModaError(
                f"an event needs exactly one of {', '.join(KINDS)}, it has {len(named) or 'none'}"
            )
        if self.emotion is not None:
            from moda.motion import emotions

            emotions.offset(self.emotion)

    def strength(self, seconds: np.ndarray, needed: float = 0.0) -> np.ndarray:
        """(T,) times -> (T,) 0..1, smooth. needed: the seconds that coming in has to take at least."""
        fade = max(self.fade, needed, 1 / FPS)
        rising = np.clip((seconds - self.at) / fade + 1, 0, 1)
        falling = np.clip((self.at + self.length - seconds) / fade + 1, 0, 1)
        part = np.minimum(rising, falling)
        return part * part * (3 - 2 * part)


@dataclass(frozen=True)
class Timeline:
    """Events in any order; those of one kind add up, but for the gaze, where the last one that is given counts."""

    events: tuple[Event, ...] = ()

    @classmethod
    def read(cls, timeline: Timeline | Sequence[Event] | str | os.PathLike[str] | None) -> Timeline:
        """Itself, events, a JSON file's, or none. Errors: ModaError that names the line of the event that is wrong."""
        if timeline is None:
            return cls()
        if isinstance(timeline, Timeline):
            return timeline
        if not isinstance(timeline, (str, os.PathLike)):
            return cls(_events(timeline))
        path = Path(timeline)
        return cls.parse(read_text(path, "timeline"), f"the timeline {path}")

    @classmethod
    def parse(cls, text: str, where: str = "the timeline") -> Timeline:
        """As `read`, of JSON."""
        return cls(tuple(from_array(Event, text, where)))

    def later(self, seconds: float) -> Timeline:
        """The same events, that much later."""
        return Timeline(tuple(replace(event, at=event.at + seconds) for event in self.events))

    def near(self, seconds: np.ndarray) -> Timeline:
        """Only the events that these times may see something of: an hour's are not all asked for every frame."""
        first, last = seconds[0], seconds[-1]

        def seen(event: Event) -> bool:
            fade = max(event.fade, LONGEST_FADE)
            return event.at - fade <= last and event.at + event.length + fade >= first

        return Timeline(tuple(event for event in self.events if seen(event)))

    def gains(self, seconds: np.ndarray) -> np.ndarray:
        """(T,) times -> (T, 3) factors of pose, lips and blink."""
        factors = np.ones((len(seconds), 3))
        for event in self.events:
            if event.gains is not None:
                wanted = np.array([event.gains.pose, event.gains.lips, event.gains.blink])
                factors *= 1 + event.strength(seconds)[:, None] * (wanted - 1)
            elif event.hold_lips:
                factors[:, 1] *= 1 - event.strength(seconds)
        return factors.astype(np.float32)

    def on(self, motion: Motion, seconds: np.ndarray) -> Motion:
        """A motion whose gains are done already, with all that the events add. seconds: (T,) its frames' times."""
        pose = np.zeros((len(motion), 3), np.float32)
        exp = motion.exp
        for event in self.events:
            if event.head is not None:
                wanted = np.array([event.head.pitch, event.head.yaw, event.head.roll])
                part = event.strength(seconds, _fade(np.abs(wanted).max(), HEAD_SPEED))
                pose += (part[:, None] * wanted).astype(np.float32)
            elif event.emotion is not None:
                points, turn = motion.space.emotion(event.emotion)
                fastest = event.intensity * np.linalg.norm(points, axis=-1).max()
                needed = max(
                    _fade(fastest, FACE_SPEED), _fade(event.intensity * np.abs(turn).max(), HEAD_SPEED)
                )
                part = (event.intensity * event.strength(seconds, needed)).astype(np.float32)
                exp = exp + part[:, None, None] * points
                pose += part[:, None] * turn
        turned = {name: getattr(motion, name) + pose[:, i] for i, name in enumerate(("pitch", "yaw", "roll"))}
        motion = replace(motion, exp=exp, **turned)
        for event in self.events:
            if event.gaze is not None:
                motion = _looking(motion, event, seconds)
        shut = np.zeros(len(motion), np.float32)
        for event in self.events:
            if event.blink:
                shut = np.maximum(shut, _blinking((seconds - event.at) * FPS))
        return motion.space.shut(motion, shut) if shut.any() else motion


def _looking(motion: Motion, event: Event, seconds: np.ndarray) -> Motion:
    if event.gaze == "camera":
        limit = 25.0
        right = -np.clip(motion.yaw, -limit, limit)
        up = -np.clip(motion.pitch, -limit, limit)
        part = event.strength(seconds, _fade(limit, GAZE_SPEED))
    else:
        assert event.gaze is not None
        right, up = (np.full(len(motion), angle, np.float32) for angle in event.gaze)
        part = event.strength(seconds, _fade(max(abs(angle) for angle in event.gaze), GAZE_SPEED))
    if not part.any():
        return motion
    part = part.astype(np.float32)
    return motion.space.look(motion, part * right, part * up, own=1 - part)


def _fade(amount: float, limit: float) -> float:
    """Seconds in which a smooth step of `amount` never goes more than `limit` a frame: its steepest is 1.5 times its mean."""
    return float(1.5 * amount / limit / FPS)


def _blinking(frames: np.ndarray) -> np.ndarray:
    """(T,) frames since a blink's first -> (T,) closure."""
    return np.interp(frames, np.arange(len(BLINK)), BLINK, left=0, right=0).astype(np.float32)


def _events(given: Iterable[Event]) -> tuple[Event, ...]:
    events = tuple(given)
    for event in events:
        if not isinstance(event, Event):
            raise ModaError(f"a timeline is made of Event, but {type(event).__name__} was given")
    return events
