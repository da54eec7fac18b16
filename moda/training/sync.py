"""The lip-sync expert's training: `"task": "sync"`. Sound and mouth of the same moment against all other moments.

The loss is InfoNCE both ways (van den Oord et al., arXiv 1807.03748): of a batch's windows, several of each clip, a
sound has to find its mouth and a mouth its sound. Windows of one clip are what teaches time; other people's, the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from moda.audio.speech import EMBEDDED, SpeechEncoder
from moda.errors import ModaError
from moda.evaluation.sync import (
    MOUTH,
    SyncConfig,
    SyncExpert,
    SyncNet,
    mark_of,
    save_net,
    sound_of,
    sound_size,
)
from moda.generator.statistics import EPSILON, Statistics
from moda.motion import Motion
from moda.training.dataset import items
from moda.training.run import Run

FURTHER = 3  # frames that two windows of a clip are apart at least


class SyncRunConfig(Run):
    """A lip-sync expert's run; in its model/ lie sync.json and sync.safetensors."""

    task: Literal["sync"]
    data: list[Path] = Field(min_length=1, description="datasets, as `moda data prepare` writes them")
    encoder: Path | None = Field(None, description="folder of the speech encoder; none: the embedded one")
    hold_out: list[str] = Field([], description="people to validate with instead")
    window: int = Field(13, ge=7, description="frames that are seen together")
    sound_width: int = Field(96, gt=0)
    mouth_width: int = Field(64, gt=0)
    dims: int = Field(64, gt=0, description="of the embeddings")
    each: int = Field(8, gt=1, description="windows of a clip in a batch")
    sound_noise: float = Field(
        0.3, ge=0, description="deviation of noise on the sound, which has about 1 itself"
    )


class Pair:
    """One clip in time: sound (T, sound), lips (T, 33)."""

    def __init__(self, person: str, features: np.ndarray, sound: np.ndarray, motion: np.ndarray) -> None:
        self.person, self.features, self.sound = person, features, sound
        self.motion = motion
        self.lips = motion[:, :MOUTH].astype(np.float32)


class SyncModule(nn.Module):
    def __init__(self, config: SyncConfig) -> None:
        super().__init__()
        self.net = SyncNet(config)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """sound (B, window, S), mouth (B, window, 33)."""
        heard, seen = self.net.hear(batch["sound"])[:, 0], self.net.see(batch["mouth"])[:, 0]
        alike = self.net.sharpness.exp().clamp(max=50) * heard @ seen.T
        same = torch.arange(len(alike), device=alike.device)
        return {"sync": (F.cross_entropy(alike, same) + F.cross_entropy(alike.T, same)) / 2}


