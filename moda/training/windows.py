"""Windows of motion to train a generator on: real ones, and others put together from speech and real heads.

A window's lips are those that the speech encoder predicts, with a real mouth's amplitude (docs/training.md says why);
the rest of the face and the head are a filmed person's: of the same clip, or, for speech without a face, of that
stretch of a clip whose loudness goes most like the speech's, so that nods keep falling on stresses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moda.audio.speech_net import INNER_LOWER, INNER_UPPER
from moda.constants import FPS, KEYPOINTS, MOTION_DIM, SAMPLES_PER_FRAME
from moda.generator.config import ModelConfig
from moda.motion import emotions
from moda.motion.explicit import LID_APERTURE, LIDS, MIRROR, MOUTH

MOUTH_DIMS = 3 * (MOUTH.stop - MOUTH.start)  # the motion's first 33 numbers
NOT_MOUTH = slice(MOUTH_DIMS, MOTION_DIM)
LID_DIMS = slice(3 * LIDS.start, 3 * LIDS.stop)
SCALE, PITCH = 3 * KEYPOINTS, 3 * KEYPOINTS + 4
EYES_OPEN = 8  # frames from the first before a performance may blink
UPPER_SHARE = 0.85  # of a blink's way is the upper lid's
BLINK_FROM, BLINK_SURE = 0.15, 0.4  # of the way: a closure that begins, one that is taken for a blink
SILENT_PART = 0.1  # of the windows put together, without a voice
COMPOSED_TRIES = 10
STEADY = 0.17  # of each neighboring frame
PRESS = 0.03  # eye distances by which lips that meet overlap


@dataclass
class Clip:
    """A filmed person. features (T, layers, width), loudness (T,), motion (T, 70) relative to the clip's resting pose,
    lips (T, 33) that the windows show, identity (21, 3)."""

    person: str
    features: np.ndarray
    loudness: np.ndarray
    motion: np.ndarray
    lips: np.ndarray
    identity: np.ndarray


@dataclass
class Speech:
    """A sound without a face. features (T, layers, width), loudness (T,), lips (T, 33)."""

    features: np.ndarray
    loudness: np.ndarray
    lips: np.ndarray


def loudness(wave: np.ndarray, frames: int) -> np.ndarray:
    """(n,) -> (frames,) log energy of each video frame."""
    padded = np.zeros(frames * SAMPLES_PER_FRAME, dtype=np.float32)
    padded[: min(len(wave), len(padded))] = wave[: len(padded)]
    return np.log(np.square(padded).reshape(frames, -1).mean(axis=1) + 1e-6)


def make_clip(
    person: str,
    wave: np.ndarray,
    motion: np.ndarray,
    identity: np.ndarray,
    lag: int,
    encoder,
    own_lips: float = 0.0,
) -> Clip:
    """lag: by how many frames the picture comes after the sound. own_lips: part of the way from the encoder's lips to
    the filmed ones."""
    features = np.concatenate(list(encoder.encode([wave])))
    n = min(len(features), len(motion))
    motion, features, loud = motion[:n].copy(), features[:n], loudness(wave, n)
    motion = motion[max(0, lag) : n - max(0, -lag)]
    keep = slice(max(0, -lag), n - max(0, lag))
    features, loud = features[keep], loud[keep]
    motion[:, PITCH:] -= np.median(motion[:, PITCH:], axis=0)
    whole_blinks(motion)
    lips = _shown(encoder, features)
    lips = lips + own_lips * (motion[:, :MOUTH_DIMS] - lips)
    return Clip(person, features, loud, motion.astype(np.float32), lips.astype(np.float32), identity)


def make_speech(wave: np.ndarray, encoder, voice: bool = True, closed: np.ndarray | None = None) -> Speech:
    """voice False: a noise; its lips are at rest, whatever the encoder predicted. closed (T,): how far the lips have to
    meet, where it is known; else the encoder says."""
    features = np.concatenate(list(encoder.encode([wave])))
    lips = _shown(encoder, features, closed)
    return Speech(features, loudness(wave, len(features)), lips if voice else np.zeros_like(lips))


def recorded_speech(wave: np.ndarray, motion: np.ndarray, lag: int, encoder) -> Speech:
    """A sound whose lips were recorded without a head: (T, 70), the picture `lag` frames after the sound."""
    features = np.concatenate(list(encoder.encode([wave])))
    n = min(len(features), len(motion))
    keep = slice(max(0, -lag), n - max(0, lag))
    lips = motion[max(0, lag) : n - max(0, -lag), :MOUTH_DIMS]
    return Speech(features[keep], loudness(wave, n)[keep], lips.astype(np.float32))


def _shown(encoder, features: np.ndarray, closed: np.ndarray | None = None) -> np.ndarray:
    """(T, 1, width) features -> (T, 33) the lips to be learned: the encoder's, with a little of each neighbor, because
    they tremble more than anyone's, and pressed together for p, b and m, because what is learned closes less."""
    lips = encoder.lips_in(features).reshape(len(features), -1)
    padded = np.concatenate([lips[:1], lips, lips[-1:]])
    lips = STEADY * (padded[:-2] + padded[2:]) + (1 - 2 * STEADY) * lips
    points = lips.reshape(len(lips), -1, 3)
    meeting = encoder.meeting_in(features)
    if closed is not None:
        n = min(len(meeting), len(closed))
        meeting[:n] = closed[:n]
    gap = points[:, INNER_LOWER, 1] - points[:, INNER_UPPER, 1]
    change = meeting[:, None] * (gap + PRESS)
    points[:, INNER_UPPER, 1] += 0.3 * change
    points[:, INNER_LOWER, 1] -= 0.7 * change
    return lips.astype(np.float32)


