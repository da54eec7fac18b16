"""The motion generators: speech features and a source's motion in, Motion out; they know no files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np

    from moda.bench.timing import Row
    from moda.motion import Motion, Space


class AnyConfig(Protocol):
    """emotions: that it knows. rest_frames: of silence that features end with. stride: frames from one window to the
    next. space: what its numbers mean."""

    @property
    def space(self) -> str: ...
    @property
    def emotions(self) -> tuple[str, ...]: ...
    @property
    def rest_frames(self) -> int: ...
    @property
    def stride(self) -> int: ...

    def emotion(self, text: str | None) -> tuple[int, float]: ...


class AnyStream(Protocol):
    """Features pushed in, Motion out. scheme: what works within."""

    @property
    def scheme(self) -> object: ...

    def push(self, features: np.ndarray) -> Motion: ...
    def flush(self) -> Motion: ...
    def set_emotion(self, name: str | None) -> None: ...


class AnyGenerator(Protocol):
    """See moda.generator.generator.Generator, which says what the arguments are."""

    @property
    def space(self) -> Space: ...
    @property
    def config(self) -> AnyConfig: ...

    def offline(
        self,
        identity: np.ndarray,
        start: Motion,
        emotion: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> AnyStream: ...

    def live(
        self,
        identity: np.ndarray,
        start: Motion,
        silence: np.ndarray,
        emotion: str | None = None,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
    ) -> AnyStream: ...

    def stream(
        self, features: Iterable[np.ndarray], identity: np.ndarray, start: Motion, *args, **options
    ) -> Iterator[Motion]: ...

    def operations(self) -> list[Row]:
        """What `moda bench` says of its network."""
        ...
