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


# -- training, data, sound ----------------------------------------------------------------------


def test_atom_loss_and_adan(atom):
    from moda.training.adan import Adan

    g = golden("atom_loss")
    x, face = given(1021, (2, 156, 204), 0.3), given(1022, (2, 1, 204), 0.3)
    audio, noise, t = given(1023, (2, 312, 1024)), given(1030, (2, 156, 204)), torch.tensor([100, 700])
    noisy = Schedule.cosine().noised(x, noise, t)
    with torch.no_grad():
        for drop, name in ((False, "cond"), (True, "uncond")):
            out = atom(noisy, t, atom.condition(audio, face, torch.tensor([drop, drop])))
            position = 7.5 * (out - x).square().mean()
            velocity = 1.5 * (out - x).diff(dim=1).square().mean()
            theirs = g[f"{name}.loss"]
            assert np.allclose([position + velocity, position, velocity], theirs, rtol=2e-5)
    p = torch.nn.Parameter(given(1040, (6,)))
    optimizer = Adan([p], lr=4e-4, weight_decay=0.02)
    for seed, theirs in zip(range(1041, 1045), g["adan_params_after_each_step"]):
        p.grad = given(seed, (6,))
        optimizer.step()
        assert np.abs(p.detach().numpy() - theirs).max() < 1e-6


def test_discriminators():
    from moda.training.discriminators import Discriminators, discriminator_loss, generator_loss

    g = golden("mtov_gan_loss")
    judge = Discriminators()
    judge.load_state_dict(by_rule("mtov_discriminators"), strict=True)
    real, fake = (given(seed, (2, 3, 16, 64, 64), s).clamp(-1, 1) for seed, s in ((5001, 0.5), (5002, 0.4)))
    frame = torch.tensor([3, 11])
    with torch.no_grad():
        two, three = judge(real, torch.tensor([3, 3]))
        near(two[-1], g["logits_2d"], 1e-4)
        near(three[-1], g["logits_3d"], 1e-4)
        l1 = 4 * (real - fake).abs().mean()
        assert np.allclose(float(l1), g["l1_times_4"], rtol=1e-5)
        assert np.allclose(
            float(l1 + generator_loss(judge, real, fake, frame)), g["generator_loss_gan"], rtol=1e-4
        )
        assert np.allclose(
            float(discriminator_loss(judge, real, fake, frame)), g["discriminator_loss_gan"], rtol=1e-4
        )


def test_only_discriminators_learn_from_their_loss():
    from moda.training.discriminators import Discriminators, generator_loss

    judge = Discriminators()
    real = torch.zeros(1, 3, 16, 64, 64)
    fake = torch.zeros(1, 3, 16, 64, 64, requires_grad=True)
    generator_loss(judge, real, fake, torch.tensor([0])).backward()
    assert fake.grad is not None and all(p.grad is None for p in judge.parameters())


@pytest.mark.slow
@torch.no_grad()
def test_unet_loss(published_unet):
    x = given(3030, (2, 4, 2048), 0.6).clamp(-1, 1)
    reference = given(3032, (2, 4, 1024), 0.6).clamp(-1, 1)
    reference = torch.cat([reference, torch.zeros(2, 4, 1024)], dim=-1)
    conditions = torch.cat([given(3031, (2, 8, 2048), 0.6).clamp(-1, 1), reference], dim=1)
    noise, t = given(3040, (2, 4, 2048)), torch.tensor([100, 700])
    out = published_unet(Schedule.scaled_linear().noised(x, noise, t), conditions, t)
    assert np.allclose(float((out - noise).square().mean()), golden("mtov_loss")["loss_l2"], rtol=1e-4)


def test_average_of_the_weights():
    theirs = golden("mtov_loss")["ema_weight_after_each_update"]
    mean = given(3050, (2, 3))
    for n, seed in enumerate(range(3052, 3055), 1):
        mean.lerp_(given(seed, (2, 3)), 1 - min(0.9999, (1 + n) / (10 + n)))
        near(mean, theirs[n - 1], 3e-7)


@pytest.mark.parametrize(("name", "height", "width"), [("tall", 310, 280), ("wide", 270, 333)])
def test_data_as_published(name, height, width):
    from moda.render.triplane.region import published_frames

    g = golden("mtov_data")
    frames = np.random.default_rng(7001).integers(0, 256, (2, 3, height, width)).astype(np.float32)
    near(published_frames(torch.from_numpy(frames))[:, :, ::16, ::16], g[name], 1e-4)
    hidden = published_frames(torch.from_numpy(frames), 171.6)
    near(hidden[:, :, ::16, ::16], g[f"{name}_masked"], 1e-4)


def test_landmarks_aligned_as_published():
    from moda.render.triplane.region import published_alignment

    g = golden("landmarks")
    angles, translation = randn(4010, (3, 3), 0.3), randn(4011, (3, 3), 0.05)
    landmarks, model = randn(4012, (3, 68, 3), 0.4), randn(4014, (5, 3), 0.4)
    detected = np.random.default_rng(4013).uniform(60, 200, (3, 68, 2))
    ours = published_alignment(landmarks, angles, translation, detected, model, (256, 256))
    assert np.abs(ours - g["aligned"]).max() < 3e-12


def test_pieces_of_sound():
    from moda.audio.hubert50 import features_in, pieces

    for row in json.loads((GOLDEN / "hubert_chunks.json").read_text()):
        assert [list(p) for p in pieces(row["samples"])] == [p[:2] for p in row["pieces_start_len_frames"]]
        assert features_in(row["samples"]) == row["frames"]


@pytest.mark.slow
@torch.no_grad()
def test_hubert_large(shared):
    from transformers import HubertConfig, HubertModel

    config = HubertConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096, conv_bias=True,
        feat_extract_norm="layer", do_stable_layer_norm=True,
    )  # fmt: skip
    model = HubertModel(config).eval()
    shapes = json.loads((shared / "golden/moditalker/state_dict_hubert_large.json").read_text())
    model.load_state_dict({k: torch.from_numpy(weight(k, tuple(s))) for k, s in shapes.items()})
    out = model(given(6001, (1, 32000))).last_hidden_state
    near(out.reshape(99, 1024)[::9], golden("hubert_large")["out_2s"].reshape(11, 1024), 2.2e-5)


@pytest.mark.slow
def test_converting_the_released_files(tmp_path):
    """AToM's dict and both autoencoders, with weights by rule, as torch writes them; a HuBERT of any size."""
    from transformers import HubertConfig, HubertModel

    from moda.cli import run
    from moda.weights.description import Description

    small = HubertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=(16,) * 7
    )
    HubertModel(small).save_pretrained(tmp_path / "hubert-large")
    tensors = by_rule("atom")
    wrong = {k: v + 1 for k, v in tensors.items()}
    torch.save(
        {"ema_state_dict": wrong, "model_state_dict": tensors, "optimizer_state_dict": {}},
        tmp_path / "atom.pth",
    )
    torch.save(by_rule("triplane"), tmp_path / "rgb.pth")
    torch.save(by_rule("triplane"), tmp_path / "landmark.pth")
    assert run(["weights", "convert", str(tmp_path)]) == 0
    generator = Description.read(tmp_path).generator.load(tmp_path, "cpu", "float32")
    assert torch.equal(generator.model.final_layer.weight, tensors["final_layer.weight"])
    assert {"autoencoder.safetensors", "landmarks.safetensors"} <= {p.name for p in tmp_path.iterdir()}
