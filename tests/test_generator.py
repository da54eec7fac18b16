"""The generator against a naive reference, and what its users rely on, with a tiny model by rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import EMBEDDED
from published import Reference, shapes
from rule import randn, state_dict

from moda.errors import ModaError
from moda.generator.config import EMOTIONS, PUBLISHED, ModelConfig
from moda.generator.generator import Generator
from moda.generator.model import MotionTransformer
from moda.generator.offline import Offline
from moda.generator.sampler import Sampler
from moda.generator.statistics import Statistics
from moda.motion import Motion, join
from moda.weights.names import published_generator

TINY = replace(
    PUBLISHED,
    width=32,
    heads=4,
    mlp_ratio=2,
    depths=(2, 2, 3),
    audio_layers=3,
    audio_width=6,
    audio_hidden=24,
    rest_frames=0,
)


@pytest.fixture(scope="module")
def model() -> MotionTransformer:
    model = MotionTransformer(TINY)
    tensors = {k: torch.from_numpy(v) for k, v in state_dict(shapes(TINY)).items()}
    model.load_state_dict(published_generator(tensors))
    return model.eval()


@pytest.fixture(scope="module")
def generator(model) -> Generator:
    return Generator(model, Statistics(randn(1, (70,), 0.1), 0.5 + np.abs(randn(2, (70,)))))


def run(generator, frames=200, pieces=(), **options) -> Motion:
    features = randn(3, (frames, 3, 6))
    start = Motion.from_array(randn(4, (1, 70)), "liveportrait")
    options = {"seed": 7, "steps": 3, **options}
    return join(
        list(generator.stream(np.split(features, np.cumsum(pieces)), randn(5, (21, 3)), start, **options))
    )


# -- the network ------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [12, 5])
@pytest.mark.parametrize("depths", [(2, 2, 3), (0, 1, 1), (1, 0, 0), (0, 0, 2)])
def test_the_network_computes_what_the_published_one_does(frames, depths):
    config = replace(TINY, depths=depths)
    model = MotionTransformer(config)
    model.load_state_dict(
        published_generator({k: torch.from_numpy(v) for k, v in state_dict(shapes(config)).items()})
    )
    motion, audio, identity = randn(10, (2, frames, 140)), randn(11, (2, frames, 3, 6)), randn(12, (2, 63))
    times, emotions = [1000.0, 437.0], [4, 8]
    with torch.inference_mode():
        out = model(*map(torch.from_numpy, (motion, np.float32(times), audio, np.array(emotions), identity)))
    reference = Reference(config)
    for i in range(2):
        expected = reference(motion[i], times[i], audio[i], emotions[i], identity[i])
        np.testing.assert_allclose(out[i], expected, atol=1e-4)  # the outputs are about 1


def test_the_published_sizes_are_a_configuration(shared):
    """Names and shapes of all 411 entries, without building 1.5 GB."""
    import json

    published = json.loads((shared / "golden" / "state_dict_moda_motion_diffusion.json").read_text())
    assert {k: tuple(v) for k, v in published.items()} == shapes(PUBLISHED)
    with torch.device("meta"):
        ours = MotionTransformer(PUBLISHED).state_dict()
        theirs = published_generator({k: torch.empty(v) for k, v in published.items()})
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_an_untrained_model_is_trainable():
    torch.manual_seed(0)
    model = MotionTransformer(replace(TINY, depths=(1, 1, 2)))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        v = model(
            torch.ones(2, 6, 140),
            torch.tensor([500.0, 10.0]),
            torch.ones(2, 6, 3, 6),
            torch.tensor([1, 8]),
            torch.ones(2, 63),
        )
        loss = (v - torch.linspace(-1, 1, 70)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(0.343, abs=0.01)  # the first answer is 0
    assert losses[-1] < 0.1 * losses[0]


def test_training_after_sampling():
    """What sampling keeps for later (rotary tables) serves training, too."""
    config = replace(TINY, segment=14, overlap=2, width=24, heads=2)
    model = MotionTransformer(config)
    Sampler(model, randn(5, (63,)), 2, 0, 2, 1.5)(randn(6, (14, 3, 6)), randn(7, (70,)))
    out = model(
        torch.randn(1, 14, 140),
        torch.ones(1),
        torch.randn(1, 14, 3, 6),
        torch.ones(1, dtype=int),
        torch.randn(1, 63),
    )
    out.sum().backward()


def test_dropped_audio_is_the_null_vector(model):
    audio = torch.from_numpy(randn(6, (2, 4, 3, 6)))
    out = model.without_audio(audio, torch.tensor([True, False]))
    assert torch.equal(out[1], audio[1]) and torch.equal(out[0], model.null_audio.expand(4, 3, 6))


def test_cached_conditions_change_nothing(model):
    """A guided step from the sampler's caches = the same from two whole forward passes."""
    sampler = Sampler(model, randn(5, (63,)), 2, seed=0, steps=4, guidance=1.7)
    audio, previous, noise = randn(6, (10, 3, 6)), randn(7, (70,)), torch.from_numpy(randn(8, (10, 70)))
    first = next(sampler.solve(audio, previous, noise))
    motion = torch.cat([torch.from_numpy(previous).expand(10, -1), noise], dim=-1)[None]

    def forward(a, emotion):
        a, identity = torch.as_tensor(a)[None], torch.from_numpy(randn(5, (1, 63)))
        with torch.inference_mode():
            return model(motion, torch.tensor([1000.0]), a, torch.tensor([emotion]), identity)[0]

    null = forward(model.null_audio.detach().expand(10, 3, 6), 8)
    expected = noise + (null + 1.7 * (forward(audio, 2) - null)) * (0.667 - 1)
    torch.testing.assert_close(first, expected, atol=2e-5, rtol=0)


