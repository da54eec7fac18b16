"""What everything here that works in pieces has in common: push some, get what is final; flush, get the rest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T", contravariant=True)
R = TypeVar("R", bound="Sized", covariant=True)
A = TypeVar("A")
B = TypeVar("B", bound="Sized")


class Sized(Protocol):
    def __len__(self) -> int: ...


class Stream(Protocol[T, R]):
    def push(self, piece: T, /) -> R: ...
    def flush(self) -> R: ...


def pushed(stream: Stream[A, B], pieces: Iterable[A]) -> Iterator[B]:
    """All the pieces through a stream, and its end: what comes out, as it comes, nothing empty."""
    for piece in pieces:
        made = stream.push(piece)
        if len(made):
            yield made
    made = stream.flush()
    if len(made):
        yield made
