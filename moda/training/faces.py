"""Videos of faces as MToV and AToM learn from them: followed once, cut to a region, kept in small files."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moda.errors import ModaError
from moda.media.files import whole
from moda.training.dataset import SHORTEST, VIDEO, stretches

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Face:
    """A stretch of a video with one face and no cut, 25 frames a second.

    name; pictures (T, S, S, 3) uint8 of the region; points (T, 68, 2) float32 in its pixels; landmarks (T, 478, 3)
    float32, the video's pixels; first: the video's frame that it begins with
    """

    name: str
    pictures: np.ndarray
    points: np.ndarray
    landmarks: np.ndarray
    first: int


def videos_in(folders: list[Path], leave: set[str] | None = None) -> list[Path]:
    """Errors: ModaError if there are none."""
    found = sorted(
        {p for f in folders for p in (f.rglob("*") if f.is_dir() else [f]) if p.suffix.lower() in VIDEO}
    )
    found = [p for p in found if p.name not in (leave or set())]
    if not found:
        raise ModaError(f"there is no video in {', '.join(map(str, folders))}")
    return found


def faces(
    videos: list[Path], cache: Path, region: str, size: int, progress: Callable[[float], None] | None = None
) -> list[Face]:
    """Of every video its stretches with a face; one that cannot be used gives a logged warning."""
    cache.mkdir(parents=True, exist_ok=True)
    out: list[Face] = []
    for count, path in enumerate(videos, 1):
        key = hashlib.sha256(f"{path.resolve()} {region} {size}".encode()).hexdigest()[:24]
        stored = cache / f"{path.stem}-{key}.npz"
        if not stored.exists():
            try:
                made = list(_cut(path, region, size))
            except ModaError as error:
                log.warning("%s", error)
                made = []
            arrays = {
                f"{name}{i}": np.asarray(getattr(face, name))
                for i, face in enumerate(made)
                for name in ("pictures", "points", "landmarks", "first")
            }
            with whole(stored) as part, open(part, "wb") as file:
                np.savez(file, **arrays)
        with np.load(stored, allow_pickle=False) as file:
            for i in range(len(file.files) // 4):
                pictures, points, landmarks, first = (
                    file[f"{name}{i}"] for name in ("pictures", "points", "landmarks", "first")
                )
                out.append(Face(path.stem, pictures, points, landmarks, int(first)))
        if progress:
            progress(count / len(videos))
    return out


def _cut(path: Path, region: str, size: int) -> Iterator[Face]:
    from moda.face.follow import follow_face
    from moda.media.read import read_video
    from moda.render.triplane.region import points68, squares

    frames: list[np.ndarray] = []

    def kept() -> Iterator[np.ndarray]:
        for frame in read_video(path):
            frames.append(frame)
            yield frame

    blank = np.full((478, 3), np.nan, dtype=np.float32)
    landmarks = np.stack([blank if f is None else f for f in follow_face(kept())])
    for first, last in stretches(landmarks):
        if last - first < SHORTEST * 25:
            continue
        part = landmarks[first:last]
        for axis in np.ndindex(part.shape[1:]):  # at most LOST frames in a row lack a face
            column = part[(slice(None), *axis)]
            gone = np.isnan(column)
            if gone.any():
                column[gone] = np.interp(np.flatnonzero(gone), np.flatnonzero(~gone), column[~gone])
        crops = squares(part, region, size)
        pictures = np.stack([c.cut(f) for c, f in zip(crops, frames[first:last])])
        points = np.stack([points68(p, c) for p, c in zip(part, crops)]).astype(np.float32)
        yield Face(path.stem, pictures, points, part.astype(np.float32), first)
