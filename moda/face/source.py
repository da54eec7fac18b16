"""A face in a picture: what every renderer and the generator start from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moda.motion import Motion


@dataclass(frozen=True)
class HeadPose:
    """How a head-fixed shape (eye distances, see moda.motion.explicit) lies in a picture.

    landmarks_px = centre + scale * (shape @ rotation.T), z in pixels too.
    """

    rotation: np.ndarray  # (3, 3) float32
    scale: float  # pixels an eye distance, were the face seen from the front
    centre: np.ndarray  # (3,) float32 pixels: midway between the eyes' centres

    def place(self, shape: np.ndarray) -> np.ndarray:
        """(..., N, 3) head-fixed -> pixels."""
        return self.centre + self.scale * (shape @ self.rotation.T)


@dataclass(frozen=True)
class Source:
    """One face of one picture.

    image:     (H, W, 3) uint8 RGB, the whole picture
    landmarks: (478, 3)  float32, pixels of the whole picture (z: pixels, away from the camera)
    pose:      HeadPose  such that pose.place(shape) = landmarks
    shape:     (478, 3)  float32, head-fixed, as pictured (its own expression in it)
    motion:    Motion    one frame, explicit space: the picture's own expression and pose, scale 1, t 0
    keypoints: (21, 3)   float32, the neutral's 21 named points: the identity
    """

    image: np.ndarray
    landmarks: np.ndarray
    pose: HeadPose
    shape: np.ndarray
    motion: Motion
    keypoints: np.ndarray
