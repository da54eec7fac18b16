"""Keypoints, driving and crop: against the published code's numbers and by their own rules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from moda.errors import ModaError
from moda.motion import Motion, liveportrait
from moda.render.liveportrait import keypoints
from moda.render.liveportrait.crop import SCALE, SHIFT, SIZE, crop_matrix, cut, input_crop

GOLDEN = load_file(Path(__file__).parent / "golden" / "lp_keypoints.safetensors")


def motion(seed: int, frames: int = 1) -> Motion:
    numbers = np.random.default_rng(seed).standard_normal((frames, 70)).astype(np.float32)
    numbers[:, :63] *= 0.02
    numbers[:, 63] = 1.3 + 0.1 * numbers[:, 63]
    numbers[:, 64:67] *= 0.1
    numbers[:, 67:] *= 15
    return Motion.from_array(numbers, liveportrait.SPACE)


def pose(prefix: str) -> list[np.ndarray]:
    return [GOLDEN[prefix + name] for name in ("pitch", "yaw", "roll")]


def test_rotation():
    made = liveportrait.rotation(*(angle[:, 0] for angle in pose("")))
    np.testing.assert_allclose(made, GOLDEN["R"], atol=1e-6)


def test_degrees_of_bins():
    np.testing.assert_allclose(keypoints.degrees(GOLDEN["bins"]), GOLDEN["bins_degree"], rtol=1e-4)


@pytest.mark.parametrize(("prefix", "expected"), [("in_", "transformed"), ("in66_", "transformed66")])
def test_place(prefix, expected):
    angles = [keypoints.degrees(a) if a.shape[1] == 66 else a[:, 0] for a in pose(prefix)]
    given_motion = Motion(
        GOLDEN["in_exp"], GOLDEN["in_scale"][:, 0], GOLDEN["in_t"], *angles, space=liveportrait.SPACE
    )
    np.testing.assert_allclose(keypoints.place(GOLDEN["in_kp"], given_motion), GOLDEN[expected], atol=1e-5)


def test_motion_of_raw_heads():
    heads = load_file(Path(__file__).parent / "golden" / "lp_M.safetensors")
    made = keypoints.motion_of({k.removeprefix("raw_"): v for k, v in heads.items() if k.startswith("raw_")})
    for name in ("pitch", "yaw", "roll", "scale"):
        np.testing.assert_allclose(getattr(made, name), GOLDEN[f"M_refined_{name}"][:, 0], rtol=1e-4)
    np.testing.assert_allclose(made.exp, GOLDEN["M_refined_exp"], rtol=1e-4)
    np.testing.assert_allclose(made.t[:, :2], GOLDEN["M_refined_t"][:, :2], rtol=1e-4)
    assert (made.t[:, 2] == 0).all()


@given(st.floats(-180, 180), st.floats(-85, 85), st.floats(-180, 180))
@settings(max_examples=50)
def test_angles_undo_rotation(pitch, yaw, roll):
    matrix = liveportrait.rotation(*(np.array([a]) for a in (pitch, yaw, roll)))
    np.testing.assert_allclose(liveportrait.rotation(*liveportrait.angles(matrix)), matrix, atol=1e-5)


def relative(source: Motion, clip: Motion) -> Motion:
    return liveportrait.SPACE.driven(clip, source, liveportrait.SPACE.resting(clip))


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_relative_driving_by_a_still_clip_leaves_the_source(seed):
    source, still = motion(seed), motion(seed + 1)
    driven = relative(source, Motion.from_array(np.repeat(still.to_array(), 4, 0), liveportrait.SPACE))
    expected = source.to_array().repeat(4, 0)
    expected[:, 66] = 0  # tz
    np.testing.assert_allclose(driven.to_array(), expected, atol=1e-3)


def test_relative_driving_is_the_published_rule():
    source, clip = motion(1), motion(2, frames=5)
    driven = relative(source, clip)
    turn = [liveportrait.rotation(m.pitch, m.yaw, m.roll) for m in (source, clip, driven)]
    for i in range(5):
        np.testing.assert_allclose(turn[2][i], turn[1][i] @ turn[1][0].T @ turn[0][0], atol=1e-5)
    np.testing.assert_allclose(driven.exp, source.exp + clip.exp - clip.exp[:1], atol=1e-6)
    np.testing.assert_allclose(driven.scale, source.scale * clip.scale / clip.scale[:1], rtol=1e-6)
    np.testing.assert_allclose(driven.t[:, :2], (source.t + clip.t - clip.t[:1])[:, :2], atol=1e-6)
    assert (driven.t[:, 2] == 0).all()


def test_absolute_driving_takes_what_speech_needs():
    source, made = motion(1), motion(2, frames=3)
    drawn = liveportrait.SPACE.generated(made, source)
    np.testing.assert_array_equal(drawn.scale, np.repeat(source.scale, 3))
    for name in ("pitch", "yaw", "roll"):
        np.testing.assert_array_equal(getattr(drawn, name), getattr(made, name))
    np.testing.assert_array_equal(drawn.t, made.t * [1, 1, 0])
    for kp in (0, 7, 10):
        np.testing.assert_array_equal(drawn.exp[:, kp], source.exp[:, kp].repeat(3, 0))
    partly = {3: [1], 4: [1], 5: [2], 8: [2], 9: [1, 2]}
    for kp, axes in partly.items():
        others = [a for a in range(3) if a not in axes]
        np.testing.assert_array_equal(drawn.exp[:, kp, axes], made.exp[:, kp, axes])
        np.testing.assert_array_equal(drawn.exp[:, kp, others], source.exp[:, kp, others].repeat(3, 0))
    gaze = drawn.exp - made.exp
    for kp in (1, 2, 6, *range(11, 21)):
        lifted = {11: 0.0025, 15: 0.0025, 13: 0.00075, 16: 0.00075}.get(kp, 0)
        np.testing.assert_allclose(gaze[:, kp], np.tile([0, lifted, 0], (3, 1)), atol=1e-8)


def test_motion_of_another_space_is_refused():
    explicit = Motion.still(2)
    with pytest.raises(ModaError, match=r"liveportrait.*explicit"):
        relative(motion(1), explicit)
    with pytest.raises(ModaError, match=r"liveportrait.*explicit"):
        liveportrait.SPACE.generated(explicit, motion(1))
    with pytest.raises(ModaError, match=r"liveportrait.*explicit"):
        keypoints.place(np.zeros((21, 3)), explicit)


# -- crop -------------------------------------------------------------------------------------------------------


def face(turned: float = 0.0, at: tuple[float, float] = (300, 200), size: float = 100.0) -> np.ndarray:
    """The mean face as landmarks (478, 2), turned by degrees."""
    from moda.face.pose import canonical

    a = np.radians(turned)
    matrix = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    return canonical()[:, :2] @ matrix.T * size + at


def eyes_and_lips(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return points[[33, 133, 263, 362]].mean(axis=0), points[[61, 291, 0, 17, 13, 14]].mean(axis=0)


@given(st.floats(-170, 170), st.floats(20, 300))
@settings(max_examples=30, deadline=None)
def test_the_crop_is_upright_wherever_the_face_is(turned, size):
    """The same face turned and scaled fills the square in the same way."""
    points, still = face(turned, (300, 250), size), face()
    matrix, reference = crop_matrix(points), crop_matrix(still)
    np.testing.assert_allclose(
        matrix[:, :2] @ matrix[:, :2].T, np.eye(2) * np.linalg.det(matrix[:, :2]), atol=1e-9
    )
    seen = points @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(seen, still @ reference[:, :2].T + reference[:, 2], atol=1e-6)
    eyes, lips = eyes_and_lips(seen)
    assert abs(eyes[0] - lips[0]) < 2 and lips[1] > eyes[1]


def test_the_crop_has_the_published_size_and_shift():
    points = face()
    matrix = crop_matrix(points, upright=False)
    seen = points @ matrix[:, :2].T + matrix[:, 2]
    jaw_and_brows = seen[[152, 70, 105, 334, 300, 127, 356]]
    height = np.ptp(jaw_and_brows[:, 1])
    assert max(height, np.ptp(jaw_and_brows[:, 0])) == pytest.approx(SIZE / SCALE, rel=0.03)
    middle = (jaw_and_brows[:, 1].max() + jaw_and_brows[:, 1].min()) / 2
    assert middle == pytest.approx(SIZE / 2 - SHIFT * SIZE, abs=4)  # the square is higher than the face


def test_the_networks_see_the_same_square_at_half_the_size():
    from moda.render.paste import Crop

    crop = Crop(crop_matrix(face(10)), SIZE)
    small = input_crop(crop)
    points = face(10)
    large, half = ((points @ c.matrix[:, :2].T + c.matrix[:, 2] + 0.5) / c.size for c in (crop, small))
    np.testing.assert_allclose(large, half, atol=1e-9)


@pytest.mark.parametrize("size", [40, 160])  # of the face: the square enlarges it, and shrinks it
def test_a_cut_shows_each_place_where_the_matrix_says(size):
    import cv2

    from moda.render.paste import Crop

    crop = input_crop(Crop(crop_matrix(face(25, (610, 530), size)), SIZE))
    assert (crop.scale > 1) == (size == 40)
    for place in [(610, 530), (625, 550), (600, 515)]:
        picture = np.zeros((1100, 1200, 3), np.uint8)
        cv2.circle(picture, place, 4, (255, 255, 255), -1)
        shown = cut(picture, crop)[..., 0].astype(float)
        center = (np.indices(shown.shape)[::-1] * shown).sum(axis=(1, 2)) / shown.sum()
        np.testing.assert_allclose(center, crop.points(np.array(place)), atol=0.2)


@pytest.mark.parametrize("turned", [0, 20, -50])
def test_a_square_cut_and_pasted_back_leaves_the_picture(turned):
    """The paste finds its place again, also for a face that is not upright."""
    import cv2

    from moda.render.paste import Crop, Paster

    rough = np.random.default_rng(0).integers(0, 255, (12, 15, 3), dtype=np.uint8)
    picture = cv2.resize(rough, (600, 480), interpolation=cv2.INTER_CUBIC)
    crop = Crop(crop_matrix(face(turned, (300, 230), 60)), SIZE)
    pasted = Paster(picture, crop).paste(cut(picture, crop))
    assert np.abs(pasted.astype(int) - picture).max() <= 4
    white = Paster(picture, crop).paste(np.full((SIZE, SIZE, 3), 255, np.uint8))
    corners = np.array([[60, 60], [450, 60], [60, 450], [450, 450]])  # of the square, inside the soft edge
    inverse = cv2.invertAffineTransform(crop.matrix)
    for x, y in corners @ inverse[:, :2].T + inverse[:, 2]:
        if 0 <= x < 599 and 0 <= y < 479:
            assert white[round(y), round(x)].min() > 250
