"""Dubbing with nothing but the picture: lips drawn on every frame of a video, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from moda.engine.parallel import ordered
from moda.face.footage import Footage, Placed
from moda.media.read import read_video
from moda.motion import Motion
from moda.motion.explicit import SPACE
from moda.render.lips.lips import Lips, showing

LOOKED_AT = 750  # frames, the first with a face, among which the mouth's inside is looked for


class LipRepainter:
    """See moda.render.Repainter."""

    space = SPACE
    seconds_a_frame = 0.02

    def repaint(self, footage: Footage, motion: Iterator[Motion]) -> Iterator[np.ndarray]:
        lips = self._lips(footage)

        def draw(job: tuple[np.ndarray, Placed | None, np.ndarray]) -> np.ndarray:
            frame, placed, exp = job
            return frame if placed is None else lips.draw(frame, placed, exp)

        exps = (exp for chunk in motion for exp in chunk.require(SPACE, "dubbing").exp)
        return ordered(draw, zip(read_video(footage.path), footage.placed(), exps))

    def _lips(self, footage: Footage) -> Lips:
        best: tuple[float, int, Placed] | None = None
        seen = 0
        for index, placed in enumerate(footage.placed()):
            if placed is None or seen > LOOKED_AT:
                continue
            seen += 1
            score = showing(placed, footage.person)
            if best is None or score > best[0]:
                best = score, index, placed
        assert best is not None  # footage without a face is refused
        _, wanted, placed = best
        frame = next(frame for index, frame in enumerate(read_video(footage.path)) if index == wanted)
        return Lips(footage.person, frame, placed)
