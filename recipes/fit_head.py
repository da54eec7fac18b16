"""How much deeper heads are than the analytic one (moda/render/mesh/head.safetensors), from people who turn theirs.

    python -m recipes.fit_head OUT.safetensors VIDEO [...]

Each clip is driven by its own motion from its first frame. Where the drawn head lies beside the real one (optical flow
from drawn to real), a depth that is wrong by z moves a point by z m, m the turned view axis seen in the picture. Least
squares over all frames of all people gives z for each place of the mean head, both sides alike; the table goes on from
what it was, some rounds, since a better head shows what is still wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from moda.evaluation.selfdriven import Shown, driven_by_itself, shown
from moda.motion.explicit import NECK_PIVOT
from moda.render.mesh import MeshRenderer, head
from moda.render.mesh.placing import NO_MAP, placed

SIZE, ROUNDS, EVERY, FRAMES = (
    256,
    4,
    15,
    17,
)  # pixels; rounds; one frame in so many, at most so many of a clip
STEP, SHAPE = (
    0.9,
    (51, 21),
)  # of what is found, a round; of the table: y from HEAD_CORNER down, x from the middle out
FAR = 0.35  # eye distances: a flow further than this is no flow
PRIOR = 0.02  # of a usual weight, that nothing is wrong
MOST = (-0.4, 0.6)  # eye distances deeper


def errors(clip: Shown, renderer: MeshRenderer, found: np.ndarray, weight: np.ndarray) -> None:
    """Add a clip's to the sums over places of the mean head (51, 21)."""
    from moda.face.portrait import read_portrait

    p = renderer.prepare(read_portrait(clip.image))
    if p.layers.background is None:
        return
    frames = clip.frames[:: max(1, len(clip.frames) // FRAMES)][:FRAMES]
    motion = driven_by_itself(clip.motion, [i for i, _, _ in frames], p.motion)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    field, rest = p.field, p.field.source
    pixels = field.pixels.astype(np.float32)
    place = field.outline.usual((field.x + NECK_PIVOT)[..., :2])
    cell = np.round((np.abs(place) * [1, 0] + place * [0, 1] - head.HEAD_CORNER) / head.HEAD_STEP).astype(int)
    within = (cell >= 0).all(axis=-1) & (cell < SHAPE[::-1]).all(axis=-1) & (field.turns[..., 0] > 0.8)
    within &= cv2.remap(p.layers.person[..., 3], pixels, NO_MAP, cv2.INTER_LINEAR) > 250
    face = within & (np.abs(place[..., 0]) < 0.9) & (place[..., 1] > -0.7) & (place[..., 1] < 0.6)
    for i, drawn in enumerate(renderer.draw(p, motion)):
        real, one = p.crop.cut(frames[i][1]), motion[i]
        apart = flow.calc(*(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in (drawn, real)), None)
        pose = placed(one, p.motion, rest)[0]
        there = pixels + field.forward(one.exp[0] - p.motion.exp[0], pose)[0]
        error = cv2.remap(apart, there, NO_MAP, cv2.INTER_LINEAR) / pose.scale
        use = within & (np.linalg.norm(error, axis=-1) < FAR)
        error = error - np.median(error[face], axis=0)
        axis = (pose.rotation @ rest.rotation.T)[:2, 2]
        at = cell[use][:, 1], cell[use][:, 0]
        np.add.at(found, at, error[use] @ axis)
        np.add.at(weight, at, axis @ axis)


def fit(clips: list[Shown], out: Path) -> None:
    """Write the table."""
    from safetensors.numpy import save_file

    renderer, table = MeshRenderer(SIZE), np.zeros(SHAPE, np.float32)
    head.TABLE = out
    for _ in range(ROUNDS):
        save_file({"depth": table}, out)
        head._learned.cache_clear()
        found, weight = np.zeros(SHAPE), np.zeros(SHAPE)
        for clip in clips:
            errors(clip, renderer, found, weight)
        found, weight = (
            cv2.GaussianBlur(a, (0, 0), 1.0, borderType=cv2.BORDER_REFLECT) for a in (found, weight)
        )
        more = found / (weight + PRIOR * np.percentile(weight, 90))
        table = np.clip(table + STEP * np.clip(more, *MOST), *MOST).astype(np.float32)
    save_file({"depth": table}, out)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit("fit_head: give the table to write and the videos of people to fit on")
    fit([shown(Path(video), EVERY) for video in sys.argv[2:]], Path(sys.argv[1]))
