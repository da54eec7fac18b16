"""Where things lie in the square: a head's pose, smooth steps, what is interpolated between points, pictures moved."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from moda.face.source import HeadPose
from moda.motion import Motion
from moda.motion.explicit import NECK_PIVOT, rotation

# What is drawn of the turns asked for: landmarks of people show less of a nod than their heads do, and more of a tilt.
NODS, TILTS = 1.16, 0.94
FACE_MIDDLE = np.array([0.0, 0.3, -0.1])  # head-fixed: stays where it is asked for
NO_MAP = np.empty(0, np.float32)  # places are given as pairs, in one map


@dataclass(frozen=True)
class Placement:
    """A head pose within the square, about the neck pivot: pixels = pivot + scale * (X - NECK_PIVOT) @ rotation.T"""

    rotation: np.ndarray  # (3, 3)
    scale: float
    pivot: np.ndarray  # (2,)

    @classmethod
    def of(cls, pose: HeadPose) -> Placement:
        return cls(pose.rotation, pose.scale, pose.place(NECK_PIVOT)[:2])

    def place(self, x: np.ndarray) -> np.ndarray:
        """(..., 3) head-fixed -> (..., 2) pixels of the square."""
        return self.pivot + self.scale * ((x - NECK_PIVOT) @ self.rotation[:2].T)


def placed(motion: Motion, own: Motion, rest: Placement) -> list[Placement]:
    """Frames' motion, the picture's own motion and placement -> where the head is drawn in each."""
    asked = rotation(motion.pitch, motion.yaw, motion.roll)
    pitch, roll = own.pitch + NODS * (motion.pitch - own.pitch), own.roll + TILTS * (motion.roll - own.roll)
    turned = rotation(pitch, motion.yaw, roll)
    scale = rest.scale * motion.scale / own.scale
    pivot = rest.pivot + rest.scale * (motion.t - own.t)[:, :2]
    pivot = pivot + scale[:, None] * ((asked - turned) @ (FACE_MIDDLE - NECK_PIVOT))[:, :2]
    return [Placement(*frame) for frame in zip(turned, scale.tolist(), pivot)]


def smoothstep(x: np.ndarray | np.floating | float) -> np.ndarray:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def interpolate(
    centers: np.ndarray, values: np.ndarray, at: np.ndarray, smoothing: float = 0.0
) -> np.ndarray:
    """(K, 2) centers with values (K, M) -> (G, M) at the points `at` (G, 2).

    Radial basis r with an affine part; `smoothing` lets values differ a little rather than crease.
    """
    k = len(centers)
    system = np.zeros((k + 3, k + 3))
    system[:k, :k] = np.linalg.norm(centers[:, None] - centers[None], axis=-1) - smoothing * np.eye(k)
    system[:k, k:] = np.column_stack([np.ones(k), centers])
    system[k:, :k] = system[:k, k:].T
    right = np.concatenate([values, np.zeros((3, values.shape[1]))])
    weights = np.linalg.solve(system, right).astype(np.float32)
    squared = (at**2).sum(1)[:, None] + (centers**2).sum(1)[None] - 2 * at @ centers.T
    distance = np.sqrt(np.maximum(0, squared), dtype=np.float32)
    return distance @ weights[:k] + np.column_stack([np.ones(len(at)), at]).astype(np.float32) @ weights[k:]


def warp(image: np.ndarray, at: np.ndarray) -> np.ndarray:
    """at (h, w, 2): where each pixel comes from -> (h, w, 3)."""
    return np.asarray(cv2.remap(image, at, NO_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
