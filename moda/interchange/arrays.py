"""Blendshape weights as an array: TAKE.npy (T, N), and names.json beside it with the N columns' names.

Known names are ARKit's (in any of the ways that files of curves write them) and those of FACEGOOD's recordings, which
are read as the ARKit curves that they look like. What an array does not say is its rate: it is that of its sound.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from moda.constants import FPS
from moda.errors import ModaError
from moda.interchange.arkit import CURVES
from moda.interchange.arkit import motion as from_curves
from moda.interchange.tables import plain
from moda.motion import Motion

RATES = (24.0, 25.0, 29.97, 30.0, 48.0, 50.0, 59.94, 60.0, 100.0, 120.0)
OFF = 0.01  # part by which the length of weights and sound may differ

# FACEGOOD's column, without its side -> ARKit's curve and the share of it. A jaw that opens is `mouth_stretch` there.
_FACEGOOD: dict[str, tuple[tuple[str, float], ...]] = {
    "mouth_stretch_c": (("jawOpen", 1.0),),
    "mouth_oh_c": (("jawOpen", 0.5), ("mouthFunnel", 1.0)),
    "mouth_oo_c": (("mouthPucker", 1.0),),
    "mouth_pucker": (("mouthPucker", 0.5),),
    "mouth_funnel_d": (("mouthFunnel", 0.25),),
    "mouth_funnel_u": (("mouthFunnel", 0.25),),
    "mouth_suck_d": (("mouthRollLower", 0.5),),
    "mouth_suck_u": (("mouthRollUpper", 0.5),),
    "mouth_lowerLipDepress": (("mouthLowerDown*", 1.0),),
    "mouth_upperLipRaise": (("mouthUpperUp*", 1.0),),
    "mouth_lipCornerPull": (("mouthSmile*", 1.0),),
    "mouth_lipCornerDepress": (("mouthFrown*", 1.0),),
    "mouth_lipStretch": (("mouthStretch*", 1.0),),
    "mouth_sideways": (("mouth*", 1.0),),
    "jaw_sideways": (("jaw*", 1.0),),
}


def read_columns(path: Path, seconds: float) -> tuple[np.ndarray, list[str]]:
    """The array beside a sound of so many seconds -> (T, N) at 25 frames a second, and the columns' names.

    Errors: ModaError for an array or names that cannot be read, or of another length.
    """
    names_path = path.parent / "names.json"
    try:
        weights = np.load(path, allow_pickle=False)
        names = json.loads(names_path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModaError(f"the weights {path} need a .npy array and {names_path}: {error}") from error
    if not isinstance(names, list) or weights.ndim != 2 or weights.shape[1] != len(names) or not len(weights):
        count = len(names) if isinstance(names, list) else "no list of"
        raise ModaError(f"{path} has the shape {weights.shape}, but {names_path} holds {count} names")
    if not np.isfinite(weights).all():
        raise ModaError(f"{path} holds a number that is not finite")
    fps = min(RATES, key=lambda rate: abs(len(weights) / rate - seconds))
    if abs(len(weights) / fps - seconds) > OFF * seconds:
        raise ModaError(
            f"{path} has {len(weights)} frames, which fit {seconds:.2f} s of sound at no known rate"
        )
    at = (np.arange(max(1, round(seconds * FPS))) + 0.5) / FPS
    own = (np.arange(len(weights)) + 0.5) / fps
    columns = [np.interp(at, own, column) for column in weights.T.astype(np.float64)]
    return np.stack(columns, axis=1), [str(name) for name in names]


def read_weights(path: Path, seconds: float) -> Motion:
    """`read_columns` as a Motion. The head is not in it. Errors: ModaError, also for fewer than three known names."""
    weights, names = read_columns(path, seconds)
    matrix = _matrix(names)
    if np.count_nonzero(matrix.any(axis=1)) < 3:
        raise ModaError(f"{path.parent / 'names.json'} names no columns that are known, such as jawOpen")
    return from_curves(weights @ matrix, fps=FPS)


def _matrix(names: list[str]) -> np.ndarray:
    """(N, 52) what each column adds to each curve."""
    known = {name.lower(): i for i, name in enumerate(CURVES)}
    matrix = np.zeros((len(names), len(CURVES)))
    for row, name in enumerate(names):
        if plain(name) in known:
            matrix[row, known[plain(name)]] = 1.0
            continue
        stem, side = name, ""
        if name not in _FACEGOOD and name[-1:] in "lr":
            stem, side = name[:-1].rstrip("_"), {"l": "Left", "r": "Right"}[name[-1]]
        for curve, share in _FACEGOOD.get(stem, ()):
            matrix[row, CURVES.index(curve.replace("*", side))] = share
    return matrix
