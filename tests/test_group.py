"""Several faces: the right mouth speaks, the others listen; scripts; mixed sound."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from moda import ModaError, TalkingHead
from moda.audio.decode import read_audio
from moda.engine.group import Part, Track, attention, read_parts, read_script
from moda.media.picture import read_picture
from moda.media.read import probe
from moda.motion import join
from moda.motion.explicit import SPACE
from moda.streams import pushed


@pytest.fixture(scope="module")
def two(portrait) -> np.ndarray:
    """A picture of two faces: the portrait, and its mirror image."""
    picture = cv2.resize(read_picture(portrait), (384, 384), interpolation=cv2.INTER_AREA)
    return np.hstack([picture, picture[:, ::-1]])


@pytest.fixture(scope="module")
def short(tmp_path_factory, speech):
    from scipy.io import wavfile

    path = tmp_path_factory.mktemp("sounds") / "short.wav"
    wavfile.write(path, 16_000, read_audio(speech)[:48_000])
    return path


@pytest.fixture(scope="module")
def head():
    return TalkingHead.from_pretrained("embedded", "cpu")


def test_the_right_mouth_speaks_and_the_other_listens(head, two, short, tmp_path):
    group = head.together(two, [Part(0, str(short)), Part(1, str(short), 4.0)], size=64)
    assert group.frames_expected == 175
    motions = [
        join(list(pushed(performance, track.pieces(175))))
        for performance, track in zip(group._performances, group._tracks)
    ]
    gaps = [SPACE.lip_gap(motion) for motion in motions]
    assert [len(gap) for gap in gaps] == [175, 175]
    assert gaps[0][:75].std() > 0.02 and gaps[1][100:].std() > 0.02
    assert gaps[1][10:90].max() < 0.02 and gaps[0][110:].max() < 0.02  # the silent one's
    irises = motions[1].exp[20:60, 16:18, 0].mean(), motions[0].exp[120:160, 16:18, 0].mean()
    assert (
        irises[0] < -0.02 and irises[1] > 0.02
    )  # the right one looks to the left, the left one to the right

    group = head.together(two, [Part(0, str(short)), Part(1, str(short), 1.0)], size=64)
    path = group.save(tmp_path / "two.mp4")
    found = probe(path)
    assert found.has_sound and len(read_audio(path)) / 16_000 == pytest.approx(4.0, abs=0.1)


def test_squares_that_overlap_hide_no_face(head, two, short):
    group = head.together(two[:, 150:-150], [Part(0, str(short)), Part(1, str(short))], size=64)
    picture = group.characters[0].source.image
    frame = next(group.frames())
    assert frame.shape == picture.shape
    shares = sum(c._paster._mask.sum() for c in group.characters)
    assert shares > 0
    assert np.abs(frame.astype(int) - picture).mean() < 12


def test_a_listener_keeps_its_lips_closed_and_nods(head, portrait, short, tmp_path):
    group = head.together(portrait, [], listening_to=short, size=64)
    motion = join(list(pushed(group._performances[0], group._tracks[0].pieces(group.frames_expected))))
    assert SPACE.lip_gap(motion).max() < 0.02
    group = head.together(portrait, [], listening_to=short, size=64)
    sound = read_audio(group.save(tmp_path / "listen.mp4"))
    assert np.corrcoef(sound[:40_000], read_audio(short)[:40_000])[0, 1] > 0.9  # what it hears is heard


def test_attention_looks_at_the_speaker_and_nods_at_its_pause():
    timeline = attention([(6.0, 8.0)], [([(0.0, 5.0), (9.0, 10.0)], 1.0)])
    gazes = [event for event in timeline.events if event.gaze]
    assert all(event.gaze[0] > 0 for event in gazes) and gazes[0].at < 1
    nods = [event.at for event in timeline.events if event.head and event.head.pitch]
    assert nods == [pytest.approx(5.25)]
    assert all(e.at + e.length <= 6.0 or e.at >= 8.0 for e in timeline.events if e.hold_lips)


def test_sounds_stand_where_the_script_has_them(short):
    track = Track([Part(0, str(short), 5.0), Part(0, str(short), 1.0)])
    assert track.frames == 200
    wave = np.concatenate(list(track.pieces(210)))
    assert len(wave) == 210 * 640 and not wave[:16_000].any() and not wave[200 * 640 :].any()
    assert np.allclose(wave[16_000:64_000], read_audio(short), atol=1e-4)
    spans = track.speaking(210)
    assert all(stop > 1.0 for _, stop in spans) and not any(4.2 < (a + b) / 2 < 4.9 for a, b in spans)
    with pytest.raises(ModaError, match="twice at 2 s"):
        Track([Part(0, str(short), 2.0), Part(0, str(short), 0.0)])


def test_parts_by_words():
    assert read_parts(["a.wav", "b.wav"]) == [Part(0, "a.wav"), Part(1, "b.wav")]
    assert read_parts(["2=a.wav", "0=b.wav"]) == [Part(2, "a.wav"), Part(0, "b.wav")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "has no parts"),
        ("{}", "line 1: a JSON array"),
        ('[{"face": 0}]', "line 1: it lacks audio"),
        ('[\n{"face": -1, "audio": "a"}]', "line 2: face is -1"),
        ('[{"face": 0, "audio": "a", "at": -2}]', "line 1: at is -2"),
        ('[{"face": 0, "audio": "a", "when": 2}]', "line 1: it has unknown when"),
    ],
)
def test_scripts_that_are_refused(tmp_path, content, said):
    path = tmp_path / "script.json"
    path.write_text(content)
    with pytest.raises(ModaError, match=said):
        read_script(path)


def test_faces_that_are_not_there_are_said(head, portrait, short):
    with pytest.raises(ModaError, match="shows 1 face"):
        head.together(portrait, [Part(1, str(short))])
    with pytest.raises(ModaError, match="nobody speaks"):
        head.together(portrait, [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nobody speaks"),
        (["SOUND", "SOUND", "--listen", "SOUND"], "give one of"),
        (["SOUND", "SOUND", "--steps", "2"], "take no --steps"),
        (["SOUND", "SOUND", "--face", "1"], "counted from the left"),
        (["0=SOUND", "0=SOUND"], "would speak twice"),
        (["SOUND", "missing.wav"], "missing.wav"),
        (["0=SOUND", "SOUND"], "every sound its face"),
        (["--script", "missing.json"], "missing.json"),
    ],
)  # fmt: skip
def test_command_line_mistakes(arguments, said, portrait, short, tmp_path, capsys):
    from moda.cli import run

    words = [word.replace("SOUND", str(short)) for word in arguments]
    assert run(["generate", str(portrait), *words, "-o", str(tmp_path / "x.mp4")]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_script_paths_count_from_the_file(tmp_path, short):
    path = tmp_path / "script.json"
    path.write_text(json.dumps([{"face": 1, "audio": "a.wav", "at": 2}]))
    assert read_script(path) == [Part(1, str(tmp_path.resolve() / "a.wav"), 2.0)]
