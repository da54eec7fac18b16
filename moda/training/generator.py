"""The generator's training: flow matching on windows of motion. See moda.training.trainer.Task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from moda.constants import MOTION_DIM
from moda.errors import ModaError
from moda.evaluation.metrics import correlation, describe
from moda.evaluation.sync import SyncNet
from moda.generator.config import ModelConfig
from moda.generator.flow import TIMES, pair_of
from moda.generator.generator import Generator
from moda.generator.model import MotionTransformer
from moda.generator.statistics import EPSILON, Statistics
from moda.motion import Motion, join
from moda.motion.explicit import lip_gap
from moda.training.sync import SyncLoss
from moda.training.windows import MOUTH_DIMS, Window, Windows, statistics

PARTS = ("mouth", "face", "pose", "change")
SHORTEST = 48  # frames of the live scheme's windows; whole ones are config.segment long


class GeneratorConfig(BaseModel):
    """What the generator's training is besides the trainer's numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    real_part: float = Field(
        0.5, ge=0, le=1, description="part of the windows that come from clips as they are"
    )
    own_lips: float = Field(
        0.0, ge=0, le=1, description="how far a clip's lips are its own, instead of the encoder's"
    )
    audio_noise: float = Field(
        0.1, ge=0, description="deviation of noise on the features, which have about 1 themselves"
    )
    audio_dropout: float = Field(
        0.1, ge=0, le=1, description="part of the windows without sound, for guidance"
    )
    emotion_dropout: float = Field(0.1, ge=0, le=1, description="part of the windows without their emotion")
    reflow_steps: int = Field(
        0,
        ge=0,
        description="above 0: learn from noise and what the initial model makes of it in so many steps, so that few do",
    )
    reflow_liveliness: float = Field(
        1.0,
        gt=0,
        description="what the noise is multiplied by before the initial model makes motion of it; more is livelier",
    )
    mouth_weight: float = Field(3.0, ge=0)
    face_weight: float = Field(1.0, ge=0)
    pose_weight: float = Field(1.0, ge=0)
    change_weight: float = Field(0.5, ge=0, description="of the error's change from frame to frame")
    sync_weight: float = Field(
        0.0,
        ge=0,
        description="of the lip-sync expert's distance between the sound and the lips made (moda.training.sync)",
    )

    @model_validator(mode="after")
    def _something_is_learned(self) -> GeneratorConfig:
        names = [f"{name}_weight" for name in PARTS]
        if not any(getattr(self, name) for name in names):
            raise ValueError(f"one of {', '.join(names)} has to be above 0")
        return self


class FlowModule(nn.Module):
    """The network with its losses: mean squared error of the velocity by part of the face, and of its change."""

    def __init__(self, config: ModelConfig, sync: SyncLoss | None = None) -> None:
        super().__init__()
        self.model = MotionTransformer(config)
        self.sync = (sync,) if sync else ()  # in a tuple: the expert is no part of what is trained and stored
        self.groups = {
            "mouth": list(range(MOUTH_DIMS)),
            "face": list(range(MOUTH_DIMS, MOTION_DIM - 7)),
            "pose": list(range(MOTION_DIM - 7, MOTION_DIM)),
        }

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        previous, x_t = batch["previous"], batch["x_t"]
        seen = torch.cat([previous[:, None].expand_as(x_t), x_t], dim=-1)
        audio = self.model.without_audio(batch["audio"], batch["without"])
        velocity = self.model(seen, batch["time"], audio, batch["emotion"], batch["identity"])
        error = (velocity.float() - batch["target"]) * batch["known"][..., None]
        frames = batch["known"].sum().clamp_min(1)
        parts = {
            name: error[..., dims].square().sum() / (frames * len(dims)) for name, dims in self.groups.items()
        }
        change = batch["sigma"] * error.diff(dim=1)
        parts["change"] = change.square().sum() / (frames * error.shape[-1])
        for judge in self.sync:
            # x_t = x_0 + sigma v: what the velocity says of the motion; late in sampling it says it best
            made = (x_t - batch["sigma"] * velocity.float())[..., :MOUTH_DIMS]
            sure = batch["known"] * (batch["sigma"][..., 0] < 0.5)
            parts["sync"] = judge.to(made.device)(made, batch["audio"], sure * ~batch["without"][:, None])
        return parts


