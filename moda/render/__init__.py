"""Rendering: a source and a Motion -> frames. Renderers: `moda.render.mesh`, `moda.render.liveportrait`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np

    from moda.bench.timing import Row
    from moda.face.footage import Footage
    from moda.face.source import Source
    from moda.face.tracking import Track
    from moda.motion import Motion, Space
    from moda.render.paste import Crop


class Prepared(Protocol):
    """What depends on the source alone, computed once.

    identity: (21, 3) the person's keypoints, for the generator
    motion:   Motion of one frame, the picture's own expression and pose in the renderer's space
    crop:     where the square lies in the whole picture
    """

    @property
    def identity(self) -> np.ndarray: ...
    @property
    def motion(self) -> Motion: ...
    @property
    def crop(self) -> Crop: ...


P = TypeVar("P", bound=Prepared)  # each renderer's own, which no other can draw


class Renderer(Protocol[P]):
    """space: of the motions it draws. size: pixels, the side of the square frames. seconds_a_frame: about, on a CPU."""

    @property
    def space(self) -> Space: ...
    @property
    def size(self) -> int: ...
    @property
    def seconds_a_frame(self) -> float: ...

    def framing(self, source: Source) -> Crop:
        """Where the square lies in the picture."""
        ...

    def prepare(self, source: Source) -> P: ...

    def draw(self, prepared: P, motion: Motion) -> Iterator[np.ndarray]:
        """-> (size, size, 3) uint8 RGB, one a frame of the motion, in constant memory."""
        ...

    def operations(self) -> list[Row]:
        """What `moda bench` says of its networks; [] if it has none."""
        ...

    def track(self, path: str | os.PathLike, progress: Callable[[float], None] | None = None) -> Track:
        """A video's motion in this renderer's space."""
        ...


class Repainter(Protocol):
    """Draws other lips on footage. space: of the motions that it takes. seconds_a_frame: about, on a CPU."""

    @property
    def space(self) -> Space: ...
    @property
    def seconds_a_frame(self) -> float: ...

    def repaint(self, footage: Footage, motion: Iterator[Motion]) -> Iterator[np.ndarray]:
        """Motion in chunks, at least a frame for each of the footage -> its frames, of their own size, in constant
        memory; those without a face as they are."""
        ...