def whole_blinks(motion: np.ndarray) -> None:
    """Let every blink of (T, 70) close both eyes alike and all the way, in place: trackers lose its tip."""
    exp = motion[:, : 3 * KEYPOINTS].reshape(len(motion), KEYPOINTS, 3)
    upper, lower = (exp[:, [LIDS.start + k, LIDS.start + 2 + k], 1] for k in (0, 1))
    closure = ((upper - lower) / LID_APERTURE).mean(axis=1)
    wanted = closure.copy()
    for start, end in _runs(closure > BLINK_FROM):
        peak = closure[start:end].max()
        if peak > BLINK_SURE and end - start < FPS:
            part = np.clip((closure[start:end] - BLINK_FROM) / (peak - BLINK_FROM), 0, 1)
            wanted[start:end] = closure[start:end] + part * (1.04 - peak)
    blinking = np.clip((np.maximum(wanted, closure) - BLINK_FROM) / 0.2, 0, 1)
    for side in (0, 2):
        own = exp[:, LIDS.start + side, 1] - exp[:, LIDS.start + side + 1, 1]
        more = blinking * (wanted * LID_APERTURE - own)
        exp[:, LIDS.start + side, 1] += UPPER_SHARE * more
        exp[:, LIDS.start + side + 1, 1] -= (1 - UPPER_SHARE) * more


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return list(zip(edges[::2], edges[1::2]))


# -- windows ---------------------------------------------------------------------------------------------------


@dataclass
class Window:
    """What one training example is made of; motion is not yet normalized.

    previous (70,), motion (N, 70), features (N, layers, width), identity (63,), emotion: row of the table,
    known (N,) bool: frames that exist
    """

    previous: np.ndarray
    motion: np.ndarray
    features: np.ndarray
    identity: np.ndarray
    emotion: int
    known: np.ndarray


