"""The square cut from a picture and pasted back: where points go, and that no seam shows."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moda.render.paste import Crop, Paster


def gradient(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack(
        [x * 200 / width + 20, y * 200 / height + 20, (x + y) * 100 / (width + height) + 60], -1
    ).astype(np.uint8)


@pytest.mark.parametrize(("side", "size"), [(100.0, 256), (256.0, 256), (320.0, 128)])
def test_cut_shows_what_lies_there(side, size):
    image = gradient(400, 500)
    crop = Crop.square(90.3, 20.7, side, size)
    frame = crop.cut(image)
    assert frame.shape == (size, size, 3) and frame.dtype == np.uint8
    # Colours are linear in the place, so each pixel must have the colour of the point that `points` sends to it.
    for point in [(120.0, 60.0), (150.0, 90.0), (180.0, 110.0)]:
        x, y = np.round(crop.points(np.array(point))).astype(int)
        expected = [point[0] * 0.4 + 20, point[1] * 0.5 + 20]
        assert np.abs(frame[y, x, :2] - expected).max() <= 2.5
    assert crop.scale == pytest.approx(size / side)


@pytest.mark.parametrize("side", [120.0, 256.0, 380.0])
def test_an_unchanged_frame_pastes_to_the_same_picture(side):
    image = gradient(400, 500)
    crop = Crop.square(60, 10, side, 256)
    whole = Paster(image, crop).paste(crop.cut(image))
    assert whole.shape == image.shape and whole.dtype == np.uint8
    assert np.abs(whole.astype(int) - image).max() <= 2


@pytest.mark.parametrize("corner", [(60, 40), (-80, -40), (350, 250)])
@pytest.mark.parametrize("side", [120, 380])
def test_a_square_of_whole_pixels_is_pasted_as_any_other(corner, side):
    """It is resized, not warped, which is many times as fast."""
    image = gradient(400, 500)
    frame = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    frame = cv2.resize(frame, (256, 256), interpolation=cv2.INTER_CUBIC)
    fast, slow = (
        Crop.square(corner[0] + shift, corner[1], side, 256) for shift in (0, 2e-4 * side)
    )  # the other lies beside whole pixels by next to nothing
    assert fast.whole == (*corner, side) and slow.whole is None
    a, b = (Paster(image, crop).paste(frame).astype(int) for crop in (fast, slow))
    assert np.abs(a - b).mean() < 1 and np.abs(a - b).max() <= 16


@pytest.mark.parametrize("corner", [(60, 40), (-80, -40), (350, 250)])  # within, and over the picture's edges
def test_a_changed_frame_has_no_seam_and_touches_nothing_else(corner):
    image = gradient(400, 500)
    crop = Crop.square(*corner, 240, 256)
    frame = np.full((256, 256, 3), 255, np.uint8)
    difference = np.abs(Paster(image, crop).paste(frame).astype(int) - image).max(axis=-1)
    x, y = corner
    middle = difference[max(0, y + 60) : y + 180, max(0, x + 60) : x + 180]
    assert (middle > 0).all()
    y0, y1, x0, x1 = max(0, y), y + 240, max(0, x), x + 240
    outside = difference.copy()
    outside[y0 : y1 + 1, x0 : x1 + 1] = 0
    assert outside.max() == 0
    inside_edges = [difference[y0:y1, x0]] if x > 0 else []
    inside_edges += [difference[y0, x0:x1]] if y > 0 else []
    for edge in inside_edges:  # fades from nothing
        assert edge.max() <= 8


def test_the_picture_itself_is_left_alone():
    image = gradient(200, 200)
    before = image.copy()
    Paster(image, Crop.square(20, 20, 100, 64)).paste(np.zeros((64, 64, 3), np.uint8))
    assert (image == before).all()


def test_whole_pictures_fit_players(portrait, caplog):
    from moda.face import read_portrait
    from moda.render.paste import for_players

    source = read_portrait(portrait)
    assert for_players(source) is source and not caplog.text
    small = for_players(source, most=300)
    assert small.image.shape == (300, 300, 3)
    assert "512x512" in caplog.text and "300x300" in caplog.text
    k = 300 / 512
    assert np.allclose(small.landmarks[:, :2] + 0.5, (source.landmarks[:, :2] + 0.5) * k, atol=1e-3)
    assert np.allclose(small.pose.place(small.shape), small.landmarks, atol=0.1)
