"""Faces that fill little of a picture: landmarks as good as in a close-up. `--slow -s` prints docs/inputs.md's tables."""

from __future__ import annotations

import csv
from itertools import islice

import cv2
import numpy as np
import pytest

from moda.face import expression, pose
from moda.face.follow import follow_face
from moda.face.landmarks import LIPS, find_faces
from moda.media.picture import read_picture
from moda.media.read import timed_frames

WIDTH, HEIGHT = 1920, 1080
STILL = (3, 4, 5, 7, 9, 11)  # percent of the width that the face is wide
MOVING = (4, 6, 8, 12)
CLIPS = 8
FRAMES = 75


def in_eye_distances(face: np.ndarray) -> np.ndarray:
    """(478, 3) pixels -> (478, 2), the irises at (-1/2, 0) and (1/2, 0)."""
    points = face[:, :2].astype(np.float64)
    across = points[473] - points[468]
    turn = np.array([across, [-across[1], across[0]]])
    return (points - points[[468, 473]].mean(axis=0)) @ turn.T / (across @ across)


def lip_error(face: np.ndarray, reference: np.ndarray) -> float:
    apart = in_eye_distances(face) - in_eye_distances(reference)
    return float(np.linalg.norm(apart[LIPS], axis=1).mean())


def gaps(faces: np.ndarray) -> np.ndarray:
    """(T, 478, 3) -> (T,) distance of the inner lips in eye distances."""
    return expression.gap(faces[..., :2]) / pose.eye_distance(faces[..., :2])


def room(seed: int) -> np.ndarray:
    """A picture of nothing: soft patches and grain."""
    rng = np.random.default_rng(seed)
    patches = cv2.resize(rng.uniform(60, 190, (9, 16, 3)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.clip(patches + rng.normal(0, 4, patches.shape), 0, 255).astype(np.uint8)


def put(picture: np.ndarray, into: np.ndarray, k: float, place: np.ndarray) -> np.ndarray:
    """`picture`, k times its size, pasted at `place` (0..1 of the room there is)."""
    small = cv2.resize(picture, None, fx=k, fy=k, interpolation=cv2.INTER_AREA)[:HEIGHT, :WIDTH]
    height, width = small.shape[:2]
    x, y = (place * [WIDTH - width, HEIGHT - height]).astype(int)
    out = into.copy()
    out[y : y + height, x : x + width] = small
    return out


def wide_of(face: np.ndarray) -> float:
    return float(np.ptp(face[:, 0]))


@pytest.mark.parametrize("percent", [3, 8])
def test_a_small_face_is_read_like_a_large_one(percent, portrait):
    picture = read_picture(portrait)
    reference = find_faces(picture)[0]
    k = WIDTH * percent / 100 / wide_of(reference)
    found = find_faces(put(picture, room(1), k, np.array([0.8, 0.3])))
    assert len(found) == 1
    assert lip_error(found[0], reference) < 0.06


@pytest.mark.slow
def test_small_faces_in_pictures(shared):
    pictures = {path.stem: read_picture(path) for path in sorted((shared / "data/portraits").glob("*.jpg"))}
    with open(shared / "data/video/INDEX.tsv") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["person"] not in pictures:
                frames = timed_frames(shared / "data/video" / row["file"])
                pictures[row["person"]] = next(islice(frames, 20, None))[1]
    errors = {percent: [] for percent in STILL}
    for seed, (name, picture) in enumerate(pictures.items()):
        reference = find_faces(picture)[0]
        for percent in STILL:
            k = WIDTH * percent / 100 / wide_of(reference)
            place = np.random.default_rng([seed, percent]).uniform(0, 1, 2)
            found = find_faces(put(picture, room(seed), k, place))
            errors[percent].append(min((lip_error(f, reference) for f in found[:1]), default=np.inf))
            if errors[percent][-1] > 0.06:
                print(f"\n{name} at {percent} %: {errors[percent][-1]:.3f}")
    print(f"\n| face, % of the width | median | worst | above 0.06, of {len(pictures)} |\n|---|---|---|---|")
    for percent, values in errors.items():
        print(
            f"| {percent} | {np.median(values):.3f} | {max(values):.3f} | {sum(v > 0.06 for v in values)} |"
        )
    every = np.concatenate(list(errors.values()))
    assert (every > 0.06).mean() <= 0.02


@pytest.mark.slow
def test_small_faces_in_motion(shared):
    clips = sorted((shared / "data/video").glob("*/*.mp4"))
    clips = clips[:: len(clips) // CLIPS][:CLIPS]
    rows = {percent: [] for percent in MOVING}
    for seed, clip in enumerate(clips):
        frames = [frame for _, frame, _ in islice(timed_frames(clip), FRAMES)]
        close = np.stack(list(follow_face(frames)))
        for percent in MOVING:
            k = WIDTH * percent / 100 / wide_of(close[0])
            place = np.random.default_rng([seed, percent]).uniform(0, 1, 2)
            empty = room(seed)
            found = list(follow_face(put(frame, empty, k, place) for frame in frames))
            seen = np.array([face is not None for face in found])
            far = np.stack([face for face in found if face is not None]) if seen.any() else None
            r = np.corrcoef(gaps(far), gaps(close[seen]))[0, 1] if far is not None else 0.0
            rows[percent].append((1 - seen.mean(), r))
            if r < 0.9:
                print(f"\n{clip.name} at {percent} %: r {r:.3f}, gap's sd {gaps(close).std():.4f}")
    print("\n| face, % of the width | lost, worst | lip gap's r, median | r, worst |\n|---|---|---|---|")
    for percent, values in rows.items():
        lost, r = np.array(values).T
        print(f"| {percent} | {100 * lost.max():.1f} % | {np.median(r):.3f} | {r.min():.3f} |")
    for values in rows.values():
        for lost, r in values:
            assert lost < 0.03
            assert r >= 0.9
