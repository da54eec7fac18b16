"""Mistakes that people make: each one line on stderr, exit code 2, nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import tone, write_frames, write_sound

from moda.audio.decode import read_audio
from moda.cli import run
from moda.errors import ModaError
from moda.media.picture import read_picture
from moda.motion import Motion


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG that claims this size."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)), b"\x00\x00\x01\x00IDAT"]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + bytes(300)


@pytest.fixture(scope="module")
def things(tmp_path_factory, portrait, speech, tiny):
    """A folder of things that people might give; read-only by agreement."""
    import av

    d = tmp_path_factory.mktemp("things")
    picture = read_picture(portrait)
    jpg = portrait.read_bytes()
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    (d / "empty.jpg").touch()
    (d / "empty.wav").touch()
    (d / "empty.mp4").touch()
    (d / "text.jpg").write_text("this is no picture")
    (d / "text.wav").write_text("this is no sound " * 100)
    (d / "text.npz").write_text("this is no motion")
    (d / "broken.jpg").write_bytes(jpg[:200] + b"\x00" * 5000)
    (d / "broken.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes()[:9000])
    (d / "large.png").write_bytes(png_header(8000, 8000))
    (d / "huge.png").write_bytes(png_header(30_000, 30_000))
    cv2.imwrite(str(d / "dot.png"), picture[:10, :10])
    cv2.imwrite(str(d / "noface.png"), noise)
    cv2.imwrite(str(d / "tinyface.png"), np.pad(cv2.resize(picture, (16, 16)), ((60, 60), (60, 60), (0, 0))))
    write_sound(d / "short.wav", tone(0.03), 16_000)
    write_frames(d / "silent.mp4", [noise] * 10)
    whole = write_sound(d / "whole.m4a", tone(2.0), 16_000).read_bytes()
    (d / "broken.m4a").write_bytes(whole[: len(whole) // 3])  # its index, at the end, is gone
    with av.open(str(d / "nosamples.wav"), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        out.start_encoding()
        del stream
    Motion.still(5, "liveportrait").save(d / "other_space.npz")
    np.savez(d / "half.npz", exp=np.zeros((3, 21, 3)))
    np.savez(d / "pickled.npz", exp=np.array([{}], dtype=object))
    (d / "folder").mkdir()
    for name in ("lacks_weights", "broken_weights", "broken_config", "wrong_shape"):
        shutil.copytree(tiny, d / name)
    (d / "lacks_weights" / "generator.safetensors").unlink()
    weights = (tiny / "generator.safetensors").read_bytes()
    (d / "broken_weights" / "generator.safetensors").write_bytes(weights[: len(weights) // 2])
    (d / "broken_config" / "config.json").write_text("{")
    config = (tiny / "config.json").read_text()
    (d / "wrong_shape" / "config.json").write_text(re.sub(r'"width": 32', '"width": 64', config))
    return d


GOOD = {"portrait": "{portrait}", "audio": "{speech}", "out": "{tmp}/out.mp4", "model": "{tiny}"}
# what is wrong: (what is given in place of the good, words that the message has)
GENERATE = {
    "no portrait there": ({"portrait": "{d}/nobody.jpg"}, "no picture .*nobody.jpg"),
    "folder as portrait": ({"portrait": "{d}/folder"}, "is a folder"),
    "empty portrait": ({"portrait": "{d}/empty.jpg"}, "is empty"),
    "text as portrait": ({"portrait": "{d}/text.jpg"}, "no picture that can be read"),
    "sound as portrait": ({"portrait": "{speech}"}, "no picture that can be read"),
    "damaged JPEG": ({"portrait": "{d}/broken.jpg"}, "no picture that can be read"),
    "damaged PNG": ({"portrait": "{d}/broken.png"}, "no picture that can be read"),
    "large portrait": ({"portrait": "{d}/large.png"}, "8000x8000.*50 million"),
    "huge portrait": ({"portrait": "{d}/huge.png"}, "50 million"),
    "dot as portrait": ({"portrait": "{d}/dot.png"}, "10x10.*at least 64"),
    "portrait without a face": ({"portrait": "{d}/noface.png"}, "no face"),
    "face of a few pixels": ({"portrait": "{d}/tinyface.png"}, "no face|too small"),
    "no such face": ({"--face": "5"}, "face"),
    "negative face": ({"--face": "-1"}, "face is -1"),
    "no sound there": ({"audio": "{d}/nothing.wav"}, "no sound file"),
    "folder as sound": ({"audio": "{d}/folder"}, "is a folder"),
    "empty sound": ({"audio": "{d}/empty.wav"}, "is empty"),
    "text as sound": ({"audio": "{d}/text.wav"}, "cannot be read as sound|cannot be decoded|no sound"),
    "picture as sound": ({"audio": "{portrait}"}, "no sound in it"),
    "video without sound": ({"audio": "{d}/silent.mp4"}, "no sound in it"),
    "sound without samples": ({"audio": "{d}/nosamples.wav"}, "empty"),
    "sound shorter than a frame": ({"audio": "{d}/short.wav"}, "30 ms"),
    "sound without its index": ({"audio": "{d}/broken.m4a"}, "cannot be read as sound"),
    "unknown emotion": ({"--emotion": "hungry"}, "hungry.*happiness"),
    "no steps": ({"--steps": "0"}, "steps is 0"),
    "too many steps": ({"--steps": "99999"}, "steps is 99999"),
    "half a step": ({"--steps": "2.5"}, "--steps"),
    "guidance that is no number": ({"--guidance": "nan"}, "guidance is nan"),
    "negative guidance": ({"--guidance": "-1"}, "guidance is -1"),
    "negative seed": ({"--seed": "-7"}, "seed is -7"),
    "seed in words": ({"--seed": "seven"}, "--seed"),
    "size zero": ({"--size": "0"}, "size is 0"),
    "odd size": ({"--size": "101"}, "size is 101.*even"),
    "size beyond all": ({"--size": "100000"}, "size is 100000"),
    "negative gain": ({"--lips": "-1"}, "lips is -1"),
    "gain without end": ({"--pose": "inf"}, "pose is inf"),
    "gain that is no number": ({"--blink": "nan"}, "blink is nan"),
    "output without a folder": ({"out": "{tmp}/nowhere/out.mp4"}, "no folder .*nowhere"),
    "output of a kind that is not written": ({"out": "{tmp}/out.gif"}, r"\.mp4"),
    "output without a kind": ({"out": "{tmp}/out"}, r"\.mp4"),
    "folder as output": ({"out": "{tmp}"}, "cannot write"),
    "motion without a folder": ({"--motion-out": "{tmp}/nowhere/m.npz"}, "no folder .*nowhere"),
    "motion of another kind": ({"--motion-out": "{tmp}/m.txt"}, r"\.npz"),
    "no such model": ({"model": "{d}/nothing"}, "no model"),
    "folder without a model": ({"model": "{d}/folder"}, "no model"),
    "model without weights": ({"model": "{d}/lacks_weights"}, "generator.safetensors"),
    "model with damaged weights": ({"model": "{d}/broken_weights"}, "generator.safetensors"),
    "model with a damaged config": ({"model": "{d}/broken_config"}, "config.json"),
    "weights that do not fit": ({"model": "{d}/wrong_shape"}, "does not fit"),
    "no such device": ({"--device": "abacus"}, "abacus.*cpu"),
    "no such precision": ({"--precision": "float7"}, "float7.*int8"),
    "no such option": ({"--colour": "red"}, "--colour"),
}
ANIMATE = {
    "no video there": ({"audio": "{d}/nothing.mp4"}, "no video"),
    "empty video": ({"audio": "{d}/empty.mp4"}, "is empty"),
    "video without a face": ({"audio": "{d}/silent.mp4"}, "no face"),
    "sound as video": ({"audio": "{speech}"}, "no picture in it"),
    "motion of another space": ({"audio": "{d}/other_space.npz"}, "'explicit'.*'liveportrait'"),
    "text as motion": ({"audio": "{d}/text.npz"}, "no motion file"),
    "motion that lacks a part": ({"audio": "{d}/half.npz"}, "lacks .*scale"),
    "pickled motion": ({"audio": "{d}/pickled.npz"}, "motion"),
    "no motion there": ({"audio": "{d}/nothing.npz"}, "no motion file"),
}


def command_of(verb: str, changes: dict, **places) -> list[str]:
    given = GOOD | changes
    words = [
        verb,
        given.pop("portrait"),
        given.pop("audio"),
        "-o",
        given.pop("out"),
        "--model",
        given.pop("model"),
    ]
    words += [word for pair in given.items() for word in pair]
    return [word.format(**places) for word in words]


@pytest.mark.parametrize("verb, changes, words", [
    *(pytest.param("generate", *case, id=name) for name, case in GENERATE.items()),
    *(pytest.param("animate", *case, id=name) for name, case in ANIMATE.items()),
])  # fmt: skip
def test_one_line_exit_2_nothing_left(verb, changes, words, things, tiny, portrait, speech, tmp_path, capsys):
    command = command_of(verb, changes, d=things, tiny=tiny, portrait=portrait, speech=speech, tmp=tmp_path)
    code = run(command)
    out, err = capsys.readouterr()
    assert code == 2, err
    assert out == ""
    assert err.count("\n") == 1 and err.startswith("moda: "), err
    assert re.search(words, err), err
    assert len(err) < 400
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [
    [], ["sing"], ["generate"], ["generate", "a.jpg"], ["track", "{d}/silent.mp4", "-o", "{tmp}/m.npz"],
    ["track", "{d}/silent.mp4", "-o", "{tmp}/m.txt"], ["track", "{d}/nothing.mp4", "-o", "{tmp}/m.npz"],
    ["evaluate", "{d}/folder"], ["evaluate", "{d}/nothing"], ["evaluate", "{d}/folder", "--self", "--seeds", "3"],
    ["evaluate", "{d}/folder", "--motions", "a={d}", "--motions", "a={d}"], ["train", "{d}/text.jpg", "--steps", "3"], ["train", "{d}/nothing.json"], ["train", "{d}/text.jpg"],
    ["bench", "--seconds", "0"], ["weights", "convert", "{d}/folder"], ["weights", "download", "everything"],
], ids=lambda command: " ".join(command[:2]) or "nothing")  # fmt: skip
def test_other_commands(command, things, tmp_path, capsys):
    if not command:
        assert run([]) == 0  # help, not a mistake
        assert "generate" in capsys.readouterr().out
        return
    code = run([word.format(d=things, tmp=tmp_path) for word in command])
    err = capsys.readouterr().err
    assert code == 2, err
    assert err.count("\n") == 1 and err.startswith("moda: "), err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to(tiny, portrait, speech, tmp_path, capsys):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    if os.access(folder, os.W_OK):  # root may write anywhere but here
        folder = Path("/proc")
    command = command_of(
        "generate", {"out": str(folder / "a.mp4")}, tiny=tiny, portrait=portrait, speech=speech
    )
    assert run(command) == 2
    err = capsys.readouterr().err
    assert err.startswith("moda: cannot write") and err.count("\n") == 1
    assert not (folder / "a.mp4.part").exists()


def test_libraries_keep_quiet_too(things, tiny, speech, tmp_path):
    """OpenCV, libpng and MediaPipe write to stderr on their own; a real process shows one line all the same."""
    command = command_of(
        "generate", {"portrait": "{d}/noface.png"}, d=things, tiny=tiny, speech=speech, tmp=tmp_path
    )
    done = subprocess.run([sys.executable, "-m", "moda", *command], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("moda: "), done.stderr
    assert done.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind, words", [
    ("input", "which this run reads"), ("hard link", "which this run reads"), ("link", "is a link"),
    ("pipe", "pipe or a device"), ("read-only", "read-only"), ("dangling link", "is a link"),
])  # fmt: skip
def test_what_is_never_replaced(kind, words, tiny, portrait, speech, tmp_path, capsys):
    out, film = tmp_path / "out.mp4", tmp_path / "film.mp4"
    film.write_bytes(b"somebody's film")
    if kind == "hard link":
        out.hardlink_to(film)
    elif kind == "link":
        out.symlink_to(film)
    elif kind == "dangling link":
        out.symlink_to(tmp_path / "nowhere.mp4")
    elif kind == "pipe":
        os.mkfifo(out)
    elif kind == "read-only":
        out.write_bytes(b"kept")
        out.chmod(0o444)
    before = sorted(path.name for path in tmp_path.iterdir())
    target = film if kind == "input" else out
    assert run(["animate", str(portrait), str(film), "-o", str(target), "--model", str(tiny)]) == 2
    err = capsys.readouterr().err
    assert re.search(words, err) and err.count("\n") == 1, err
    assert film.read_bytes() == b"somebody's film"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("place", ["portrait", "audio", "out"])
def test_windows_paths(place, tiny, portrait, speech, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {place: r"C:\Users\me\it.mp4"}
    assert run(command_of("generate", given, tiny=tiny, portrait=portrait, speech=speech, tmp=tmp_path)) == 2
    assert "Windows path" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data, words", [
    (b"%PDF-1.7 ...", "PDF"), (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"), (b"\xff\x0a" + bytes(99), "JPEG XL"),
    (b"<!DOCTYPE html><html>", "web page"), (b"\0\0\0\x18ftypmp42" + bytes(99), "video"),
])  # fmt: skip
def test_what_is_no_picture_is_named(data, words, tmp_path):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ModaError, match=words):
        read_picture(tmp_path / "a.jpg")


def test_a_play_list_is_no_sound(tmp_path, speech):
    (tmp_path / "speech.wav").write_bytes(speech.read_bytes())
    (tmp_path / "list.wav").write_text("ffconcat version 1.0\nfile speech.wav\n")
    with pytest.raises(ModaError, match="names"):
        read_audio(tmp_path / "list.wav")


def test_a_folder_that_is_gone(tiny, portrait, speech, tmp_path, capsys, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert run(command_of("generate", {}, tiny=tiny, portrait=portrait, speech=speech, tmp=tmp_path)) == 2
    assert capsys.readouterr().err.startswith("moda: the folder that this was started in is gone")


def test_an_older_video_survives_a_mistake(tiny, portrait, things, tmp_path):
    old = tmp_path / "out.mp4"
    old.write_bytes(b"older")
    places = {"d": things, "tiny": tiny, "portrait": portrait, "tmp": tmp_path}
    assert run(command_of("generate", {"audio": "{d}/short.wav"}, **places)) == 2
    assert old.read_bytes() == b"older"


def test_a_number_too_long_to_read_is_a_mistake_of_the_file(tmp_path):
    from moda.batch.manifest import read
    from moda.engine.group import read_script

    path = tmp_path / "long.jsonl"
    path.write_text('{"seed": ' + "9" * 5000 + "}")
    with pytest.raises(ModaError, match="no JSON"):
        read(path, tmp_path)
    path.write_text('[{"face": ' + "9" * 5000 + "}]")
    with pytest.raises(ModaError, match="no JSON"):
        read_script(path)


def test_a_host_that_is_no_name():
    pytest.importorskip("pythonosc")
    from moda.interchange.vmc import Sender

    with pytest.raises(ModaError, match="cannot be sent"):
        Sender("a" * 300, 39539)
