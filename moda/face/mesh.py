"""MediaPipe's face mesh and face detector, loaded quietly; one instance belongs to one caller."""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

import numpy as np

from moda.errors import ModaError

# MediaPipe logs through C++ before anyone can stop it; only errors are for a person. What TensorFlow Lite still
# writes as it starts is shown by a library and hidden by the command line (see moda.cli).
os.environ.setdefault("GLOG_minloglevel", "2")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

MAX_FACES = 10
DETECTION_CONFIDENCE = 0.3  # paintings and drawings score lower than photographs

_loading = threading.Lock()


def solutions() -> Any:
    """MediaPipe's solutions, loaded on first use (it takes a second)."""
    with _loading:
        try:
            for name in ("absl", "matplotlib"):  # a cache folder that cannot be written is nobody's concern
                logging.getLogger(name).setLevel(logging.ERROR)
            _matplotlib()
            import mediapipe
        except ImportError as error:
            raise ModaError(
                f"MediaPipe cannot be loaded ({error}); `moda doctor` says what is missing"
            ) from error
    return mediapipe.solutions


def _matplotlib() -> None:
    """MediaPipe imports matplotlib, which fails if MPLBACKEND names a backend that only a notebook has.

    A notebook's cell hands its own on to whatever it starts. Nothing is drawn here, so it may be left out.
    """
    try:
        import matplotlib  # noqa: F401
    except ValueError:
        kept = os.environ.pop("MPLBACKEND", None)
        try:
            import matplotlib  # noqa: F401
        finally:
            if kept is not None:
                os.environ["MPLBACKEND"] = kept


class Mesh:
    """478 landmarks of the faces in one picture after another. Not for several threads at once; close it.

    follow: expect the faces of one picture where those of the last were (steadier, and faster), at most one face
    """

    def __init__(self, follow: bool = False) -> None:
        self._mesh = solutions().face_mesh.FaceMesh(
            static_image_mode=not follow,
            max_num_faces=1 if follow else MAX_FACES,
            refine_landmarks=True,
            min_detection_confidence=DETECTION_CONFIDENCE,
        )

    def __call__(self, image: np.ndarray) -> list[np.ndarray]:
        """(H, W, 3) uint8 RGB -> [(478, 3) float32 pixels], z on x's scale, away from the camera."""
        found = self._mesh.process(np.ascontiguousarray(image)).multi_face_landmarks or []
        height, width = image.shape[:2]
        size = np.array([width, height, width], dtype=np.float32)
        faces = [
            np.array([(p.x, p.y, p.z) for p in face.landmark], dtype=np.float32) * size for face in found
        ]
        return [face for face in faces if len(face) == 478 and np.isfinite(face).all()]

    def close(self) -> None:
        self._mesh.close()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Detector:
    """How sure the detector is that a picture shows an upright face. As `Mesh`: one caller, close it."""

    def __init__(self) -> None:
        self._detector = solutions().face_detection.FaceDetection(
            model_selection=0, min_detection_confidence=0.1
        )

    def __call__(self, image: np.ndarray) -> float:
        """(H, W, 3) uint8 RGB -> the best face's score, 0..1."""
        found = self._detector.process(np.ascontiguousarray(image)).detections or []
        return max((float(face.score[0]) for face in found), default=0.0)

    def __enter__(self) -> Detector:
        return self

    def __exit__(self, *_: object) -> None:
        self._detector.close()
