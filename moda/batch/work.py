"""Making one line's video: what a process of this machine, or an actor of a cluster, does again and again."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moda.batch.manifest import Job, Line
from moda.errors import ModaError
from moda.media.files import check_input

if TYPE_CHECKING:
    from moda.engine.character import Character
    from moda.pipeline import TalkingHead
    from moda.voice import Voice

KEPT = 8  # characters that a worker keeps
_KEY = "batch line"


@dataclass(frozen=True)
class Setup:
    """How a worker is made. voice, voice_url: see moda.voice, for lines with a text. threads: 0 leaves them alone."""

    model: str = "embedded"
    device: str = "auto"
    precision: str = "float32"
    voice: str | None = None
    voice_url: str | None = None
    threads: int = 0


class Worker:
    """Loads the model at its first line; a portrait that comes again is not prepared again."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self._head: TalkingHead | None = None
        self._kept: OrderedDict[tuple, Character] = OrderedDict()

    def make(self, job: Job) -> str | None:
        """Write a job's video -> None, or in one line why it could not be. What is there already is left."""
        try:
            if not is_there(job):
                self._make(job)
            return None
        except (ModaError, OSError) as error:
            return " ".join(str(error).split())
        except MemoryError:
            return "there was not enough memory"
        except Exception as error:  # one line's fault does not end the others
            return f"a fault of moda's own: {type(error).__name__}: {error}"

    def _make(self, job: Job) -> None:
        line = job.line
        character = self._character(line)
        assert self._head
        gains: dict[str, Any] = {
            "pose": line.pose,
            "lips": line.lips,
            "blink": line.blink,
            "timeline": line.timeline,
        }
        options: dict[str, Any] = {
            name: getattr(line, name) for name in ("seed", "steps", "guidance", "emotion")
        }
        if line.driving is not None:
            video = self._head.animate(character, line.driving, **gains)
        elif line.text is not None:
            video = self._head.say(character, line.text, self._voice(), **options, **gains)
        else:
            assert line.audio is not None
            video = self._head(character, line.audio, **options, **gains)
        video.mark(f"{_KEY} {job.key}")
        video.save(job.output)

    def _voice(self) -> Voice:
        from moda.voice import DEFAULT, Voice

        if self.setup.voice_url:
            return Voice(url=self.setup.voice_url)
        return Voice(self.setup.voice or DEFAULT)

    def _character(self, line: Line) -> Character:
        from moda.pipeline import TalkingHead

        if self._head is None:
            if self.setup.threads:
                import torch

                torch.set_num_threads(self.setup.threads)
            setup = self.setup
            self._head = TalkingHead.from_pretrained(setup.model, setup.device, precision=setup.precision)
        view: dict[str, Any] = {
            "size": line.size,
            "full": line.full,
            "full_size": line.full_size,
            "face": line.face,
        }
        key = (
            line.portrait,
            os.stat(check_input(Path(line.portrait), "picture")).st_mtime_ns,
            *view.values(),
        )
        if key not in self._kept:
            self._kept[key] = self._head.prepare(line.portrait, **view)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def is_there(job: Job) -> bool:
    """Whether this very line's video lies there, whole (nothing half-written ever has its name)."""
    if not Path(job.output).is_file():
        return False
    from moda.media.container import comment

    return f"{_KEY} {job.key}" in comment(job.output)
