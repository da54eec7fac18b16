"""The mesh renderer: any portrait moves by warping its own pixels. Needs nothing but the picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from moda.constants import DEFAULT_SIZE
from moda.engine.parallel import ordered
from moda.errors import ModaError
from moda.face.portrait import half_turned
from moda.face.source import HeadPose, Source
from moda.motion import Motion
from moda.motion.explicit import INDEX, LID_APERTURE, LIPS, LOWER_LIDS, SPACE, UPPER_LIDS
from moda.render.mesh.basis import dense
from moda.render.mesh.crown import crown
from moda.render.mesh.eyes import Eye
from moda.render.mesh.field import Field
from moda.render.mesh.hidden import OtherSide
from moda.render.mesh.layers import Layers, matte, part
from moda.render.mesh.mouth import Mouth
from moda.render.mesh.placing import Placement, placed, smoothstep, warp
from moda.render.mesh.topology import BROWS, EYES, IRIS_RINGS
from moda.render.paste import Crop

if TYPE_CHECKING:
    from moda.bench.timing import Row
    from moda.face.tracking import Track

SIDE = 5.4  # eye distances, the square's side: head and shoulders
TIGHTEST = 4.2  # eye distances, where the picture is no larger
EYE_LINE = 0.45  # of the side, where the eyes are

HANGS = 100.0  # degrees of roll
WINK = 0.25  # part of the way that an eye shuts by itself; from twice that on both shut together

_MIN_SIZE, _MAX_SIZE = 64, 2048


def upside_down(source: Source) -> bool:
    """Below a face is the picture's lower side in what draws it: one that hangs is drawn in the picture turned."""
    return bool(abs(float(source.motion.roll[0])) > HANGS)


def framing(source: Source, size: int) -> Crop:
    """The square of head and shoulders, moved and a little narrowed to lie within the picture where it can.

    Where the picture is the smaller one, it lies within the square: what is beyond its edge is made up, and kept narrow.
    """
    if upside_down(source):
        matrix = framing(half_turned(source), size).matrix.copy()
        last = np.array(source.image.shape[1::-1]) - 1.0
        matrix[:, 2] = size - 1 - matrix[:, 2] - matrix[:, :2] @ last
        return Crop(matrix, size)
    height, width = source.image.shape[:2]
    side = SIDE * source.pose.scale
    # Whole pixels, in which it is pasted back many times as fast.
    side = max(1, round(min(side, max(min(height, width), TIGHTEST * source.pose.scale))))
    corner = np.round(source.pose.center[:2] - [0.5 * side, EYE_LINE * side])
    room = np.array([width, height]) - side
    corner = np.clip(corner, np.minimum(room, 0), np.maximum(room, 0))
    return Crop.square(float(corner[0]), float(corner[1]), side, size)


NARROWEST = 0.4  # of its width: a pursed mouth's lips crumple before they lose more


