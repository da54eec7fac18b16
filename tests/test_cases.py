"""What people really bring, each from a public bug report; the files lie in ../shared/cases with a word on each."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from test_small_faces import lip_error

from moda.audio.decode import frames_in, open_listening, read_audio
from moda.cli import run
from moda.face import read_portrait, track
from moda.face.landmarks import find_faces, look_for_faces, roll_of
from moda.media.picture import read_picture
from moda.media.read import probe, read_video
from moda.motion import Motion
from moda.motion.explicit import lip_gap


@pytest.fixture(scope="module")
def cases(shared) -> Path:
    return shared / "cases"


@pytest.fixture(scope="module")
def mona(shared) -> Path:
    return shared / "data/portraits/mona_lisa.jpg"


# -- faces -------------------------------------------------------------------------------------


def test_small_faces_in_wide_pictures(cases, mona, portrait):
    for name, close in (("wide_mona.jpg", mona), ("wide_astronaut.jpg", portrait)):
        far, near = (find_faces(read_picture(path))[0] for path in (cases / name, close))
        assert lip_error(far, near) < 0.06


def test_a_face_upside_down(cases):
    found = look_for_faces(read_picture(cases / "upside_down.jpg"))
    assert len(found) == 1
    assert abs(roll_of(found[0].landmarks) + 177) < 5
    assert not found[0].covered


def test_a_mask_is_told(cases, portrait, caplog):
    read_portrait(cases / "surgical_mask.jpg")
    assert "covered" in caplog.text
    caplog.clear()
    read_portrait(portrait)
    assert not caplog.text


def test_a_small_face_is_tracked(cases):
    tracked = track(cases / "far_face.mp4")
    assert tracked.lost < 3 and tracked.people == 1
    assert lip_gap(tracked.motion.exp).std() > 0.02


def test_a_driver_who_walks_out(cases, mona, tiny, caplog):
    from moda import TalkingHead

    tracked = track(cases / "walks_out.mp4")
    assert 50 < tracked.lost < 65 and tracked.frames == 103
    assert np.abs(tracked.motion.t[:20]).max() < 0.1  # at rest while sitting
    assert np.abs(tracked.motion.t[-15:]).max() < 0.01 and np.abs(tracked.motion.exp[-15:]).max() < 0.01
    head = TalkingHead.from_pretrained(tiny)
    frames = list(head.animate(mona, cases / "walks_out.mp4", size=128).frames())
    assert "of 103 frames" in caplog.text
    still = next(iter(head.animate(mona, Motion.still(1), size=128).frames()))
    assert np.abs(frames[0].astype(int) - still).mean() < 8
    # Nothing tears: no frame is further from the still one than a head that turns, and none leaps.
    assert max(np.abs(frame.astype(int) - still).mean() for frame in frames) < 25
    assert max(np.abs(a.astype(int) - b).mean() for a, b in zip(frames[1:], frames)) < 12


# -- pictures ----------------------------------------------------------------------------------


def test_pictures_of_every_kind(cases, portrait):
    reference = read_picture(portrait).astype(int)
    for name, most in (("sideways_exif.webp", 4), ("phone.heic", 4), ("adobe_rgb.jpg", 2)):
        assert np.abs(read_picture(cases / name) - reference).mean() < most, name
    colors = read_picture(cases / "adobe_rgb.jpg")
    suit = np.abs(reference - [194, 103, 106]).sum(axis=2) < 12
    assert np.abs(colors[suit].mean(axis=0) - reference[suit].mean(axis=0)).max() < 4
    assert read_picture(cases / "web.gif").shape == (320, 320, 3)


# -- sound -------------------------------------------------------------------------------------


def test_joined_speech(cases):
    assert 8.2 < len(read_audio(cases / "tts_joined.mp3")) / 16_000 < 8.4
    heard = sum(len(piece) for piece in open_listening(cases / "tts_joined.mp3").pieces)
    assert 8.2 < heard / open_listening(cases / "tts_joined.mp3").rate < 8.4
    assert abs(frames_in(len(read_audio(cases / "tts_joined.mp3"))) - 207) <= 3


def test_the_voice_in_one_of_eight_channels(cases):

    wave = read_audio(cases / "surround_71.flac")
    middle = channels(cases / "surround_71.flac")[:, 2]
    assert np.corrcoef(wave, middle)[0, 1] > 0.99
    assert wave.std() == pytest.approx(middle.std(), rel=0.05)
    assert len(wave) == 32_000


def test_channels_of_opposite_phase(cases):
    wave, left = read_audio(cases / "antiphase.flac"), channels(cases / "antiphase.flac")[:, 0]
    assert abs(np.corrcoef(wave, left)[0, 1]) > 0.999
    assert wave.std() == pytest.approx(left.std(), rel=0.02)


def channels(path: Path) -> np.ndarray:
    """(n, C) as FFmpeg decodes them, 16 kHz files only."""
    import av

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        count = container.streams.audio[0].channels
    return np.concatenate([frame.reshape(-1, count) for frame in frames]) / 2.0**15


def test_a_gap_in_the_time_stamps_is_silence(cases):
    import av

    pieces, stamps = [], []
    with av.open(str(cases / "sound_gap.mkv")) as container:
        for frame in container.decode(audio=0):
            stamps.append((frame.time, frame.samples))
            pieces.append(frame.to_ndarray())
        rate = container.streams.audio[0].rate
    leap = next(i for i, (a, b) in enumerate(zip(stamps, stamps[1:]), 1) if b[0] - a[0] > 0.5)
    sound = open_listening(cases / "sound_gap.mkv")
    heard = np.concatenate(list(sound.pieces))[:, 0]
    assert sound.rate == rate and 5.1 < len(heard) / rate < 5.3
    # What follows the gap lies where its time stamp says.
    after = np.concatenate(pieces[leap:], axis=1)[0]
    begin = round(stamps[leap][0] * rate)
    lags = np.arange(-600, 601)
    part = after[2000:12_000]
    likeness = [np.dot(part, heard[begin + 2000 + lag : begin + 12_000 + lag]) for lag in lags]
    assert abs(lags[int(np.argmax(likeness))]) < 0.02 * rate
    assert np.abs(heard[round(1.7 * rate) : round(2.5 * rate)]).max() < 1e-4


@pytest.mark.slow
def test_noise_does_not_move_the_mouth(cases, mona):
    from moda import TalkingHead

    motion = TalkingHead.from_pretrained("embedded")(mona, cases / "noise.wav", size=64).motion
    assert np.quantile(lip_gap(motion.exp), 0.9) < 0.04


# -- names and surroundings ----------------------------------------------------------------------


def test_colons_dashes_and_long_names(cases, portrait, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "12:30.wav").write_bytes((cases / "clock.wav").read_bytes())
    (tmp_path / "-pic 50%d.jpg").write_bytes(portrait.read_bytes())
    long = "n" * 247 + ".mp4"
    more = ["--model", str(tiny), "--size", "64"]
    assert run(["generate", str(portrait), "12:30.wav", "-o", "12:31.mp4", *more]) == 0
    assert run(["animate", str(portrait), "12:31.mp4", "-o", long, *more]) in (0, 2)  # a face of 64 pixels
    assert run(["generate", "-o", long, *more, "--", "-pic 50%d.jpg", "12:30.wav"]) == 0
    assert probe(tmp_path / long).frames == 50
    assert run(["generate", str(portrait), "12:30.wav", "-o", "n" * 300 + ".mp4", *more]) == 2
    assert "bytes" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))


def test_hostile_surroundings(cases, portrait, tiny, tmp_path):
    """A notebook's backend, no HOME, no TMPDIR, stderr closed, sound through a pipe: all at once."""
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "TMPDIR")}
    environment |= {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "TMPDIR": "/nowhere"}
    words = [sys.executable, "-m", "moda", "generate", str(portrait), "/dev/stdin", "-o", "out.mp4"]
    words += ["--model", str(tiny), "--size", "64"]
    shell = 'cat "$0" | "$@" 2>&-'
    done = subprocess.run(
        ["sh", "-c", shell, str(cases / "clock.wav"), *words], env=environment, cwd=tmp_path
    )
    assert done.returncode == 0
    assert len(list(read_video(tmp_path / "out.mp4"))) == 50
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_people_who_follow_each_other(shared, tmp_path, caplog):
    from conftest import write_frames

    from moda.media.read import timed_frames

    def frames(name: str) -> list[np.ndarray]:
        return [frame for _, frame, _ in islice(timed_frames(shared / "data/video" / name), 30)]

    one, other = frames("train/grid_lbbc2a.mp4"), frames("train/congress_sanders_1.mp4")
    size = min(one[0].shape[0], other[0].shape[0])
    cut = [frame[:size, :size] for frame in [*one, *other]]
    both = track(write_frames(tmp_path / "both.mp4", cut))
    assert both.people == 2 and both.lost == 0
    assert "2 people" in " ".join(both.remarks())
    alone = track(write_frames(tmp_path / "one.mp4", cut[:30]))
    assert alone.people == 1 and not alone.remarks()
    # Each moves from their own rest: where they are in the frame makes no difference.
    assert np.abs(both.motion.t).max() < 0.2
