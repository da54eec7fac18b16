"""What a training run is: one JSON file, every field of which is used."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path

from moda.errors import ModaError
from moda.generator.config import ModelConfig


@dataclass(frozen=True)
class TrainingConfig:
    """Paths are relative to the config file.

    out:         folder of the run: prepared data, checkpoint, loss.json and loss.png, model/ (ready for --model)
    encoder:     folder with the speech encoder, or "embedded"
    clips:       folders with videos of speaking people
    speech:      folders with speech alone; may be empty
    model:       the generator (moda.generator.config.ModelConfig)
    steps, batch, learning_rate, warmup: AdamW; the rate falls to a twentieth along a cosine after the warmup
    ema:         decay of the running mean of the weights, which is what is kept
    seed:        of everything random
    threads:     CPU threads
    real_part:   part of the windows that come from clips as they are
    heard_part:  by how much a clip's lips are drawn towards those that the speech encoder tells, 0..1
    lips_gain:   by how much lips told by the speech encoder are enlarged
    audio_noise: standard deviation of noise on the features, which have about 1 themselves
    audio_dropout, emotion_dropout: conditions left out, so that guidance has something to start from
    mouth_weight, face_weight, pose_weight, change_weight: of the loss's parts
    save_every:  steps between checkpoints
    """

    out: Path
    encoder: str
    clips: list[Path]
    speech: list[Path]
    model: ModelConfig
    steps: int
    batch: int
    learning_rate: float
    warmup: int
    ema: float
    seed: int
    threads: int
    real_part: float
    heard_part: float
    lips_gain: float
    audio_noise: float
    audio_dropout: float
    emotion_dropout: float
    mouth_weight: float
    face_weight: float
    pose_weight: float
    change_weight: float
    save_every: int

    @classmethod
    def load(cls, path: str | Path) -> TrainingConfig:
        """Errors: ModaError for a file that is missing, no JSON, or lacks or has unknown fields."""
        path = Path(path)
        try:
            values = json.loads(path.read_text())
        except OSError as error:
            raise ModaError(f"the training config {path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ModaError(f"the training config {path} is no JSON: {error}") from error
        names = {f.name for f in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            given = set(values) if isinstance(values, dict) else set()
            wrong = [f"lacks {name}" for name in sorted(names - given)] + [
                f"does not know {name}" for name in sorted(given - names)
            ]
            raise ModaError(
                f"the training config {path} is wrong: it {', '.join(wrong) or 'is no JSON object'}"
            )
        here = path.resolve().parent
        values["out"] = here / values["out"]
        if values["encoder"] != "embedded":
            values["encoder"] = str(here / values["encoder"])
        for name in ("clips", "speech"):
            values[name] = [here / folder for folder in values[name]]
        values["model"] = ModelConfig.from_dict(values["model"])
        for name in ("steps", "batch", "save_every", "threads"):
            if not (isinstance(values[name], int) and values[name] > 0):
                raise ModaError(
                    f"the training config {path}: {name} is {values[name]!r}, but must be a whole number above 0"
                )
        return cls(**values)
