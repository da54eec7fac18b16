"""What the small MoDiTalker's card says, measured.

`python -m recipes.moditalker card VIDEOS... --model FOLDER --sheet out.png`: every video repainted by its own landmarks, by
MToV and by the embedded lips; PSNR and SSIM of the mouth's square against the video; of MToV's autoencoder alone; steps
at the seams of its runs against those inside. The sheet: the video, MToV, the embedded lips.
`python -m recipes.moditalker assemble RUNS --model FOLDER`: the folder of the finished runs (of configs/moditalker) -> a
model's folder.
`python -m recipes.moditalker seams SPEECH... --model FOLDER`: steps of AToM's lips where its windows meet (from the frame
before they overlap to the one after) against elsewhere, and the largest of these steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch

from moda.audio.decode import read_audio
from moda.evaluation.metrics import psnr, ssim
from moda.face.footage import Footage
from moda.media.read import read_video
from moda.motion import Motion, join
from moda.motion.landmarks68 import SPACE
from moda.motion.space import converted
from moda.pipeline import TalkingHead
from moda.render.lips.repainter import LipRepainter
from moda.render.paste import Crop
from moda.render.triplane.painter import Painter
from moda.render.triplane.region import squares

MOST = 75  # frames of a video


def own_motion(footage: Footage) -> Motion:
    """What the footage's face does, in the landmarks' space; where it is not seen, rest."""
    motion = Motion.still(footage.frames, SPACE)
    for i, placed in enumerate(footage.placed()):
        if placed is not None:
            shape = (placed.landmarks - placed.center) @ placed.rotation / placed.scale
            motion.exp[i] = SPACE.identity(shape) - SPACE.identity(footage.person.neutral)
    return motion


def cut(frames: list[np.ndarray], crops: list[Crop | None]) -> list[np.ndarray]:
    return [crop.cut(frame) for frame, crop in zip(frames, crops) if crop is not None]


def likeness(ours: list[np.ndarray], theirs: list[np.ndarray]) -> tuple[float, float]:
    pairs = list(zip(ours, theirs))
    return float(np.mean([psnr(a, b) for a, b in pairs])), float(np.mean([ssim(a, b) for a, b in pairs]))


def reconstructed(painter: Painter, pictures: list[np.ndarray]) -> list[np.ndarray]:
    """Through the autoencoder and back."""
    size, frames = painter.config.triplane.size, painter.config.triplane.frames
    out: list[np.ndarray] = []
    small = np.stack([cv2.resize(p, (size, size), interpolation=cv2.INTER_AREA) for p in pictures])
    for start in range(0, len(small) - frames + 1, frames):
        x = torch.from_numpy(small[start : start + frames]).permute(3, 0, 1, 2)[None] / 127.5 - 1
        with torch.inference_mode():
            y = painter.rgb(x)[0].permute(1, 2, 3, 0)
        out += list(((y + 1) * 127.5).clamp(0, 255).byte().numpy())
    return out


def seams(frames: list[np.ndarray], first: int, hop: int) -> float:
    """Mean change between frames at the seams over that elsewhere."""
    steps = np.array([np.abs(b.astype(float) - a).mean() for a, b in zip(frames, frames[1:])])
    at = np.zeros(len(steps), bool)
    at[first - 1 :: hop] = True
    return float(steps[at].mean() / steps[~at].mean()) if at.any() else float("nan")


def card(options: argparse.Namespace) -> None:
    head = TalkingHead.from_pretrained(options.model)
    mtov, lips = head.repainter, LipRepainter()
    painter = mtov.painter  # type: ignore[attr-defined]
    config = painter.config
    side = 2 * config.triplane.size
    rows, strips = [], []
    for path in options.videos:
        with Footage.follow(path) as footage:
            motion = own_motion(footage)
            placed = list(footage.placed())[:MOST]
            crops = [
                None if p is None else squares(p.landmarks[None], "mouth", side, True)[0] for p in placed
            ]
            original = list(_first(read_video(path)))
            painted = list(_first(mtov.repaint(footage, iter([motion]))))
            drawn = list(_first(lips.repaint(footage, iter([converted(motion, lips.space)]))))
        truth, ours, theirs = (cut(frames, crops) for frames in (original, painted, drawn))
        small = [cv2.resize(p, (side // 2, side // 2), interpolation=cv2.INTER_AREA) for p in truth]
        recon = likeness(reconstructed(painter, truth), small)
        done = config.triplane.frames - config.overlap
        seam = seams(ours, done, done) / seams(truth, done, done)
        rows.append((*recon, *likeness(ours, truth), *likeness(theirs, truth), seam))
        print(f"{path.stem:<26}" + " ".join(f"{v:7.3f}" for v in rows[-1]), flush=True)
        chosen = np.linspace(4, len(truth) - 5, 7).astype(int)
        strips += [np.concatenate([part[i] for i in chosen], axis=1) for part in (truth, ours, theirs)]
    print("mean".ljust(26) + " ".join(f"{v:7.3f}" for v in np.mean(rows, axis=0)))
    print(
        "columns: PSNR, SSIM of the autoencoder; of MToV; of the embedded lips; steps at seams over those inside"
    )
    if options.sheet:
        cv2.imwrite(str(options.sheet), cv2.cvtColor(np.concatenate(strips), cv2.COLOR_RGB2BGR))


def _first(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    for _, frame in zip(range(MOST), frames):
        yield frame


def lip_seams(options: argparse.Namespace) -> None:
    from moda.audio.encoder import encode
    from moda.face.pose import canonical

    head = TalkingHead.from_pretrained(options.model)
    generator = head.generator
    config = generator.config
    at, inside = [], []
    for path in options.videos:
        features = list(encode(head.encoder, [read_audio(path)[: 60 * 16_000]]))
        start, identity = Motion.still(1, SPACE), SPACE.identity(canonical())
        motion = join(list(generator.stream(features, identity, start, seed=0)))
        steps = np.abs(np.diff(motion.exp[:, list(SPACE.groups["mouth"])], axis=0)).mean(axis=(1, 2))
        seam = np.zeros(len(steps), bool)
        for first in range(config.hop, len(steps), config.hop):  # type: ignore[attr-defined]
            seam[first - 1 : first + config.frames - config.hop] = True  # type: ignore[attr-defined]
        at.append(steps[seam])
        inside.append(steps[~seam])
    a, b = np.concatenate(at), np.concatenate(inside)
    width = config.frames - config.hop + 1  # type: ignore[attr-defined]
    place = a[: len(a) // width * width].reshape(-1, width).mean(axis=0) if len(a) >= width else a
    print(f"{len(a)} steps at seams: {a.mean():.5f}, {b.mean():.5f} elsewhere: {a.mean() / b.mean():.3f}")
    print("by place in the seam, of those elsewhere: " + " ".join(f"{v:.2f}" for v in place / b.mean()))


def assemble(options: argparse.Namespace) -> None:
    import json
    import shutil

    from moda.generator.atom.config import AtomConfig
    from moda.render.triplane.config import VideoConfig
    from moda.render.triplane.files import DOTS, RGB, UNET

    runs, out = options.videos[0], Path(options.model)
    configs = Path(__file__).parents[1] / "configs" / "moditalker"
    atom, video = (json.loads((configs / f"{name}.json").read_text())["model"] for name in ("atom", "unet"))
    out.mkdir(parents=True, exist_ok=True)
    parts = {RGB: "triplane", DOTS: "dots", UNET: "unet", "generator.safetensors": "atom"}
    for name, run in parts.items():
        shutil.copyfile(runs / run / "model" / name, out / name)
    description = {
        "encoder": {"name": "speech", "source": "embedded"},
        "generator": {"name": "atom", "config": AtomConfig.from_dict(atom).to_dict()},
        "renderer": {"name": "mtov", "config": VideoConfig.from_dict(video).to_dict()},
    }
    (out / "config.json").write_text(json.dumps(description, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("assemble", "card", "seams"))
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--model", default="moditalker")
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    {"assemble": assemble, "card": card, "seams": lip_seams}[options.what](options)


if __name__ == "__main__":
    main()
