"""`moda train CONFIG`: datasets and sounds -> features, kept; then the trainer."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from moda.constants import KEYPOINTS, MOTION_DIM, SAMPLE_RATE
from moda.errors import ModaError, why
from moda.generator.generator import Generator
from moda.generator.model import MotionTransformer
from moda.generator.statistics import Statistics
from moda.media.files import whole
from moda.training.clips import Item
from moda.training.config import RunConfig
from moda.training.dataset import SOUND, items
from moda.training.generator import GeneratorConfig, GeneratorTask
from moda.training.run import start
from moda.training.trainer import TrainerConfig
from moda.training.windows import Clip, Speech, Windows, make_clip, make_speech, recorded_speech

log = logging.getLogger(__name__)

FINETUNE = GeneratorConfig(real_part=1.0, own_lips=1.0, audio_noise=0.2)
SPEECH_CUT = 30.0  # seconds of one sound file that are used
ENCODER_FILES = ("encoder.safetensors", "encoder.json")


def finetune(
    videos: list[Path],
    out: Path,
    model: str = "embedded",
    steps: int = 600,
    progress: Callable[[float], None] | None = None,
) -> Path:
    """Teach a model one person from videos of them, a minute or so -> the folder of that person's model.

    The lips become the person's own, the head moves as theirs does. Writes OUT/dataset, OUT/config.json and the run.
    Errors: ModaError for videos that cannot be used, or a model of another space or encoder.
    """
    from moda.training.dataset import prepare, read_list
    from moda.weights import resolve

    network = generator_of(model).config  # its errors come before the videos are followed
    for video in videos:
        if video.is_dir():
            raise ModaError(f"--finetune takes videos of one person, but {video} is a folder")
    if others := {found.video for found in read_list(out / "dataset")} - {p.name for p in videos}:
        raise ModaError(f"{out} was taught from {', '.join(sorted(others))} before; name another -o folder")
    prepare(videos, out / "dataset", people={p.name: "finetuned" for p in videos})
    config = RunConfig(
        out=out,
        data=[out / "dataset"],
        encoder=str(resolve(model)),
        initial=model,
        model=network,
        generator=FINETUNE,
        training=TrainerConfig(steps=steps, batch=8, learning_rate=2e-4, warmup=50, ema=0.99, save_every=100),
    )
    (out / "config.json").write_text(config.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return start(config, task_of, f"fine-tuning {model}", progress)


def task_of(config: RunConfig) -> GeneratorTask:
    """The run's data and network."""
    from moda.audio.speech import EMBEDDED, SpeechEncoder
    from moda.evaluation.sync import SyncExpert

    # A copy of the encoder belongs to the run: generator and encoder stay together whatever becomes of the original.
    folder = config.out / "encoder"
    source = EMBEDDED if config.encoder == "embedded" else Path(config.encoder)
    if not all((folder / name).exists() for name in ENCODER_FILES):
        _folder(folder)
        for name in ENCODER_FILES:
            if not (source / name).exists():
                raise ModaError(f"there is no speech encoder in {source}: it has no {name}")
            with whole(folder / name) as part:
                shutil.copyfile(source / name, part)
    encoder = SpeechEncoder.load(folder)
    for name, given, by in (
        ("audio_width", encoder.width, f"the encoder in {source}"),
        ("audio_layers", 1, f"the encoder in {source}"),
        ("motion_dim", MOTION_DIM, "the explicit space"),
        ("identity_dim", 3 * KEYPOINTS, "the explicit space"),
    ):
        if given != (ours := getattr(config.model, name)):
            raise ModaError(f"model.{name} is {ours}, but {by} gives {given}")
    if len({folder.resolve() for folder in config.data}) < len(config.data):
        raise ModaError("data names the same dataset twice")
    initial = generator_of(config.initial) if config.initial else None
    for name in ("width", "heads", "mlp_ratio", "depths", "audio_hidden"):
        if initial and getattr(initial.config, name) != getattr(config.model, name):
            theirs, ours = getattr(initial.config, name), getattr(config.model, name)
            raise ModaError(f"model.{name} is {ours}, but initial, {config.initial}, has {theirs}")
    people = {item.person for item in items(config.data) if not item.lips_only}
    if strangers := sorted(set(config.hold_out) - people):
        raise ModaError(
            f"hold_out names {', '.join(strangers)}, but the datasets have {', '.join(sorted(people))}"
        )
    if people <= set(config.hold_out):
        left = "all its people are in hold_out" if people else "there is none of a face"
        raise ModaError(f"no clip to train on was found in {', '.join(map(str, config.data))}: {left}")
    sounds = [
        (voice, path)
        for voice, folders in ((True, config.speech), (False, config.noise))
        for folder in folders
        for path in _sounds(folder, config.speech_files)
    ]
    cache = Cache(config.out / "cache", folder / ENCODER_FILES[0])
    own_lips = config.generator.own_lips
    clips: list[Clip] = []
    told: list[Speech] = []
    silent: list[Speech] = []
    for item in items(config.data):
        key = f"{item.path.resolve()} {own_lips}"
        if not item.lips_only:
            clips.append(cache.get(Clip, key, partial(_clip, item, encoder, own_lips)))
        elif item.person not in config.hold_out:
            told.append(cache.get(Speech, key, partial(_told, item, encoder)))
    for voice, path in sounds:
        made = cache.get(Speech, f"{path.resolve()} {voice}", partial(_speech, path, encoder, voice))
        (told if voice else silent).append(made)
    known = [clip for clip in clips if clip.person not in config.hold_out]
    windows = Windows(known, told, silent, config.model, config.generator.real_part)
    held = [clip for clip in clips if clip.person in config.hold_out]
    expert = None
    if config.generator.sync_weight:
        expert = SyncExpert.load(EMBEDDED if config.expert == "embedded" else config.expert, folder).net
    return GeneratorTask(windows, config.generator, folder, held, config.training.seed, initial, expert)


