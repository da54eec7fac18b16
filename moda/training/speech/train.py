"""Training of the speech encoder: one trunk, three things to tell."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from moda.audio.mel import BANDS, PER_FRAME
from moda.audio.speech import SILENCE, SpeechConfig, SpeechNet
from moda.training.speech.augment import augment
from moda.training.speech.corpora import SHAPES, Clip
from moda.training.speech.phones import CLASSES, ID

log = logging.getLogger(__name__)

NET = SpeechConfig(
    stem=96, width=192, behind=(1, 1, 2, 4, 8, 1, 2, 4), ahead=(1, 1, 1, 1, 1, 0, 0, 0),
    hidden=96, phones=len(CLASSES), shapes=len(SHAPES),
)  # fmt: skip


@dataclass
class Plan:
    """Everything that a run is made of besides its data."""

    steps: int = 1500
    rate: float = 2e-3
    seconds: float = 4.0  # of each example
    counts: dict[str, int] = field(default_factory=lambda: {"video": 4, "shapes": 3, "sounds": 8, "quiet": 1})
    weights: dict[str, float] = field(default_factory=lambda: {"lips": 1.0, "shapes": 0.3, "sounds": 0.5})
    dropout: float = 0.1
    decay: float = 0.02
    seed: int = 0


@dataclass
class Scales:
    """What the heads' numbers are multiplied by: one number a lip coordinate; mean and one number a blendshape."""

    lips: np.ndarray  # (33,)
    shapes_mean: np.ndarray
    shapes: np.ndarray

    @classmethod
    def of(cls, corpora: dict[str, list[Clip]]) -> Scales:
        lips = np.concatenate([c.lips for c in corpora["video"]])
        shapes = np.concatenate([c.shapes for c in corpora["shapes"]]) if corpora.get("shapes") else np.zeros((2, len(SHAPES)))
        # never under a fifth of the largest: the flattest coordinates are mostly noise
        lips = np.nanstd(lips, axis=0)
        lips = np.maximum(lips, 0.2 * lips.max())
        return cls(lips.astype(np.float32), np.nanmean(shapes, 0), np.nanstd(shapes, 0) + 1e-3)


class Batches:
    """Random windows of the clips, augmented; what is unknown is NaN or -1."""

    def __init__(self, corpora: dict[str, list[Clip]], plan: Plan, scales: Scales) -> None:
        self.corpora, self.plan, self.scales = corpora, plan, scales
        self.rng = np.random.default_rng(plan.seed)
        self.torch_rng = torch.Generator().manual_seed(plan.seed)
        self.frames = round(plan.seconds * 25)
        self.odds = {k: np.array([len(c) for c in v], float) / sum(map(len, v)) for k, v in corpora.items()}

    def __call__(self) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        before, after = NET.context
        n = self.frames
        mels, lips, shapes, sounds = [], [], [], []
        for kind, count in self.plan.counts.items():
            if kind != "quiet" and not self.corpora.get(kind):
                continue
            for _ in range(count):
                mel = np.full(((before + n + after) * PER_FRAME, BANDS), SILENCE, np.float32)
                lip = np.full((n, 33), np.nan, np.float32)
                shape = np.full((n, len(SHAPES)), np.nan, np.float32)
                sound = np.full(2 * n, -1, np.int64)
                if kind == "quiet":
                    lip[:], sound[:] = 0, ID["sil"]
                else:
                    clips = self.corpora[kind]
                    clip = clips[self.rng.choice(len(clips), p=self.odds[kind])]
                    # The window may begin before the clip and end after it: silence there, as in use.
                    start = int(self.rng.integers(-n // 8, max(1, len(clip) - n + n // 8)))
                    a, b = max(0, start - before), min(len(clip), start + n + after)
                    mel[(a - start + before) * PER_FRAME : (b - start + before) * PER_FRAME] = clip.mel[
                        a * PER_FRAME : b * PER_FRAME
                    ]
                    a, b = max(0, start), min(len(clip), start + n)
                    if clip.lips is not None:
                        lip[a - start : b - start] = clip.lips[a:b] / self.scales.lips
                    if clip.shapes is not None:
                        shape[a - start : b - start] = (clip.shapes[a:b] - self.scales.shapes_mean) / self.scales.shapes
                    if clip.sounds is not None:
                        sound[2 * (a - start) : 2 * (b - start)] = clip.sounds[2 * a : 2 * b]
                mels.append(mel), lips.append(lip), shapes.append(shape), sounds.append(sound)
        mel = augment(torch.from_numpy(np.stack(mels)), self.torch_rng)
        quiet = self.plan.counts.get("quiet", 0)
        if quiet and self.rng.random() < 0.3:
            mel[-quiet:] = SILENCE  # digital silence, untouched
        known = {"lips": np.stack(lips), "shapes": np.stack(shapes), "sounds": np.stack(sounds)}
        return mel, {k: torch.from_numpy(v) for k, v in known.items()}


def losses(net: SpeechNet, mel: torch.Tensor, known: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    hidden = net(mel)
    out = {}
    for name, head in (("lips", net.lips), ("shapes", net.shapes)):
        told, want = head(hidden), known[name]
        seen = ~torch.isnan(want)
        out[name] = (told - want)[seen].square().mean() if seen.any() else torch.zeros(())
    told = net.phones(hidden).reshape(len(mel), -1, len(CLASSES))
    out["sounds"] = F.cross_entropy(
        told.flatten(0, 1), known["sounds"].flatten(), ignore_index=-1, label_smoothing=0.05
    )
    return {k: torch.nan_to_num(v) for k, v in out.items()}


def train(corpora: dict[str, list[Clip]], plan: Plan, out: Path, check=None) -> tuple[SpeechNet, Scales]:
    """`check(net, scales)` is called now and then and returns numbers to log. A run that was cut off goes on."""
    torch.manual_seed(plan.seed)
    scales = Scales.of(corpora)
    batches = Batches(corpora, plan, scales)
    net = SpeechNet(NET, plan.dropout)
    average = SpeechNet(NET)  # exponential mean of the weights: what is kept
    average.load_state_dict(net.state_dict())
    optimiser = torch.optim.AdamW(net.parameters(), lr=plan.rate, weight_decay=plan.decay, betas=(0.9, 0.98))
    checkpoint, step = out / "last.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"]), average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step = state["step"]
        batches.torch_rng.manual_seed(plan.seed + step), torch.manual_seed(plan.seed + step)
        batches.rng = np.random.default_rng((plan.seed, step))
    began, running = time.time(), {}
    net.train()
    for step in range(step + 1, plan.steps + 1):
        rate = plan.rate * min(1, step / 60) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / plan.steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        mel, known = batches()
        parts = losses(net, mel, known)
        optimiser.zero_grad()
        sum(plan.weights[k] * v for k, v in parts.items()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        keep = min(0.99, step / (step + 10))
        with torch.no_grad():
            for a, b in zip(average.parameters(), net.parameters()):
                a.lerp_(b, 1 - keep)
        for k, v in parts.items():
            running[k] = running.get(k, v.item()) * 0.98 + v.item() * 0.02
        if step % 100 == 0 or step == plan.steps:
            found = check(average, scales) if check and (step % 300 == 0 or step == plan.steps) else {}
            line = {"step": step, "seconds": round(time.time() - began), **{k: round(v, 4) for k, v in {**running, **found}.items()}}
            log.info("%s", line)
            with open(out / "log.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")
        if step % 300 == 0:
            state = {"net": net.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
            torch.save(state, f"{checkpoint}.part")
            os.replace(f"{checkpoint}.part", checkpoint)
    return average.eval(), scales
