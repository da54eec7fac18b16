"""The lip-sync expert: it learns time from made-up people, says by how much a mouth is late, and teaches a generator."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EMBEDDED

from moda import ModaError, Motion
from moda.audio.decode import read_audio
from moda.evaluation.sync import SyncExpert, load_net, save_net, sound_size
from moda.generator.statistics import Statistics
from moda.training.generator import GeneratorConfig, GeneratorTask
from moda.training.runs import train
from moda.training.sync import Pair, SyncLoss, SyncRunConfig, SyncTask
from moda.training.trainer import Trainer, TrainerConfig
from moda.training.windows import Clip, Windows

WAVE = Path(__file__).parents[1] / "assets" / "speech.wav"
RUN = {"window": 9, "sound_width": 24, "mouth_width": 24, "dims": 16, "each": 8, "sound_noise": 0.1}
STEPS = {"steps": 150, "batch": 8, "learning_rate": 5e-3, "warmup": 5, "ema": 0.9, "validate_every": 1000}


class Ear:
    """Stands for a speech encoder: of its three numbers the expert hears the first two."""

    class calibration:
        directions = -8  # and ten bands of loudness

    width = 3


def people(count: int, seed: int = 0) -> list[Pair]:
    """Whose lips are a mixture of the sound, each with a resting mouth of their own."""
    mixture = 0.05 * np.random.default_rng(9).standard_normal((2, 33))
    random = np.random.default_rng(seed)
    pairs = []
    for i in range(count):
        sound = random.standard_normal((200, 2)).astype(np.float32)
        motion = Motion.still(200).to_array()
        motion[:, :33] = sound @ mixture + 0.05 * random.standard_normal(33)
        features = np.concatenate([sound, np.zeros((200, 1), np.float32)], axis=1)[:, None]
        pairs.append(Pair(f"person {i}", features, sound, motion))
    return pairs


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """-> the run's folder, an expert that has learned from six people, two more people."""
    torch.manual_seed(0)
    run = SyncRunConfig(task="sync", out=Path("."), data=[Path(".")], training=TrainerConfig(**STEPS), **RUN)
    held = people(2, seed=5)
    task = SyncTask(run, people(6), held, Ear(), "mark")
    folder = Trainer(task, run.training, tmp_path_factory.mktemp("sync")).run()
    return folder, SyncExpert(load_net(folder), Ear()), held


def test_it_finds_by_how_much_a_stranger_is_late(taught):
    folder, expert, held = taught
    lines = [json.loads(line) for line in (folder.parent / "loss.jsonl").read_text().splitlines()]
    last = [line for line in lines if "valid_in_time" in line][-1]
    assert last["valid_in_time"] == 1 and last["valid_confidence"] > 2 * last["valid_confidence_wrong"]
    for late in (-7, 0, 4):
        motion = Motion.from_array(np.roll(held[0].motion, late, axis=0))
        found = expert.judge(held[0].features, motion)
        assert found.offset == late and found.confidence > 0.2 and 0 <= found.distance < 1.4
    assert expert.judge(held[0].features[:38], Motion.from_array(held[0].motion)) is None  # too short to tell


def test_it_is_stored_in_half_precision_and_read_strictly(taught, tmp_path):
    folder, expert, _ = taught
    assert sorted(p.name for p in folder.iterdir()) == ["sync.json", "sync.safetensors"]
    with pytest.raises(ModaError, match="another speech encoder"):
        SyncExpert.load(folder)
    with pytest.raises(ModaError, match="no lip-sync expert"):
        load_net(tmp_path)
    save_net(expert.net, tmp_path)
    values = json.loads((tmp_path / "sync.json").read_text())
    (tmp_path / "sync.json").write_text(json.dumps(values | {"dims": 17}))
    with pytest.raises(ModaError, match="does not fit"):
        load_net(tmp_path)
    (tmp_path / "sync.json").write_text(json.dumps(values | {"window": 3}))
    with pytest.raises(ModaError, match="shorter than"):
        load_net(tmp_path)


def test_as_a_loss_it_prefers_lips_in_time_and_has_a_gradient(taught):
    _, expert, held = taught
    mean, std = np.zeros(70, np.float32), np.full(70, 0.1, np.float32)
    loss = SyncLoss(expert.net, Statistics(mean, std))
    audio = torch.from_numpy(held[0].features)[None]
    lips = torch.from_numpy(held[0].motion[None, :, :33] / 0.1).float().requires_grad_()
    known = torch.ones(1, 200)
    right, late = loss(lips, audio, known), loss(lips.roll(6, 1), audio, known)
    assert right < 0.8 * late
    right.backward()
    assert lips.grad.abs().max() > 0 and not any(p.requires_grad for p in loss.parameters())
    assert loss(lips, audio, 0 * known) == 0  # of nothing known it says nothing


def test_a_generator_learns_with_it_and_does_not_store_it(taught, tmp_path):
    _, expert, held = taught
    tiny = replace(EMBEDDED, width=16, heads=2, depths=(1, 1, 1), audio_hidden=16, audio_width=3)
    identity = np.zeros((21, 3), np.float32)
    clips = [Clip(p.person, p.features, np.zeros(200), p.motion, p.lips, identity) for p in held]
    windows = Windows(clips, [], [], tiny, real_part=1.0)
    config = GeneratorConfig(sync_weight=0.5)
    task = GeneratorTask(windows, config, Path("nowhere"), [], 0, None, expert.net)
    assert not any("expert" in name for name in task.module.state_dict())
    parts = Trainer(task, TrainerConfig(steps=2, batch=4, learning_rate=1e-3), tmp_path).advance()
    assert 0 < parts["sync"] < 2
    with pytest.raises(ModaError, match="go together"):
        GeneratorTask(windows, config, Path("nowhere"), [])


def test_the_shipped_one_belongs_to_the_shipped_encoder_and_tells_time():
    expert = SyncExpert.load()
    wave = read_audio(WAVE)[: 8 * 16_000]
    features = expert.listen(wave)
    array = Motion.still(len(features)).to_array()
    array[:, :33] = expert.encoder.lips_in(features).reshape(len(features), -1)
    right = expert.judge(features, Motion.from_array(array))
    late = expert.judge(features, Motion.from_array(np.roll(array, 5, axis=0)))
    assert abs(right.offset) <= 1 and abs(late.offset - 5) <= 1 and right.confidence > 0.1
    backward = expert.judge(features, Motion.from_array(array[::-1].copy()))
    assert backward.confidence < 0.5 * right.confidence
    assert expert.net.config.sound == sound_size(expert.encoder)


def test_a_wrong_config_is_an_error(tmp_path):
    values = json.loads((Path(__file__).parents[1] / "configs" / "sync.json").read_text())
    path = tmp_path / "sync.json"
    path.write_text(json.dumps(values | {"windows": 3}))
    with pytest.raises(ModaError, match="windows"):
        train(path)
    path.write_text(json.dumps(values | {"data": ["missing"]}))
    with pytest.raises(ModaError, match="no dataset"):
        train(path)
