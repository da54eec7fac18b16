"""A motion to a file of another world, by the file's ending."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from moda.errors import ModaError
from moda.media.files import check_folder

if TYPE_CHECKING:
    import numpy as np

    from moda.face.source import Source
    from moda.motion import Motion

KINDS = {
    ".csv": "Live Link Face (or Audio2Face with --format a2f)",
    ".tsv": "mouth cues",
    ".json": "mouth cues",
    ".glb": "the portrait's own mesh",
    ".vrma": "VRM animation",
}


def check_export(path: Path, kind: str, portrait: Path | None, *inputs: Path) -> None:
    """Errors: ModaError for an ending that is none of KINDS, a format that is not for it, a mesh without a portrait."""
    ending = path.suffix.lower()
    if ending not in KINDS:
        known = ", ".join(f"{name} ({what})" for name, what in KINDS.items())
        raise ModaError(f"cannot export to {path}: its name must end in one of {known}")
    if kind not in ("livelink", "a2f"):
        raise ModaError(f"format is {kind!r}, but must be livelink or a2f")
    if ending == ".glb" and portrait is None:
        raise ModaError("a mesh is made of a portrait: give --portrait PICTURE")
    if ending != ".glb" and portrait is not None:
        raise ModaError("--portrait is for a .glb alone")
    if ending != ".csv" and kind != "livelink":
        raise ModaError("--format is for a .csv alone")
    check_folder(path, inputs)


def export(
    motion: Motion,
    path: str | os.PathLike,
    kind: str = "livelink",
    source: Source | None = None,
    values: np.ndarray | None = None,
) -> Path:
    """Write it. Errors: ModaError.

    kind: of a .csv, livelink or a2f; source: the portrait of a .glb; values: (T, 52) curves, if they are known better than
    from the motion's points (cues are of lips alone, which the points are).
    """
    from moda.interchange import cues, gltf, tables

    path = Path(path)
    ending = path.suffix.lower()
    if ending == ".csv":
        return (tables.save_livelink if kind == "livelink" else tables.save_audio2face)(motion, path, values)
    if ending == ".glb":
        assert source is not None
        return gltf.save_glb(motion, source, path, values)
    return gltf.save_vrma(motion, path, values) if ending == ".vrma" else cues.save_cues(motion, path)
