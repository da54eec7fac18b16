"""How well generated lips follow speech: a model against real people, clip by clip.

A folder holds clips of people that the model was not trained on: videos with sound, or pairs of NAME.flac and
NAME.npy (blendshape weights at 30 fps beside names.json, of which the jaw, `mouth_stretch_c`, is compared).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moda.constants import FPS
from moda.errors import ModaError
from moda.evaluation.metrics import correlation, describe
from moda.motion import Motion, join
from moda.motion.explicit import LANDMARK_OF, lip_gap

BLENDSHAPE_FPS = 30
JAW = "mouth_stretch_c"
VIDEO = (".mp4", ".mov", ".mkv", ".webm", ".avi")
SOUND = (".flac", ".wav", ".opus", ".mp3")


@dataclass(frozen=True)
class RealClip:
    """name, sound: a file; opening: (T,) of the real mouth at 25 fps, any unit; identity: (21, 3);
    motion: the real one, where a face was filmed."""

    name: str
    sound: Path
    opening: np.ndarray
    identity: np.ndarray
    motion: Motion | None


def clips_in(folder: str | os.PathLike) -> Iterator[RealClip]:
    """The clips of a folder, in the order of their names. Errors: ModaError if there are none."""
    from moda.face.pose import canonical
    from moda.face.tracking import track

    folder = Path(folder)
    if not folder.is_dir():
        raise ModaError(f"there is no folder {folder} to evaluate on")
    mean_face = canonical()[LANDMARK_OF]
    found = False
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in VIDEO:
            tracked = track(path)
            yield RealClip(path.stem, path, lip_gap(tracked.motion.exp), tracked.keypoints, tracked.motion)
        elif path.suffix == ".npy":
            sounds = [path.with_suffix(s) for s in SOUND if path.with_suffix(s).exists()]
            if not sounds:
                raise ModaError(f"{path} has no sound beside it ({', '.join(path.stem + s for s in SOUND)})")
            yield RealClip(path.stem, sounds[0], _jaw(path), mean_face, None)
        else:
            continue
        found = True
    if not found:
        raise ModaError(
            f"{folder} holds neither videos nor blendshape clips (.npy with a sound file beside it)"
        )


def _jaw(path: Path) -> np.ndarray:
    names = path.with_name("names.json")
    try:
        column = json.loads(names.read_text()).index(JAW)
        weights = np.load(path, allow_pickle=False)[:, column].astype(np.float64)
    except (OSError, ValueError, IndexError) as error:
        raise ModaError(f"{path} cannot be read as blendshape weights named by {names}: {error}") from error
    at = np.arange(round(len(weights) * FPS / BLENDSHAPE_FPS)) / FPS
    return np.interp(at, np.arange(len(weights)) / BLENDSHAPE_FPS, weights)


def evaluate(
    folder: str | os.PathLike,
    model: str = "embedded",
    device: str = "cpu",
    seeds: tuple[int, ...] = (0, 1, 2),
    progress: Callable[[float], None] | None = None,
) -> dict:
    """-> {"mean_r", "clips": [{"name", "r", "lag", "r_by_seed", "seconds", "generated": {...}, "real": {...}}]}.

    r: correlation of the generated inner-lip gap with the real mouth's opening at the best lag within 3 frames, mean
    over seeds; what `generated` and `real` hold is said by `moda.evaluation.metrics.describe`.
    Errors: ModaError, also for a model outside the explicit space (its numbers are not lips to be measured).
    """
    from moda.pipeline import TalkingHead

    head = TalkingHead.from_pretrained(model, device)
    start = Motion.still(1).require(head.generator.space, "this model")
    clips = list(clips_in(folder))
    rows = []
    for count, clip in enumerate(clips):
        features = list(head.encoder.encode(_sound(clip.sound)))
        motions = [
            join(list(head.generator.stream(features, clip.identity, start, seed=seed))) for seed in seeds
        ]
        scores = [correlation(lip_gap(motion.exp), clip.opening) for motion in motions]
        rows.append(
            {
                "name": clip.name,
                "seconds": round(motions[0].seconds, 2),
                "r": float(np.mean([r for r, _ in scores])),
                "lag": int(np.median([lag for _, lag in scores])),
                "r_by_seed": [r for r, _ in scores],
                "generated": {
                    k: float(np.mean([describe(m)[k] for m in motions])) for k in describe(motions[0])
                },
                "real": describe(clip.motion) if clip.motion else None,
            }
        )
        if progress:
            progress((count + 1) / len(clips))
    return {
        "model": str(model),
        "seeds": list(seeds),
        "mean_r": float(np.mean([row["r"] for row in rows])),
        "clips": rows,
    }


def _sound(path: Path):
    from moda.audio.decode import iter_audio

    return iter_audio(path)


def table(result: dict) -> str:
    """An evaluation as lines for a person."""
    lines = [
        f"{'clip':<16}{'r':>7}{'lag':>5}{'seconds':>9}{'gap std':>9}{'real':>7}{'blinks/min':>12}{'real':>7}"
    ]
    for row in result["clips"]:
        made, real = row["generated"], row["real"]
        lines.append(
            f"{row['name']:<16}{row['r']:>7.2f}{row['lag']:>5}{row['seconds']:>9.1f}{made['lip_gap_std']:>9.3f}"
            f"{real['lip_gap_std'] if real else float('nan'):>7.3f}{made['blinks_per_minute']:>12.1f}"
            f"{real['blinks_per_minute'] if real else float('nan'):>7.1f}"
        )
    lines.append(f"{'mean':<16}{result['mean_r']:>7.2f}   over seeds {', '.join(map(str, result['seeds']))}")
    return "\n".join(lines)
