"""Several faces of one picture: each speaks its own sound; who does not speak listens to who does."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import av
import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from moda.audio import decode
from moda.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from moda.engine.parallel import ahead
from moda.engine.performance import Sampling, Settings
from moda.engine.video import save
from moda.errors import ModaError
from moda.face.portrait import source_of
from moda.motion import Motion
from moda.motion.timeline import Event, Head, Timeline
from moda.streams import pushed
from moda.validation import from_array, read_text

if TYPE_CHECKING:
    from moda.engine.character import Character
    from moda.media.picture import Picture
    from moda.pipeline import TalkingHead

RATE = 48_000  # of the mixed sound, mono
QUIET, BELOW = -50.0, 30.0  # decibels: no speech under the first, or so far under the loudest
PAUSE, TURN = 0.35, 0.6  # seconds of silence that are a pause; between two things said by one
GAZE, LEAN, NOD = 14.0, 4.0, -4.0  # degrees: eyes and head towards the speaker, a nod
_NUMBERED = re.compile(r"[0-9]{1,2}=.")
SEAM = 0.08  # of the way between two faces: over so much one's square fades into the other's


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Part:
    """What a face says and when. face: from the picture's left, from 0; at: seconds."""

    face: Annotated[int, Field(ge=0, le=99)]
    audio: str
    at: Annotated[float, Field(ge=0, le=24 * 3600)] = 0.0


def read_script(path: str | os.PathLike) -> list[Part]:
    """A JSON array of parts; sounds are found from the file's folder. Errors: ModaError that names the line."""
    path = Path(path)
    parts = from_array(Part, read_text(path, "script"), f"the script {path}")
    if not parts:
        raise ModaError(f"the script {path} has no parts")
    return [Part(part.face, str(path.parent.resolve() / part.audio), part.at) for part in parts]


def read_parts(words: Sequence[str]) -> list[Part]:
    """`a.wav b.wav`, left to right, or `0=a.wav 2=b.wav`, all from the beginning."""
    numbered = [bool(_NUMBERED.match(word)) and not Path(word).exists() for word in words]
    if any(numbered) and not all(numbered):
        raise ModaError("give every sound its face, 0=a.wav 1=b.wav, or none")
    if any(numbered):
        return [Part(int(word.partition("=")[0]), word.partition("=")[2]) for word in words]
    return [Part(index, word) for index, word in enumerate(words)]


