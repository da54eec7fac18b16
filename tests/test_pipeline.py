"""Portrait and sound, or portrait and motion -> video: lengths, seeds, streams, gains, memory."""

from __future__ import annotations

import os
from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import tone, write_sound
from hypothesis import given, settings
from hypothesis import strategies as st

from moda import ModaError, Motion, TalkingHead
from moda.audio.decode import frames_in, open_listening, read_audio
from moda.media.picture import read_picture
from moda.media.read import probe, read_video
from moda.media.write import write_video
from moda.motion import explicit, join

SIZE = 96


@pytest.fixture(scope="module")
def head(tiny) -> TalkingHead:
    return TalkingHead.from_pretrained(tiny)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """2.2 s of a tone, more than half a segment less than one."""
    return write_sound(tmp_path_factory.mktemp("s") / "a.wav", tone(2.2, 44_100, 2), 44_100)


def some_motion(frames: int, seed: int = 0) -> Motion:
    array = Motion.still(frames).to_array()
    return Motion.from_array(array + 0.05 * np.random.default_rng(seed).standard_normal(array.shape))


def test_a_portrait_speaks(head, portrait, short, tmp_path):
    done = []
    path = head(portrait, short, seed=7, size=SIZE).save(tmp_path / "out.mp4", done.append)
    frames = list(read_video(path))
    assert len(frames) == frames_in(len(read_audio(short))) == 55
    assert frames[0].shape == (SIZE, SIZE, 3)
    assert any(np.abs(frame.astype(int) - frames[0]).mean() > 1 for frame in frames), "a frozen face"
    assert probe(path).has_sound
    assert len(read_audio(path)) == pytest.approx(2.2 * 16_000, abs=1100)
    assert done == sorted(done) and done[-1] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


def test_same_seed_same_motion_other_seed_another(head, portrait, short):
    first = head(portrait, short, seed=1, size=SIZE).motion
    again = head(portrait, short, seed=1, size=SIZE).motion
    other = head(portrait, short, seed=2, size=SIZE).motion
    assert np.array_equal(first.to_array(), again.to_array())
    assert np.abs(first.to_array() - other.to_array()).max() > 1e-3


def test_every_form_of_sound_gives_the_same(head, portrait, speech):
    wave = read_audio(speech)[: 640 * 100]
    rng = np.random.default_rng(0)
    pieces = np.split(wave, np.sort(rng.integers(0, len(wave), 9)))
    whole = head(portrait, wave, size=SIZE)
    streamed = head(portrait, iter(pieces), size=SIZE)
    assert np.array_equal(whole.motion.to_array(), streamed.motion.to_array())
    assert len(whole.motion) == 100


def test_the_stream_is_the_whole_and_comes_in_time(head, portrait, speech):
    wave = read_audio(speech)[: 640 * 200]
    taken = 0

    def live():
        nonlocal taken
        for start in range(0, len(wave), 1600):
            taken += 1
            yield wave[start : start + 1600]

    stream = head.stream(portrait, live(), size=SIZE, scheme="offline")
    frames = [next(stream).picture]
    assert taken * 1600 < len(wave) / 2, "the first frame waited for sound that it does not need"
    frames += [frame.picture for frame in stream]
    expected = list(head(portrait, wave, size=SIZE).frames())
    assert len(frames) == len(expected) == 200
    assert all(np.array_equal(a, b) for a, b in zip(frames, expected))


def test_motion_is_generated_once(head, portrait, short, tmp_path):
    video = head(portrait, short, size=SIZE)
    video.save(tmp_path / "a.mp4")
    motion = video.motion
    assert len(motion) == 55
    assert np.array_equal(video.motion.to_array(), motion.to_array())
    first = list(video.frames())
    assert len(first) == 55


def test_the_first_frame_is_near_the_portrait(head, portrait, short):
    """No jump from the picture into the performance: the head stays where it was pictured."""
    video = head(portrait, short, size=SIZE, pose=0)
    own = video.character.motion
    for name in ("pitch", "yaw", "roll", "scale"):
        assert np.allclose(getattr(video.motion, name), getattr(own, name), atol=1e-4)
    assert np.allclose(video.motion.t, own.t, atol=1e-4)


