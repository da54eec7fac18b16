"""How well a renderer shows a real person again: each clip driven by its own tracked motion from its first frame.

Every shown frame is compared with the real one in the face's box, and so is the first frame left still: what a
renderer has to beat. Nothing is fitted on the person shown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from moda.constants import FPS
from moda.errors import ModaError
from moda.evaluation.metrics import psnr, shape_drift, ssim
from moda.evaluation.strips import MOMENTS, strip
from moda.motion import Motion
from moda.motion.explicit import rotation
from moda.render import Renderer

SIZE = 256  # pixels of the square that is compared
STEPS = (0, 4, 8, 12, 16, 24)  # degrees turned from the first frame
BOX = np.array([[-0.25, -0.45], [0.25, 0.2]])  # of the landmarks' box, added to it: hair and some background
LATE = 0.3  # of a frame: a picture shown further than this from a motion's instant is not compared


@dataclass(frozen=True)
class Shown:
    """A clip's first frame, the motion (T) that is its own from there, and the real frames to compare, by index."""

    image: np.ndarray  # (H, W, 3) uint8
    motion: Motion  # relative to the first frame: angles, t and offsets 0 and scale 1 there
    frames: list[
        tuple[int, np.ndarray, np.ndarray]
    ]  # index into the motion, (H, W, 3) uint8, landmarks (478, 3)


def evaluate_self(
    folder: str | os.PathLike,
    renderer: Renderer,
    every: int = 5,
    progress: Callable[[float], None] | None = None,
    strips: dict[str, np.ndarray] | None = None,
) -> dict:
    """-> {"clips", "every", "rows": [{"clip", "frame", "turned", *FIGURES}], "steps"}.

    strips: is filled with a picture of each clip, real frames above what was drawn. every: one frame in so many is compared, the first one never. Errors: ModaError if there are no videos, or none shows a face.
    """
    from moda.training.dataset import VIDEO

    folder = Path(folder)
    if not folder.is_dir():
        raise ModaError(f"there is no folder {folder} to evaluate on")
    videos = sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEO)
    if not videos:
        raise ModaError(f"{folder} holds no videos")
    rows = []
    for number, path in enumerate(videos):
        pictures: list[tuple[np.ndarray, np.ndarray]] | None = None if strips is None else []
        rows += [{"clip": path.stem} | row for row in compare(shown(path, every), renderer, pictures)]
        if strips is not None and pictures:
            some = [
                pictures[round(i)] for i in np.linspace(0, len(pictures) - 1, min(MOMENTS, len(pictures)))
            ]
            strips[path.stem] = strip([[a for a, _ in some], [b for _, b in some]])
        if progress:
            progress((number + 1) / len(videos))
    if not rows:
        raise ModaError(f"none of the {len(videos)} videos in {folder} begins with a face that can be read")
    return {"clips": str(folder), "every": every, "rows": rows, "steps": steps(rows)}


def shown(path: Path, every: int) -> Shown:
    """Track a clip. Errors: ModaError as `moda.face.track`."""
    from moda.face.tracking import landmarks_of, motion_of
    from moda.media.read import timed_frames

    times, landmarks = landmarks_of(path)
    seen = ~np.isnan(landmarks).any(axis=(1, 2))
    if not seen.any():
        raise ModaError(f"no face was found in the video {path}")
    motion = motion_of(landmarks, times)[0]
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1 / FPS
    at = (times + step / 2) * FPS - 0.5  # of each picture, in the motion's frames
    wanted = {}
    for i in range(every, len(motion), every):
        nearest = int(np.abs(at - i).argmin())
        if abs(at[nearest] - i) <= LATE and seen[nearest]:
            wanted[nearest] = i
    pictures = [f for _, f, _ in timed_frames(path)]
    frames = [(i, pictures[n], landmarks[n]) for n, i in wanted.items()]
    return Shown(pictures[0], from_first(motion), frames)


def from_first(motion: Motion) -> Motion:
    """What a motion adds to its first frame."""
    parts = {
        name: getattr(motion, name) - getattr(motion, name)[:1]
        for name in ("exp", "t", "pitch", "yaw", "roll")
    }
    return replace(motion, scale=motion.scale / motion.scale[:1], **parts)


