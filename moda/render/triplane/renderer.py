"""MToV as a renderer of portraits and as a repainter of footage."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from moda.constants import DEFAULT_SIZE
from moda.face.footage import Footage, Placed
from moda.face.source import HeadPose, Source
from moda.media.read import read_video
from moda.motion import Motion
from moda.motion.explicit import rotation
from moda.motion.landmarks68 import LANDMARK_OF, SPACE
from moda.motion.space import converted
from moda.render.mesh.renderer import MeshRenderer, PreparedMesh
from moda.render.triplane import region
from moda.render.triplane.config import VideoConfig
from moda.render.triplane.files import DOTS, RGB, UNET, read_autoencoder, read_unet
from moda.render.triplane.painter import Painter, Reference, Shown

if TYPE_CHECKING:
    from moda.bench.timing import Row
    from moda.face.tracking import Track
    from moda.render.paste import Crop


def load_painter(folder: Path, config: VideoConfig, device: str, precision: str) -> Painter:
    """The networks in a model's folder. Errors: ModaError for a file that is missing or does not fit."""
    dtype = getattr(torch, "float32" if precision == "int8" else precision)
    rgb = read_autoencoder(folder / RGB, config.triplane)
    dots = read_autoencoder(folder / DOTS, config.triplane, decoder=False)
    unet = read_unet(folder / UNET, config.unet, config.triplane)
    return Painter(config, rgb.to(device, dtype), dots.to(device, dtype), unet.to(device, dtype))


class TriplaneRepainter:
    """See moda.render.Repainter."""

    space = SPACE
    seconds_a_frame = 0.2

    def __init__(self, painter: Painter) -> None:
        self.painter = painter

    def repaint(self, footage: Footage, motion: Iterator[Motion]) -> Iterator[np.ndarray]:
        """Every shot is painted for itself; its person is the footage's, as first seen."""
        reference: Reference | None = None
        neutral = footage.person.neutral[LANDMARK_OF]
        exps = (exp for chunk in motion for exp in chunk.require(SPACE, "dubbing").exp)
        frames = zip(read_video(footage.path), footage.placed(), exps)
        for shot, part in groupby(frames, key=lambda x: -1 if x[1] is None else x[1].shot):
            if shot < 0:
                yield from (frame for frame, _, _ in part)
                continue
            first: list[Crop] = []

            def shown(frame: np.ndarray, placed: Placed, exp: np.ndarray, first: list[Crop] = first) -> Shown:
                crop = self._square(placed.landmarks, first)
                return Shown(frame, crop, crop.points(placed.place(neutral + exp)[:, :2]))

            shots = (shown(frame, placed, exp) for frame, placed, exp in part if placed is not None)
            begin = next(shots, None)
            if begin is None:
                continue
            if reference is None:
                reference = self.painter.reference(begin.crop.cut(begin.frame))
            yield from self.painter.paint(_again(begin, shots), reference)

    def _square(self, landmarks: np.ndarray, first: list[Crop]) -> Crop:
        config = self.painter.config
        if config.region == "head" and first:  # it stays where the shot began
            return first[0]
        crop = region.squares(landmarks[None], config.region, config.triplane.size, steadied=True)[0]
        first.append(crop)
        return crop


def _again(first: Shown, rest: Iterator[Shown]) -> Iterator[Shown]:
    yield first
    yield from rest


@dataclass(frozen=True, eq=False)
class PreparedTriplane:
    """See moda.render.Prepared. mesh: the same picture for the mesh renderer, which moves the head."""

    identity: np.ndarray
    motion: Motion
    crop: Crop
    mesh: PreparedMesh
    pose: HeadPose  # in the square's pixels
    neutral: np.ndarray  # (478, 3)
    reference: Reference


class TriplaneRenderer:
    """A portrait is moved by the mesh renderer; of that, what the region hides is painted."""

    space = SPACE
    seconds_a_frame = 0.2

    def __init__(self, painter: Painter, size: int = DEFAULT_SIZE) -> None:
        self.painter, self.mesh = painter, MeshRenderer(size)
        self.size = self.mesh.size

    def framing(self, source: Source) -> Crop:
        return self.mesh.framing(source)

    def operations(self) -> list[Row]:
        from moda.render.triplane.bench import bench

        return bench(self.painter)

    def track(self, path: str | os.PathLike, progress: Callable[[float], None] | None = None) -> Track:
        """As the mesh renderer's, carried over to 68 landmarks."""
        from dataclasses import replace

        found = self.mesh.track(path, progress)
        return replace(found, motion=converted(found.motion, SPACE))

    def prepare(self, source: Source) -> PreparedTriplane:
        mesh = self.mesh.prepare(source)
        crop = mesh.crop
        center = np.array(
            [*crop.points(source.pose.center[:2]), source.pose.center[2] * crop.scale], np.float32
        )
        pose = HeadPose(source.pose.rotation, source.pose.scale * crop.scale, center)
        motion = converted(source.motion, SPACE)
        neutral = source.neutral
        config = self.painter.config
        image = crop.cut(source.image)
        square = region.squares(pose.place(source.shape)[None], config.region, config.triplane.size, True)[0]
        reference = self.painter.reference(square.cut(image))
        return PreparedTriplane(neutral[LANDMARK_OF], motion, crop, mesh, pose, neutral, reference)

    def draw(self, prepared: PreparedTriplane, motion: Motion) -> Iterator[np.ndarray]:
        """Errors: ModaError for a motion of another space."""
        motion.require(SPACE, "the tri-plane renderer")
        moved = converted(motion, self.mesh.space)
        frames = self.mesh.draw(prepared.mesh, moved)
        config = self.painter.config
        still: list[Crop] = []

        def shown() -> Iterator[Shown]:
            for i, frame in enumerate(frames):
                pose = _posed(prepared, motion[i])
                landmarks = pose.place(prepared.neutral)
                if config.region == "mouth" or not still:
                    still[:] = region.squares(landmarks[None], config.region, config.triplane.size, True)
                crop = still[0]
                points = pose.place(prepared.neutral[LANDMARK_OF] + motion.exp[i])
                yield Shown(frame, crop, crop.points(points[:, :2]))

        return self.painter.paint(shown(), prepared.reference)


def _posed(prepared: PreparedTriplane, motion: Motion) -> HeadPose:
    """Where the mesh renderer puts the head in a frame of motion."""
    from moda.motion.explicit import NECK_PIVOT

    own = prepared.motion
    turn = rotation(motion.pitch, motion.yaw, motion.roll)[0]
    scale = prepared.pose.scale * float(motion.scale[0] / own.scale[0])
    pivot = prepared.pose.place(NECK_PIVOT)
    pivot[:2] += prepared.pose.scale * (motion.t[0] - own.t[0])[:2]
    return HeadPose(turn, scale, (pivot - scale * (turn @ NECK_PIVOT)).astype(np.float32))
