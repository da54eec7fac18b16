"""Voices: a command line, a service; `moda say`; the mark in the file."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import tone, write_sound

from moda import ModaError, TalkingHead
from moda.cli import run
from moda.voice import Voice

SPEAKER = """
import sys, wave
text = sys.argv[2] if len(sys.argv) > 2 else sys.stdin.read()
with wave.open(sys.argv[1], "wb") as out:
    out.setparams((1, 2, 16000, 0, "NONE", ""))
    out.writeframes(b"\\x10\\x10" * 640 * len(text))
"""


@pytest.fixture
def speaker(tmp_path) -> str:
    """A voice that hums 40 ms a letter."""
    (tmp_path / "speaker.py").write_text(SPEAKER)
    return f"{sys.executable} {tmp_path / 'speaker.py'} {{out}}"


def test_sentences_come_one_by_one(speaker):
    lengths = [len(wave) / 640 for wave in Voice(speaker).say("One two. Three!\nFour; $(rm -rf x) 'five'")]
    assert lengths == [8, 6, len("Four; $(rm -rf x) 'five'")]
    assert len(list(Voice(speaker + " {text}").say("No shell; sees `this`"))) == 1


def test_a_service_is_asked_in_the_conventions_words(tmp_path):
    asked = []
    sound = write_sound(tmp_path / "a.wav", tone(0.5, 24_000), 24_000).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(sound)

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (wave,) = Voice(url=f"http://127.0.0.1:{server.server_port}").say("Hello.")
    server.shutdown()
    assert asked[0][0] == "/v1/audio/speech" and asked[0][1]["input"] == "Hello."
    assert len(wave) == pytest.approx(8000, abs=50)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "either a command or an address"),
        ({"command": "x", "url": "y"}, "either a command or an address"),
        ({"command": "echo hello"}, "no {out}"),
        ({"command": "no-such-voice {out}"}, "not installed.*espeak-ng"),
        ({"command": 'espeak "{out}'}, "cannot be read"),
        ({"command": ""}, "empty"),
        ({"url": "ftp://x"}, "http"),
    ],
)
def test_wrong_voices(options, words):
    with pytest.raises(ModaError, match=words):
        Voice(**options)


def test_a_voice_that_fails_says_why(tmp_path, speaker):
    with pytest.raises(ModaError, match="no text"):
        list(Voice(speaker).say(" \n "))
    with pytest.raises(ModaError, match="failed"):
        list(Voice(f"{sys.executable} -c 1/0 {{out}}").say("x"))
    with pytest.raises(ModaError, match="wrote nothing"):
        list(Voice(f"{sys.executable} -c pass {{out}}").say("x"))
    with pytest.raises(ModaError, match="127.0.0.1:9"):
        list(Voice(url="http://127.0.0.1:9").say("x"))


def test_moda_say(tiny, portrait, speaker, tmp_path, capsys):
    out = tmp_path / "a.mp4"
    command = ["say", str(portrait), "Hello there.", "-o", str(out), "--model", str(tiny), "--size", "64"]
    assert run([*command, "--voice", speaker, "--seed", "4"]) == 0
    with av.open(str(out)) as file:
        assert file.streams.video[0].frames == 12
        remark = file.metadata["comment"]
    assert "synthetic" in remark and "seed 4" in remark
    assert run([*command[:-4], "--voice", "nothing {out}"]) == 2
    assert "not installed" in capsys.readouterr().err


def test_a_said_video_has_its_sound(tiny, portrait, speaker, tmp_path):
    from moda.audio.decode import read_audio

    head = TalkingHead.from_pretrained(tiny, "cpu")
    path = head.say(portrait, "One. Two.", Voice(speaker), size=64).save(Path(tmp_path) / "a.mp4")
    assert np.abs(read_audio(path)).mean() > 0.01
