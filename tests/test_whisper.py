"""Whisper's early layers: the published numbers, whole and streamed, strict about files."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from moda import ModaError
from moda.audio.whisper import BANDS, WhisperEncoder, WhisperNet, log_mel


@pytest.fixture
def tiny() -> WhisperEncoder:
    torch.manual_seed(0)
    return WhisperEncoder(WhisperNet(64, 2, 1500).eval().requires_grad_(False), (0, 2))


def test_it_gives_the_published_models_numbers(shared):
    golden = load_file(shared / "teacher/golden_3_seconds.safetensors")
    encoder = WhisperEncoder.load(shared / "teacher/whisper_base_encoder_4_layers.safetensors", range(5))
    mel = log_mel(golden["wave"].float())
    assert torch.allclose(mel, golden["log_mel"].float(), atol=1e-4)
    with torch.no_grad():
        for k, state in enumerate(encoder.net(mel[None])):
            assert torch.allclose(state[0, ::10], golden[f"layer_{k}"].float(), atol=2e-3)


@pytest.mark.parametrize("samples", [640, 16_000, 25 * 16_000, 47 * 16_000 + 333])
def test_frames_are_as_many_as_the_video_has_wherever_it_is_cut(tiny, samples):
    wave = 0.1 * np.random.default_rng(0).standard_normal(samples).astype(np.float32)
    whole = np.concatenate(list(tiny.encode([wave])))
    assert whole.shape == (round(samples / 640), 2, 64)
    parts = np.split(wave, [samples // 3, samples // 2])
    assert np.allclose(np.concatenate(list(tiny.encode(parts))), whole, atol=1e-5)


def test_files_are_read_under_any_published_name(tiny, tmp_path):
    tensors = {f"model.encoder.{k}": v.clone() for k, v in tiny.net.state_dict().items()}
    save_file(tensors | {"model.decoder.rest": torch.zeros(1)}, tmp_path / "model.safetensors")
    wave = 0.1 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    loaded = WhisperEncoder.load(tmp_path, (0, 2))
    assert np.array_equal(loaded.features(wave), tiny.features(wave))


def test_what_does_not_fit_is_named(tiny, tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModaError, match="no Whisper encoder"):
        WhisperEncoder.load(tmp_path)
    tensors = dict(tiny.net.state_dict())
    del tensors["layers.1.fc1.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ModaError, match=r"lacks layers\.1\.fc1\.weight"):
        WhisperEncoder.load(tmp_path, (2,))
    with pytest.raises(ModaError, match="0 to 2"):
        WhisperEncoder(tiny.net, (3,))


def test_silence_and_nothing(tiny):
    assert np.isfinite(tiny.features(np.zeros(16_000, np.float32))).all()
    assert list(tiny.encode([])) == []
    assert BANDS == 80


def test_a_model_folder_can_name_it(tiny, tmp_path):
    from moda.weights.description import WhisperEncoder as Part

    (tmp_path / "whisper").mkdir()
    save_file(dict(tiny.net.state_dict()), tmp_path / "whisper" / "model.safetensors")
    encoder = Part(name="whisper", source="whisper", layers=[0, 2]).load(tmp_path, "cpu")
    assert (encoder.layers, encoder.width) == (2, 64)
