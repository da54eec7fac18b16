"""A space: what a motion's numbers mean. Only a space's own module knows its name; everyone else asks the space.

A new space is one module with a `SPACE` and one line in `ROOMS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from moda.errors import ModaError

if TYPE_CHECKING:
    from moda.motion.motion import Motion

POSE_DIM = 7  # scale, translation 3, pitch, yaw, roll: after the expression, the same in every space
Gain = float | np.ndarray


class Space(ABC):
    """name:      in files and messages
    keypoints: K, points whose offsets (K, 3) are the expression
    unit:      of an offset, in words
    groups:    part of the face -> its keypoints: "mouth" (what speech moves), "lids", and what else there is
    """

    name: str
    keypoints: int
    unit: str
    groups: Mapping[str, tuple[int, ...]]

    @property
    def dim(self) -> int:
        """Numbers a frame: 3 K + 7."""
        return 3 * self.keypoints + POSE_DIM

    def columns(self, group: str) -> list[int]:
        """Places of a group's numbers among the `dim`; "pose" and "face" (the expression but the mouth) too."""
        if group == "pose":
            return list(range(3 * self.keypoints, self.dim))
        if group == "face":
            mouth = set(self.columns("mouth"))
            return [column for column in range(3 * self.keypoints) if column not in mouth]
        return [3 * point + axis for point in self.groups[group] for axis in range(3)]

    def identity(self, shape: np.ndarray) -> np.ndarray:
        """A neutral face, (478, 3) head-fixed landmarks -> its keypoints (K, 3). Errors: ModaError where they are no
        landmarks."""
        raise ModaError(f"the keypoints of the {self.name!r} space cannot be read from landmarks")

    # -- generating and driving ---------------------------------------------------------------

    @abstractmethod
    def start(self, portrait: Motion) -> Motion:
        """What generation for a portrait starts from: one frame. portrait: one frame, its own motion."""

    @abstractmethod
    def generated(self, motion: Motion, portrait: Motion) -> Motion:
        """What a generator made, put on the portrait. portrait: one frame, its own motion."""

    @abstractmethod
    def resting(self, motion: Motion) -> Motion:
        """The frame of a person's clip that stands for their resting pose: one frame."""

    @abstractmethod
    def driven(self, motion: Motion, portrait: Motion, rest: Motion) -> Motion:
        """Another person's motion, carried over to the portrait: what it adds to `rest`, added to the portrait's own.

        portrait, rest: one frame each; `rest` as `resting` gives it.
        """

    # -- editing ------------------------------------------------------------------------------

    @abstractmethod
    def lips_rest(self, portrait: Motion) -> np.ndarray:
        """Where the mouth's points are when the lips' gain is 0: (1, mouth, 3) or something that broadcasts to it."""

    def lids_meet(self, exp: np.ndarray) -> np.ndarray:
        """Offsets (T, K, 3) in which no gain has driven lids through each other."""
        return exp

    partial_blinks = False  # whether what is generated blinks part of the way (moda.motion.blinks)

    def close_lids(self, motion: Motion, closure: np.ndarray) -> Motion:
        """The right and the left eye closed so far, (T, 2) as `lid_closure` gives it; of spaces with partial blinks."""
        raise NotImplementedError

    def gains(
        self, motion: Motion, around: Motion, pose: Gain = 1.0, lips: Gain = 1.0, blink: Gain = 1.0
    ) -> Motion:
        """Strengthen or weaken the head's, the lips' and the lids' movement: 0 stills, 1 leaves as it is, 2 doubles.

        around: one frame, the portrait's own motion, about which head and lids move; the lips move about `lips_rest`.
        pose, lips, blink: a number, or one for each frame (T,)
        Errors: ModaError for another space or more than one frame in `around`.
        """
        around.require(motion.space, "this motion")
        self.single(around, "gains work around")
        exp = motion.exp.copy()
        parts = {}
        if np.any(np.not_equal(lips, 1)):
            points = list(self.groups["mouth"])
            rest = self.lips_rest(around)
            exp[:, points] = rest + column(lips, 3) * (exp[:, points] - rest)
        if np.any(np.not_equal(blink, 1)):
            points = list(self.groups["lids"])
            exp[:, points] = around.exp[:, points] + column(blink, 3) * (
                exp[:, points] - around.exp[:, points]
            )
            if np.any(np.greater(blink, 1)):
                exp = self.lids_meet(exp)
        if np.any(np.not_equal(pose, 1)):
            for name in ("t", "pitch", "yaw", "roll"):
                own, moved = getattr(around, name), getattr(motion, name)
                parts[name] = own + column(pose, moved.ndim) * (moved - own)
            parts["scale"] = around.scale * (motion.scale / around.scale) ** column(pose, 1)
        return replace(motion, exp=exp, **parts)

    def look(self, motion: Motion, right: Gain, up: Gain, own: Gain = 1.0) -> Motion:
        """The gaze turned by degrees, to the picture's right and up: numbers, or one a frame.

        own: how much of the eyes' own movement stays. Errors: ModaError where the space cannot say where the eyes are.
        """
        raise ModaError(f"the gaze cannot be turned in the {self.name!r} space")

    def shut(self, motion: Motion, part: np.ndarray) -> Motion:
        """Lids that go part (T,) of the way from where they are to where they meet. Errors: as `lid_closure`."""
        raise ModaError(f"lids cannot be shut in the {self.name!r} space")

    def emotion(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """What an emotion adds at its full strength -> offsets (K, 3), degrees of pitch, yaw, roll (3,).

        Errors: ModaError for an unknown one, and where emotions are the generator's alone.
        """
        raise ModaError(
            f"a timeline's emotions cannot be drawn in the {self.name!r} space; give the whole video one with emotion"
        )

    # -- measuring ----------------------------------------------------------------------------

    def lip_gap(self, motion: Motion) -> np.ndarray:
        """(T,) how far the inner lips are apart, in the space's unit. Errors: ModaError where it cannot be said."""
        raise ModaError(f"how wide lips are open cannot be said in the {self.name!r} space")

    def lid_closure(self, motion: Motion) -> np.ndarray:
        """(T, 2) how far the right and the left eye are closed, 1: whole. Errors: as `lip_gap`."""
        raise ModaError(f"how far lids are closed cannot be said in the {self.name!r} space")

    @staticmethod
    def single(motion: Motion, who: str) -> Motion:
        """Itself, if it is one frame. Errors: ModaError that begins with `who`."""
        if len(motion) != 1:
            raise ModaError(f"{who} one frame of motion, but {len(motion)} were given")
        return motion

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<space {self.name}>"

    def __reduce__(self) -> tuple:
        return space, (self.name,)


def column(value: Gain, ndim: int) -> np.ndarray:
    """A number or (T,), so that it broadcasts over arrays (T, ...) of `ndim` axes."""
    value = np.asarray(value, dtype=np.float32)
    return value.reshape(-1, *[1] * (ndim - 1)) if value.ndim else value


# name -> the module whose SPACE it is
ROOMS = {
    "explicit": "moda.motion.explicit",
    "liveportrait": "moda.motion.liveportrait",
    "landmarks68": "moda.motion.landmarks68",
}
DEFAULT = "explicit"
# (from, to) -> the module whose `convert(motion, to)` leads there
BRIDGES = {
    ("explicit", "landmarks68"): "moda.motion.landmarks68",
    ("landmarks68", "explicit"): "moda.motion.landmarks68",
}


def space(name: str | Space | None = None) -> Space:
    """A space by its name; itself, if it is one; the default one for None. Errors: a ModaError that lists the names."""
    if isinstance(name, Space):
        return name
    room = ROOMS.get(DEFAULT if name is None else name)
    if room is None:
        raise ModaError(f"motion: space is {name!r}, but must be one of {', '.join(ROOMS)}")
    return import_module(room).SPACE


def converted(motion: Motion, to: Space) -> Motion:
    """A motion in another space, as near as the two allow. Errors: ModaError where nothing leads there."""
    if motion.space is to:
        return motion
    room = BRIDGES.get((motion.space.name, to.name))
    if room is None:
        raise ModaError(
            f"a motion of the {motion.space.name!r} space cannot be carried to the {to.name!r} space"
        )
    return import_module(room).convert(motion, to)