class Track:
    """One face's sound over the whole video, silence where it has none; read in pieces."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """Errors: ModaError for parts that overlap, or that cannot be read."""
        self.parts = sorted(parts, key=lambda part: part.at)
        self.levels = np.zeros(0)  # decibels a frame
        end = 0.0
        for part in self.parts:
            if part.at < end - 1e-6:
                raise ModaError(
                    f"face {part.face} would speak twice at {part.at:g} s: {part.audio} begins before the sound "
                    f"ahead of it ends, at {end:.2f} s"
                )
            levels = _levels(decode.iter_audio(part.audio))
            first = round(part.at * FPS)
            self.levels = np.concatenate(
                [self.levels, np.full(max(0, first - len(self.levels)), -100.0), levels]
            )
            end = part.at + len(levels) / FPS

    @property
    def frames(self) -> int:
        return len(self.levels)

    def speaking(self, frames: int) -> list[tuple[float, float]]:
        """Seconds from and to which it speaks, pauses left out."""
        loud = np.zeros(frames, bool)
        if len(self.levels):
            loud[: len(self.levels)] = self.levels > max(QUIET, self.levels.max() - BELOW)
        return _spans(loud, PAUSE)

    def pieces(self, frames: int) -> Iterator[np.ndarray]:
        """(n,) float32 mono 16 kHz, in all so many frames of sound."""
        return _placed(
            ((round(part.at * SAMPLE_RATE), decode.iter_audio(part.audio)) for part in self.parts),
            frames * SAMPLES_PER_FRAME,
            SAMPLE_RATE,
        )

    def listening(self, frames: int) -> Iterator[np.ndarray]:
        """The same at RATE for listeners."""
        return _placed(
            ((round(part.at * RATE), _at_rate(part.audio)) for part in self.parts), frames * RATE // FPS, RATE
        )


class Group:
    """A video of several faces to come.

    parts: who says what and when; those who say nothing listen. listener: the one face listens to a sound that the
    picture's faces do not speak.
    Errors: ModaError for a face that is not there, faces of which one cannot be drawn, sound that cannot be read.
    """

    def __init__(
        self,
        head: TalkingHead,
        picture: Picture,
        parts: Sequence[Part],
        settings: Settings,
        sampling: Sampling,
        listening_to: str | os.PathLike | None = None,
        **view: Any,
    ) -> None:
        tracks: dict[int, Track] = {
            face: Track([part for part in parts if part.face == face])
            for face in {part.face for part in parts}
        }
        self._heard = Track([Part(0, os.fspath(listening_to))]) if listening_to is not None else None
        every = [*tracks.values(), *([self._heard] if self._heard else [])]
        if not every:
            raise ModaError("nobody speaks: give at least one sound")
        self.frames_expected = max(track.frames for track in every)
        if listening_to is not None:
            self.characters = [head.prepare(picture, **view)]
        else:
            self.characters = _from_the_left(head, picture, max(tracks, default=0), view)
        places = [character.source.pose.center[0] for character in self.characters]
        spoken = [tracks[i].speaking(self.frames_expected) if i in tracks else [] for i in range(len(places))]
        self._tracks = [tracks.get(i, Track([])) for i in range(len(places))]
        self._performances = []
        for i, character in enumerate(self.characters):
            others = [
                (spoken[j], float(np.sign(places[j] - places[i]))) for j in range(len(places)) if j != i
            ]
            if self._heard:
                others = [(self._heard.speaking(self.frames_expected), 0.0)]
            directions = attention(spoken[i], others)
            own = Sampling(sampling.scheme, sampling.seed + i, sampling.steps, sampling.guidance)
            self._performances.append(character.performance(settings, own, directions))
        self._remark = f"model {head.folder.name}, seed {sampling.seed}, {len(places)} faces"
        if len(self.characters) > 1:
            _share(self.characters)

    def frames(self) -> Iterator[np.ndarray]:
        """(H, W, 3) uint8 RGB, 25 a second."""
        streams = [self._drawn(*each) for each in zip(self.characters, self._performances, self._tracks)]
        if len(streams) == 1:
            yield from streams[0]
            return
        for squares in zip(*streams):
            picture = self.characters[0].source.image.copy()
            for character, square in zip(self.characters, squares):
                character.paste_onto(square, picture)
            yield picture

    def _drawn(self, character: Character, performance, track: Track) -> Iterator[np.ndarray]:
        chunks: Iterator[Motion] = pushed(performance, track.pieces(self.frames_expected))
        draw = character.draw if len(self.characters) == 1 else character.draw_square
        for chunk in ahead(chunks):
            yield from draw(chunk)

    def sound(self) -> decode.Sound:
        """Everybody's, mixed."""
        every = [track for track in [*self._tracks, self._heard] if track and track.parts]
        tracks = [decode.rechunk(track.listening(self.frames_expected), RATE) for track in every]

        def mixed() -> Iterator[np.ndarray]:
            for pieces in zip(*tracks):
                yield np.clip(np.sum(pieces, axis=0), -1, 1).astype(np.float32)[:, None]

        return decode.Sound(RATE, 1, mixed())

    def save(self, path: str | os.PathLike, progress: Callable[[float], None] | None = None) -> Path:
        """As `Video.save`."""
        with closing(self.frames()) as frames:  # type: ignore[type-var]
            return save(path, frames, self.frames_expected, self.sound, self._remark, progress)


def attention(
    own: Sequence[tuple[float, float]], others: Sequence[tuple[Sequence[tuple[float, float]], float]]
) -> Timeline:
    """What a face does while others speak: lips closed, eyes and head towards them, a nod at their pauses.

    own: seconds in which it speaks itself; others: the same of the others, and on which side they are (-1 left, 1 right,
    0 where the camera is).
    """
    events = []
    for spans, side in others:
        for index, (start, stop) in enumerate(spans):
            for free_from, free_to in _without(start, stop, own):
                length = free_to - free_from
                if length < TURN:
                    continue
                if side:
                    events.append(
                        Event(at=free_from + 0.2, length=max(0.0, length - 0.4), gaze=(GAZE * side, 0.0))
                    )
                    events.append(
                        Event(
                            at=free_from + 0.4,
                            length=max(0.0, length - 0.6),
                            fade=0.8,
                            head=Head(yaw=LEAN * side),
                        )
                    )
                else:
                    events.append(Event(at=free_from, length=length, gaze="camera"))
                events.append(Event(at=free_from, length=length, fade=0.2, hold_lips=True))
                following = spans[index + 1][0] if index + 1 < len(spans) else np.inf
                if free_to == stop and length > 1.0 and following - stop > PAUSE:
                    events.append(Event(at=stop + 0.25, fade=0.25, head=Head(pitch=NOD)))
    return Timeline(tuple(events))


