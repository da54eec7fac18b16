"""The tri-plane autoencoder: a clip as three planes, over its place (xy), over rows and over columns in time.

Names are those of the released files. Source: PVDM's video autoencoder (arXiv 2302.07685), as MoDiTalker has it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from moda.render.triplane.config import TriplaneConfig
from moda.render.triplane.layers import PlaneTransformer, Stack

PLANES = ("xy", "yt", "xt")


class Encoder(Stack):
    def __init__(self, c: TriplaneConfig) -> None:
        super().__init__(c)
        self.to_patch_embedding = nn.Linear(3 * c.patch**2, c.channels)

    def tokens(self, video: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, T, L L, C)."""
        batch, colors, frames, _, _ = video.shape
        c = self.config
        x = video.reshape(batch, colors, frames, c.side, c.patch, c.side, c.patch)
        x = x.permute(0, 2, 3, 5, 4, 6, 1).reshape(batch, frames, c.side**2, -1)
        return self.to_patch_embedding(x)


class TriplaneAutoencoder(nn.Module):
    """Clips (B, 3, T, H, W) in -1..1 -> latents (B, latent, xy | yt | xt) in -1..1 -> clips."""

    def __init__(self, config: TriplaneConfig) -> None:
        super().__init__()
        c = self.config = config
        lengths = {"xy": c.frames, "yt": c.side, "xt": c.side}
        for name, length in lengths.items():
            setattr(self, f"{name}_token", nn.Parameter(torch.randn(1, 1, c.channels)))
            setattr(self, f"{name}_pos_embedding", nn.Parameter(torch.randn(1, length + 1, c.channels)))
            setattr(self, f"{name}_quant_attn", PlaneTransformer(c))
            setattr(self, f"pre_{name}", nn.Conv2d(c.channels, c.latent, 1))
            setattr(self, f"post_{name}", nn.Conv2d(c.latent, c.channels, 1))
        self.encoder, self.decoder = Encoder(c), Stack(c)
        self.to_pixel = nn.Sequential(
            nn.Identity(), nn.ConvTranspose2d(c.channels, 3, kernel_size=c.patch, stride=c.patch)
        )

    # -- to planes ----------------------------------------------------------------------------

    def encode(self, video: Tensor, planes: tuple[str, ...] = PLANES) -> Tensor:
        """(B, 3, T, H, W) -> (B, latent, their numbers), the planes one after the other, each row by row."""
        x = self.encoder(self.encoder.tokens(video))
        return torch.cat([self._plane(name, x).flatten(2) for name in planes], dim=-1)

    def encode_still(self, picture: Tensor, planes: tuple[str, ...] = PLANES) -> Tensor:
        """(B, 3, H, W) -> the latent of a clip that shows nothing else: every frame's tokens are equal."""
        c = self.config
        x = self.encoder(self.encoder.tokens(picture[:, :, None]), still=True)
        out = []
        for name in planes:
            if name == "xy":
                plane = self._plane(name, x.expand(-1, c.frames, -1, -1))
            else:
                plane = self._plane(name, x).expand(-1, -1, c.frames, -1)
            out.append(plane.flatten(2))
        return torch.cat(out, dim=-1)

    def _plane(self, name: str, x: Tensor) -> Tensor:
        """(B, T, L L, C) -> (B, latent, rows, columns): (h, w) of xy, (t, w) of yt, (t, h) of xt."""
        x = x.unflatten(2, (self.config.side, -1))  # (B, T, h, w, C)
        # The axis that a plane leaves out becomes the sequence.
        x = x.permute({"xy": (0, 2, 3, 1, 4), "yt": (0, 1, 3, 2, 4), "xt": (0, 1, 2, 3, 4)}[name])
        batch, rows, columns = x.shape[:3]
        x = x.flatten(0, 2)
        token = self.get_parameter(f"{name}_token").expand(len(x), -1, -1)
        x = torch.cat([x, token], dim=1) + self.get_parameter(f"{name}_pos_embedding")
        x = self.get_submodule(f"{name}_quant_attn")(x)
        x = x.reshape(batch, rows, columns, -1).permute(0, 3, 1, 2)
        return torch.tanh(self.get_submodule(f"pre_{name}")(x))

    # -- and back -----------------------------------------------------------------------------

    def decode(self, latent: Tensor) -> Tensor:
        """(B, latent, length) -> (B, 3, T, H, W)."""
        c = self.config
        sizes = {"xy": (c.side, c.side), "yt": (c.frames, c.side), "xt": (c.frames, c.side)}
        xy, yt, xt = (
            self.get_submodule(f"post_{name}")(part.unflatten(-1, sizes[name])).permute(0, 2, 3, 1)
            for name, part in zip(PLANES, latent.split(c.plane_sizes, dim=-1))
        )
        z = xy[:, None] + yt[:, :, None] + xt[:, :, :, None]  # (B, T, h, w, C)
        x = self.decoder(z.flatten(2, 3)).unflatten(2, (c.side, -1))
        x = self.to_pixel(x.flatten(0, 1).permute(0, 3, 1, 2))
        return (2 * torch.sigmoid(x) - 1).unflatten(0, (len(latent), -1)).transpose(1, 2)

    def forward(self, video: Tensor) -> Tensor:
        return self.decode(self.encode(video))


def tables(c: TriplaneConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what the released files hold beside the weights: tables that are computed here."""
    out: dict[str, tuple[int, ...]] = {"coords": (c.frames, 1)}
    for part in ("encoder", "decoder"):
        out[f"{part}.frame_rot_emb.inv_freqs"] = (c.head_width // 2,)
        out[f"{part}.image_rot_emb.scales"] = (c.head_width // 4,)
    return out


def load_published(tensors: Mapping[str, Tensor], who: str, config: TriplaneConfig) -> TriplaneAutoencoder:
    """A released autoencoder's state dict -> the network. Errors: ModaError naming what is missing, left over or
    misshapen."""
    from moda.weights.load import check, strict_load

    with torch.device("meta"):
        model = TriplaneAutoencoder(config)
        extra = {name: torch.empty(shape) for name, shape in tables(config).items()}
    check(model.state_dict() | extra, tensors, who)
    strict_load(model, {name: tensors[name] for name in model.state_dict()}, who)
    return model.eval()
