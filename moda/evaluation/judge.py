"""How well generated faces follow speech: models and baselines against real people, clip by clip.

The clips are a folder of videos, or a dataset of `moda data prepare`, of people that the models were not trained on.
Figures are taken from the motion, or, with `render`, from the rendered video, tracked again.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from moda.constants import FPS, SAMPLES_PER_FRAME
from moda.errors import ModaError, why
from moda.evaluation import baselines, metrics
from moda.evaluation.sync import SyncExpert
from moda.face.pose import canonical
from moda.motion import Motion, join
from moda.motion.blinks import Blinks
from moda.motion.explicit import SPACE as EXPLICIT
from moda.motion.explicit import lip_gap
from moda.motion.space import converted

log = logging.getLogger(__name__)

REAL = "real video"


@dataclass(frozen=True)
class RealClip:
    """wave: (n,) at 16 kHz, brought in time with motion (T), which was tracked; identity: (21, 3); video: where it is,
    and by how many frames the motion begins later; bilabials: p, b and m, from and to in seconds, where they are known.
    """

    name: str
    person: str
    wave: np.ndarray
    motion: Motion
    identity: np.ndarray
    video: Path | None = None
    late: int = 0
    bilabials: tuple[tuple[float, float], ...] = ()


def clips_in(folder: str | os.PathLike, people: Path | None = None) -> Iterator[RealClip]:
    """A dataset's clips, or a folder's videos, in the order of their names.

    people: a table (.tsv) with columns file and person; a video without a row is a person of its own.
    Beside a video its phones may lie (.TextGrid), or what is said (.txt; English, by pocketsphinx).
    A video that cannot be used is left out with a warning. Errors: ModaError if none is left.
    """
    from moda.training.dataset import VIDEO, items

    folder = Path(folder)
    if not folder.is_dir():
        raise ModaError(f"there is no folder {folder} to evaluate on")
    if (folder / "dataset.json").exists():
        found = False
        for item in items([folder]):
            if item.lips_only:
                continue
            found = True
            yield _in_time(
                item.path.stem,
                item.person,
                item.wave,
                Motion.from_array(item.motion),
                item.identity,
                item.lag,
            )
        if not found:
            raise ModaError(f"the dataset {folder} holds no clips of whole faces")
        return
    videos = sorted(p for p in folder.iterdir() if p.suffix.lower() in VIDEO)
    if not videos:
        raise ModaError(f"{folder} holds no videos")
    names = person_table(people) if people else {}
    found = False
    for path in videos:
        try:
            clip = _tracked(path, names.get(path.name, path.stem))
        except ModaError as error:
            log.warning("left out: %s", error)
            continue
        found = True
        yield clip
    if not found:
        raise ModaError(f"{folder} holds no video that can be used")


def person_table(path: Path) -> dict[str, str]:
    """A .tsv with columns file and person -> file's name -> person. Errors: ModaError without them."""
    try:
        with open(path, encoding="utf-8") as file:
            return {Path(row["file"]).name: row["person"] for row in csv.DictReader(file, delimiter="\t")}
    except OSError as error:
        raise ModaError(f"the table {path} cannot be read: {why(error)}") from error
    except (UnicodeError, csv.Error, KeyError, TypeError) as error:
        raise ModaError(f"{path} is no table (.tsv) with columns file and person") from error


def _tracked(path: Path, person: str) -> RealClip:
    from moda.audio.decode import read_audio
    from moda.audio.speech import SpeechEncoder
    from moda.face.tracking import track
    from moda.training.clips import best_lag

    tracked, wave = track(path), read_audio(path)
    lag, _ = best_lag(lip_gap(_lips(SpeechEncoder.load(), wave)), lip_gap(tracked.motion.exp))
    early = max(0, -lag) / FPS
    spans = tuple((a - early, b - early) for a, b in _bilabials(path, wave) if a >= early)
    clip = _in_time(path.stem, person, wave, tracked.motion, tracked.keypoints, lag)
    return replace(clip, video=path, late=max(0, lag), bilabials=spans)


def _bilabials(video: Path, wave: np.ndarray) -> list[tuple[float, float]]:
    from moda.training.align import is_bilabial, segments_of

    known = [p for ending in (".TextGrid", ".txt") if (p := video.with_suffix(ending)).is_file()]
    if not known:
        return []
    try:
        segments = segments_of(known[0], wave)
    except ModaError as error:
        log.warning("p, b and m of %s are not judged: %s", video, error)
        return []
    return [(start, end) for start, end, phone in segments if is_bilabial(phone)]


def _lips(encoder, wave: np.ndarray) -> np.ndarray:
    parts = list(encoder.encode([wave]))
    return encoder.points(np.concatenate(parts)) if parts else np.zeros((0, 21, 3), np.float32)


