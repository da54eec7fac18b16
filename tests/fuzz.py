"""Mutated pictures, sounds, videos and motions through the command line: python fuzz.py MODEL SEEDS_FOLDER WORK COUNT_OR_NUMBERS.

Each runs in a child of its own, as `moda` would, forked from a process that has everything imported. Prints a line for
each that ends otherwise than with a result, or with one line on stderr and exit code 2; a count at the end.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

SECONDS = 60
MEMORY = 8 << 30
OUTPUTS = {"out.mp4", "m.npz"}


def mutate(data: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """One to three changes, of the kinds that broken downloads, broken programs and bad intentions make."""
    for _ in range(rng.integers(1, 4)):
        if not data:
            break
        size = len(data)
        # Half of the time near the beginning, where the headers are.
        place = int(rng.integers(0, min(size, 512) if rng.random() < 0.5 else size))
        length = int(min(size - place, 2 ** rng.uniform(0, 12)))
        kind = rng.integers(0, 8)
        if kind == 0:
            data = data[:place]
        elif kind == 1:
            data = data[:place] + data[place + length :]
        elif kind == 2:
            data = data[:place] + data[place : place + length] + data[place:]
        elif kind == 3:
            data = data[:place] + rng.bytes(length) + data[place + length :]
        elif kind == 4:
            fill = bytes([int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))]) * min(length, 8)
            data = data[:place] + fill + data[place + len(fill) :]
        elif kind == 5:
            other = others[rng.integers(len(others))]
            data = data[:place] + other[int(rng.integers(0, len(other))) :]
        else:
            changed = bytearray(data)
            for at in rng.integers(0, size, int(2 ** rng.uniform(0, 7))):
                changed[at] ^= 1 << int(rng.integers(0, 8))
            data = bytes(changed)
    return data


def command_for(seed: Path, given: Path, portrait: Path, sound: Path, rng: np.random.Generator) -> list[str]:
    if seed.name.startswith("picture"):
        return [
            "generate",
            str(given),
            str(sound),
            "-o",
            "out.mp4",
            *(["--full"] if rng.random() < 0.3 else []),
        ]
    if seed.name.startswith("sound"):
        return ["generate", str(portrait), str(given), "-o", "out.mp4"]
    if rng.random() < 0.2 and seed.suffix != ".npz":
        return ["track", str(given), "-o", "m.npz"]
    if rng.random() < 0.2 and seed.suffix != ".npz":
        return ["generate", str(portrait), str(given), "-o", "out.mp4"]
    return ["animate", str(portrait), str(given), "-o", "out.mp4"]


def child(words: list[str], folder: Path) -> None:
    """Never returns."""
    code = 99
    try:
        os.setsid()
        os.chdir(folder)
        errors = os.open("stderr", os.O_CREAT | os.O_WRONLY)
        os.dup2(errors, 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        from moda.cli import main

        main(words)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 98
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stderr, sys.stdout):
            stream.flush()
        os._exit(code)


def run(words: list[str], folder: Path) -> tuple[int, float]:
    """-> exit code (negative: the signal; -9 also after SECONDS), seconds."""
    begun = time.monotonic()
    pid = os.fork()
    if pid == 0:
        child(words, folder)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), time.monotonic() - begun
        if time.monotonic() - begun > SECONDS:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return -signal.SIGKILL, time.monotonic() - begun
        time.sleep(0.01)


def verdict(code: int, folder: Path, given: str) -> str | None:
    """What is wrong with how it ended, or None."""
    lines = (folder / "stderr").read_text(errors="replace").splitlines()
    left = {path.name for path in folder.iterdir()} - {"stderr", given}
    if code not in (0, 2):
        return f"ended with {code}: {lines[-1:]}"
    if not all(line.startswith("moda: ") for line in lines):
        return f"wrote {lines[:2]}"
    if code == 2 and (left or not lines):
        return f"left {left}" if left else "said nothing"
    if code == 0 and (len(left) != 1 or not left <= OUTPUTS):
        return f"made {left}"
    return None


def main() -> int:
    model, seeds, work = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    which = [int(number) for number in sys.argv[4].split(",")]  # 2000, or some of them: 17,42
    numbers = range(which[0]) if len(which) == 1 else which
    import mediapipe  # noqa: F401  imported once, here, for all children
    import PIL.Image
    import torch
    import torch._dynamo

    import moda.audio.decode
    import moda.cli.app
    import moda.face.follow
    import moda.media.write
    import moda.pipeline
    import moda.render.mesh.renderer  # noqa: F401

    torch.set_num_threads(1)
    PIL.Image.init()
    files = sorted(
        path for path in seeds.iterdir() if path.name.split(".")[0] in ("picture", "sound", "video", "motion")
    )
    contents = {path: path.read_bytes() for path in files}
    ends: Counter[str] = Counter()
    slowest = 0.0
    for number in numbers:
        rng = np.random.default_rng(number)
        seed = files[number % len(files)]
        folder = work / str(number)
        folder.mkdir()
        name = "given" + (seed.suffix if rng.random() < 0.9 else rng.choice([f.suffix for f in files]))
        (folder / name).write_bytes(mutate(contents[seed], list(contents.values()), rng))
        words = command_for(seed, Path(name), seeds / "portrait.jpg", seeds / "speech.wav", rng)
        more = ["--model", str(model)] + ([] if words[0] == "track" else ["--size", "64"])
        code, seconds = run(words + more, folder)
        slowest = max(slowest, seconds)
        wrong = verdict(code, folder, name)
        if wrong:
            print(f"{number} {seed.name} {words}: {wrong}", flush=True)
            ends["wrong"] += 1
        else:
            ends["result" if code == 0 else "one line, exit 2"] += 1
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
    print(f"{len(numbers)} inputs from {len(files)} files: {dict(ends)}; the slowest took {slowest:.1f} s")
    return 1 if ends["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