# -- sampling ---------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 2, 79, 80, 81, 143, 144, 145, 200])
def test_as_many_frames_of_motion_as_of_audio(generator, frames):
    assert len(run(generator, frames, steps=1)) == frames


def test_a_stream_equals_the_whole_clip(generator):
    whole = run(generator).to_array()
    for pieces in ([1, 1, 1], [80], [79, 2], [144, 1], [25] * 7):
        assert np.array_equal(run(generator, pieces=pieces).to_array(), whole)


def test_a_chunk_comes_before_the_rest_of_the_audio_is_read(generator):
    read = 0

    def features():
        nonlocal read
        for _ in range(50):
            read += 10
            yield randn(read, (10, 3, 6))

    start = Motion.from_array(randn(4, (1, 70)), "liveportrait")
    stream = generator.stream(features(), randn(5, (21, 3)), start, steps=1)
    assert len(next(stream)) == 63 and read == 80
    assert len(next(stream)) == 64 and read == 150


def test_the_seed_decides(generator):
    first = run(generator, 20).to_array()
    torch.manual_seed(99)  # the global state has no say
    assert np.array_equal(run(generator, 20).to_array(), first)
    assert not np.allclose(run(generator, 20, seed=8).to_array(), first)


def test_emotion_guidance_and_steps_matter(generator):
    base = run(generator, 20, emotion="anger").to_array()
    for other in (
        {"emotion": "fear"},
        {"emotion": "anger", "guidance": 3.0},
        {"emotion": "anger", "steps": 4},
    ):
        assert np.abs(run(generator, 20, **other).to_array() - base).max() > 1e-3
    assert np.array_equal(
        run(generator, 20, emotion=None).to_array(), run(generator, 20, emotion="none").to_array()
    )
    assert np.array_equal(
        run(generator, 20, guidance=1.0).to_array(), run(generator, 20, guidance=0.5).to_array()
    )
    configured = run(generator, 20, steps=None, guidance=None).to_array()
    assert np.array_equal(configured, run(generator, 20, steps=10, guidance=1.2).to_array())


def test_the_noise_scale_calms_its_group(model, generator):
    """At one step the noise enters a number directly: without it, seeds agree better there than elsewhere."""
    quiet = MotionTransformer(replace(TINY, noise_scale={"lips": 0.0, "face": 1.0, "pose": 1.0}))
    quiet.load_state_dict(model.state_dict())
    quiet = Generator(quiet, generator.statistics)
    a, b = (run(quiet, 60, steps=1, seed=s).to_array() / quiet.statistics.unit for s in (1, 2))
    spread = np.abs(a - b).mean(axis=0)
    lips = np.zeros(70, dtype=bool)
    for k in (6, 12, 14, 17, 19, 20):
        lips[3 * k : 3 * k + 3] = True
    assert spread[lips].mean() < 0.7 * spread[:63][~lips[:63]].mean()


def test_the_size_of_the_head_is_the_sources(generator):
    motion = Motion.from_array(randn(4, (1, 70)), "liveportrait")
    small, large = replace(motion, scale=np.float32([0.5])), replace(motion, scale=np.float32([2.0]))
    features = [randn(3, (10, 3, 6))]
    s, m = (
        join(list(generator.stream(features, randn(5, (21, 3)), start, steps=1))) for start in (small, large)
    )
    t, mean = generator.statistics, generator.statistics.mean[63]
    assert t.ratio(large) / t.ratio(small) == pytest.approx(4, rel=1e-3)
    assert t.ratio(small) == pytest.approx((0.5 + 1e-5) / (mean + 1e-5))
    assert (m.t[:, 2] == 0).all() and (s.t[:, 2] == 0).all()


def test_normalizing_and_back():
    statistics = Statistics(randn(1, (70,)) + 2, np.abs(randn(2, (70,))))
    motion = Motion.from_array(randn(3, (5, 70)))
    motion = replace(motion, t=motion.t * [1, 1, 0])
    back = statistics.restore(statistics.normalize(motion, 1.3), 1.3, "explicit")
    np.testing.assert_allclose(back.to_array(), motion.to_array(), atol=1e-5)
    again = Statistics.from_dict(statistics.to_dict())
    assert np.array_equal(again.mean, statistics.mean) and np.array_equal(again.std, statistics.std)


