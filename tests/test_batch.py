"""Batches: tables that are read or refused, videos made once, failures listed, nothing lost when processes die."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from moda import ModaError
from moda.batch.manifest import Line, read
from moda.batch.run import FAILED, run
from moda.batch.work import Setup
from moda.media.read import probe


@pytest.fixture
def table(tmp_path, portrait):
    """Writes lines as a table beside a short sound."""
    from scipy.io import wavfile

    rng = np.random.default_rng(0)
    wavfile.write(tmp_path / "short.wav", 16_000, (rng.standard_normal(8000) * 3000).astype(np.int16))

    def write(lines: list[dict], name: str = "table.jsonl") -> Path:
        path = tmp_path / name
        lines = [{"portrait": str(portrait), **line} for line in lines]
        if name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        else:
            columns = list(dict.fromkeys(column for line in lines for column in line))
            with open(path, "w", newline="") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(lines)
        return path

    return write


GOOD = {"audio": "short.wav", "size": 64}


@pytest.mark.parametrize("name", ["table.jsonl", "table.csv"])
def test_lines_become_jobs(table, tmp_path, name):
    lines = [GOOD | {"seed": 3, "full": True, "lips": 0.5, "output": "a.mp4"}, GOOD | {"emotion": "fear:0.5"}]
    jobs, failures = read(table(lines, name), tmp_path / "out")
    assert not failures
    assert jobs[0].line.seed == 3 and jobs[0].line.full and jobs[0].line.lips == 0.5
    assert jobs[0].output == str(tmp_path / "out" / "a.mp4")
    assert jobs[1].output.endswith("00002_short.mp4") and jobs[1].line.emotion == "fear:0.5"
    assert jobs[0].line.audio == str(tmp_path.resolve() / "short.wav")


def test_parquet_is_the_same_table(table, tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

    path = table([GOOD | {"seed": 3}, GOOD])
    rows = [json.loads(text) for text in path.read_text().splitlines()]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "table.parquet")
    assert read(tmp_path / "table.parquet", tmp_path)[0] == read(path, tmp_path)[0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.txt", "", "must end in one of"),
        ("t.csv", "", "has no lines"),
        ("t.jsonl", "\n\n", "has no lines"),
        ("t.csv", "portrait,portrait,audio\na,b,c\n", "two columns have the same name"),
        ("t.csv", "portrait,audio\na.png,b.wav,c\n", "line 1: it has another number of fields"),
        ("t.csv", "portrait,audio\na.png\n", "line 1: it has another number of fields"),
        ("t.csv", 'portrait,audio\n"a.png,b.wav\n', "cannot be read"),
        ("t.csv", "portrait,audio,colour\na.png,b.wav,red\n", "unknown colour; columns are portrait, audio"),
        ("t.jsonl", '{"portrait": "a.png", "audio": "b.wav"}\n{"portrait"\n', "line 2: it is no JSON"),
        ("t.jsonl", '{"portrait": "a", "audio": "b", "output": "x.mp4"}\n' * 2, "lines 1 and 2 both write x.mp4"),
        ("t.jsonl", b"\xff\xfe\x00", "cannot be read"),
        ("t.parquet", b"PAR1 not", "cannot be read|needs pyarrow"),
    ],
)  # fmt: skip
def test_tables_that_are_refused(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ModaError, match=said):
        read(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({}, "exactly one of audio, text and driving"),
        (GOOD | {"text": "hello"}, "exactly one of audio, text and driving"),
        (GOOD | {"seed": -1}, "seed is -1"),
        (GOOD | {"seed": "x"}, "seed is 'x'"),
        (GOOD | {"steps": "unknown"}, "steps is 'unknown'"),
        (GOOD | {"size": 12}, "size is 12"),
        (GOOD | {"full": "perhaps"}, "full is 'perhaps'"),
        (GOOD | {"output": "../a.mp4"}, "plain file name"),
    ],
)
@pytest.mark.parametrize("name", ["table.jsonl", "table.csv"])
def test_a_wrong_line_is_a_failure_and_the_others_stay(table, tmp_path, name, line, said):
    jobs, failures = read(table([GOOD | {"output": "good.mp4"}, line], name), tmp_path)
    assert len(jobs) == 1 and len(failures) == 1
    assert failures[0].number == 2 and said in failures[0].reason and "\n" not in failures[0].reason


def test_videos_are_made_once_and_failures_listed(table, tmp_path, tiny):
    lines = [GOOD | {"seed": seed} for seed in range(3)]
    wrong = [
        GOOD | {"audio": "missing.wav"},
        GOOD | {"portrait": "nobody.png"},
        GOOD | {"output": "x.gif"},
        GOOD | {"emotion": "joy"},
        GOOD | {"lips": 99},
        GOOD | {"timeline": "nothing.json"},
        GOOD | {"face": 7},
        {"size": 64},
        GOOD | {"output": "../outside.mp4"},
    ]
    out = tmp_path / "out"
    found = run(table(lines + wrong), out, Setup(str(tiny), "cpu"), count=2)
    assert (found["lines"], found["made"], found["there_already"], found["failed"]) == (12, 3, 0, 9)
    videos = sorted(path.name for path in out.iterdir() if path.name != FAILED)
    assert videos == ["00001_short.mp4", "00002_short.mp4", "00003_short.mp4"]
    assert all(probe(out / name).has_sound for name in videos)
    reasons = [json.loads(text) for text in (out / FAILED).read_text().splitlines()]
    assert [failure["number"] for failure in reasons] == list(range(4, 13))
    assert "missing.wav" in reasons[0]["reason"] and "nobody.png" in reasons[1]["reason"]
    assert all("fault" not in failure["reason"] and "\n" not in failure["reason"] for failure in reasons)

    before = {name: (out / name).stat().st_mtime_ns for name in videos}
    lines[1]["seed"] = 9
    found = run(table(lines), out, Setup(str(tiny), "cpu"))
    assert (found["made"], found["there_already"], found["failed"]) == (1, 2, 0)
    after = {name: (out / name).stat().st_mtime_ns for name in videos}
    assert {name for name in videos if before[name] != after[name]} == {"00002_short.mp4"}
    assert not (out / FAILED).exists()


def test_lines_of_every_kind_have_fields_that_a_csv_can_hold():
    for field in Line.__dataclass_fields__.values():
        assert any(kind in str(field.type) for kind in ("str", "int", "float", "bool"))


def _command(table: Path, out: Path, model: Path, *more: str) -> list[str]:
    code = "from moda.cli import main; main()"
    return [sys.executable, "-c", code, "batch", str(table), "-o", str(out), "--model", str(model), *more]


@pytest.mark.slow
def test_killed_in_mid_run_and_started_again(table, tmp_path, tiny):
    path, out = table([GOOD | {"seed": seed} for seed in range(12)]), tmp_path / "out"
    command = _command(path, out, tiny, "--workers", "2", "--device", "cpu")
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while len(list(out.glob("*.mp4"))) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    time.sleep(7)  # its processes leave
    made = {file.name: file.stat().st_mtime_ns for file in out.glob("*.mp4")}
    assert 3 <= len(made) < 12
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    files = {file.name: file.stat().st_mtime_ns for file in out.iterdir()}
    assert sorted(files) == [f"{number:05d}_short.mp4" for number in range(1, 13)]
    assert all(files[name] == stamp for name, stamp in made.items()), "made twice"


@pytest.mark.slow
def test_a_process_that_dies_takes_no_line_along(table, tmp_path, tiny):
    psutil = pytest.importorskip("psutil")
    path, out = table([GOOD | {"seed": seed} for seed in range(8)]), tmp_path / "out"
    running = subprocess.Popen(_command(path, out, tiny, "--device", "cpu"), stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not list(out.glob("*.mp4")) and time.monotonic() < until:
        time.sleep(0.02)
    workers = [c for c in psutil.Process(running.pid).children() if "spawn_main" in " ".join(c.cmdline())]
    workers[-1].kill()
    assert running.wait(timeout=300) == 0
    assert len(list(out.glob("*.mp4"))) == 8


@pytest.mark.slow
def test_a_cluster_that_loses_a_node_loses_no_video(table, tmp_path, tiny):
    utilities = pytest.importorskip("ray.cluster_utils")
    path, out = table([GOOD | {"seed": seed} for seed in range(8)]), tmp_path / "out"
    cluster = utilities.Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        node = cluster.add_node(num_cpus=1)
        command = _command(path, out, tiny, "--device", "cpu", "--ray", cluster.address)
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 200
        while len(list(out.glob("*.mp4"))) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        cluster.remove_node(node, allow_graceful=False)
        assert running.wait(timeout=400) == 0
    finally:
        cluster.shutdown()
    videos = sorted(out.glob("*.mp4"))
    assert [video.name for video in videos] == [f"{number:05d}_short.mp4" for number in range(1, 9)]
    assert all(probe(video).has_sound for video in videos)


def test_a_cluster_that_is_not_there_is_said_at_once(table, tmp_path, tiny):
    pytest.importorskip("ray")
    began = time.monotonic()
    with pytest.raises(ModaError, match="no Ray cluster at 127.0.0.1:1"):
        run(table([GOOD]), tmp_path / "out", Setup(str(tiny), "cpu"), ray="127.0.0.1:1")
    assert time.monotonic() - began < 60 and not list((tmp_path / "out").glob("*.mp4"))
