"""The command line as scripts and people use it: in real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import tone, write_sound

from moda import Motion, __version__
from moda.audio.decode import read_audio
from moda.cli import run
from moda.media.read import probe, read_video


def moda(*arguments, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "moda", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return write_sound(tmp_path_factory.mktemp("s") / "a.wav", tone(1.0, 44_100), 44_100)


def test_version_and_help():
    assert moda("--version").stdout.strip() == __version__
    text = moda("--help").stdout
    for command in ("generate", "animate", "track", "train", "evaluate", "bench", "doctor", "weights"):
        assert command in text
    assert moda().stdout == text
    for option in ("--seed", "--steps", "--guidance", "--emotion", "--model", "--size", "--full", "--motion-out",
                   "--pose", "--lips", "--blink", "--face", "--device", "-o"):  # fmt: skip
        assert option in moda("generate", "--help").stdout


def test_starts_without_anything_heavy():
    """A help text may not wait for torch."""
    code = (
        "import sys; from moda.cli import run; run(['--help']); "
        "print([m for m in ('torch', 'cv2', 'av', 'mediapipe', 'numpy', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("[]"), done.stdout[-200:] + done.stderr


def test_generate(tiny, portrait, short, tmp_path):
    video, motion = tmp_path / "out.mp4", tmp_path / "m.npz"
    done = moda("generate", portrait, short, "-o", video, "--model", tiny, "--size", 96, "--seed", 3,
                "--motion-out", motion)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")  # quiet, stderr being no terminal
    assert len(list(read_video(video))) == 25
    assert len(read_audio(video)) == pytest.approx(16_000, abs=1_100)
    assert len(Motion.load(motion)) == 25
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.npz", "out.mp4"]


def test_what_was_generated_drives_another_run(tiny, portrait, short, tmp_path):
    """generate --motion-out, then animate by that motion as it is: the very same pictures."""
    motion, made, again = tmp_path / "m.npz", tmp_path / "a.mp4", tmp_path / "b.mp4"
    options = ["--model", str(tiny), "--size", "96"]
    given = ["generate", str(portrait), str(short), "-o", str(made), "--motion-out", str(motion)]
    assert run([*given, *options]) == 0
    assert (
        run(["animate", str(portrait), str(motion), "-o", str(again), "--driving", "absolute", *options]) == 0
    )
    frames = [list(read_video(path)) for path in (made, again)]
    assert len(frames[0]) == len(frames[1]) == 25 and not probe(again).has_sound
    assert all(np.array_equal(a, b) for a, b in zip(*frames))


def test_track(portrait, tiny, tmp_path):
    """A video that we drew: the tracked motion has its length and moves as it does."""
    driving = Motion.still(20)
    yaw = 8 * np.sin(np.arange(20) / 3).astype(np.float32)
    Motion(driving.exp, driving.scale, driving.t, driving.pitch, yaw, driving.roll).save(tmp_path / "d.npz")
    options = ["--model", str(tiny), "--size", "192"]
    assert (
        run(["animate", str(portrait), str(tmp_path / "d.npz"), "-o", str(tmp_path / "v.mp4"), *options]) == 0
    )
    assert run(["track", str(tmp_path / "v.mp4"), "-o", str(tmp_path / "m.npz"), "--model", str(tiny)]) == 0
    motion = Motion.load(tmp_path / "m.npz")
    assert len(motion) == 20 and motion.space.name == "explicit"
    assert np.corrcoef(motion.yaw, yaw)[0, 1] > 0.95


@pytest.mark.parametrize("sent, code", [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_leaves_nothing(sent, code, tiny, portrait, tmp_path):
    """Broken off while frames are being written."""
    sound = write_sound(tmp_path / "long.wav", tone(120.0, 8_000), 8_000)
    folder = tmp_path / "out"
    folder.mkdir()
    command = [sys.executable, "-m", "moda", "generate", str(portrait), str(sound), "-o", str(folder / "a.mp4"),
               "--model", str(tiny), "--size", "256"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 90
    while not list(folder.iterdir()) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.05)
    assert list(folder.iterdir()), "it never began to write"
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert err.count("\n") == 1 and err.startswith("moda: "), err
    assert not list(folder.iterdir())


def test_a_missing_library_is_one_line(portrait, short, tmp_path):
    """As where OpenCV's build with windows has won and there is no libGL."""
    code = (
        "import sys; sys.modules['cv2'] = None; from moda.cli import run; "
        f"sys.exit(run(['generate', {str(portrait)!r}, {str(short)!r}, '-o', {str(tmp_path / 'a.mp4')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "moda doctor" in done.stderr


def test_doctor_names_what_is_there(capsys):
    run(["doctor"])
    out = capsys.readouterr().out
    for name in (
        "python",
        "torch",
        "mediapipe",
        "opencv",
        "libx264",
        "aac",
        "cpu",
        "transformers",
        "model embedded",
    ):
        assert name in out
    assert "!!  opencv" not in out and "!!  libx264" not in out


def test_bench_measures_every_stage(tiny, tmp_path, capsys):
    assert run(["bench", "--model", str(tiny), "--seconds", "1", "--json", str(tmp_path / "b.json")]) == 0
    result = json.loads((tmp_path / "b.json").read_text())
    (measured,) = result["runs"]
    stages = measured["stages"]
    assert set(stages) == {"portrait", "sound to features", "generator", "renderer", "video encoding"}
    assert all(seconds > 0 for seconds in stages.values())
    assert measured["total"] > 0
    assert measured["frames"] == 25
    assert result["machine"]["matrix product GFLOP/s"] > 0
    assert "whole path" in capsys.readouterr().out


def test_python_is_the_same_path(tiny, portrait, short, tmp_path):
    from moda import TalkingHead

    TalkingHead.from_pretrained(tiny)(portrait, short, seed=3, size=96).save(tmp_path / "a.mp4")
    run(["generate", str(portrait), str(short), "-o", str(tmp_path / "b.mp4"), "--model", str(tiny), "--size", "96",
         "--seed", "3"])  # fmt: skip
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
