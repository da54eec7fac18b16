"""Training data: folders of videos and of speech -> one small file a clip, then windows drawn from them.

clips  (videos of people):   features, loudness, motion (T, 70), identity (21, 3)
speech (sound alone):        features, loudness, lips (T, 11, 3) as the speech encoder hears them

A window is from a clip as it is, or from speech: its lips as heard, the rest of the face and the head from that
stretch of a clip whose loudness goes most like the speech's, so that nods keep falling on stresses.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moda.constants import FPS, KEYPOINTS, MOTION_DIM, SAMPLE_RATE, SAMPLES_PER_FRAME
from moda.errors import ModaError
from moda.generator.config import ModelConfig
from moda.motion.explicit import LID_APERTURE, LIDS, MIRROR, MOUTH, lip_gap
from moda.training import emotions

log = logging.getLogger(__name__)

VIDEO = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg"}
SOUND = {".wav", ".flac", ".opus", ".ogg", ".mp3", ".m4a"}
MAX_OFFSET = 4  # frames that a clip's sound may lead or lag its picture
SPEECH_CUT = 30.0  # seconds of one sound file that are used
MOUTH_DIMS = 3 * (MOUTH.stop - MOUTH.start)  # the motion's first 33 numbers
NOT_MOUTH = slice(MOUTH_DIMS, MOTION_DIM)
LID_DIMS = slice(3 * LIDS.start, 3 * LIDS.stop)
EYES_OPEN = 8  # frames from the first before a performance may blink
# A blink at 25 frames a second, as the tracker sees it on average; 1 is closed. Trackers lose its tip.
BLINK = np.array([0.0, 0.03, 0.24, 0.72, 1.0, 0.82, 0.46, 0.26, 0.16, 0.08, 0.0], dtype=np.float32)
BLINK_EVERY = 6.0  # seconds between blinks on average, besides those of the borrowed face
UPPER_SHARE = 0.85  # of the way is the upper lid's
SILENT_PART = 0.08  # of the composed windows, their lips being closed


@dataclass
class Clip:
    """features (T, layers, width), loudness (T,), motion (T, 70) relative to the clip's resting pose, lips (T, 33) as
    the encoder hears them, identity (21, 3)."""

    features: np.ndarray
    loudness: np.ndarray
    motion: np.ndarray
    lips: np.ndarray
    identity: np.ndarray


@dataclass
class Speech:
    """features (T, layers, width), loudness (T,), lips (T, 33)."""

    features: np.ndarray
    loudness: np.ndarray
    lips: np.ndarray


# -- preparing -------------------------------------------------------------------------------------------------


def prepare(
    clips: list[Path], speech: list[Path], encoder, fingerprint: str, cache: Path, progress=None
) -> tuple[list[Clip], list[Speech]]:
    """Folders of videos and of sound -> Clips and Speech; what was prepared before is read from `cache`.

    fingerprint: of the encoder's weights; another encoder's features are never mistaken for its own.

    Errors: ModaError for a folder that is missing or holds nothing that can be used.
    """
    cache.mkdir(parents=True, exist_ok=True)
    videos, sounds = list(_files(clips, VIDEO)), list(_files(speech, SOUND))
    if not videos:
        raise ModaError(f"no video was found in {', '.join(map(str, clips)) or 'the configured clips'}")
    done_clips, done_speech = [], []
    for count, path in enumerate([*videos, *sounds], 1):
        stored = cache / f"{_digest(path, fingerprint)}.npz"
        is_clip = path.suffix.lower() in VIDEO
        try:
            if not stored.exists():
                item = make_clip(path, encoder) if is_clip else make_speech(path, encoder)
                part = stored.with_suffix(".part.npz")
                np.savez(
                    part,
                    **{
                        k: v.astype(np.float16 if k == "features" else np.float32)
                        for k, v in vars(item).items()
                    },
                )
                part.replace(stored)
            with np.load(stored, allow_pickle=False) as file:
                arrays = {k: file[k] for k in file}
            (done_clips if is_clip else done_speech).append(Clip(**arrays) if is_clip else Speech(**arrays))
        except ModaError as error:
            log.warning("left out: %s", error)
        if progress:
            progress(count / (len(videos) + len(sounds)))
    if not done_clips:
        raise ModaError(f"none of the {len(videos)} videos in {', '.join(map(str, clips))} could be used")
    return done_clips, done_speech


def _files(folders: Iterable[Path], suffixes: set[str]) -> Iterator[Path]:
    for folder in folders:
        if not folder.exists():
            raise ModaError(f"the training data folder {folder} does not exist")
        yield from sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes)


def _digest(path: Path, fingerprint: str) -> str:
    stat = path.stat()
    return hashlib.sha256(f"{path.resolve()} {stat.st_size} {fingerprint}".encode()).hexdigest()[:24]


def loudness(wave: np.ndarray, frames: int) -> np.ndarray:
    """(n,) -> (frames,) log energy of each video frame."""
    padded = np.zeros(frames * SAMPLES_PER_FRAME, dtype=np.float32)
    padded[: min(len(wave), len(padded))] = wave[: len(padded)]
    return np.log(np.square(padded).reshape(frames, -1).mean(axis=1) + 1e-6)


def make_clip(path: Path, encoder) -> Clip:
    """One video of a speaking person. Its sound and picture are brought together first."""
    from moda.audio.decode import read_audio
    from moda.face import track

    tracked = track(path)
    wave = read_audio(path)
    features = np.concatenate(list(encoder.encode([wave])))
    heard = encoder.lips(wave)
    n = min(len(features), len(tracked.motion), len(heard))
    motion, features = tracked.motion.to_array()[:n], features[:n]
    offset = _best_offset(lip_gap(_as_exp(heard[:n])), lip_gap(tracked.motion.exp[:n]))
    if offset:
        log.info("%s: the picture comes %d frame(s) after the sound", path.name, offset)
    motion = np.roll(motion, -offset, axis=0)  # the few frames at the ends are cut
    keep = slice(max(0, -offset), n - max(0, offset))
    motion[:, 67:70] -= np.median(motion[:, 67:70], axis=0)
    lips = heard[:n].reshape(n, -1)
    return Clip(features[keep], loudness(wave, n)[keep], motion[keep], lips[keep], tracked.keypoints)


def _best_offset(heard: np.ndarray, seen: np.ndarray) -> int:
    """By how many frames `seen` comes after `heard`."""
    n = len(heard)
    scores = {}
    for lag in range(-MAX_OFFSET, MAX_OFFSET + 1):
        a, b = heard[max(0, -lag) : n - max(0, lag)], seen[max(0, lag) : n - max(0, -lag)]
        scores[lag] = np.corrcoef(a, b)[0, 1] if a.std() > 1e-6 and b.std() > 1e-6 else -1.0
    return max(scores, key=lambda lag: (scores[lag], -abs(lag)))


def make_speech(path: Path, encoder) -> Speech:
    """One file of speech without a face."""
    from moda.audio.decode import read_audio

    wave = read_audio(path)[: int(SPEECH_CUT * SAMPLE_RATE)]
    features = np.concatenate(list(encoder.encode([wave])))
    lips = encoder.lips(wave)[: len(features)]
    return Speech(features, loudness(wave, len(features)), lips.reshape(len(lips), -1))


def make_silence(encoder, seconds: float = 12.0, level: float = 0.0, seed: int = 0) -> Speech:
    """Nothing, or a recording's own noise at `level`: the lips stay closed."""
    wave = level * np.random.default_rng(seed).standard_normal(int(seconds * SAMPLE_RATE)).astype(np.float32)
    features = np.concatenate(list(encoder.encode([wave])))
    return Speech(
        features, loudness(wave, len(features)), np.zeros((len(features), MOUTH_DIMS), dtype=np.float32)
    )


