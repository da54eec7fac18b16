"""The table of a batch: .csv, .jsonl or .parquet, one line a video, options as columns."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from moda.constants import DEFAULT_SIZE
from moda.engine.character import MAX_SIZE, MIN_SIZE
from moda.errors import ModaError, why
from moda.validation import from_dict

MAX_LINES = 1_000_000
KINDS = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Line:
    """What one video is made of; the columns of the table.

    portrait: a picture file
    audio:    a sound file; or text, what to say (with the batch's voice); or driving, a video or motion file
    output:   name of the video in the folder; <number>_<audio's name>.mp4 unless given
    The others: as `moda generate` has them.

    Paths count from the table's folder.
    """

    portrait: str
    audio: str | None = None
    text: str | None = None
    driving: str | None = None
    output: str | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    steps: Annotated[int, Field(ge=1)] | None = None
    guidance: Annotated[float, Field(ge=1)] | None = None
    emotion: str | None = None
    timeline: str | None = None
    size: Annotated[int, Field(ge=MIN_SIZE, le=MAX_SIZE)] = DEFAULT_SIZE
    full: bool = False
    full_size: bool = False
    face: Annotated[int, Field(ge=0)] = 0
    pose: float = 1.0
    lips: float = 1.0
    blink: float = 1.0

    def __post_init__(self) -> None:
        given = [name for name in ("audio", "text", "driving") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ModaError(
                f"a line needs exactly one of audio, text and driving, it has {len(given) or 'none'}"
            )


@dataclass(frozen=True)
class Job:
    """A line, where it stands in the table, and the file that it makes."""

    number: int
    line: Line
    output: str

    @property
    def key(self) -> str:
        """The same for the same line and the same files: their names, sizes and times of change."""
        text = json.dumps(asdict(self.line), sort_keys=True)
        for name in ("portrait", "audio", "driving", "timeline"):
            path = getattr(self.line, name)
            if path:
                found = Path(path).stat()
                text += f"|{found.st_size} {found.st_mtime_ns}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Failure:
    """A line that gave no video, and why."""

    number: int
    output: str
    reason: str


def read(path: Path, folder: Path) -> tuple[list[Job], list[Failure]]:
    """-> the lines that can be tried, and those that cannot, with their reason.

    Errors: ModaError if the table cannot be read, has no lines or an unknown column, or two lines of the same output.
    """
    jobs, failures = [], []
    taken: dict[str, int] = {}
    number = 0
    for number, values in enumerate(_lines(path), 1):
        if number > MAX_LINES:
            raise ModaError(f"{path} has more than {MAX_LINES:,} lines")
        unknown = set(values) - set(Line.__dataclass_fields__) if isinstance(values, dict) else set()
        if unknown:
            known = ", ".join(Line.__dataclass_fields__)
            raise ModaError(f"{path}, line {number}: it has unknown {min(unknown)}; columns are {known}")
        try:
            values = _located(values, path.parent)
            line = from_dict(Line, values, f"line {number}")
        except ModaError as error:
            text = str(error)
            failures.append(Failure(number, "", text.removeprefix(f"line {number}: ")))
            continue
        name = line.output or f"{number:05d}_{Path(line.audio or line.driving or 'text').stem}.mp4"
        if Path(name).name != name or not name.strip("."):
            failures.append(Failure(number, name, f"output is {name!r}, but must be a plain file name"))
            continue
        if name in taken:
            raise ModaError(f"{path}: lines {taken[name]} and {number} both write {name}")
        taken[name] = number
        jobs.append(Job(number, line, str(folder / name)))
    if not number:
        raise ModaError(f"{path} has no lines")
    return jobs, failures


def _located(values: object, base: Path) -> dict:
    """Empty columns left out, paths made absolute."""
    if not isinstance(values, dict):
        raise ModaError("a line must be an object with columns")
    values = {name: value for name, value in values.items() if value not in (None, "")}
    for name in ("portrait", "audio", "driving", "timeline"):
        if isinstance(values.get(name), str):
            values[name] = str(base.resolve() / values[name])
    return values


def _lines(path: Path) -> Iterator[object]:
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise ModaError(f"{path} is no table of a batch: its name must end in one of {', '.join(KINDS)}")
    try:
        if kind == ".csv":
            with open(path, newline="", encoding="utf-8-sig") as file:
                rows = csv.DictReader(file, strict=True)
                header = rows.fieldnames or []
                if len(set(header)) < len(header):
                    raise ModaError(f"{path}: two columns have the same name")
                for number, row in enumerate(rows, 1):
                    if None in row or None in row.values():
                        raise ModaError(
                            f"{path}, line {number}: it has another number of fields than the header"
                        )
                    yield {name: _typed(name, text) for name, text in row.items()}
        elif kind == ".jsonl":
            with open(path, encoding="utf-8-sig") as file:
                for number, text in enumerate(file, 1):
                    if text.strip():
                        try:
                            yield json.loads(text)
                        except (
                            ValueError,
                            RecursionError,
                        ) as error:  # ValueError: also of numbers of 5000 digits
                            raise ModaError(f"{path}, line {number}: it is no JSON: {error}") from error
        else:
            yield from _parquet(path)
    except (OSError, UnicodeError, csv.Error) as error:
        raise ModaError(f"the table {path} cannot be read: {why(error)}") from error


def _parquet(path: Path) -> Iterator[object]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ModaError("reading .parquet needs pyarrow: pip install 'moda-talkinghead[cluster]'") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1000):
                yield from batch.to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise ModaError(f"the table {path} cannot be read: {why(error)}") from error


def _typed(name: str, text: str) -> object:
    """A table's text as what its column holds; what cannot be read stays text, and is refused with its name."""
    field = Line.__dataclass_fields__.get(name)
    kind = str(field.type) if field else "str"
    text = text.strip()
    try:
        if "int" in kind:
            return int(text) if text else None
        if "float" in kind:
            return float(text) if text else None
        if "bool" in kind:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": None}[
                text.lower()
            ]
    except (ValueError, KeyError):
        pass
    return text