def test_gains_reach_the_video(head, portrait, short):
    still = head(portrait, short, size=SIZE, lips=0, blink=0, pose=0)
    exp = still.motion.exp
    assert np.ptp(exp[:, explicit.MOUTH], axis=0).max() < 1e-6
    assert np.ptp(exp[:, explicit.LIDS], axis=0).max() < 1e-6
    assert np.ptp(exp[:, explicit.BROWS], axis=0).max() > 1e-4  # what has no gain moves on


def test_full_gives_the_whole_picture(head, portrait, tmp_path):
    picture = read_picture(portrait)
    wide = cv2.copyMakeBorder(picture, 150, 51, 200, 101, cv2.BORDER_REPLICATE)
    cv2.imwrite(str(tmp_path / "wide.png"), wide[..., ::-1])
    frames = list(head(tmp_path / "wide.png", tone(0.4)[:, 0], size=SIZE, full=True).frames())
    assert len(frames) == 10
    assert all(frame.shape == wide.shape for frame in frames)
    edge = np.ones(wide.shape[:2], bool)
    edge[20:-20, 20:-20] = False
    assert all(np.array_equal(frame[edge], wide[edge]) for frame in frames)
    assert any(np.abs(frame.astype(int) - wide).max() > 20 for frame in frames)
    path = head(tmp_path / "wide.png", tone(0.4)[:, 0], size=SIZE, full=True).save(tmp_path / "a.mp4")
    info = probe(path)
    assert (info.width, info.height) == (814, 714)  # 813 x 713, made even


def test_another_face_of_the_picture(head, portrait, tmp_path):
    picture = read_picture(portrait)
    small = cv2.resize(picture, None, fx=0.85, fy=0.85, interpolation=cv2.INTER_AREA)
    small = np.pad(small, ((0, picture.shape[0] - small.shape[0]), (0, 0), (0, 0)), mode="edge")
    two = np.ascontiguousarray(np.hstack([small[:, ::-1], picture]))
    crops = [head.prepare(two, size=SIZE, face=face).prepared.crop for face in (0, 1)]
    centers = [crop.points(np.float64([[0, 0]]))[0, 0] / crop.scale for crop in crops]
    assert (
        centers[0] < centers[1] - 200
    )  # the larger one is on the right: its square lies farther from the left edge


@pytest.mark.parametrize("form", ["file", "object"])
def test_animate_by_motion(head, portrait, tmp_path, form):
    motion = some_motion(20)
    driving = motion if form == "object" else motion.save(tmp_path / "m.npz")
    video = head.animate(portrait, driving, size=SIZE)
    assert len(list(video.frames())) == 20
    path = video.save(tmp_path / "a.mp4")
    assert not probe(path).has_sound
    assert np.allclose(video.motion.exp, motion.exp)


def test_what_is_neither_sound_nor_model_is_told(head, portrait):
    for sound in (None, 5, b"RIFF"):
        with pytest.raises(ModaError, match="the sound is .*, but a file"):
            head(portrait, sound, size=SIZE)
    with pytest.raises(ModaError, match="the model is NoneType, but"):
        TalkingHead.from_pretrained(None)


def test_animate_by_video_brings_its_sound(head, portrait, speech, tmp_path):
    picture = cv2.resize(read_picture(portrait), (256, 256), interpolation=cv2.INTER_AREA)
    frames = [np.roll(picture, k % 8, axis=1) for k in range(30)]
    write_video(tmp_path / "d.mkv", frames, open_listening(speech))
    path = head.animate(portrait, tmp_path / "d.mkv", size=SIZE).save(tmp_path / "a.mp4")
    assert len(list(read_video(path))) == 30
    assert len(read_audio(path)) == pytest.approx(1.2 * 16_000, abs=2000)


def test_another_spaces_motion_names_both(head, portrait):
    with pytest.raises(ModaError, match="'explicit'.*'liveportrait'"):
        head.animate(portrait, Motion.still(3, "liveportrait"), size=SIZE)


