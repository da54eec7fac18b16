"""Model folders: names to places, and what lies in one.

config.json            see moda.weights.description
generator.safetensors  the network, any float type
encoder.*              of the speech encoder, or hubert/ in the layout of transformers
liveportrait/          the LivePortrait networks, if that is the renderer
"""

from __future__ import annotations

import os
from pathlib import Path

from moda.errors import ModaError

EMBEDDED = Path(__file__).parent / "embedded"
MODITALKER = Path(__file__).parent / "moditalker"


def home() -> Path:
    """Where downloads go: MODA_HOME, or ~/.cache/moda."""
    return Path(os.environ.get("MODA_HOME") or Path.home() / ".cache" / "moda")


def resolve(name_or_folder: str | os.PathLike) -> Path:
    """ "embedded", "moditalker", "official" or a folder -> an existing model folder.

    Errors: ModaError that says how to get it, or which names there are.
    """
    if not isinstance(name_or_folder, (str, os.PathLike)):
        raise ModaError(f"the model is {type(name_or_folder).__name__}, but must be a name or a folder")
    known = {"embedded": EMBEDDED, "moditalker": MODITALKER, "official": home() / "official"}
    folder = known.get(str(name_or_folder), Path(name_or_folder))
    if (folder / "config.json").is_file():
        return folder
    if str(name_or_folder) == "official":
        raise ModaError(
            "the official weights are not here yet; `moda weights download official` fetches them"
        )
    if str(name_or_folder) in ("embedded", "moditalker"):
        raise ModaError(f"the {name_or_folder} model is missing from {folder}; install moda again")
    if folder.is_dir():
        raise ModaError(
            f"{folder} is no model folder: it has no config.json (`moda weights convert` makes one)"
        )
    raise ModaError(
        f"there is no model {str(name_or_folder)!r}: it is neither {' nor '.join(known)} nor a folder"
    )


def list_weights() -> list[str]:
    """A line for each known model: its name, where it is or how to get it, its size."""
    from moda.weights.description import Description

    lines = []
    for name in ("embedded", "moditalker", "official"):
        try:
            folder = resolve(name)
            model = Description.read(folder)
        except ModaError as error:
            lines.append(f"{name}: {error}")
            continue
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        lines.append(
            f"{name}: {folder}, {size / 1e6:.1f} MB, {model.encoder.name} -> {model.generator.name} "
            f"({model.generator.config.space}) -> {model.renderer.name}"
        )
    return lines


def first_line(error: Exception) -> str:
    """What a library's error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
