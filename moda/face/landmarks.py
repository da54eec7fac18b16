"""MediaPipe's face mesh: pictures and frames -> 478 landmarks in pixels.

z is in pixels too (weak perspective, the same scale as x), growing away from the camera.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator

import numpy as np

from moda.constants import LANDMARKS
from moda.errors import ModaError

# MediaPipe logs through C++ before anyone can stop it; only errors are for a person.
os.environ.setdefault("GLOG_minloglevel", "2")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MAX_FACES = 10
DETECTION_CONFIDENCE = 0.3  # paintings and drawings score lower than photographs


def _solutions():
    """MediaPipe's solutions, loaded on first use (it takes a second)."""
    try:
        logging.getLogger("absl").setLevel(logging.ERROR)
        import mediapipe
    except ImportError as error:
        raise ModaError(f"MediaPipe cannot be loaded ({error}); `moda doctor` says what is missing") from error
    return mediapipe.solutions


def _to_pixels(face, width: int, height: int) -> np.ndarray:
    points = np.array([(p.x, p.y, p.z) for p in face.landmark], dtype=np.float32)
    return points * np.array([width, height, width], dtype=np.float32)


def extent(landmarks: np.ndarray) -> float:
    """Pixels of a face's larger side; how faces are ranked."""
    return float(np.ptp(landmarks[:, :2], axis=0).max())


def find_faces(image: np.ndarray) -> list[np.ndarray]:
    """(H, W, 3) uint8 RGB -> [(478, 3) pixels], the largest face first; [] if there is none.

    The mesh's own detector sees faces that fill a good part of the picture. Where it finds none, a detector
    for small faces looks first and the mesh is fitted in a crop about each face that it finds.
    """
    solutions = _solutions()
    options = {
        "static_image_mode": True,
        "refine_landmarks": True,
        "min_detection_confidence": DETECTION_CONFIDENCE,
    }
    height, width = image.shape[:2]
    with solutions.face_mesh.FaceMesh(max_num_faces=MAX_FACES, **options) as mesh:
        found = mesh.process(image).multi_face_landmarks or []
        faces = [_to_pixels(face, width, height) for face in found]
    if not faces:
        with solutions.face_detection.FaceDetection(
            model_selection=1, min_detection_confidence=DETECTION_CONFIDENCE
        ) as detector:
            boxes = [d.location_data.relative_bounding_box for d in detector.process(image).detections or []]
        with solutions.face_mesh.FaceMesh(max_num_faces=1, **options) as mesh:
            for box in boxes[:MAX_FACES]:
                side = 2.0 * max(box.width * width, box.height * height)
                cx, cy = (box.xmin + box.width / 2) * width, (box.ymin + box.height / 2) * height
                x0, y0 = max(0, int(cx - side / 2)), max(0, int(cy - side / 2))
                crop = np.ascontiguousarray(image[y0 : int(cy + side / 2) + 1, x0 : int(cx + side / 2) + 1])
                if min(crop.shape[:2]) < 16:
                    continue
                for face in mesh.process(crop).multi_face_landmarks or []:
                    faces.append(_to_pixels(face, crop.shape[1], crop.shape[0]) + np.float32([x0, y0, 0]))
    return sorted(faces, key=extent, reverse=True)


def follow_face(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray | None]:
    """RGB frames of one video -> the followed face's (478, 3) pixels, or None where it is not seen."""
    options = {"max_num_faces": 1, "refine_landmarks": True, "min_detection_confidence": DETECTION_CONFIDENCE}
    with _solutions().face_mesh.FaceMesh(static_image_mode=False, **options) as mesh:
        for frame in frames:
            found = mesh.process(np.ascontiguousarray(frame)).multi_face_landmarks
            if not found:
                yield None
                continue
            points = _to_pixels(found[0], frame.shape[1], frame.shape[0])
            yield points if len(points) == LANDMARKS and np.isfinite(points).all() else None
