"""Styles: how much and how often is the clip's, what is said stays; a clip's head movement on another's lips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moda import ModaError, Motion, TalkingHead
from moda.audio.decode import read_audio
from moda.engine.performance import Sampling, Settings
from moda.motion import join
from moda.motion.explicit import IRISES, SPACE
from moda.motion.style import Style, with_pose
from moda.streams import pushed

CLIPS = Path(__file__).parents[2] / "shared" / "data" / "video"


@pytest.fixture(scope="module")
def head():
    return TalkingHead.from_pretrained("embedded", "cpu")


@pytest.fixture(scope="module")
def spoken(head, portrait, speech) -> Motion:
    wave = np.tile(read_audio(speech), 4)[: 30 * 16_000]
    character = head.prepare(portrait, size=64)
    return join(list(pushed(character.performance(Settings(), Sampling()), [wave])))


def changed(motion: Motion, lips=1.0, brows=1.0, head=1.0, gaze=(0.0, 0.0)) -> Motion:
    exp = motion.exp.copy()
    exp[:, 18:21] *= brows
    exp[:, IRISES, :2] += gaze
    motion = replace(motion, exp=exp)
    return SPACE.gains(motion, Motion.still(1), pose=head, lips=lips)


def check(style: Style, made: Motion) -> None:
    for name, value in Style.of(made).rows().items():
        wanted = style.rows()[name]
        within = max(0.15 * wanted, 60 / made.seconds if name == "blinks" else 0)
        assert value == pytest.approx(wanted, abs=within), name


@pytest.mark.parametrize(
    "way",
    [
        {"lips": 0.6, "head": 2.0},
        {"brows": 2.5, "head": 0.4},
        {"lips": 1.4, "gaze": (0.03, -0.02)},
    ],
    ids=str,
)  # fmt: skip
def test_statistics_become_the_clips_and_the_lips_say_the_same(spoken, way):
    style = Style.of(changed(spoken[::-1][:400], **way))
    made = style.on(spoken)
    check(style, made)
    assert np.corrcoef(SPACE.lip_gap(made), SPACE.lip_gap(spoken))[0, 1] > 0.98
    assert np.allclose(Style.of(made).rest, style.rest, atol=0.005)


@pytest.mark.parametrize("rate", [0.0, 6.0, 50.0])
def test_blinks_come_as_often_as_asked(spoken, rate):
    style = replace(Style.of(spoken), blinks=rate)
    assert Style.of(style.on(spoken)).blinks == pytest.approx(rate, abs=2.1)


@pytest.mark.skipif(not CLIPS.is_dir(), reason="real clips are not here")
@pytest.mark.slow
@pytest.mark.parametrize("clip", ["obama_1", "congress_daines_1", "congress_hirono_1", "reagan_1"])
def test_real_peoples_styles(head, spoken, clip):
    path = next(CLIPS.glob(f"*/*{clip}.mp4"))
    style = Style.of(head.track(path).motion)
    check(style, style.on(spoken))


def test_the_heads_movement_comes_from_the_clip(spoken):
    frames = np.arange(100, dtype=np.float32)
    clip = replace(Motion.still(100), yaw=10 * np.sin(frames / 10), pitch=np.full(100, 5, np.float32))
    own = replace(Motion.still(1), yaw=np.float32([-7]))
    made = with_pose(spoken, clip, own)
    assert len(made) == len(spoken) and np.array_equal(made.exp, spoken.exp)
    assert np.corrcoef(made.yaw[:100], clip.yaw)[0, 1] > 0.999
    assert np.median(made.pitch) == pytest.approx(0, abs=0.1)  # its rest is the portrait's
    assert np.abs(np.diff(made.yaw)).max() <= np.abs(np.diff(clip.yaw)).max() + 1e-4  # to and fro, no jump


def test_style_and_pose_in_a_video(head, portrait, speech, spoken, tmp_path):
    clip = spoken.save(tmp_path / "clip.npz")
    wave = read_audio(speech)[:80_000]
    character = head.prepare(portrait, size=64)
    plain = head(character, wave).motion
    video = head(character, wave, style=changed(spoken, lips=0.5), pose_from=clip, blink=0)
    assert video.motion.space.lip_gap(video.motion).std() < 0.8 * plain.space.lip_gap(plain).std()
    assert np.corrcoef(video.motion.yaw, spoken.yaw[:125])[0, 1] > 0.999
    # `blink` edits what the style made
    assert np.allclose(video.motion.exp[:, 12:16], character.motion.exp[:, 12:16], atol=1e-5)


@pytest.mark.parametrize(
    ("clip", "said"),
    [
        (Motion.still(10), "3 s of a clip"),
        (Motion.still(100, "liveportrait"), "space"),
        (Motion.still(100, fps=30), "30 frames"),
        ("missing.mp4", "missing.mp4"),
    ],
    ids=["short", "space", "rate", "missing"],
)
def test_clips_without_a_style_are_said(head, portrait, speech, clip, said):
    with pytest.raises(ModaError, match=said):
        head(portrait, speech, style=clip, size=64)
