"""The maps between the explicit and the landmarks68 space: ridge regressions of one's offsets on the other's, on tracked
faces; prints the errors on people left out. `python -m recipes.fit_landmarks68 VIDEOS_FOLDER --cache FOLDER`"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from moda.face import expression, pose
from moda.motion.explicit import LANDMARK_OF as NAMED
from moda.motion.explicit import LID_APERTURE, LIDS
from moda.training.atom import measured
from moda.training.faces import faces, videos_in

LEFT_OUT = ("reagan", "grid_s34", "congress_stabenow", "congress_daines", "grid_s25")
RIDGE = 1e-4  # of the mean variance
OUT = Path(__file__).parents[1] / "moda" / "motion" / "landmarks68.safetensors"


def offsets21(landmarks: np.ndarray) -> np.ndarray:
    own = np.median(pose.head_fixed(landmarks.astype(np.float64))[3], axis=0)
    shape = pose.head_fixed(landmarks.astype(np.float64), own)[3]
    shape = (shape - pose.eye_center(own)) / pose.eye_distance(own)
    neutral = expression.neutral_points(shape)
    exp = shape[:, NAMED] - neutral
    right, left = (np.linalg.norm(neutral[u] - neutral[v]) for u, v in ((12, 13), (14, 15)))
    exp[:, LIDS] *= (
        LID_APERTURE / np.array([right, right, left, left])[:, None]
    )  # as the explicit space has lids
    return exp


def ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N, D), (N, E) -> (D, E), through zero: the neutral face stays neutral."""
    product = x.T @ x
    return np.linalg.solve(product + RIDGE * np.trace(product) / len(product) * np.eye(len(product)), x.T @ y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", type=Path)
    parser.add_argument("--cache", type=Path, required=True)
    options = parser.parse_args()
    known: list[tuple[np.ndarray, np.ndarray]] = []
    held: list[tuple[np.ndarray, np.ndarray]] = []
    for face in faces(videos_in([options.videos]), options.cache, "mouth", 64):
        pair = offsets21(face.landmarks).reshape(-1, 63), measured(face.landmarks)[0].reshape(-1, 204)
        (held if face.name.startswith(LEFT_OUT) else known).append(pair)
    a, b = (np.concatenate(part) for part in zip(*known))
    maps = {"from_explicit": ridge(a, b), "to_explicit": ridge(b, a)}
    a, b = (np.concatenate(part) for part in zip(*held))
    for name, x, y in (("from_explicit", a, b), ("to_explicit", b, a)):
        points = (x @ maps[name] - y).reshape(len(x), -1, 3)
        moved = np.linalg.norm(y.reshape(points.shape), axis=-1)
        error = np.linalg.norm(points, axis=-1)
        print(f"{name}: error {error.mean():.4f} eye distances a point, where points move {moved.mean():.4f}")
        if name == "to_explicit":
            lips, lids, irises = error[:, :11].mean(), error[:, 12:16].mean(), error[:, 16:18].mean()
            print(f"  lips and jaw {lips:.4f}, lids {lids:.4f}, irises {irises:.4f}")
        else:
            print(
                f"  lips {error[:, 48:].mean():.4f}, jaw {error[:, :17].mean():.4f}, eyes {error[:, 36:48].mean():.4f}"
            )
    save_file({name: np.ascontiguousarray(m, dtype=np.float16) for name, m in maps.items()}, OUT)


if __name__ == "__main__":
    main()
