"""What a generator's training run is: one JSON file, checked field by field; `moda train CONFIG` runs it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from moda.generator.config import ModelConfig
from moda.training.generator import GeneratorConfig
from moda.training.run import Run


class RunConfig(Run):
    """A generator's run. Paths are relative to the config file.

    out: folder of the run: cache, checkpoint, losses, model/ (ready for --model). model: the network.
    """

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
    model: ModelConfig
    generator: GeneratorConfig = GeneratorConfig()

    def moved(self, here: Path) -> dict[str, object]:
        found = super().moved(here)
        for name in ("encoder", "initial", "expert"):
            value = getattr(self, name)
            if value not in (None, "embedded"):
                found[name] = str(here / value)
        return found
