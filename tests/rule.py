"""Weights and inputs by rule: whoever knows a tensor's name and shape can compute it, none is stored."""

from __future__ import annotations

import math
import zlib

import numpy as np


def randn(seed: int, shape: tuple[int, ...], scale: float = 1.0) -> np.ndarray:
    """The input rule."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) * np.float32(scale)


def weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The weight rule, float32; integer entries (`num_batches_tracked`) are 0."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    w = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(tuple(shape), dtype=np.float32)
    if len(shape) >= 2:
        return w * np.float32(1 / math.sqrt(math.prod(shape[1:])))
    if key.endswith("running_var"):
        return np.float32(1) + np.float32(0.1) * np.abs(w)
    if key.endswith("weight"):
        return np.float32(1) + np.float32(0.1) * w
    return np.float32(0.1) * w


def state_dict(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Every entry by the rule, but for spectral norm's vectors and the scheduler's table."""
    tensors = {key: weight(key, tuple(shape)) for key, shape in shapes.items()}
    for key in shapes:
        if key == "scheduler.sigmas":
            tensors[key] = (np.arange(1, 1001) / 1000).astype(np.float32)
        elif key.endswith(".weight_orig"):
            stem = key.removesuffix("_orig")
            tensors[stem + "_u"], tensors[stem + "_v"] = _spectral_vectors(tensors[key], stem + "_u")
    return tensors


def _spectral_vectors(weight_orig: np.ndarray, key_u: str) -> tuple[np.ndarray, np.ndarray]:
    w = weight_orig.astype(np.float64).reshape(len(weight_orig), -1)
    u = (
        np.random.default_rng(zlib.crc32(key_u.encode()))
        .standard_normal(len(w), dtype=np.float32)
        .astype(np.float64)
    )
    u /= np.linalg.norm(u)
    for _ in range(30):
        v = w.T @ u
        v /= np.linalg.norm(v)
        u = w @ v
        u /= np.linalg.norm(u)
    return u.astype(np.float32), v.astype(np.float32)
