"""Networks as ONNX: each gives torch's numbers; the example samples without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moda import ModaError
from moda.interchange import networks
from moda.weights.description import Description

pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def test_a_models_networks_are_the_same_and_sample_without_torch(tiny, tmp_path):
    found = networks.export(tiny, Description.read(tiny), tmp_path / "out", check=True)
    assert {name for name, _ in found} == {"encoder", "velocity"}
    assert all(error < networks.TOLERANCE for _, error in found)
    config = json.loads((tmp_path / "out" / "config.json").read_text())["generator"]["config"]
    shape = (2 * config["segment"], config["audio_layers"], config["audio_width"])
    np.save(tmp_path / "features.npy", np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['x', {str(tmp_path / 'out')!r}, {str(tmp_path / 'features.npy')!r}, {str(tmp_path / 'm.npy')!r}]\n"
        f"exec(compile(open({str(ROOT / 'examples' / 'onnx_sample.py')!r}).read(), 'x', 'exec'), {{'__name__': '__main__'}})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    motion = np.load(tmp_path / "m.npy")
    assert motion.shape == (shape[0], config["motion_dim"]) and np.isfinite(motion).all()


def test_the_published_generators_step(tmp_path):
    import torch

    from moda.generator.config import PUBLISHED
    from moda.generator.model import MotionTransformer

    torch.manual_seed(0)
    (network,) = networks.velocity(MotionTransformer(PUBLISHED))
    for parameter in network.module.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    assert networks.difference(network, networks.write(network, tmp_path / "v.onnx")) < networks.TOLERANCE


@pytest.mark.whole_renderer
@pytest.mark.parametrize("name", ["F", "M", "W", "G"])
def test_liveportraits_networks(name, tmp_path):
    from moda.render.liveportrait.bench import random_renderer

    network = {n.name: n for n in networks.liveportrait(random_renderer(fast=False))}[name]
    assert networks.difference(network, networks.write(network, tmp_path / "x.onnx")) < networks.TOLERANCE


def test_a_folder_that_cannot_be_made_is_said(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ModaError, match="cannot write into"):
        networks.export(tiny, Description.read(tiny), tmp_path / "file" / "out")


def test_moditalkers_networks(tmp_path):
    """Of the small model, whose weights are here."""
    from moda.weights.folder import MODITALKER

    found = dict(networks.export(MODITALKER, Description.read(MODITALKER), tmp_path / "out", check=True))
    assert set(found) == {"encoder", "landmarks", "planes", "landmark_planes", "unet", "clip"}


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("make", [networks.hubert, networks.hubert50])
def test_huberts_networks(make, large, tmp_path):
    """Random weights; large: of HuBERT base's size."""
    import torch

    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": (8,) * 7,
             "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}  # fmt: skip
    torch.manual_seed(0)
    model = transformers.HubertModel(transformers.HubertConfig(**({} if large else small))).eval()
    (network,) = make(model)
    assert networks.difference(network, networks.write(network, tmp_path / "x.onnx")) < networks.TOLERANCE


@pytest.mark.parametrize("width", [64, 512])
def test_whispers_network(width, tmp_path):
    """Random weights; 512 is Whisper base's width."""
    import torch

    from moda.audio.whisper import WhisperNet

    torch.manual_seed(0)
    (network,) = networks.whisper(WhisperNet(width, 4, 1500).eval().requires_grad_(False), (2, 3, 4))
    assert networks.difference(network, networks.write(network, tmp_path / "x.onnx")) < networks.TOLERANCE
