"""Training: windows mean what they say, a run resumes as if it had not stopped, and it learns."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import EMBEDDED

from moda import ModaError
from moda.audio.speech import SpeechConfig, SpeechEncoder, SpeechNet
from moda.motion.explicit import INDEX, lip_gap
from moda.training import emotions
from moda.training.config import TrainingConfig
from moda.training.data import Clip, Speech, Windows
from moda.training.train import Run, train

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture
def windows() -> Windows:
    random = np.random.default_rng(0)
    config = replace(EMBEDDED, audio_width=4)

    def features(n):
        return random.standard_normal((n, 1, 4)).astype(np.float32)

    def clip(n):
        motion = 0.1 * random.standard_normal((n, 70)).astype(np.float32)
        motion[:, 63] += 1
        lips = 0.1 * random.standard_normal((n, 33)).astype(np.float32)
        return Clip(
            features(n),
            random.standard_normal(n),
            motion,
            lips,
            random.standard_normal((21, 3)).astype(np.float32),
        )

    speech = [Speech(features(200), random.standard_normal(200), 0.1 * random.standard_normal((200, 33)))]
    speech += [Speech(features(100), np.zeros(100), np.zeros((100, 33), np.float32))]
    return Windows([clip(75), clip(300)], speech, config, real_part=0.5, heard_part=0.5, lips_gain=1.0)


def test_windows_have_their_shapes_and_are_the_same_for_the_same_seed(windows):
    for seed in range(60):
        a, b = windows.draw(np.random.default_rng(seed)), windows.draw(np.random.default_rng(seed))
        assert a.motion.shape == (80, 70) and a.previous.shape == (70,) and a.features.shape == (80, 1, 4)
        assert np.array_equal(a.motion, b.motion) and np.array_equal(a.features, b.features)
        assert np.isfinite(a.motion).all() and a.known.any()
        assert not a.features[~a.known].any()  # past the end of the sound there are zeros, as in sampling
        assert 0 <= a.emotion <= len(windows.config.emotions)


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
    assert TrainingConfig.load(path).steps > 0


@pytest.mark.parametrize("change, message", [
    ({"setps": 3}, "does not know setps"), ({"steps": 0}, "steps is 0"), (None, "no JSON"),
])  # fmt: skip
def test_wrong_configs_are_errors(tmp_path, change, message):
    values = json.loads((CONFIGS / "embedded.json").read_text())
    path = tmp_path / "c.json"
    path.write_text("{" if change is None else json.dumps({**values, **change}))
    with pytest.raises(ModaError, match=message):
        TrainingConfig.load(path)


@pytest.fixture
def tiny_run(tmp_path, monkeypatch, windows):
    """A config, with data that need no tracking, for a network that is trained in a second."""
    torch.manual_seed(0)
    net = SpeechNet(SpeechConfig(stem=8, width=8, behind=(1,), ahead=(1,), hidden=8, phones=3, shapes=2))
    SpeechEncoder(net).save(tmp_path / "encoder")
    model = replace(EMBEDDED, width=16, heads=2, depths=(1, 1, 1), audio_hidden=16, audio_width=4)
    windows.config = model
    values = json.loads((CONFIGS / "embedded.json").read_text())
    values |= {
        "out": "run",
        "encoder": "encoder",
        "model": model.to_dict(),
        "steps": 6,
        "batch": 2,
        "save_every": 3,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values))

    def data(self):
        from moda.generator.statistics import Statistics
        from moda.training.data import statistics

        self.encoder_folder = tmp_path / "encoder"
        return windows, Statistics(*statistics(windows, np.random.default_rng(0), 30))

    monkeypatch.setattr(Run, "_data", data)
    return path


def test_a_resumed_run_is_the_same_run(tiny_run):
    config = TrainingConfig.load(tiny_run)
    whole = Run(config, lambda part: None)
    for _ in range(6):
        whole.advance()
    first = Run(config, lambda part: None)
    for _ in range(3):
        first.advance()
    first.save()
    second = Run(config, lambda part: None)
    assert second.step == 3
    for _ in range(3):
        second.advance()
    for a, b in zip(whole.mean_model.parameters(), second.mean_model.parameters()):
        assert torch.equal(a, b)


def test_a_finished_run_is_a_model_folder(tiny_run):
    from moda import TalkingHead

    folder = train(tiny_run)
    assert TalkingHead.from_pretrained(folder).generator.config.width == 16
    assert (folder.parent / "loss.json").exists()


@pytest.mark.slow
def test_training_lowers_the_loss(tiny_run, windows):
    # Everything moves as the sound does: easy to learn.
    sound = np.sin(np.arange(300) / 5).astype(np.float32)
    motion = np.repeat(sound[:, None], 70, axis=1)
    clip = Clip(
        np.repeat(sound[:, None, None], 4, axis=2),
        sound,
        motion,
        motion[:, :33],
        np.zeros((21, 3), np.float32),
    )
    windows.clips, windows.clip_p, windows.real_part, windows.offsets = [clip], np.ones(1), 1.0, {}
    values = json.loads(tiny_run.read_text())
    tiny_run.write_text(json.dumps({**values, "steps": 150, "batch": 8, "warmup": 5, "learning_rate": 3e-3}))
    run = Run(TrainingConfig.load(tiny_run), lambda part: None)
    while run.step < 150:
        run.advance()
    total = np.array(run.losses)[:, :3].sum(axis=1)
    assert total[-15:].mean() < 0.7 * total[:5].mean()
