"""Text to speech, in two forms: a command line that writes a wav, or an OpenAI-compatible address."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moda.errors import ModaError

MAX_TEXT = 4096  # characters that speech services take at once
TIMEOUT = 60.0  # seconds for one sentence
DEFAULT = "espeak-ng -w {out}"
SENTENCE = re.compile(r"(?<=[.!?…。！？])\s+|\n+")


@dataclass(frozen=True)
class Voice:
    """command: such as "espeak-ng -w {out}" or "piper -m voice.onnx -f {out}"; {text} is replaced by the text, which
    else goes to its standard input; no shell sees it. url: of a service with /v1/audio/speech. One of the two.

    model, name: what the service is asked for.
    """

    command: str | None = None
    url: str | None = None
    model: str = "tts-1"
    name: str = "alloy"

    def __post_init__(self) -> None:
        if (self.command is None) == (self.url is None):
            raise ModaError("a voice is either a command or an address; give one of them")
        if self.command is not None:
            words = _words(self.command)
            if not any("{out}" in word for word in words):
                raise ModaError(f"the voice command {self.command!r} has no {{out}}, the file that it writes")
            if shutil.which(words[0]) is None:
                raise ModaError(
                    f"the voice command {words[0]!r} is not installed; on Debian: apt install espeak-ng, then "
                    f'--voice "espeak-ng -w {{out}}"'
                )
        elif not str(self.url).startswith(("http://", "https://")):
            raise ModaError(f"the voice's address {self.url!r} must begin with http:// or https://")

    def say(self, text: str, stop: threading.Event | None = None) -> Iterator[np.ndarray]:
        """Sentence by sentence: (n,) float32 mono 16 kHz. Errors: ModaError for no text, or a voice that fails.

        stop: once it is set, a command that runs is killed.
        """
        from moda.audio.decode import read_audio

        sentences = [part.strip() for part in SENTENCE.split(text) if part.strip()]
        if not sentences:
            raise ModaError("there is no text to say")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ModaError("the text to say is no valid Unicode") from error
        stop = stop or threading.Event()
        for sentence in sentences:
            for start in range(0, len(sentence), MAX_TEXT):
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "speech.wav"
                    part = sentence[start : start + MAX_TEXT]
                    if self.command:
                        self._by_command(part, path, stop)
                    else:
                        self._by_address(part, path)
                    try:
                        wave = read_audio(path)
                    except ModaError as error:
                        said = str(error).replace(str(path), "the file that it wrote")
                        raise ModaError(
                            f"the voice {self.command or self.url!r} cannot be heard: {said}"
                        ) from error
                    yield wave

    def _by_command(self, text: str, path: Path, stop: threading.Event) -> None:
        words = _words(str(self.command))
        by_argument = any("{text}" in word for word in words)
        words = [word.replace("{out}", str(path)).replace("{text}", text) for word in words]
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as told:
            given.write(b"" if by_argument else text.encode())
            given.seek(0)
            try:
                process = subprocess.Popen(words, stdin=given, stdout=subprocess.DEVNULL, stderr=told)
            except (OSError, ValueError) as error:
                raise ModaError(f"the voice command {words[0]!r} failed: {error}") from error
            began = time.monotonic()
            while process.poll() is None:
                if stop.wait(0.01) or time.monotonic() - began > TIMEOUT:
                    process.kill()
                    process.wait()
                    raise ModaError(
                        f"the voice command {words[0]!r} was ended; it has {TIMEOUT:.0f} s a sentence"
                    )
            told.seek(0)
            said = told.read().decode(errors="replace").strip().splitlines()
        if process.returncode or not path.is_file():
            raise ModaError(
                f"the voice command {words[0]!r} failed: {said[-1] if said else 'it wrote nothing'}"
            )

    def _by_address(self, text: str, path: Path) -> None:
        body = {"model": self.model, "voice": self.name, "input": text, "response_format": "wav"}
        address = str(self.url).rstrip("/")
        address += "" if address.endswith("/v1/audio/speech") else "/v1/audio/speech"
        request = urllib.request.Request(
            address, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                path.write_bytes(answer.read())
        except (urllib.error.URLError, OSError, ValueError) as error:
            raise ModaError(f"the voice at {address} failed: {error}") from error


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ModaError(f"the voice command {command!r} cannot be read: {error}") from error
    if not words:
        raise ModaError("the voice command is empty")
    return words
