"""Speech to face curves: a recorded performer's jaw and rounding, lips as far apart as the generated ones."""

from __future__ import annotations

import shutil
import wave

import numpy as np
import pytest

from moda import ModaError
from moda.cli import run
from moda.interchange import arkit, spoken
from moda.interchange.arkit import CURVES
from moda.interchange.tables import read_curves
from moda.media.files import whole_folder
from moda.motion.explicit import INDEX

UPPER, LOWER = INDEX["lip_upper_inner"], INDEX["lip_lower_inner"]
JAW, CLOSE, PUCKER = (CURVES.index(name) for name in ("jawOpen", "mouthClose", "mouthPucker"))


@pytest.fixture(scope="module")
def said(speech):
    return spoken.speak(speech)


def gap(motion):
    return motion.exp[:, LOWER, 1] - motion.exp[:, UPPER, 1]


def test_lips_of_the_curves_are_as_far_apart_as_the_generated_ones(said):
    motion, values = said
    assert values.shape == (len(motion), 52) and values.min() >= 0 and values.max() <= 1
    again = gap(arkit.motion(values))
    assert np.corrcoef(again, gap(motion))[0, 1] > 0.95
    assert np.abs(again - gap(motion)).mean() < 0.02  # eye distances
    assert (values[:, CLOSE] <= values[:, JAW] + 1e-6).all()
    assert values[:, JAW].std() > 0.03


def test_a_jaw_rests_in_silence(tmp_path):
    path = tmp_path / "silence.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16_000)
        file.writeframes(bytes(2 * 32_000))
    _, values = spoken.speak(path)
    assert len(values) == 50 and values[:, [JAW, PUCKER]].max() < 0.01


def test_the_same_seed_gives_the_same_curves(said, speech):
    motion, values = spoken.speak(speech, seed=0)
    assert np.array_equal(values, said[1])
    other, _ = spoken.speak(speech, seed=1)
    assert not np.array_equal(other.yaw, motion.yaw)
    with pytest.raises(ModaError, match="seed"):
        spoken.speak(speech, seed=-1)


def test_a_sound_is_exported(tmp_path, speech, said, capsys):
    copy = tmp_path / "speech.wav"  # as a music file's cover, a picture that does not move is none
    shutil.copy(speech, copy)
    assert run(["export", str(copy), "-o", str(tmp_path / "a.csv")]) == 0
    motion = read_curves(tmp_path / "a.csv")
    assert np.corrcoef(gap(motion), gap(said[0]))[0, 1] > 0.95
    assert run(["export", str(copy), "-o", str(tmp_path / "a.tsv"), "--seed", "3"]) == 0
    assert (tmp_path / "a.tsv").read_text().count("\n") > 5
    assert run(["export", str(copy), "-o", str(tmp_path / "b.csv"), "--seed", "-3"]) == 2
    assert run(["export", str(tmp_path / "a.csv"), "-o", str(tmp_path / "b.csv"), "--seed", "3"]) == 2
    assert run(["export", str(copy), "-o", str(tmp_path / "b.tsv"), "--format", "a2f"]) == 2
    (tmp_path / "text.wav").write_text("no sound")
    assert run(["export", str(tmp_path / "text.wav"), "-o", str(tmp_path / "b.csv")]) == 2
    assert not (tmp_path / "b.csv").exists()


def test_jaw_and_rounding_follow_a_performer_whose_recordings_nothing_was_fitted_on(shared):
    from recipes.fit_spoken import HELD_OUT, agreement, recorded

    folder = shared / "data" / "blendshapes"
    found = []
    for name in HELD_OUT:
        _, values = spoken.speak(folder / f"{name}.flac")
        real = recorded(folder / name)
        found.append([agreement(values[:, i], real[:, j]) for i, j in ((JAW, 0), (PUCKER, 2))])
    jaw, pucker = np.array(found).T
    assert jaw.mean() > 0.75 and pucker.min() > 0.4  # measured: 0.84 and 0.75, 0.81 and 0.63


def test_a_folder_that_could_not_be_filled_is_not_left(tmp_path):
    for existed in (False, True):
        folder = tmp_path / str(existed)
        if existed:
            folder.mkdir()
        with pytest.raises(KeyboardInterrupt), whole_folder(folder) as made:
            (made / "config.json").write_text("{}")
            raise KeyboardInterrupt
        assert folder.exists() == existed and not list(tmp_path.rglob("config.json"))
    with whole_folder(tmp_path / "new") as made:
        (made / "config.json").write_text("{}")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["config.json"]
