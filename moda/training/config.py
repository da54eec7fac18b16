"""What a training run is: one JSON file, checked field by field; `moda train CONFIG` runs it."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moda.errors import ModaError
from moda.generator.config import ModelConfig
from moda.training.generator import GeneratorConfig
from moda.training.trainer import TrainerConfig


class RunConfig(BaseModel):
    """A generator's run. Paths are relative to the config file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    out: Path = Field(description="folder of the run: cache, checkpoint, losses, model/ (ready for --model)")
    data: list[Path] = Field(min_length=1, description="datasets, as `moda data prepare` writes them")
    speech: list[Path] = Field([], description="folders with speech alone")
    speech_files: int = Field(
        0, ge=0, description="at most so many files of each folder, evenly chosen; 0: all"
    )
    noise: list[Path] = Field([], description="folders with sounds without a voice: lips stay at rest")
    encoder: str = Field("embedded", description="folder of the speech encoder, or embedded")
    initial: str | None = Field(
        None, description="model folder, or embedded, whose weights the run starts from"
    )
    expert: str = Field(
        "embedded", description="folder of the lip-sync expert that sync_weight asks, or embedded"
    )
    hold_out: list[str] = Field([], description="people of the datasets to validate with instead")
    model: dict = Field(description="the network, see moda.generator.config.ModelConfig")
    generator: GeneratorConfig = GeneratorConfig()
    training: TrainerConfig

    @property
    def network(self) -> ModelConfig:
        return ModelConfig.from_dict(self.model)


def load(path: str | Path) -> RunConfig:
    """Errors: ModaError for a file that is missing, no JSON, or has a field that is missing, unknown or wrong."""
    path = Path(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModaError(f"the training config {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ModaError(f"the training config {path} is no JSON: {error}") from error
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "it"
        raise ModaError(f"the training config {path}: {field}: {first['msg']}") from error
    here = path.resolve().parent
    moved: dict = {"out": here / config.out}
    for name in ("data", "speech", "noise"):
        moved[name] = [here / folder for folder in getattr(config, name)]
    for name in ("encoder", "initial", "expert"):
        value = getattr(config, name)
        if value not in (None, "embedded"):
            moved[name] = str(here / value)
    config = config.model_copy(update=moved)
    _ = config.network  # its errors belong here
    return config
