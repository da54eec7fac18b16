"""Motion as a sequence, as numbers and as a file; the explicit space's geometry."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moda import ModaError, Motion
from moda.motion import explicit, join
from moda.motion.blinks import LEVELS, Blinks
from moda.motion.breath import breathing


def random_motion(frames: int, seed: int = 0, space: str = "explicit") -> Motion:
    numbers = np.random.default_rng(seed).standard_normal((frames, 70))
    numbers[:, 63] = np.exp(numbers[:, 63])  # the scale
    return Motion.from_array(numbers, space)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(0, 1000))
def test_array_file_and_slices_round_trip(tmp_path_factory, frames, seed):
    motion = random_motion(frames, seed)
    assert np.array_equal(Motion.from_array(motion.to_array()).to_array(), motion.to_array())
    path = motion.save(tmp_path_factory.mktemp("m") / "m.npz")
    loaded = Motion.load(path)
    assert np.array_equal(loaded.to_array(), motion.to_array())
    assert (loaded.space, loaded.fps) == (motion.space, motion.fps)
    cut = frames // 2
    assert np.array_equal(join([motion[:cut], motion[cut:]]).to_array(), motion.to_array())
    assert len(motion[-1]) == 1


def test_a_breath_is_kept_and_files_without_one_are_read(tmp_path):
    motion = replace(Motion.still(4), breath=np.linspace(0, 1, 4))
    path = motion.save(tmp_path / "m.npz")
    assert Motion.load(path) == motion != Motion.still(4)
    assert join([motion[:1], motion[1:]]) == motion and motion[2].breath[0] == motion.breath[2]
    with np.load(path) as file:
        np.savez(tmp_path / "old.npz", **{name: file[name] for name in file if name != "breath"})
    assert Motion.load(tmp_path / "old.npz") == Motion.still(4)
    with pytest.raises(ModaError, match="breath"):
        replace(motion, breath=np.zeros(3))


def test_breathing_is_slow_and_of_the_frame_alone():
    frames = np.arange(25 * 60)
    breath = breathing(frames, 0)
    assert breath[0] == 0 and -1e-6 < breath.min() and 0.8 < breath.max() < 1.2
    assert np.array_equal(breath[700:], breathing(frames[700:], 0))
    assert np.abs(np.diff(breath)).max() < 0.06
    rises = np.count_nonzero((breath[1:] > 0.5) & (breath[:-1] <= 0.5))
    assert 0.2 < rises / 60 < 0.3  # breaths a second
    assert np.abs(breath - breathing(frames, 1)).max() > 0.5  # people breathe apart
    month = breathing(25 * 86400 * 30 + frames, 0)
    assert np.abs(np.diff(month)).max() < 0.06


def test_file_has_the_documented_arrays(tmp_path):
    path = random_motion(5).save(tmp_path / "m.npz")
    with np.load(path) as file:
        shapes = {k: file[k].shape for k in file}
    assert shapes == {
        "exp": (5, 21, 3), "scale": (5,), "t": (5, 3), "pitch": (5,), "yaw": (5,), "roll": (5,),
        "breath": (5,), "fps": (), "space": (),
    }  # fmt: skip


def test_spaces_do_not_mix():
    a, b = random_motion(2), random_motion(2, space="liveportrait")
    with pytest.raises(ModaError, match="explicit.*liveportrait"):
        join([a, b])
    with pytest.raises(ModaError, match="liveportrait.*explicit"):
        a.require("liveportrait", "the renderer")
    with pytest.raises(ModaError, match="explicit, liveportrait"):
        random_motion(2, space="other")


@pytest.mark.parametrize(
    "content",
    [b"", b"not a zip", b"PK\x03\x04 broken", np.zeros(3).tobytes()],
    ids=["empty", "text", "zip", "bytes"],
)
def test_what_is_no_motion_file_is_an_error(tmp_path, content):
    path = tmp_path / "m.npz"
    path.write_bytes(content)
    with pytest.raises(ModaError, match="m.npz"):
        Motion.load(path)


def test_motion_file_without_an_array_or_with_pickles_is_an_error(tmp_path):
    np.savez(tmp_path / "part.npz", exp=np.zeros((2, 21, 3)))
    with pytest.raises(ModaError, match="lacks scale"):
        Motion.load(tmp_path / "part.npz")
    np.savez(tmp_path / "pickle.npz", **{k: np.array([{}], dtype=object) for k in ("exp", "scale", "t", "pitch", "yaw", "roll", "fps", "space")})  # fmt: skip
    with pytest.raises(ModaError, match="pickle.npz"):
        Motion.load(tmp_path / "pickle.npz")


@pytest.mark.parametrize(
    "change",
    [{"breath": np.float32(0.5)}, {"scale": np.zeros(5)}, {"scale": -np.ones(5)}, {"exp": np.full((5, 21, 3), 1e4)},
     {"t": np.full((5, 3), 1e4)}, {"yaw": np.full(5, 1e6)}, {"scale": np.full(5, 1e3)}, {"breath": np.full(5, 50)}],
)  # fmt: skip
def test_numbers_that_are_no_face_s_are_errors(tmp_path, change):
    path = random_motion(5).save(tmp_path / "m.npz")
    np.savez(path, **{**np.load(path), **change})
    with pytest.raises(ModaError, match=rf"m\.npz.*{next(iter(change))}"):
        Motion.load(path)


def test_wrong_shapes_and_not_finite_numbers_are_errors():
    with pytest.raises(ModaError, match=r"\(3, 69\)"):
        Motion.from_array(np.zeros((3, 69)))
    with pytest.raises(ModaError, match="finite"):
        Motion.from_array(np.full((3, 70), np.nan))


@settings(max_examples=50, deadline=None)
@given(*[st.floats(-80, 80)] * 3)
def test_angles_invert_rotation(pitch, yaw, roll):
    back = explicit.angles(explicit.rotation([pitch], [yaw], [roll]))
    assert np.allclose([a[0] for a in back], [pitch, yaw, roll], atol=1e-3)


def test_signs_of_the_angles():
    nose, crown = np.float32([0, 0, -1]), np.float32([0, -1, 0])
    assert (explicit.rotation([20], [0], [0])[0] @ nose)[1] < 0  # looks up, y points down
    assert (explicit.rotation([0], [20], [0])[0] @ nose)[0] > 0  # turns to the picture's right
    assert (explicit.rotation([0], [0], [20])[0] @ crown)[0] > 0  # tilts clockwise as seen


def test_mirror_changes_sides_and_only_sides():
    assert np.array_equal(explicit.MIRROR[explicit.MIRROR], np.arange(21))
    for i, name in enumerate(explicit.NAMES):
        other = explicit.NAMES[explicit.MIRROR[i]]
        assert other == name.replace("left", "#").replace("right", "left").replace("#", "right")


def lids(closure) -> Motion:
    """(T,) or (T, 2) closures -> a motion with them."""
    closure = np.asarray(closure, np.float32).reshape(len(closure), -1)
    return explicit.SPACE.close_lids(Motion.still(len(closure)), np.broadcast_to(closure, (len(closure), 2)))


def runs(shut: np.ndarray) -> list[int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], shut.astype(int), [0]])))
    return list(edges[1::2] - edges[::2])


@given(st.lists(st.floats(-0.2, 1.2), min_size=1, max_size=120), st.data())
def test_sampled_lids_become_blinks_of_a_blinks_length(closures, data):
    """Whatever is sampled: none of a frame, both eyes together, a pause after each; a stream is the whole; it can be taken back."""
    motion = lids([0.0, *closures])
    whole = Blinks()(motion)
    after = explicit.SPACE.lid_closure(whole).mean(axis=1)
    inner = runs(after > 0.58)[:-1]  # the last one may be cut off by the end
    assert all(length >= 3 for length in inner) or min(closures) > 0.3
    assert np.array_equal(whole.pitch, motion.pitch)

    cut = data.draw(st.integers(0, len(motion)))
    back = data.draw(st.integers(0, cut))
    stream = Blinks()
    parts = [stream(motion[:cut])]
    stream.rewind(back)
    parts = [parts[0][: cut - back], stream(motion[cut - back :])]
    assert np.allclose(join(parts).exp, whole.exp, atol=1e-6)


def test_open_eyes_and_those_that_squint_are_left():
    for still in (0.1, 0.44, 0.55, 0.8):
        motion = lids(still + 0.02 * np.sin(np.arange(100)))
        assert np.array_equal(Blinks()(motion).exp, motion.exp)


def test_a_flash_of_a_sampled_lid_is_one_whole_blink():
    closures = np.zeros(60)
    closures[[20, 22, 24]] = 0.7, 0.8, 0.7
    after = explicit.SPACE.lid_closure(Blinks()(lids(closures)))
    assert np.allclose(after[20:26], np.array([0.7, *LEVELS[1:]])[:, None], atol=1e-5)
    assert (after[26:] < 0.31).all() and not after[:20].any()
    asleep = explicit.SPACE.lid_closure(Blinks()(lids(np.r_[np.zeros(20), np.full(100, 0.9)])))
    assert (asleep[22:] > 0.8).all()