class Windows:
    """Draws windows of N = config.segment frames; everything random comes from `random`."""

    def __init__(
        self,
        clips: list[Clip],
        speech: list[Speech],
        silent: list[Speech],
        config: ModelConfig,
        real_part: float,
    ) -> None:
        self.clips, self.speech, self.silent, self.config = clips, speech, silent, config
        self.real_part = real_part if speech else 1.0
        self.clip_p = self._by_person(clips)
        self.speech_p = self._by_length(speech)
        self.offsets = {name: emotions.offset(name) for name in config.emotions if name in emotions.ACTIONS}

    @staticmethod
    def _by_person(clips: list[Clip]) -> np.ndarray:
        """Everyone weighs by the root of their minutes; their clips by length."""
        length = np.array([len(c.motion) for c in clips], dtype=np.float64)
        people = np.array([c.person for c in clips])
        for person in set(people):
            mine = people == person
            length[mine] *= length[mine].sum() ** -0.5
        return length / length.sum()

    @staticmethod
    def _by_length(items: list) -> np.ndarray:
        lengths = np.array([len(item.features) for item in items], dtype=np.float64)
        return lengths / lengths.sum() if len(items) else lengths

    def draw(self, random: np.random.Generator) -> Window:
        if random.random() < self.real_part:
            window = self._real(random)
        else:
            window = self._composed(random)
        if random.random() < 0.5:
            _mirror(window)
        self._feel(window, random)
        return window

    def _real(self, random: np.random.Generator) -> Window:
        clip = self.clips[random.choice(len(self.clips), p=self.clip_p)]
        start = self._start(len(clip.features), random)
        motion = clip.motion.copy()
        motion[:, :MOUTH_DIMS] = clip.lips
        return self._cut(start, motion, clip.features, clip.identity, random)

    def _composed(self, random: np.random.Generator) -> Window:
        if self.silent and random.random() < SILENT_PART:
            item = self.silent[random.integers(len(self.silent))]
        else:
            item = self.speech[random.choice(len(self.speech), p=self.speech_p)]
        start = self._start(len(item.features), random)
        n = self.config.segment + 1
        begin, end = max(0, start - 1), min(len(item.features), start + n)
        clip, piece = self._matching(item.loudness[begin:end], n + 1, random)
        motion = np.zeros((len(item.features), MOTION_DIM), dtype=np.float32)
        motion[begin:end] = piece[: end - begin]
        motion[:, SCALE] = np.where(motion[:, SCALE] == 0, 1.0, motion[:, SCALE])
        motion[:, :MOUTH_DIMS] = item.lips
        return self._cut(start, motion, item.features, clip.identity, random)

    def _start(self, length: int, random: np.random.Generator) -> int:
        """Anywhere; the first frame and a window that outlasts the sound come up often enough to be learned."""
        if random.random() < 0.12:
            return 0
        return int(random.integers(0, max(1, length - self.config.segment // 2)))

    def _matching(
        self, loud: np.ndarray, length: int, random: np.random.Generator, tries: int = COMPOSED_TRIES
    ):
        """A stretch of `length` frames of some clip, whose loudness goes like `loud`: the best of a few tries."""
        best, best_score = None, -2.0
        for _ in range(tries):
            clip = self.clips[random.choice(len(self.clips), p=self.clip_p)]
            n = len(clip.motion)
            at = int(random.integers(0, max(1, n - length)))
            there = clip.loudness[at : at + len(loud)]
            m = min(len(there), len(loud))
            a, b = loud[:m], there[:m]
            score = np.corrcoef(a, b)[0, 1] if m > 5 and a.std() > 1e-3 and b.std() > 1e-3 else 0.0
            if score > best_score:
                best, best_score = (clip, at), score
        assert best is not None, "no clips"
        clip, at = best
        # A clip shorter than the window runs back and forth.
        n = len(clip.motion)
        index = np.arange(at, at + length) % (2 * n)
        return clip, clip.motion[np.where(index < n, index, 2 * n - 1 - index)]

    def _cut(
        self, start: int, motion: np.ndarray, features: np.ndarray, identity: np.ndarray, random
    ) -> Window:
        n = self.config.segment
        end = min(len(features), start + n)
        known = np.arange(n) < end - start
        frames = np.zeros((n, MOTION_DIM), dtype=np.float32)
        frames[known] = motion[start:end]
        frames[~known] = motion[end - 1]
        sound = np.zeros((n, *features.shape[1:]), dtype=np.float32)
        sound[known] = features[start:end]
        if start == 0:  # a performance begins from the face at rest, and leaves it within the window
            previous = np.zeros(MOTION_DIM, dtype=np.float32)
            previous[SCALE] = 1.0
            rest = np.linspace(1, 0, n, dtype=np.float32)[:, None] * (previous - frames[0])
            rest[:, LID_DIMS] = (np.minimum(1, np.arange(n) / EYES_OPEN) - 1)[:, None] * frames[:, LID_DIMS]
            frames[:, NOT_MOUTH] += rest[:, NOT_MOUTH]
        else:
            previous = motion[start - 1].copy()
        return Window(
            previous,
            frames,
            sound,
            identity.reshape(-1).astype(np.float32).copy(),
            self.config.no_emotion,
            known,
        )

    def _feel(self, window: Window, random: np.random.Generator) -> None:
        """Half of the windows show an emotion, which the label tells."""
        if random.random() < 0.5 or not self.offsets:
            return
        name = random.choice(list(self.offsets))
        shape = self.offsets[name] * random.uniform(0.8, 1.2)
        window.motion += shape
        window.emotion = self.config.emotion(str(name))[0]
        if random.random() < 0.8:  # else the feeling begins here
            window.previous += shape


def _mirror(window: Window) -> None:
    """Left becomes right, in place."""
    for frames in (window.motion, window.previous[None]):
        exp = frames[:, : 3 * KEYPOINTS].reshape(-1, KEYPOINTS, 3)
        exp[:] = exp[:, MIRROR] * np.array([-1, 1, 1], dtype=np.float32)
        frames[:, 64] *= -1  # t x
        frames[:, 68:70] *= -1  # yaw, roll
    points = window.identity.reshape(21, 3)
    points[:] = points[MIRROR] * np.array([-1, 1, 1], dtype=np.float32)


def statistics(
    windows: Windows, random: np.random.Generator, count: int = 600
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (70,) of what the windows show."""
    frames = np.concatenate([w.motion[w.known] for w in (windows.draw(random) for _ in range(count))])
    return frames.mean(axis=0), np.maximum(frames.std(axis=0), 1e-3)
