"""Faces in pictures and videos: landmarks, pose, the Source of a portrait, the Motion of a video."""

from __future__ import annotations

from typing import TYPE_CHECKING

_LAZY = {
    "Source": "moda.face.source",
    "HeadPose": "moda.face.source",
    "read_portrait": "moda.face.portrait",
    "Track": "moda.face.tracking",
    "track": "moda.face.tracking",
}
__all__ = ["HeadPose", "Source", "Track", "read_portrait", "track"]

if TYPE_CHECKING:
    from moda.face.portrait import read_portrait
    from moda.face.source import HeadPose, Source
    from moda.face.tracking import Track, track


def __getattr__(name: str):
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'moda.face' has no attribute {name!r}")
