"""MediaPipe's face mesh and face detector, loaded quietly; one instance belongs to one caller."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
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
            logging.getLogger("absl").setLevel(logging.ERROR)
            with _plotting_later():
                import mediapipe
        except ImportError as error:
            raise ModaError(
                f"MediaPipe cannot be loaded ({error}); `moda doctor` says what is missing"
            ) from error
    return mediapipe.solutions


class _Later(ModuleType):
    """A module that is read when something of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def _plotting_later() -> Iterator[None]:
    """MediaPipe imports matplotlib for drawings that nobody makes here: a third of a second, and what a notebook's
    MPLBACKEND, handed on to what its cells start, makes it fail with."""
    names = ("matplotlib", "matplotlib.pyplot")
    if any(name in sys.modules for name in names):
        yield
        return
    later = {name: _Later(name) for name in names}
    vars(later["matplotlib"])["pyplot"] = later["matplotlib.pyplot"]
    sys.modules.update(later)
    try:
        yield
    finally:
        for name, module in later.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


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
