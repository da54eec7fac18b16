"""Every network's path on torch's `meta` device and in bfloat16: a tensor on the wrong device or of the wrong type fails."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from moda.generator import flow
from moda.generator.bench import random_model
from moda.generator.config import PUBLISHED
from moda.generator.sampler import Sampler
from moda.packed import PackedLinear
from moda.render.liveportrait.appearance import Appearance
from moda.render.liveportrait.bench import RandomReader
from moda.render.liveportrait.decoder import Decoder
from moda.render.liveportrait.extractor import Extractor
from moda.render.liveportrait.stitching import EYE, LIP, STITCHING, Mlp, retarget, stitch
from moda.render.liveportrait.warping import Warping

SMALL = replace(
    PUBLISHED, width=64, heads=4, depths=(1, 1, 2), audio_layers=3, audio_width=16, audio_hidden=32, steps=3
)
PLACES = [("meta", torch.float32), ("meta", torch.float16), ("cpu", torch.bfloat16)]
places = pytest.mark.parametrize(("device", "dtype"), PLACES)
heavy = pytest.mark.parametrize(  # half precision on a processor without units for it takes minutes
    ("device", "dtype"),
    [pytest.param(*place, marks=pytest.mark.slow if place[0] == "cpu" else ()) for place in PLACES],
)


def check(x: torch.Tensor, device: str, *shape: int, dtype: torch.dtype | None = None) -> None:
    assert x.device.type == device and tuple(x.shape) == shape
    assert dtype is None or x.dtype == dtype
    assert device == "meta" or torch.isfinite(x.float()).all()


class Reader(RandomReader):
    """Without the time that random numbers take, where none are looked at."""

    def take(self, key: str, *shape: int) -> torch.Tensor:
        return torch.empty(shape, device="meta") if self.device.type == "meta" else super().take(key, *shape)


@places
@pytest.mark.parametrize("guidance", [1.0, 1.2])
@pytest.mark.parametrize("known", [0, 5], ids=["whole", "clamped"])
def test_sampling(device, dtype, guidance, known):
    """The generator, guided and not; `clamped` as the live scheme starts from frames that were given out."""
    model = random_model(SMALL, device, dtype)
    sampler = Sampler(model, np.ones(63, np.float32), 2, 0, 3, guidance)
    sampler.set_emotion(4)
    samples = list(
        sampler.solve(
            np.ones((8, 3, 16), np.float32),
            np.ones(70, np.float32),
            sampler.noise(8),
            np.zeros((known, 70), np.float32),
        )
    )
    assert len(samples) == 3
    check(samples[-1], device, 8, 70, dtype=torch.float32)


@places
def test_training_pairs(device, dtype):
    pair = flow.training_pair(torch.zeros(2, 8, 70, device=device, dtype=dtype))
    check(pair.x_0(pair.target), device, 2, 8, 70, dtype=dtype)


@heavy
def test_appearance(device, dtype):
    network = Appearance(Reader("F", device, dtype, fast=False))
    check(
        network(torch.zeros(1, 256, 256, 3, device=device, dtype=dtype)),
        device,
        *(1, 16, 64, 64, 32),
        dtype=dtype,
    )


@places
def test_extractor(device, dtype):
    heads = Extractor(Reader("M", device, dtype, fast=False))(
        torch.zeros(1, 256, 256, 3, device=device, dtype=dtype)
    )
    check(heads["exp"], device, 1, 63, dtype=torch.float32)


@heavy
def test_frame(device, dtype):
    warping, decoder = (
        kind(Reader(name, device, dtype, fast=False)) for kind, name in ((Warping, "W"), (Decoder, "G"))
    )
    points = torch.zeros(21, 3, device=device)
    source = warping.prepare(torch.zeros(16, 64, 64, 32, device=device, dtype=dtype), points)
    features = warping(source, points[None])
    check(features, device, 1, 64, 64, 256, dtype=dtype)
    check(decoder(features), device, 1, 512, 512, 3, dtype=torch.float32)


@places
def test_stitching(device, dtype):
    shoulder, lip, eye = (Mlp(Reader("S", device, dtype), widths) for widths in (STITCHING, LIP, EYE))
    points = torch.zeros(2, 21, 3, device=device, dtype=dtype)
    check(stitch(shoulder, points, points), device, 2, 21, 3)
    check(retarget(lip, points, points.new_zeros(2, 2)), device, 2, 21, 3)
    check(retarget(eye, points, points.new_zeros(2, 3)), device, 2, 21, 3)


@places
def test_speech(device, dtype):
    from moda.audio.mel import BANDS
    from moda.audio.speech import PER_FRAME, SpeechEncoder

    net = SpeechEncoder.load().net.to(device, dtype)
    with torch.inference_mode():
        heard = net(torch.zeros(1, 60 * PER_FRAME, BANDS, device=device, dtype=dtype))
    for part in vars(heard).values():
        assert part.device.type == device and part.dtype == dtype
        assert device == "meta" or torch.isfinite(part).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_packed_products(dtype):
    """Packed or, as in half precision, not: the library's numbers."""
    random = torch.Generator().manual_seed(0)
    x, w, b, to = (
        torch.randn(s, generator=random).to(dtype) for s in ((3, 5, 32), (64, 32), (64,), (3, 5, 64))
    )
    product, plain = PackedLinear(w, b), torch.nn.functional.linear(x, w, b)
    bound = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 0.2, "rtol": 0.02}
    with torch.inference_mode():
        torch.testing.assert_close(product(x), plain, **bound)
        gelu = torch.nn.functional.gelu(plain, approximate="tanh")
        torch.testing.assert_close(product(x, gelu=True), gelu, **bound)
        torch.testing.assert_close(product.add(x, to), to + plain, **bound)
