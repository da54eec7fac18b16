"""A config file of any of the trainer's tasks -> its run. The field `task` says which; without one it is a generator's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from moda.errors import ModaError
from moda.training.trainer import Trainer, seeded


def train(path: str | Path, progress: Callable[[float], None] | None = None) -> Path:
    """Run, or go on with, the training that a config file describes -> the folder of what was trained.

    Errors: ModaError for a config or data that cannot be used; a checkpoint of another network.
    """
    path = Path(path)
    task = _task(path)
    if task is None:
        from moda.training.train import train as generator

        return generator(path, progress)
    if task == "atom":
        from moda.training.atom import AtomRunConfig
        from moda.training.atom import task_of as atom_task

        atom = _load(AtomRunConfig, path)
        with seeded(atom.training.seed):
            atom_run = atom_task(atom)
        return Trainer(atom_run, atom.training, atom.out, progress).run()
    if task in ("autoencoder", "dots", "unet"):
        from moda.training.video import VideoRunConfig
        from moda.training.video import task_of as video_task

        video = _load(VideoRunConfig, path)
        with seeded(video.training.seed):
            video_run = video_task(video)
        return Trainer(video_run, video.training, video.out, progress).run()
    if task == "sync":
        from moda.training.sync import SyncRunConfig
        from moda.training.sync import task_of as sync_task

        sync = _load(SyncRunConfig, path)
        with seeded(sync.training.seed):
            sync_run = sync_task(sync)
        return Trainer(sync_run, sync.training, sync.out, progress).run()
    raise ModaError(
        f"the training config {path}: task is {task!r}, but must be atom, autoencoder, dots, sync or unet"
    )


def _task(path: Path) -> object:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # the generator's loader says what is wrong
    return values.get("task") if isinstance(values, dict) else None


C = TypeVar("C", bound=BaseModel)


def _load(kind: type[C], path: Path) -> C:
    """Its paths are relative to the file. Errors: ModaError for a field that is missing, unknown or wrong."""
    try:
        config = kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "it"
        raise ModaError(f"the training config {path}: {field}: {first['msg']}") from error
    here = path.resolve().parent
    moved: dict[str, object] = {}
    for name in kind.model_fields:
        value = getattr(config, name)
        if isinstance(value, Path):
            moved[name] = here / value
        elif isinstance(value, list) and value and isinstance(value[0], Path):
            moved[name] = [here / folder for folder in value]
    config = config.model_copy(update=moved)
    _ = getattr(config, "network", None)  # its errors belong here
    return config
