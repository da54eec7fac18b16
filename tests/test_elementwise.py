"""GELU and RMS norm: torch's own numbers and gradients, also where a row is all zeros or large."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from moda import elementwise

CASES = {
    "gelu": (elementwise.gelu, lambda x: F.gelu(x, approximate="tanh")),
    "rms_norm": (lambda x: elementwise.rms_norm(x, 1e-5), lambda x: F.rms_norm(x, x.shape[-1:], eps=1e-5)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_and_gradients(name, dtype):
    ours, theirs = CASES[name]
    x = (
        torch.randn(6, 33, generator=torch.Generator().manual_seed(0))
        * torch.tensor([0, 1e-3, 1, 3, 30, 1e4])[:, None]
    )
    results = []
    for function in (ours, theirs):
        given = x.to(dtype).requires_grad_()
        made = function(given)
        (made * torch.linspace(-1, 1, 33)).sum().backward()
        results.append((made.detach(), given.grad, function(x.to(dtype))))
    for mine, expected in zip(*results):
        assert mine.dtype == expected.dtype and expected.isfinite().all()
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)
