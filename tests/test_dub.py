"""moda dub: footage speaks another sound; what is not the mouth stays."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import tone, write_frames, write_sound

from moda.cli import run
from moda.errors import ModaError
from moda.evaluation.metrics import psnr
from moda.face.footage import Footage
from moda.media.picture import read_picture
from moda.media.read import probe, read_video
from moda.motion import Motion
from moda.motion.explicit import INDEX
from moda.pipeline import TalkingHead
from moda.render.lips.repainter import LipRepainter


@pytest.fixture(scope="module")
def picture(portrait) -> np.ndarray:
    """(256, 256, 3), the face in the middle."""
    image = read_picture(portrait)
    side = min(image.shape[:2])
    return cv2.resize(image[:side, :side], (256, 256), interpolation=cv2.INTER_AREA)


def moved(picture: np.ndarray, x: float, y: float = 0) -> np.ndarray:
    matrix = np.array([[1, 0, x], [0, 1, y]], np.float32)
    return cv2.warpAffine(picture, matrix, picture.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


@pytest.fixture(scope="module")
def footage(picture, tmp_path_factory) -> Path:
    """Two seconds: the head sways; from 1.0 to 1.2 s nobody is there."""
    frames = [moved(picture, 4 * np.sin(i / 6), 2 * np.cos(i / 9)) for i in range(50)]
    frames[25:30] = [np.full_like(picture, 90)] * 5
    return write_frames(tmp_path_factory.mktemp("footage") / "video.mp4", frames)


@pytest.fixture(scope="module")
def head() -> TalkingHead:
    return TalkingHead.from_pretrained("embedded")


def exp(gap: float) -> np.ndarray:
    out = np.zeros((21, 3), np.float32)
    for name in ("lip_lower_inner", "lip_lower_inner_right", "lip_lower_inner_left", "lip_lower_outer"):
        out[INDEX[name], 1] = 0.8 * gap
    for name in ("lip_upper_inner", "lip_upper_inner_right", "lip_upper_inner_left", "lip_upper_outer"):
        out[INDEX[name], 1] = -0.2 * gap
    out[INDEX["jaw"], 1] = 0.4 * gap
    return out


def test_lips_open_as_far_as_the_motion_says_and_all_else_stays(footage, tmp_path):
    """Dubbed with a given motion, and followed again."""
    gaps = 0.12 * (1 - np.cos(np.arange(50) / 4))
    motion = Motion.still(50)
    for i, gap in enumerate(gaps):
        motion.exp[i] = exp(gap)
    with Footage.follow(footage) as followed:
        frames = list(LipRepainter().repaint(followed, iter([motion])))
        placed = list(followed.placed())
    original = list(read_video(footage))
    assert len(frames) == len(original) == 50
    seen = [i for i in range(50) if placed[i] is not None]
    assert set(range(50)) - set(seen) >= set(range(25, 30))
    for i in set(range(50)) - set(seen):
        assert np.array_equal(frames[i], original[i])  # without a face: as they are
    for i in seen:
        mouth = placed[i].place(np.array([0, 1.3, -0.2]))[:2]
        outside = (
            np.abs(np.mgrid[:256, :256][::-1] - mouth[:, None, None]).max(axis=0) > 1.35 * placed[i].scale
        )
        assert np.array_equal(frames[i][outside], original[i][outside])
    again = write_frames(tmp_path / "again.mp4", frames)
    with Footage.follow(again) as followed:
        person = followed.person
        found = []
        for p in followed.placed():
            shape = None if p is None else (p.landmarks - p.center) @ p.rotation / p.scale
            found.append(np.nan if shape is None else np.linalg.norm(shape[14] - shape[13]))
    sure = [i for i in seen if placed[i].weight == 1 and np.isfinite(found[i])]
    assert len(person.neutral) == 478
    assert np.corrcoef(np.array(found)[sure], gaps[sure])[0, 1] > 0.95
    assert np.ptp(np.array(found)[sure]) > 0.6 * np.ptp(gaps[sure])


def test_the_command(footage, speech, tmp_path, caplog):
    out = tmp_path / "dubbed.mp4"
    assert run(["dub", str(footage), str(speech), "-o", str(out)]) == 0
    info = probe(out)
    assert (info.width, info.height, info.has_sound) == (256, 256, True)
    assert len(list(read_video(out))) == 50  # as long as the video; the longer speech is cut
    assert "longer than the video" in caplog.text and "stay as they are" in caplog.text


def test_sound_shorter_than_the_video_ends_in_rest(head, footage, tmp_path):
    sound = write_sound(tmp_path / "short.wav", tone(0.5), 16_000)
    with head.dub(footage, sound) as dub:
        frames = list(dub.frames())
        motion = np.concatenate([m.exp for m in dub.motion()])
    assert len(frames) == 50 and len(motion) >= 50
    from moda.motion.explicit import lip_gap

    assert lip_gap(motion[-10:]).max() < 0.02


def test_same_seed_same_video(head, footage, speech):
    with head.dub(footage, speech, seed=3) as a, head.dub(footage, speech, seed=3) as b:
        assert all(np.array_equal(x, y) for x, y in zip(a.frames(), b.frames()))


@pytest.fixture(scope="module")
def pair(picture, tmp_path_factory) -> Path:
    """Two people beside each other, the left one the larger."""
    small = np.full_like(picture, 60)
    small[40:216, 40:216] = cv2.resize(picture, (176, 176), interpolation=cv2.INTER_AREA)
    frames = [np.concatenate([moved(picture, 2 * np.sin(i / 5)), small], axis=1) for i in range(12)]
    return write_frames(tmp_path_factory.mktemp("pair") / "pair.mp4", frames)


@pytest.mark.parametrize(("face", "left"), [(0, True), (1, False)])
def test_one_of_two_speakers(head, pair, speech, face, left):
    with head.dub(pair, speech, face=face) as dub:
        assert dub.footage.seen.all()
        center = np.array([p.center[0] for p in dub.footage.placed() if p is not None])
        assert (center < 256).all() == left
        original = list(read_video(pair))
        for frame, before in zip(dub.frames(), original):
            other = (slice(None), slice(256, None) if left else slice(0, 256))
            assert np.array_equal(frame[other], before[other])


def test_bad_input(head, picture, pair, speech, tmp_path):
    grey = write_frames(tmp_path / "grey.mp4", [np.full((128, 128, 3), 90, np.uint8)] * 5)
    with pytest.raises(ModaError, match="no face was found"):
        head.dub(grey, speech)
    with pytest.raises(ModaError, match="shows 2, so face 2 is not there"):
        head.dub(pair, speech, face=2)
    silent = write_frames(tmp_path / "silent.mp4", [picture] * 5)
    with pytest.raises(ModaError, match="no sound"):
        head.dub(silent, silent)
    tiny = write_frames(tmp_path / "tiny.mp4", [cv2.resize(picture, (32, 32))] * 5)
    with pytest.raises(ModaError, match="too small|no face"):
        head.dub(tiny, speech)
    with pytest.raises(ModaError, match="face is -1"):
        head.dub(silent, speech, face=-1)


@pytest.mark.parametrize("rate", [12, 30, 60])
def test_other_frame_rates(head, picture, speech, tmp_path, rate):
    video = write_frames(tmp_path / "video.mp4", [moved(picture, i / rate) for i in range(rate)], rate=rate)
    with head.dub(video, speech) as dub:
        assert abs(len(dub) - 25) <= 1
        dub.save(tmp_path / "out.mp4")
    assert abs(len(list(read_video(tmp_path / "out.mp4"))) - 25) <= 1


def test_a_turned_head_is_drawn_upright_and_pasted_back(head, picture, speech, tmp_path):
    matrix = cv2.getRotationMatrix2D((128, 100), 40, 0.8)
    turned = cv2.warpAffine(picture, matrix, (256, 256), borderMode=cv2.BORDER_REFLECT)
    video = write_frames(tmp_path / "turned.mp4", [turned] * 8)
    with head.dub(video, speech) as dub:
        frames, original = list(dub.frames()), list(read_video(video))
    assert len(frames) == 8
    assert psnr(frames[4], original[4]) > 22


@pytest.mark.slow
def test_4k(head, picture, speech, tmp_path):
    large = cv2.resize(picture, (2160, 2160), interpolation=cv2.INTER_CUBIC)
    large = np.pad(large, ((0, 0), (840, 840), (0, 0)), mode="edge")
    video = write_frames(tmp_path / "large.mp4", [large] * 6)
    with head.dub(video, speech) as dub:
        dub.save(tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").width == 3840


def test_a_timeline_holds_the_lips(head, footage, speech):
    from moda.motion import join
    from moda.motion.timeline import Event

    with (
        head.dub(footage, speech) as plain,
        head.dub(footage, speech, timeline=[Event(at=0, length=2, hold_lips=True)]) as held,
    ):
        gaps = [motion.space.lip_gap(motion) for motion in (join(list(d.motion())) for d in (plain, held))]
    assert gaps[0].max() > 0.02 and gaps[1][:50].max() < 1e-3
