"""What a member of the model family is: its sizes, its conditions and how it is sampled."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields

from moda.constants import KEYPOINTS, MOTION_DIM
from moda.errors import ModaError
from moda.motion.motion import SPACES

EMOTIONS = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")

# The keypoints that speech moves, by space; the rest of the expression is "face", the last 7 numbers "pose".
LIP_KEYPOINTS = {"explicit": tuple(range(11)), "liveportrait": (6, 12, 14, 17, 19, 20)}
POSE_DIM = MOTION_DIM - 3 * KEYPOINTS


@dataclass(frozen=True)
class ModelConfig:
    """One member of the family. There are no defaults: a config file says everything.

    space:         what the motion numbers mean (moda.motion.SPACES)
    width, heads:  D and the attention heads; D / heads must be even (rotary pairs)
    mlp_ratio:     hidden width of every block's MLP, in D
    depths:        how many four-stream, two-stream and single-stream blocks
    audio_layers, audio_width: an audio feature is (layers, width) numbers a frame
    audio_hidden:  width of the audio embedder's two hidden layers
    motion_dim, identity_dim:  numbers a frame of motion, numbers of the identity
    emotions:      names of the labels; one more row of the table means "none"
    segment, overlap: frames sampled at once, and how many of them meet the next segment
    steps, guidance:  what sampling uses unless told otherwise
    noise_scale:   standard deviation of the starting noise for the numbers of "lips", "face" and "pose".
                   1 samples the learned distribution; less gives its likelier, calmer part.
    rest_frames:   frames of silence that the features end with; they give the rest pose for the post-step
                   (moda.generator.post) and are then cut off; 0: no post-step

    Errors: ModaError that names the field, its value and what it has to agree with.
    """

    space: str
    width: int
    heads: int
    mlp_ratio: float
    depths: tuple[int, int, int]
    audio_layers: int
    audio_width: int
    audio_hidden: int
    motion_dim: int
    identity_dim: int
    emotions: tuple[str, ...]
    segment: int
    overlap: int
    steps: int
    guidance: float
    noise_scale: dict[str, float]
    rest_frames: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(self.depths))
        object.__setattr__(self, "emotions", tuple(self.emotions))
        if self.space not in SPACES:
            raise ModaError(
                f"generator config: space is {self.space!r}, but must be one of {', '.join(SPACES)}"
            )
        for name in ("width", "heads", "mlp_ratio", "audio_layers", "audio_width", "audio_hidden",
                     "motion_dim", "identity_dim", "segment", "steps"):  # fmt: skip
            if not getattr(self, name) > 0:
                raise ModaError(f"generator config: {name} is {getattr(self, name)}, but must be above 0")
        if self.width % (2 * self.heads):
            raise ModaError(
                f"generator config: width {self.width} over {self.heads} heads gives heads of "
                f"{self.width / self.heads:g}, but rotary pairs need an even whole number"
            )
        if len(self.depths) != 3 or min(self.depths) < 0 or sum(self.depths) < 1:
            raise ModaError(
                f"generator config: depths is {list(self.depths)}, but must be three counts "
                "(four-stream, two-stream, single-stream blocks)"
            )
        if not 0 <= self.overlap <= self.segment // 2:
            raise ModaError(
                f"generator config: overlap is {self.overlap}, but must lie between 0 and half the segment "
                f"of {self.segment} frames"
            )
        if set(self.noise_scale) != {"lips", "face", "pose"} or min(self.noise_scale.values()) < 0:
            raise ModaError(
                f"generator config: noise_scale is {self.noise_scale}, needs lips, face and pose, 0 or more"
            )
        if self.rest_frames < 0:
            raise ModaError(f"generator config: rest_frames is {self.rest_frames}, but must be 0 or more")

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

    def emotion_index(self, name: str | None) -> int:
        """Row of an emotion's name; None means no emotion. Errors: a ModaError that lists the names."""
        if name is None or name == "none":
            return self.no_emotion
        if name not in self.emotions:
            raise ModaError(
                f"there is no emotion {name!r}; this model knows {', '.join(self.emotions)}, none"
            )
        return self.emotions.index(name)

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> ModelConfig:
        """Errors: ModaError naming the missing and the unknown fields."""
        names = {f.name for f in fields(cls)}
        missing, unknown = names - set(values), set(values) - names
        if missing or unknown:
            problems = [
                f"{word} {', '.join(sorted(s))}"
                for word, s in (("lacks", missing), ("has unknown", unknown))
                if s
            ]
            raise ModaError(f"generator config: it {' and '.join(problems)}")
        return cls(**values)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ModaError(f"generator config: it is no JSON: {error}") from error
        if not isinstance(values, dict):
            raise ModaError("generator config: it is no JSON object")
        return cls.from_dict(values)


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
    motion_dim=MOTION_DIM,
    identity_dim=3 * KEYPOINTS,
    emotions=EMOTIONS,
    segment=80,
    overlap=16,
    steps=10,
    guidance=1.2,
    noise_scale={"lips": 1.0, "face": 1.0, "pose": 1.0},
    rest_frames=50,
)