def _as_exp(lips: np.ndarray) -> np.ndarray:
    exp = np.zeros((len(lips), KEYPOINTS, 3), dtype=np.float32)
    exp[:, MOUTH] = lips.reshape(len(lips), -1, 3)
    return exp


# -- windows ---------------------------------------------------------------------------------------------------


@dataclass
class Window:
    """What one training example is made of; motion is not yet normalised.

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

    def __init__(self, clips: list[Clip], speech: list[Speech], config: ModelConfig, real_part: float, heard_part: float,
                 lips_gain: float) -> None:  # fmt: skip
        self.clips, self.speech, self.config = clips, speech, config
        self.heard_part = heard_part
        self.real_part = real_part if speech else 1.0
        self.lips_gain = lips_gain
        self.clip_p = self._by_length(clips)
        self.speech_p = self._by_length(speech)
        self.offsets = {name: emotions.offset(name) for name in config.emotions if name in emotions.ACTIONS}
        self.silent = [item for item in speech if not item.lips.any()]

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
        # Few people are on film: their lips, learned by heart, would not be anyone else's.
        motion[:, :MOUTH_DIMS] += self.heard_part * (self.lips_gain * clip.lips - motion[:, :MOUTH_DIMS])
        motion[:, 63:] = _calm(motion[:, 63:], random.uniform(0.5, 1.0))
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
        motion[:, 63:] = _calm(motion[:, 63:], random.uniform(0.4, 0.9))
        motion[:, 63] = np.where(motion[:, 63] == 0, 1.0, motion[:, 63])
        _blink(motion[begin:end], random)
        motion[:, :MOUTH_DIMS] = self.lips_gain * random.uniform(0.9, 1.1) * item.lips
        return self._cut(start, motion, item.features, clip.identity, random)

    def _start(self, length: int, random: np.random.Generator) -> int:
        """Anywhere; the first frame and a window that outlasts the sound come up often enough to be learned."""
        if random.random() < 0.12:
            return 0
        return int(random.integers(0, max(1, length - self.config.segment // 2)))

    def _matching(self, loud: np.ndarray, length: int, random: np.random.Generator, tries: int = 10):
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
            previous[63] = 1.0
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
        window.emotion = self.config.emotion_index(str(name))
        if random.random() < 0.8:  # else the feeling begins here
            window.previous += shape


def _blink(motion: np.ndarray, random: np.random.Generator) -> None:
    """Let the face (T, 70) blink now and then, in place, all the way."""
    exp = motion[:, :63].reshape(len(motion), KEYPOINTS, 3)
    upper, lower = exp[:, [LIDS.start, LIDS.start + 2], 1], exp[:, [LIDS.start + 1, LIDS.start + 3], 1]
    wanted = np.zeros(len(motion), dtype=np.float32)
    at = random.exponential(BLINK_EVERY)
    while at * FPS < len(motion):
        steps = np.arange(len(motion)) - at * FPS
        shape = np.interp(steps, np.arange(len(BLINK)), BLINK, left=0, right=0)
        wanted = np.maximum(wanted, random.uniform(0.9, 1.05) * LID_APERTURE * shape)
        at += max(0.6, random.exponential(BLINK_EVERY))
    more = np.maximum(0, wanted[:, None] - (upper - lower))
    more[wanted <= 0] = 0
    for side in (0, 2):
        exp[:, LIDS.start + side, 1] += UPPER_SHARE * more[:, side // 2]
        exp[:, LIDS.start + side + 1, 1] -= (1 - UPPER_SHARE) * more[:, side // 2]


def _calm(pose: np.ndarray, gain: float) -> np.ndarray:
    """(T, 7) scale, t, angles: nearer to rest."""
    out = pose * gain
    out[:, 0] = 1 + (pose[:, 0] - 1) * gain
    return out


def _mirror(window: Window) -> None:
    """Left becomes right, in place."""
    for frames in (window.motion, window.previous[None]):
        exp = frames[:, :63].reshape(-1, 21, 3)
        exp[:] = exp[:, MIRROR] * np.float32([-1, 1, 1])
        frames[:, 64] *= -1  # t x
        frames[:, 68:70] *= -1  # yaw, roll
    points = window.identity.reshape(21, 3)
    points[:] = points[MIRROR] * np.float32([-1, 1, 1])


def statistics(
    windows: Windows, random: np.random.Generator, count: int = 600
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (70,) of what the windows show."""
    frames = np.concatenate([w.motion[w.known] for w in (windows.draw(random) for _ in range(count))])
    return frames.mean(axis=0), np.maximum(frames.std(axis=0), 1e-3)
