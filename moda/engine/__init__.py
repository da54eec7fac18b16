"""Characters, sessions, the clock: a portrait that was prepared once and listens to sound (`character`, `session`)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moda.engine.character import Character
    from moda.engine.session import Frame, Session
    from moda.engine.video import Video

_LAZY = {
    "Character": "moda.engine.character",
    "Frame": "moda.engine.session",
    "Session": "moda.engine.session",
    "Video": "moda.engine.video",
}
__all__ = [*_LAZY]


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'moda.engine' has no attribute {name!r}")
