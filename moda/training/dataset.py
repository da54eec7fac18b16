"""A dataset: a folder of clips, one small file each, and dataset.json that says where they came from and what was refused.

clips/NAME.npz is what moda.training.clips.Item reads.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from moda.constants import FPS, SAMPLES_PER_FRAME
from moda.errors import ModaError, why
from moda.media.files import whole
from moda.training.clips import IN_TIME, SHORTEST, Found, Item, best_lag, encoded, store, voiced
from moda.training.sounds import SOUND, beside, prepare_sound

log = logging.getLogger(__name__)

VIDEO = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg"}
LOST = 5  # frames without a face at which a clip is cut
JUMP = 0.6  # eye distances from frame to frame: a cut to another scene
RESIZED = 0.35  # of the log of the eyes' distance, from frame to frame: another scene too


def items(folders: Iterable[Path]) -> Iterator[Item]:
    """The clips of datasets, by name. Errors: ModaError for a folder that is none."""
    for folder in folders:
        if not (folder / "dataset.json").is_file():
            raise ModaError(
                f"{folder} is no dataset: it has no dataset.json (make one: moda data prepare VIDEOS -o DATASET)"
            )
        for path in sorted((folder / "clips").glob("*.npz")):
            yield Item.load(path)


def prepare(
    videos: list[Path],
    out: Path,
    processes: int = 1,
    people: dict[str, str] | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Found]:
    """Videos and sounds, or folders of them -> a dataset in `out`; what is there already stays.

    A folder's sounds count where something beside them says how their lips move (moda.training.sounds).
    people: file's name -> person; a file without one is a person of its own, named after the file.
    Errors: ModaError if there are none, or none could be used.
    """
    for given in videos:
        if not given.exists():
            raise ModaError(f"there is no video, sound or folder {given}")
    paths = sorted(
        {p for v in videos if v.is_dir() for p in v.rglob("*") if p.suffix.lower() in VIDEO or beside(p)}
        | {v for v in videos if not v.is_dir() and v.suffix.lower() in VIDEO | SOUND}
    )
    if not paths:
        names = ", ".join(map(str, videos))
        raise ModaError(f"there is no video in {names}, and no sound beside which its lips are told")
    named: dict[str, Path] = {}
    for path in paths:
        if named.setdefault(path.name, path) != path:
            raise ModaError(
                f"{named[path.name]} and {path} have one name, by which clips are kept; rename one"
            )
    if strangers := sorted(set(people or {}) - set(named)):
        more = f" and {len(strangers) - 1} more" if len(strangers) > 1 else ""
        log.warning("the table of people names %s%s, not among these files", strangers[0], more)
    new = not out.exists()
    try:
        (out / "clips").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModaError(f"the dataset cannot be written to {out}: {why(error)}") from error
    done = read_list(out)
    kept = {f.video for f in done if f.clip}
    # What was refused as a whole is looked at again: what was missing may be there now.
    done = [f for f in done if f.video in kept or f.video not in named]
    todo = [p for p in paths if p.name not in {f.video for f in done}]
    person_of = people or {}
    jobs = [(path, out, person_of.get(path.name, path.stem)) for path in todo]
    with ProcessPoolExecutor(processes) if processes > 1 else _Here() as pool:
        for count, found in enumerate(pool.map(_prepare_one, jobs), 1):
            done += found
            _write_list(out, done)
            if progress:
                progress(count / len(todo))
    _write_list(out, done)
    if not any(f.clip for f in done):
        if new:
            shutil.rmtree(out, ignore_errors=True)
        raise ModaError(f"none of the {len(paths)} files could be used: {done[0].reason}")
    return done


class _Here:
    """A pool that is this process."""

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *args: object) -> None: ...

    def map(self, function: Callable, jobs: list) -> Iterator:
        return map(function, jobs)


def read_list(out: Path) -> list[Found]:
    """What a dataset was made of, nothing if there is none yet. Errors: ModaError for a file that is damaged."""
    path = out / "dataset.json"
    if not path.exists():
        return []
    try:
        return [Found(**row) for row in json.loads(path.read_text(encoding="utf-8"))["clips"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ModaError(f"{path} is not what `moda data prepare` writes: {error}") from error


def _write_list(out: Path, found: list[Found]) -> None:
    with whole(out / "dataset.json") as part:
        part.write_text(json.dumps({"clips": [asdict(f) for f in found]}, indent=1) + "\n", encoding="utf-8")


def _prepare_one(job: tuple[Path, Path, str]) -> list[Found]:
    """One video, tracked, cut, brought in time, stored; or one sound."""
    from moda.audio.decode import read_audio
    from moda.face.tracking import landmarks_of

    path, out, person = job
    if path.suffix.lower() in SOUND:
        return [prepare_sound(path, out / "clips", person)]
    try:
        times, landmarks = landmarks_of(path)
        wave = read_audio(path)
    except ModaError as error:
        return [Found(path.name, 0, 0, person=person, reason=str(error))]
    found = []
    for first, last in stretches(landmarks):
        start, end = float(times[first]), float(times[last - 1])
        if end - start < SHORTEST:
            found.append(Found(path.name, start, end, person=person, reason=f"shorter than {SHORTEST:g} s"))
            continue
        name = (
            path.stem if not found and last - first == len(times) else f"{path.stem}_{round(start * FPS):06d}"
        )
        found.append(
            _store(
                path, out / "clips" / f"{name}.npz", person, times[first:last], landmarks[first:last], wave
            )
        )
    return found or [Found(path.name, 0, 0, person=person, reason="no face was found")]


def _store(
    path: Path, stored: Path, person: str, times: np.ndarray, landmarks: np.ndarray, wave: np.ndarray
) -> Found:
    from moda.face.tracking import motion_of
    from moda.motion.explicit import lip_gap

    start, end = float(times[0]), float(times[-1])
    motion, identity = motion_of(landmarks, times - times[0])
    low = round(start * FPS) * SAMPLES_PER_FRAME
    wave = wave[low : low + len(motion) * SAMPLES_PER_FRAME]
    points, voice = encoded(wave)
    base = Found(path.name, start, end, person=person)
    if not voiced(voice):
        return replace(base, reason="no voice")
    lag, r = best_lag(lip_gap(points), lip_gap(motion.exp))
    if r < IN_TIME:
        reason = f"lips do not follow the sound (r {r:.2f} at the best offset)"
        return replace(base, reason=reason, lag=lag, r=r)
    store(stored, motion, identity, wave, lag, person, path)
    return replace(base, clip=stored.name, lag=lag, r=round(r, 3))


def stretches(landmarks: np.ndarray) -> list[tuple[int, int]]:
    """(N, 478, 3), NaN where no face is -> (first, last + 1) of the stretches with one face and no cut."""
    seen = ~np.isnan(landmarks[:, 0, 0])
    center = landmarks[:, :, :2].mean(axis=1)
    eyes = np.linalg.norm(landmarks[:, 33, :2] - landmarks[:, 263, :2], axis=1)
    out: list[tuple[int, int]] = []
    for i in map(int, np.flatnonzero(seen)):
        if out:
            first, last = out[-1][0], out[-1][1] - 1
            jump = np.linalg.norm(center[i] - center[last]) > JUMP * eyes[last]
            resized = abs(np.log(eyes[i] / eyes[last])) > RESIZED
            if i - last <= LOST and not jump and not resized:
                out[-1] = (first, i + 1)
                continue
        out.append((i, i + 1))
    return out
