"""Phone times of folders of real English speech (moda.training.align), kept, so that a rerun goes on."""

from __future__ import annotations

import json
import os
from pathlib import Path

from moda.training.align import Aligner, Segment
from recipes.sound import read_sound


def align_folder(sounds: list[Path], texts: dict[str, str], out: Path) -> dict[str, list[Segment]]:
    """File stem -> segments for all `sounds`; kept in the JSON-lines file `out`, so that a rerun goes on."""
    out.parent.mkdir(parents=True, exist_ok=True)
    done: dict[str, list[Segment]] = {}
    if out.exists():
        for line in out.read_text().splitlines():
            name, segments = json.loads(line)
            done[name] = [tuple(s) for s in segments]
    todo = [p for p in sounds if p.stem not in done]
    if todo:
        aligner = Aligner()
        with open(out, "a") as file:
            for path in todo:
                done[path.stem] = aligner(read_sound(path), texts.get(path.stem))
                file.write(json.dumps([path.stem, done[path.stem]]) + os.linesep)
                file.flush()
    return done
