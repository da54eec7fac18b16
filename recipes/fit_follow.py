"""How far heads, necks and bodies follow a motion (constants of moda/render/mesh/head.py and placing.py), from people.

    python -m recipes.fit_follow VIDEO [...]

Each clip is driven by its own motion from its first frame; the constants are moved, by Gauss and Newton, to where the
drawn pictures differ least from the real ones. Every clip counts alike, every frame by its error's logarithm, which is
what PSNR measures. Prints the constants; they are written into the modules by hand. To report figures, fit on half of
the people and measure the other half.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from moda.evaluation.selfdriven import Shown, driven_by_itself, face_box, shown
from moda.face.source import Source
from moda.motion import Motion
from moda.motion.explicit import rotation
from moda.render.mesh import MeshRenderer, head, placing

SIZE, EVERY, FRAMES, ROUNDS = 128, 5, 10, 4  # pixels; one frame in so many, at most so many of a clip; rounds
TURNED = 4.0  # degrees from the first frame: below, nothing shows
STILL = 0.001  # weight of staying where the constants were, in units of SPREAD


@dataclass(frozen=True)
class Constant:
    """module.name, or its element `at`; step: for differences; spread: how far it may well be off."""

    module: ModuleType
    name: str
    at: int | None
    step: float
    spread: float

    def get(self) -> float:
        value = getattr(self.module, self.name)
        return value if self.at is None else value[self.at]

    def set(self, value: float) -> None:
        if self.at is not None:
            whole = list(getattr(self.module, self.name))
            whole[self.at] = value
            value = tuple(whole)
        setattr(self.module, self.name, value)


CONSTANTS = [
    Constant(head, "TURNS_END", 0, 0.1, 0.2),
    Constant(head, "TURNS_END", 1, 0.1, 0.3),
    Constant(head, "SOONER", None, 0.1, 0.3),
    Constant(head, "CHEST", None, 0.1, 0.15),
    Constant(head, "SHOULDERS", None, 0.1, 0.2),
    Constant(head, "BENDS", None, 0.15, 0.3),
    Constant(placing, "NODS", None, 0.1, 0.1),
    Constant(placing, "TILTS", None, 0.1, 0.1),
]


@dataclass(frozen=True)
class Clip:
    """A portrait, what drives it (T), the real pictures and where they are compared."""

    source: Source
    motion: Motion
    real: list[np.ndarray]
    boxes: list[tuple[slice, slice]]

    @classmethod
    def of(cls, clip: Shown, renderer: MeshRenderer) -> Clip | None:
        """None where the person hardly turns or the picture is one layer."""
        from moda.face.portrait import read_portrait

        source = read_portrait(clip.image)
        p = renderer.prepare(source)
        motion = driven_by_itself(clip.motion, [i for i, _, _ in clip.frames], p.motion)
        first = rotation(p.motion.pitch, p.motion.yaw, p.motion.roll)[0]
        turns = np.einsum("tij,ij->t", rotation(motion.pitch, motion.yaw, motion.roll), first)
        turned = np.flatnonzero(np.degrees(np.arccos(np.clip((turns - 1) / 2, -1, 1))) > TURNED)
        if not len(turned) or p.layers.background is None:
            return None
        some = turned[np.linspace(0, len(turned) - 1, min(FRAMES, len(turned))).astype(int)]
        real = [p.crop.cut(clip.frames[i][1]) for i in some]
        boxes = [face_box(p.crop.points(clip.frames[i][2][:, :2]), SIZE) for i in some]
        return cls(source, Motion.from_array(motion.to_array()[some], motion.space), real, boxes)

    def drawn(self, renderer: MeshRenderer, soft: float) -> list[np.ndarray]:
        frames = renderer.draw(renderer.prepare(self.source), self.motion)
        return [_soft(frame, soft)[box].ravel() for frame, box in zip(frames, self.boxes)]


def _soft(picture: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), sigma).astype(np.float32)


def fit(clips: list[Clip], renderer: MeshRenderer) -> None:
    """Move CONSTANTS, in place."""
    start = np.array([c.get() for c in CONSTANTS])
    spread = np.array([c.spread for c in CONSTANTS])
    for number in range(ROUNDS):
        soft = max(0.6, 1.2 - 0.3 * number)  # pixels: from afar first
        now = np.array([c.get() for c in CONSTANTS])
        squares, gradient, error = np.diag(STILL / spread**2), STILL * (start - now) / spread**2, []
        for clip in clips:
            drawn = clip.drawn(renderer, soft)
            moved = []
            for constant, value in zip(CONSTANTS, now):
                constant.set(value + constant.step)
                other = clip.drawn(renderer, soft)
                moved.append([(b - a) / constant.step for a, b in zip(drawn, other)])
                constant.set(value)
            for i, (real, box) in enumerate(zip(clip.real, clip.boxes)):
                missing = _soft(real, soft)[box].ravel() - drawn[i]
                slopes = np.array([m[i] for m in moved])
                weight = 1 / ((missing**2).sum() * len(drawn) * len(clips))
                squares = squares + weight * slopes @ slopes.T
                gradient = gradient + weight * slopes @ missing
                error.append(10 * np.log10(255**2 / np.mean(missing**2)))
        for constant, value in zip(CONSTANTS, now + np.linalg.solve(squares, gradient)):
            constant.set(float(value))
        found = ", ".join(f"{c.name}{'' if c.at is None else f'[{c.at}]'} {c.get():.2f}" for c in CONSTANTS)
        print(f"before round {number + 1}: {np.mean(error):.2f} dB; then {found}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit("fit_follow: give the videos of people to fit on")
    renderer = MeshRenderer(SIZE)
    found = [Clip.of(shown(Path(video), EVERY), renderer) for video in sys.argv[1:]]
    fit([clip for clip in found if clip], renderer)
