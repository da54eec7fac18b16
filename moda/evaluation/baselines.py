"""What a model has to beat: lips from loudness, and lips by ridge regression on log-mel, fitted on the other people."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from moda.audio.mel import PER_FRAME, LogMel
from moda.constants import SAMPLES_PER_FRAME
from moda.motion import Motion
from moda.motion.explicit import INDEX, MOUTH

if TYPE_CHECKING:
    from moda.evaluation.judge import RealClip

NAMES = ("loudness", "ridge on log-mel")
STRENGTH = 100.0  # of the ridge, in standardized features for a thousand frames
AROUND = 4  # frames to either side that the ridge sees


def performers(clips: list[RealClip]) -> dict[str, Callable[[RealClip, int], Motion]]:
    """name -> what it makes of a clip; the seed changes nothing. With one person alone there is no ridge."""
    found: dict[str, Callable[[RealClip, int], Motion]] = {NAMES[0]: by_loudness}
    if len({clip.person for clip in clips}) > 1:
        ridge = Ridge(clips)
        found[NAMES[1]] = lambda clip, seed: ridge(clip)
    return found


def by_loudness(clip: RealClip, seed: int = 0) -> Motion:
    """The lower lip and the jaw go with the root mean square of each frame; 0.25 eye distances for the loudest tenth."""
    n = len(clip.motion)
    loud = np.sqrt(np.square(clip.wave[: n * SAMPLES_PER_FRAME]).reshape(n, -1).mean(axis=1))
    array = Motion.still(n).to_array()
    exp = array[:, :63].reshape(n, -1, 3)
    opening = 0.25 * np.minimum(loud / (np.quantile(loud, 0.9) + 1e-6), 1.2)
    for name in (
        "lip_lower_inner",
        "lip_lower_inner_right",
        "lip_lower_inner_left",
        "lip_lower_outer",
        "jaw",
    ):
        exp[:, INDEX[name], 1] = opening
    return Motion.from_array(array)


class Ridge:
    """Log-mel of nine frames -> lips and jaw; each person is predicted by what was fitted on all others."""

    def __init__(self, clips: list[RealClip]) -> None:
        features = {c.name: self._features(c) for c in clips}
        stacked = np.concatenate(list(features.values()))
        self.mean, self.std = stacked.mean(0), stacked.std(0) + 1e-5
        self.sums: dict[str, list[np.ndarray]] = {}
        for clip in clips:
            x, y = self._design(features[clip.name]), clip.motion.exp[:, MOUTH].reshape(len(clip.motion), -1)
            a, b = self.sums.setdefault(
                clip.person, [np.zeros((x.shape[1],) * 2), np.zeros((x.shape[1], y.shape[1]))]
            )
            a += x.T @ x
            b += x.T @ y

    def __call__(self, clip: RealClip) -> Motion:
        others = [sums for person, sums in self.sums.items() if person != clip.person]
        a, b = (sum(s[i] / s[0][-1, -1] ** 0.5 for s in others) for i in (0, 1))
        penalty = np.eye(len(a)) * STRENGTH * a[-1, -1] / 1000
        penalty[-1, -1] = 0
        lips = self._design(self._features(clip)) @ np.linalg.solve(a + penalty, b)
        array = Motion.still(len(lips)).to_array()
        array[:, : lips.shape[1]] = lips
        return Motion.from_array(array)

    def _design(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate([(x - self.mean) / self.std, np.ones((len(x), 1))], axis=1)

    @staticmethod
    def _features(clip: RealClip) -> np.ndarray:
        mel = LogMel().whole(clip.wave).reshape(-1, PER_FRAME, 80).mean(1)[: len(clip.motion)]
        padded = np.concatenate([np.repeat(mel[:1], AROUND, 0), mel, np.repeat(mel[-1:], AROUND, 0)])
        return np.concatenate([padded[i : i + len(mel)] for i in range(2 * AROUND + 1)], axis=1).astype(
            np.float64
        )
