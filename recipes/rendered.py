"""r of lips in the rendered video, tracked again, with the real ones; each person's portrait is a frame of their own.

    python -m recipes.rendered DATASET MOTIONS [--seconds 4] [--clips 1] [--videos FOLDER]

MOTIONS: CLIP_0.npz of the dataset's clips, as recipes.judge leave-out writes them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from moda import Motion, TalkingHead
from moda.constants import FPS
from moda.evaluation.judge import clips_in, rendered
from moda.evaluation.metrics import correlation, describe, lip_width, mouth_distance
from moda.motion.explicit import lip_gap


def portrait_of(video: Path, motion: Motion, lag: int) -> np.ndarray:
    """The frame (H, W, 3) of a video whose lips are most closed and whose head is nearest to its rest."""
    from moda.media.read import timed_frames

    away = (
        np.abs(motion.yaw - np.median(motion.yaw)) / 10 + np.abs(motion.pitch - np.median(motion.pitch)) / 10
    )
    best = int((lip_gap(motion.exp) * 5 + away).argmin()) + max(0, lag)
    for time, frame, _ in timed_frames(video):
        if time >= best / FPS:
            return frame
    raise ValueError(f"{video} ends before frame {best}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path)
    parser.add_argument("motions", type=Path)
    parser.add_argument(
        "--videos", type=Path, nargs="+", required=True, help="folders of the dataset's videos"
    )
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--clips", type=int, default=1, help="of each person")
    options = parser.parse_args()
    head = TalkingHead.from_pretrained("embedded")
    lags = {
        row["clip"]: row["lag"] for row in json.loads((options.dataset / "dataset.json").read_text())["clips"]
    }
    people: dict[str, list[dict[str, float]]] = {}
    for clip in clips_in(options.dataset):
        if len(people.get(clip.person, [])) >= options.clips:
            continue
        video = next(p for folder in options.videos for p in [folder / f"{clip.name}.mp4"] if p.exists())
        frames = min(len(clip.motion), round(options.seconds * FPS))
        motion = Motion.load(options.motions / f"{clip.name}_0.npz")[:frames]
        seen = rendered(clip, motion, head, portrait_of(video, clip.motion, lags[f"{clip.name}.npz"]))
        real = clip.motion[:frames]
        r, lag = correlation(lip_gap(seen.exp), lip_gap(real.exp))
        wide, _ = correlation(lip_width(seen.exp), lip_width(real.exp))
        asked, _ = correlation(lip_gap(motion.exp), lip_gap(real.exp))
        row = {
            "gap_r": r,
            "width_r": wide,
            "gap_r_before_rendering": asked,
            "lag": lag,
            "lmd": mouth_distance(seen, real, lag),
        }
        row |= {
            f"{k} ({who})": describe(m)[k]
            for who, m in (("made", seen), ("real", real))
            for k in ("lip_gap_std", "lips_closed")
        }
        people.setdefault(clip.person, []).append(row)
        print(clip.person, clip.name, {k: round(float(v), 3) for k, v in row.items()}, flush=True)
    means = [{k: np.mean([r[k] for r in rows]) for k in rows[0]} for rows in people.values()]
    print(
        f"mean over {len(means)} people",
        {k: round(float(np.mean([m[k] for m in means])), 3) for k in means[0]},
    )


if __name__ == "__main__":
    main()
