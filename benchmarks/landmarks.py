"""What faces cost: python benchmarks/landmarks.py [--beside CHECKOUT] PICTURE_OR_CLIP ...

Processor milliseconds of a picture's landmarks and of a video's frame, and how far landmarks tremble on a still face
under grain. With --beside another checkout of moda is measured in turn, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROUNDS = 3
PICTURES = (".jpg", ".png")


def measure(files: list[Path]) -> None:
    import cv2
    import numpy as np

    from moda.face.tracking import landmarks_of

    try:
        from moda.face.follow import follow_face
        from moda.face.landmarks import find_faces
    except ImportError:  # before there was moda.face.follow
        from moda.face.landmarks import find_faces, follow_face

    pictures = [cv2.imread(str(f))[..., ::-1].copy() for f in files if f.suffix in PICTURES]
    clips = [f for f in files if f.suffix not in PICTURES]
    line = []
    if pictures:
        find_faces(pictures[0])  # loading apart
        wall, cpu = [], []
        for picture in pictures * 5:
            begun, used = time.perf_counter(), time.process_time()
            find_faces(picture)
            wall.append(time.perf_counter() - begun)
            cpu.append(time.process_time() - used)
        line.append(f"a picture {1000 * np.median(wall):.1f} ms ({1000 * np.median(cpu):.1f} of processor)")
        grain = np.random.default_rng(0)
        noisy = (
            np.clip(pictures[0] + grain.normal(0, 3, pictures[0].shape), 0, 255).astype(np.uint8)
            for _ in range(60)
        )
        points = np.stack(list(follow_face(noisy)))[10:, :, :2]
        eyes = np.linalg.norm(points[:, 473] - points[:, 468], axis=1).mean()
        line.append(f"trembling {points.std(axis=0).mean() / eyes:.5f} eye distances")
    if clips:
        landmarks_of(clips[0])
        begun, used, frames = time.perf_counter(), time.process_time(), 0
        for clip in clips:
            frames += len(landmarks_of(clip)[0])
        wall, cpu = time.perf_counter() - begun, time.process_time() - used
        line.append(f"a frame {1000 * wall / frames:.2f} ms ({1000 * cpu / frames:.2f} of processor)")
    print("; ".join(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, default=[ROOT / "assets" / "astronaut.jpg"])
    parser.add_argument("--beside", type=Path, help="another checkout of moda")
    parser.add_argument("--once", action="store_true", help="measure what PYTHONPATH names")
    given = parser.parse_args()
    if given.once:
        measure(given.files)
        return
    for _ in range(ROUNDS):
        for root in [ROOT] + ([given.beside] if given.beside else []):
            print(f"{root.resolve().name:>12}: ", end="", flush=True)
            environment = os.environ | {"PYTHONPATH": str(root.resolve()), "GLOG_minloglevel": "3"}
            words = [sys.executable, __file__, "--once", *map(str, given.files)]
            subprocess.run(words, env=environment, stderr=subprocess.DEVNULL, check=True)


if __name__ == "__main__":
    main()
