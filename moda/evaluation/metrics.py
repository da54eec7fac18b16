"""Figures of a motion, and of a motion against the real one. All motions in the explicit space, 25 fps."""

from __future__ import annotations

import numpy as np

from moda.motion import Motion
from moda.motion.explicit import LID_APERTURE, LIDS, lip_gap

MAX_LAG = 3  # frames: sound and picture of a recording are often this far apart
BLINK = 0.5  # part of the way that the lids must go


def correlation(a: np.ndarray, b: np.ndarray, max_lag: int = MAX_LAG) -> tuple[float, int]:
    """Pearson's r of two curves (T,) at the best lag within max_lag frames, and that lag.

    lag > 0: `a` comes later than `b`. A curve that does not move correlates with nothing: r = 0.
    """
    n = min(len(a), len(b))
    a, b = np.asarray(a[:n], dtype=np.float64), np.asarray(b[:n], dtype=np.float64)
    best = (0.0, 0)
    for lag in range(-max_lag, max_lag + 1):
        x = a[max(0, lag) : n + min(0, lag)]
        y = b[max(0, -lag) : n - max(0, lag)]
        if len(x) < 3 or x.std() < 1e-9 or y.std() < 1e-9:
            continue
        r = float(np.corrcoef(x, y)[0, 1])
        if r > best[0]:
            best = (r, lag)
    return best


def blinks(motion: Motion) -> int:
    """How often both lids come together."""
    exp = motion.exp[:, LIDS, 1]
    closing = ((exp[:, 0] - exp[:, 1]) + (exp[:, 2] - exp[:, 3])) / 2 > BLINK * LID_APERTURE
    return int((closing[1:] & ~closing[:-1]).sum() + closing[:1].sum())


def describe(motion: Motion) -> dict[str, float]:
    """What a performance is like, whoever it is compared with.

    lip_gap_mean, lip_gap_std: eye distances; blinks_per_minute; pitch_std, yaw_std, roll_std: degrees;
    pose_jerk: mean |third difference| of the three angles, degrees a frame^3 (smoothness; lower is smoother).
    """
    gap = lip_gap(motion.exp)
    pose = np.stack([motion.pitch, motion.yaw, motion.roll], axis=1)
    jerk = np.abs(np.diff(pose, n=3, axis=0)).mean() if len(motion) > 3 else 0.0
    return {
        "lip_gap_mean": float(gap.mean()),
        "lip_gap_std": float(gap.std()),
        "blinks_per_minute": blinks(motion) / motion.seconds * 60,
        "pitch_std": float(motion.pitch.std()),
        "yaw_std": float(motion.yaw.std()),
        "roll_std": float(motion.roll.std()),
        "pose_jerk": float(jerk),
    }
