"""Operations of MToV's parts as published, and a count of those that a call here makes. GFLOP, 2 for each product."""

from __future__ import annotations

from moda.render.triplane.config import TriplaneConfig


def _stack(c: TriplaneConfig) -> float:
    """Products of a stack of layers over a clip's tokens."""
    inner = c.heads * c.head_width
    attention = c.channels * 3 * inner + inner * c.channels
    seen = 2 * inner * (c.frames + c.side**2)
    feed = c.channels * 8 * c.channels + 4 * c.channels * c.channels
    return c.depth * c.frames * c.side**2 * (2 * attention + seen + feed)


def _planes(c: TriplaneConfig) -> float:
    inner = c.plane_heads * (c.channels // 8)
    each = c.channels * 3 * inner + inner * c.channels + 2 * c.channels * c.plane_hidden
    total = 0.0
    for sequences, length in (
        (c.side**2, c.frames),
        (c.frames * c.side, c.side),
        (c.frames * c.side, c.side),
    ):
        tokens = sequences * (length + 1)
        total += c.plane_depth * tokens * (each + 2 * inner * (length + 1))
    return total + c.length * c.channels * c.latent


def encode(c: TriplaneConfig) -> float:
    """Of a clip, as published: with every token's last layer, a still clip like any other."""
    patches = c.frames * c.side**2 * 3 * c.patch**2 * c.channels
    return 2e-9 * (patches + _stack(c) + _planes(c))


def decode(c: TriplaneConfig) -> float:
    pixels = c.frames * c.side**2 * c.channels * 3 * c.patch**2
    return 2e-9 * (c.length * c.latent * c.channels + _stack(c) + pixels)
