"""moda: a portrait and a voice go in; a video of that face speaking comes out.

>>> from moda import TalkingHead
>>> TalkingHead.from_pretrained("embedded")("portrait.jpg", "speech.wav", seed=7).save("out.mp4")

The public names are loaded on first use, so ``import moda`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

_LAZY = {
    "TalkingHead": "moda.pipeline",
    "Motion": "moda.motion",
    "ModaError": "moda.errors",
}
__all__ = [*_LAZY, "__version__"]

if TYPE_CHECKING:
    from moda.errors import ModaError
    from moda.motion import Motion
    from moda.pipeline import TalkingHead


def __getattr__(name: str) -> object:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'moda' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
