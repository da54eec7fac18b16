"""The LivePortrait renderer as a whole, with random weights: the pictures are noise, the way to them is real."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import write_frames

from moda.errors import ModaError
from moda.motion import Motion, join

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def renderer():
    from moda.render.liveportrait.bench import random_renderer

    return random_renderer()


@pytest.fixture(scope="module")
def source(portrait):
    from moda.face import read_portrait

    return read_portrait(portrait)


@pytest.fixture(scope="module")
def prepared(renderer, source):
    return renderer.prepare(source)


def test_a_source_is_prepared(renderer, prepared):
    assert prepared.identity.shape == (21, 3)
    assert len(prepared.motion) == 1 and prepared.motion.space == renderer.space
    assert renderer.space.name == "liveportrait"
    assert prepared.motion.t[0, 2] == 0
    assert prepared.crop.size == renderer.size == 512


def test_frames_are_drawn_and_depend_on_their_own_motion_alone(renderer, prepared):
    other = Motion.from_array(prepared.motion.to_array() + np.float32(0.05), renderer.space)
    a, b, c = renderer.draw(prepared, join([prepared.motion, other, prepared.motion]))
    assert a.shape == (512, 512, 3) and a.dtype == np.uint8 and a.std() > 1
    assert np.array_equal(a, c)
    assert not np.array_equal(a, b)
    renderer.batch = 2
    try:
        together = list(renderer.draw(prepared, join([prepared.motion, other])))
    finally:
        renderer.batch = 1
    for one, of_two in zip((a, b), together, strict=True):
        assert np.abs(one.astype(int) - of_two).max() <= 1


def test_motion_of_another_space_is_refused(renderer, prepared):
    with pytest.raises(ModaError, match=r"liveportrait.*explicit"):
        next(renderer.draw(prepared, Motion.still(1)))


def test_a_video_is_tracked_through_frames_without_a_face(renderer, source, tmp_path):
    shown = source.image[: source.image.shape[0] // 2 * 2, : source.image.shape[1] // 2 * 2]
    blank = np.full_like(shown, 128)
    video = write_frames(
        tmp_path / "clip.mp4", [blank, shown, shown, blank, blank, np.roll(shown, 8, axis=1)]
    )
    done: list[float] = []
    track = renderer.track(video, done.append)
    motion = track.motion.to_array()
    assert (len(track.motion), track.lost, track.motion.space.name) == (6, 3, "liveportrait")
    assert track.keypoints.shape == (21, 3)
    assert np.array_equal(motion[0], motion[1])  # before the first face, its motion
    first, second = (
        motion[3] - motion[2],
        motion[4] - motion[2],
    )  # between faces the last motion eases to the clip's middle
    assert np.linalg.norm(first) < np.linalg.norm(second) < 0.1 * np.linalg.norm(motion[2])
    assert first @ second > 0.99 * np.linalg.norm(first) * np.linalg.norm(second)
    assert not np.array_equal(motion[4], motion[5])
    assert done == sorted(done) and done[-1] == 1


def test_a_video_without_a_face_is_refused(renderer, tmp_path):
    video = write_frames(tmp_path / "blank.mp4", [np.full((64, 64, 3), 128, np.uint8)] * 3)
    with pytest.raises(ModaError, match=r"no face.*blank\.mp4"):
        renderer.track(video)


def test_stages_are_timed(renderer):
    from moda.render.liveportrait.bench import bench

    rows = {row.name: row for row in bench(renderer, runs=1)}
    assert list(rows) == ["F", "M", "W", "G", "W+G"]
    for row in rows.values():
        assert 0 < row.gflop <= row.published and row.share > 0 and row.seconds > 0
    both = rows["W+G"]
    assert both.published / both.gflop > 3.5
