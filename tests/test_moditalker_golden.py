"""MoDiTalker's networks: the published numbers, with weights by rule (tests/rule.py).

Bounds are ten times the error that the reference has against itself in float64. Networks of real size are marked slow.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rule import randn, weight
from safetensors.numpy import load_file

from moda.diffusion import Schedule, ddim, from_data, from_noise
from moda.errors import ModaError
from moda.generator.atom.model import MotionDecoder
from moda.generator.atom.published import load_published as load_atom
from moda.render.triplane import autoencoder, unet
from moda.render.triplane.autoencoder import TriplaneAutoencoder
from moda.render.triplane.config import PUBLISHED as VIDEO
from moda.render.triplane.config import TriplaneConfig
from moda.render.triplane.dots import DOT, draw
from moda.render.triplane.unet import PlaneUNet

GOLDEN = Path(__file__).parent / "golden" / "moditalker"
TABLES = ("freqs", "inv_freqs", "scales", "coords")
SMALL = TriplaneConfig(
    **{**VIDEO.triplane.__dict__, "size": 64, "channels": 64},
)


def golden(name: str) -> dict[str, np.ndarray]:
    return load_file(GOLDEN / f"{name}.safetensors")


def near(ours: torch.Tensor, theirs: np.ndarray, bound: float) -> None:
    assert tuple(ours.shape) == theirs.shape
    assert np.abs(ours.numpy() - theirs).max() <= bound


def by_rule(name: str) -> dict[str, torch.Tensor]:
    shapes = json.loads((GOLDEN / f"state_dict_{name}.json").read_text())
    return {
        k: torch.zeros(s) if k.split(".")[-1] in TABLES else torch.from_numpy(weight(k, tuple(s)))
        for k, s in shapes.items()
    }


def given(seed: int, shape: tuple[int, ...], scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(randn(seed, shape, scale))


def noises(seed: int, shape: tuple[int, ...]):
    seeds = iter(range(seed, seed + 1000))
    return lambda: given(next(seeds), shape)


# -- schedules ----------------------------------------------------------------------------------


def test_schedules():
    for schedule, name in ((Schedule.cosine(), "atom"), (Schedule.scaled_linear(), "mtov")):
        theirs = golden(f"{name}_schedule")["alphas_cumprod"]
        assert np.abs(schedule.alphas.numpy() - theirs).max() < 1e-6
        assert np.abs(schedule.alphas.numpy() / theirs - 1).max() < 1e-4
    for name, counts in (("atom_schedule", {50: "ddim50_times", 5: "ddim5_times"}), ("mtov_schedule", {100: "times_100", 8: "times_8", 3: "times_3"})):  # fmt: skip
        for steps, key in counts.items():
            pairs = schedule.grid(steps)
            assert [t for t, _ in pairs] + [pairs[-1][1]] == sorted(golden(name)[key].tolist(), reverse=True)
    assert [t for t, _ in schedule.grid(100, 0.25)][:2] == [249, 239] and len(schedule.grid(100, 0.25)) == 25


# -- AToM ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def atom() -> MotionDecoder:
    return load_atom(by_rule("atom"), "the rule").requires_grad_(False)


def test_the_released_layout_of_atom_loads_strictly():
    tensors = by_rule("atom")
    assert sum(v.numel() for k, v in tensors.items() if not k.endswith("freqs")) == 65_177_292
    lacking = {k: v for k, v in tensors.items() if k != "pos_projection.bias"}
    with pytest.raises(ModaError, match=r"lacks pos_projection\.bias"):
        load_atom(lacking, "the file")
    with pytest.raises(ModaError, match="has unknown wrong"):
        load_atom(tensors | {"wrong": torch.zeros(1)}, "the file")


@torch.no_grad()
def test_atom_with_every_path(atom):
    g = golden("atom_forward_sharp")
    tensors = {k: v * 1.0 for k, v in by_rule("atom").items()}
    for key, value in tensors.items():
        if key.endswith("in_proj_weight"):
            value[:1024] *= np.float32(1.8)
    sharp = load_atom(tensors, "the rule")
    audio, face = given(1003, (1, 312, 1024)), given(1004, (1, 156, 204))
    t = torch.tensor([437])
    for drop, name, step in ((False, "out", 2), (True, "uncond.out", 12)):
        condition = sharp.condition(audio, face, torch.tensor([drop]))
        near(sharp(given(1001, (1, 156, 204)), t, condition)[:, ::step], g[name], 5.8e-4)


@torch.no_grad()
def test_atom_forward(atom, shared):
    g = load_file(shared / "golden" / "moditalker" / "atom_forward.safetensors")
    audio, face = given(1003, (2, 312, 1024)), given(1002, (2, 1, 204))
    x, t = given(1001, (2, 156, 204)), torch.tensor([999, 437])
    for drop, name, bound in ((False, "cond", 9.7e-5), (True, "uncond", 1e-4)):
        out = atom(x, t, atom.condition(audio, face, torch.tensor([drop, drop])))
        near(out[:, ::4], g[f"{name}.out"], bound)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "seed", "rows"),
    [("last5", 1100, 2), pytest.param("50", 1200, 6, marks=pytest.mark.slow)],
)
def test_atom_sampler(atom, name, seed, rows, request):
    g = (
        golden("atom_sample_last5")
        if name == "last5"
        else load_file(request.getfixturevalue("shared") / "golden/moditalker/atom_sample50.safetensors")
    )
    schedule = Schedule.cosine()
    both = torch.tensor([True, False])
    audio, face = given(1013, (1, 312, 1024)), given(1012, (1, 1, 204), 0.3)
    condition = atom.condition(audio.expand(2, -1, -1), face.expand(2, -1, -1), both)

    def network(x: torch.Tensor, t: int) -> torch.Tensor:
        null, known = atom(x.expand(2, -1, -1), torch.full((2,), t), condition).chunk(2)
        return null + 2 * (known - null)

    pairs = schedule.grid(50)[-5:] if name == "last5" else schedule.grid(50)
    draw_noise = noises(seed + 1, (1, 156, 204))
    steps = list(
        ddim(from_data(network, schedule, 1.0), schedule, given(seed, (1, 156, 204)), pairs, draw_noise)
    )
    near(steps[-1][0, ::rows], g["out"], 1.1e-4)


def test_few_steps_give_numbers(atom):
    """The published code gives NaN here."""
    schedule = Schedule.cosine()
    estimate = from_data(lambda x, t: x * 0 + 0.5, schedule, 1.0)
    *_, out = ddim(estimate, schedule, torch.ones(3), schedule.grid(5), lambda: torch.ones(3))
    assert torch.isfinite(out).all()


# -- tri-planes ---------------------------------------------------------------------------------


def test_dots():
    g = golden("landmarks")
    assert {tuple(p) for p in DOT} == {tuple(p) for p in g["dot_offsets_xy"]}
    points = np.random.default_rng(4001).uniform(-6, 262, (2, 68, 2)).astype(np.float64)
    for scale, name in ((1, "draw_256"), (2, "draw_512")):
        for ours, theirs in zip(points * scale, g[name]):
            assert np.array_equal(np.packbits(draw(ours, 256 * scale, 256) > 0, axis=-1), theirs)


@pytest.mark.parametrize("name", ["triplane_small", pytest.param("triplane", marks=pytest.mark.slow)])
@torch.no_grad()
def test_triplane(name):
    g = golden(name)
    config = SMALL if name == "triplane_small" else VIDEO.triplane
    model = autoencoder.load_published(by_rule(name), "the rule", config)
    seed = 2011 if name == "triplane_small" else 2001
    clip = given(seed, (1, 3, 16, config.size, config.size), 0.4).clamp(-1, 1)
    latent = model.encode(clip)
    near(latent[0], g["latent"], 8.3e-5 if name == "triplane_small" else 6.4e-5)
    recon = model.decode(latent)[0].transpose(0, 1)
    if name == "triplane_small":
        near(recon[::2, :, ::4, ::4], g["recon"], 7.6e-5)
        free = model.decode(given(2012, (1, 4, 320), 0.5).clamp(-1, 1))[0].transpose(0, 1)
        near(free[::3, :, ::8, ::8], g["free.recon"], 7.6e-5)
    else:
        near(recon[:, :, ::16, ::16], g["recon"], 1.8e-4)


@torch.no_grad()
def test_a_still_clip_costs_one_frame():
    model = autoencoder.load_published(by_rule("triplane_small"), "the rule", SMALL)
    picture = given(1, (1, 3, 64, 64), 0.4).clamp(-1, 1)
    whole = model.encode(picture[:, :, None].expand(-1, -1, 16, -1, -1))
    near(model.encode_still(picture), whole.numpy(), 5e-5)
    near(model.encode_still(picture, ("xy",)), whole[..., :64].numpy(), 5e-5)


def test_the_released_layouts_of_the_autoencoders_load_strictly():
    tensors = by_rule("triplane_small")
    for wrong, message in (
        ({k: v for k, v in tensors.items() if k != "coords"}, "lacks coords"),
        (tensors | {"else": torch.zeros(1)}, "has unknown else"),
    ):
        with pytest.raises(ModaError, match=message):
            autoencoder.load_published(wrong, "the file", SMALL)
    with torch.device("meta"):
        full = TriplaneAutoencoder(VIDEO.triplane)
    shapes = json.loads((GOLDEN / "state_dict_triplane.json").read_text())
    ours = {k: list(v.shape) for k, v in full.state_dict().items()}
    assert ours | {k: list(s) for k, s in autoencoder.tables(VIDEO.triplane).items()} == shapes


# -- the UNet -----------------------------------------------------------------------------------


def test_the_unets_layout():
    with torch.device("meta"):
        model = PlaneUNet(VIDEO.unet, VIDEO.triplane)
        unused = model.unused()
    shapes = json.loads((GOLDEN / "state_dict_mtov_unet.json").read_text())
    ours = {unet.PREFIX + k: list(v.shape) for k, v in model.state_dict().items()}
    assert ours | {unet.PREFIX + k: list(s) for k, s in unused.items()} == shapes


@pytest.fixture(scope="module")
def published_unet() -> PlaneUNet:
    return unet.load_published(by_rule("mtov_unet"), "the rule", VIDEO.unet, VIDEO.triplane).requires_grad_(
        False
    )


def conditions() -> torch.Tensor:
    reference = torch.zeros(1, 4, 2048)
    reference[..., :1024] = given(3003, (1, 4, 1024), 0.6).clamp(-1, 1)
    return torch.cat([given(3002, (1, 8, 2048), 0.6).clamp(-1, 1), reference], dim=1)


@pytest.mark.slow
@torch.no_grad()
def test_unet(published_unet):
    out = published_unet(given(3001, (1, 4, 2048)), conditions(), torch.tensor([437]))
    near(out.reshape(golden("mtov_unet")["out"].shape), golden("mtov_unet")["out"], 2.5e-5)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "steps", "part"), [("mtov_sample3", 3, 1.0), ("mtov_sample_noisy_start", 8, 0.25)]
)
def test_unet_sampler(published_unet, name, steps, part):
    schedule = Schedule.scaled_linear()
    shape = (1, 4, 2048)
    start = given(3100, shape)
    if part < 1:
        latent = given(3020, shape, 0.6).clamp(-1, 1)
        start = schedule.noised(latent, start, torch.tensor([int(len(schedule) * part)]))
    estimate = from_noise(lambda x, t: published_unet(x, conditions(), torch.tensor([t])), schedule, 1.0)
    *_, out = ddim(estimate, schedule, start, schedule.grid(steps, part), noises(3101, shape))
    theirs = golden(name)["out"]
    near(out.reshape(theirs.shape), theirs, 4.7e-4 if part == 1 else 1.6e-5)
