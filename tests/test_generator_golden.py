"""The published generator's numbers, with weights by rule (tests/rule.py); bounds: 1e-4 of the deviation.

The parts take a second; the whole network of 373 million weights takes minutes on two cores, marked slow.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from published import shapes
from rule import randn, weight
from safetensors.numpy import load_file

from moda.generator import flow, offline
from moda.generator.config import PUBLISHED
from moda.generator.embed import rope_table, rotate, sinusoid
from moda.generator.model import MotionTransformer
from moda.generator.post import amplify_lips
from moda.generator.sampler import Sampler
from moda.generator.statistics import Statistics
from moda.motion import Motion, space
from moda.weights.load import strict_load
from moda.weights.names import DEAD, published_generator

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> dict[str, np.ndarray]:
    return load_file(GOLDEN / f"{name}.safetensors")


def close(ours, theirs, bound: float = 1e-4) -> None:
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= bound * theirs.std()


def build(depths: tuple[int, int, int]) -> MotionTransformer:
    config = replace(PUBLISHED, depths=depths)
    with torch.device("meta"):
        model = MotionTransformer(config)
    tensors = {k: torch.from_numpy(weight(k, s)) for k, s in shapes(config).items() if k not in DEAD}
    strict_load(model, published_generator(tensors), "the rule")
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def shallow() -> MotionTransformer:
    return build((0, 0, 1))


@pytest.fixture(scope="session")
def whole() -> MotionTransformer:
    return build(PUBLISHED.depths)


# -- parts --------------------------------------------------------------------------------------


def test_embeddings(shallow):
    g = golden("moda_embeddings")
    t = torch.from_numpy(g["t"])
    close(sinusoid(t), g["t_sinusoid"])
    close(shallow.time_embedder(sinusoid(t)), g["t_embed"])
    close(shallow.emotion_embedder(torch.arange(3)), g["emo_embed_all9"])
    close(shallow.identity_embedder(torch.from_numpy(randn(14, (2, 63)))), g["identity_embed"])
    close(shallow.motion_embedder(torch.from_numpy(randn(15, (1, 4, 140)))), g["motion_embed_4frames"])
    audio = torch.from_numpy(randn(13, (1, 3, 1, 12, 768)))[:, :, 0]
    close(shallow.audio_embedder(audio), g["audio_embed_3frames"][:, :, 0])


def test_rotary_positions():
    g = golden("moda_embeddings")  # every 20th frame
    rope = rope_table(torch.arange(80.0), 64, torch.device("cpu"))
    close(rope.cos[::20, 0], g["rope_cos"])
    close(rope.sin[::20, 0], g["rope_sin"])
    q, k = (rotate(torch.from_numpy(randn(seed, (2, 80, 12, 64))), rope) for seed in (11, 12))
    close(q[0, ::20, 0], g["rope_q_out_b0_h0"])
    close(k[1, ::20, 7], g["rope_k_out_b1_h7"])


def test_times():
    assert flow.schedule(10) == golden("moda_embeddings")["scheduler_timesteps_10"].tolist()


def test_smoothing_and_joining():
    g = golden("moda_smooth_fuse")
    close(offline.smooth(randn(321, (1, 20, 70))[0]), g["smooth_out"][0], 1e-6)
    old, new = randn(322, (1, 80, 70))[0], randn(323, (1, 80, 70))[0]
    close(offline.fuse(old[-16:], new[:16]), g["fuse_out_last16"][0], 1e-6)


@pytest.mark.parametrize(
    ("row", "name"), [(-7, "lip_out_standard_is_row_minus7"), (3, "lip_out_standard_is_row3")]
)
def test_lips_post_step(row, name):
    g = golden("moda_post")
    motion = Motion.from_array(randn(401, (30, 70)), "liveportrait")
    out = amplify_lips(motion, motion[row], np.ones(70, dtype=np.float32))
    close(out.to_array(), g[name], 1e-6)


def test_restoring():
    g = golden("moda_post")
    statistics = Statistics(g["mean70"], g["std70"])
    motion = statistics.restore(randn(402, (5, 70)), 1.1, space("liveportrait"))
    close(motion.exp.reshape(5, 63), g["seq_exp"], 1e-6)
    close(motion.scale, g["seq_scale"].reshape(5), 1e-5)
    close(motion.t[:, :2], g["seq_t"].reshape(5, 3)[:, :2], 1e-6)  # z is the renderer's to drop; here it is 0
    for name in ("pitch", "yaw", "roll"):
        close(getattr(motion, name), g[f"seq_{name}"][:, 0], 1e-6)


def test_the_sources_motion_normalized(shared):
    """From the motion extractor's raw output to the network's previous frame."""
    g = load_file(shared / "golden" / "moda_post.safetensors")
    statistics = Statistics(g["mean70"], g["std70"])

    def degrees(bins):
        p = np.exp(bins - bins.max())
        return (p / p.sum() * np.arange(66)).sum(axis=1) * 3 - 97.5

    source = Motion(
        exp=g["prev_in_exp"].reshape(1, 21, 3), scale=g["prev_in_scale"][0], t=g["prev_in_t"],
        pitch=degrees(g["prev_in_pitch"]), yaw=degrees(g["prev_in_yaw"]), roll=degrees(g["prev_in_roll"]),
        space="liveportrait",
    )  # fmt: skip
    ratio = statistics.ratio(source)
    assert ratio == pytest.approx(g["prev_rescale_ratio"][0, 0], rel=1e-6)
    np.testing.assert_allclose(
        statistics.normalize(source, ratio), g["prev_motion_out"][0], rtol=1e-4, atol=1e-3
    )


# -- the whole network --------------------------------------------------------------------------


@pytest.mark.slow
def test_forward(whole):
    g = golden("moda_dit_forward")  # every 8th frame
    motion, audio = (
        torch.from_numpy(randn(101, (2, 80, 140))),
        torch.from_numpy(randn(102, (2, 80, 1, 12, 768)))[:, :, 0],
    )
    identity = torch.from_numpy(randn(103, (2, 80, 63), 0.5)).mean(1)
    times, emotions = torch.tensor([1000.0, 437.0]), torch.tensor([4, 8])
    close(whole(motion, times, audio, emotions, identity)[:, ::8], g["out"])
    close(whole(motion[:, :40], times, audio[:, :40], emotions, identity)[:, ::8], g["out_seq40"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("emotion", "guidance", "name"),
    [(4, 1.2, "out_emo4_cfg1.2"), (8, 1.2, "out_emo8_cfg1.2"), (4, 1.0, "out_emo4_cfg1.0")],
)
def test_one_segment(whole, emotion, guidance, name):
    g = golden("moda_subclip")
    sampler = Sampler(whole, randn(202, (1, 63), 0.5)[0], emotion, 0, 10, guidance)
    noise = torch.from_numpy(randn(204, (1, 80, 70))[0])
    steps = torch.stack(
        list(sampler.solve(randn(203, (1, 80, 12, 768))[0], randn(201, (1, 1, 70))[0, 0], noise))
    )
    close(steps[-1, ::8], g[name])
    if name == "out_emo4_cfg1.2":
        close(steps[:, ::20], g["steps"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frames", "emotion", "name"), [(60, 8, "out_60_emo8"), (200, 4, "out_200_emo4_cfg1.2_padzero")]
)
def test_long_audio(whole, frames, emotion, name):
    sampler = Sampler(whole, randn(202, (1, 63), 0.5)[0], emotion, 0, 10, 1.2)

    noise = (torch.from_numpy(randn(310 + index, (1, 80, 70))[0]) for index in range(9))

    features, previous = randn(301, (200, 12, 768))[:frames], randn(201, (1, 1, 70))[0, 0]
    scheme = offline.Offline(lambda *given: sampler(*given, next(noise)), previous, 80, 16)
    out = np.concatenate([scheme.push(features[:33]), scheme.push(features[33:]), scheme.flush()])
    close(out[::5], golden("moda_sample")[name])
