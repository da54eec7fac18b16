"""Training AToM: landmarks of filmed people, and of motion that a generator of ours makes for speech without a face."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from moda.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from moda.diffusion import Schedule
from moda.errors import ModaError
from moda.face import pose
from moda.generator.atom.config import AtomConfig
from moda.generator.atom.generator import AtomGenerator, AtomStream, face_condition
from moda.generator.atom.model import MotionDecoder
from moda.media.files import whole
from moda.motion.landmarks68 import INNER_LOWER, INNER_UPPER, LANDMARK_OF, centimeters
from moda.render.mesh.basis import basis
from moda.training.dataset import SOUND, best_lag
from moda.training.faces import Face, faces, videos_in
from moda.training.run import Run

log = logging.getLogger(__name__)

SPEECH_CUT = 30.0  # seconds of one sound file that are used
MAX_LAG = 4  # frames by which a picture may be off its sound


class AtomRunConfig(Run):
    """AToM's run. Paths are relative to the config file."""

    task: Literal["atom"]
    cache: Path = Field(description="folder of what was read from the data; runs may share it")
    data: list[Path] = Field(min_length=1, description="folders of videos with speech")
    hold_out: list[str] = Field([], description="videos whose names begin so are for validation instead")
    speech: list[Path] = Field(
        [], description="folders of speech alone, for which `teacher` makes the motion"
    )
    speech_files: int = Field(
        0, ge=0, description="at most so many files of each folder, evenly chosen; 0: all"
    )
    teacher: str = Field("embedded", description="the model that makes motion for speech alone")
    speech_part: float = Field(0.5, ge=0, le=1, description="of the examples, speech alone; 0 without any")
    model: AtomConfig


@dataclass(frozen=True, eq=False)
class Example:
    """features (T, A a frame, width), offsets (T, 68, 3) from the neutral face and that face (68, 3), centimeters."""

    name: str
    features: np.ndarray
    offsets: np.ndarray
    neutral: np.ndarray


