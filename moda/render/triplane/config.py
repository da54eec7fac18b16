"""What a member of MToV's family is: the sizes of its two autoencoders and of its UNet, and how it is sampled."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from moda import validation
from moda.errors import ModaError

Positive = Annotated[int, Field(gt=0)]
GROUPS = 32  # of the UNet's normalizations, or as many as its width has


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class TriplaneConfig:
    """An autoencoder of clips.

    size, frames:   of a clip: T pictures of size x size
    patch:          pixels of a token's side
    channels, depth: C, layers of the encoder and as many of the decoder
    heads, head_width: of their attentions; head_width divides by 4 (rotary pairs of two axes)
    latent:         channels of the planes
    plane_depth, plane_heads, plane_hidden: of the transformers that make a plane; their heads are C / 8 wide

    Errors: ModaError that names the field, its value and what it has to agree with.
    """

    size: Positive
    frames: Positive
    patch: Positive
    channels: Positive
    depth: Positive
    heads: Positive
    head_width: Positive
    latent: Positive
    plane_depth: Positive
    plane_heads: Positive
    plane_hidden: Positive

    def __post_init__(self) -> None:
        if self.size % self.patch:
            raise ModaError(f"tri-plane config: size {self.size} is not made of patches of {self.patch}")
        if self.channels % 8:
            raise ModaError(f"tri-plane config: channels is {self.channels}, but must divide by 8")
        if self.head_width % 4:
            raise ModaError(f"tri-plane config: head_width is {self.head_width}, but must divide by 4")

    @property
    def side(self) -> int:
        """Tokens along a picture's side, L."""
        return self.size // self.patch

    @property
    def plane_sizes(self) -> tuple[int, int, int]:
        """Numbers a channel of the planes xy (L, L), yt (T, L) and xt (T, L)."""
        return self.side**2, self.frames * self.side, self.frames * self.side

    @property
    def length(self) -> int:
        return sum(self.plane_sizes)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class UNetConfig:
    """The network over planes.

    width, multipliers, blocks: channels of the levels, and residual blocks of each
    heads:      of all attentions
    attention:  levels whose blocks look around in their own plane
    inputs:     channels that come in: the noisy latent, and all conditions

    Errors: as `TriplaneConfig`.
    """

    width: Positive
    multipliers: tuple[int, ...]
    blocks: Positive
    heads: Positive
    attention: tuple[int, ...]
    inputs: Positive
    outputs: Positive

    def __post_init__(self) -> None:
        for multiplier in self.multipliers:
            width = self.width * multiplier
            if width % self.heads or width % self.groups:
                raise ModaError(
                    f"UNet config: {width} channels do not divide into {self.heads} heads and {self.groups} groups"
                )

    @property
    def groups(self) -> int:
        return min(GROUPS, self.width)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class VideoConfig:
    """The renderer. triplane: of both autoencoders; unet; steps, eta, bound, start_part: of sampling; start_part: with
    which part of all noise the reference's latent begins (the published 0.25); overlap: frames that runs share.

    predicts: what the UNet gives: the "noise" (published) or the "data", which small networks learn sooner.

    region: what a clip shows: "head" (the square of head and shoulders) or "mouth" (the lower face, upright).
    Errors: as `TriplaneConfig`.
    """

    triplane: TriplaneConfig
    unet: UNetConfig
    steps: Positive
    eta: Annotated[float, Field(ge=0, le=1)]
    bound: Annotated[float, Field(gt=0)]
    start_part: Annotated[float, Field(gt=0, le=1)]
    overlap: Annotated[int, Field(ge=0)]
    region: str
    predicts: str = "noise"

    def __post_init__(self) -> None:
        latent, levels = self.triplane.latent, len(self.unet.multipliers) - 1
        if self.unet.inputs != 4 * latent or self.unet.outputs != latent:
            raise ModaError(
                f"MToV config: the UNet takes {self.unet.inputs} channels and gives {self.unet.outputs}, but a latent of "
                f"{latent} needs {4 * latent} and {latent}"
            )
        for name, length in (("side", self.triplane.side), ("frames", self.triplane.frames)):
            if length % 2**levels:
                raise ModaError(f"MToV config: {name} {length} cannot be halved {levels} times")
        if 2 * self.overlap > self.triplane.frames:
            raise ModaError(f"MToV config: overlap is {self.overlap}, but must be at most half the frames")
        validation.check_choice("region", self.region, ("head", "mouth"))
        validation.check_choice("predicts", self.predicts, ("noise", "data"))

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> VideoConfig:
        """Errors: ModaError naming the field that is missing, unknown or wrong."""
        return validation.from_dict(cls, values, "MToV config")


PUBLISHED = VideoConfig(
    triplane=TriplaneConfig(
        size=256,
        frames=16,
        patch=8,
        channels=384,
        depth=8,
        heads=8,
        head_width=64,
        latent=4,
        plane_depth=4,
        plane_heads=4,
        plane_hidden=512,
    ),
    unet=UNetConfig(
        width=128, multipliers=(1, 2, 4, 4), blocks=2, heads=8, attention=(0, 1, 2), inputs=16, outputs=4
    ),
    steps=100,
    eta=1.0,
    bound=1.0,
    start_part=0.25,
    overlap=0,
    region="head",
)
