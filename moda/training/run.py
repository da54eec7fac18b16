"""What every run has, whatever it trains: a JSON file checked field by field, a folder, and a start that leaves nothing
behind where it fails."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from moda import validation
from moda.errors import ModaError, why
from moda.training.trainer import Task, Trainer, TrainerConfig, seeded

log = logging.getLogger(__name__)

# What may change between two starts of a run without changing what comes out of it.
FREE = ("out", "training.steps", "training.threads", "training.save_every", "training.validate_every")


class Run(BaseModel):
    """Paths are relative to the config file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    out: Path = Field(description="folder of the run: checkpoint, losses, model/")
    training: TrainerConfig

    def moved(self, here: Path) -> dict[str, object]:
        """The fields that are paths, seen from the folder of the config file."""
        found: dict[str, object] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Path):
                found[name] = here / value
            elif isinstance(value, list) and value and isinstance(value[0], Path):
                found[name] = [here / folder for folder in value]
        return found


R = TypeVar("R", bound=Run)


def load(kind: type[R], path: str | Path) -> R:
    """Errors: ModaError for a file that is missing, no JSON, or has a field that is missing, unknown or wrong."""
    path, where = Path(path), f"the training config {path}"
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ModaError(f"{where} cannot be read: {why(error)}") from error
    try:
        config = validation.from_json(kind, text, where)
    except ModaError as error:  # the network's own, of numbers that do not go together
        message = str(error)
        raise ModaError(message if message.startswith(where) else f"{where}: model: {message}") from error
    return config.model_copy(update=config.moved(path.resolve().parent))


def start(
    config: R, task_of: Callable[[R], Task], where: str, progress: Callable[[float], None] | None = None
) -> Path:
    """Begin a run, or go on with it -> the folder of what was trained.

    where: what the config is, for errors of data that it names. Errors: ModaError; a folder that was not there before
    is gone then, unless features were worked out already.
    """
    with _nothing_left(config.out):
        try:
            with seeded(config.training.seed):
                task = task_of(config)
        except ModaError as error:
            raise ModaError(f"{where}: {error}") from error
        settings = config.model_dump(mode="json")
        trainer = Trainer(task, config.training, config.out, progress, settings)
    if trainer.step and trainer.accelerator.is_main_process:
        log.warning("%s", _resumed(trainer, config))
    return trainer.run()


def _resumed(trainer: Trainer, config: Run) -> str:
    """What becomes of a run that has a checkpoint, in one line."""
    before, now = dict(_flat(trainer.before)), dict(_flat(trainer.settings))
    names = [name for name in {**before, **now} if name not in FREE and before.get(name) != now.get(name)]
    changed = ", ".join(
        f"{name} was {_short(before.get(name))}, is {_short(now.get(name))}" for name in names
    )
    changed = f"; changed since the checkpoint: {changed}" if before and changed else ""
    if trainer.step < config.training.steps:
        return f"{config.out} goes on from step {trainer.step}{changed}"
    return (
        f"{config.out} finished already at {trainer.step} steps: nothing is trained, its model is written again; "
        f"to go on raise training.steps, to start anew name another out{changed}"
    )


def _flat(values: dict, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _short(value: object) -> str:
    said = "none" if value is None else str(value)
    return said if len(said) <= 60 else f"{said[:57]}..."


@contextmanager
def _nothing_left(out: Path) -> Iterator[None]:
    """A folder that was not there before is gone if the block fails, and the ones above it that were made for it."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        if made and not any((out / "cache").glob("*.npz")):  # features take long: the next start finds them
            shutil.rmtree(out, ignore_errors=True)
            for folder in made[1:]:
                with suppress(OSError):
                    folder.rmdir()
        raise
