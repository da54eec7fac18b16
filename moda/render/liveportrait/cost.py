"""Operations: what the published networks do for a frame, by counting, and what a call here does, by watching.

An operation is a multiplication or an addition: 2 for each product of a convolution or a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode


def _conv(width_in: int, width_out: int, taps: int, positions: int) -> float:
    return 2e-9 * width_in * width_out * taps * positions


def _spade(width: int, positions: int) -> float:
    return _conv(256, 128, 9, positions) + _conv(128, 2 * width, 9, positions)


def _block(width_in: int, width_out: int, positions: int) -> float:
    hidden = min(width_in, width_out)
    total = _conv(width_in, hidden, 9, positions) + _conv(hidden, width_out, 9, positions)
    total += _spade(width_in, positions) + _spade(hidden, positions)
    if width_in != width_out:
        total += _spade(width_in, positions) + _conv(width_in, width_out, 1, positions)
    return total


def published() -> dict[str, float]:
    """GFLOP of the published code: F for a source; W and G for a frame, 512x512."""
    side, volume = 64**2, 16 * 64**2
    appearance = _conv(3, 64, 9, 256**2) + _conv(64, 128, 9, 256**2) + _conv(128, 256, 9, 128**2)
    appearance += _conv(256, 512, 1, side) + 12 * _conv(32, 32, 27, volume)

    widths = [110, 64, 128, 256, 512, 1024]
    warping = sum(_conv(widths[i], widths[i + 1], 27, volume // 4**i) for i in range(5))
    ups = [(1024, 512), (1024, 256), (512, 128), (256, 64), (128, 32)]
    warping += sum(_conv(*pair, 27, volume // 4 ** (4 - i)) for i, pair in enumerate(ups))
    warping += _conv(142, 142, 27, volume) + _conv(142, 22, 343, volume) + _conv(32, 4, 1, volume)
    warping += _conv(142 * 16, 1, 49, side) + _conv(512, 256, 9, side) + _conv(256, 256, 1, side)

    decoder = _conv(256, 512, 9, side) + 6 * _block(512, 512, side)
    decoder += _block(512, 256, 128**2) + _block(256, 64, 256**2) + _conv(64, 12, 9, 256**2)
    return {"F": appearance, "W": warping, "G": decoder}


def count(call: Callable[[], object]) -> float:
    """GFLOP of the matrix products and convolutions in a call; Fourier transforms are not counted."""
    with FlopCounterMode(display=False, custom_mapping=_UNKNOWN) as counter:
        call()
    return counter.get_total_flops() / 1e9


def _batched(a: Tensor, b: Tensor, **_) -> int:
    """Products of complex matrices are four of real ones."""
    return 2 * a.shape[0] * a.shape[1] * a.shape[2] * b.shape[2] * (4 if a.is_complex() else 1)


def _batched_into(_sum: Tensor, a: Tensor, b: Tensor, **kwargs) -> int:
    return _batched(a, b, **kwargs)


def _attention(q: Tensor, k: Tensor, v: Tensor, *_, **__) -> int:
    return 2 * q[..., 0].numel() * k.shape[-2] * (q.shape[-1] + v.shape[-1])


for _count in (_batched, _batched_into, _attention):
    setattr(_count, "_get_raw", True)  # noqa: B010 - the counter's word for "give tensors, not shapes"
# What the counter does not know, or counts as if real.
_UNKNOWN = {
    torch.ops.aten.bmm: _batched,
    torch.ops.aten.baddbmm_: _batched_into,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
}
