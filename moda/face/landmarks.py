"""MediaPipe's face mesh: pictures and frames -> 478 landmarks in pixels.

z is in pixels too (weak perspective, the same scale as x), growing away from the camera.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import product

import numpy as np

from moda.constants import LANDMARKS
from moda.errors import ModaError

# MediaPipe logs through C++ before anyone can stop it; only errors are for a person.
os.environ.setdefault("GLOG_minloglevel", "2")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MAX_FACES = 10
TILES = (1, 2, 4, 8)  # parts of the longer side
MIN_TILE = 64  # pixels
DETECTION_CONFIDENCE = 0.3  # paintings and drawings score lower than photographs


def _solutions():
    """MediaPipe's solutions, loaded on first use (it takes a second)."""
    try:
        logging.getLogger("absl").setLevel(logging.ERROR)
        import mediapipe
    except ImportError as error:
        raise ModaError(
            f"MediaPipe cannot be loaded ({error}); `moda doctor` says what is missing"
        ) from error
    return mediapipe.solutions


def _to_pixels(face, width: int, height: int) -> np.ndarray:
    points = np.array([(p.x, p.y, p.z) for p in face.landmark], dtype=np.float32)
    return points * np.array([width, height, width], dtype=np.float32)


def extent(landmarks: np.ndarray) -> float:
    """Pixels of a face's larger side; how faces are ranked."""
    return float(np.ptp(landmarks[:, :2], axis=0).max())


@contextmanager
def _quiet() -> Iterator[None]:
    """MediaPipe's libraries write remarks straight to file descriptor 2 as they start; they go nowhere."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def find_faces(image: np.ndarray) -> list[np.ndarray]:
    """(H, W, 3) uint8 RGB -> [(478, 3) pixels], the largest face first; [] if there is none.

    MediaPipe sees faces that fill a good part of a picture. Where it finds none in the whole, it looks at ever
    smaller overlapping tiles until it does.
    """
    height, width = image.shape[:2]
    options = {"refine_landmarks": True, "min_detection_confidence": DETECTION_CONFIDENCE}
    faces: list[np.ndarray] = []
    with (
        _quiet(),
        _solutions().face_mesh.FaceMesh(static_image_mode=True, max_num_faces=MAX_FACES, **options) as mesh,
    ):
        for parts in TILES:
            side = max(height, width) / parts
            if side < MIN_TILE:
                break
            for y, x in product(_starts(height, side), _starts(width, side)):
                tile = np.ascontiguousarray(image[y : y + int(side), x : x + int(side)])
                for found in mesh.process(tile).multi_face_landmarks or []:
                    face = _to_pixels(found, tile.shape[1], tile.shape[0]) + np.float32([x, y, 0])
                    if not any(_same(face, other) for other in faces):
                        faces.append(face)
            if faces:
                break
    return sorted(faces, key=extent, reverse=True)


def _starts(length: int, side: float) -> list[int]:
    """Where tiles of `side` pixels begin, so that they cover `length` and overlap by a third or more."""
    count = 1 if side >= length else int(np.ceil((length - side) / (side * 2 / 3))) + 1
    return np.linspace(0, max(0, length - side), count).astype(int).tolist()


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """One face, seen in two tiles?"""
    return float(np.linalg.norm(a[:, :2].mean(0) - b[:, :2].mean(0))) < 0.3 * min(extent(a), extent(b))


def follow_face(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray | None]:
    """RGB frames of one video -> the followed face's (478, 3) pixels, or None where it is not seen."""
    options = {"max_num_faces": 1, "refine_landmarks": True, "min_detection_confidence": DETECTION_CONFIDENCE}
    mesh = None
    try:
        for frame in frames:
            with nullcontext() if mesh else _quiet():
                mesh = mesh or _solutions().face_mesh.FaceMesh(static_image_mode=False, **options)
                found = mesh.process(np.ascontiguousarray(frame)).multi_face_landmarks
            if not found:
                yield None
                continue
            points = _to_pixels(found[0], frame.shape[1], frame.shape[0])
            yield points if len(points) == LANDMARKS and np.isfinite(points).all() else None
    finally:
        if mesh:
            mesh.close()
