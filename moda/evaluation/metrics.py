"""Figures of a motion, alone and against a real one. All motions are in the explicit space at 25 fps.

Lengths are in eye distances, angles in degrees. Each function says its definition and where it comes from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moda.constants import FPS, SAMPLES_PER_FRAME
from moda.motion import Motion
from moda.motion.explicit import INDEX, LID_APERTURE, LIDS, LIPS, lip_gap

MAX_LAG = 3  # frames: sound and picture of a recording are often this far apart
BLINK = 0.5  # part of the way that the lids must go
CLOSED = 0.02  # eye distances: lips that look closed (a millimetre)
BEAT = 0.1  # seconds within which a nod and a stress go together


def lip_width(exp: np.ndarray) -> np.ndarray:
    """(T, 21, 3) offsets -> (T,) how much wider than at rest the mouth is."""
    return exp[:, INDEX["lip_corner_left"], 0] - exp[:, INDEX["lip_corner_right"], 0]


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


def mouth_distance(made: Motion, real: Motion, lag: int = 0) -> float:
    """LMD: the mean distance, in the face's plane, of the ten lip points, head-fixed, `made` moved by its lag.

    Source: Chen et al., "Lip Movements Generation at a Glance", ECCV 2018; here in eye distances, not pixels.
    """
    n = min(len(made), len(real))
    a = made.exp[max(0, lag) : n + min(0, lag), LIPS, :2]
    b = real.exp[max(0, -lag) : n - max(0, lag), LIPS, :2]
    return float(np.linalg.norm(a - b, axis=-1).mean())


def closure(motion: Motion) -> np.ndarray:
    """-> (T, 2) how far the right and the left eye are closed; 1 is whole."""
    return (
        motion.exp[:, [LIDS.start, LIDS.start + 2], 1] - motion.exp[:, [LIDS.start + 1, LIDS.start + 3], 1]
    ) / LID_APERTURE


def blink_spans(motion: Motion) -> list[tuple[int, int]]:
    """(first, last + 1) of the frames in which both lids are more than BLINK of the way together."""
    closing = np.concatenate([[False], closure(motion).mean(axis=1) > BLINK, [False]])
    edges = np.flatnonzero(np.diff(closing.astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2])]


def blinks(motion: Motion) -> int:
    """How often both lids come together."""
    return len(blink_spans(motion))


def jerk(motion: Motion) -> np.ndarray:
    """(T - 3,) mean |third difference| of the three angles, degrees a frame^3."""
    pose = np.stack([motion.pitch, motion.yaw, motion.roll], axis=1)
    return np.abs(np.diff(pose, n=3, axis=0)).mean(axis=1) if len(motion) > 3 else np.zeros(1)


def describe(motion: Motion) -> dict[str, float]:
    """What a performance is like, whoever it is compared with.

    lip_gap_mean, lip_gap_std; lip_gap_speed: eye distances a second; lips_closed: part of the frames under CLOSED
    blinks_per_minute; blink_depth: the median blink's fullest closure (1: whole); blink_skew: right and left apart there
    pitch_std, yaw_std, roll_std; head_speed: degrees a second; pose_jerk: see `jerk` (lower is smoother)
    """
    gap = lip_gap(motion.exp)
    pose = np.stack([motion.pitch, motion.yaw, motion.roll], axis=1)
    closed = closure(motion)
    tips = [a + int(closed[a:b].mean(axis=1).argmax()) for a, b in blink_spans(motion)]
    speed = np.linalg.norm(np.diff(pose, axis=0), axis=1).mean() * FPS if len(motion) > 1 else 0.0
    return {
        "lip_gap_mean": float(gap.mean()),
        "lip_gap_std": float(gap.std()),
        "lip_gap_speed": float(np.abs(np.diff(gap)).mean() * FPS) if len(gap) > 1 else 0.0,
        "lips_closed": float((gap < CLOSED).mean()),
        "blinks_per_minute": len(tips) / motion.seconds * 60,
        "blink_depth": float(np.median(closed[tips].mean(axis=1))) if tips else float("nan"),
        "blink_skew": float(np.abs(closed[tips, 0] - closed[tips, 1]).mean()) if tips else float("nan"),
        "pitch_std": float(motion.pitch.std()),
        "yaw_std": float(motion.yaw.std()),
        "roll_std": float(motion.roll.std()),
        "head_speed": float(speed),
        "pose_jerk": float(jerk(motion).mean()),
    }


def seam_jerk(motion: Motion, stride: int, around: int = 3) -> float:
    """The pose's jerk near the joints of segments that start every `stride` frames, over that elsewhere; 1 is no seam."""
    values = jerk(motion)
    place = (np.arange(len(values)) + 1) % stride
    near = (np.minimum(place, stride - place) <= around) & (np.arange(len(values)) > stride // 2)
    if not near.any() or near.all():
        return float("nan")
    return float(values[near].mean() / (values[~near].mean() + 1e-9))


def beat_alignment(motion: Motion, wave: np.ndarray) -> float:
    """Mean over the speech's stresses of exp(-d^2 / (2 BEAT^2)), d seconds to the next turn of the head.

    Stresses are peaks of loudness, turns are the slowest moments of the head between movements.
    Source: beat alignment score, Li et al., "AI Choreographer", ICCV 2021, with the voice's stresses as beats.
    """
    frames = min(len(motion), len(wave) // SAMPLES_PER_FRAME)
    loud = np.sqrt(np.square(wave[: frames * SAMPLES_PER_FRAME]).reshape(frames, -1).mean(axis=1))
    loud = np.convolve(loud, np.ones(5) / 5, "same")
    pose = np.stack([motion.pitch, motion.yaw, motion.roll], axis=1)[:frames]
    speed = np.linalg.norm(np.gradient(pose, axis=0), axis=1)
    speed = np.convolve(speed, np.ones(3) / 3, "same")
    stresses = [i for i in _extremes(loud) if loud[i] > loud.mean()]
    turns = np.array(_extremes(-speed))
    if not stresses or not len(turns):
        return float("nan")
    away = np.array([np.abs(turns - i).min() for i in stresses]) / FPS
    return float(np.exp(-np.square(away) / (2 * BEAT**2)).mean())


def _extremes(curve: np.ndarray) -> list[int]:
    """Where a curve (T,) is highest among its neighbors."""
    return [i for i in range(1, len(curve) - 1) if curve[i - 1] < curve[i] >= curve[i + 1]]


def silence(motion: Motion, wave: np.ndarray, level: float = 1e-3, after: int = 8) -> float:
    """The mean gap where the sound has been below `level` (root mean square) for at least `after` frames; nan if never."""
    frames = min(len(motion), len(wave) // SAMPLES_PER_FRAME)
    loud = np.sqrt(np.square(wave[: frames * SAMPLES_PER_FRAME]).reshape(frames, -1).mean(axis=1)) > level
    since = np.zeros(frames, int)
    for i in range(frames):
        since[i] = 0 if loud[i] else (since[i - 1] if i else after) + 1
    quiet = since > after
    return float(lip_gap(motion.exp)[:frames][quiet].mean()) if quiet.any() else float("nan")


def meetings(
    gap: np.ndarray, spans: Sequence[tuple[float, float]], closed: float = CLOSED, slack: int = 1
) -> float:
    """Part of the spans (start, end in seconds; of p, b and m) within which, or `slack` frames around, the lips meet."""
    met = []
    for start, end in spans:
        low, high = max(0, round(start * FPS) - slack), round(end * FPS) + slack
        if low < len(gap):
            met.append(gap[low : high + 1].min() < closed)
    return float(np.mean(met)) if met else float("nan")


def diversity(motions: Sequence[Motion]) -> float:
    """The mean distance of two seeds' head angles, in degrees, frame by frame."""
    poses = [np.stack([m.pitch, m.yaw, m.roll], axis=1) for m in motions]
    apart = [np.linalg.norm(a - b, axis=1).mean() for i, a in enumerate(poses) for b in poses[i + 1 :]]
    return float(np.mean(apart)) if apart else float("nan")


def shape_drift(made: np.ndarray, own: np.ndarray) -> float:
    """Identity drift: how far a face's shape has become another's, mean distance in eye distances over the landmarks
    that speech and blinks hardly move (moda.face.pose.STABLE), pose and size taken out.

    made, own: (478, 3) pixels of a frame and of the portrait. The resting shapes of two people lie 0.036 apart or more in
    6 of 7 pairs (moda.face.tracking.STRANGER). It knows nothing of skin, hair or eyes: for these it takes a network of
    faces, and the free ones may not be used for everything.
    """
    from moda.face.pose import STABLE, measure

    return float(np.linalg.norm(measure(made)[1][STABLE] - measure(own)[1][STABLE], axis=-1).mean())


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of features (N, D) and (M, D), both more than a few.

    Of Inception's features of frames this is FID (Heusel et al., NeurIPS 2017), of I3D's of clips FVD (Unterthiner et
    al., 2018). The features are the caller's: those networks are not part of this package.
    """
    means, covariances = (a.mean(0), b.mean(0)), (np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T)))
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    # the product's eigenvalues are those of the symmetric root C_b root
    mixed = np.sqrt(np.linalg.eigvalsh(root @ covariances[1] @ root).clip(0)).sum()
    apart = np.square(means[0] - means[1]).sum()
    return float(apart + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * mixed)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal to noise of two uint8 pictures, dB."""
    error = np.square(a.astype(np.float64) - b.astype(np.float64)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-10)))


def ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Structural similarity of two uint8 pictures, on brightness, 11 pixel Gaussian windows of 1.5.

    Source: Wang et al., "Image Quality Assessment", IEEE TIP 2004.
    """
    import cv2

    x, y = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float64) for p in (a, b))

    def blur(p: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(p, (11, 11), 1.5)

    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    return float((((2 * mx * my + c1) * (2 * vxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))).mean())
