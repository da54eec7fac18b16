"""Training MToV: the autoencoder of clips, that of landmarks, the UNet over both's planes. Data: any videos of faces.

A run's config says which (`task`). The small configurations repaint the mouth's square; the published one is
moda.render.triplane.config.PUBLISHED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from moda.diffusion import Schedule
from moda.errors import ModaError
from moda.evaluation.metrics import psnr
from moda.render.triplane.autoencoder import TriplaneAutoencoder
from moda.render.triplane.config import VideoConfig
from moda.render.triplane.dots import picture
from moda.render.triplane.files import DOTS, RGB, UNET, read_autoencoder, write_network
from moda.render.triplane.region import hide
from moda.render.triplane.unet import PlaneUNet
from moda.training.discriminators import Discriminators, discriminator_loss, generator_loss, multi_scale
from moda.training.faces import Face, faces, videos_in
from moda.training.run import Run

JITTER = 0.15  # of brightness, contrast and each color


class VideoRunConfig(Run):
    """A run of one of MToV's networks, with samples in its folder. Paths are relative to the config file."""

    task: Literal["autoencoder", "dots", "unet"]
    cache: Path = Field(description="folder of what was cut from the videos; runs may share it")
    data: list[Path] = Field(min_length=1, description="folders of videos")
    hold_out: list[str] = Field([], description="videos whose names begin so are for validation instead")
    model: VideoConfig
    initial: Path | None = Field(None, description="dots: the clips' autoencoder to start from, a folder")
    autoencoders: Path | None = Field(None, description="unet: the folder with both")
    perceptual: Path | None = Field(None, description="VGG16's weights, see moda.training.perceptual")
    adversarial: bool = Field(False, description="train discriminators along")


def tensor(pictures: np.ndarray) -> Tensor:
    """(T, H, W, 3) uint8 -> (3, T, H, W) in -1..1."""
    return torch.from_numpy(pictures).permute(3, 0, 1, 2).float() / 127.5 - 1


