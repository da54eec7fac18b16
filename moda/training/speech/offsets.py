"""Is a video's picture in time with its sound? `python -m moda.training.speech.offsets runs/speech`

Lips must be closed in p, b and m: for each shift of the picture, the mean gap of the lips over the middles of those
sounds. Where it is least the two are in time. Needs what the training prepared (phones and motion).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from moda.constants import FPS
from moda.motion import Motion
from moda.motion.explicit import lip_gap

CLOSED = ("P", "B", "M")
SHIFTS = np.arange(-0.30, 0.301, 0.02)  # seconds, picture later than sound: above 0


def gaps(motion: Motion, segments: list) -> tuple[np.ndarray, int]:
    """-> mean gap at each of SHIFTS, how many closed sounds there are."""
    middles = np.array([(start + end) / 2 for start, end, name in segments if name in CLOSED])
    frames = (np.arange(len(motion)) + 0.5) / FPS
    return np.array([np.interp(middles + s, frames, lip_gap(motion.exp)).mean() for s in SHIFTS]), len(
        middles
    )


def main(out: Path) -> None:
    for line in (out / "phones" / "video.jsonl").read_text().splitlines():
        name, segments = json.loads(line)
        if any(s[2] in CLOSED for s in segments):
            found, count = gaps(Motion.load(out / "cache" / "motion" / f"{name}.npz"), segments)
            best = int(found.argmin())
            print(
                f"{name}: picture {SHIFTS[best]:+.2f} s after the sound; gap {found[best]:.3f} there,"
                f" {np.median(found):.3f} at most shifts; {count} closed sounds"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
