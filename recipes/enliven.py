"""Few steps move a head less than people move theirs: the deviations of a model's pose and lids are enlarged.

    python -m recipes.enliven MODEL --pose 1.55 --lids 1.6 --face-noise 1.02 --pose-noise 1.15

Found by `moda evaluate` on filmed people (docs/training.md). Run once, on the model folder that training wrote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from moda.motion.explicit import SPACE


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--pose", type=float, default=1.55)
    parser.add_argument("--lids", type=float, default=1.6)
    parser.add_argument("--face-noise", type=float, default=1.02)
    parser.add_argument("--pose-noise", type=float, default=1.15)
    parser.add_argument("--live-face", type=float, default=0.65)
    parser.add_argument("--live-pose", type=float, default=1.05)
    parser.add_argument("--live-steps", type=int, default=1)
    options = parser.parse_args()
    path = options.model / "config.json"
    values = json.loads(path.read_text())
    generator = values["generator"]
    for group, gain in (("pose", options.pose), ("lids", options.lids)):
        for column in SPACE.columns(group):
            generator["std"][column] *= gain
    generator["config"]["noise_scale"] |= {"face": options.face_noise, "pose": options.pose_noise}
    generator["config"]["live_noise_scale"] = {
        "lips": 0.1,
        "face": options.live_face,
        "pose": options.live_pose,
    }
    generator["config"]["live_steps"] = options.live_steps
    path.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