def _without(start: float, stop: float, own: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The parts of a span in which nothing of `own` is."""
    for own_start, own_stop in own:
        if own_stop <= start or own_start >= stop:
            continue
        if own_start > start:
            yield start, own_start
        start = max(start, own_stop)
    if start < stop:
        yield start, stop


def _from_the_left(head: TalkingHead, picture: Picture, most: int, view: dict[str, Any]) -> list[Character]:
    """Every face of the picture that can be read, left to right, in the whole picture."""
    from moda.face.landmarks import look_for_faces
    from moda.media.picture import as_picture

    pixels, name = as_picture(picture)
    found = look_for_faces(pixels)
    if most >= len(found):
        raise ModaError(f"{name} shows {len(found)} face(s), so face {most}, from the left, is not there")
    sources = [source_of(pixels, one.landmarks, name) for one in found if one.trusted]
    if most >= len(sources):
        raise ModaError(f"of {len(found)} faces in {name} only {len(sources)} can be read")
    order = np.argsort([source.pose.center[0] for source in sources])
    from moda.engine.character import Character, View

    whole = View(**(view | {"full": True}))
    return [Character(head, sources[i], whole) for i in order]


def _share(characters: Sequence[Character]) -> None:
    """Each pixel belongs to the face that is nearest, in its own size, so that squares that overlap do not hide faces."""
    height, width = characters[0].source.image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    away = []
    for character in characters:
        pose = character.source.pose
        away.append(np.hypot(x - pose.center[0], y - pose.center[1]) / pose.scale)
    for i, character in enumerate(characters):
        others = np.min([d for j, d in enumerate(away) if j != i], axis=0)
        part = np.clip((others - away[i]) / (others + away[i]) / SEAM + 0.5, 0, 1)
        character.limit(part * part * (3 - 2 * part))


def _levels(pieces: Iterator[np.ndarray]) -> np.ndarray:
    """(frames,) decibels below full scale."""
    found = [
        10 * np.log10(float(np.mean(np.square(frame, dtype=np.float64))) + 1e-10)
        for frame in decode.rechunk(pieces, SAMPLES_PER_FRAME)
    ]
    return np.array(found)


def _spans(loud: np.ndarray, gap: float) -> list[tuple[float, float]]:
    """(start, stop) seconds of the stretches that are True, those nearer than `gap` seconds joined."""
    found: list[list[float]] = []
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud.astype(int), [0]])))
    for start, stop in edges.reshape(-1, 2) / FPS:
        if found and start - found[-1][1] < gap:
            found[-1][1] = float(stop)
        else:
            found.append([float(start), float(stop)])
    return [(start, stop) for start, stop in found]


def _placed(parts: Iterator[tuple[int, Iterator[np.ndarray]]], total: int, rate: int) -> Iterator[np.ndarray]:
    """Sounds at their places, silence between and after, `total` samples in all."""
    done = 0

    def silence(until: int) -> Iterator[np.ndarray]:
        nonlocal done
        while done < until:
            count = min(rate, until - done)
            done += count
            yield np.zeros(count, np.float32)

    for start, pieces in parts:
        yield from silence(min(start, total))
        for piece in pieces:
            piece = piece[: total - done]
            done += len(piece)
            yield piece
    yield from silence(total)


def _at_rate(path: str) -> Iterator[np.ndarray]:
    """A sound's pieces (n,) mono at RATE."""
    sound = decode.open_listening(path)
    resampler = av.AudioResampler("flt", "mono", RATE)
    for piece in sound.pieces:
        mono = np.ascontiguousarray(piece.mean(axis=1, dtype=np.float32)[None])
        frame = av.AudioFrame.from_ndarray(mono, "flt", "mono")
        frame.sample_rate = sound.rate
        for made in resampler.resample(frame):
            yield made.to_ndarray()[0]
    for made in resampler.resample(None):
        yield made.to_ndarray()[0]


def together(
    head: TalkingHead,
    picture: Picture,
    parts: Sequence[Part],
    *,
    seed: int = 0,
    listening_to: str | os.PathLike[str] | None = None,
    emotion: str | None = None,
    pose: float = 1.0,
    lips: float = 1.0,
    blink: float = 1.0,
    **view: Any,
) -> Group:
    """`TalkingHead.together`.

    >>> head.together("two.jpg", [Part(0, "a.wav"), Part(1, "b.wav", at=4.0)]).save("out.mp4")

    The arguments are those of Group, Settings and, for the view, of `TalkingHead.prepare`. Errors: ModaError.
    """
    settings = Settings(emotion, pose, lips, blink)
    head.description.generator.config.emotion(emotion)  # a wrong name is said before any work
    return Group(head, picture, parts, settings, Sampling("offline", seed), listening_to, **view)
