"""The mesh renderer: portraits of any kind, moved by warping their own pixels (moda.render.mesh.renderer)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moda.render.mesh.renderer import MeshRenderer

__all__ = ["MeshRenderer"]


def __getattr__(name: str):
    if name == "MeshRenderer":
        from moda.render.mesh.renderer import MeshRenderer

        return MeshRenderer
    raise AttributeError(f"module 'moda.render.mesh' has no attribute {name!r}")