def generator_of(name_or_folder: str) -> Generator:
    """A model's generator as it is trained: every weight a parameter, none packed for speed."""
    from moda.weights import resolve
    from moda.weights.description import Description, MotionGenerator
    from moda.weights.load import read_tensors, strict_load

    folder = resolve(name_or_folder)
    part = Description.read(folder).generator
    if not isinstance(part, MotionGenerator):
        raise ModaError(f"the generator of {folder} is {part.name!r}, which this task does not train")
    model = MotionTransformer(part.config)
    weights = folder / "generator.safetensors"
    strict_load(model, read_tensors(weights), str(weights))
    return Generator(model, Statistics(np.array(part.mean), np.array(part.std)))


def _clip(item: Item, encoder: Any, own_lips: float) -> Clip:
    return make_clip(item.person, item.wave, item.motion, item.identity, item.lag, encoder, own_lips)


def _told(item: Item, encoder: Any) -> Speech:
    if item.closed is not None:
        return make_speech(item.wave, encoder, closed=item.closed)
    return recorded_speech(item.wave, item.motion, item.lag, encoder)


def _speech(path: Path, encoder: Any, voice: bool) -> Speech:
    from moda.audio.decode import read_audio

    return make_speech(read_audio(path)[: int(SPEECH_CUT * SAMPLE_RATE)], encoder, voice)


def _sounds(folder: Path, most: int) -> list[Path]:
    if not folder.exists():
        raise ModaError(f"the training data folder {folder} does not exist")
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SOUND)
    return found[:: max(1, -(-len(found) // most))] if most else found


def _folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModaError(f"the run cannot be written to {folder}: {why(error)}") from error


class Cache:
    """What was computed once for an encoder, a small file each."""

    def __init__(self, folder: Path, weights: Path) -> None:
        _folder(folder)
        self.folder, self.mark = folder, hashlib.sha256(weights.read_bytes()).hexdigest()

    def get(self, kind: type, key: str, make: Callable[[], Any]) -> Any:
        name = hashlib.sha256(f"{kind.__name__} {key} {self.mark}".encode()).hexdigest()[:24]
        stored = self.folder / f"{name}.npz"
        if not stored.exists():
            values = {k: v.astype(np.float16) if k == "features" else v for k, v in vars(make()).items()}
            with whole(stored) as part, open(part, "wb") as file:
                np.savez(file, **values)
        with np.load(stored, allow_pickle=False) as file:
            arrays = {f.name: file[f.name] for f in fields(kind)}
        return kind(**{k: str(v) if k == "person" else v for k, v in arrays.items()})