class Clips:
    """Random clips of a run's faces."""

    def __init__(self, kept: list[Face], config: VideoConfig) -> None:
        self.frames = config.triplane.frames
        self.config = config
        self.faces = [face for face in kept if len(face.pictures) >= self.frames]
        if not self.faces:
            raise ModaError(f"no clip of {self.frames} frames was found to train on")
        room = np.array([len(face.pictures) - self.frames + 1 for face in self.faces], dtype=float)
        self.odds = room / room.sum()

    def clip(self, face: Face, start: int, reference: int) -> dict[str, np.ndarray]:
        """x, masked, dots (T, S, S, 3) and reference (S, S, 3), uint8."""
        part = slice(start, start + self.frames)
        x, points = face.pictures[part], face.points[part]
        size, region = self.config.triplane.size, self.config.region
        return {
            "x": x,
            "masked": np.stack([hide(p, q, region) for p, q in zip(x, points)]),
            "dots": np.stack([picture(q, region, size) for q in points]),
            "reference": face.pictures[reference],
        }

    def random(self, random: np.random.Generator) -> dict[str, Tensor]:
        face = self.faces[random.choice(len(self.faces), p=self.odds)]
        start, reference = (
            random.integers(len(face.pictures) - self.frames + 1),
            random.integers(len(face.pictures)),
        )
        drawn = self.clip(face, int(start), int(reference))
        out = {k: tensor(v if k != "reference" else v[None]) for k, v in drawn.items()}
        if self.config.region == "mouth":  # small sets of people: other lights, and mirrored ones
            gain = torch.from_numpy(1 + random.uniform(-JITTER, JITTER, 3)).float()[:, None, None, None]
            shift = float(random.uniform(-JITTER, JITTER))
            black = hidden(self.config)
            for name in ("x", "masked", "reference"):
                out[name] = (out[name] * gain + shift).clamp(-1, 1)
            out["masked"] = torch.where(black, torch.full_like(out["masked"], -1), out["masked"])
            if random.random() < 0.5:
                out = {k: v.flip(-1) for k, v in out.items()}
        out["reference"] = out["reference"][:, 0]
        return out

    def fixed(self, count: int) -> dict[str, Tensor]:
        """The same clips whenever it is asked, for validation."""
        chosen = [self.faces[i % len(self.faces)] for i in range(count)]
        rows = []
        for number, face in enumerate(chosen):
            room = len(face.pictures) - self.frames
            drawn = self.clip(face, (number * 37) % (room + 1), len(face.pictures) // 2)
            rows.append({k: tensor(v if k != "reference" else v[None]) for k, v in drawn.items()})
        out = {k: torch.stack([row[k] for row in rows]) for k in rows[0]}
        return out | {"reference": out["reference"][:, :, 0]}


def hidden(config: VideoConfig) -> Tensor:
    """(S, S) bool of the mouth's square."""
    from moda.render.triplane.region import field

    return torch.from_numpy(field(config.triplane.size) > 0)


class AutoencoderModule(nn.Module):
    """Losses of an autoencoder. kinds: which of a batch's clips it is shown."""

    def __init__(self, network: TriplaneAutoencoder, config: VideoRunConfig, kinds: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.kinds = network, kinds
        self.judge = Discriminators() if config.adversarial else None
        self._perceptual: Callable[[Tensor, Tensor], Tensor] = multi_scale
        if config.perceptual:
            from moda.training.perceptual import Perceptual

            self._perceptual = Perceptual(config.perceptual).forward

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        kind, frame = batch["kind"], batch["frame"]
        real = torch.stack([batch[self.kinds[k]][i] for i, k in enumerate(kind.tolist())])
        fake = self.network(real)
        rows = torch.arange(len(real))
        parts = {
            "l1": F.l1_loss(fake, real),
            "perceptual": self._perceptual(fake[rows, :, frame], real[rows, :, frame]),
        }
        if self.judge is not None:
            parts["generator"] = generator_loss(self.judge, real, fake, frame)
            parts["discriminator"] = discriminator_loss(self.judge, real, fake, frame)
        return parts


class AutoencoderTask:
    weights: Mapping[str, float] = {"l1": 4.0, "perceptual": 4.0, "generator": 1.0, "discriminator": 1.0}

    def __init__(self, clips: Clips, held: Clips | None, config: VideoRunConfig) -> None:
        """Of clips and clips with their mouths hidden, or (task dots) of landmarks."""
        self.clips, self.held, self.config = clips, held, config
        self.kinds = ("dots",) if config.task == "dots" else ("x", "x", "x", "masked")
        network = TriplaneAutoencoder(config.model.triplane)
        if config.initial:
            network = read_autoencoder(config.initial / RGB, config.model.triplane)
        if config.task == "dots":  # as published: its decoder's layers stay, it is not used later
            network.decoder.requires_grad_(False)
        self.module = AutoencoderModule(network, config, self.kinds)

    def example(self, random: np.random.Generator) -> dict[str, Tensor]:
        drawn = self.clips.random(random)
        drawn["kind"] = torch.tensor(int(random.integers(len(self.kinds))))
        drawn["frame"] = torch.tensor(int(random.integers(self.clips.frames)))
        return drawn

    def collate(self, examples: list[dict[str, Tensor]], random: torch.Generator) -> dict[str, Tensor]:
        return {k: torch.stack([e[k] for e in examples]) for k in examples[0]}

    def validate(self, module: nn.Module) -> dict[str, float]:
        batch = (self.held or self.clips).fixed(6)
        network = cast(AutoencoderModule, module).network.eval()
        out = {}
        for kind in sorted(set(self.kinds)):
            seen = torch.cat([network(clip[None]) for clip in batch[kind]])
            out[f"psnr_{kind}"] = float(
                np.mean([psnr(pixels(a), pixels(b)) for a, b in zip(seen, batch[kind])])
            )
            sheet(self.config.out / f"{kind}.png", [batch[kind], seen])
        module.train()
        return out

    def export(self, module: nn.Module, folder: Path) -> Path:
        name = DOTS if self.config.task == "dots" else RGB
        return write_network(
            cast(AutoencoderModule, module).network, folder / name, decoder=self.config.task != "dots"
        )


class UNetModule(nn.Module):
    """The loss of the UNet at random times, both autoencoders frozen; only times that sampling will use."""

    def __init__(self, config: VideoConfig, rgb: TriplaneAutoencoder, dots: TriplaneAutoencoder) -> None:
        super().__init__()
        self.network = PlaneUNet(config.unet, config.triplane)
        self.config, self.schedule = config, Schedule.scaled_linear()
        self._frozen = [rgb.requires_grad_(False).eval(), dots.requires_grad_(False).eval()]

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            x, conditions = self.latents(batch)
        t, noise = batch["t"], batch["noise"]
        noisy = self.schedule.noised(x, noise, t)
        wanted = x if self.config.predicts == "data" else noise
        return {self.config.predicts: F.mse_loss(self.network(noisy, conditions, t), wanted)}

    def latents(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """-> (B, latent, length) of the clip, (B, 3 latent, length) of landmarks, masked clip, reference's xy."""
        rgb, dots = (network.to(batch["x"].device) for network in self._frozen)
        reference = rgb.encode_still(batch["reference"], ("xy",))
        masked = rgb.encode(batch["masked"])
        reference = F.pad(reference, (0, masked.shape[-1] - reference.shape[-1]))
        return rgb.encode(batch["x"]), torch.cat([dots.encode(batch["dots"]), masked, reference], dim=1)


class UNetTask:
    weights: Mapping[str, float] = {"noise": 1.0, "data": 1.0}

    def __init__(self, clips: Clips, held: Clips | None, config: VideoRunConfig) -> None:
        if config.autoencoders is None:
            raise ModaError("the UNet's training config lacks autoencoders: the folder with both")
        self.clips, self.held, self.config = clips, held, config
        triplane = config.model.triplane
        rgb = read_autoencoder(config.autoencoders / RGB, triplane)
        dots = read_autoencoder(config.autoencoders / DOTS, triplane, decoder=False)
        self.module = UNetModule(config.model, rgb, dots)
        self.times = int(len(self.module.schedule) * config.model.start_part)

    def example(self, random: np.random.Generator) -> dict[str, Tensor]:
        return self.clips.random(random)

    def collate(self, examples: list[dict[str, Tensor]], random: torch.Generator) -> dict[str, Tensor]:
        batch = {k: torch.stack([e[k] for e in examples]) for k in examples[0]}
        c = self.config.model
        shape = (len(examples), c.triplane.latent, c.triplane.length)
        batch["t"] = torch.randint(self.times, (len(examples),), generator=random)
        return batch | {"noise": torch.randn(shape, generator=random)}

    def validate(self, module: nn.Module) -> dict[str, float]:
        from moda.render.triplane.sampler import Sampler

        batch = (self.held or self.clips).fixed(4)
        module = cast(UNetModule, module)
        rgb, _ = module._frozen
        network = module.network.eval()
        x, conditions = module.latents(batch)
        sampler = Sampler(network, self.config.model)
        start = rgb.encode_still(batch["reference"])
        made = torch.cat([sampler(c[None], s[None], seed=0) for c, s in zip(conditions, start)])
        seen = rgb.decode(made)
        sheet(self.config.out / "unet.png", [batch["x"], rgb.decode(x), seen])
        module.train()
        return {
            "psnr": float(np.mean([psnr(pixels(a), pixels(b)) for a, b in zip(seen, batch["x"])])),
            "latent_error": float(F.l1_loss(made, x)),
        }

    def export(self, module: nn.Module, folder: Path) -> Path:
        return write_network(cast(UNetModule, module).network, folder / UNET)


def pixels(clip: Tensor) -> np.ndarray:
    """(3, T, H, W) in -1..1 -> (T, H, W, 3) uint8."""
    return ((clip.permute(1, 2, 3, 0) + 1) * 127.5).clamp(0, 255).byte().cpu().numpy()


def sheet(path: Path, rows: list[Tensor]) -> None:
    """Every fifth frame of clips (B, 3, T, H, W), one kind below the other, as a picture."""
    import cv2

    lines = []
    for clips in zip(*rows):
        lines += [np.concatenate(list(pixels(clip)[::5]), axis=1) for clip in clips]
    cv2.imwrite(str(path), cv2.cvtColor(np.concatenate(lines), cv2.COLOR_RGB2BGR))


def task_of(config: VideoRunConfig, progress: Callable[[float], None] | None = None) -> Any:
    """The run's data and network."""
    network = config.model
    kept = faces(videos_in(config.data), config.cache, network.region, network.triplane.size, progress)
    out_of = tuple(config.hold_out)
    held = [face for face in kept if out_of and face.name.startswith(out_of)]
    known = [face for face in kept if not (out_of and face.name.startswith(out_of))]
    kind = UNetTask if config.task == "unet" else AutoencoderTask
    return kind(Clips(known, network), Clips(held, network) if held else None, config)
