"""Where the networks' weights lie in a folder, and reading them: safetensors, or the published .pth, safely."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from moda.errors import ModaError

# network -> file without its ending, and the part of the file that is the network's
NETWORKS = {
    "appearance": ("appearance_feature_extractor", ""),
    "extractor": ("motion_extractor", ""),
    "warping": ("warping_module", ""),
    "decoder": ("spade_generator", ""),
    "stitching": ("stitching_retargeting_module", "retarget_shoulder"),
    "lip": ("stitching_retargeting_module", "retarget_mouth"),
    "eye": ("stitching_retargeting_module", "retarget_eye"),
}
DOWNLOAD = "`moda weights download official` fetches the published ones"


def find(folder: Path, stem: str) -> Path:
    """The weight file of this name anywhere in the folder, converted before published, the least deep."""
    if not folder.is_dir():
        raise ModaError(f"there is no folder {folder} of LivePortrait weights; {DOWNLOAD}")
    for ending in (".safetensors", ".pth"):
        found = sorted(folder.rglob(stem + ending), key=lambda path: (len(path.parts), path))
        if found:
            return found[0]
    raise ModaError(f"{folder} holds no {stem}.safetensors or .pth, which LivePortrait needs; {DOWNLOAD}")


def read_network(folder: Path, name: str) -> tuple[Path, dict[str, Tensor]]:
    """One of NETWORKS -> its file and its state dict."""
    stem, part = NETWORKS[name]
    path = find(folder, stem)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            tensors = load_file(path)
        else:
            tensors = _flat(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch and safetensors raise many kinds for a broken file
        raise ModaError(f"{path} cannot be read as weights: {str(error).splitlines()[0]}") from error
    if part:
        tensors = {k.removeprefix(part + "."): v for k, v in tensors.items() if k.startswith(part + ".")}
    # Networks saved from parallel training carry this on every key.
    return path, {key.removeprefix("module."): tensor for key, tensor in tensors.items()}


def _flat(nested: Mapping, prefix: str = "") -> dict[str, Tensor]:
    """{"a": {"b": tensor}} -> {"a.b": tensor}."""
    flat: dict[str, Tensor] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, Tensor):
            flat[prefix + key] = value
    return flat
