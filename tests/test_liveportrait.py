"""LivePortrait's networks against numbers of the published code, with weights by rule (tests/rule.py)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rule
import torch
from safetensors.torch import load_file, save_file

from moda.errors import ModaError
from moda.render.liveportrait.appearance import Appearance
from moda.render.liveportrait.decoder import Decoder
from moda.render.liveportrait.extractor import Extractor
from moda.render.liveportrait.reader import Reader
from moda.render.liveportrait.stitching import EYE, LIP, STITCHING, Mlp, retarget, stitch
from moda.render.liveportrait.warping import Warping, _axis, _sampler

GOLDEN = Path(__file__).parent / "golden"
SHAPES = json.loads((GOLDEN / "lp_shapes.json").read_text())


def weights(name: str) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(np.asarray(w)) for key, w in rule.state_dict(SHAPES[name]).items()}


def randn(seed: int, *shape: int, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(rule.randn(seed, shape, scale))


def picture(seed: int, scale: float) -> torch.Tensor:
    return (randn(seed, 1, 3, 256, 256, scale=scale) + 0.5).clamp(0, 1).permute(0, 2, 3, 1)


def assert_near(made: torch.Tensor, expected: torch.Tensor, relative: float = 1e-4) -> None:
    """Within `relative` of the largest number expected."""
    assert made.shape == expected.shape
    error = (made - expected).abs().max() / expected.abs().max()
    assert error < relative, f"relative error {error:.2g}"


def test_appearance():
    golden = load_file(GOLDEN / "lp_F.safetensors")
    out = Appearance(Reader("F", weights("F")))(picture(501, 0.2))
    assert out.shape == (1, 16, 64, 64, 32)
    assert_near(out[0, 7, 31].T, golden["row"])
    assert_near(out.mean(dim=(0, 1, 2, 3)), golden["channel_mean"])
    assert_near(out.std(dim=(0, 1, 2, 3), correction=0), golden["channel_std"])


def test_extractor():
    golden = load_file(GOLDEN / "lp_M.safetensors")
    heads = Extractor(Reader("M", weights("M")))(torch.cat([picture(501, 0.2), picture(502, 0.25)]))
    for name, head in heads.items():
        assert_near(head, golden["raw_" + name])


def test_stitching_and_retargeting():
    golden = load_file(GOLDEN / "lp_S.safetensors")
    source, driving = golden["kp_source"], golden["kp_driving"]
    shoulder = Mlp(Reader("S", weights("S_stitching")), STITCHING)
    lip, eye = Mlp(Reader("S", weights("S_lip")), LIP), Mlp(Reader("S", weights("S_eye")), EYE)
    assert_near(shoulder(torch.cat([source.flatten(1), driving.flatten(1)], 1)), golden["stitch_delta"])
    before = driving.clone()
    assert_near(stitch(shoulder, source, driving), golden["stitched"])
    assert torch.equal(driving, before)  # what is given stays
    assert_near(retarget(lip, source, golden["lip_ratio"]), golden["lip_delta"])
    assert_near(retarget(eye, source, golden["eye_ratio"]), golden["eye_delta"])


@pytest.mark.parametrize("size", [16, 64])
def test_a_shifted_axis_samples_as_the_library_does(size):
    """One axis of the three; the others are constant, and sampled in their middle."""
    shifts = torch.tensor([0.0, 0.31, -0.7, 2.5])
    values = randn(1, 1, 1, 1, size)
    axis = _axis(size)
    for shift, matrix in zip(shifts, _sampler(axis, shifts)):
        grid = torch.stack([axis + shift, torch.zeros(size)], dim=-1)[None, None]
        expected = torch.nn.functional.grid_sample(values, grid, align_corners=False)
        torch.testing.assert_close(matrix @ values.flatten(), expected.flatten(), rtol=0, atol=2e-5)


@pytest.fixture(scope="module")
def warping() -> Warping:
    return Warping(Reader("W", weights("W")))


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(Reader("G", weights("G")))


@pytest.mark.slow
def test_warping_and_decoder(warping, decoder):
    golden = load_file(GOLDEN / "lp_WG.safetensors")
    volume = randn(540, 1, 32, 16, 64, 64)[0].permute(1, 2, 3, 0)
    source = randn(541, 1, 21, 3, scale=0.4).clamp(-0.95, 0.95)
    driving = source + randn(542, 1, 21, 3, scale=0.08)
    prepared = warping.prepare(volume, source[0])
    deformation, occlusion, logits = warping.motion(prepared, driving)
    stats = [logits.mean(), logits.std(correction=0), logits.min(), logits.max(), logits.double().abs().sum()]
    np.testing.assert_allclose(stats, golden["logit_stats"], rtol=1e-4)
    assert_near(occlusion[:, None, ::2, ::2], golden["occlusion"])
    assert_near(deformation[:, ::4, ::8, ::8], golden["deformation"])
    warped = warping(prepared, driving)
    assert_near(warped.permute(0, 3, 1, 2)[:, ::16, ::8, ::8], golden["warped"])
    out = decoder(warped)
    assert_near(out.permute(0, 3, 1, 2)[:, :, ::16, ::16], golden["picture"])
    made = (out * 255).to(torch.uint8)[:, ::16, ::16]
    assert (
        made.int() - golden["bytes"].int()
    ).abs().max() <= 1  # next to a whole number either side is right
    assert (made == golden["bytes"]).float().mean() > 0.99


@pytest.mark.slow
def test_decoder_alone(decoder):
    golden = load_file(GOLDEN / "lp_WG.safetensors")
    out = decoder(randn(550, 1, 256, 64, 64, scale=0.5).permute(0, 2, 3, 1))
    assert_near(out.permute(0, 3, 1, 2)[:, :, ::16, ::16], golden["alone"])


@pytest.mark.slow
def test_warping_and_decoder_whole(warping, decoder, shared):
    """The reference's own files, all their numbers."""
    golden = load_file(shared / "golden" / "lp_WG.safetensors")
    volume = randn(540, 1, 32, 16, 64, 64)[0].permute(1, 2, 3, 0)
    prepared = warping.prepare(volume, golden["kp_source"][0])
    deformation, occlusion, _ = warping.motion(prepared, golden["kp_driving"])
    assert_near(deformation[:, ::2, ::2, ::2], golden["W_deformation[:,::2,::2,::2]"])
    assert_near(occlusion[:, None], golden["W_occlusion_map"])
    warped = warping(prepared, golden["kp_driving"])
    assert_near(warped.permute(0, 3, 1, 2)[:, ::8, ::2, ::2], golden["W_out[:,::8,::2,::2]"])
    out = decoder(warped).permute(0, 3, 1, 2)
    assert_near(out[:, :, ::4, ::4], golden["G_out[:,:,::4,::4]"])
    assert (out - golden["G_out_fp16"]).abs().max() < 1e-3
    np.testing.assert_allclose(out.mean(dim=(0, 2, 3)), golden["G_out_channel_mean"], rtol=1e-4)


