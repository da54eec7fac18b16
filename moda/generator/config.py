"""What a member of the model family is: its sizes, its conditions and how it is sampled."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from moda import validation
from moda.errors import ModaError
from moda.motion.emotions import parse_emotion
from moda.motion.space import Space
from moda.motion.space import space as find_space

Positive = Annotated[int, Field(gt=0)]

EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ModelConfig:
    """One member of the family. There are no defaults: a config file says everything.

    space:         what the motion numbers mean (moda.motion.space)
    width, heads:  D and the attention heads; D / heads must be even (rotary pairs)
    mlp_ratio:     hidden width of every block's MLP, in D
    depths:        how many four-stream, two-stream and single-stream blocks
    audio_layers, audio_width: an audio feature is (layers, width) numbers a frame
    audio_hidden:  width of the audio embedder's two hidden layers
    motion_dim, identity_dim:  numbers a frame of motion, numbers of the identity
    emotions:      names of the labels; one more row of the table means "none"
    segment, overlap: frames sampled at once, and how many of them meet the next segment
    steps, guidance:  what sampling uses unless given; a guidance of 1 is none
    even_steps:    whether each step goes equally far, or the last one nowhere, as published (moda.generator.flow)
    noise_scale:   standard deviation of the starting noise for the numbers of "lips", "face" and "pose".
                   1 samples the learned distribution; less gives its likelier, calmer part.
    live_noise_scale: the same for the live scheme, which draws new noise every few frames and so is livelier;
                   None: as noise_scale
    live_steps:    steps of the live scheme, most of whose window is known already; None: as steps
    rest_frames:   frames of silence that the features end with; they give the rest pose for the post-step
                   (moda.generator.post) and are then cut off; 0: no post-step

    Errors: ModaError that names the field, its value and what it has to agree with.
    """

    space: str
    width: Positive
    heads: Positive
    mlp_ratio: Annotated[float, Field(gt=0)]
    depths: tuple[int, int, int]
    audio_layers: Positive
    audio_width: Positive
    audio_hidden: Positive
    motion_dim: Positive
    identity_dim: Positive
    emotions: tuple[str, ...]
    segment: Positive
    overlap: Annotated[int, Field(ge=0)]
    steps: Positive
    guidance: Annotated[float, Field(ge=1)]
    noise_scale: dict[str, float]
    rest_frames: Annotated[int, Field(ge=0)]
    live_noise_scale: dict[str, float] | None = None
    live_steps: Positive | None = None
    even_steps: bool = False

    def __post_init__(self) -> None:
        space = find_space(self.space)
        if self.motion_dim != space.dim:
            raise ModaError(
                f"generator config: motion_dim is {self.motion_dim}, but a motion of the {space.name!r} space has "
                f"{space.dim} numbers a frame"
            )
        if self.width % (2 * self.heads):
            raise ModaError(
                f"generator config: width {self.width} over {self.heads} heads gives heads of "
                f"{self.width / self.heads:g}, but rotary pairs need an even whole number"
            )
        if min(self.depths) < 0 or sum(self.depths) < 1:
            raise ModaError(
                f"generator config: depths is {list(self.depths)}, but must be three counts "
                "(four-stream, two-stream, single-stream blocks)"
            )
        if self.overlap > self.segment // 2:
            raise ModaError(
                f"generator config: overlap is {self.overlap}, but must lie between 0 and half the segment "
                f"of {self.segment} frames"
            )
        for name in ("noise_scale", "live_noise_scale"):
            scale = getattr(self, name)
            if scale is not None and (set(scale) != {"lips", "face", "pose"} or min(scale.values()) < 0):
                raise ModaError(f"generator config: {name} is {scale}, needs lips, face and pose, 0 or more")

    @property
    def motion_space(self) -> Space:
        return find_space(self.space)

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def hidden(self) -> int:
        """Hidden width of the blocks' MLPs."""
        return int(self.width * self.mlp_ratio)

    @property
    def stride(self) -> int:
        """Frames by which one segment starts after the other."""
        return self.segment - self.overlap

    @property
    def no_emotion(self) -> int:
        """The table's row for "no emotion given", which guidance also uses."""
        return len(self.emotions)

    def emotion(self, text: str | None) -> tuple[int, float]:
        """ "happiness", "happiness:0.6" or None -> row of the table, intensity 0..1.

        Errors: a ModaError that lists the names, or tells the intensity.
        """
        name, intensity = parse_emotion(text)
        if name is None or name == "none":
            return self.no_emotion, 1.0
        if name not in self.emotions:
            raise ModaError(
                f"there is no emotion {name!r}; this model knows {', '.join(self.emotions)}, none"
            )
        return self.emotions.index(name), intensity

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> ModelConfig:
        """Errors: ModaError naming the field that is missing, unknown or wrong."""
        return validation.from_dict(cls, values, "generator config")

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        return validation.from_json(cls, text, "generator config")


# "TalkingHeadDiT-B", the checkpoint that MoDA's authors published (arXiv 2507.03256)
PUBLISHED = ModelConfig(
    space="liveportrait",
    width=768,
    heads=12,
    mlp_ratio=4,
    depths=(3, 6, 12),
    audio_layers=12,
    audio_width=768,
    audio_hidden=768,
    motion_dim=70,
    identity_dim=63,
    emotions=EMOTIONS,
    segment=80,
    overlap=16,
    steps=10,
    guidance=1.2,
    noise_scale={"lips": 1.0, "face": 1.0, "pose": 1.0},
    rest_frames=50,
)
