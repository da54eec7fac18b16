"""Which device a network runs on."""

from __future__ import annotations

from collections.abc import Callable

from moda.errors import ModaError


def resolve_device(name: str = "auto") -> str:
    """auto: CUDA if there is one, else MPS, else the CPU. A name is checked.

    Errors: ModaError if torch does not know the device, or this machine lacks it.
    """
    import torch

    there: dict[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if name == "auto":
        return next(kind for kind, available in there.items() if available())
    kind = name.split(":")[0]
    if kind not in there:
        raise ModaError(f"device is {name!r}, but must be one of auto, {', '.join(there)}")
    if not there[kind]():
        raise ModaError(
            f"this machine has no {kind} device, or this torch was built without it; use --device cpu"
        )
    return name
