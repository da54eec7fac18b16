"""Convolutions by tiles and by FFT give what the library's convolution gives, on any shape."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from moda.render.liveportrait import cost
from moda.render.liveportrait.conv import Conv, WideConv2d, WideConv3d, convolve, enlarge_nearest
from moda.render.liveportrait.tiles import F23, F43, UP2, UP4, TileConv

sides = st.integers(1, 19)
channels = st.integers(1, 9)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, enlarge: int) -> torch.Tensor:
    """In float64, over the enlarged map itself."""
    x = enlarge_nearest(x.double(), enlarge)
    return convolve(x, weight.double(), None if bias is None else bias.double())


@pytest.mark.parametrize(("algorithm", "enlarge"), [(F23, 1), (F43, 1), (UP2, 2), (UP4, 4)])
@settings(deadline=None, max_examples=25)
@given(
    n=st.integers(1, 3),
    h=sides,
    w=sides,
    c=channels,
    out=channels,
    depth=st.integers(0, 5),
    biased=st.booleans(),
)
def test_tiles_equal_the_plain_convolution(algorithm, enlarge, n, h, w, c, out, depth, biased):
    shape = (n, depth, h, w, c) if depth else (n, h, w, c)
    weight = randn(out, c, *([3] * (3 if depth else 2)))
    bias = randn(out) if biased else None
    x = randn(*shape)
    expected = plain(x, weight, bias, enlarge)
    made = TileConv(weight, bias, algorithm)(x)
    assert made.shape == expected.shape
    torch.testing.assert_close(made.double(), expected, rtol=1e-4, atol=3e-4)


@settings(deadline=None, max_examples=10)
@given(
    n=st.integers(1, 2),
    d=st.integers(1, 9),
    h=st.integers(1, 37),
    w=st.integers(1, 37),
    c=channels,
    out=channels,
)
def test_wide_convolution_by_fft_equals_the_plain_one(n, d, h, w, c, out):
    x, weight, bias = randn(n, d, h, w, c), randn(out, c, 7, 7, 7) / 20, randn(out)
    expected = plain(x, weight, bias, 1)
    for fast in (True, False):
        torch.testing.assert_close(WideConv3d(weight, bias, fast)(x).double(), expected, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=10)
@given(n=st.integers(1, 2), d=st.integers(1, 5), h=sides, w=sides, c=channels, spare=st.integers(0, 2))
def test_wide_convolution_of_flattened_depth_equals_the_plain_one(n, d, h, w, c, spare):
    x, weight, bias = randn(n, d, h, w, c + spare), randn(1, c * d, 7, 7) / 20, randn(1)
    flat = x[..., :c].permute(0, 4, 1, 2, 3).flatten(1, 2)
    expected = F.conv2d(flat.double(), weight.double(), bias.double(), padding=3)[:, 0]
    torch.testing.assert_close(
        WideConv2d(weight, bias, d, c + spare)(x).double(), expected, rtol=1e-4, atol=1e-4
    )


def test_strips_join_to_the_whole():
    weight, x = randn(8, 3, 3, 3), randn(1, 200, 90, 3)
    for enlarge in (1, 2):
        for fast in (True, False):
            conv = Conv(weight, None, enlarge, fast)
            whole = conv(x)
            joined = torch.full_like(whole, torch.nan)
            for rows, strip in conv.strips(x):
                joined[:, rows] = strip
            assert torch.equal(joined, whole)


@pytest.mark.parametrize(("enlarge", "fewer"), [(1, 4), (2, 4), (4, 16)])
def test_operations_saved(enlarge, fewer):
    """The transforms cost a part of it, less the wider a layer is."""
    weight, x = torch.zeros(512, 512, 3, 3), torch.zeros(1, 16, 16, 512)
    done = cost.count(lambda: Conv(weight, None, enlarge)(x))
    asked = cost.count(lambda: Conv(weight, None, enlarge, fast=False)(x))
    assert 0.6 * fewer < asked / done <= fewer


def test_operations_of_the_published_code():
    """The figures measured on it: 64.1, 342.1 and 891.6 GFLOP."""
    assert {name: round(gflop, 1) for name, gflop in cost.published().items()} == {
        "F": 64.1,
        "W": 342.1,
        "G": 891.6,
    }
