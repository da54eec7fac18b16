"""Heads turned by the mesh renderer: python benchmarks/turning.py [--looks NAME] [--angles] [--tracked] [--cost] [--beside CHECKOUT] PICTURE ...

--looks NAME  writes NAME.jpg, a sheet (20 degrees each way, nodding, tilting), and NAME.webp, the same moving
--angles      draws each head straight ahead but for one angle, finds it again, and prints by how much it is off
--tracked     each head turns 25 degrees each way and nods by 20, and is tracked as a video is: how near that comes
--cost        processor milliseconds of a frame at 512 pixels, one thread; with --beside another checkout of moda is
              measured in turn, and the ratio is the median over the pairs
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
ASKED = [(0, 25), (0, -25), (0, 15), (0, -15), (20, 0), (-20, 0), (10, 0), (-10, 0)]  # pitch, yaw
SHEET = [(0, 0, 0), (0, 20, 0), (0, -20, 0), (15, 0, 0), (-15, 0, 0), (0, 0, 12)]  # pitch, yaw, roll
PAIRS = 5


def turned(motion, pitch: float, yaw: float, roll: float = 0.0):
    add = {"pitch": pitch, "yaw": yaw, "roll": roll}
    return replace(motion, **{name: getattr(motion, name) + np.float32(value) for name, value in add.items()})


def looks(pictures: list[Path], name: Path, size: int = 192) -> None:
    from PIL import Image

    from moda.face import read_portrait
    from moda.render.mesh import MeshRenderer

    renderer = MeshRenderer(size)
    prepared = [renderer.prepare(read_portrait(picture)) for picture in pictures]
    rows = [
        np.hstack([next(iter(renderer.draw(p, turned(p.motion, *pose)))) for pose in SHEET]) for p in prepared
    ]
    Image.fromarray(np.vstack(rows)).save(f"{name}.jpg", quality=88)
    frames = []
    for k in range(48):  # once to each side, then a nod
        yaw = 20 * np.sin(2 * np.pi * k / 32) if k < 32 else 0.0
        pitch = 12 * np.sin(2 * np.pi * (k - 32) / 16) if k >= 32 else 0.0
        drawn = [next(iter(renderer.draw(p, turned(p.motion, float(pitch), float(yaw))))) for p in prepared]
        frames.append(Image.fromarray(np.hstack(drawn)))
    frames[0].save(
        f"{name}.webp", save_all=True, append_images=frames[1:], duration=60, loop=0, quality=55, method=6
    )


def angles(pictures: list[Path]) -> None:
    from moda.errors import ModaError
    from moda.face import read_portrait
    from moda.render.mesh import MeshRenderer

    renderer, off = MeshRenderer(), []
    print("pitch / yaw, found less asked".ljust(30) + "".join(f"{f'{p:+d} / {y:+d}':>14}" for p, y in ASKED))
    for picture in pictures:
        p = renderer.prepare(read_portrait(picture))
        cells = []
        for pitch, yaw in ASKED:
            zero = np.zeros(1, np.float32)
            motion = replace(p.motion, pitch=zero + pitch, yaw=zero + yaw, roll=zero)
            try:
                found = read_portrait(next(iter(renderer.draw(p, motion)))).motion
            except ModaError:
                cells.append("not found")
                continue
            error = float(found.pitch[0]) - pitch, float(found.yaw[0]) - yaw
            off.append(error)
            cells.append(f"{error[0]:+.1f} / {error[1]:+.1f}")
        print(f"{picture.stem:<30}" + "".join(f"{cell:>14}" for cell in cells), flush=True)
    size = np.abs(off)
    within = (size < 2).mean(axis=0)
    print(
        f"mean off {size.mean(axis=0).round(1)}, largest {size.max(axis=0).round(1)}, within 2 degrees {within.round(2)}"
    )


def tracked(pictures: list[Path]) -> None:
    from moda.face import read_portrait
    from moda.face.follow import follow_face
    from moda.face.tracking import motion_of
    from moda.motion import Motion
    from moda.render.mesh import MeshRenderer

    renderer, wave = MeshRenderer(), np.sin(2 * np.pi * np.arange(60) / 60).astype(np.float32)
    turns = {"yaw": 25 * wave, "pitch": 20 * wave}
    print("tracked, slope and within 2 degrees".ljust(40) + "yaw".rjust(12) + "pitch".rjust(16))
    shares = []
    for picture in pictures:
        p = renderer.prepare(read_portrait(picture))
        still = Motion.from_array(p.motion.to_array().repeat(120, 0))
        asked = {"yaw": np.append(turns["yaw"], 0 * wave), "pitch": np.append(0 * wave, turns["pitch"])}
        asked["roll"] = 0 * still.roll
        seen = np.stack(list(follow_face(renderer.draw(p, replace(still, **asked)))))
        found = motion_of(seen, np.arange(120) / 25)[0]
        parts = {"yaw": found.yaw[:60], "pitch": found.pitch[60:]}
        shares.append([float((np.abs(parts[name] - turns[name]) < 2).mean()) for name in turns])
        slopes = [np.polyfit(turns[name], parts[name], 1)[0] for name in turns]
        cells = "".join(f"{slope:>10.2f} {share:>5.2f}" for slope, share in zip(slopes, shares[-1]))
        print(f"{picture.stem:<40}{cells}", flush=True)
    print(f"within 2 degrees, yaw and pitch: {np.mean(shares, axis=0).round(2)}")


def cost(picture: Path) -> float:
    """Processor milliseconds a frame, the least of a few rounds."""
    import cv2

    from moda.face import read_portrait
    from moda.motion import Motion
    from moda.render.mesh import MeshRenderer

    cv2.setNumThreads(1)
    renderer = MeshRenderer(512)
    p = renderer.prepare(read_portrait(picture))
    time_ = np.arange(50)[:, None] / 25
    array = p.motion.to_array().repeat(50, 0)
    rng = np.random.default_rng(0)
    array += np.sin(time_ * rng.uniform(2, 12, 70) + rng.uniform(0, 6, 70)) * (
        [0.04] * 63 + [0.02, 0.1, 0.1, 0] + [6] * 3
    )
    motion = Motion.from_array(array)
    rounds = []
    for _ in range(4):
        begun = time.process_time()
        for _ in renderer.draw(p, motion):
            pass
        rounds.append((time.process_time() - begun) / 50 * 1000)
    return min(rounds)


def beside(checkout: Path, picture: Path) -> None:
    ratios, ours, theirs = [], [], []
    for _ in range(PAIRS):
        pair = []
        for root in (ROOT, checkout):
            call = [sys.executable, __file__, "--one", str(picture.resolve())]
            done = subprocess.run(
                call, capture_output=True, text=True, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}
            )
            if done.returncode:
                raise SystemExit(done.stderr[-2000:])
            pair.append(float(done.stdout.split()[-1]))
        ours.append(pair[0])
        theirs.append(pair[1])
        ratios.append(pair[0] / pair[1])
    print(f"{np.median(ours):.1f} ms, beside {np.median(theirs):.1f} ms: ratio {np.median(ratios):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--looks", type=Path)
    parser.add_argument("--angles", action="store_true")
    parser.add_argument("--tracked", action="store_true")
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(cost(given.pictures[0]))
    if given.looks:
        looks(given.pictures, given.looks)
    if given.angles:
        angles(given.pictures)
    if given.tracked:
        tracked(given.pictures)
    if given.cost:
        if given.beside:
            beside(given.beside, given.pictures[0])
        else:
            print(f"{cost(given.pictures[0]):.1f} ms")