# -- segments ---------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 40, 80, 81, 144, 145, 300])
def test_joining_segments_equals_the_whole_computation(frames):
    """Bit for bit, against the scheme written for a whole clip."""
    features = randn(1, (frames, 1, 1))
    seen = []

    def sample(window, previous):
        index = len(seen)
        seen.append((window.copy(), previous.copy()))
        return randn(100 + index, (80, 70)) + previous * np.float32(0.1) + window[:, 0]

    scheme = Offline(sample, randn(2, (70,)), 80, 16)
    out = np.concatenate([*map(scheme.push, np.split(features, range(7, frames, 7))), scheme.flush()])

    count = 1 if frames <= 80 else 1 + -(-(frames - 80) // 64)
    padded = np.concatenate([features, np.zeros((80 + 64 * (count - 1) - frames, 1, 1), dtype=np.float32)])
    whole, previous = np.zeros((len(padded), 70), dtype=np.float32), randn(2, (70,))
    assert len(seen) == count
    for i in range(count):
        window = padded[64 * i : 64 * i + 80]
        assert np.array_equal(seen[i][0], window) and np.array_equal(seen[i][1], previous)
        raw = randn(100 + i, (80, 70)) + previous * np.float32(0.1) + window[:, 0]
        raw[:, 63:] = box(raw[:, 63:])
        previous = raw[63].copy()
        if i:
            w = (np.arange(16, dtype=np.float32) / 16)[:, None]
            raw[:16] = whole[64 * i : 64 * i + 16] * (1 - w) + raw[:16] * w
        whole[64 * i : 64 * i + 80] = raw
    whole = whole[:frames]
    whole[:, 63:] = box(whole[:, 63:])
    assert np.array_equal(out, whole)


def box(x):
    sums = np.stack([x[max(0, i - 1) : i + 2].sum(axis=0, dtype=np.float32) for i in range(len(x))])
    return sums / np.float32([[len(x[max(0, i - 1) : i + 2])] for i in range(len(x))])


def test_no_audio_no_motion():
    assert Offline(lambda *a: 1 / 0, np.zeros(70, dtype=np.float32), 80, 16).flush().shape == (0, 70)


# -- rest frames and errors -------------------------------------------------------------------


def test_rest_frames_are_cut_and_open_lips_open_farther(model, generator):
    config = replace(TINY, rest_frames=50)
    amplified = MotionTransformer(config)
    amplified.load_state_dict(model.state_dict())
    plain = run(generator, 120)
    out = run(Generator(amplified, generator.statistics), 120)
    assert len(out) == 70
    lips = [6, 12, 14, 17, 19, 20]
    others = np.setdiff1d(np.arange(21), lips)
    assert np.array_equal(out.exp[:, others], plain.exp[:70, others])
    rest = plain.exp[-37, lips]
    before, after = np.abs(plain.exp[:70, lips] - rest), np.abs(out.exp[:, lips] - rest)
    assert (after >= before - 1e-6).all() and after.sum() > 1.001 * before.sum()
    with pytest.raises(ModaError, match="50 frames"):
        run(Generator(amplified, generator.statistics), 50)


def test_mistakes_are_named(generator):
    with pytest.raises(ModaError, match="joy.*anger, contempt.*none"):
        run(generator, emotion="joy")
    with pytest.raises(ModaError, match=r"\(5, 12, 768\).*3, 6"):
        list(generator.stream([np.zeros((5, 12, 768))], np.zeros(63), Motion.still(1, "liveportrait")))
    with pytest.raises(ModaError, match="liveportrait.*explicit"):
        generator.stream([], np.zeros(63), Motion.still(1, "explicit"))
    with pytest.raises(ModaError, match="steps is 0"):
        run(generator, steps=0)
    with pytest.raises(ModaError, match="62.*63"):
        generator.stream([], np.zeros(62), Motion.still(1, "liveportrait"))


@pytest.mark.parametrize("config", [PUBLISHED, EMBEDDED, TINY])
def test_a_config_survives_json(config):
    assert ModelConfig.from_json(config.to_json()) == config
    assert config.emotions == EMOTIONS


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 100, "heads": 8}, "100.*8"),
        ({"depths": (1, 2)}, r"lacks depths.2"),
        ({"steps": "fast"}, "steps is 'fast'"),
        ({"guidance": 0.5}, "guidance is 0.5.*greater than or equal to 1"),
        ({"overlap": 50}, "overlap is 50.*80"),
        ({"space": "other"}, "other.*explicit"),
        ({"heads": 0}, "heads is 0"),
        ({"noise_scale": {"lips": 1.0}}, "noise_scale"),
    ],
)
def test_a_wrong_config_says_what(change, words):
    with pytest.raises(ModaError, match=words):
        ModelConfig.from_dict({**PUBLISHED.to_dict(), **change})


def test_a_config_with_other_fields_says_which():
    values = PUBLISHED.to_dict()
    del values["width"]
    with pytest.raises(ModaError, match="lacks width|unknown depth"):
        ModelConfig.from_dict({**values, "depth": 4})
