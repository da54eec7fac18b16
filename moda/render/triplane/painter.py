"""Runs of frames through MToV: what is hidden of their squares is painted as the landmarks say.

A run is as long as the autoencoder's clip. Runs share their noise and the reference, and overlap by a few frames, over
which the one's pictures become the other's, so that no seam shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import Tensor

from moda.errors import ModaError
from moda.render.paste import Crop
from moda.render.triplane import region
from moda.render.triplane.autoencoder import TriplaneAutoencoder
from moda.render.triplane.config import VideoConfig
from moda.render.triplane.dots import picture
from moda.render.triplane.sampler import Sampler
from moda.render.triplane.unet import PlaneUNet

EDGE = 0.06  # of the head's square: over this width it is pasted in


@dataclass(frozen=True, eq=False)
class Shown:
    """A frame to be repainted: (H, W, 3) uint8, its square, the landmarks (68, 2) wanted in the square."""

    frame: np.ndarray
    crop: Crop
    points: np.ndarray


@dataclass(frozen=True, eq=False)
class Reference:
    """A person's square, encoded once: xy (1, latent, L L) and the whole latent (1, latent, length)."""

    xy: Tensor
    whole: Tensor


@dataclass
class _Run:
    """The frames that wait, of which the first `kept` have pictures of the run before."""

    shown: list[Shown] = field(default_factory=list)
    before: np.ndarray | None = None

    @property
    def kept(self) -> int:
        return 0 if self.before is None else len(self.before)


class Painter:
    """rgb, dots, unet: on one device, of one type. steps: the config's unless given."""

    def __init__(
        self,
        config: VideoConfig,
        rgb: TriplaneAutoencoder,
        dots: TriplaneAutoencoder,
        unet: PlaneUNet,
        steps: int | None = None,
    ) -> None:
        if steps is not None and steps < 1:
            raise ModaError(f"the number of steps is {steps}, but must be 1 or more")
        self.config = config
        self.rgb, self.dots = rgb.eval().requires_grad_(False), dots.eval().requires_grad_(False)
        self.sampler = Sampler(unet.eval().requires_grad_(False), config, steps)
        parameter = next(rgb.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype

    @torch.inference_mode()
    def reference(self, square: np.ndarray) -> Reference:
        """(S, S, 3) uint8, a picture of the person's square."""
        whole = self.rgb.encode_still(self._clip(square[None])[:, :, 0])
        return Reference(whole[..., : self.config.triplane.plane_sizes[0]], whole)

    def paint(self, shown: Iterator[Shown], reference: Reference, seed: int = 0) -> Iterator[np.ndarray]:
        """Frames of one shot -> the same with their squares repainted."""
        frames, overlap = self.config.triplane.frames, self.config.overlap
        run = _Run()
        for one in shown:
            run.shown.append(one)
            if len(run.shown) == frames:
                pictures = self._joined(run, reference, seed)
                done = frames - overlap
                yield from (self._paste(s, p) for s, p in zip(run.shown[:done], pictures))
                run = _Run(run.shown[done:], pictures[done:] if overlap else None)
        if len(run.shown) > run.kept:
            pictures = self._joined(run, reference, seed)
        elif run.before is not None:
            pictures = run.before
        else:
            return
        yield from (self._paste(s, p) for s, p in zip(run.shown, pictures))

    def _joined(self, run: _Run, reference: Reference, seed: int) -> np.ndarray:
        """A run's pictures (T, S, S, 3); where the last run has some too, from its over to the new ones."""
        pictures = self.pictures(run.shown, reference, seed)
        if run.before is not None:
            n = run.kept
            part = ((np.arange(n) + 1) / (n + 1)).astype(np.float32)[:, None, None, None]
            mixed = run.before * (1 - part) + pictures[:n] * part
            pictures[:n] = (mixed + 0.5).astype(np.uint8)
        return pictures

    @torch.inference_mode()
    def pictures(self, shown: list[Shown], reference: Reference, seed: int) -> np.ndarray:
        """At most a clip of frames -> (n, S, S, 3) uint8, their squares painted; a short run's last frame is repeated."""
        config = self.config
        size, place = config.triplane.size, config.region
        masked = np.stack([region.hide(s.crop.cut(s.frame), s.points, place) for s in shown])
        drawn = np.stack([picture(s.points, place, size) for s in shown])
        missing = config.triplane.frames - len(shown)
        masked, drawn = (np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) for x in (masked, drawn))
        z_m, z_l = self.rgb.encode(self._clip(masked)), self.dots.encode(self._clip(drawn))
        xy = torch.nn.functional.pad(reference.xy, (0, z_m.shape[-1] - reference.xy.shape[-1]))
        latent = self.sampler(torch.cat([z_l, z_m, xy], dim=1), reference.whole, seed)
        clip = self.rgb.decode(latent)[0].permute(1, 2, 3, 0).float()
        return ((clip + 1) * 127.5).clamp(0, 255).byte().cpu().numpy()[: len(shown)].copy()

    def _clip(self, pictures: np.ndarray) -> Tensor:
        """(T, S, S, 3) uint8 -> (1, 3, T, S, S) in -1..1."""
        x = torch.from_numpy(np.ascontiguousarray(pictures)).permute(3, 0, 1, 2)[None]
        return x.to(self.device, self.dtype) / 127.5 - 1

    def _paste(self, shown: Shown, square: np.ndarray) -> np.ndarray:
        """The square back into its frame, under a soft mask."""
        frame, crop = shown.frame, shown.crop
        if self.config.region == "mouth":
            mask = region.field(crop.size)
        else:
            line = np.minimum(np.arange(crop.size), np.arange(crop.size)[::-1]) / (EDGE * crop.size)
            mask = np.outer(np.clip(line, 0, 1), np.clip(line, 0, 1)).astype(np.float32)
        back = cv2.invertAffineTransform(crop.matrix)
        corners = np.array([[x, y] for x in (-0.5, crop.size - 0.5) for y in (-0.5, crop.size - 0.5)])
        corners = corners @ back[:, :2].T + back[:, 2]
        height, width = frame.shape[:2]
        x0, y0 = np.clip(np.floor(corners.min(axis=0)).astype(int), 0, [width, height])
        x1, y1 = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, 0, [width, height])
        if x1 <= x0 or y1 <= y0:
            return frame
        matrix, size = back - [[0, 0, x0], [0, 0, y0]], (int(x1 - x0), int(y1 - y0))
        part = cv2.warpAffine(square, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        cover = cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_LINEAR)[..., None]
        out = frame.copy()
        under = out[y0:y1, x0:x1]
        mixed = under + (part.astype(np.float32) - under) * cover + 0.5
        out[y0:y1, x0:x1] = np.where(cover > 0, np.clip(mixed, 0, 255), under)
        return out
