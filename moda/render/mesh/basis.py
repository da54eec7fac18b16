"""The linear map from the 21 points' offsets to displacements of the 478 landmarks."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np


@cache
def basis() -> np.ndarray:
    """(63, 478, 3) float32, made by `recipes.fit_mesh`: displacement = tensordot(exp.ravel(), basis, 1)."""
    from safetensors.numpy import load_file

    return load_file(Path(__file__).with_name("basis.safetensors"))["basis"].astype(np.float32)


@cache
def _flat() -> np.ndarray:
    return np.ascontiguousarray(basis().reshape(63, -1))


def dense(exp: np.ndarray) -> np.ndarray:
    """(21, 3) offsets -> (478, 3) displacements, head-fixed, eye distances."""
    # einsum, not a matrix product: the libraries behind those wake threads for it, which frames drawn side by side have
    # no use for.
    return np.einsum("k,kn->n", exp.reshape(63), _flat()).reshape(-1, 3)
