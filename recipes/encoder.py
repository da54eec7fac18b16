"""The speech encoder's training: a small network learns what Whisper's early layers hear, a voice, sounds and lips.

python -m recipes.encoder WORK CONFIG      writes WORK/(CONFIG's name): checkpoint, losses, model/net.pt
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.audio.mel import BANDS, FLOOR, HOP, PER_FRAME, WINDOW, LogMel
from moda.audio.speech_net import SILENCE, SpeechConfig, SpeechNet
from moda.constants import SAMPLES_PER_FRAME
from moda.training.trainer import Trainer, TrainerConfig, seeded
from recipes import augment

DIRECTIONS = 192
LENGTH = 192  # frames of an example that count
HANG = 4  # frames around a voice that still belong to it
NOISE_ALONE, NOISE_MIXED, BABBLE = 0.18, 0.5, 0.1  # parts of the examples
WHITE = 0.15  # part of the noises that is plain white


@dataclass
class Corpus:
    """sound (n,) int16 of all clips joined; ends (clips,) samples; targets of each frame, of which some are unknown.

    directions (T, D), lips (T, 33), voice (T,), sounds (2 T,) or None
    """

    sound: np.ndarray
    ends: np.ndarray
    directions: np.ndarray
    lips: np.ndarray
    voice: np.ndarray
    sounds: np.ndarray | None = None
    jaw: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.starts = np.concatenate([[0], self.ends[:-1]])


def voice_of(sound: np.ndarray) -> np.ndarray:
    """(n,) clean speech -> (n // 640,) 1 where there is a voice or it is less than HANG frames away."""
    from scipy.ndimage import maximum_filter1d, median_filter

    frames = sound[: len(sound) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME].astype(np.float32) / 32768
    level = 10 * np.log10(np.square(frames).reshape(-1, SAMPLES_PER_FRAME).mean(1) + 1e-9)
    loud = np.quantile(level, 0.95) if len(level) else 0
    active = median_filter((level > max(loud - 32, -62)).astype(np.uint8), 3)
    return maximum_filter1d(active, 2 * HANG + 1)


class Mel(nn.Module):
    """LogMel in torch, on a batch: (B, 640 T) sound -> (B, 4 T, 80)."""

    def __init__(self) -> None:
        super().__init__()
        mel = LogMel()
        self.register_buffer("window", torch.from_numpy(mel.window).float(), persistent=False)
        self.register_buffer("filters", torch.from_numpy(mel.filters).float(), persistent=False)

    def forward(self, sound: Tensor) -> Tensor:
        padded = F.pad(sound, (WINDOW // 2 - HOP // 2, WINDOW // 2 - HOP // 2))
        frames = padded.unfold(-1, WINDOW, HOP)
        power = torch.fft.rfft(frames * self.window, 512).abs().square()
        return (power @ self.filters + FLOOR).log()


class EncoderModule(nn.Module):
    """The network with its losses."""

    def __init__(self, config: SpeechConfig, weight: Tensor) -> None:
        super().__init__()
        self.net = SpeechNet(config)
        self.mel = Mel()
        self.register_buffer("weight", weight)  # of each direction

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            mel = self.mel(batch["sound"])
            power = (mel.exp() - FLOOR).clamp_min(0)
            power = augment.reverberate(power, batch["tail"])
            mel = (power * batch["color"].exp() + FLOOR).log()
            mel = torch.where(batch["masked"], mel.mean((1, 2), keepdim=True), mel)
        heard = self.net(mel)
        known = batch["known"][..., None]
        count = known.sum().clamp_min(1)
        directions = (heard.directions - batch["directions"]).square() * self.weight * known
        lips = (heard.lips - batch["lips"]).square()
        classes = batch["sounds"].long()
        told = (classes >= 0).sum().clamp_min(1)
        sounds = F.cross_entropy(
            heard.phones.flatten(0, 2).float(), classes.flatten(), ignore_index=-1, reduction="sum"
        )
        jaw_known = batch["jaw"].isfinite()
        jaw = torch.where(jaw_known, heard.jaw[..., 0] - batch["jaw"].nan_to_num(), 0).square().sum()
        return {
            "directions": directions.sum() / count / self.weight.numel(),
            "lips": lips.mean(),
            "voice": F.binary_cross_entropy_with_logits(heard.voice[..., 0].float(), batch["voice"]),
            "sounds": sounds / told,
            "jaw": jaw / jaw_known.sum().clamp_min(1),
        }


class EncoderTask:
    """See moda.training.trainer.Task."""

    weights = {"directions": 1.0, "lips": 1.0, "voice": 0.5, "sounds": 0.4, "jaw": 0.1}

    def __init__(self, work: Path, config: SpeechConfig) -> None:
        self.config = config
        targets = np.load(work / "targets.npz")
        self.scales = {k: targets[k] for k in ("deviation", "lip_scale", "lip_mean", "jaw_scale")}
        self.corpora = {name: load_corpus(work, name, targets) for name in ("speech", "phones")}
        self.parts = (("speech", 0.8), ("phones", 0.2))
        self.noise = noise_bank(work)
        deviation = self.scales["deviation"]
        self.module = EncoderModule(config, torch.from_numpy(deviation / deviation.mean()).float())
        self.held = {name: list(range(0, len(c.ends), 40)) for name, c in self.corpora.items()}
        self.known = {
            name: np.setdiff1d(np.arange(len(c.ends)), self.held[name]) for name, c in self.corpora.items()
        }
        # A folder's clips weigh by the root of its length: one reader's hours are not everything.
        self.chances = {name: self._chances(work, name) for name in self.corpora}
        self.video = _video(work)

    def _chances(self, work: Path, name: str) -> np.ndarray:
        names = np.load(work / name / "clips.npz")["names"][self.known[name]]
        folder = np.array([n.split("/")[0] for n in names])
        kinds, place, counts = np.unique(folder, return_inverse=True, return_counts=True)
        chance = counts[place] ** -0.5
        return chance / chance.sum()

    # -- examples -----------------------------------------------------------------------------------------

    def example(self, random: np.random.Generator) -> dict[str, np.ndarray]:
        behind, ahead = self.config.context
        name = self.parts[0][0] if random.random() < self.parts[0][1] else self.parts[1][0]
        corpus = self.corpora[name]
        clip = int(random.choice(self.known[name], p=self.chances[name]))
        item = cut(corpus, clip, behind, ahead, random)
        n = len(item["sound"])
        if random.random() < NOISE_ALONE:
            item["sound"] = self._noise(n, random) * 10 ** random.uniform(-3.2, -0.1)
            for key in ("directions", "lips", "voice"):
                item[key] = np.zeros_like(item[key])
            item["lips"] -= self.scales["lip_mean"] / self.scales["lip_scale"]
            item["known"] = np.zeros_like(item["known"])
            item["sounds"] = np.zeros_like(item["sounds"])
            item["jaw"] = np.full_like(item["jaw"], np.nan)
            return item
        level = float(np.sqrt(np.square(item["sound"]).mean()) + 1e-5)
        if random.random() < NOISE_MIXED:
            noise = self._noise(n, random)
            ratio = 10 ** (-random.uniform(-3, 26) / 20)
            item["sound"] = item["sound"] + noise * level * ratio / (np.sqrt(np.square(noise).mean()) + 1e-5)
        if random.random() < BABBLE:
            other = cut(corpus, int(random.choice(self.known[name])), behind, ahead, random)["sound"]
            item["sound"] = item["sound"] + 10 ** (-random.uniform(10, 25) / 20) * other
        gain = 10 ** (random.uniform(-25, 8) / 20)
        item["sound"] = np.clip(item["sound"] * gain, -1, 1).astype(np.float32)
        return item

    def _noise(self, n: int, random: np.random.Generator) -> np.ndarray:
        out = np.zeros(n, np.float32)
        if random.random() < WHITE:
            return (0.15 * random.standard_normal(n)).astype(np.float32)
        for _ in range(random.choice([1, 1, 2])):
            bank = self.noise[int(random.integers(len(self.noise)))]
            row = bank[int(random.integers(len(bank)))].astype(np.float32) / 32768
            start = int(random.integers(len(row)))
            out += np.resize(np.roll(row, -start), n) * random.uniform(0.3, 1)
        return out

    def collate(self, examples: list[dict[str, np.ndarray]], random: torch.Generator) -> dict[str, Tensor]:
        batch = {k: torch.from_numpy(np.stack([e[k] for e in examples])) for k in examples[0]}
        count, frames = len(examples), batch["sound"].shape[1] // HOP
        batch["color"] = 0.6 * augment.channel(count, random)
        batch["tail"] = augment.tails(count, random)
        batch["masked"] = augment.masked(count, frames, random)
        return batch

    # -- judging ------------------------------------------------------------------------------------------

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Held-out clips as they are; lips of filmed people by ridge on `hidden`, each person left out."""
        module.eval()
        found: dict[str, list[float]] = {}
        for name, corpus in self.corpora.items():
            random = np.random.default_rng(0)
            for clip in self.held[name]:
                batch = self.collate(
                    [cut(corpus, clip, *self.config.context, random)], torch.Generator().manual_seed(0)
                )
                batch["color"].zero_()
                batch["masked"].zero_()
                batch["tail"][:, :-1].zero_()
                for key, value in module(batch).items():
                    found.setdefault(f"{name}_{key}", []).append(float(value))
        result = {k: float(np.mean(v)) for k, v in found.items()}
        if self.video:
            from recipes.lips import leave_out

            result |= leave_out(self.video, lambda sound: run(module.net, sound).hidden[0].numpy())
        module.train()
        return result

    def export(self, module: nn.Module, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({"net": module.net.state_dict()}, folder / "net.pt")
        (folder / "net.json").write_text(json.dumps(vars(self.config)))
        return folder


@torch.no_grad()
def run(net: SpeechNet, sound: np.ndarray):
    """(n,) float32 -> Heard of round(n / 640) frames, silence around."""
    behind, ahead = net.config.context
    mel = LogMel().whole(sound)
    edges = [np.full((k * PER_FRAME, BANDS), SILENCE, np.float32) for k in (behind, ahead)]
    return net(torch.from_numpy(np.concatenate([edges[0], mel, edges[1]]))[None])


def cut(
    corpus: Corpus, clip: int, behind: int, ahead: int, random: np.random.Generator
) -> dict[str, np.ndarray]:
    """LENGTH frames of a clip with their context; beyond its ends is silence of which nothing is known."""
    first, last = corpus.starts[clip] // SAMPLES_PER_FRAME, corpus.ends[clip] // SAMPLES_PER_FRAME
    frames = int(last - first)
    start = int(random.integers(-20, max(1, frames - LENGTH + 20)))
    here = np.arange(start, start + LENGTH)
    inside = (here >= 0) & (here < frames)
    rows = first + np.clip(here, 0, frames - 1)
    total = (behind + LENGTH + ahead) * SAMPLES_PER_FRAME
    sound = np.zeros(total, np.float32)
    low = (start - behind) * SAMPLES_PER_FRAME
    a, b = max(0, low), min(frames * SAMPLES_PER_FRAME, low + total)
    if b > a:
        origin = int(corpus.starts[clip])
        sound[a - low : b - low] = corpus.sound[origin + a : origin + b].astype(np.float32) / 32768
    halves = (2 * rows[:, None] + np.arange(2)).reshape(-1)
    sounds = corpus.sounds[halves].reshape(-1, 2) if corpus.sounds is not None else np.full((LENGTH, 2), -1)
    jaw = corpus.jaw[rows] if corpus.jaw is not None else np.full(LENGTH, np.nan)
    voice = corpus.voice[rows].astype(np.float32) * inside
    rest = -corpus.rest
    return {
        "sound": sound,
        "directions": corpus.directions[rows].astype(np.float32),
        "lips": np.where(inside[:, None], corpus.lips[rows].astype(np.float32), rest).astype(np.float32),
        "voice": voice,
        "known": inside.astype(np.float32),
        "sounds": np.where(inside[:, None], sounds, 0).astype(np.int64),
        "jaw": np.where(inside, jaw, np.nan).astype(np.float32),
    }


def load_corpus(work: Path, name: str, targets) -> Corpus:
    clips = np.load(work / name / "clips.npz")
    corpus = Corpus(
        clips["sound"], clips["ends"], *(targets[f"{name}_{key}"] for key in ("directions", "lips", "voice")),
        clips["sounds"] if "sounds" in clips else None,
        targets[f"{name}_jaw"] if f"{name}_jaw" in targets else None,
    )  # fmt: skip
    corpus.rest = targets["lip_mean"] / targets["lip_scale"]
    return corpus


def noise_bank(work: Path) -> list[np.ndarray]:
    """Lists of rows of int16: half of the draws are made up, half recorded."""
    made = np.load(work / "noise_train.npz")["sound"]
    clips = np.load(work / "noise" / "clips.npz")
    starts = np.concatenate([[0], clips["ends"][:-1]])
    voiced = ("hohoho", "audio-channel", "/sounds/seen", "moh")  # voices; and what is kept for the test
    sound, names, ends = clips["sound"], clips["names"], clips["ends"]
    recorded = [
        sound[a:b] for name, a, b in zip(names, starts, ends)
        if not any(v in str(name) for v in voiced) and np.abs(sound[a:b]).max() > 300
    ]  # fmt: skip
    return [made, recorded]


def _video(work: Path):
    from recipes.lips import load_people

    return load_people(work)


def main() -> None:
    import logging

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("config", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    values = json.loads(options.config.read_text())
    training = TrainerConfig(**values["training"])
    with seeded(training.seed):
        task = EncoderTask(options.work, SpeechConfig(**values["network"]))
    Trainer(task, training, options.work / options.config.stem).run()


if __name__ == "__main__":
    main()
