"""A model's three parts, each loaded when it is first needed."""

from __future__ import annotations

import logging
import os
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np

from moda.constants import DEFAULT_SIZE, SAMPLE_RATE
from moda.validation import check_choice

if TYPE_CHECKING:
    from typing import Self

    from moda.audio.encoder import Encoder
    from moda.generator import AnyGenerator
    from moda.render import Renderer, Repainter
    from moda.weights.description import Description

log = logging.getLogger(__name__)

PRECISIONS = ("float32", "bfloat16", "float16", "int8")


class Model:
    """encoder (sound -> features), generator (features -> Motion), renderer(size) (portrait, Motion -> frames).

    Threads may share it.
    """

    def __init__(
        self, folder: Path, description: Description, device: str = "cpu", precision: str = "float32"
    ) -> None:
        self.folder, self.description = folder, description
        self.device, self.precision = device, precision
        self._renderers: dict[int, Renderer] = {}
        self._lock = RLock()

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike = "embedded",
        device: str = "auto",
        renderer: str | None = None,
        precision: str = "float32",
    ) -> Self:
        """name_or_folder: "embedded" (in the package), "official" (downloaded) or a model's folder
        device:   auto, cpu, cuda or mps, for the neural networks (the embedded model's small ones stay on the CPU)
        renderer: mesh or liveportrait, in place of the model's own
        precision: float32, bfloat16, float16, or int8 for the generator on a CPU (LivePortrait then stays float32)

        Errors: ModaError if there is no such model, renderer, device or precision.
        """
        from moda.device import resolve_device
        from moda.weights import resolve
        from moda.weights.description import Description
        from moda.weights.folder import MODITALKER

        check_choice("precision", precision, PRECISIONS)
        folder = resolve(name_or_folder)
        if folder == MODITALKER:
            log.warning("the small MoDiTalker shows how its path runs; the mouths that it paints are a blur")
        return cls(
            folder, Description.read(folder).with_renderer(renderer), resolve_device(device), precision
        )

    # -- the parts ----------------------------------------------------------------------------

    @cached_property
    def encoder(self) -> Encoder:
        with self._lock:
            return self.description.encoder.load(self.folder, self.device)

    @cached_property
    def generator(self) -> AnyGenerator:
        with self._lock:
            return self.description.generator.load(self.folder, self.device, self.precision)

    @cached_property
    def silence(self) -> np.ndarray:
        """(layers, width): the encoder's features in the middle of silence."""
        from moda.audio.encoder import encode

        features = np.concatenate(list(encode(self.encoder, [np.zeros(4 * SAMPLE_RATE, np.float32)])))
        return features[len(features) // 2]

    def renderer(self, size: int = DEFAULT_SIZE) -> Renderer:
        """The renderer that draws squares of `size` pixels, or as large as it can."""
        with self._lock:
            if size not in self._renderers:
                made = self.description.renderer.load(self.folder, self.device, self.precision, size)
                self._renderers[size] = self._renderers.setdefault(made.size, made)
            return self._renderers[size]

    @cached_property
    def repainter(self) -> Repainter:
        """What draws lips on footage. Errors: ModaError of a model that cannot."""
        with self._lock:
            return self.description.renderer.load_repainter(self.folder, self.device, self.precision)
