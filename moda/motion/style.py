"""How somebody moves, measured from a clip, and carried over to another motion: style; and a clip's head movement.

What is measured says how much and how often, not what: lips still say what the sound says, at the same moments.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from moda.constants import FPS
from moda.errors import ModaError
from moda.motion.blinks import BLINK
from moda.motion.motion import Motion

log = logging.getLogger(__name__)
SHORTEST = 3.0  # seconds of a clip: a blink's rate needs some
SHUT = 0.45  # closure from which a lid is taken to blink
APART = 3  # frames between two blinks at least
SLOW = 0.6  # seconds: the head's movement is parted into what is slower and what is quicker
ANGLES = ("pitch", "yaw", "roll")
LEAST, MOST = 0.2, 5.0  # gains


@dataclass(frozen=True)
class Style:
    """lips:   standard deviation of the lips' gap, the space's unit
    brows:  standard deviation of the brows' height
    head, head_speed: standard deviation of the angles, degrees; their mean change, degrees a second
    blinks: a minute
    gaze:   standard deviation of the irises' offsets
    rest:   (2,) where the irises rest, right and down
    """

    lips: float
    brows: float
    head: float
    head_speed: float
    blinks: float
    gaze: float
    rest: tuple[float, float]

    @classmethod
    def of(cls, motion: Motion) -> Style:
        """Errors: ModaError for a clip that is too short, or a space without brows and irises."""
        missing = {"brows", "irises"} - set(motion.space.groups)
        if missing:
            raise ModaError(f"a style cannot be told in the {motion.space.name!r} space")
        if motion.seconds < SHORTEST:
            raise ModaError(f"a style needs {SHORTEST:g} s of a clip or more, this has {motion.seconds:.1f}")
        irises = motion.exp[:, list(motion.space.groups["irises"]), :2].mean(axis=1)
        return cls(
            lips=float(motion.space.lip_gap(motion).std()),
            brows=_brows(motion),
            head=_head(motion),
            head_speed=_head_speed(motion),
            blinks=len(_blinks(motion)) / motion.seconds * 60,
            gaze=float(irises.std(axis=0).mean()),
            rest=(float(np.median(irises[:, 0])), float(np.median(irises[:, 1]))),
        )

    def rows(self) -> dict[str, float]:
        """The numbers by their names, for tables."""
        return {f.name: float(getattr(self, f.name)) for f in fields(self) if f.name != "rest"}

    def on(self, motion: Motion) -> Motion:
        """A whole motion of 25 frames a second with this style; what it says, and its resting pose, stay."""
        if motion.seconds < SHORTEST:
            log.warning("the style is not carried over: speech of less than %g s shows none", SHORTEST)
            return motion
        motion = self._blinking(motion)
        motion = _matched(motion, self.lips, lambda m: float(m.space.lip_gap(m).std()), _lips)
        motion = _matched(motion, self.brows, _brows, _points("brows"))
        exp, irises = motion.exp.copy(), list(motion.space.groups["irises"])
        gaze = exp[:, irises, :2]
        spread = float(gaze.mean(axis=1).std(axis=0).mean())
        middle = np.median(gaze, axis=0)
        exp[:, irises, :2] = np.array(self.rest) + (gaze - middle) * _gain(self.gaze, spread)
        return self._moving(replace(motion, exp=exp.astype(np.float32)))

    def _moving(self, motion: Motion) -> Motion:
        """The head's slow and quick parts, each enlarged so that both spread and speed are the clip's."""
        slow_gain = quick_gain = 1.0
        parts = {}
        for name in ANGLES:
            track = getattr(motion, name).astype(np.float64)
            middle = float(np.median(track))
            slow = _smooth(track - middle, SLOW * FPS)
            parts[name] = (middle, slow, track - middle - slow)
        made = motion
        for _ in range(12):
            head, speed = _head(made), _head_speed(made)
            slow_gain = float(np.clip(slow_gain * _gain(self.head, head), LEAST / 2, MOST))
            quick_gain = float(np.clip(quick_gain * _gain(self.head_speed, speed), 0.02, MOST))
            tracks = {
                name: (middle + slow_gain * slow + quick_gain * quick).astype(np.float32)
                for name, (middle, slow, quick) in parts.items()
            }
            made = replace(motion, **tracks)
        return made

    def _blinking(self, motion: Motion) -> Motion:
        """Blinks too many are left out, the shallowest first; those that lack come where none has been for longest."""
        wanted = round(self.blinks * motion.seconds / 60)
        found = _blinks(motion)
        closure = motion.space.lid_closure(motion).mean(axis=1)
        spare = sorted(found, key=lambda span: closure[span[0] : span[1]].max())[
            : max(0, len(found) - wanted)
        ]
        if spare:
            lids, exp = list(motion.space.groups["lids"]), motion.exp.copy()
            for start, stop in spare:
                a, b = max(0, start - 4), min(len(motion) - 1, stop + 4)
                part = np.linspace(0, 1, b - a + 1)[:, None, None]
                exp[a : b + 1, lids] = (1 - part) * exp[a, lids] + part * exp[b, lids]
            motion = replace(motion, exp=exp.astype(np.float32))
        middles = sorted((a + b) // 2 for a, b in found if (a, b) not in spare)
        shut = np.zeros(len(motion), np.float32)
        for _ in range(wanted - len(middles)):
            bounds = [-len(BLINK), *middles, len(motion) + len(BLINK)]
            widest = int(np.argmax(np.diff(bounds)))
            middle = (bounds[widest] + bounds[widest + 1]) // 2
            middle = int(np.clip(middle, len(BLINK), max(len(BLINK), len(motion) - len(BLINK))))
            at = slice(middle - 2, min(len(motion), middle - 2 + len(BLINK)))
            shut[at] = np.maximum(shut[at], BLINK[: at.stop - at.start])
            middles = sorted([*middles, middle])
        return motion.space.shut(motion, shut) if shut.any() else motion


def with_pose(motion: Motion, clip: Motion, portrait: Motion) -> Motion:
    """The head moves as in a clip, about the portrait's own pose; the face stays. A clip that is shorter is played to
    and fro.

    Errors: ModaError for a clip of another space.
    """
    clip.require(motion.space, "this motion")
    driven = motion.space.driven(clip, portrait, motion.space.resting(clip))
    period = max(1, 2 * (len(driven) - 1))
    index = np.arange(len(motion)) % period
    index = np.where(index < len(driven), index, period - index)
    return replace(motion, **{name: getattr(driven, name)[index] for name in ("scale", "t", *ANGLES)})


def _gain(wanted: float, has: float) -> float:
    return float(np.clip(wanted / has, LEAST, MOST)) if has > 1e-6 else 1.0


def _matched(
    motion: Motion,
    wanted: float,
    measure: Callable[[Motion], float],
    scale: Callable[[Motion, float], Motion],
) -> Motion:
    """Scaled until the measure is what is wanted; a few times, as lips that cannot close further are not linear."""
    made, gain = motion, 1.0
    for _ in range(4):
        gain = float(np.clip(gain * _gain(wanted, measure(made)), LEAST, MOST))
        made = scale(motion, gain)
    return made


def _lips(motion: Motion, gain: float) -> Motion:
    return motion.space.gains(motion, motion[:1], lips=gain)


def _points(group: str) -> Callable[[Motion, float], Motion]:
    def scale(motion: Motion, gain: float) -> Motion:
        points, exp = list(motion.space.groups[group]), motion.exp.copy()
        middle = np.median(exp[:, points], axis=0)
        exp[:, points] = middle + gain * (exp[:, points] - middle)
        return replace(motion, exp=exp)

    return scale


def _brows(motion: Motion) -> float:
    return float(motion.exp[:, list(motion.space.groups["brows"]), 1].mean(axis=1).std())


def _head(motion: Motion) -> float:
    return float(np.mean([getattr(motion, name).std() for name in ANGLES]))


def _head_speed(motion: Motion) -> float:
    return float(np.mean([np.abs(np.diff(getattr(motion, name))).mean() for name in ANGLES]) * motion.fps)


def _blinks(motion: Motion) -> list[tuple[int, int]]:
    """(first, last + 1) frames in which lids are shut."""
    shut = np.flatnonzero(motion.space.lid_closure(motion).mean(axis=1) > SHUT)
    if not len(shut):
        return []
    runs = np.split(shut, np.flatnonzero(np.diff(shut) > APART) + 1)
    return [(int(run[0]), int(run[-1]) + 1) for run in runs]


def _smooth(track: np.ndarray, width: float) -> np.ndarray:
    """A Gaussian of `width` frames' deviation / 2, mirrored at the ends."""
    reach = int(width * 2)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (width / 2)) ** 2)
    padded = np.pad(track, reach, mode="reflect" if len(track) > reach else "edge")
    return np.convolve(padded, kernel / kernel.sum(), "valid")
