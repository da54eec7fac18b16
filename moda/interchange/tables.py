"""Files of curves: Live Link Face's CSV (an iPhone's), Audio2Face's CSV; written, and read as something that drives.

Columns are read by their names, whatever their order, as the app's files and Unreal's own order differ.
Live Link: `Timecode,BlendShapeCount,EyeBlinkLeft,...,HeadYaw,HeadPitch,HeadRoll,...`; head and eyes in radians.
Audio2Face: `,timeCode,blendShapes.EyeBlinkLeft,...`, seconds.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from moda.constants import FPS
from moda.errors import ModaError, why
from moda.interchange.arkit import CURVES, curves
from moda.interchange.arkit import motion as from_curves
from moda.media.files import whole
from moda.motion import Motion

_HEAD = ("HeadYaw", "HeadPitch", "HeadRoll")
_EYES = tuple(f"{side}Eye{axis}" for side in ("Left", "Right") for axis in ("Yaw", "Pitch", "Roll"))
MAX_ROWS = 60 * 60 * 24 * 60  # a day at 60 a second


def _pascal(name: str) -> str:
    return name[0].upper() + name[1:]


def save_livelink(motion: Motion, path: str | os.PathLike, values: np.ndarray | None = None) -> Path:
    """A Live Link Face recording at the motion's frame rate. Errors: ModaError for another space, or no writing.

    values: (T, 52) curves, if they are known better than from the motion's points
    """
    values = curves(motion) if values is None else values
    head = np.radians(np.stack([motion.yaw, motion.pitch, motion.roll], axis=1))
    angle = np.radians(30)
    eyes = []
    for side, out in (("Left", 1), ("Right", -1)):
        at = {way: values[:, CURVES.index(f"eyeLook{way}{side}")] for way in ("In", "Out", "Up", "Down")}
        eyes += [out * (at["Out"] - at["In"]) * angle, (at["Up"] - at["Down"]) * angle, np.zeros(len(values))]
    rows = np.concatenate([values, head, np.stack(eyes, axis=1)], axis=1)
    header = ["Timecode", "BlendShapeCount", *map(_pascal, CURVES), *_HEAD, *_EYES]
    rate = round(motion.fps)
    return _write(
        Path(path),
        header,
        ([_timecode(i, motion.fps, rate), len(header) - 2, *_texts(row)] for i, row in enumerate(rows)),
    )


def save_audio2face(motion: Motion, path: str | os.PathLike, values: np.ndarray | None = None) -> Path:
    """Audio2Face's animation_frames.csv. The head is not in it. Arguments and errors: as `save_livelink`."""
    header = ["", "timeCode", *(f"blendShapes.{_pascal(name)}" for name in CURVES)]
    values = curves(motion) if values is None else values
    return _write(
        Path(path), header, ([i, f"{i / motion.fps:.6f}", *_texts(row)] for i, row in enumerate(values))
    )


def read_curves(path: str | os.PathLike) -> Motion:
    """Either kind -> Motion at 25 frames a second. Errors: ModaError that names the line."""
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            lines = [row for row, _ in zip((row for row in rows if row), range(MAX_ROWS + 1))]
    except (OSError, UnicodeError, csv.Error) as error:
        raise ModaError(f"the curves {path} cannot be read: {why(error)}") from error
    places = {plain(name): i for i, name in enumerate(header)}
    known = [places.get(name.lower()) for name in CURVES]
    if sum(place is not None for place in known) < 10 or "timecode" not in places:
        raise ModaError(f"{path} is no file of face curves: it needs a timecode and columns such as JawOpen")
    if len(places) < len(header):
        raise ModaError(f"{path}, line 1: two columns have the same name")
    if not lines:
        raise ModaError(f"{path} holds no frames")
    if len(lines) > MAX_ROWS:
        raise ModaError(f"{path} has more than {MAX_ROWS:,} frames")
    values, times = np.zeros((len(lines), len(CURVES) + 3)), []
    columns = [*known, *(places.get(name.lower()) for name in ("HeadPitch", "HeadYaw", "HeadRoll"))]
    for number, row in enumerate(lines):
        if len(row) != len(header):
            raise ModaError(f"{path}, line {number + 2}: it has {len(row)} fields, the header {len(header)}")
        try:
            times.append(row[places["timecode"]])
            values[number] = [0.0 if place is None else float(row[place]) for place in columns]
        except ValueError as error:
            raise ModaError(f"{path}, line {number + 2}: {error}") from error
    if not np.isfinite(values).all():
        line = int(np.flatnonzero(~np.isfinite(values).all(axis=1))[0]) + 2
        raise ModaError(f"{path}, line {line}: it has a number that is not finite")
    head = values[:, len(CURVES) :]
    if np.abs(head).max() <= math.pi:  # some versions of the app write degrees
        head = np.degrees(head)
    seconds = _seconds(times, path)
    at = np.arange(max(1, round((seconds[-1] - seconds[0]) * FPS) + 1)) / FPS + seconds[0]
    both = np.concatenate([values[:, : len(CURVES)], head], axis=1)
    resampled = np.stack([np.interp(at, seconds, column) for column in both.T], axis=1)
    return from_curves(resampled[:, : len(CURVES)], resampled[:, len(CURVES) :], FPS)


def plain(name: str) -> str:
    """eyeBlink_L, blendShapes.EyeBlinkLeft -> eyeblinkleft"""
    name = name.strip().rpartition(".")[2]
    for short, side in (("_L", "Left"), ("_R", "Right")):
        if name.endswith(short):
            name = name[: -len(short)] + side
    return name.lower()


def _seconds(times: Sequence[str], path: Path) -> np.ndarray:
    """Time codes, either seconds or HH:MM:SS:FF.mmm, -> seconds that rise."""
    try:
        if ":" not in times[0]:
            seconds = np.array([float(text) for text in times])
        else:
            parts = np.array([[float(part) for part in text.replace(";", ":").split(":")] for text in times])
            rate = next(rate for rate in (24, 25, 30, 50, 60, 120, math.inf) if parts[:, 3].max() < rate)
            if math.isinf(rate) or parts.shape[1] != 4:
                raise ValueError("a time code is HH:MM:SS:FF.mmm")
            seconds = parts @ np.array([3600.0, 60.0, 1.0, 1.0 / rate])
    except (ValueError, IndexError) as error:
        raise ModaError(f"{path}: its time codes cannot be read: {error}") from error
    if not np.isfinite(seconds).all() or (np.diff(seconds) < 0).any():
        raise ModaError(f"{path}: its time codes do not rise from line to line")
    if seconds[-1] - seconds[0] > 86_400:
        raise ModaError(f"{path}: its time codes span more than a day")
    return seconds


def _timecode(index: int, fps: float, rate: int) -> str:
    seconds = index / fps
    whole_seconds = int(seconds + 1e-9)
    frame = max(0.0, (seconds - whole_seconds) * rate)
    hours, minutes = divmod(whole_seconds // 60, 60)
    return f"{hours:02d}:{minutes:02d}:{whole_seconds % 60:02d}:{frame:06.3f}"


def _texts(row: np.ndarray) -> list[str]:
    return [f"{value:.6f}" for value in row]


def _write(path: Path, header: list[str], rows) -> Path:
    with whole(path) as part, open(part, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path
