"""The figures of an evaluation, on curves whose answers are known."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moda import ModaError, Motion
from moda.evaluation import judge, metrics
from moda.evaluation.judge import clips_in, summary
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
    with pytest.raises(ModaError, match="no videos"):
        list(clips_in(tmp_path))


@pytest.mark.parametrize("name", ["", "real video", "loudness", "embedded"])
def test_motions_need_a_name_of_their_own(tmp_path, name):
    with pytest.raises(ModaError, match="cannot be called"):
        judge.evaluate(tmp_path, motions={name: tmp_path})
    with pytest.raises(ModaError, match="no folder .*nowhere with motions"):
        judge.evaluate(tmp_path, motions={"mine": tmp_path / "nowhere"})


def test_motions_of_another_length_are_no_motions_of_the_clip(tmp_path):
    clip = judge.RealClip("a", "a", np.zeros(100 * 640, np.float32), Motion.still(100), np.zeros((21, 3)))
    Motion.still(100).save(tmp_path / "a.npz")
    assert len(judge._from_files(tmp_path)(clip, 0)) == 100
    Motion.still(60).save(tmp_path / "a.npz")
    with pytest.raises(ModaError, match="has 60 frames, but the clip 100"):
        judge._from_files(tmp_path)(clip, 0)


def test_a_video_that_cannot_be_used_is_left_out(tmp_path, monkeypatch, caplog):
    def tracked(path, person):
        if path.stem != "b":
            raise ModaError(f"{path} has no sound in it")
        return judge.RealClip(path.stem, person, np.zeros(640), Motion.still(1), np.zeros((21, 3)))

    monkeypatch.setattr(judge, "_tracked", tracked)
    for name in "ac":
        (tmp_path / f"{name}.mp4").touch()
    with pytest.raises(ModaError, match="no video that can be used"):
        list(clips_in(tmp_path))
    (tmp_path / "b.mp4").touch()
    caplog.clear()
    assert [clip.name for clip in clips_in(tmp_path)] == ["b"]
    assert len(caplog.messages) == 2 and "left out: " in caplog.messages[0]


def test_phones_beside_a_video_say_when_lips_have_to_meet(tmp_path, caplog):
    video, grid = tmp_path / "a.mp4", tmp_path / "a.TextGrid"
    assert judge._bilabials(video, np.zeros(16_000)) == []
    tier = 'item [1]:\n name = "phones"\n'
    for a, b, phone in ((0.1, 0.2, "B"), (0.2, 0.3, "AA1"), (0.3, 0.5, "m̩ː")):
        tier += f'intervals [1]:\n xmin = {a}\n xmax = {b}\n text = "{phone}"\n'
    grid.write_text(tier, encoding="utf-8")
    assert judge._bilabials(video, np.zeros(16_000)) == [(0.1, 0.2), (0.3, 0.5)]
    assert not caplog.messages
    grid.write_text("nothing")
    assert judge._bilabials(video, np.zeros(16_000)) == []
    assert "not judged" in caplog.text


def test_lips_that_meet_in_time_are_counted():
    gap = np.full(100, 0.1)
    gap[[10, 51]] = 0.0
    assert metrics.meetings(gap, [(0.36, 0.44), (1.0, 1.1), (2.0, 2.1), (9.0, 9.1)]) == pytest.approx(2 / 3)


def test_seams_show_in_the_jerk():
    smooth = Motion.still(6400).to_array()
    smooth[:, 68] = 5 * np.sin(np.arange(6400) / 7.3)
    assert metrics.seam_jerk(Motion.from_array(smooth), 64) == pytest.approx(1.0, abs=0.3)
    smooth[:, 68] += np.arange(6400) // 64
    assert metrics.seam_jerk(Motion.from_array(smooth), 64) > 1.5


def test_mouth_distance_and_diversity_are_distances():
    still = Motion.still(10)
    array = still.to_array()
    array[:, 3 * INDEX["lip_lower_inner"] + 1] = 0.1
    array[:, 68] = 3
    assert metrics.mouth_distance(Motion.from_array(array), still) == pytest.approx(0.01, abs=1e-6)
    assert metrics.diversity([Motion.from_array(array), still]) == pytest.approx(3, abs=1e-5)


def test_ssim_agrees_with_its_definition_at_its_ends():
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert metrics.ssim(picture, picture) == pytest.approx(1.0)
    assert metrics.ssim(picture, 255 - picture) < 0.1 and metrics.psnr(picture, picture) > 90


def test_frechet_distance_is_that_of_two_normal_distributions():
    from scipy.linalg import sqrtm

    random = np.random.default_rng(0)
    a = random.standard_normal((400, 5)) @ random.standard_normal((5, 5))
    b = random.standard_normal((300, 5)) + 1
    ca, cb = np.cov(a.T), np.cov(b.T)
    wanted = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)
    assert metrics.frechet_distance(a, b) == pytest.approx(wanted)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_identity_drift_is_of_the_face_not_of_its_pose():
    from moda.face.pose import canonical
    from moda.motion.explicit import rotation

    turn = rotation(np.array([4.0]), np.array([10.0]), np.array([-5.0]))[0]
    own = 90 * canonical() + 200
    turned = 70 * canonical() @ turn.T + 300
    wider = own * (1.15, 1, 1)
    talking = own.copy()
    talking[[13, 14, 17, 152], 1] += 30
    assert metrics.shape_drift(turned, own) < 1e-3 and metrics.shape_drift(talking, own) < 1e-3
    assert metrics.shape_drift(wider, own) > 0.03


def test_frames_lie_side_by_side_in_the_page(tmp_path):
    from moda.evaluation import report, strips

    pictures = [np.full((64, 64, 3), 20 * i, np.uint8) for i in range(6)]
    sheet = strips.strip([pictures[:3], pictures[3:]])
    assert (
        sheet.shape == (2 * strips.SIDE, 3 * strips.SIDE, 3)
        and sheet[0, 0, 0] == 0
        and sheet[-1, -1, 0] == 100
    )
    result = {"clips": "<folder>", "seeds": [0], "rows": [], "summary": {}}
    assert "&lt;folder&gt;" in report.page(result) and "<img" not in report.page(result)
    assert report.page(result, {"Ann": sheet}).count("<img src='data:image/jpeg;base64,") == 1


def test_what_was_not_measured_is_null_in_json_and_a_dash_in_the_table(tmp_path):
    row = {"person": "a", "clip": "1", "who": "real"} | dict.fromkeys(judge.COLUMNS, 0.25)
    rows = [row | {"lag": math.nan}]
    result = {"seeds": [0], "rows": rows, "summary": {"real": rows[0], "a very long name": rows[0]}}
    judge.save(result, tmp_path / "a.json")
    kept = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert kept["rows"][0]["lag"] is None and kept["summary"]["real"]["gap_r"] == 0.25
    lines = judge.table(result).splitlines()
    assert len({len(line) for line in lines[:-1]}) == 1 and len(lines[0]) < 80
    assert lines[3].split() == ["lag", "-", "-"]


def test_an_evaluation_weighs_people_alike():
    rows = [
        {"who": "x", "clip": str(i), "person": p, "gap_r": r}
        for i, (p, r) in enumerate([("a", 1.0), ("a", 1.0), ("b", 0.0)])
    ]
    assert summary(rows) == {"x": {"gap_r": 0.5}}


def test_self_driving_beats_the_first_frame_left_still(tmp_path, portrait):
    """A clip of a drawn head that turns: driven by its own motion it is seen again better than by its first frame."""
    from dataclasses import replace

    from moda.evaluation import selfdriven
    from moda.face import read_portrait
    from moda.media.write import write_video
    from moda.motion import join
    from moda.render.mesh import MeshRenderer

    renderer = MeshRenderer(256)
    p = renderer.prepare(read_portrait(portrait))
    turned = [replace(p.motion, yaw=p.motion.yaw + np.float32(10 * k / 20)) for k in range(21)]
    write_video(tmp_path / "turning.mp4", renderer.draw(p, join(turned)))
    strips: dict[str, np.ndarray] = {}
    result = selfdriven.evaluate_self(tmp_path, renderer, strips=strips)
    assert list(strips) == ["turning"] and len(strips["turning"]) == 2 * 144
    assert all(row["drift"] < 0.03 and row["real_drift"] < 0.03 for row in result["rows"])
    assert [row["frame"] for row in result["rows"]] == [5, 10, 15, 20]
    assert [(step["from"], step["to"]) for step in result["steps"]] == [(0, 4), (4, 8), (8, 12)]
    for step in result["steps"]:
        assert step["psnr"] > step["still_psnr"] + 1 and step["ssim"] > step["still_ssim"]
    assert "4 to 8°" in selfdriven.table(result)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModaError, match="no videos"):
        selfdriven.evaluate_self(tmp_path / "empty", renderer)


@pytest.mark.slow
def test_a_filmed_clip_is_judged_and_shown_beside_what_was_made(shared, tmp_path):
    import shutil

    from moda.evaluation.judge import evaluate

    shutil.copy(shared / "data/video/train/grid_bbaf2n.mp4", tmp_path)
    strips: dict[str, np.ndarray] = {}
    result = evaluate(tmp_path, seeds=(0,), strips=strips)
    real, made = result["summary"]["real video"], result["summary"]["embedded"]
    assert real["sync_confidence"] > 0.3 and made["sync_confidence"] > 0.2 and abs(real["sync_offset"]) <= 1
    (name,) = strips
    assert name == "grid_bbaf2n: real video, embedded" and strips[name].shape == (288, 8 * 144, 3)
