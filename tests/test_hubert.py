"""HuBERT features: golden numbers of the published encoder, streams, padding, and mistakes."""

from __future__ import annotations

import json
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from rule import randn, state_dict
from safetensors.numpy import load_file, save_file

from moda.audio.hubert import HubertEncoder, PreEmphasis, fit, reflect
from moda.errors import ModaError

GOLDEN = Path(__file__).parent / "golden"
transformers = pytest.importorskip("transformers")


def tiny(kind: str = "hubert", **changes):
    config, model = {
        "hubert": (transformers.HubertConfig, transformers.HubertModel),
        "wav2vec2": (transformers.Wav2Vec2Config, transformers.Wav2Vec2Model),
    }[kind]
    torch.manual_seed(0)
    return model(
        config(
            hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24, conv_dim=(8,) * 7,
            num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, **changes,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def encoder() -> HubertEncoder:
    return HubertEncoder(tiny())


@pytest.mark.parametrize("samples", [4480, 16000, 16640, 32000])
def test_padding_is_the_published_one(samples):
    golden = load_file(GOLDEN / "audio_pad.safetensors")
    out = reflect(torch.from_numpy(randn(samples, (samples,)))).numpy()
    assert len(out) == golden[f"pad_out_{samples}_len"][0] == samples + 80
    assert np.array_equal(out[:400], golden[f"pad_out_{samples}_first_400"][0])
    assert np.array_equal(out[-400:], golden[f"pad_out_{samples}_last_400"][0])


def test_golden_base_model():
    """Features of HuBERT base with weights by rule: 94 million of them, about 2 s."""
    golden = load_file(GOLDEN / "hubert.safetensors")
    model = transformers.HubertModel(transformers.HubertConfig())
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    model.load_state_dict({k: torch.from_numpy(v) for k, v in state_dict(shapes).items()})
    encoder = HubertEncoder(model, normalize=False)
    (features,) = encoder.encode([randn(601, (32000,))])
    assert features.shape == (50, 12, 768)
    # 1e-4 of the features' deviation, which is 1
    np.testing.assert_allclose(features[::7, [0, 5, 11]], golden["frames_12_768"], atol=1e-4)
    np.testing.assert_allclose(features.std(dtype=np.float64), golden["stats"][1], rtol=1e-4)


@pytest.mark.parametrize("stable", [False, True])  # True: the large models' order of norms
@pytest.mark.parametrize("kind", ["hubert", "wav2vec2"])
def test_states_are_those_of_transformers(kind, stable):
    """Without the change of rate, the layers' states are transformers' own hidden_states."""
    encoder = HubertEncoder(tiny(kind, do_stable_layer_norm=stable), normalize=False)
    wave = torch.from_numpy(randn(1, (1, 8000)))
    with torch.inference_mode():
        expected = encoder.model(wave, output_hidden_states=True).hidden_states[1:]
        hidden = encoder.model.feature_projection(encoder.model.feature_extractor(wave).transpose(1, 2))
        ours = encoder._layers(hidden[0] if isinstance(hidden, tuple) else hidden)
    assert len(ours) == 3
    for a, b in zip(ours, expected):
        assert torch.equal(a, b)


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("samples", [400, 719, 720, 5000, 32_080])
def test_convolving_by_stretches_changes_nothing(monkeypatch, norm, samples):
    monkeypatch.setattr("moda.audio.hubert.STRETCH", 1700)
    encoder = HubertEncoder(tiny(feat_extract_norm=norm))
    wave = torch.from_numpy(randn(1, (1, samples))) + 0.5
    with torch.inference_mode():
        whole = encoder.model.feature_extractor(wave)
        torch.testing.assert_close(encoder.convolve(wave[None]), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("samples", "frames"), [(640, 1), (959, 1), (961, 2), (16_000, 25), (25_000, 39), (200, 0), (0, 0)]
)
def test_one_vector_for_each_video_frame(encoder, samples, frames):
    out = list(encoder.encode([randn(1, (samples,))]))
    assert sum(map(len, out)) == frames
    assert all(o.shape[1:] == (3, 16) for o in out)


def test_a_stream_equals_the_whole(encoder, monkeypatch):
    monkeypatch.setattr("moda.audio.hubert.PIECE_FRAMES", 50)  # two seconds stand for the minute
    wave = randn(2, (5 * 16_000,))
    whole = np.concatenate(list(encoder.encode([wave])))
    for cuts in ([1, 2, 3], [31_999, 32_000, 32_001], list(range(999, 80_000, 999))):
        assert np.array_equal(np.concatenate(list(encoder.encode(np.split(wave, cuts)))), whole)
    # and each piece is what it is alone
    assert np.array_equal(whole[50:100], encoder.features(wave[32_000:64_000], 50))


def test_memory_does_not_grow_with_the_sound(encoder):
    def peak(minutes: float) -> int:
        tracemalloc.start()
        pieces = (np.full(16_000, 0.1 * (i % 7), dtype=np.float32) for i in range(int(60 * minutes)))
        assert sum(map(len, encoder.encode(pieces))) == 1500 * minutes
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(4) < 1.2 * peak(2)


def test_silence_at_the_end(encoder):
    wave = randn(3, (16_000,))
    resting = HubertEncoder(encoder.model, rest_frames=50)
    out = np.concatenate(list(resting.encode([wave])))
    assert np.array_equal(out, encoder.features(np.concatenate([wave, np.zeros(32_000, np.float32)]), 75))


def test_pre_emphasis_is_a_filter_in_any_pieces():
    from scipy.signal import lfilter

    wave = randn(4, (1000,))
    expected = lfilter([1, -0.97], [1], wave, zi=[2 * wave[0] - wave[1]])[0]
    for cuts in ([], [1], [1, 2, 500], [0, 0, 7]):
        stream = PreEmphasis(0.97)
        parts = [*map(stream.push, np.split(wave, cuts)), stream.flush()]
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-6)
    assert len(PreEmphasis(0.97).flush()) == 0


def test_too_short_is_held_at_its_last_value():
    assert fit(torch.tensor([1.0, 2.0]), 4).tolist() == [1, 2, 2, 2]
    assert fit(torch.arange(5.0), 3).tolist() == [0, 1, 2]


def test_a_saved_folder_loads(encoder, tmp_path):
    encoder.model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": False})
    )
    loaded = HubertEncoder.load(tmp_path)
    assert not loaded.normalize and (loaded.layers, loaded.width) == (3, 16)
    wave = randn(5, (6400,))
    plain = HubertEncoder(encoder.model, normalize=False)
    assert np.array_equal(loaded.features(wave, 10), plain.features(wave, 10))


def test_a_folder_that_does_not_fit_is_named(encoder, tmp_path):
    with pytest.raises(ModaError, match="no config.json"):
        HubertEncoder.load(tmp_path)
    encoder.model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    key = "encoder.layers.1.attention.k_proj.bias"
    bias = tensors.pop(key)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModaError, match=f"lacks {key}"):
        HubertEncoder.load(tmp_path)
    save_file(
        {**tensors, key: bias, "extra.weight": bias},
        tmp_path / "model.safetensors",
        metadata={"format": "pt"},
    )
    with pytest.raises(ModaError, match=r"unknown extra\.weight"):
        HubertEncoder.load(tmp_path)
    save_file({**tensors, key: bias[:-1]}, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModaError, match="cannot be loaded|k_proj"):
        HubertEncoder.load(tmp_path)


def test_without_transformers_it_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModaError, match=r'pip install "moda-talkinghead\[official\]"'):
        HubertEncoder.load(tmp_path)
