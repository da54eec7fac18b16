"""One portrait's performance: sound goes in, its Motion comes out, put on the portrait and edited.

Two schemes of the same sampler: `offline`, the published one, whose motion is best and late, and `live`, whose motion
comes as soon as the encoder has what it needs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from moda.constants import FPS
from moda.errors import ModaError
from moda.generator.live import MEMORY, Live
from moda.motion import Motion, Space, join
from moda.motion.blinks import Blinks
from moda.motion.breath import breathing
from moda.motion.space import converted
from moda.motion.timeline import Timeline
from moda.validation import check_choice, check_number, check_whole

if TYPE_CHECKING:
    from moda.audio.encoder import Encoder, EncoderStream
    from moda.generator import AnyGenerator, AnyStream

SCHEMES = ("offline", "live")
MAX_STEPS, MAX_GUIDANCE, MAX_GAIN, MAX_GAZE = 1000, 20.0, 10.0, 45.0
EASE = 8  # frames over which a changed setting comes in
CLOSING = 6  # frames in which the lips of an interrupted utterance come to rest


@dataclass(frozen=True)
class Settings:
    """What may change while a session runs.

    emotion: one of the model's, with an intensity ("happiness:0.6") or without, or None
    pose, lips, blink: gains, see moda.motion.space.Space.gains
    gaze: degrees by which the eyes are turned to the picture's right and up

    Errors: ModaError for a number out of range.
    """

    emotion: str | None = None
    pose: float = 1.0
    lips: float = 1.0
    blink: float = 1.0
    gaze: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("pose", "lips", "blink"):
            check_number(name, getattr(self, name), 0, MAX_GAIN)
        if not isinstance(self.gaze, (tuple, list)) or len(self.gaze) != 2:
            raise ModaError(f"gaze is {self.gaze}, but must be two numbers: degrees to the right, degrees up")
        for angle in self.gaze:
            check_number("gaze", angle, -MAX_GAZE, MAX_GAZE)

    @property
    def numbers(self) -> np.ndarray:
        """(5,) pose, lips, blink, gaze right and up."""
        return np.array([self.pose, self.lips, self.blink, *self.gaze], np.float32)


@dataclass(frozen=True)
class Sampling:
    """What is fixed for a performance.

    scheme: offline or live
    seed:   the same seed gives the same performance
    steps, guidance: the model's own unless given

    Errors: ModaError for a number out of range.
    """

    scheme: str = "offline"
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None

    def __post_init__(self) -> None:
        check_choice("scheme", self.scheme, SCHEMES)
        check_whole("seed", self.seed, 0, 2**63 - 1)
        if self.steps is not None:
            check_whole("steps", self.steps, 1, MAX_STEPS)
        if self.guidance is not None:
            check_number("guidance", self.guidance, 1, MAX_GUIDANCE)


class Editor:
    """Gains, gaze and a timeline on a motion that comes in parts; what is changed comes in over EASE frames."""

    def __init__(self, own: Motion, settings: Settings, timeline: Timeline | None = None) -> None:
        self.own = own
        self._from = self._to = settings.numbers
        self._part = EASE  # frames since the change
        self._timeline = timeline or Timeline()
        self._frame = 0

    def change(self, settings: Settings) -> None:
        self._from, self._to, self._part = self._at(self._part), settings.numbers, 0

    def direct(self, timeline: Timeline) -> None:
        """More events, whose times count from the next frame; those long over are forgotten."""
        now = self._frame / FPS
        kept = [event for event in self._timeline.events if event.at + event.length + MEMORY / FPS > now]
        self._timeline = Timeline((*kept, *timeline.later(now).events))

    def rewind(self, frames: int) -> None:
        """As if the last `frames` frames had not been edited yet."""
        self._part = max(0, self._part - frames)
        self._frame -= frames

    def _at(self, part: int) -> np.ndarray:
        """(5,) the numbers so many frames after the change."""
        return self._from + np.float32(min(part, EASE) / EASE) * (self._to - self._from)

    def __call__(self, motion: Motion) -> Motion:
        if not len(motion):
            return motion
        seconds = (self._frame + np.arange(len(motion))) / FPS
        self._frame += len(motion)
        track = np.stack([self._at(self._part + 1 + i) for i in range(min(len(motion), EASE))])
        track = np.concatenate([track, np.repeat(track[-1:], len(motion) - len(track), axis=0)])
        self._part += len(motion)
        timeline = self._timeline.near(seconds)
        if timeline.events:
            track[:, :3] *= timeline.gains(seconds)
        pose, lips, blink, right, up = track.T
        motion = motion.space.gains(motion, self.own, pose, lips, blink)
        motion = replace(
            motion, breath=motion.breath * np.minimum(pose, 1)
        )  # who is held still holds their breath
        if np.any(right) or np.any(up):
            motion = motion.space.look(motion, right, up)
        return timeline.on(motion, seconds) if timeline.events else motion


class Performance:
    """frames: given out so far."""

    def __init__(
        self,
        encoder: Encoder,
        generator: AnyGenerator,
        own: Motion,
        identity: np.ndarray,
        silence: np.ndarray,
        settings: Settings,
        sampling: Sampling,
        timeline: Timeline | None = None,
        space: Space | None = None,
    ) -> None:
        """own: one frame, the portrait's. identity: (K, 3). silence: (layers, width), features of no sound. space: of what
        comes out; the generator's own unless given."""
        own.require(generator.space, "this model's generator")
        start = generator.space.start(own)
        options = (settings.emotion, sampling.seed, sampling.steps, sampling.guidance)
        self._space = space or generator.space
        self._stream: AnyStream
        if sampling.scheme == "live":
            self._stream = generator.live(identity, start, silence, *options)
        else:
            self._stream = generator.offline(identity, start, *options)
        self._encoder, self._own, self._silence = encoder, own, silence
        self._sound: EncoderStream | None = None
        self._edit = Editor(own, settings, timeline)
        self.settings, self.sampling = settings, sampling
        self.frames = 0
        self._given = own[:0]  # the last frames given out, as many as can be taken back
        self._blinks = Blinks()
        self._broken: Motion | None = None  # the frame at which an utterance was interrupted
        self._since = 0  # frames since then

    def push(self, wave: np.ndarray) -> Motion:
        """(n,) float32 mono 16 kHz -> the frames that are final now, which may be none."""
        self._sound = self._sound or self._encoder.stream()
        return self._out(self._stream.push(self._sound.push(wave)))

    def flush(self) -> Motion:
        """The utterance ends -> its remaining frames. A live performance may go on after it."""
        rest = self._sound.flush() if self._sound else self._silence[None][:0]
        self._sound = None
        out = self._out(join([self._stream.push(rest), self._stream.flush()]))
        self._close_mouth()  # a sound may end on an open mouth
        return out

    def idle(self, frames: int) -> Motion:
        """`frames` frames of a face that hears nothing. Errors: ModaError offline, and within an utterance."""
        live = self._live("stay alive between utterances")
        if self._sound:
            raise ModaError(
                "this session is in the middle of an utterance; flush or interrupt it before idling"
            )
        made = self._stream.push(np.repeat(self._silence[None], -(-frames // live.hop) * live.hop, axis=0))
        live.rewind(live.frames - (len(made) - frames))
        return self._out(made[:frames])

    def interrupt(self, frames: int) -> None:
        """Forget all sound that waits, and all motion after the first `frames` frames; go on from there in silence."""
        live = self._live("be interrupted")
        self._sound = None
        back = self.frames - frames
        try:
            live.rewind(live.frames - back)
        except ValueError as error:
            raise ModaError(f"frame {frames} is too long ago to go back to") from error
        self.frames = frames
        self._given = self._given[: len(self._given) - back]
        self._edit.rewind(back)
        self._blinks.rewind(back)
        self._close_mouth()

    def change(self, settings: Settings) -> None:
        """Settings for what is sampled from now on; gains and gaze come in over EASE frames."""
        if settings.emotion != self.settings.emotion:
            self._stream.set_emotion(settings.emotion)
        self._edit.change(settings)
        self.settings = settings

    def direct(self, timeline: Timeline) -> None:
        """Events for the frames to come; their times count from the next one."""
        self._edit.direct(timeline)

    def _live(self, what: str) -> Live:
        scheme = self._stream.scheme
        if not isinstance(scheme, Live):
            raise ModaError(
                f"a session of the {self.sampling.scheme} scheme cannot {what}; use the live scheme"
            )
        return scheme

    def _out(self, motion: Motion) -> Motion:
        frames = self.frames + np.arange(len(motion))
        self.frames += len(motion)
        space = self._own.space
        motion = space.generated(self._blinks(motion), self._own)
        motion = replace(motion, breath=breathing(frames, self.sampling.seed))
        motion = self._closed(self._edit(motion))
        if self.sampling.scheme == "live" and len(motion):
            self._given = join([self._given, motion])[-MEMORY:]
        return converted(motion, self._space)

    def _close_mouth(self) -> None:
        """From the last frame given out on."""
        self._broken, self._since = (self._given[-1] if len(self._given) else None), 0

    def _closed(self, motion: Motion) -> Motion:
        """After an utterance or an interrupt the mouth goes on from where it was, over CLOSING frames."""
        if self._broken is None or not len(motion):
            return motion
        mouth = list(motion.space.groups["mouth"])
        part = np.clip((self._since + 1 + np.arange(len(motion))) / CLOSING, 0, 1)
        left = (1 - part * part * (3 - 2 * part)).astype(np.float32)[:, None, None]
        exp = motion.exp.copy()
        exp[:, mouth] += left * (self._broken.exp[:, mouth] - exp[:, mouth])
        self._since += len(motion)
        if self._since >= CLOSING:
            self._broken = None
        return replace(motion, exp=exp)


def changed(settings: Settings, **changes: object) -> Settings:
    """Errors: ModaError for a setting that does not exist, or a value out of range."""
    unknown = set(changes) - set(Settings.__dataclass_fields__)
    if unknown:
        known = ", ".join(Settings.__dataclass_fields__)
        raise ModaError(f"there is no setting {sorted(unknown)[0]!r}; there are {known}")
    return replace(settings, **changes)  # type: ignore[arg-type]
