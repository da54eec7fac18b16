"""Lips in the sounds of GRID's sentences: real ones, as the tracker sees them, beside generated ones.

    python -m recipes.filmed_sounds WORK MOTIONS
MOTIONS: of each clip, what `recipes.judge leave-out` wrote. The sentences, which the clips' names spell, are aligned.

Prints, for each kind of sound: the mean gap in its middle, the part in which lips meet, width, edges of the lips; and
for words without p, b, m, w or f the part in which lips meet all the same.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from pathlib import Path

import numpy as np

from moda import Motion
from moda.constants import FPS
from moda.evaluation.metrics import CLOSED, meetings
from moda.motion.explicit import INDEX, lip_gap
from moda.training.align import Aligner, Segment
from moda.training.clips import Item
from moda.training.dataset import items
from recipes.phone_corpus import grid_text

SOUNDS = {
    "p b m": ("P", "B", "M"),
    "f v": ("F", "V"),
    "u w": ("UW", "W", "UH"),
    "o": ("OW", "AO"),
    "i": ("IY", "IH"),
    "a": ("AA", "AE", "AY"),
}
VOWELS = SOUNDS["i"] + SOUNDS["a"]
COLUMNS = ("gap", "width", "lower lip's outer edge", "upper lip's inner edge")


def lips(motion: Motion) -> np.ndarray:
    """(T, 4) COLUMNS, eye distances; down is positive."""
    exp = motion.exp
    wide = exp[:, INDEX["lip_corner_left"], 0] - exp[:, INDEX["lip_corner_right"], 0]
    edges = (exp[:, INDEX[name], 1] for name in ("lip_lower_outer", "lip_upper_inner"))
    return np.stack([lip_gap(exp), wide, *edges], axis=1)


def compare(item: Item, made: Motion, segments: list[Segment], found: dict, met: dict) -> None:
    """Adds a clip's sounds to what was found: kind -> rows of (real, generated); kind -> (real met, generated met)."""
    early, late = max(0, -item.lag), max(0, item.lag)
    both = [lips(Motion.from_array(item.motion))[late:], lips(made)]
    for start, end, name in segments:
        start, end, sound = start - early / FPS, end - early / FPS, name.rstrip("012")
        middle = round((start + end) / 2 * FPS - 0.5)
        if not 1 <= middle < min(map(len, both)) - 1:
            continue
        for kind, names in SOUNDS.items():
            if sound in names:
                found[kind].append([part[middle] for part in both])
        for kind, names in (("p b m", SOUNDS["p b m"]), ("vowels", VOWELS)):
            if sound in names:
                slack = 1 if kind == "p b m" else 0
                met[kind].append([meetings(part[:, 0], [(start, end)], slack=slack) for part in both])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("motions", type=Path)
    options = parser.parse_args()
    align, clips = Aligner(), 0
    found: dict[str, list] = defaultdict(list)
    met: dict[str, list] = defaultdict(list)
    for item in items([options.work / "dataset"]):
        code = item.path.stem.split("_")[-1]
        if not item.path.stem.startswith("grid_") or not re.fullmatch("[a-z]{4}[a-z0-9][a-z]", code):
            continue
        segments = align(item.wave, grid_text(code))
        if segments:
            made = Motion.load(options.motions / f"{item.path.stem}_0.npz")
            compare(item, made, segments, found, met)
            clips += 1
    print(f"{clips} clips; real, generated: {', '.join(COLUMNS)}")
    for kind, rows in found.items():
        real, ours = np.mean(rows, axis=0)
        print(f"{kind} ({len(rows)})", "  ".join(f"{a:.3f}, {b:.3f}" for a, b in zip(real, ours)))
    for kind, pairs in met.items():
        real, ours = np.mean(pairs, axis=0)
        print(f"lips within {CLOSED} in {kind} ({len(pairs)}): real {real:.2f}, generated {ours:.2f}")


if __name__ == "__main__":
    main()
