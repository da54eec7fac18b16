"""The LivePortrait renderer: a Source and a Motion in the "liveportrait" space -> frames of 512x512 pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from moda.constants import FPS
from moda.errors import ModaError
from moda.face.source import Source
from moda.motion import Motion, join
from moda.motion.liveportrait import SPACE
from moda.render.liveportrait import keypoints
from moda.render.liveportrait.appearance import Appearance
from moda.render.liveportrait.crop import SIZE, crop_matrix, cut, input_crop
from moda.render.liveportrait.decoder import Decoder
from moda.render.liveportrait.extractor import Extractor
from moda.render.liveportrait.files import read_network
from moda.render.liveportrait.reader import Reader
from moda.render.liveportrait.stitching import EYE, LIP, STITCHING, Mlp, stitch
from moda.render.liveportrait.warping import Warping, WarpSource

if TYPE_CHECKING:
    from moda.bench.timing import Row
    from moda.face.tracking import Track
    from moda.render.paste import Crop

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
EXACT = (
    "extractor",
    "stitching",
    "lip",
    "eye",
)  # quick ones that stay float32: their errors would move the face


@dataclass(frozen=True)
class Prepared:
    """A source, made ready once for any number of frames.

    identity:  (21, 3) float32, the canonical keypoints
    motion:    one frame, the source's own, "liveportrait" space
    crop:      the whole picture's pixels -> the 512x512 square that `draw` makes
    warp:      what the warping network needs of the source
    """

    identity: np.ndarray
    motion: Motion
    crop: Crop
    warp: WarpSource


class LivePortraitRenderer:
    """The five networks. `load` reads them from a folder; a Reader for each by name makes any other."""

    space = SPACE
    seconds_a_frame = 3.0
    size = SIZE

    def __init__(self, reader: Callable[[str], Reader]) -> None:
        """reader: a network's name in `files.NETWORKS` -> its Reader."""
        self.appearance = Appearance(reader("appearance"))
        self.extractor = Extractor(reader("extractor"))
        read = reader("warping")
        self.device, self.dtype = read.device, read.dtype
        self.warping = Warping(read)
        self.decoder = Decoder(reader("decoder"))
        self.stitching = Mlp(reader("stitching"), STITCHING)
        self.lip, self.eye = Mlp(reader("lip"), LIP), Mlp(reader("eye"), EYE)
        # A GPU needs more than a frame at a time to be busy; a processor's cache holds one frame at best.
        self.batch = 8 if self.device.type == "cuda" else 1

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike,
        device: str = "cpu",
        precision: str | None = None,
        fast: bool | None = None,
    ) -> LivePortraitRenderer:
        """folder: LivePortrait's files as published or as `moda weights convert` leaves them.

        precision: of the heavy networks, one of PRECISIONS: float16 on a CUDA device, as the published code has
        it, and float32 elsewhere unless given. Keypoints and the places sampled stay float32.
        fast: convolutions by tiles, see Reader; on a CPU in float32 unless given.
        Raises ModaError: a file or a key is missing, left over or misshapen.
        """
        precision = precision or ("float16" if torch.device(device).type == "cuda" else "float32")
        if precision not in PRECISIONS:
            raise ModaError(f"precision is {precision!r}, but must be one of {', '.join(PRECISIONS)}")
        dtype = PRECISIONS[precision]
        by_tiles = torch.device(device).type == "cpu" and dtype == torch.float32 if fast is None else fast

        def reader(name: str) -> Reader:
            path, tensors = read_network(Path(folder), name)
            return Reader(str(path), tensors, device, torch.float32 if name in EXACT else dtype, by_tiles)

        return cls(reader)

    # -- once for a source ----------------------------------------------------------------------------------

    def framing(self, source: Source) -> Crop:
        from moda.render.paste import Crop

        return Crop(crop_matrix(source.landmarks), SIZE)

    def operations(self) -> list[Row]:
        from moda.render.liveportrait.bench import bench

        return bench(self)

    def prepare(self, source: Source) -> Prepared:
        """Everything that depends on the source alone: its crop, keypoints, motion and feature volume."""
        crop = self.framing(source)
        picture = self._pictures([cut(source.image, input_crop(crop))])
        heads = self._heads(picture)
        motion = keypoints.motion_of(heads)
        identity = heads["kp"].reshape(-1, 3)
        volume = self.appearance(picture.to(self.dtype))[0]
        placed = torch.from_numpy(keypoints.place(identity, motion)[0]).to(self.device)
        return Prepared(identity, motion, crop, self.warping.prepare(volume, placed))

    # -- for every frame ------------------------------------------------------------------------------------

    def draw(self, prepared: Prepared, motion: Motion) -> Iterator[np.ndarray]:
        """-> (512, 512, 3) uint8 RGB, a frame at a time, in constant memory.

        The motion is drawn as it is: what a generator made, or another person did, goes through the space's
        `generated` or `driven` before.
        """
        motion.require(self.space, "the LivePortrait renderer")
        for start in range(0, len(motion), self.batch):
            yield from self._frames(prepared, motion[start : start + self.batch])

    def _frames(self, prepared: Prepared, motion: Motion) -> np.ndarray:
        driving = torch.from_numpy(keypoints.place(prepared.identity, motion)).to(self.device)
        source = prepared.warp.keypoints.expand_as(driving)
        with torch.inference_mode():
            driving = stitch(self.stitching, source, driving)
            picture = self.decoder(self.warping(prepared.warp, driving))
            return (picture * 255).to(torch.uint8).cpu().numpy()  # as published: cut off, not rounded

    # -- from a video ---------------------------------------------------------------------------------------

    def track(self, path: str | os.PathLike, progress: Callable[[float], None] | None = None) -> Track:
        """The motion of the face in a video, "liveportrait" space, 25 frames a second.

        The square looked at is that about the first face seen and stays, so that the head's own movement is
        measured. Frames without a face hold the last motion, then ease to the clip's median; `lost` counts them.
        """
        from moda.face.follow import follow_face
        from moda.face.gaps import fill
        from moda.face.tracking import Track
        from moda.media.read import probe, read_video
        from moda.render.paste import Crop

        total = probe(path).frames
        frames = read_video(path)
        shown: list[np.ndarray] = []

        def pass_on() -> Iterator[np.ndarray]:
            for frame in frames:
                shown[:] = [frame]
                yield frame

        square: Crop | None = None
        waiting: list[np.ndarray] = []
        parts: list[Motion] = []
        identities: list[np.ndarray] = []
        seen: list[bool] = []

        def measure() -> None:
            heads = self._heads(self._pictures(waiting))
            identities.append(heads["kp"][0].reshape(-1, 3))
            parts.append(keypoints.motion_of(heads))
            waiting.clear()

        for landmarks in follow_face(pass_on()):
            seen.append(landmarks is not None)
            if progress and total:
                progress(min(1.0, len(seen) / total))
            if landmarks is None:
                continue
            if square is None:
                square = input_crop(Crop(crop_matrix(landmarks, upright=False), SIZE))
            waiting.append(cut(shown[0], square))
            if len(waiting) == self.batch:
                measure()
        if waiting:
            measure()
        if not parts:
            raise ModaError(f"no face was found in the video {os.fspath(path)}")
        values = join(parts).to_array()
        when = np.flatnonzero(seen) / FPS
        even = fill(when, values, np.median(values, axis=0), np.arange(len(seen)) / FPS)
        motion = Motion.from_array(even, SPACE)
        return Track(motion, seen.count(False), identities[0], motion.fps, len(seen))

    # -- parts ----------------------------------------------------------------------------------------------

    def _pictures(self, images: list[np.ndarray]) -> torch.Tensor:
        """uint8 pictures -> (N, H, W, 3) float32, 0..1, on the device."""
        return torch.from_numpy(np.stack(images)).to(self.device).float() / 255

    def _heads(self, picture: torch.Tensor) -> dict[str, np.ndarray]:
        return {name: head.cpu().numpy() for name, head in self.extractor(picture).items()}