class SyncTask:
    """See moda.training.trainer.Task."""

    weights = {"sync": 1.0}

    def __init__(
        self, run: SyncRunConfig, known: list[Pair], held: list[Pair], encoder: SpeechEncoder, mark: str
    ) -> None:
        self.run, self.held, self.encoder = run, held, encoder
        self.config = SyncConfig(
            run.window, sound_size(encoder), run.sound_width, run.mouth_width, run.dims, mark
        )
        self.known = [p for p in known if len(p.lips) >= run.window + run.each * FURTHER]
        if not self.known:
            raise ModaError("no clip is long enough to learn lip sync from")
        # Everyone weighs by the root of their minutes.
        people = np.array([p.person for p in self.known])
        chance = np.array([len(p.lips) for p in self.known], np.float64)
        for person in set(people):
            chance[people == person] *= chance[people == person].sum() ** -0.5
        self.chance = chance / chance.sum()
        self.module = SyncModule(self.config)

    def example(self, random: np.random.Generator) -> dict[str, np.ndarray]:
        """`each` windows of one clip; the mouth moves more or less than it did, and rests elsewhere."""
        pair = self.known[random.choice(len(self.known), p=self.chance)]
        window, each = self.run.window, self.run.each
        room = len(pair.lips) - window - (each - 1) * FURTHER
        starts = np.sort(random.integers(0, room + 1, each)) + FURTHER * np.arange(each)
        rows = starts[:, None] + np.arange(window)
        lips = pair.lips[rows] * random.uniform(0.6, 1.5)
        lips = lips + 0.03 * random.standard_normal(MOUTH) + 0.004 * random.standard_normal(lips.shape)
        noise = self.run.sound_noise * random.standard_normal((each, window, self.config.sound))
        return {"sound": (pair.sound[rows] + noise).astype(np.float32), "mouth": lips.astype(np.float32)}

    def collate(self, examples: list[dict[str, np.ndarray]], random: torch.Generator) -> dict[str, Tensor]:
        return {k: torch.from_numpy(np.concatenate([e[k] for e in examples])) for k in examples[0]}

    def validate(self, module: nn.Module) -> dict[str, float]:
        """On people not trained on: their clips' distance, confidence, how many offsets are found within a frame, and
        the confidence with another clip's sound, which should be none."""
        assert isinstance(module, SyncModule)
        expert = SyncExpert(module.net, self.encoder)
        found: dict[str, list[float]] = {
            "distance": [],
            "confidence": [],
            "in_time": [],
            "confidence_wrong": [],
        }
        for i, pair in enumerate(self.held):
            motion = Motion.from_array(pair.motion)
            right = expert.judge(pair.features, motion)
            if right:
                found["distance"].append(right.distance)
                found["confidence"].append(right.confidence)
                found["in_time"].append(float(abs(right.offset) <= 1))
            wrong = expert.judge(self.held[i - 1].features, motion)
            if wrong and len(self.held) > 1:
                found["confidence_wrong"].append(wrong.confidence)
        return {k: float(np.mean(v)) for k, v in found.items() if v}

    def export(self, module: nn.Module, folder: Path) -> Path:
        assert isinstance(module, SyncModule)
        return save_net(module.net, folder)


class SyncLoss(nn.Module):
    """The lip-sync expert's opinion of lips that are still normalized: mean distance to their sound, 0 to 2."""

    mean: Tensor
    std: Tensor

    def __init__(self, expert: SyncNet, statistics: Statistics) -> None:
        super().__init__()
        self.expert = expert.eval().requires_grad_(False)
        mean, std = statistics.mean[:MOUTH], statistics.std[:MOUTH] + EPSILON
        self.register_buffer("mean", torch.as_tensor(mean).float(), persistent=False)
        self.register_buffer("std", torch.as_tensor(std).float(), persistent=False)

    def forward(self, lips: Tensor, audio: Tensor, known: Tensor) -> Tensor:
        """lips (B, N, 33) normalized, audio (B, N, layers, width), known (B, N): of windows that are known throughout."""
        config = self.expert.config
        heard = self.expert.hear(audio[:, :, 0, : config.sound])
        seen = self.expert.see(lips * self.std + self.mean)
        whole = known.unfold(1, config.window, 1).amin(-1)
        distance = ((heard - seen).square().sum(-1) + 1e-8).sqrt()
        return (distance * whole).sum() / whole.sum().clamp_min(1)


def pairs_of(folders: list[Path], encoder: SpeechEncoder) -> list[Pair]:
    """The datasets' filmed faces, sound and picture brought in time."""
    pairs = []
    for item in items(folders):
        if item.lips_only:
            continue
        features = np.concatenate(list(encoder.encode([item.wave])))
        n = min(len(features), len(item.motion))
        features = features[max(0, -item.lag) : n - max(0, item.lag)]
        motion = item.motion[max(0, item.lag) : n - max(0, -item.lag)]
        pairs.append(Pair(item.person, features, sound_of(features, encoder), motion))
    return pairs


def task_of(run: SyncRunConfig) -> SyncTask:
    """The run's data and network."""
    folder = run.encoder or EMBEDDED
    encoder = SpeechEncoder.load(folder)
    pairs = pairs_of(run.data, encoder)
    if strangers := sorted(set(run.hold_out) - (people := {p.person for p in pairs})):
        raise ModaError(
            f"hold_out names {', '.join(strangers)}, but the datasets have {', '.join(sorted(people))}"
        )
    known = [p for p in pairs if p.person not in run.hold_out]
    return SyncTask(run, known, [p for p in pairs if p.person in run.hold_out], encoder, mark_of(folder))