def _in_time(
    name: str, person: str, wave: np.ndarray, motion: Motion, identity: np.ndarray, lag: int
) -> RealClip:
    motion = motion[max(0, lag) :]
    wave = wave[max(0, -lag) * SAMPLES_PER_FRAME :]
    n = min(len(motion), len(wave) // SAMPLES_PER_FRAME)
    return RealClip(name, person, wave[: n * SAMPLES_PER_FRAME], motion[:n], identity)


Performer = Callable[[RealClip, int], Motion]  # clip, seed -> what is said to it


def model_performer(name: str, device: str = "cpu") -> tuple[Performer, int]:
    """-> the performer, frames from one segment to the next. Errors: ModaError for a model whose motion cannot be carried to the explicit space."""
    from moda.pipeline import TalkingHead

    head = TalkingHead.from_pretrained(name, device)
    space = head.generator.space
    start = Motion.still(1, space)
    converted(start, EXPLICIT)  # an error belongs here

    def perform(clip: RealClip, seed: int) -> Motion:
        from moda.audio.encoder import encode

        features = list(encode(head.encoder, [clip.wave]))
        # Of a clip only the explicit space's points are kept; elsewhere it is the mean face that speaks.
        identity = clip.identity if space is EXPLICIT else space.identity(canonical())
        made = join(list(head.generator.stream(features, identity, start, seed=seed)))
        return converted(Blinks()(made), EXPLICIT)

    return perform, head.generator.config.stride


def evaluate(
    folder: str | os.PathLike,
    models: tuple[str, ...] = ("embedded",),
    device: str = "cpu",
    seeds: tuple[int, ...] = (0, 1),
    people: Path | None = None,
    motions: dict[str, Path] | None = None,
    with_baselines: bool = False,
    progress: Callable[[float], None] | None = None,
    strips: dict[str, np.ndarray] | None = None,
) -> dict:
    """-> {"seeds", "rows": [{"who", "clip", "person", figures}], "summary": {who: figures, mean over people}}.

    motions: name -> a folder of CLIP.npz or CLIP_SEED.npz, made by anyone. with_baselines: loudness and ridge, see there.
    strips: is filled with a picture of each person's first clip of a folder of videos: its frames, and each model's.
    Errors: as `clips_in`, `model_performer`; for motions that are missing, of another length or under another's name.
    """
    performers: dict[str, tuple[Performer, int]] = {}
    for name in models:
        performers[name] = model_performer(name, device)
    for name, where in (motions or {}).items():
        if not name or name in (REAL, *baselines.NAMES, *performers):
            raise ModaError(
                f"motions cannot be called {name!r}: it is no name, or another's; give NAME=FOLDER"
            )
        if not where.is_dir():
            raise ModaError(f"there is no folder {where} with motions")
        performers[name] = (_from_files(where), 64)
    clips = list(clips_in(folder, people))
    if with_baselines:
        found = baselines.performers(clips)
        performers |= {name: (p, 64) for name, p in found.items()}
        if missing := [name for name in baselines.NAMES if name not in found]:
            log.warning("%s is left out: it needs two people at least", missing[0])
    rows: list[dict] = []
    total = len(clips) * (1 + len(performers))
    expert = SyncExpert.load()
    for clip in clips:
        heard = expert.listen(clip.wave)
        about = {"clip": clip.name, "person": clip.person}
        real = figures(clip, [clip.motion], 64) | in_sync(expert, heard, [clip.motion])
        rows.append({"who": REAL} | about | real)
        shown = []
        for name, (perform, stride) in performers.items():
            used = seeds if name in models else seeds[:1]
            made = [perform(clip, seed) for seed in used]
            shown.append(made[0])
            rows.append({"who": name} | about | figures(clip, made, stride) | in_sync(expert, heard, made))
            if progress:
                progress(len(rows) / total)
        if strips is not None and shown and not any(key.startswith(f"{clip.person}: ") for key in strips):
            picture = _strip(clip, shown)
            if picture is not None:
                strips[f"{clip.person}: {', '.join([REAL, *performers])}"] = picture
    return {"clips": str(folder), "seeds": list(seeds), "rows": rows, "summary": summary(rows)}


def _from_files(folder: Path) -> Performer:
    def perform(clip: RealClip, seed: int) -> Motion:
        for name in (f"{clip.name}_{seed}.npz", f"{clip.name}.npz"):
            if (folder / name).exists():
                motion = converted(Motion.load(folder / name), EXPLICIT)
                if abs(len(motion) - len(clip.motion)) > FPS:
                    raise ModaError(
                        f"{folder / name} has {len(motion)} frames, but the clip {len(clip.motion)} with its sound in time"
                    )
                return motion
        raise ModaError(f"{folder} holds no motion for the clip {clip.name}")

    return perform


def figures(clip: RealClip, made: list[Motion], stride: int) -> dict[str, float]:
    """One clip's: means over the seeds' motions. Those against the real one are taken at the lips' best lag."""
    per_seed = []
    for motion in made:
        r, lag = metrics.correlation(lip_gap(motion.exp), lip_gap(clip.motion.exp))
        wide, _ = metrics.correlation(metrics.lip_width(motion.exp), metrics.lip_width(clip.motion.exp))
        per_seed.append(
            {
                "gap_r": r,
                "width_r": wide,
                "lag": float(lag),
                "lmd": metrics.mouth_distance(motion, clip.motion, lag),
                "silence_gap": metrics.silence(motion, clip.wave),
                "closures": metrics.meetings(lip_gap(motion.exp), clip.bilabials),
                "seam_jerk": metrics.seam_jerk(motion, stride),
                "beat_alignment": metrics.beat_alignment(motion, clip.wave),
            }
            | metrics.describe(motion)
        )
    row = {k: _mean([p[k] for p in per_seed]) for k in per_seed[0]}
    return row | {"diversity": metrics.diversity(made), "seconds": clip.motion.seconds}


def in_sync(expert: SyncExpert, heard: np.ndarray, made: list[Motion]) -> dict[str, float]:
    """The lip-sync expert's figures, means over the motions; none for clips under 1.7 s. See moda.evaluation.sync."""
    found = [sync for motion in made if (sync := expert.judge(heard, motion))]
    return {
        "sync_confidence": _mean([s.confidence for s in found]),
        "sync_distance": _mean([s.distance for s in found]),
        "sync_offset": _mean([float(s.offset) for s in found]),
    }


def _strip(clip: RealClip, made: list[Motion]) -> np.ndarray | None:
    from moda.evaluation.strips import of_clip
    from moda.pipeline import TalkingHead

    return of_clip(clip, made, TalkingHead.from_pretrained("embedded"))


def _mean(values: list[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")


def summary(rows: list[dict]) -> dict[str, dict[str, float]]:
    """who -> figure -> mean over people of the mean over their clips."""
    out: dict[str, dict[str, float]] = {}
    for who in dict.fromkeys(row["who"] for row in rows):
        mine = [row for row in rows if row["who"] == who]
        people = sorted({row["person"] for row in mine})
        keys = [k for k, v in mine[0].items() if isinstance(v, float)]
        out[who] = {k: _mean([_mean([r[k] for r in mine if r["person"] == p]) for p in people]) for k in keys}
    return out


COLUMNS = {
    "gap_r": "gap r", "width_r": "width r", "lag": "lag", "lmd": "LMD", "lip_gap_std": "gap std", "lips_closed": "closed",
    "lip_gap_speed": "gap speed", "silence_gap": "silence", "closures": "p b m met", "blinks_per_minute": "blinks/min", "blink_depth": "depth",
    "pitch_std": "pitch", "yaw_std": "yaw", "roll_std": "roll", "head_speed": "speed", "pose_jerk": "jerk",
    "seam_jerk": "seams", "beat_alignment": "beats", "diversity": "seeds",
    "sync_confidence": "sync C", "sync_distance": "sync D", "sync_offset": "sync lag",
}  # fmt: skip


def table(result: dict) -> str:
    """The summary as lines for a person."""
    summary = result["summary"]
    wide = [max(11, len(who) + 2) for who in summary]
    lines = [" " * 12 + "".join(f"{who:>{w}}" for who, w in zip(summary, wide))]
    for key, name in COLUMNS.items():
        values = [row[key] for row in summary.values()]
        cells = (f"{v:>{w}.3f}" if np.isfinite(v) else f"{'-':>{w}}" for v, w in zip(values, wide))
        lines.append(f"{name:<12}" + "".join(cells))
    people = len({row["person"] for row in result["rows"]})
    lines.append(f"mean over {people} people; seeds {', '.join(map(str, result['seeds']))}")
    return "\n".join(lines)


def rendered(clip: RealClip, motion: Motion, head, portrait: np.ndarray) -> Motion:
    """The motion drawn on a portrait (H, W, 3 RGB) and tracked again: what a viewer would see.

    head: TalkingHead. Errors: as drawing and tracking.
    """
    from moda.face.tracking import landmarks_of, motion_of
    from moda.media.write import write_video

    character = head.prepare(portrait)
    motion = motion.space.generated(motion, character.motion)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_video(path, character.draw(motion))
        times, landmarks = landmarks_of(path)
    return motion_of(landmarks, times)[0]


def save(result: dict, path: Path) -> None:
    """As JSON, which has no NaN: what could not be measured is null."""
    text = json.dumps(_finite(result), indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
