"""`moda data prepare`: what comes out is in time and named, and teaches what it says; a second run does nothing."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from wave import open as open_wave

import numpy as np
import pytest

from moda import ModaError, Motion
from moda.audio.decode import read_audio
from moda.audio.speech import SpeechEncoder
from moda.interchange.tables import save_audio2face, save_livelink
from moda.motion.explicit import INDEX, lip_gap
from moda.training.clips import encoded
from moda.training.dataset import items, prepare
from moda.training.windows import make_speech, recorded_speech


@pytest.mark.slow
def test_a_video_becomes_a_clip_once(shared, tmp_path):
    video = tmp_path / "videos" / "one.mp4"
    video.parent.mkdir()
    shutil.copy(shared / "data/video/train/grid_bbaf2n.mp4", video)
    found = prepare([video.parent], tmp_path / "set", people={"one.mp4": "Ann"})
    assert [f.person for f in found if f.clip] == ["Ann"]
    (item,) = items([tmp_path / "set"])
    assert item.motion.shape[1] == 70 and abs(len(item.wave) / 640 - len(item.motion)) <= 2
    assert np.isfinite(item.motion).all() and item.person == "Ann" and abs(item.lag) <= 6
    stamp = item.path.stat().st_mtime_ns
    assert prepare([video.parent], tmp_path / "set") == found and item.path.stat().st_mtime_ns == stamp


def test_no_videos_are_an_error(tmp_path):
    with pytest.raises(ModaError, match="no video"):
        prepare([tmp_path], tmp_path / "set")
    with pytest.raises(ModaError, match="there is no video, sound or folder .*a.mp4"):
        prepare([tmp_path / "a.mp4"], tmp_path / "set")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.mp4").write_bytes(b"x")
    with pytest.raises(ModaError, match=r"a/1.mp4 and .*b/1.mp4 have one name.*rename"):
        prepare([tmp_path], tmp_path / "set")
    with pytest.raises(ModaError, match="none of the 1 files"):
        prepare([tmp_path / "a"], tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_what_was_refused_is_looked_at_again(spoken, tmp_path, caplog):
    wave, motion = spoken
    for name in "ab":
        write_sound(tmp_path / f"{name}.wav", wave)
        save_audio2face(motion, tmp_path / f"{name}.csv")
    (tmp_path / "b.csv").write_text("nothing")
    assert [bool(f.clip) for f in prepare([tmp_path], tmp_path / "set", people={"c.wav": "C"})] == [
        True,
        False,
    ]
    assert "names c.wav, not among" in caplog.text
    save_audio2face(motion, tmp_path / "b.csv")
    assert [f.clip for f in prepare([tmp_path], tmp_path / "set")] == ["a.npz", "b.npz"]


WAVE = Path(__file__).parents[1] / "assets" / "speech.wav"


@pytest.fixture(scope="module")
def spoken():
    """The demo's speech, and the embedded lips that go with it as a Motion of lips alone."""
    wave = read_audio(WAVE)[: 5 * 16_000]
    array = Motion.still(len(wave) // 640).to_array()
    array[:, :63] = encoded(wave)[0][: len(array)].reshape(len(array), -1)
    return wave, Motion.from_array(array)


def write_sound(path, wave):
    with open_wave(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16_000)
        file.writeframes(np.int16(32767 * wave).tobytes())


def one_item(folder, out):
    found = prepare([folder], out)
    assert len(found) == 1 and found[0].clip, found
    return found[0], *items([out])


def test_a_sound_with_curves_teaches_the_recorded_lips(spoken, tmp_path):
    wave, motion = spoken
    write_sound(tmp_path / "a.wav", wave)
    write_sound(tmp_path / "without.wav", wave)  # a folder's sounds without anything beside them do not count
    save_audio2face(motion, tmp_path / "a.csv")
    found, item = one_item(tmp_path, tmp_path / "set")
    assert (found.teaches, found.lag, found.person) == ("lips", 0, "a") and found.r > 0.9
    assert item.lips_only and item.closed is None
    speech = recorded_speech(
        item.wave, item.motion, 2, SpeechEncoder.load()
    )  # as if the picture came 2 frames late
    assert len(speech.lips) == len(speech.features) == len(item.motion) - 2
    assert np.allclose(speech.lips, item.motion[2:, :33], atol=1e-6)


def test_curves_of_a_whole_face_are_stored_as_film_is(spoken, tmp_path):
    wave, motion = spoken
    write_sound(tmp_path / "a.wav", wave)
    swing = np.sin(np.arange(len(motion)) / 9).astype(np.float32)
    exp = motion.exp.copy()
    exp[50:55, [INDEX["lid_upper_right"], INDEX["lid_upper_left"]], 1] = 0.13
    save_livelink(replace(motion, yaw=3 * swing, exp=exp), tmp_path / "a.csv")
    found, item = one_item(tmp_path, tmp_path / "set")
    assert found.teaches == "face" and not item.lips_only
    assert np.allclose(item.motion[:, 68], 3 * swing, atol=0.05)  # yaw


def test_a_sound_with_weights_and_names_has_the_sounds_rate(spoken, tmp_path):
    wave, motion = spoken
    write_sound(tmp_path / "a.wav", wave)
    jaw = np.interp(np.arange(150) / 30, np.arange(len(motion)) / 25, 4 * lip_gap(motion.exp))
    np.save(tmp_path / "a.npy", np.stack([jaw, 0 * jaw, 0 * jaw], axis=1))
    (tmp_path / "names.json").write_text(json.dumps(["mouth_stretch_c", "mouthSmileLeft", "mouth_pucker_r"]))
    found, item = one_item(tmp_path, tmp_path / "set")
    assert found.teaches == "lips" and found.r > 0.9 and len(item.motion) == 125
    (tmp_path / "names.json").write_text('["one", "two", "three"]')
    with pytest.raises(ModaError, match="none of the 1 files.*no columns that are known"):
        prepare([tmp_path], tmp_path / "other")


TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        intervals [1]:
            xmin = 0
            xmax = 5
            text = "B"
    item [2]:
        class = "IntervalTier"
        name = "phones"
        intervals [1]:
            xmin = 1.0
            xmax = 1.08
            text = "B"
        intervals [2]:
            xmin = 1.08
            xmax = 1.3
            text = "AA1"
        intervals [3]:
            xmin = 1.31
            xmax = 1.34
            text = "mʲ"
"""


def test_phone_times_say_when_lips_meet(spoken, tmp_path):
    wave, _ = spoken
    write_sound(tmp_path / "a.wav", wave)
    (tmp_path / "a.TextGrid").write_text(TEXTGRID, encoding="utf-8")
    found, item = one_item(tmp_path, tmp_path / "set")
    assert found.teaches == "closures" and item.lips_only
    assert list(np.flatnonzero(item.closed == 1)) == [25, 26, 33] and item.closed.sum() < 3.5
    speech = make_speech(item.wave, SpeechEncoder.load(), closed=item.closed)
    gap = speech.lips.reshape(-1, 11, 3)[:, 5, 1] - speech.lips.reshape(-1, 11, 3)[:, 4, 1]
    assert (gap[item.closed == 1] < 0).all() and gap[28] > gap[25]
    (tmp_path / "a.TextGrid").write_text("no grid")
    with pytest.raises(ModaError, match="no TextGrid"):
        prepare([tmp_path], tmp_path / "other")


def test_a_transcript_is_aligned_where_there_is_an_aligner(spoken, tmp_path, monkeypatch):
    wave, _ = spoken
    write_sound(tmp_path / "a.wav", wave)
    (tmp_path / "a.txt").write_text("whatever is said")

    class Aligner:
        def __call__(self, sound, text):
            assert len(sound) == len(wave) and text == "whatever is said"
            return [(0.4, 0.5, "P"), (0.5, 0.7, "PAU")]

    monkeypatch.setattr("moda.training.align.Aligner", Aligner)
    _, item = one_item(tmp_path, tmp_path / "set")
    assert item.closed[10] == 1 and item.closed[13:].sum() == 0
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    with pytest.raises(ModaError, match="pip install pocketsphinx"):
        prepare([tmp_path / "a.wav"], tmp_path / "other")
    (tmp_path / "a.txt").unlink()
    with pytest.raises(ModaError, match="nothing beside it"):
        prepare([tmp_path / "a.wav"], tmp_path / "third")
