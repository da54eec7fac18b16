"""Training: windows mean what they say, a run resumes as if it had not stopped, and it learns."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EMBEDDED

from moda import ModaError
from moda.motion import emotions
from moda.motion.explicit import INDEX, LID_APERTURE, LIDS, lip_gap
from moda.training.clips import Found, best_lag
from moda.training.config import RunConfig
from moda.training.dataset import items, stretches
from moda.training.generator import FlowModule, GeneratorConfig, GeneratorTask
from moda.training.run import load
from moda.training.sync import SyncRunConfig
from moda.training.trainer import Trainer, TrainerConfig
from moda.training.windows import Clip, Speech, Windows, whole_blinks

CONFIGS = Path(__file__).parents[1] / "configs"
MODEL = json.loads((CONFIGS / "embedded.json").read_text())["model"]
TINY = replace(EMBEDDED, width=16, heads=2, depths=(1, 1, 1), audio_hidden=16, audio_width=4)


@pytest.fixture
def windows() -> Windows:
    random = np.random.default_rng(0)

    def features(n):
        return random.standard_normal((n, 1, 4)).astype(np.float32)

    def clip(n):
        motion = 0.1 * random.standard_normal((n, 70)).astype(np.float32)
        motion[:, 63] += 1
        lips = 0.1 * random.standard_normal((n, 33)).astype(np.float32)
        identity = random.standard_normal((21, 3)).astype(np.float32)
        return Clip(f"person {n}", features(n), random.standard_normal(n), motion, lips, identity)

    speech = [Speech(features(200), random.standard_normal(200), 0.1 * random.standard_normal((200, 33)))]
    silent = [Speech(features(100), np.zeros(100), np.zeros((100, 33), np.float32))]
    return Windows([clip(75), clip(300)], speech, silent, TINY, real_part=0.5)


def test_windows_have_their_shapes_and_are_the_same_for_the_same_seed(windows):
    for seed in range(60):
        a, b = windows.draw(np.random.default_rng(seed)), windows.draw(np.random.default_rng(seed))
        assert a.motion.shape == (80, 70) and a.previous.shape == (70,) and a.features.shape == (80, 1, 4)
        assert np.array_equal(a.motion, b.motion) and np.array_equal(a.features, b.features)
        assert np.isfinite(a.motion).all() and a.known.any()
        assert not a.features[~a.known].any()  # past the end of the sound there are zeros, as in sampling
        assert 0 <= a.emotion <= len(windows.config.emotions)


def test_a_tracked_blink_becomes_whole_and_even():
    motion = np.zeros((40, 70), np.float32)
    exp = motion[:, :63].reshape(40, 21, 3)
    bump = np.exp(-np.square((np.arange(40) - 20) / 2.0))
    exp[:, LIDS.start, 1] = 0.7 * LID_APERTURE * bump
    exp[:, LIDS.start + 2, 1] = 0.5 * LID_APERTURE * bump
    whole_blinks(motion)
    closed = (exp[:, [12, 14], 1] - exp[:, [13, 15], 1]) / LID_APERTURE
    assert closed[20] == pytest.approx(1.04, abs=0.02) and np.abs(closed[20, 0] - closed[20, 1]) < 0.01
    assert np.abs(closed[[5, 35]]).max() < 0.01


@pytest.mark.parametrize("emotion", emotions.ACTIONS)
def test_emotions_keep_a_closed_mouth_closed(emotion):
    exp = emotions.offset(emotion)[:63].reshape(1, 21, 3)
    assert lip_gap(exp)[0] < 1e-6
    assert emotion == "neutral" or np.abs(exp).max() > 0.02


def test_emotions_look_like_what_they_are_called():
    def y(emotion, point):
        return emotions.offset(emotion)[3 * INDEX[point] + 1]

    assert y("happiness", "lip_corner_left") < 0 < y("sadness", "lip_corner_left")  # y points down
    assert y("surprise", "brow_left") < 0 < y("anger", "brow_left")
    assert y("contempt", "lip_corner_left") != y("contempt", "lip_corner_right")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda p: p.name)
def test_shipped_configs_are_valid(path):
    if json.loads(path.read_text()).get("task") == "sync":
        assert load(SyncRunConfig, path).training.steps > 0
    else:
        assert load(RunConfig, path).training.steps > 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"setps": 3}, "setps"),
        ({"training": {"steps": 0, "batch": 1, "learning_rate": 1e-3}}, r"training\.steps"),
        (
            {"training": {"steps": 1, "batch": 1, "learning_rate": float("inf")}},
            r"training\.learning_rate.*finite",
        ),
        ({"training": {"steps": 1, "batch": 1, "learning_rate": 1e-3, "seed": -1}}, r"training\.seed"),
        ({"model": {}}, r"c\.json: it lacks model\.space"),
        ({"training": {"steps": "3", "batch": 1, "learning_rate": 1e-3}}, r"c\.json: training\.steps is '3'"),
        ({"training": {"steps": True, "batch": 1, "learning_rate": 1e-3}}, r"training\.steps is True"),
        ({"training": {"steps": 3.0, "batch": 1, "learning_rate": 1e-3}}, r"training\.steps is 3.0"),
        ({"generator": {"own_lips": "1"}}, r"c\.json: generator\.own_lips is '1'"),
        ({"model": {**MODEL, "width": "128"}}, r"c\.json: model\.width is '128'"),
        ({"model": {**MODEL, "overlap": 60}}, r"c\.json: model: .*overlap is 60"),
        ({"model": {**MODEL, "widht": 3}}, r"c\.json: it has unknown model\.widht"),
        ({"out": 3}, r"c\.json: out is 3"),
        (None, "no JSON"),
    ],
)
def test_wrong_configs_are_errors(tmp_path, change, message):
    values = json.loads((CONFIGS / "embedded.json").read_text())
    path = tmp_path / "c.json"
    path.write_text("{" if change is None else json.dumps({**values, **change}))
    with pytest.raises(ModaError, match=message):
        load(RunConfig, path)


def test_whole_numbers_are_numbers(tmp_path):
    path = tmp_path / "c.json"
    values = json.loads((CONFIGS / "embedded.json").read_text())
    path.write_text(json.dumps({**values, "training": {"steps": 1, "batch": 1, "learning_rate": 1}}))
    assert load(RunConfig, path).training.learning_rate == 1.0


def trainer(windows: Windows, out: Path, **changes) -> Trainer:
    torch.manual_seed(0)
    values = {
        "steps": 6,
        "batch": 2,
        "learning_rate": 1e-3,
        "warmup": 2,
        "save_every": 3,
        "validate_every": 3,
    }
    task = GeneratorTask(windows, GeneratorConfig(), Path("nowhere"), windows.clips[:1])
    return Trainer(task, TrainerConfig(**(values | changes)), out)


def test_a_resumed_run_is_the_same_run(windows, tmp_path):
    whole = trainer(windows, tmp_path / "whole")
    for _ in range(6):
        whole.advance()
    first = trainer(windows, tmp_path / "cut")
    for _ in range(3):
        first.advance()
    first.save()
    second = trainer(windows, tmp_path / "cut")
    assert second.step == 3
    for _ in range(3):
        second.advance()
    for a, b in zip(whole.mean.parameters(), second.mean.parameters()):
        assert torch.equal(a, b)


def test_losses_of_steps_that_were_lost_are_told_anew(windows, tmp_path, monkeypatch):
    """Each step once, whatever a run before has left; and half a line is none."""

    def run(steps: int) -> list[int]:
        trainer(windows, tmp_path, steps=steps).run()
        lines = (tmp_path / "loss.jsonl").read_text().splitlines()
        return [
            step for step, line in ((json.loads(line)["step"], line) for line in lines) if "valid" in line
        ]

    monkeypatch.setattr(GeneratorTask, "export", lambda self, module, folder: folder)
    (tmp_path / "loss.jsonl").write_text('{"step": 0, "valid_mouth": 1}\n')
    assert run(6) == [0, 3, 6]
    with open(tmp_path / "loss.jsonl", "a") as file:
        file.write('{"step": 9, "valid_mouth": 1}\n{"step": 9, "valid')
    assert run(9) == [0, 3, 6, 9]


@pytest.mark.parametrize("kind", ["bytes", "cut", "empty", "list"])
def test_a_broken_checkpoint_is_an_error(windows, tmp_path, kind):
    trainer(windows, tmp_path).save()
    path = tmp_path / "checkpoint.pt"
    if kind in ("bytes", "cut"):
        path.write_bytes(b"no" * 500 if kind == "bytes" else path.read_bytes()[: path.stat().st_size // 2])
    else:
        torch.save({} if kind == "empty" else [], path)
    with pytest.raises(ModaError, match=r"checkpoint\.pt.*remove it to begin anew"):
        trainer(windows, tmp_path)


def test_a_checkpoint_of_another_network_is_an_error(windows, tmp_path):
    trainer(windows, tmp_path).save()
    windows.config = replace(TINY, width=32)
    with pytest.raises(ModaError, match="another network"):
        trainer(windows, tmp_path)


def test_a_run_validates_first_and_becomes_a_model_folder(windows, tmp_path, monkeypatch):
    monkeypatch.setattr(GeneratorTask, "export", lambda self, module, folder: folder)
    trainer(windows, tmp_path).run()
    lines = [json.loads(line) for line in (tmp_path / "loss.jsonl").read_text().splitlines()]
    assert "valid_gap_r" in lines[0] and lines[0]["step"] == 0
    assert any("mouth" in line for line in lines) and (tmp_path / "checkpoint.pt").exists()


@pytest.mark.slow
def test_training_lowers_the_loss(windows, tmp_path):
    # Everything moves as the sound does: easy to learn.
    sound = np.sin(np.arange(300) / 5).astype(np.float32)
    motion = np.repeat(sound[:, None], 70, axis=1)
    features = np.repeat(sound[:, None, None], 4, axis=2)
    clip = Clip("one", features, sound, motion, motion[:, :33], np.zeros((21, 3), np.float32))
    windows.clips, windows.clip_p, windows.real_part, windows.offsets = [clip], np.ones(1), 1.0, {}
    run = trainer(windows, tmp_path, steps=150, batch=8, learning_rate=3e-3)
    losses = [sum(run.advance()[k] for k in ("mouth", "face", "pose")) for _ in range(150)]
    assert np.mean(losses[-15:]) < 0.7 * np.mean(losses[:5])


def test_videos_are_cut_where_the_face_is_lost_or_jumps():
    random = np.random.default_rng(0)
    face = random.uniform(100, 200, (478, 3))
    face[33, :2], face[263, :2] = (120, 150), (180, 150)
    landmarks = np.repeat(face[None], 100, axis=0).astype(np.float32)
    landmarks[30:40] = np.nan  # lost
    landmarks[42] = np.nan  # a frame alone does not cut
    landmarks[70:] += 200  # another place
    assert stretches(landmarks) == [(0, 30), (40, 70), (70, 100)]


def test_the_offset_of_a_picture_is_found():
    heard = np.random.default_rng(0).standard_normal(200).cumsum()
    assert best_lag(heard, np.roll(heard, 3))[0] == 3
    assert best_lag(heard, np.zeros(200))[1] == -1.0


def test_what_is_no_dataset_is_named(tmp_path):
    with pytest.raises(ModaError, match="no dataset"):
        list(items([tmp_path]))


def test_a_report_says_what_was_refused(tmp_path):
    from moda.training.report import dataset_report

    found = [
        Found("a.mp4", 0, 5, clip="a.npz", person="A", r=0.6),
        Found("b.mp4", 0, 1, reason="shorter than 2 s"),
    ]
    page = dataset_report(tmp_path, found).read_text()
    assert "1 clips of 1 people" in page and "shorter than 2 s" in page


def test_a_model_is_taken_up_with_every_weight():
    """What a fine-tuning starts from can be trained, and says what the shipped model says."""
    from moda.training.train import generator_of

    generator = generator_of("embedded")
    names = {name for name, _ in generator.model.named_parameters()}
    assert any("mlp.fc1.weight" in name for name in names) and generator.config.steps <= 4
    FlowModule(generator.config).model.load_state_dict(generator.model.state_dict())