def narrowed(exp: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """(21, 3) offsets -> the same, except that a small mouth is not pursed by as much as a wide one can be."""
    width = float(shape[291, 0] - shape[61, 0])
    less = float(exp[INDEX["lip_corner_right"], 0] - exp[INDEX["lip_corner_left"], 0]) / width
    if less <= 0.05:
        return exp
    exp = exp.copy()
    exp[LIPS, 0] *= (0.05 + NARROWEST * np.tanh((less - 0.05) / NARROWEST)) / less
    return exp


def together(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """(2,) lids' offsets -> the upper ones of eyes that shut in the same frame, where both are on their way.

    Trackers see the far eye's lid late; one eye alone may wink.
    """
    closing = (upper - lower) / LID_APERTURE
    both = smoothstep((closing.min() - WINK) / WINK)
    return upper + both * (closing.max() - closing) * LID_APERTURE


@dataclass(frozen=True)
class PreparedMesh:
    """Everything about one source, computed once. See moda.render.Prepared."""

    identity: np.ndarray
    motion: Motion
    crop: Crop
    image: np.ndarray  # (size, size, 3) uint8, the square as it is
    layers: Layers
    crown: np.ndarray | None  # (rows, size, 4) hair beyond the picture's upper edge
    shape: np.ndarray  # (478, 3) head-fixed, as pictured
    field: Field
    other: OtherSide | None  # of the head, where the picture shows one side less
    eyes: tuple[Eye, Eye]
    mouth: Mouth
    turned: bool = False  # all of this is of the picture upside down, in which the face stands


class MeshRenderer:
    """Source + explicit Motion -> frames, about 10 ms each at 512 pixels on one core."""

    space = SPACE
    seconds_a_frame = 0.01

    def __init__(self, size: int = DEFAULT_SIZE) -> None:
        if not _MIN_SIZE <= size <= _MAX_SIZE or size % 2:
            raise ModaError(f"size is {size}, but must be even and from {_MIN_SIZE} to {_MAX_SIZE} pixels")
        self.size = size

    def framing(self, source: Source) -> Crop:
        return framing(source, self.size)

    def operations(self) -> list[Row]:
        """Its work is memory's, not arithmetic's: nothing to count."""
        return []

    def track(self, path: str | os.PathLike, progress: Callable[[float], None] | None = None) -> Track:
        from moda.face.tracking import track

        return track(path, progress)

    def prepare(self, source: Source) -> PreparedMesh:
        if upside_down(source):
            return replace(self.prepare(half_turned(source)), crop=self.framing(source), turned=True)
        crop = framing(source, self.size)
        image = crop.cut(source.image)
        pose = HeadPose(
            source.pose.rotation,
            source.pose.scale * crop.scale,
            np.array(
                [*crop.points(source.pose.center[:2]), source.pose.center[2] * crop.scale], dtype=np.float32
            ),
        )
        points = pose.place(source.shape)[:, :2]
        eyes = tuple(
            Eye(image, points, upper, lower, brow, iris, ring, pose.scale)
            for (upper, lower), brow, iris, ring in zip(EYES, BROWS, (468, 473), IRIS_RINGS)
        )
        alpha = matte(image, points, pose.scale)
        layers = part(image, alpha, pose.scale)
        above = (
            crown(layers.person, float(points[10, 1]), pose.scale) if layers.background is not None else None
        )
        field = Field(pose, source.shape, self.size, alpha, above is not None)
        return PreparedMesh(
            identity=source.keypoints,
            motion=source.motion,
            crop=crop,
            image=image,
            layers=layers,
            crown=above,
            shape=source.shape,
            field=field,
            other=OtherSide.of(field, layers.person),
            eyes=(eyes[0], eyes[1]),
            mouth=Mouth(image, points, source.shape, source.motion.exp[0], Placement.of(pose)),
        )

    def draw(self, prepared: PreparedMesh, motion: Motion) -> Iterator[np.ndarray]:
        """-> (size, size, 3) uint8 RGB a frame. Raises ModaError if the motion is not in the explicit space."""
        motion.require(self.space, "the mesh renderer")
        frames = zip(
            motion.exp, placed(motion, prepared.motion, prepared.field.source), motion.breath.tolist()
        )
        drawn = ordered(lambda frame: self._frame(prepared, *frame), frames)
        return (np.ascontiguousarray(frame[::-1, ::-1]) for frame in drawn) if prepared.turned else drawn

    def _frame(
        self, p: PreparedMesh, shown_exp: np.ndarray, placement: Placement, breath: float
    ) -> np.ndarray:
        exp = narrowed(shown_exp - p.motion.exp[0], p.shape)
        image = self._eyes(p, exp)
        start = 0
        if p.crown is not None:
            image, start = np.concatenate([p.crown, image]), len(p.crown)
        upper, lower = p.field.forward(exp, placement, breath)
        whole = slice(0, self.size), slice(0, self.size)
        back = p.field.backward(upper, whole, start)
        person = warp(image, back)
        shown = p.other.shown(p.field.source, placement) if p.other else 0.0
        if p.other and shown:
            p.other.fill(person, image, back, p.field.step, shown, start)
        frame = p.layers.over(person)
        points = placement.place(p.shape + dense(exp))
        jaw = p.mouth.box(points, placement)
        below = p.layers.over(warp(image, p.field.backward(lower, jaw, start)), jaw)
        frame = p.mouth.draw(frame, below, jaw, points, shown_exp, placement)
        # Where a fold reached the edge; the upper one is left to hair that goes on beyond it.
        frame[-1], frame[:, [0, -1]] = p.image[-1], p.image[:, [0, -1]]
        if p.crown is None:
            frame[0] = p.image[0]
        return frame

    def _eyes(self, p: PreparedMesh, exp: np.ndarray) -> np.ndarray:
        still = image = p.layers.person
        turn = p.field.source.rotation
        uppers, lowers = exp[UPPER_LIDS, 1], exp[LOWER_LIDS, 1]
        for eye, side, upper, lower in zip(p.eyes, ("right", "left"), together(uppers, lowers), lowers):
            gaze = (turn @ exp[INDEX[f"iris_{side}"]])[:2]
            drawn = image if image is not still else image.copy()
            if eye.draw(drawn[..., :3], float(upper), float(lower), gaze):
                image = drawn
        return image
