"""The mean face (moda/face/canonical.npy) from tracked people: generalised Procrustes, then made symmetric.

python -m recipes.fit_canonical VIDEO_OR_PICTURE [...]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from moda.face import pose
from moda.motion.explicit import EYE_LEFT, EYE_RIGHT, angles, rotation


def mirror_pairs(shape: np.ndarray) -> np.ndarray:
    """(478, 3) -> (478,) the landmark on the other side of each: the mutual nearest of the mirrored shape."""
    mirrored = shape * np.array([-1.0, 1.0, 1.0])
    distance = np.linalg.norm(mirrored[:, None] - shape[None], axis=-1)
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(distance)[1]


def fit(people: list[np.ndarray], rounds: int = 10) -> np.ndarray:
    """[(T, 478, 3) pixels, one array a person] -> (478, 3) head-fixed mean face, symmetric."""
    mean = people[0][0] - pose.eye_center(people[0][0])
    mean = mean / pose.eye_distance(mean)
    for _ in range(rounds):
        shapes = [np.median(pose.head_fixed(frames, mean)[3], axis=0) for frames in people]
        mean = np.mean([(s - pose.eye_center(s)) / pose.eye_distance(s) for s in shapes], axis=0)
        # Upright and straight ahead: eyes level, and the mirror image lies on itself.
        right, left = mean[list(EYE_RIGHT)].mean(0), mean[list(EYE_LEFT)].mean(0)
        x = (left - right) / np.linalg.norm(left - right)
        y = np.array([0.0, 1.0, 0.0]) - x[1] * x
        y /= np.linalg.norm(y)
        mean = mean @ np.stack([x, y, np.cross(x, y)], axis=1)
        pairs = mirror_pairs(mean)
        mean = (mean + mean[pairs] * np.array([-1.0, 1.0, 1.0])) / 2
        # Pitch 0 is how people hold their heads before a camera, on average.
        pitch = np.mean([np.median(angles(pose.head_fixed(frames, mean)[0])[0]) for frames in people])
        mean = mean @ rotation([pitch], [0.0], [0.0])[0].T
    return mean.astype(np.float32)


def main(paths: list[str]) -> None:
    from moda.face.landmarks import find_faces
    from moda.face.tracking import landmarks_of
    from moda.media.picture import read_picture

    people = []
    for path in paths:
        if Path(path).suffix.lower() in (".jpg", ".jpeg", ".png"):
            people.append(find_faces(read_picture(path))[0][None])
        else:
            frames = landmarks_of(path)[1]
            people.append(frames[~np.isnan(frames).any(axis=(1, 2))])
    np.save(Path(pose.__file__).with_name("canonical.npy"), fit(people))


if __name__ == "__main__":
    main(sys.argv[1:])
