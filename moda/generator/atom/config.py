"""What a member of AToM's family is: its sizes, its mends and how it is sampled."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from moda import validation
from moda.errors import ModaError
from moda.motion.space import Space
from moda.motion.space import space as find_space

Positive = Annotated[int, Field(gt=0)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class AtomConfig:
    """There are no defaults: a config file says everything.

    space:         what the motion numbers mean (moda.motion.space)
    frames, hop:   F frames sampled at once; windows of longer sound start every `hop`
    width, heads, hidden: D, the attention heads, hidden width of the encoders' MLPs
    encoder_layers, layers: of each condition's encoder, of the decoder
    audio_width, audio_tokens: width of an audio feature, and how many there are a frame
    dropout, condition_dropout: in training
    steps, guidance, eta, bound: of sampling; bound: centimeters that a point moves at most, in each coordinate
    aligned:       audio token k lies at k / audio_tokens among the frames (published: at k)
    separate:      lips are conditioned by audio and face, the upper face by the face alone (published: both by
                   both, the face counted twice)
    residual:      decoder layers keep their input (published: they do not)

    Errors: ModaError that names the field, its value and what it has to agree with.
    """

    space: str
    frames: Positive
    hop: Positive
    width: Positive
    heads: Positive
    hidden: Positive
    encoder_layers: Positive
    layers: Positive
    audio_width: Positive
    audio_tokens: Positive
    dropout: Annotated[float, Field(ge=0, lt=1)]
    condition_dropout: Annotated[float, Field(ge=0, lt=1)]
    steps: Positive
    guidance: Annotated[float, Field(ge=1)]
    eta: Annotated[float, Field(ge=0, le=1)]
    bound: Annotated[float, Field(gt=0)]
    aligned: bool
    separate: bool
    residual: bool

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ModaError(f"AToM config: width {self.width} does not divide into {self.heads} even heads")
        if not self.frames // 2 <= self.hop <= self.frames:
            raise ModaError(
                f"AToM config: hop is {self.hop}, but must lie between half the {self.frames} frames and all of them"
            )
        _ = self.motion_space

    @property
    def motion_space(self) -> Space:
        return find_space(self.space)

    @property
    def numbers(self) -> int:
        """Of a frame: every point's x, y, z."""
        return 3 * self.motion_space.keypoints

    @property
    def tokens(self) -> int:
        """Audio features of a window."""
        return self.frames * self.audio_tokens

    # What every generator's config says, of one that knows no emotions and whose frames are final as they come.
    @property
    def emotions(self) -> tuple[str, ...]:
        return ()

    @property
    def rest_frames(self) -> int:
        return 0

    @property
    def stride(self) -> int:
        return self.hop

    def emotion(self, text: str | None) -> tuple[int, float]:
        """Errors: ModaError for any emotion."""
        if text not in (None, "none"):
            raise ModaError(f"there is no emotion {text!r}; this model knows none")
        return 0, 1.0

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> AtomConfig:
        """Errors: ModaError naming the field that is missing, unknown or wrong."""
        return validation.from_dict(cls, values, "AToM config")