def compare(
    clip: Shown, renderer: Renderer, pictures: list[tuple[np.ndarray, np.ndarray]] | None = None
) -> Iterable[dict]:
    """One row a frame; none where the first frame shows no face that can be read. pictures: gets (real, drawn)."""
    from moda.face.landmarks import find_faces
    from moda.face.portrait import read_portrait

    try:
        source = read_portrait(clip.image)
    except ModaError:
        return
    prepared = renderer.prepare(source)
    own = prepared.motion
    driven = driven_by_itself(clip.motion, [i for i, _, _ in clip.frames], own)
    still = prepared.crop.cut(clip.image)
    turns = rotation(driven.pitch, driven.yaw, driven.roll)
    first = rotation(own.pitch, own.yaw, own.roll)[0]
    for (index, picture, landmarks), turn, frame in zip(clip.frames, turns, renderer.draw(prepared, driven)):
        real = prepared.crop.cut(picture)
        box = face_box(prepared.crop.points(landmarks[:, :2]), renderer.size)
        angle = np.degrees(np.arccos(np.clip((np.trace(turn @ first.T) - 1) / 2, -1, 1)))
        if pictures is not None:
            pictures.append((real, frame))
        # The drawn face is measured as the real one was: drift of real frames is what turning and measuring add.
        seen = find_faces(frame)
        drift = shape_drift(seen[0], source.landmarks) if seen else float("nan")
        yield {
            "frame": index,
            "turned": float(angle),
            "psnr": psnr(frame[box], real[box]),
            "ssim": ssim(frame[box], real[box]),
            "still_psnr": psnr(still[box], real[box]),
            "still_ssim": ssim(still[box], real[box]),
            "drift": drift,
            "real_drift": shape_drift(landmarks, source.landmarks),
        }


def driven_by_itself(motion: Motion, frames: list[int], own: Motion) -> Motion:
    """Some frames of a clip's motion from its first frame, put on the portrait that this frame is. own: its motion."""
    some = Motion.from_array(motion.to_array()[frames], own.space)
    return own.space.generated(replace(some, exp=some.exp + own.exp), own)


def face_box(points: np.ndarray, size: int) -> tuple[slice, slice]:
    """(478, 2) pixels of the square -> rows and columns of face, hair and some background."""
    low, high = points.min(axis=0), points.max(axis=0)
    (x0, y0), (x1, y1) = np.clip(np.round([low, high] + BOX * (high - low)).astype(int), 0, size)
    return slice(int(y0), int(y1)), slice(int(x0), int(x1))


FIGURES = ("psnr", "ssim", "still_psnr", "still_ssim", "drift", "real_drift")


def steps(rows: list[dict]) -> list[dict]:
    """Rows -> one a step of turning that any row lies in: from, to (degrees), frames, clips and the means."""
    out = []
    for low, high in zip(STEPS[:-1], STEPS[1:]):
        mine = [row for row in rows if low <= row["turned"] < high]
        if mine:
            means = {k: float(np.nanmean([row[k] for row in mine])) for k in FIGURES}
            clips = len({row["clip"] for row in mine})
            out.append({"from": low, "to": high, "frames": len(mine), "clips": clips} | means)
    return out


def table(result: dict) -> str:
    """The steps as lines for a person."""
    lines = [
        f"{'turned by':<12}{'frames':>8}{'clips':>7}{'driven PSNR / SSIM':>22}{'left still':>17}{'drift':>8}{'of real':>9}"
    ]
    for row in result["steps"]:
        name = f"{row['from']} to {row['to']}°"
        driven, still = (f"{row[a]:.1f} / {row[b]:.3f}" for a, b in (FIGURES[:2], FIGURES[2:4]))
        lines.append(
            f"{name:<12}{row['frames']:>8}{row['clips']:>7}{driven:>22}{still:>17}{row['drift']:>8.3f}{row['real_drift']:>9.3f}"
        )
    return "\n".join(lines)
