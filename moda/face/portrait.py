"""A picture -> Source: its face, pose, shape and the expression it already shows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from moda.errors import ModaError
from moda.face import expression, pose
from moda.face.source import Source
from moda.motion import Motion
from moda.motion.explicit import LANDMARK_OF, angles

if TYPE_CHECKING:
    from moda.media.picture import Picture

log = logging.getLogger(__name__)

# Landmarks of what must be in the picture to be drawn well, and eye distances that it may lie beyond its edge: a mesh
# fitted to a cut face goes on where the picture ends, to within some hundredths.
MOUTH = [61, 291, 0, 17, 13, 14]
SEEN = {
    "chin": ([152], 0.03),
    "eyes": ([33, 133, 159, 145, 362, 263, 386, 374], -0.03),
    "forehead": ([10], 0.1),
    "cheek": ([234, 454], 0.1),
}
MOUTH_BEYOND = 0.05
MIN_EYE_DISTANCE = 8.0  # pixels; below, the landmarks say nothing about lips


def read_portrait(image: Picture, face: int = 0) -> Source:
    """A picture file, (H, W, 3) uint8 RGB or a PIL image, -> the Source of one face in it.

    face: 0 is the largest, 1 the next one, ...
    A face that cannot be told well (something over the mouth, a part beyond the edge) gives a logged warning.
    Raises ModaError: no such file, no picture, no face, fewer faces than asked for, a face too small, one whose
    mouth is not all in the picture, or whose features cannot be told.
    """
    from moda.face.landmarks import look_for_faces
    from moda.media.picture import as_picture

    pixels, name = as_picture(image)
    faces = look_for_faces(pixels)
    if not faces:
        raise ModaError(f"no face was found in {name}; give a picture in which a face is well visible")
    if not 0 <= face < len(faces):
        raise ModaError(f"{name} shows {len(faces)} face(s), so face {face} is not there; they count from 0")
    found = faces[face]
    cut = _is_cut(found.landmarks, pixels, name)
    if not found.trusted:
        raise ModaError(
            f"the face in {name} cannot be read: its features are hidden or turned away; give another picture"
        )
    if found.covered and not cut:
        log.warning("the mouth in %s seems to be covered; what is over it will move as lips do", name)
    return source_of(pixels, found.landmarks, name)


def _is_cut(landmarks: np.ndarray, image: np.ndarray, name: str) -> bool:
    """Whether the picture's edge cuts another part than the mouth of (478, 3) pixels, which gives a logged warning.

    Errors: ModaError if it cuts the mouth.
    """
    from moda.face.landmarks import eyes_apart

    unit = eyes_apart(landmarks)
    if edge := _edge(landmarks[MOUTH], image, MOUTH_BEYOND * unit):
        raise ModaError(
            f"the mouth in {name} is cut by the picture's {edge} edge; give a picture with the whole face"
        )
    cut = [part for part, (points, beyond) in SEEN.items() if _edge(landmarks[points], image, beyond * unit)]
    if cut:
        log.warning("the picture's edge cuts the %s in %s: what is cut is made up; a picture with the whole face is "
                    "drawn better", " and ".join(cut), name)  # fmt: skip
    return bool(cut)


def _edge(points: np.ndarray, image: np.ndarray, beyond: float) -> str | None:
    """The picture's edge that points (N, 3) lie beyond by more than so many pixels, the furthest."""
    (left, upper), (right, lower) = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
    height, width = image.shape[:2]
    out = {"left": -left, "upper": -upper, "right": right - width, "lower": lower - height}
    edge = max(out, key=lambda name: out[name])
    return edge if out[edge] > beyond else None


def half_turned(source: Source) -> Source:
    """The same face in the picture turned upside down."""
    height, width = source.image.shape[:2]
    landmarks = source.landmarks * [-1, -1, 1] + [width - 1, height - 1, 0]
    return source_of(np.ascontiguousarray(source.image[::-1, ::-1]), landmarks.astype(np.float32))


def source_of(image: np.ndarray, landmarks: np.ndarray, name: str = "the picture") -> Source:
    """A picture and the landmarks (478, 3) of a face in it -> Source."""
    head, shape = pose.measure(landmarks)
    if head.scale < MIN_EYE_DISTANCE:
        raise ModaError(
            f"the face in {name} is too small: {head.scale:.0f} pixels between the eyes, 8 are needed"
        )
    exp = expression.opening(shape) + expression.smile(shape)
    pitch, yaw, roll = angles(head.rotation[None])
    motion = Motion(exp[None], np.ones(1), np.zeros((1, 3)), pitch, yaw, roll)
    return Source(image, landmarks, head, shape, motion, keypoints=shape[LANDMARK_OF] - exp)
