"""How dubbing measures: footage given other people's speech, followed again.

`python -m recipes.dubbed FOOTAGE... --speech CLIPS... --sheet out.png`: every piece of footage speaks every clip's sound.
Printed for each: the frames' PSNR outside the mouth's square; the correlation of the lips' gap, as seen in the dubbed
video, with the speaker's real one, and that of a portrait (the footage's first frame) speaking the same; the gap while
nothing is said; frames a second.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from moda.evaluation.judge import _tracked
from moda.evaluation.metrics import correlation
from moda.face.footage import Footage
from moda.face.tracking import track
from moda.media.read import read_video
from moda.motion.explicit import lip_gap
from moda.pipeline import TalkingHead
from moda.render.lips.lips import MIDDLE, SIDE

PAUSE = 1.0  # seconds of silence appended to the speech; lips are measured in its second half


def seen_gap(path: Path) -> np.ndarray:
    return lip_gap(track(path).motion.exp)


def outside(footage: Footage, original: Path, dubbed: Path) -> float:
    """PSNR over all pixels beyond the square about the mouth."""
    errors, count = 0.0, 0
    for before, after, placed in zip(read_video(original), read_video(dubbed), footage.placed()):
        keep = np.ones(before.shape[:2], bool)
        if placed is not None:
            at, half = placed.place(MIDDLE)[:2], SIDE * placed.scale / 2
            y, x = np.mgrid[: before.shape[0], : before.shape[1]]
            keep = np.maximum(abs(x - at[0]), abs(y - at[1])) > half
        errors += float(np.square(before[keep].astype(float) - after[keep]).sum())
        count += 3 * int(keep.sum())
    return float(10 * np.log10(255**2 / max(errors / count, 1e-10)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("footage", type=Path, nargs="+")
    parser.add_argument("--speech", type=Path, nargs="+", required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    head = TalkingHead.from_pretrained(options.model)
    rows, strips = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for speech in options.speech:
            real = _tracked(speech, speech.stem)
            wave = np.concatenate([real.wave, np.zeros(int(PAUSE * 16_000), np.float32)])
            for footage in options.footage:
                began = time.process_time()
                with head.dub(footage, wave) as dub:
                    out = dub.save(folder / "dubbed.mp4")
                    spent = (time.process_time() - began) / len(dub)
                    far = outside(dub.footage, footage, out)
                    n = min(len(dub), len(wave) // 640)
                picture = next(iter(read_video(footage)))
                still = head(picture, wave).save(folder / "portrait.mp4")
                wanted = lip_gap(real.motion.exp)
                dubbed, portrait = seen_gap(out), seen_gap(still)
                m = min(n, len(wanted))
                r, _ = correlation(dubbed[:m], wanted[:m])
                r_portrait, _ = correlation(portrait[:m], wanted[:m])
                pause = dubbed[len(real.wave) // 640 + 12 : n]
                rows.append((far, r, r_portrait, float(np.median(pause)) if len(pause) else np.nan, spent))
                line = " ".join(f"{value:8.3f}" for value in rows[-1])
                print(f"{footage.stem:<24}{speech.stem:<24}{line}", flush=True)
                if options.sheet:
                    strips += _strips(footage, out, m)
    far, r, r_portrait, pause, spent = (np.nanmean(column) for column in zip(*rows))
    print(
        f"mean: outside {far:.1f} dB; lip gap r {r:.3f} dubbed, {r_portrait:.3f} portrait; gap in pauses {pause:.3f}; "
        f"{1000 * spent:.0f} ms of processor a frame"
    )
    if options.sheet:
        cv2.imwrite(str(options.sheet), cv2.cvtColor(np.concatenate(strips), cv2.COLOR_RGB2BGR))


def _strips(footage: Path, dubbed: Path, frames: int, columns: int = 8) -> list[np.ndarray]:
    wanted = set(np.linspace(3, frames - 4, columns).astype(int).tolist())
    out = []
    for path in (footage, dubbed):
        chosen = [frame for i, frame in enumerate(read_video(path)) if i in wanted]
        out.append(np.concatenate([cv2.resize(f, (180, 180)) for f in chosen], axis=1))
    return out


if __name__ == "__main__":
    main()
