"""Mouth cues as Rhubarb Lip Sync writes them, for drawn characters: one of nine mouths, from a time on.

A closed (m b p), B teeth together, C open, D wide open, E rounded, F puckered, G teeth on the lip (f v), H tongue up (l),
X at rest. The lips tell A to F and X; G and H are not to be told from lips alone and never come.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from moda.interchange.arkit import CURVES, curves
from moda.media.files import whole
from moda.motion import Motion
from moda.motion.explicit import SPACE

HOLD = 2  # frames that a cue lasts at least
REST = 0.25  # seconds of closed lips after which they are at rest
CLOSED, OPEN, WIDE = 0.015, 0.07, 0.14  # gap of the lips, eye distances
ROUND, PUCKERED = 0.3, 0.55  # funnel and pucker together


def cues(motion: Motion) -> list[tuple[float, str]]:
    """-> (seconds, shape) of every change; the first at 0."""
    gap, values = SPACE.lip_gap(motion), curves(motion)
    rounded = values[:, CURVES.index("mouthFunnel")] + values[:, CURVES.index("mouthPucker")]
    shapes = np.select(
        [gap < CLOSED, (rounded > PUCKERED) & (gap < OPEN), rounded > ROUND, gap > WIDE, gap > OPEN],
        ["A", "F", "E", "D", "C"],
        "B",
    )
    runs = _runs(list(shapes))
    found: list[list] = []
    for start, stop, shape in runs:
        if shape == "A" and (stop - start >= REST * motion.fps or stop == len(gap) or start == 0):
            shape = "X"
        if found and (stop - start < HOLD and shape != "A" or found[-1][1] == shape):
            continue  # too short to be seen; a closing is kept, it is what reads
        found.append([start / motion.fps, shape])
    return [(seconds, shape) for seconds, shape in found]


def _runs(shapes: list[str]) -> list[tuple[int, int, str]]:
    bounds = [0, *(i for i in range(1, len(shapes)) if shapes[i] != shapes[i - 1]), len(shapes)]
    return [(a, b, str(shapes[a])) for a, b in zip(bounds, bounds[1:])]


def save_cues(motion: Motion, path: str | os.PathLike) -> Path:
    """.tsv: seconds, tab, shape; .json: metadata and mouthCues with start, end, value."""
    path, found = Path(path), cues(motion)
    if path.suffix.lower() == ".tsv":
        text = "".join(f"{seconds:.2f}\t{shape}\n" for seconds, shape in [*found, (motion.seconds, "X")])
    else:
        ends = [seconds for seconds, _ in found[1:]] + [motion.seconds]
        marks = [
            {"start": round(start, 2), "end": round(end, 2), "value": shape}
            for (start, shape), end in zip(found, ends)
        ]
        text = (
            json.dumps({"metadata": {"duration": round(motion.seconds, 2)}, "mouthCues": marks}, indent=2)
            + "\n"
        )
    with whole(path) as part:
        part.write_text(text)
    return path
