"""Lips for speech that has no picture: a linear map from known sounds and coarse bands, fitted on the few videos.

Few numbers, hence nothing about a voice in it: with true sounds it follows strangers' lips better than any map
from the spectrum alone. The net learns to do the same from sound only, over hundreds of voices.
"""

from __future__ import annotations

import numpy as np

from moda.audio.mel import FLOOR, PER_FRAME
from moda.constants import FPS
from moda.training.speech.corpora import Clip
from moda.training.speech.phones import CLASSES

AROUND = 2  # frames to both sides
BANDS = 8
RIDGE = 20.0
TRUST = 0.3  # in what a film shows beyond the map: most of it is that one man's way, learned by heart
REST_AFTER = 0.5  # seconds from any sound, when the mouth has come to rest


def describe(clip: Clip) -> np.ndarray:
    """(T, 5 * (28 + 8)): shares of sounds and loudness of eight bands in five frames."""
    share = np.stack([(clip.sounds == i).reshape(-1, 2).mean(1) for i in range(len(CLASSES))], axis=1)
    power = np.exp(clip.mel.astype(np.float32)).reshape(len(clip), PER_FRAME, BANDS, -1).mean((1, 3))
    loud = np.log(power + FLOOR)
    loud = np.clip((loud - np.percentile(loud, 90, axis=0)) / 2, -4, 2)
    one = np.concatenate([share, loud], axis=1)
    padded = np.pad(one, ((AROUND, AROUND), (0, 0)), mode="edge")
    return np.concatenate([padded[i : i + len(one)] for i in range(2 * AROUND + 1)], axis=1)


def spoken(clip: Clip) -> np.ndarray:
    """(T,) bool: frames with a known sound other than silence, and known lips."""
    known = (clip.sounds > 0).reshape(-1, 2).all(1)
    return known & ~np.isnan(clip.lips).any(1)


def centre(clips: list[Clip]) -> None:
    """Shift each clip's lips, in place, so that all people's mouths are equally open on average while speaking.

    What a face looks like at rest is the tracker's guess, and nothing about it can be heard.
    """
    means = [clip.lips[spoken(clip)].mean(0) for clip in clips]
    common = np.average(means, axis=0, weights=[len(c) for c in clips])
    for clip, mean in zip(clips, means):
        clip.lips = clip.lips + (common - mean)


def fit(clips: list[Clip]) -> tuple[np.ndarray, np.ndarray]:
    """Clips with sounds and lips, centred -> (features, 33) weights, (33,) constant."""
    xs, ys = [], []
    for clip in clips:
        seen = ~np.isnan(clip.lips).any(1)
        xs.append(describe(clip)[seen])
        ys.append(clip.lips[seen])
    # Within clips only: microphones and faces differ between them.
    x = np.concatenate([x - x.mean(0) for x in xs])
    y = np.concatenate([y - y.mean(0) for y in ys])
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
    return weights, np.concatenate(ys).mean(0) - np.concatenate(xs).mean(0) @ weights


def lips(clip: Clip, fitted: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """-> (T, 33) float32; NaN where sounds are unknown; at rest in long silences."""
    weights, constant = fitted
    told = (describe(clip) @ weights + constant).astype(np.float32)
    speaking = np.flatnonzero((clip.sounds != 0).reshape(-1, 2).any(1))
    if len(speaking):
        distance = (
            np.abs(np.arange(len(clip))[:, None] - speaking[None]).min(1) / FPS
        )  # seconds to the next sound
        told *= np.clip((REST_AFTER + 0.2 - distance) / 0.2, 0, 1)[:, None]
    told[(clip.sounds < 0).reshape(-1, 2).any(1)] = np.nan
    return told


def soften(clips: list[Clip], fitted: tuple[np.ndarray, np.ndarray]) -> None:
    """Draw the videos' lips, in place, towards what the map tells: what is peculiar to a few people counts less."""
    for clip in clips:
        told = lips(clip, fitted)
        clip.lips = told + TRUST * (clip.lips - told)
