"""Weights: where they lie (`folder`), what a model is made of (`description`), strict loading (`load`), fetching
(`hub`), converting (`published`)."""

from __future__ import annotations

from importlib import import_module

from moda.weights.folder import list_weights, resolve

_LAZY = {
    "Description": "description",
    "save_model": "load",
    "strict_load": "load",
    "convert": "published",
    "download": "hub",
}
__all__ = [*_LAZY, "list_weights", "resolve"]


def __getattr__(name: str):
    if name in _LAZY:
        return getattr(import_module(f"moda.weights.{_LAZY[name]}"), name)
    raise AttributeError(f"module 'moda.weights' has no attribute {name!r}")