@pytest.mark.slow
def test_library_convolutions_give_the_same(decoder):
    """The way that GPUs take, float32."""
    x = randn(550, 1, 16, 16, 256, scale=0.5)
    plain = Decoder(Reader("G", weights("G"), fast=False))
    assert_near(plain(x), decoder(x))


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.01), (torch.float16, 0.002)])
def test_half_precision_is_near(decoder, dtype, bound):
    x = randn(550, 1, 8, 8, 256, scale=0.5)
    half = Decoder(Reader("G", weights("G"), dtype=dtype, fast=False))
    assert (half(x.to(dtype)) - decoder(x)).abs().mean() < bound


# -- strictness -------------------------------------------------------------------------------------------------


def tiny() -> dict[str, torch.Tensor]:
    return weights("S_stitching")


def test_a_missing_key_is_named():
    tensors = tiny()
    del tensors["mlp.4.bias"]
    with pytest.raises(ModaError, match=r"stitching.*mlp\.4\.bias"):
        Mlp(Reader("stitching", tensors), STITCHING)


def test_an_extra_key_is_named():
    with pytest.raises(ModaError, match=r"stitching.*mlp\.8\.weight"):
        Mlp(Reader("stitching", {**tiny(), "mlp.8.weight": torch.zeros(1)}), STITCHING)


def test_a_misshapen_key_is_named_with_both_shapes():
    with pytest.raises(ModaError, match=r"mlp\.0\.bias.*\(127,\).*\(128,\)"):
        Mlp(Reader("stitching", {**tiny(), "mlp.0.bias": torch.zeros(127)}), STITCHING)


