"""MoDiTalker's released files -> a model folder of safetensors, once.

Released are AToM and both autoencoders of MToV; its UNet is not. So the folder that is made has AToM draw with the mesh
renderer, and holds the autoencoders for whoever trains a UNet (configs' `autoencoders`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from moda.errors import ModaError
from moda.generator.atom.published import PARTS
from moda.generator.atom.published import PUBLISHED as ATOM
from moda.generator.atom.published import load_published as load_atom
from moda.media.files import whole_folder
from moda.render.triplane.autoencoder import load_published as load_autoencoder
from moda.render.triplane.config import PUBLISHED as VIDEO
from moda.render.triplane.files import DOTS, RGB
from moda.weights.description import DEFAULT_RENDERER
from moda.weights.published import _convert_hubert, _find_hubert, _save, read_pth

LANDMARKS = ("landmark", "ldmk", "lmk", "lm_")  # in the name of the landmarks' autoencoder's file


def atom_tensors(content: Mapping) -> Mapping[str, Tensor] | None:
    """A file's content -> AToM's state dict: the one that the published inference takes; None if it is no AToM."""
    for name in reversed(PARTS):
        if isinstance(content.get(name), Mapping):
            content = content[name]
            break
    return content if "null_cond_embed" in content else None


def is_here(folder: Path) -> bool:
    """Does the folder hold an AToM?"""
    return _found(folder) is not None


def _found(folder: Path) -> tuple[Path, Mapping[str, Tensor]] | None:
    for path in _files(folder):
        tensors = atom_tensors(read_pth(path))
        if tensors is not None:
            return path, tensors
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(
        (p for p in folder.rglob("*.pt*") if p.suffix in (".pt", ".pth")), key=lambda p: (len(p.parts), p)
    )


def convert(folder: str | os.PathLike) -> str:
    """folder: holds, at any depth, AToM's file and a HuBERT-large folder in the layout of transformers; the autoencoders'
    files too, if they are there (of two, the one with "landmark" in its name is that of landmarks).

    -> a line that says what was made. Errors: ModaError for a file that is missing, cannot be read safely or does not fit.
    """
    folder = Path(folder)
    found = _found(folder)
    if found is None:
        raise ModaError(f"{folder} holds no AToM")
    path, tensors = found
    networks: dict[str, nn.Module] = {"generator.safetensors": load_atom(tensors, str(path))}
    for other in _files(folder):
        content = read_pth(other)
        if "xy_token" in content:
            landmarks = any(word in other.name.lower() for word in LANDMARKS)
            networks[DOTS if landmarks else RGB] = load_autoencoder(content, str(other), VIDEO.triplane)
    hubert = _find_hubert(folder)
    with whole_folder(folder) as made:
        for name, network in networks.items():
            state = network.state_dict()
            if name == DOTS:  # only its encoder is used
                state = {
                    k: v for k, v in state.items() if not k.startswith(("decoder.", "to_pixel.", "post_"))
                }
            _save(state, made / name)
        _convert_hubert(hubert, made / "hubert")
        description = {
            "encoder": {"name": "hubert50"},
            "generator": {"name": "atom", "config": ATOM.to_dict()},
            "renderer": {"name": DEFAULT_RENDERER},
        }
        (made / "config.json").write_text(json.dumps(description, indent=1) + "\n")
    return f"{folder}: use it with --model {folder}"