class GeneratorTask:
    def __init__(
        self,
        windows: Windows,
        config: GeneratorConfig,
        encoder: Path,
        held: list,
        seed: int = 0,
        initial: Generator | None = None,
        expert: SyncNet | None = None,
    ) -> None:
        """encoder: the folder that it is read from. held: Clips of people that are not trained on, to validate with.
        initial: a generator to go on from, whose statistics are kept. expert: what sync_weight asks."""
        self.windows, self.config, self.encoder, self.held = windows, config, encoder, held
        self.model_config = windows.config
        if initial:
            self.statistics = initial.statistics
        else:
            self.statistics = Statistics(*statistics(windows, np.random.default_rng(seed)))
        if bool(config.sync_weight) != bool(expert):
            raise ModaError("a lip-sync expert and sync_weight go together")
        self.module = FlowModule(windows.config, SyncLoss(expert, self.statistics) if expert else None)
        if initial:
            self.module.model.load_state_dict(initial.model.state_dict())
        self.mean, self.std = (
            torch.from_numpy(a) for a in (self.statistics.mean, self.statistics.std + EPSILON)
        )
        self.weights = {name: getattr(config, f"{name}_weight") for name in PARTS + ("sync",)}
        if config.reflow_steps and not initial:
            raise ModaError("reflow_steps needs an initial model, whose motions are learned from")
        self.teacher = initial.model if initial and config.reflow_steps else None

    def example(self, random: np.random.Generator) -> Window:
        return self.windows.draw(random)

    def collate(self, examples: list[Window], random: torch.Generator) -> dict[str, Tensor]:
        """Windows of one length between SHORTEST and the whole segment, which are noised, and conditions left out."""
        config, whole = self.config, self.model_config.segment
        n = whole
        if whole > SHORTEST and torch.rand((), generator=random) < 0.4:
            n = int(torch.randint(SHORTEST, whole + 1, (), generator=random))
        motion = self._normal([w.motion[:n] for w in examples])
        previous = self._normal([w.previous for w in examples])
        audio = torch.from_numpy(np.stack([w.features[:n] for w in examples]))
        identity = torch.from_numpy(np.stack([w.identity for w in examples]))
        without = torch.rand(len(examples), generator=random) < config.audio_dropout
        no_emotion = torch.rand(len(examples), generator=random) < config.emotion_dropout
        emotion = torch.tensor([w.emotion for w in examples])
        batch = {
            "previous": previous + 0.05 * torch.randn(previous.shape, generator=random),
            "audio": audio + config.audio_noise * torch.randn(audio.shape, generator=random),
            "without": without,
            # Where sound and emotion are both left out is what guidance starts from.
            "emotion": torch.where(no_emotion | without, self.model_config.no_emotion, emotion),
            "identity": identity + 0.02 * torch.randn(identity.shape, generator=random),
            "known": torch.from_numpy(np.stack([w.known[:n] for w in examples])).float(),
        }
        noise = torch.randn(motion.shape, generator=random)
        if self.teacher is not None:
            motion = self._reflowed(batch, noise, motion)
        pair = pair_of(motion, noise, torch.rand(len(motion), generator=random))
        return batch | {"x_t": pair.x_t, "time": pair.time, "target": pair.target, "sigma": pair.sigma}

    @torch.no_grad()
    def _reflowed(self, batch: Mapping[str, Tensor], noise: Tensor, motion: Tensor) -> Tensor:
        """What the initial model makes of the noise; the lips, which the sound decides, stay as they should be.

        Source: rectified flow's reflow, Liu et al., arXiv 2209.03003.
        """
        assert self.teacher is not None
        audio = self.teacher.without_audio(batch["audio"], batch["without"])
        tokens = self.teacher.tokens(audio, batch["emotion"], batch["identity"])
        previous = batch["previous"][:, None].expand_as(noise)
        x, sigmas = (
            self.config.reflow_liveliness * noise,
            torch.linspace(1, 0, self.config.reflow_steps + 1).tolist(),
        )
        for sigma, below in zip(sigmas, sigmas[1:]):
            time = torch.full((len(x),), TIMES * sigma)
            modulation = self.teacher.modulation(time, self.teacher.emotion_embedder(batch["emotion"]))
            x = x + (below - sigma) * self.teacher.velocity(
                torch.cat([previous, x], dim=-1), tokens, modulation
            )
        return torch.cat([motion[..., :MOUTH_DIMS], x[..., MOUTH_DIMS:]], dim=-1)

    def _normal(self, arrays: list[np.ndarray]) -> Tensor:
        return (torch.from_numpy(np.stack(arrays)).float() - self.mean) / self.std

    def validate(self, module: nn.Module) -> dict[str, float]:
        """On people not trained on, as the model would be used: r of the lips' gap, and how heads and eyes move."""
        assert isinstance(module, FlowModule)
        generator = Generator(module.model.eval(), self.statistics)
        scores, made = [], []
        for clip in self.held:
            start = Motion.still(1, self.model_config.space)
            pieces = generator.stream([clip.features.astype(np.float32)], clip.identity, start, seed=0)
            motion = join(list(pieces))
            scores.append(correlation(lip_gap(motion.exp), lip_gap(Motion.from_array(clip.motion).exp))[0])
            made.append(describe(motion))
        module.train()
        found = {"gap_r": float(np.mean(scores))} if scores else {}
        return found | {k: float(np.mean([m[k] for m in made])) for k in (made[0] if made else {})}

    def export(self, module: nn.Module, folder: Path) -> Path:
        """Write the model folder that `--model` takes."""
        from moda.weights.load import save_model

        assert isinstance(module, FlowModule)
        return save_model(folder, module.model, self.statistics, self.encoder)