@pytest.mark.parametrize(
    ("name", "network"), [("F", Appearance), ("M", Extractor), ("W", Warping), ("G", Decoder)]
)
def test_every_key_is_needed(name, network):
    """A sample of them, each in turn; the counts of batch norms are what nothing uses."""
    shapes = {k: s for k, s in SHAPES[name].items() if not k.endswith("num_batches_tracked")}
    tensors = {key: torch.zeros(shape) for key, shape in shapes.items()}
    for key in list(shapes)[:: len(shapes) // 3]:
        left = {k: v for k, v in tensors.items() if k != key}
        wanted = key.removesuffix("_orig")  # spectral norm may have been folded before
        with pytest.raises(ModaError, match=wanted.replace(".", r"\.")):
            network(Reader(name, left, fast=False))


def test_spectral_norm_is_folded_and_may_have_been_before():
    tensors = {"c.weight_orig": randn(1, 6, 4, 3, 3), "c.weight_u": randn(2, 6), "c.weight_v": randn(3, 36)}
    sigma = tensors["c.weight_u"] @ tensors["c.weight_orig"].flatten(1) @ tensors["c.weight_v"]
    read = Reader("G", tensors)
    folded = read.spectral("c", 6, 4, 3, 3)
    torch.testing.assert_close(folded, tensors["c.weight_orig"] / sigma)
    read.finish()
    assert torch.equal(Reader("G", {"c.weight": folded}).spectral("c", 6, 4, 3, 3), folded)


def test_spectral_sigma_is_the_published_one(shared):
    golden = load_file(shared / "golden" / "lp_G_spectral_sigma.safetensors")
    shapes = {k: s for k, s in SHAPES["G"].items() if k.startswith("up_1.conv_s.")}
    tensors = {k: torch.from_numpy(v) for k, v in rule.state_dict(shapes).items()}
    folded = Reader("G", tensors).spectral("up_1.conv_s", 64, 256, 1, 1)
    sigma = tensors["up_1.conv_s.weight_orig"].norm() / folded.norm()
    assert sigma == pytest.approx(golden["up_1.conv_s.sigma"].item(), rel=1e-5)


def test_batch_norm_is_folded():
    norm = torch.nn.BatchNorm2d(5).eval()
    conv = torch.nn.Conv2d(3, 5, 3, padding=1)
    with torch.no_grad():
        for i, tensor in enumerate([norm.weight, norm.bias, norm.running_mean]):
            tensor.copy_(randn(i, 5))
        norm.running_var.copy_(randn(9, 5).abs() + 0.5)
    tensors = {f"n.{k}": v for k, v in norm.state_dict().items()} | {
        f"c.{k}": v for k, v in conv.state_dict().items()
    }
    read = Reader("F", tensors)
    weight, bias = read.plain("c", 5, 3, 3, 3, norm="n")
    read.finish()
    x = randn(4, 2, 3, 8, 8)
    torch.testing.assert_close(
        torch.nn.functional.conv2d(x, weight, bias, padding=1), norm(conv(x)), rtol=1e-5, atol=1e-5
    )


# -- files ------------------------------------------------------------------------------------------------------


def test_networks_are_read_from_published_and_converted_files(tmp_path):
    from moda.render.liveportrait.files import read_network

    parts = {"retarget_shoulder": "S_stitching", "retarget_mouth": "S_lip", "retarget_eye": "S_eye"}
    published = {part: {f"module.{k}": v for k, v in weights(n).items()} for part, n in parts.items()}
    nested = tmp_path / "published" / "liveportrait" / "retargeting_models"
    nested.mkdir(parents=True)
    torch.save(published, nested / "stitching_retargeting_module.pth")
    converted = tmp_path / "converted"
    converted.mkdir()
    flat = {f"{part}.{k}": v for part, n in parts.items() for k, v in weights(n).items()}
    save_file(flat, converted / "stitching_retargeting_module.safetensors")
    for folder in ("published", "converted"):
        for name, widths in (("stitching", STITCHING), ("lip", LIP), ("eye", EYE)):
            path, tensors = read_network(tmp_path / folder, name)
            Mlp(Reader(str(path), tensors), widths)


def test_missing_and_broken_files_say_which(tmp_path):
    from moda.render.liveportrait.renderer import LivePortraitRenderer

    with pytest.raises(ModaError, match="nowhere"):
        LivePortraitRenderer.load(tmp_path / "nowhere")
    with pytest.raises(ModaError, match="appearance_feature_extractor"):
        LivePortraitRenderer.load(tmp_path)
    for ending in (".pth", ".safetensors"):
        (tmp_path / f"appearance_feature_extractor{ending}").write_bytes(b"no weights")
        with pytest.raises(ModaError, match=f"appearance_feature_extractor{ending}"):
            LivePortraitRenderer.load(tmp_path)
    with pytest.raises(ModaError, match="float8"):
        LivePortraitRenderer.load(tmp_path, precision="float8")
