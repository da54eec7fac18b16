"""Portraits saying the same unseen sentence, looked at around p b m, f v, u and a: one sheet.

python -m recipes.looks OUT.jpg PORTRAIT... [--model M]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from moda import TalkingHead
from moda.constants import FPS
from recipes import phones, synth
from recipes.judge import perform

SENTENCE = "My father bought a blue boat from five poor farmers in April."
WANTED = {"p b m": ("p", "m"), "f v": ("f",), "u": ("u", "w"), "a": ("aa", "a")}
SIZE, EACH = 192, 3


def moments(segments: list) -> list[tuple[str, int]]:
    """-> (label, frame) of the first EACH sounds of every kind."""
    out = []
    for label, names in WANTED.items():
        wanted = {phones.ID[n] for n in names}
        found = [(a + b) / 2 for a, b, c in segments if c and c[0] in wanted]
        out += [(label, round(t * FPS)) for t in found[:EACH]]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("portraits", type=Path, nargs="+")
    parser.add_argument("--model", default="embedded")
    options = parser.parse_args()
    head = TalkingHead.from_pretrained(options.model)
    _, sound, segments = next(synth.flite_clips([SENTENCE], 1, seed=3))
    picked = moments(segments)
    rows = []
    for path in options.portraits:
        character = head.prepare(path)
        motion = perform(head, sound, identity=character.source.keypoints)
        frames = list(character.draw(motion.space.generated(motion, character.motion)))
        cells = [
            cv2.resize(frames[min(f, len(frames) - 1)], (SIZE, SIZE), interpolation=cv2.INTER_AREA)
            for _, f in picked
        ]
        rows.append(np.concatenate(cells, axis=1))
    band = np.full((24, rows[0].shape[1], 3), 255, np.uint8)
    for i, (label, frame) in enumerate(picked):
        cv2.putText(
            band,
            f"{label}  {frame}",
            (i * SIZE + 6, 17),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.5,
            (0, 0, 0),
            1,
            cv2.LINE_AA,
        )
    sheet = np.concatenate([band, *rows])
    cv2.imwrite(str(options.out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
