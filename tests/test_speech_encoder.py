"""The embedded speech encoder: streamed as whole, quiet in silence, strict about its files."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moda.audio.speech import EMBEDDED, SpeechEncoder
from moda.errors import ModaError

SECOND = 16_000


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    return SpeechEncoder.load()


def babble(seconds: float, seed: int = 0) -> np.ndarray:
    """Something as loud and as uneven as speech: noise in syllables over a buzz."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * SECOND)) / SECOND
    buzz = sum(np.sin(2 * np.pi * 120 * k * t) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * t) + np.sin(2 * np.pi * 1.3 * t), 0, None)
    return (0.05 * syllables * (buzz + rng.standard_normal(len(t)))).astype(np.float32)


def encode(encoder: SpeechEncoder, *pieces: np.ndarray) -> np.ndarray:
    return np.concatenate(list(encoder.encode(pieces)))


def gap(lips: np.ndarray) -> np.ndarray:
    """(T, 11, 3) -> (T,): lower inner lip under the upper one, eye distances."""
    return lips[:, 5, 1] - lips[:, 4, 1]


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, 3 * SECOND), max_size=6))
def test_a_stream_equals_the_whole_wherever_it_is_cut(encoder, cuts):
    wave = babble(3.0)
    pieces = np.split(wave, sorted(cuts))
    assert np.array_equal(encode(encoder, *pieces), encode(encoder, wave))


@pytest.mark.parametrize("samples", [640, 641, 959, 961, 10_240, 10_241, 47_999])
def test_frames_are_as_many_as_the_video_has(encoder, samples):
    wave = babble(3.0)[:samples]
    assert encode(encoder, wave).shape == (round(samples / 640), 1, encoder.width)
    assert encoder.lips(wave).shape == (round(samples / 640), 11, 3)


def test_nothing_gives_nothing(encoder):
    assert list(encoder.encode([])) == []
    assert encoder.lips(np.zeros(0, np.float32)).shape == (0, 11, 3)


def test_it_looks_ahead_less_than_three_tenths_of_a_second(encoder):
    wave = babble(4.0)
    changed = wave.copy()
    changed[2 * SECOND :] = 0
    same = np.isclose(encode(encoder, wave), encode(encoder, changed), atol=1e-6).all((1, 2))
    assert same[: 50 - 8].all() and not same[51:75].any()


def test_features_have_about_unit_variance_on_speech(encoder, repository_speech):
    features = encode(encoder, repository_speech)[:, 0]
    assert 0.5 < features.std(0).mean() < 1.6
    assert np.abs(features).max() < 30


@pytest.fixture
def repository_speech(request):
    from moda.audio.decode import read_audio

    found = sorted((request.config.rootpath / "assets").rglob("*.wav")) + sorted(
        (request.config.rootpath / "assets").rglob("*.flac")
    )
    if not found:
        pytest.skip("no speech among the assets")
    return read_audio(found[0])


@pytest.mark.parametrize("level", [0.0, 1e-4, 1e-3])
def test_lips_stay_closed_in_silence_from_first_to_last_frame(encoder, level):
    quiet = (level * np.random.default_rng(0).standard_normal(2 * SECOND)).astype(np.float32)
    assert np.abs(gap(encoder.lips(quiet))).max() <= 0.02


def test_lips_close_again_after_speech(encoder, repository_speech):
    lips = encoder.lips(
        np.concatenate([np.zeros(SECOND, np.float32), repository_speech, np.zeros(2 * SECOND, np.float32)])
    )
    opening = gap(lips)
    assert opening[:15].max() <= 0.02 and opening[-25:].max() <= 0.02
    assert opening[25:-50].std() > 0.02  # and moved while there was speech
    assert opening.min() >= -1e-6  # lips never pass through each other


def test_louder_is_not_another_sound(encoder, repository_speech):
    a, b = (gap(encoder.lips(g * repository_speech)) for g in (0.5, 1.5))
    assert np.corrcoef(a, b)[0, 1] > 0.9


def test_a_file_that_does_not_fit_is_named(encoder, tmp_path):
    with pytest.raises(ModaError, match="encoder"):
        SpeechEncoder.load(tmp_path)
    for name in ("encoder.json", "encoder.safetensors"):
        shutil.copy(EMBEDDED / name, tmp_path / name)
    numbers = json.loads((tmp_path / "encoder.json").read_text())
    (tmp_path / "encoder.json").write_text(json.dumps({**numbers, "hidden": numbers["hidden"] + 1}))
    with pytest.raises(ModaError, match="hidden"):
        SpeechEncoder.load(tmp_path)
    (tmp_path / "encoder.json").write_text(json.dumps({**numbers, "colour": 3}))
    with pytest.raises(ModaError, match="colour"):
        SpeechEncoder.load(tmp_path)
    shutil.copy(EMBEDDED / "encoder.json", tmp_path)
    (tmp_path / "encoder.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModaError, match="does not fit"):
        SpeechEncoder.load(tmp_path)


def test_saved_and_loaded_it_is_the_same(encoder, tmp_path):
    encoder.save(tmp_path)
    wave = babble(1.0)
    assert np.array_equal(encode(SpeechEncoder.load(tmp_path), wave), encode(encoder, wave))
    assert (tmp_path / "encoder.safetensors").stat().st_size < 9e6


@pytest.mark.parametrize("level", [0.01, 0.1, 0.3])
def test_noise_does_not_move_the_mouth(encoder, level):
    noise = (level * np.random.default_rng(1).standard_normal(6 * SECOND)).astype(np.float32)
    assert np.quantile(gap(encoder.lips(noise)), 0.9) < 0.04


def test_the_network_seen_at_once_is_the_stream(encoder):
    """The kept state gives what one pass over the whole sound gives."""
    from moda.audio.mel import BANDS, PER_FRAME, LogMel
    from moda.audio.speech_net import SILENCE

    wave = babble(2.0)
    before, after = encoder.net.config.context
    edges = [np.full((k * PER_FRAME, BANDS), SILENCE, np.float32) for k in (before, after)]
    heard = encoder.net(torch.from_numpy(np.concatenate([edges[0], LogMel().whole(wave), edges[1]]))[None])
    n = encoder.calibration.directions
    assert np.allclose(heard.directions[0, :, :n].numpy(), encode(encoder, wave)[:, 0, :n], atol=1e-3)


def test_live_it_tells_what_it_tells_of_a_file(encoder):
    wave = babble(3.0)
    stream = encoder.stream()
    live = np.concatenate([stream.push(wave[:20_001]), stream.push(wave[20_001:]), stream.flush()])
    assert np.allclose(live, encode(encoder, wave), atol=1e-4)


def test_frames_come_four_at_a_time_within_half_a_second(encoder):
    """What a live session waits for: the look-ahead and a chunk."""
    stream, wave = encoder.stream(), babble(3.0)
    for pushed in range(640, len(wave) + 1, 640):
        stream.given = getattr(stream, "given", 0) + len(stream.push(wave[pushed - 640 : pushed]))
        assert stream.given % 4 == 0 and pushed / SECOND - stream.given / 25 <= 0.45


@pytest.mark.slow
def test_lips_follow_a_stranger(encoder, shared):
    """The figure of docs/speech-encoder.md: a man never trained on, filmed."""
    from moda.audio.decode import read_audio
    from moda.evaluation.metrics import correlation
    from moda.face import track
    from moda.motion.explicit import lip_gap

    path = shared / "data/video/val/reagan_1.mp4"
    r, _ = correlation(gap(encoder.lips(read_audio(path))), lip_gap(track(path).motion.exp))
    assert r >= 0.3
