"""The figures of an evaluation, on curves whose answers are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moda import ModaError, Motion
from moda.evaluation.judge import clips_in
from moda.evaluation.metrics import blinks, correlation, describe
from moda.motion.explicit import INDEX, LID_APERTURE, lip_gap


@settings(max_examples=30, deadline=None)
@given(st.integers(-3, 3), st.integers(0, 99))
def test_correlation_finds_the_lag(lag, seed):
    curve = np.random.default_rng(seed).standard_normal(200).cumsum()
    later = np.roll(curve, lag)
    r, found = correlation(later[5:-5], curve[5:-5])
    assert found == lag and r == pytest.approx(1.0)


def test_correlation_of_a_lag_out_of_reach_or_of_a_still_mouth_is_low():
    curve = np.random.default_rng(0).standard_normal(500)
    assert correlation(np.roll(curve, 8), curve)[0] < 0.3
    assert correlation(np.zeros(50), curve[:50]) == (0.0, 0)


def test_correlation_agrees_with_scipy():
    from scipy.stats import pearsonr

    a, b = np.random.default_rng(1).standard_normal((2, 80))
    b += 0.5 * a
    assert correlation(a, b, max_lag=0)[0] == pytest.approx(pearsonr(a, b)[0]) and pearsonr(a, b)[0] > 0.2


def test_blinks_are_counted():
    array = Motion.still(100).to_array()
    exp = array[:, :63].reshape(100, 21, 3)
    for at in (10, 40, 41, 70):  # 40 and 41 are one
        exp[at, [INDEX["lid_upper_right"], INDEX["lid_upper_left"]], 1] = LID_APERTURE
    motion = Motion.from_array(array)
    assert blinks(motion) == 3
    assert describe(motion)["blinks_per_minute"] == pytest.approx(45)


def test_lip_gap_is_the_distance_of_the_inner_lips():
    array = Motion.still(2).to_array()
    array[1, 3 * INDEX["lip_lower_inner"] + 1] = 0.3
    array[1, 3 * INDEX["lip_upper_inner"] + 1] = -0.1
    assert lip_gap(Motion.from_array(array).exp) == pytest.approx([0, 0.4])


def test_folders_without_clips_are_errors(tmp_path):
    with pytest.raises(ModaError, match="no folder"):
        list(clips_in(tmp_path / "missing"))
    with pytest.raises(ModaError, match="neither videos"):
        list(clips_in(tmp_path))
    np.save(tmp_path / "a.npy", np.zeros((30, 5)))
    with pytest.raises(ModaError, match="no sound"):
        list(clips_in(tmp_path))
