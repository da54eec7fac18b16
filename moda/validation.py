"""Checking what people write: JSON files by pydantic, arguments by hand; one line that names the field."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from moda.errors import ModaError, why

T = TypeVar("T")


def from_json(kind: type[T], text: str | bytes, where: str) -> T:
    """JSON -> an instance of a pydantic model or dataclass, strictly typed.

    where: what the text is, for the message. Errors: ModaError that names the first field that is wrong.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise ModaError(f"{where}: {_first(error.errors(include_url=False))}") from error


def from_dict(kind: type[T], values: Any, where: str) -> T:
    """As `from_json`, of what JSON gives."""
    return from_json(kind, json.dumps(values), where)


def from_file(kind: type[T], path: Path) -> T:
    """As `from_json`, of a file; it cannot be read: a ModaError too."""
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ModaError(f"{path} cannot be read: {why(error)}") from error
    return from_json(kind, text, str(path))


def from_array(kind: type[T], text: str, where: str) -> list[T]:
    """A JSON array of instances. Errors: ModaError that names the line of the one that is wrong."""
    found = []
    for value, line in _elements(text, where):
        try:
            found.append(from_dict(kind, value, f"{where}, line {line}"))
        except ModaError as error:
            message = str(error)
            raise ModaError(message if where in message else f"{where}, line {line}: {message}") from error
    return found


def read_text(path: Path, what: str) -> str:
    """A text file's content. Errors: ModaError that calls it `what`."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise ModaError(f"the {what} {path} cannot be read: {why(error)}") from error


def _elements(text: str, where: str) -> Iterator[tuple[object, int]]:
    """The values of a JSON array, with the line that each begins on."""
    decoder, position = json.JSONDecoder(), 0

    def line() -> int:
        return text.count("\n", 0, position) + 1

    def skip() -> str:
        nonlocal position
        while position < len(text) and text[position].isspace():
            position += 1
        return text[position : position + 1]

    def wrong(what: str) -> ModaError:
        return ModaError(f"{where}, line {line()}: {what}")

    if skip() != "[":
        raise wrong("a JSON array is needed: [{...}, {...}]")
    position += 1
    if skip() == "]":
        position += 1
    else:
        while True:
            skip()
            try:
                value, end = decoder.raw_decode(text, position)
            except (ValueError, RecursionError) as error:  # ValueError: also of numbers of 5000 digits
                at = getattr(error, "lineno", line())
                raise ModaError(
                    f"{where}, line {at}: it is no JSON: {getattr(error, 'msg', error)}"
                ) from error
            yield value, line()
            position = end
            following = skip()
            position += 1
            if following == "]":
                break
            if following != ",":
                position -= 1
                raise wrong("a comma or ] is missing")
    if skip():
        raise wrong("there is something after the end of the array")


def _first(errors: list) -> str:
    """pydantic's first error as one line: field, what is wrong, what was given."""
    first = errors[0]
    field = ".".join(str(part) for part in first["loc"])
    kind, given = first["type"], first["input"]
    if kind in ("missing", "missing_argument"):
        said = f"it lacks {field}"
    elif kind in ("extra_forbidden", "unexpected_keyword_argument"):
        said = f"it has unknown {field}"
    elif kind == "json_invalid":
        said = f"it is no JSON: {first['ctx']['error']}"
    else:
        shown = repr(given) if len(repr(given)) <= 60 else f"{repr(given)[:57]}..."
        message = first["msg"][0].lower() + first["msg"][1:]
        said = f"{field} is {shown}: {message}" if field else f"it is {shown}: {message}"
    more = len(errors) - 1
    return said + (f" (and {more} more)" if more else "")


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """Errors: ModaError unless value is a whole number from least to most."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not least <= value <= most:
        raise ModaError(f"{name} is {value}, but must be a whole number from {least} to {most}")


def check_number(name: str, value: object, least: float, most: float) -> None:
    """Errors: ModaError unless value is a number from least to most."""
    if (
        not isinstance(value, (int, float, np.floating, np.integer))
        or isinstance(value, bool)
        or not math.isfinite(value)
        or not least <= value <= most
    ):
        raise ModaError(f"{name} is {value}, but must be a number from {least:g} to {most:g}")


def check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    """Errors: ModaError unless value is one of the choices."""
    if value not in choices:
        raise ModaError(f"{name} is {value!r}, but must be one of {', '.join(map(str, choices))}")
