"""Training of the speech encoder: one trunk, three things to tell."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from moda.audio.mel import BANDS, PER_FRAME
from moda.audio.speech import SILENCE, SpeechConfig, SpeechNet
from moda.training.speech.augment import augment
from moda.training.speech.corpora import SHAPES, Clip
from moda.training.speech.judge import gap, hear
from moda.training.speech.phones import CLASSES, ID
from moda.training.speech.teacher import spoken

log = logging.getLogger(__name__)

NET = SpeechConfig(
    stem=96, width=192, behind=(1, 1, 2, 4, 8, 1, 2, 4), ahead=(1, 1, 1, 1, 1, 0, 0, 0),
    hidden=96, phones=len(CLASSES), shapes=len(SHAPES),
)  # fmt: skip


@dataclass
class Plan:
    """Everything that a run is made of besides its data."""

    steps: int = 4400
    rate: float = 2e-3
    seconds: float = 5.0  # of each example
    # examples of each corpus in a batch; "real" and "made" are speech without a face, "quiet" is silence and noise
    counts: dict[str, int] = field(
        default_factory=lambda: {"video": 2, "shapes": 1, "real": 5, "made": 2, "quiet": 1}
    )
    weights: dict[str, float] = field(default_factory=lambda: {"lips": 1.0, "shapes": 0.3, "sounds": 0.7})
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
        shapes = np.concatenate([c.shapes for c in corpora["shapes"]])
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

    def again_from(self, step: int) -> None:
        """A run that goes on draws other windows than it began with."""
        self.rng = np.random.default_rng((self.plan.seed, step))
        self.torch_rng = torch.Generator().manual_seed(self.plan.seed + step)

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
                    if self.rng.random() < 0.7:  # noise of any level and colour; else digital silence
                        level, slope = self.rng.uniform(-15, -5), self.rng.uniform(-3, 1)
                        grain = np.log(self.rng.gamma(2.0, 0.5, mel.shape) + 1e-3)
                        mel = np.maximum(SILENCE, level + slope * np.linspace(0, 1, BANDS) + grain).astype(
                            np.float32
                        )
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
                        shape[a - start : b - start] = (
                            clip.shapes[a:b] - self.scales.shapes_mean
                        ) / self.scales.shapes
                    if clip.sounds is not None:
                        sound[2 * (a - start) : 2 * (b - start)] = clip.sounds[2 * a : 2 * b]
                for values, value in ((mels, mel), (lips, lip), (shapes, shape), (sounds, sound)):
                    values.append(value)
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
    checkpoint, done = out / "last.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        done = state["step"]
        batches.again_from(done)
        torch.manual_seed(plan.seed + done)
    began, running = time.time(), {}
    net.train()
    for step in range(done + 1, plan.steps + 1):
        rate = (
            plan.rate * min(1, step / 60) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / plan.steps)))
        )
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
        last = step == plan.steps
        if step % 100 == 0 or last:
            found = check(average, scales) if check and (step % 300 == 0 or last) else {}
            numbers = {k: round(v, 4) for k, v in {**running, **found}.items()}
            line = {"step": step, "seconds": round(time.time() - began), **numbers}
            log.info("%s", line)
            with open(out / "log.jsonl", "a") as file:
                file.write(json.dumps(line) + "\n")
        if step % 300 == 0 or last:
            state = {
                "net": net.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
            }
            torch.save(state, f"{checkpoint}.part")
            os.replace(f"{checkpoint}.part", checkpoint)
    return average.eval(), scales


@torch.no_grad()
def finish(net: SpeechNet, scales: Scales, speech: list[Clip], filmed: list[Clip]) -> None:
    """Set the buffers that features and lips are scaled by.

    speech: real speech without a face, whose voices are strangers to the lips' head.
    filmed: videos as recorded; `lip_gain` makes the told gap vary over strangers as it does over these people.
    """
    hidden = [hear(net, clip.mel)[0] for clip in speech[::4]]
    told = [net.lips(h).numpy() * scales.lips for h in hidden]
    hidden = torch.cat(hidden)
    net.hidden_mean.copy_(hidden.mean(0))
    net.hidden_std.copy_(hidden.std(0).clamp_min(0.5 * float(hidden.std(0).median())))  # rare ones stay small
    net.lip_scale.copy_(torch.from_numpy(scales.lips))
    net.lip_mean.copy_(torch.from_numpy(np.concatenate(told).mean(0)))
    seen = np.average([np.nanstd(gap(c.lips)[spoken(c)]) for c in filmed], weights=[len(c) for c in filmed])
    net.lip_gain.fill_(seen / np.mean([gap(t).std() for t in told]))
    log.info("lips are enlarged by %.2f", net.lip_gain.item())
