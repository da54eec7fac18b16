"""A config file of any of the trainer's tasks -> its run. The field `task` says which; without one it is a generator's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from moda.errors import ModaError
from moda.training.run import load, start


def train(path: str | Path, progress: Callable[[float], None] | None = None) -> Path:
    """Run, or go on with, the training that a config file describes -> the folder of what was trained.

    Errors: ModaError for a config or data that cannot be used; a checkpoint of another network.
    """
    path = Path(path)
    where = f"the training config {path}"
    task = _task(path)
    if task is None:
        from moda.training import train as generator
        from moda.training.config import RunConfig

        return start(load(RunConfig, path), generator.task_of, where, progress)
    if task == "atom":
        from moda.training import atom

        return start(load(atom.AtomRunConfig, path), atom.task_of, where, progress)
    if task in ("autoencoder", "dots", "unet"):
        from moda.training import video

        return start(load(video.VideoRunConfig, path), video.task_of, where, progress)
    if task == "sync":
        from moda.training import sync

        return start(load(sync.SyncRunConfig, path), sync.task_of, where, progress)
    raise ModaError(f"{where}: task is {task!r}, but must be atom, autoencoder, dots, sync or unet")


def _task(path: Path) -> object:
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None  # the loader says what is wrong
    return values.get("task") if isinstance(values, dict) else None
