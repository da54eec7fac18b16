"""A dataset: a folder of clips, one small file each, and dataset.json that says where they came from and what was refused.

clips/NAME.npz: motion (T, 70) explicit space, 25 fps; identity (21, 3); wave (n,) int16 at 16 kHz; lag: by how many
frames the picture comes after the sound; person; source: file and seconds
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from moda.constants import FPS, SAMPLES_PER_FRAME
from moda.errors import ModaError
from moda.media.files import whole

log = logging.getLogger(__name__)

VIDEO = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg"}
SOUND = {".wav", ".flac", ".opus", ".ogg", ".mp3", ".m4a"}
SHORTEST = 2.0  # seconds of a clip
LOST = 5  # frames without a face at which a clip is cut
JUMP = 0.6  # eye distances from frame to frame: a cut to another scene
RESIZED = 0.35  # of the log of the eyes' distance, from frame to frame: another scene too
SILENT = 0.15  # part of a clip in which there is a voice at least
MAX_LAG = 6  # frames
IN_TIME = 0.2  # correlation of lips with the sound at least, at the best offset


@dataclass
class Item:
    """One clip of a dataset; see the module."""

    path: Path
    person: str
    motion: np.ndarray
    identity: np.ndarray
    wave: np.ndarray
    lag: int


@dataclass(frozen=True)
class Found:
    """What became of a stretch of a video: kept as `clip`, or refused for a reason."""

    video: str
    start: float
    end: float
    clip: str = ""
    person: str = ""
    lag: int = 0
    r: float = 0.0
    reason: str = ""


def items(folders: Iterable[Path]) -> Iterator[Item]:
    """The clips of datasets, by name. Errors: ModaError for a folder that is none."""
    for folder in folders:
        if not (folder / "dataset.json").is_file():
            raise ModaError(
                f"{folder} is no dataset: it has no dataset.json (make one: moda data prepare VIDEOS -o DATASET)"
            )
        for path in sorted((folder / "clips").glob("*.npz")):
            with np.load(path, allow_pickle=False) as file:
                wave = file["wave"].astype(np.float32) / 32768
                yield Item(
                    path, str(file["person"]), file["motion"], file["identity"], wave, int(file["lag"])
                )


def prepare(
    videos: list[Path],
    out: Path,
    processes: int = 1,
    people: dict[str, str] | None = None,
    progress: Callable[[float], None] | None = None,
) -> list[Found]:
    """Videos, or folders of them -> a dataset in `out`; what is there already stays.

    people: video's name -> person; a video without one is a person of its own, named after the file.
    Errors: ModaError if there are no videos, or none could be used.
    """
    paths = sorted(
        {p for v in videos for p in (v.rglob("*") if v.is_dir() else [v]) if p.suffix.lower() in VIDEO}
    )
    if not paths:
        raise ModaError(f"there is no video in {', '.join(map(str, videos))}")
    (out / "clips").mkdir(parents=True, exist_ok=True)
    done = _read_list(out)
    todo = [p for p in paths if p.name not in {f.video for f in done}]
    names = people or {}
    jobs = [(path, out, names.get(path.name, path.stem)) for path in todo]
    with ProcessPoolExecutor(processes) if processes > 1 else _Here() as pool:
        for count, found in enumerate(pool.map(_prepare_one, jobs), 1):
            done += found
            _write_list(out, done)
            if progress:
                progress(count / len(todo))
    _write_list(out, done)
    if not any(f.clip for f in done):
        raise ModaError(f"none of the {len(paths)} videos could be used: {done[0].reason}")
    return done


class _Here:
    """A pool that is this process."""

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *args: object) -> None: ...

    def map(self, function: Callable, jobs: list) -> Iterator:
        return map(function, jobs)


def _read_list(out: Path) -> list[Found]:
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
    """One video: tracked, cut, brought in time, stored."""
    from moda.audio.decode import read_audio
    from moda.face.tracking import landmarks_of

    path, out, person = job
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
    from moda.audio.speech import SpeechEncoder
    from moda.face.tracking import motion_of
    from moda.motion.explicit import lip_gap

    start, end = float(times[0]), float(times[-1])
    motion, identity = motion_of(landmarks, times - times[0])
    low = round(start * FPS) * SAMPLES_PER_FRAME
    wave = wave[low : low + len(motion) * SAMPLES_PER_FRAME]
    encoder = SpeechEncoder.load()
    features = np.concatenate(list(encoder.encode([wave])) or [np.zeros((0, 1, encoder.width), np.float32)])
    voice = encoder.voice_in(features)
    base = Found(path.name, start, end, person=person)
    if len(voice) < SHORTEST * FPS * 0.9 or voice.mean() < SILENT:
        return replace(base, reason="no voice")
    lag, r = best_lag(lip_gap(encoder.points(features)), lip_gap(motion.exp))
    if r < IN_TIME:
        reason = f"lips do not follow the sound (r {r:.2f} at the best offset)"
        return replace(base, reason=reason, lag=lag, r=r)
    sound = np.int16(np.clip(wave, -1, 1) * 32767)
    about: dict[str, int | str] = {"lag": lag, "person": person, "source": str(path)}
    with whole(stored) as part, open(part, "wb") as file:
        np.savez(file, motion=motion.to_array(), identity=identity, wave=sound, **about)
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


def best_lag(heard: np.ndarray, seen: np.ndarray, most: int = MAX_LAG) -> tuple[int, float]:
    """By how many frames `seen` comes after `heard`, and their correlation there."""
    n = min(len(heard), len(seen))
    scores = {}
    for lag in range(-most, most + 1):
        a, b = heard[max(0, -lag) : n - max(0, lag)], seen[max(0, lag) : n - max(0, -lag)]
        scores[lag] = (
            float(np.corrcoef(a, b)[0, 1]) if len(a) > 2 and a.std() > 1e-6 and b.std() > 1e-6 else -1.0
        )
    best = max(scores, key=lambda lag: (round(scores[lag], 3), -abs(lag)))
    return best, scores[best]