def measured(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One person's (T, 478, 3) pixels -> offsets (T, 68, 3) from the neutral face, and that face (68, 3), in eye
    distances, head-fixed."""
    from moda.face import expression
    from moda.motion.explicit import LANDMARK_OF as NAMED

    landmarks = landmarks.astype(np.float64)
    own = np.median(pose.head_fixed(landmarks)[3], axis=0)
    shape = pose.head_fixed(landmarks, own)[3]
    shape = (shape - pose.eye_center(own)) / pose.eye_distance(own)
    exp = shape[:, NAMED] - expression.neutral_points(shape)
    neutral = np.median(shape - np.tensordot(exp.reshape(len(exp), -1), basis(), 1), axis=0)[LANDMARK_OF]
    return (shape[:, LANDMARK_OF] - neutral).astype(np.float32), neutral.astype(np.float32)


def _of_face(face: Face, wave: np.ndarray, encoder: Any) -> Example | None:
    """A filmed stretch, brought in time with its sound; None where the lips do not follow it."""
    offsets, neutral = measured(face.landmarks)
    low = face.first * SAMPLES_PER_FRAME
    part = wave[low : low + len(offsets) * SAMPLES_PER_FRAME]
    features = np.concatenate(list(encoder.encode([part])) or [np.zeros((0, 1, encoder.width), np.float32)])
    n = min(len(features), len(offsets))
    if n < FPS:
        return None
    gap = np.linalg.norm(offsets[:n, INNER_LOWER] - offsets[:n, INNER_UPPER], axis=1)
    heard = np.linalg.norm(encoder.points(features[:n])[:, 5] - encoder.points(features[:n])[:, 4], axis=1)
    lag, _ = best_lag(heard, gap, MAX_LAG)
    offsets = offsets[max(0, lag) : n - max(0, -lag)]
    features = features[max(0, -lag) : n - max(0, lag)]
    return Example(face.name, features, centimeters(offsets), face_condition(neutral))


def _of_speech(path: Path, head: Any, neutral: np.ndarray, seed: int) -> Example:
    """Speech alone: the teacher's motion, its face's expression, on a neutral face (68, 3) of somebody filmed."""
    from moda.audio.decode import read_audio
    from moda.audio.encoder import encode
    from moda.motion import Motion, join
    from moda.motion.explicit import LANDMARK_OF as NAMED
    from moda.motion.landmarks68 import SPACE
    from moda.motion.space import converted

    wave = read_audio(path)[: int(SPEECH_CUT * SAMPLE_RATE)]
    features = list(encode(head.encoder, [wave]))
    space = head.generator.space
    start = space.start(Motion.still(1, space))
    identity = pose.canonical()[NAMED]
    motion = join(list(head.generator.stream(features, identity, start, seed=seed)))
    exp = converted(motion, SPACE).exp
    joined = np.concatenate(features)
    n = min(len(exp), len(joined))
    return Example(path.stem, joined[:n], centimeters(exp[:n]).astype(np.float32), neutral)


def examples_of(
    config: AtomRunConfig, encoder: Any, progress: Callable[[float], None] | None = None
) -> list[Example]:
    """Of all videos and sounds, kept in the cache."""
    from moda.audio.decode import read_audio

    key = json.dumps(
        [[str(p.resolve()) for p in (*config.data, *config.speech)], config.teacher, config.speech_files]
    )
    stored = config.cache / f"atom-{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
    if not stored.exists():
        made: list[Example] = []
        videos = videos_in(config.data)
        # The mouth's square is cut along: runs of MToV on the same videos then find it.
        kept = faces(videos, config.cache, "mouth", 64, progress)
        waves: dict[str, np.ndarray] = {}
        for path in videos:
            try:
                waves[path.stem] = read_audio(path)
            except ModaError as error:
                log.warning("%s", error)
        for face in kept:
            found = _of_face(face, waves[face.name], encoder) if face.name in waves else None
            if found:
                made.append(found)
        if not made:
            raise ModaError(f"no filmed speech was found in {', '.join(map(str, config.data))}")
        if config.speech:
            from moda.pipeline import TalkingHead

            head = TalkingHead.from_pretrained(config.teacher)
            people = [example.neutral for example in made]
            for number, path in enumerate(_sounds(config)):
                made.append(_of_speech(path, head, people[number * 7 % len(people)], number))
        arrays: dict[str, np.ndarray] = {"names": np.array([e.name for e in made])}
        for i, example in enumerate(made):
            arrays |= {f"features{i}": example.features.astype(np.float16), f"offsets{i}": example.offsets}
            arrays[f"neutral{i}"] = example.neutral
        with whole(stored) as part, open(part, "wb") as file:
            np.savez(file, **cast(Any, arrays))
    with np.load(stored, allow_pickle=False) as file:
        return [
            Example(
                str(name), file[f"features{i}"].astype(np.float32), file[f"offsets{i}"], file[f"neutral{i}"]
            )
            for i, name in enumerate(file["names"])
        ]


def _sounds(config: AtomRunConfig) -> list[Path]:
    out: list[Path] = []
    for folder in config.speech:
        found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SOUND)
        most = config.speech_files
        out += found[:: max(1, -(-len(found) // most))] if most else found
    return out


class AtomModule(nn.Module):
    """The published losses: positions, and velocities."""

    def __init__(self, config: AtomConfig) -> None:
        super().__init__()
        self.network = MotionDecoder(config)
        self.schedule = Schedule.cosine()

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        x, t = batch["x"], batch["t"]
        noisy = self.schedule.noised(x, batch["noise"], t)
        condition = self.network.condition(batch["audio"], batch["face"], batch["drop"])
        out = self.network(noisy, t, condition)
        return {"position": F.mse_loss(out, x), "velocity": F.mse_loss(out.diff(dim=1), x.diff(dim=1))}


class AtomTask:
    weights: Mapping[str, float] = {"position": 7.5, "velocity": 1.5}

    def __init__(
        self, config: AtomRunConfig, encoder: Any, known: list[Example], held: list[Example]
    ) -> None:
        self.config, self.encoder = config, encoder
        c = self.network = config.model
        if encoder.width != c.audio_width or c.audio_tokens != 1:
            raise ModaError(
                f"AToM's config wants {c.audio_tokens} features of {c.audio_width} a frame, but the encoder gives one of "
                f"{encoder.width}"
            )
        videos = {p.stem for p in videos_in(config.data)}
        self.filmed = [e for e in known if e.name in videos]
        self.spoken = [e for e in known if e.name not in videos]
        if not self.filmed:
            raise ModaError("no filmed speech was found to train AToM on")
        self.held = held
        self.module = AtomModule(c)

    def example(self, random: np.random.Generator) -> dict[str, np.ndarray]:
        spoken = self.spoken and random.random() < self.config.speech_part
        kept = self.spoken if spoken else self.filmed
        lengths = np.array([len(e.offsets) for e in kept], dtype=float)
        chosen = kept[random.choice(len(kept), p=lengths / lengths.sum())]
        n, frames = len(chosen.offsets), self.network.frames
        start = int(random.integers(max(1, n - frames + 1)))
        features, offsets = chosen.features[start : start + frames], chosen.offsets[start : start + frames]
        short = frames - len(offsets)
        if short:  # the clip again, to and fro
            turn = np.concatenate([np.arange(len(offsets)), np.arange(len(offsets))[::-1]])
            index = np.resize(turn, frames)
            features, offsets = features[index], offsets[index]
        return {
            "audio": features[:, 0],
            "x": offsets.reshape(frames, -1),
            "face": chosen.neutral.reshape(1, -1),
        }

    def collate(self, examples: list[dict[str, np.ndarray]], random: torch.Generator) -> dict[str, Tensor]:
        batch = {k: torch.from_numpy(np.stack([e[k] for e in examples])).float() for k in examples[0]}
        n = len(examples)
        batch["t"] = torch.randint(1000, (n,), generator=random)
        batch["noise"] = torch.randn(batch["x"].shape, generator=random)
        batch["drop"] = torch.rand(n, generator=random) < self.network.condition_dropout
        return batch

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Lips of held-out clips against the filmed ones: correlation of the gap at the best lag within 3 frames."""
        from moda.motion import Motion, join
        from moda.motion.landmarks68 import SPACE, eye_distances

        if not self.held:
            return {}
        network = cast(AtomModule, module).network.eval()
        generator = AtomGenerator(network)
        scores, spread = [], []
        for example in self.held:
            start = Motion.still(1, SPACE)
            stream = AtomStream(generator, example.neutral, start, 0, 10, self.network.guidance)
            motion = join([stream.push(example.features), stream.flush()])
            real = np.linalg.norm(
                eye_distances(example.offsets[:, INNER_LOWER] - example.offsets[:, INNER_UPPER]), axis=1
            )
            made = SPACE.lip_gap(motion)
            scores.append(best_lag(made, real, 3)[1])
            spread.append(made.std() / max(real.std(), 1e-6))
        module.train()
        return {"gap_r": float(np.mean(scores)), "gap_spread": float(np.mean(spread))}

    def export(self, module: nn.Module, folder: Path) -> Path:
        from moda.render.triplane.files import write_network

        return write_network(cast(AtomModule, module).network, folder / "generator.safetensors")


def task_of(config: AtomRunConfig, progress: Callable[[float], None] | None = None) -> AtomTask:
    """The run's data and network; features are the embedded speech encoder's."""
    from moda.audio.speech import SpeechEncoder

    encoder = SpeechEncoder.load()
    kept = examples_of(config, encoder, progress)
    out_of = tuple(config.hold_out)
    held = [e for e in kept if out_of and e.name.startswith(out_of)]
    known = [e for e in kept if not (out_of and e.name.startswith(out_of))]
    return AtomTask(config, encoder, known, held)
