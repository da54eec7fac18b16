"""Training as a process: killed (-9) it ends as if nothing had happened; two processes learn what one does."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from moda import ModaError, Motion
from moda.audio.decode import read_audio
from moda.training.clips import encoded, store
from moda.training.generator import PARTS
from moda.training.runs import train
from moda.training.train import finetune

SAVE = 20
STEPS = 160


def config(folder: Path, out: str) -> Path:
    path = folder / f"{out}.json"
    run = {
        "task": "sync", "out": out, "data": ["set"], "hold_out": ["1"], "window": 9, "sound_width": 16,
        "mouth_width": 16, "dims": 8,
        "training": {"steps": STEPS, "batch": 4, "learning_rate": 1e-3, "save_every": SAVE, "validate_every": 80},
    }  # fmt: skip
    path.write_text(json.dumps(run))
    return path


def start(path: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "moda", "train", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=dict(os.environ))


def steps_of(folder: Path) -> list[int]:
    lines = (folder / "loss.jsonl").read_text().splitlines() if (folder / "loss.jsonl").exists() else []
    return [json.loads(line)["step"] for line in lines]


@pytest.fixture
def dataset(tmp_path):
    """Three clips of the demo's speech with the embedded lips."""
    wave = read_audio(Path(__file__).parents[1] / "assets" / "speech.wav")[: 6 * 16_000]
    (tmp_path / "set" / "clips").mkdir(parents=True)
    (tmp_path / "set" / "dataset.json").write_text('{"clips": []}')
    array = Motion.still(150).to_array()
    array[:, :63] = encoded(wave)[0][:150].reshape(150, -1)
    for name in "123":
        store(
            tmp_path / "set" / "clips" / f"{name}.npz",
            Motion.from_array(array),
            None,
            wave,
            0,
            name,
            Path("x"),
        )


GENERATOR = {
    "out": "runs/mine",
    "data": ["set"],
    "model": json.loads((Path(__file__).parents[1] / "configs" / "embedded.json").read_text())["model"]
    | {"width": 16, "heads": 2, "depths": [1, 0, 1], "audio_hidden": 16},
    "training": {"steps": 2, "batch": 1, "learning_rate": 1e-3},
}


def written(folder: Path, **changes) -> Path:
    path = folder / "mine.json"
    path.write_text(json.dumps({**GENERATOR, **changes}))
    return path


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data": ["nowhere"]}, "nowhere is no dataset"),
        ({"speech": ["nowhere"]}, "folder .*nowhere does not exist"),
        ({"encoder": "nowhere"}, "no speech encoder in .*nowhere"),
        ({"initial": "nowhere"}, "nowhere"),
        ({"initial": "embedded"}, "model.width is 16, but initial, embedded, has 128"),
        ({"hold_out": ["Ann"]}, "hold_out names Ann, but the datasets have 1, 2, 3"),
        ({"hold_out": ["1", "2", "3"]}, "all its people are in hold_out"),
        (
            {"model": {**GENERATOR["model"], "audio_width": 7}},
            "model.audio_width is 7, but the encoder .* 110",
        ),
        ({"model": {**GENERATOR["model"], "identity_dim": 7}}, "model.identity_dim is 7, but .* 63"),
        ({"data": ["set", "./set"]}, "data names the same dataset twice"),
        ({"generator": {f"{name}_weight": 0 for name in PARTS}}, "one of .* has to be above 0"),
        ({"training": {"steps": "3"}}, "it lacks training.batch|training.steps is '3'"),
    ],
)
def test_a_failed_start_names_the_config_and_leaves_nothing(dataset, tmp_path, changes, message):
    path = written(tmp_path, **changes)
    with pytest.raises(ModaError, match=f"the training config .*mine.json: .*({message})"):
        train(path)
    assert not (tmp_path / "runs").exists()


