"""Files to modules, strictly: every key is there, fits and is used, or the message names it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moda.errors import ModaError
from moda.media.files import whole
from moda.weights.description import DEFAULT_RENDERER

if TYPE_CHECKING:
    from torch import Tensor, nn

    from moda.generator.config import ModelConfig
    from moda.generator.generator import Generator
    from moda.generator.model import MotionTransformer
    from moda.generator.statistics import Statistics
    from moda.weights.description import MotionGenerator


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file. Errors: ModaError if it is missing or broken."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise ModaError(f"there is no file {path}, which this model needs") from error
    except (SafetensorError, OSError) as error:
        raise ModaError(f"{path} cannot be read as weights: {error}") from error


def check(wanted: Mapping[str, Tensor], given: Mapping[str, Tensor], who: str) -> None:
    """Names and shapes agree. Errors: ModaError that names what is missing, left over or misshapen."""
    problems = []
    for word, keys in (
        ("lacks", wanted.keys() - given.keys()),
        ("has unknown", given.keys() - wanted.keys()),
    ):
        if keys:
            problems.append(f"{word} {_some(sorted(keys))}")
    for key in sorted(wanted.keys() & given.keys()):
        if wanted[key].shape != given[key].shape:
            problems.append(
                f"has {key} of shape {tuple(given[key].shape)}, but {tuple(wanted[key].shape)} is needed"
            )
            break
    if problems:
        raise ModaError(f"{who} does not fit its config: it {'; it '.join(problems)}")


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def strict_load(module: nn.Module, tensors: Mapping[str, Tensor], who: str) -> None:
    """Put float32 copies of the tensors in the place of the module's own (which may be meta tensors)."""
    import torch

    check(module.state_dict(), tensors, who)
    # Copies even of float32: a mapped file's tensors lie at odd addresses, which matrix products do not like.
    copies = {
        k: v.to(torch.float32 if v.is_floating_point() else v.dtype, copy=True) for k, v in tensors.items()
    }
    module.load_state_dict(copies, assign=True)


def load_transformer(folder: Path, part: MotionGenerator) -> MotionTransformer:
    """Its network alone, in float32. Errors: as `load_generator`."""
    import torch

    from moda.generator.model import MotionTransformer

    with torch.device("meta"):  # no memory and no time for weights that are replaced at once
        model = MotionTransformer(part.config)
    strict_load(model, read_tensors(folder / "generator.safetensors"), str(folder / "generator.safetensors"))
    return model.requires_grad_(False)


def load_generator(folder: Path, part: MotionGenerator, device: str, precision: str) -> Generator:
    """The generator of a model folder.

    precision: float32; bfloat16 or float16 (for GPUs); int8 (CPU, the large products)
    Errors: ModaError for a file that is missing or does not fit.
    """
    import torch

    from moda.generator.generator import Generator
    from moda.generator.products import pack, quantize
    from moda.generator.statistics import Statistics

    if precision == "int8" and device != "cpu":
        raise ModaError(f"int8 works on the CPU alone, but the device is {device!r}")
    statistics = Statistics(np.array(part.mean), np.array(part.std))
    model = load_transformer(folder, part)
    if precision == "int8":
        quantize(model)
    else:
        pack(model.to(device, getattr(torch, precision)))
    return Generator(model, statistics)


def save_model(
    folder: str | os.PathLike,
    model: MotionTransformer,
    statistics: Statistics,
    encoder: Path,
    renderer: str = DEFAULT_RENDERER,
) -> Path:
    """Write a model folder in half precision, with the speech encoder of the folder `encoder` beside it."""
    import torch
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    half = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in model.state_dict().items()}
    with whole(folder / "generator.safetensors") as part:
        save_file(half, part)
    for name in ("encoder.safetensors", "encoder.json"):
        if (folder / name).resolve() != (encoder / name).resolve():
            shutil.copyfile(encoder / name, folder / name)
    write_description(folder, model.config, statistics, {"name": "speech"}, {"name": renderer})
    return folder


def write_description(
    folder: Path, config: ModelConfig, statistics: Statistics, encoder: dict, renderer: dict
) -> None:
    """config.json, written last: a folder that has one is complete."""
    generator = {"name": "mmdit", "config": config.to_dict(), **statistics.to_dict()}
    content = {"encoder": encoder, "generator": generator, "renderer": renderer}
    with whole(folder / "config.json") as part:
        part.write_text(json.dumps(content, indent=1) + "\n")
