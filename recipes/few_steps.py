"""A model's performances by how many steps they are sampled in, and live, beside real people's.

    python -m recipes.few_steps WORK MODEL STEPS...      0 steps: the live scheme, with its own

Of the longest clips of filmed people; means over people. The lips' ridge knows these people: their r is for comparing rows.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from moda import Motion, TalkingHead
from moda.audio.encoder import encode
from moda.evaluation.metrics import correlation, describe
from moda.motion import join
from moda.motion.blinks import Blinks
from moda.motion.explicit import lip_gap
from moda.training.dataset import items

COLUMNS = ("blinks_per_minute", "blink_depth", "pitch_std", "yaw_std", "roll_std", "head_speed", "pose_jerk")


def performance(head: TalkingHead, features: list[np.ndarray], identity: np.ndarray, steps: int) -> Motion:
    start = Motion.still(1)
    if steps:
        return Blinks()(join(list(head.generator.stream(features, identity, start, seed=0, steps=steps))))
    live = head.generator.live(identity, start, head.silence, seed=0)
    made = [live.push(piece) for piece in features]
    return Blinks()(join([motion for motion in [*made, live.flush()] if len(motion)]))


def line(name: str, milliseconds: float, agreement: list[float], motions: list[Motion]) -> str:
    told = [describe(motion) for motion in motions]
    figures = "  ".join(f"{key} {np.nanmean([t[key] for t in told]):.3f}" for key in COLUMNS)
    return f"{name:<10} {milliseconds:4.0f} ms a second  gap r {np.mean(agreement):.3f}  {figures}"


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("model")
    parser.add_argument("steps", type=int, nargs="+")
    parser.add_argument("--clips", type=int, default=14)
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = TalkingHead.from_pretrained(options.model)
    clips = sorted(items([options.work / "dataset"]), key=lambda item: -len(item.wave))[: options.clips]
    real = [Motion.from_array(clip.motion)[max(0, clip.lag) :] for clip in clips]
    heard = [list(encode(head.encoder, [clip.wave[max(0, -clip.lag) * 640 :]])) for clip in clips]
    seconds = sum(motion.seconds for motion in real)
    print(line("real", 0, [1.0], real))
    for steps in options.steps:
        began = time.process_time()
        made = [performance(head, f, clip.identity, steps) for f, clip in zip(heard, clips)]
        spent = time.process_time() - began
        agreement = [correlation(lip_gap(a.exp), lip_gap(b.exp), 3)[0] for a, b in zip(made, real)]
        print(line(f"{steps} steps" if steps else "live", 1000 * spent / seconds, agreement, made))


if __name__ == "__main__":
    main()
