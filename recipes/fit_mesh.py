"""The mesh renderer's basis (moda/render/mesh/basis.safetensors) from tracked people.

    python -m recipes.fit_mesh VIDEO [...]

The 21 points' offsets move all 478 landmarks by a linear map W (63, 478 * 3): ridge regression on real faces
that leans towards W0, a smooth interpolant of the offsets, where the data say little:

    W = (P'P + lambda I)^-1 (P'D + lambda W0),   P (T, 63) offsets, D (T, 1434) displacements

The 21 points themselves are among the 478; both D and W0 move them by exactly their offsets, hence so does W.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np

from moda.face import expression, pose
from moda.motion.explicit import INDEX, LANDMARK_OF
from moda.render.mesh.topology import EYES, IRIS_RINGS, LIP_LOWER, LIP_UPPER

PRIOR = 1e-4  # lambda a frame: squared offsets (eye distances) below which the interpolant is believed
REACH = 0.25  # eye distances, how far a point's offset carries in the interpolant
LEVEL = 0.5  # eye distances, by which lips (and lids) that face each other are held apart in it


def separated(shape: np.ndarray) -> np.ndarray:
    """(478, 3) -> (478, 4): a fourth coordinate keeps facing lips, and facing lids, from moving one another."""
    level = np.zeros(len(shape))
    level[LIP_UPPER], level[LIP_LOWER] = -LEVEL, LEVEL
    for upper, lower in EYES:
        level[upper[1:-1]], level[lower[1:-1]] = -LEVEL, LEVEL
    return np.concatenate([shape, level[:, None]], axis=1)


def interpolant(shape: np.ndarray) -> np.ndarray:
    """(478, 3) the mean face -> W0 (63, 1434): interpolation between the 21 points and the skull's
    points, which rest."""
    points = separated(shape)
    centers = points[np.concatenate([LANDMARK_OF, SKULL])]
    rings = np.concatenate(IRIS_RINGS)

    def kernel(a, b):
        distance = np.linalg.norm(a[:, None] - b[None], axis=-1) / REACH
        return (1 + distance) * np.exp(
            -distance
        )  # Matern 3/2: smooth, and tame between points that lie close

    weights = np.linalg.solve(kernel(centers, centers) + 1e-6 * np.eye(len(centers)), kernel(centers, points))
    weights = weights[: len(LANDMARK_OF)]  # (21, 478)
    weights[:, rings] = 0.0
    weights[:, LANDMARK_OF] = np.eye(len(LANDMARK_OF))
    for name, ring in zip(("iris_right", "iris_left"), IRIS_RINGS):
        weights[INDEX[name], ring] = 1.0
    return np.einsum("kn,ij->kinj", weights, np.eye(3)).reshape(63, -1)


# Forehead, temples, nose bridge, eye corners: speech leaves them in place.
SKULL = np.array(
    [10, 151, 67, 297, 109, 338, 127, 356, 234, 454, 162, 389, 21, 251, 168, 6, 33, 133, 362, 263]
)


def displacements(landmarks: np.ndarray) -> np.ndarray:
    """(T, 478, 3) one person's landmarks, pixels -> (T, 478, 3) head-fixed displacements from the resting face."""
    own = np.median(pose.head_fixed(landmarks)[3], axis=0)
    shape = pose.head_fixed(landmarks, own)[3]
    shape = (shape - pose.eye_center(own)) / pose.eye_distance(own)
    gap, eyes = expression.gap(shape), expression.aperture(shape).mean(axis=1)
    rest = (gap <= np.quantile(gap, 0.3)) & (eyes >= 0.8 * np.median(eyes))
    return shape - np.median(shape[rest], axis=0)


def fit(people: list[np.ndarray]) -> np.ndarray:
    """[(T, 478, 3) pixels, one array a person] -> W (63, 478, 3) float32."""
    shape = pose.canonical().astype(np.float64)
    pairs = np.linalg.norm((shape * [-1, 1, 1])[:, None] - shape[None], axis=-1).argmin(axis=1)
    flip = np.array([-1.0, 1.0, 1.0])
    prior = interpolant(shape)
    gram, cross, frames = np.zeros((63, 63)), np.zeros((63, 1434)), 0
    for landmarks in people:
        d = displacements(landmarks.astype(np.float64))
        for name, ring in zip(("iris_right", "iris_left"), IRIS_RINGS):
            d[:, ring] = d[:, [LANDMARK_OF[INDEX[name]]]]
        for moved in (d, d[:, pairs] * flip):  # the mirrored face is a face too
            p = moved[:, LANDMARK_OF].reshape(len(d), 63)
            gram += p.T @ p
            cross += p.T @ moved.reshape(len(d), -1)
            frames += len(d)
    w = np.linalg.solve(gram + PRIOR * frames * np.eye(63), cross + PRIOR * frames * prior)
    w = w.reshape(63, -1, 3)
    w[:, LANDMARK_OF] = np.eye(63).reshape(63, 21, 3)  # exact, not only up to rounding
    return w.astype(np.float32)


def main(paths: list[str]) -> None:
    from safetensors.numpy import save

    from moda.face.tracking import landmarks_of

    if not paths:
        raise SystemExit("fit_mesh: give the videos of people to fit on")
    people = [landmarks_of(path)[1] for path in paths]
    basis = fit([frames[~np.isnan(frames).any(axis=(1, 2))] for frames in people])
    file = Path(__file__).parents[1] / "render" / "mesh" / "basis.safetensors"
    part = file.with_name(file.name + ".part")
    part.write_bytes(save({"basis": basis.astype(np.float16)}))
    os.replace(part, file)


if __name__ == "__main__":
    main(sys.argv[1:])