@pytest.mark.slow
def test_long_sound_needs_no_more_memory(head, portrait):
    """Five minutes may not need more than ten seconds do, apart from the motion itself (2 MB)."""
    import resource

    def peak(seconds: float) -> int:
        wave = (0.1 * np.random.default_rng(0).standard_normal(16_000) for _ in range(round(seconds)))
        for _ in head.stream(portrait, (piece.astype(np.float32) for piece in wave), size=SIZE):
            pass
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = peak(10)
    assert peak(300) - before < 60_000  # kB


# -- editing -----------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.sampled_from(["explicit", "liveportrait"]), st.integers(0, 99))
def test_gains_of_one_change_nothing_and_of_zero_still(frames, space, seed):
    motion = replace(some_motion(frames, seed), space=space)
    own = replace(some_motion(1, seed + 1), space=space)
    assert motion.space.gains(motion, own) == motion
    still = motion.space.gains(motion, own, pose=0)
    assert np.allclose(still.to_array()[:, 63:], own.to_array()[:, 63:], atol=1e-6)
    assert np.array_equal(still.exp, motion.exp)
    assert (
        np.ptp(
            motion.space.gains(motion, own, lips=0).exp[:, [0] if space == "explicit" else [6]], axis=0
        ).max()
        < 1e-6
    )


def test_lips_gain_scales_the_gap_and_nothing_else():
    motion = some_motion(8)
    exp = motion.exp.copy()
    exp[:, explicit.INDEX["lip_lower_inner"], 1] += 0.4  # open
    motion = replace(motion, exp=exp)
    doubled = explicit.SPACE.gains(motion, Motion.still(1), lips=2)
    assert np.allclose(explicit.lip_gap(doubled.exp), 2 * explicit.lip_gap(motion.exp), rtol=1e-5)
    rest = [i for i in range(21) if i not in range(11)]
    assert np.array_equal(doubled.exp[:, rest], motion.exp[:, rest])
    assert np.array_equal(doubled.to_array()[:, 63:], motion.to_array()[:, 63:])


@given(st.floats(0, 5))
def test_lids_meet_but_never_cross(gain):
    exp = np.zeros((3, 21, 3), np.float32)
    exp[1, explicit.INDEX["lid_upper_left"], 1] = explicit.LID_APERTURE  # closed
    exp[2, explicit.INDEX["lid_upper_left"], 1] = explicit.LID_APERTURE / 2
    motion = replace(Motion.still(3), exp=exp)
    lids = explicit.SPACE.gains(motion, Motion.still(1), blink=gain).exp[:, :, 1]
    closing = lids[:, explicit.INDEX["lid_upper_left"]] - lids[:, explicit.INDEX["lid_lower_left"]]
    assert closing.max() <= explicit.LID_APERTURE + 1e-5
    assert closing[2] == pytest.approx(min(1, gain / 2) * explicit.LID_APERTURE, abs=1e-5)


def test_retargeting_keeps_the_portraits_pose_and_the_clips_movement():
    clip = some_motion(31)
    clip = replace(clip, yaw=clip.yaw + 15, t=clip.t + 3, scale=clip.scale * 2)
    own = replace(Motion.still(1), yaw=np.float32([-10]), pitch=np.float32([4]))
    moved = explicit.SPACE.driven(clip, own, explicit.SPACE.resting(clip))
    assert np.median(moved.yaw) == pytest.approx(-10, abs=1e-4)
    assert np.median(moved.scale) == pytest.approx(1, abs=1e-5)
    assert np.allclose(moved.yaw - moved.yaw[0], clip.yaw - clip.yaw[0], atol=1e-4)
    assert np.array_equal(moved.exp, clip.exp)
    parts = [explicit.SPACE.generated(clip[:10], own), explicit.SPACE.generated(clip[10:], own)]
    assert np.array_equal(join(parts).to_array(), explicit.SPACE.generated(clip, own).to_array())


def test_import_is_light():
    """`import moda` loads nothing heavy."""
    import subprocess
    import sys

    code = "import moda, sys; print([m for m in ('torch', 'cv2', 'av', 'mediapipe', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert out.stdout.strip() == "[]", out.stdout + out.stderr
