"""A face in a picture: what every renderer and the generator start from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from moda.motion import Motion


@dataclass(frozen=True)
class HeadPose:
    """How a head-fixed shape (eye distances, see moda.motion.explicit) lies in a picture.

    landmarks_px = center + scale * (shape @ rotation.T), z in pixels too.
    """

    rotation: np.ndarray  # (3, 3) float32
    scale: float  # pixels an eye distance, were the face seen from the front
    center: np.ndarray  # (3,) float32 pixels: midway between the eyes' centers

    def place(self, shape: np.ndarray) -> np.ndarray:
        """(..., N, 3) head-fixed -> pixels."""
        return self.center + self.scale * (shape @ self.rotation.T)


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

    @property
    def neutral(self) -> np.ndarray:
        """(478, 3) the shape without the picture's own expression."""
        from moda.render.mesh.basis import dense

        return self.shape - dense(self.motion.exp[0])

    def resized(self, width: int, height: int) -> Source:
        """The same face in the picture made this size (its sides' ratio must stay the same to a pixel)."""
        k = width / self.image.shape[1]
        image = cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)
        # Pixel centers lie at whole numbers: x + 1/2 is what scales.
        shift = np.array([0.5, 0.5, 0.0], dtype=np.float32)
        pose = HeadPose(self.pose.rotation, self.pose.scale * k, (self.pose.center + shift) * k - shift)
        return replace(self, image=image, landmarks=(self.landmarks + shift) * k - shift, pose=pose)
