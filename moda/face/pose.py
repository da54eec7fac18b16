"""Head pose: landmarks in pixels -> rotation, scale, center and the head-fixed shape."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from moda.face.source import HeadPose
from moda.motion.explicit import EYE_LEFT, EYE_RIGHT

# Landmarks that speech, blinks and brows hardly move: eye corners, nose, forehead, temples, cheekbones.
STABLE = np.array(
    [33, 133, 362, 263, 168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 10, 151, 67, 297, 109, 338]
    + [127, 356, 234, 454, 162, 389, 21, 251, 116, 345, 123, 352]
)


@cache
def canonical() -> np.ndarray:
    """(478, 3) the mean face, head-fixed: fitted on tracked people by `recipes.fit_canonical`."""
    return np.load(Path(__file__).with_name("canonical.npy"), allow_pickle=False)


def eye_center(points: np.ndarray) -> np.ndarray:
    """(..., 478, 3) -> (..., 3) midway between the eyes' centers."""
    return points[..., [*EYE_RIGHT, *EYE_LEFT], :].mean(axis=-2)


def eye_distance(points: np.ndarray) -> np.ndarray:
    """(..., 478, 3) -> (...) distance between the eyes' centers."""
    right, left = points[..., EYE_RIGHT, :].mean(axis=-2), points[..., EYE_LEFT, :].mean(axis=-2)
    return np.linalg.norm(left - right, axis=-1)


def align(shape: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least-squares similarity: target ~ center + scale * shape @ rotation.T, over (..., N, 3) points.

    -> rotation (..., 3, 3), scale (...), center (..., 3). Source: Umeyama 1991.
    """
    mean_s, mean_t = shape.mean(axis=-2, keepdims=True), target.mean(axis=-2, keepdims=True)
    s, t = shape - mean_s, target - mean_t
    u, d, vt = np.linalg.svd(np.swapaxes(t, -1, -2) @ s)
    sign = np.ones_like(d)
    sign[..., 2] = np.sign(np.linalg.det(u @ vt))
    rotation = (u * sign[..., None, :]) @ vt
    scale = (d * sign).sum(axis=-1) / (s**2).sum(axis=(-1, -2))
    center = mean_t[..., 0, :] - scale[..., None] * np.einsum("...ij,...j->...i", rotation, mean_s[..., 0, :])
    return rotation, scale, center


def head_fixed(landmarks: np.ndarray, reference: np.ndarray | None = None):
    """(T, 478, 3) pixels -> rotation (T,3,3), scale (T,), center (T,3), shape (T,478,3).

    reference: the head-fixed face to align to; the canonical one unless given. The shape is in eye distances
    of the reference, its origin where the reference's is.
    """
    reference = canonical() if reference is None else reference
    rotation, scale, center = align(reference[STABLE][None], landmarks[:, STABLE])
    shape = (landmarks - center[:, None]) @ rotation / scale[:, None, None]
    return rotation, scale, center, shape


def measure(landmarks: np.ndarray) -> tuple[HeadPose, np.ndarray]:
    """(478, 3) pixels of one picture -> its HeadPose and head-fixed shape (478, 3), the eye distance being 1."""
    rotation, scale, center, shape = (a[0] for a in head_fixed(landmarks[None].astype(np.float64)))
    # Units and origin are the person's own eyes, not the mean face's.
    unit, origin = eye_distance(shape), eye_center(shape)
    center = center + scale * rotation @ origin
    shape = (shape - origin) / unit
    pose = HeadPose(rotation.astype(np.float32), float(scale * unit), center.astype(np.float32))
    return pose, shape.astype(np.float32)