def test_a_run_says_what_becomes_of_it(dataset, tmp_path, caplog):
    """Finished, gone on with, and what was changed meanwhile; nobody held out has no line of their own."""
    folder = train(written(tmp_path))
    lines = [json.loads(line) for line in (folder.parent / "loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2] and len(lines[0]) > 2
    assert not caplog.messages
    kept = (folder / "generator.safetensors").read_bytes()

    faster = GENERATOR["training"] | {"learning_rate": 0.01}
    train(written(tmp_path, training=faster))
    (said,) = caplog.messages
    assert "finished already at 2 steps" in said and "raise training.steps" in said and "another out" in said
    assert "training.learning_rate was 0.001, is 0.01" in said and "save_every" not in said
    assert (folder / "generator.safetensors").read_bytes() == kept

    caplog.clear()
    train(written(tmp_path, training=GENERATOR["training"] | {"steps": 3, "save_every": 7}))
    (said,) = caplog.messages
    assert "goes on from step 2" in said and "changed" not in said
    with pytest.raises(ModaError, match="training.optimizer is adan, but .* is of adamw"):
        train(written(tmp_path, training=GENERATOR["training"] | {"steps": 4, "optimizer": "adan"}))


def test_another_person_is_not_mixed_into_a_finetuned_one(dataset, tmp_path):
    (tmp_path / "b.mp4").touch()
    (tmp_path / "dataset").mkdir()
    row = {
        "video": "a.mp4",
        "start": 0.0,
        "end": 3.0,
        "clip": "a.npz",
        "person": "finetuned",
        "lag": 0,
        "r": 0.5,
    }
    (tmp_path / "dataset" / "dataset.json").write_text(json.dumps({"clips": [row | {"reason": ""}]}))
    for given, model, message in (
        (tmp_path / "b.mp4", "embedded", "was taught from a.mp4 before"),
        (tmp_path, "embedded", "is a folder"),
        (tmp_path / "b.mp4", "moditalker", "which this task does not train"),
    ):
        with pytest.raises(ModaError, match=message):
            finetune([given], tmp_path, model)


@pytest.mark.slow
def test_killed_three_times_it_ends_as_the_run_that_was_left_alone(dataset, tmp_path):
    alone = start(config(tmp_path, "alone"))
    assert alone.wait(timeout=300) == 0, alone.stdout.read()

    path, out = config(tmp_path, "killed"), tmp_path / "killed"
    random = np.random.default_rng(0)
    kept = 0
    for _ in range(3):
        run = start(path)
        began = time.monotonic()
        while (torch.load(out / "checkpoint.pt")["step"] if (out / "checkpoint.pt").exists() else 0) <= kept:
            assert time.monotonic() - began < 120 and run.poll() is None
            time.sleep(0.02)
        time.sleep(random.uniform(0, 0.3))
        run.send_signal(signal.SIGKILL)
        assert run.wait() == -signal.SIGKILL
        kept = torch.load(out / "checkpoint.pt")["step"]  # whole, whenever it was killed
        assert kept % SAVE == 0 and kept >= max(steps_of(out)) - SAVE
    run = start(path)
    assert run.wait(timeout=300) == 0, run.stdout.read()
    assert not [p for p in out.iterdir() if p.name.endswith(".part")]
    a, b = (torch.load(tmp_path / name / "checkpoint.pt") for name in ("alone", "killed"))
    assert a["step"] == b["step"] == STEPS
    assert all(torch.equal(a["mean"][k], b["mean"][k]) for k in a["mean"])


@pytest.mark.slow
def test_two_processes_learn_what_one_does(dataset, tmp_path):
    values = json.loads((Path(__file__).parents[1] / "configs" / "embedded.json").read_text())
    small = {"width": 16, "heads": 2, "depths": [1, 1, 1], "audio_hidden": 16}
    run = {"data": ["set"], "encoder": "embedded", "model": values["model"] | small}
    run["training"] = {"steps": 250, "batch": 16, "learning_rate": 1e-3, "warmup": 20, "seed": 3}
    curves = []
    for count in (1, 2):
        path = tmp_path / f"{count}.json"
        path.write_text(json.dumps(run | {"out": f"by{count}"}))
        launch = ["torchrun", "--nproc_per_node", "2", "-m", "moda"] if count == 2 else ["-m", "moda"]
        launch = [sys.executable, *(["-m", "torch.distributed.run", *launch[1:]] if count == 2 else launch)]
        env = dict(os.environ, ACCELERATE_USE_CPU="1")
        subprocess.run([*launch, "train", str(path)], check=True, env=env, timeout=600, capture_output=True)
        lines = [json.loads(x) for x in (tmp_path / f"by{count}" / "loss.jsonl").read_text().splitlines()]
        curves.append([sum(x[k] for k in ("mouth", "face", "pose")) for x in lines if "mouth" in x])
    print(np.round(curves, 3))
    one, two = np.array(curves)
    assert len(one) == 5 and one[-1] < 0.9 * one[0]
    assert np.abs(two / one - 1).max() < 0.05
