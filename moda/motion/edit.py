"""Changing motion: gains for its parts, and carrying one person's motion over to another portrait."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moda.errors import ModaError
from moda.motion import explicit
from moda.motion.motion import Motion

# keypoints that the lips and the lids move, by space
LIPS = {"explicit": np.r_[explicit.MOUTH], "liveportrait": np.array([6, 12, 14, 17, 19, 20])}
LIDS = {"explicit": np.r_[explicit.LIDS], "liveportrait": np.array([11, 13, 15, 16])}
# Eye distances (and logarithm of the size) that a portrait's head follows another's: people who sit and speak stay
# within a tenth.
FREE, REACH = 0.25, 0.5
UPPER_LIDS = [explicit.INDEX["lid_upper_right"], explicit.INDEX["lid_upper_left"]]
LOWER_LIDS = [explicit.INDEX["lid_lower_right"], explicit.INDEX["lid_lower_left"]]


def gains(motion: Motion, around: Motion, pose: float = 1.0, lips: float = 1.0, blink: float = 1.0) -> Motion:
    """Strengthen or weaken the head's movement, the lips' and the lids': 0 stills, 1 leaves as it is, 2 doubles.

    around: one frame of the same space, the portrait's own motion, about which head and lids move. The lips move
        about their neutral, closed position in the explicit space; in others they move about the portrait's own.
    Lids that a gain above 1 would drive through each other stop where they meet.
    Errors: ModaError for another space or more than one frame in `around`.
    """
    around.require(motion.space, "this motion")
    if len(around) != 1:
        raise ModaError(f"gains work around one frame of motion, but {len(around)} were given")
    exp = motion.exp.copy()
    parts = {}
    if lips != 1:
        points = LIPS[motion.space]
        rest = 0.0 if motion.space == "explicit" else around.exp[:, points]
        exp[:, points] = rest + lips * (exp[:, points] - rest)
    if blink != 1:
        points = LIDS[motion.space]
        exp[:, points] = around.exp[:, points] + blink * (exp[:, points] - around.exp[:, points])
        if blink > 1 and motion.space == "explicit":
            closed = exp[:, UPPER_LIDS, 1] - exp[:, LOWER_LIDS, 1]
            over = np.maximum(closed - explicit.LID_APERTURE, 0)
            exp[:, UPPER_LIDS, 1] -= over / 2
            exp[:, LOWER_LIDS, 1] += over / 2
    if pose != 1:
        parts = {n: getattr(around, n) + pose * (getattr(motion, n) - getattr(around, n)) for n in
                 ("t", "pitch", "yaw", "roll")}  # fmt: skip
        parts["scale"] = around.scale * (motion.scale / around.scale) ** pose
    return replace(motion, exp=exp, **parts)


def from_rest(motion: Motion, portrait: Motion) -> Motion:
    """Motion told from a head at rest (straight ahead, in its place, scale 1), about a portrait's own pose.

    What explicit generators make: they start from `Motion.still(1)` for everyone. Expressions are offsets from each
    person's own neutral face and stay as they are.
    portrait: one frame. Errors: ModaError for another space or more than one frame in `portrait`.
    """
    motion.require(portrait.space, "this portrait")
    if len(portrait) != 1:
        raise ModaError(f"a portrait has one frame of motion, but {len(portrait)} were given")
    return replace(
        motion,
        scale=portrait.scale * motion.scale,
        t=portrait.t + motion.t,
        pitch=portrait.pitch + motion.pitch,
        yaw=portrait.yaw + motion.yaw,
        roll=portrait.roll + motion.roll,
    )


def relative_to(motion: Motion, portrait: Motion) -> Motion:
    """Another person's clip on this portrait (explicit space): their resting pose, the clip's median, is removed and
    the portrait's own put in its place.

    Errors: as `from_rest`.
    """
    motion.require("explicit", "retargeting")
    parts = {name: getattr(motion, name) - np.median(getattr(motion, name), axis=0) for name in
             ("t", "pitch", "yaw", "roll")}  # fmt: skip
    parts["t"] = within_reach(parts["t"])
    size = within_reach(np.log(motion.scale / np.median(motion.scale))[:, None])[:, 0]
    return from_rest(replace(motion, scale=np.exp(size).astype(np.float32), **parts), portrait)


def within_reach(x: np.ndarray) -> np.ndarray:
    """(T, N) -> the same below FREE; beyond, ever slower, up to REACH: who leaves the picture tears no portrait."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    room = REACH - FREE
    short = FREE + room * np.tanh(np.maximum(length - FREE, 0) / room)
    return (x * np.where(length > FREE, short / np.maximum(length, 1e-9), 1)).astype(np.float32)
