"""Published .pth files -> a model folder of safetensors, once."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from moda.errors import ModaError
from moda.generator.config import PUBLISHED, ModelConfig
from moda.generator.model import MotionTransformer
from moda.generator.statistics import Statistics
from moda.media.files import whole_folder
from moda.weights.folder import first_line
from moda.weights.load import check, read_tensors, write_description
from moda.weights.names import published_generator

log = logging.getLogger(__name__)

GENERATOR = "net-200.pth"
RENDERER = (
    "appearance_feature_extractor",
    "motion_extractor",
    "warping_module",
    "spade_generator",
    "stitching_retargeting_module",
)
STATISTICS = Path(__file__).parent / "published_statistics.json"
ENCODER = {"name": "hubert", "pre_emphasis": 0.97}
NULL_AUDIO_SEED = 42


def convert(
    folder: str | os.PathLike, out: str | os.PathLike | None = None, config: ModelConfig = PUBLISHED
) -> str:
    """Make a model folder of what `moda weights download` fetched, or of the same files from anywhere.

    folder: holds, at any depth, net-200.pth, LivePortrait's five .pth files and a HuBERT folder in the layout
            of transformers
    out:    the model folder; by default `folder` itself
    config: the generator's

    -> a line that says what was made. Errors: ModaError for a file that is missing, cannot be read safely or
    does not fit.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModaError(f"there is no folder {folder} to convert")
    out = folder if out is None else Path(out)
    # all are found before anything is written
    generator = _find(folder, GENERATOR)
    renderer = {stem: _find(folder, stem + ".pth") for stem in RENDERER}
    hubert = _find_hubert(folder)

    with whole_folder(out) as made:
        (made / "liveportrait").mkdir()
        _save(generator_tensors(read_pth(generator), config, generator), made / "generator.safetensors")
        for stem, path in renderer.items():
            _save(fold_spectral(_flat(read_pth(path))), made / "liveportrait" / f"{stem}.safetensors")
        _convert_hubert(hubert, made / "hubert")
        statistics = Statistics.from_dict(json.loads(STATISTICS.read_text()))
        encoder = {**ENCODER, "rest_frames": config.rest_frames}
        write_description(made, config, statistics, encoder, {"name": "liveportrait"})
        check_parts(made)
    return f"{out}: use it with --model {out}"


def check_parts(folder: Path) -> None:
    """Load the renderer and, where transformers is there, the encoder, strictly. Errors: ModaError as they say it."""
    from importlib.util import find_spec

    from moda.render.liveportrait.files import NETWORKS
    from moda.render.liveportrait.renderer import LivePortraitRenderer

    LivePortraitRenderer.load(folder / "liveportrait")
    parts = {part for stem, part in NETWORKS.values() if stem == RENDERER[-1]}
    keys = read_tensors(folder / "liveportrait" / f"{RENDERER[-1]}.safetensors")
    unknown = sorted({key.split(".")[0] for key in keys} - parts)
    if unknown:
        raise ModaError(f"{RENDERER[-1]}: it has an unknown part {unknown[0]}")
    if find_spec("transformers"):
        from moda.audio.hubert import HubertEncoder

        HubertEncoder.load(folder / "hubert")


def read_pth(path: Path) -> Mapping:
    """A file of torch.save, without running anything that it may hold."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # broken files raise many kinds
        raise ModaError(f"{path} cannot be read safely as weights: {first_line(error)}") from error
    if not isinstance(content, Mapping):
        raise ModaError(f"{path} holds no weights, but a {type(content).__name__}")
    return content


def generator_tensors(content: Mapping, config: ModelConfig, path: Path) -> dict[str, Tensor]:
    """The generator under our names; of a checkpoint, the part that has the network's keys."""
    published = _state_dict(content)
    if published is None:
        raise ModaError(f"{path} holds no MoDA generator: no key has 'motion_embedder' in it")
    tensors = published_generator(published)
    with torch.device("meta"):
        wanted = MotionTransformer(config).state_dict()
    if "null_audio" not in tensors:
        # On a GPU the published code neither saved nor loaded it: each process drew its own.
        log.warning("%s has no null audio vector; drawing one from seed %d", path.name, NULL_AUDIO_SEED)
        random = torch.Generator().manual_seed(NULL_AUDIO_SEED)
        tensors["null_audio"] = torch.randn(config.audio_width, generator=random)
    check(wanted, tensors, str(path))
    return tensors


def _state_dict(content: Mapping) -> dict[str, Tensor] | None:
    if any("motion_embedder" in str(key) for key in content):
        return {key.removeprefix("module."): value for key, value in content.items()}
    for value in content.values():
        if isinstance(value, Mapping) and (found := _state_dict(value)) is not None:
            return found
    return None


def fold_spectral(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """weight_orig / (u . W v) for weight_orig, weight_u, weight_v: spectral norm at inference."""
    folded = {}
    for key, tensor in tensors.items():
        if key.endswith(".weight_orig"):
            stem = key.removesuffix("_orig")
            if stem + "_u" not in tensors or stem + "_v" not in tensors:
                raise ModaError(f"the weights have {key}, but not its {stem}_u and {stem}_v")
            w, u, v = (tensors[k].double() for k in (key, stem + "_u", stem + "_v"))
            folded[stem] = (w / (u @ w.flatten(1) @ v)).float()
        elif not (key.endswith((".weight_u", ".weight_v")) and key[:-2] + "_orig" in tensors):
            folded[key] = tensor
    return folded


def _flat(nested: Mapping, prefix: str = "") -> dict[str, Tensor]:
    """{"a": {"module.b": tensor}} -> {"a.b": tensor}."""
    flat: dict[str, Tensor] = {}
    for key, value in nested.items():
        name = prefix + key.removeprefix("module.")
        if isinstance(value, Mapping):
            flat |= _flat(value, name + ".")
        elif isinstance(value, Tensor):
            flat[name] = value
    return flat


def _find(folder: Path, name: str) -> Path:
    """The least deep file of this name."""
    found = sorted(folder.rglob(name), key=lambda path: (len(path.parts), path))
    if not found:
        raise ModaError(f"{folder} holds no {name}; `moda weights download official` fetches it")
    return found[0]


def _find_hubert(folder: Path) -> Path:
    for path in sorted(folder.rglob("config.json"), key=lambda path: (len(path.parts), path)):
        try:
            kind = json.loads(path.read_text()).get("model_type")
        except (OSError, ValueError, AttributeError):
            continue
        if kind in ("hubert", "wav2vec2"):
            return path.parent
    raise ModaError(f"{folder} holds no HuBERT (a config.json of model_type hubert beside its weights)")


def _convert_hubert(source: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "model.safetensors").exists():
        weights = source / "model.safetensors"
        if weights.exists():
            tensors = read_tensors(weights)
        else:
            tensors = _flat(read_pth(_find(source, "pytorch_model.bin")))
        _save(tensors, out / "model.safetensors")
    for name in ("config.json", "preprocessor_config.json"):
        if (source / name).exists() and source != out:
            shutil.copyfile(source / name, out / name)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    own = {key: tensor.detach().clone().contiguous() for key, tensor in tensors.items()}
    try:
        save_file(own, path, metadata={"format": "pt"})
    except (OSError, SafetensorError) as error:
        raise ModaError(f"cannot write {path}: {first_line(error)}") from error
