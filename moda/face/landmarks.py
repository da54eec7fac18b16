"""Faces in a picture -> 478 landmarks each, whatever their size and angle.

z is in pixels too (weak perspective, the same scale as x), growing away from the camera.

MediaPipe looks for faces in the whole picture made small: where a face fills little of it, the landmarks lie beside
the face by as much as a mouth. So every face is looked at again in an upright crop of its own, and once more in that
crop mirrored. Both looks' mean is what is returned, and how far they differ says how far it can be trusted: on a bare
face their lips agree within 0.045 eye distances; on cloth, a hand or a wrong angle they do not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

import cv2
import numpy as np

from moda.face.mesh import Detector, Mesh
from moda.face.pose import canonical

TILES = (1, 2, 4, 8)  # parts of the longer side
LARGE_TILE = 640  # pixels; panoramas and the like are looked at in parts twice as small once more
TURNED_TILES = (1, 2, 4)
TURNS = (0, 1, 3, 2)  # quarters, the likeliest first
MIN_TILE = 64  # pixels
MARGIN = 2.0  # the crop's side, in sides of the face
CROP = 256  # the crop's side in pixels; the mesh itself looks at 192
UNSURE = 0.045  # eye distances between the two looks' lips: above, other turns are tried and a covered mouth suspected
COVERED_SCORE = 0.9  # a detector's score of a bare face; with a cloth over the mouth it is lower
CLEARER = 0.08  # by so much must another turn's score be better
NO_FACE = 0.4  # a detector's score in a face's own crop, below which it is a pattern on a wall
HOPELESS = 0.25  # eye distances; above, nothing fits
LIPS = np.array([61, 291, 0, 17, 13, 14, 78, 308])
IRISES = np.array([468, 473])


@dataclass(frozen=True)
class Face:
    """landmarks: (478, 3) float32 pixels. unsure: eye distances by which two looks at its lips differ.
    score: the detector's, 0..1; None where there was no doubt."""

    landmarks: np.ndarray
    unsure: float = 0.0
    score: float | None = None

    @property
    def trusted(self) -> bool:
        """May it be moved at all?"""
        return self.unsure < HOPELESS

    @property
    def covered(self) -> bool:
        """Is something before its mouth, as far as one can tell?"""
        if self.score is None:
            return False
        return self.unsure > 1.5 * UNSURE or (self.unsure > UNSURE and self.score < COVERED_SCORE)


def find_faces(image: np.ndarray) -> list[np.ndarray]:
    """(H, W, 3) uint8 RGB -> [(478, 3) pixels], the largest face first; [] if there is none."""
    return [face.landmarks for face in look_for_faces(image)]


def look_for_faces(image: np.ndarray) -> list[Face]:
    """As `find_faces`, with how far each is to be trusted. Faces from 2 % of the longer side are found."""
    with Mesh() as mesh:
        faces = settle(mesh, image, search(mesh, image))
    return sorted(faces, key=lambda face: extent(face.landmarks), reverse=True)


def settle(mesh: Mesh, image: np.ndarray, faces: list[Face]) -> list[Face]:
    """Where two looks do not agree, the detector says which way up a face is, and whether it is one."""
    if all(face.unsure <= UNSURE for face in faces):
        return faces
    with Detector() as detector:
        faces = [_best_turn(mesh, detector, image, f) if f.unsure > UNSURE else f for f in faces]
    return [face for face in faces if face.score is None or face.score > NO_FACE]


def search(mesh: Mesh, image: np.ndarray, turns: tuple[int, ...] = TURNS) -> list[Face]:
    """Look at the whole; where no face is, at ever smaller overlapping tiles, then at turned copies.

    Those that cannot be trusted, often no faces at all, come only where there are no others.
    """
    doubtful: list[Face] = []
    for turn in turns:
        turned = np.rot90(image, turn)
        longer = max(image.shape[:2])
        more = (2 * TILES[-1],) if longer / TILES[-1] > LARGE_TILE and not turn else ()
        for parts in (*(TURNED_TILES if turn else TILES), *more):
            side = longer / parts
            if side < MIN_TILE and parts > 1:
                break
            faces: list[Face] = []
            for tile, corner in _tiles(turned, side):
                for found in mesh(tile):
                    first = turn_back(found + corner, turn, image.shape)
                    if any(_same(first, other.landmarks) for other in faces):
                        continue
                    face = look_again(mesh, image, first)
                    if face and not any(_same(face.landmarks, other.landmarks) for other in faces):
                        faces.append(face)
            if any(face.trusted for face in faces):
                return [face for face in faces if face.trusted]
            doubtful = doubtful or faces
    return doubtful


def look_again(mesh: Mesh, image: np.ndarray, first: np.ndarray) -> Face | None:
    """A first idea (478, 3) of a face -> the face as two looks at its upright crop see it; None if they do not."""
    crop = Upright.about(first)
    seen = crop.look(mesh, image)
    if seen is not None and abs(turned_by(seen, first)) > 15:  # the first was far off
        crop = Upright.about(seen)
        seen = crop.look(mesh, image)
    if seen is None or not _near(seen, first):
        return None
    mirrored = replace(crop, mirrored=True).look(mesh, image)
    if mirrored is None:
        return Face(seen, HOPELESS)
    distance = float(np.linalg.norm((seen - mirrored)[LIPS, :2], axis=1).mean())
    return Face((seen + mirrored) / 2, distance / max(eyes_apart(seen), 1e-6))


def _best_turn(mesh: Mesh, detector: Detector, image: np.ndarray, face: Face) -> Face:
    """A face may be fitted upside down: the mesh gives the turn that the detector is surest of."""
    crop = Upright.about(face.landmarks)
    scores = [detector(replace(crop, roll=crop.roll + turn * np.pi / 2).cut(image)) for turn in range(4)]
    best = int(np.argmax(scores))
    if best and scores[best] > scores[0] + CLEARER:
        turned = replace(crop, roll=crop.roll + best * np.pi / 2).look(mesh, image)
        again = look_again(mesh, image, turned) if turned is not None else None
        if again and again.unsure < face.unsure:
            return replace(again, score=scores[best])
    return replace(face, score=scores[0])


@dataclass(frozen=True)
class Upright:
    """A square about a face in which it stands upright. center: (2,) pixels, side: pixels, roll: radians."""

    center: np.ndarray
    side: float
    roll: float
    mirrored: bool = False

    @classmethod
    def about(cls, landmarks: np.ndarray) -> Upright:
        across = landmarks[IRISES[1], :2] - landmarks[IRISES[0], :2]
        box = landmarks[:, :2].min(axis=0), landmarks[:, :2].max(axis=0)
        roll = float(np.arctan2(across[1], across[0]))
        return cls((box[0] + box[1]) / 2, MARGIN * extent(landmarks), roll)

    @property
    def matrix(self) -> np.ndarray:
        """(2, 3), pixels of the picture -> of the crop."""
        k = CROP / max(self.side, 1.0)
        cos, sin = k * np.cos(self.roll), k * np.sin(self.roll)
        turn = np.array([[cos, sin], [-sin, cos]])
        if self.mirrored:
            turn[0] *= -1
        return np.column_stack([turn, CROP / 2 - turn @ self.center])

    def cut(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) -> (CROP, CROP, 3)."""
        matrix, shrink = self.matrix, int(self.side / CROP)
        if shrink > 1:  # a large face: shrunk first, by whole pixels, so that nothing flickers
            x0, y0 = np.maximum(np.floor(self.center - self.side).astype(int), 0)
            x1, y1 = np.ceil(self.center + self.side).astype(int)
            part = image[y0:y1, x0:x1]
            size = (max(1, part.shape[1] // shrink), max(1, part.shape[0] // shrink))
            k = np.array([part.shape[1] / size[0], part.shape[0] / size[1]])
            image = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            matrix = np.column_stack([matrix[:, :2] * k, matrix[:, :2] @ [x0, y0] + matrix[:, 2]])
        return cv2.warpAffine(
            image, matrix, (CROP, CROP), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )

    def look(self, mesh: Mesh, image: np.ndarray) -> np.ndarray | None:
        """The landmarks (478, 3), in the picture's pixels, of the crop's face nearest to its middle."""
        faces = mesh(self.cut(image))
        if not faces:
            return None
        face = min(faces, key=lambda f: float(np.linalg.norm(f[:, :2].mean(axis=0) - CROP / 2)))
        back = cv2.invertAffineTransform(self.matrix)
        points = np.column_stack([face[:, :2] @ back[:, :2].T + back[:, 2], face[:, 2] * self.side / CROP])
        return (points[mirror()] if self.mirrored else points).astype(np.float32)


@cache
def mirror() -> np.ndarray:
    """(478,) each landmark's counterpart on the face's other side."""
    flipped = canonical() * [-1, 1, 1]
    return np.array([int(np.linalg.norm(flipped - point, axis=1).argmin()) for point in canonical()])


def turn_back(points: np.ndarray, turn: int, shape: tuple[int, ...]) -> np.ndarray:
    """(N, 3) pixels of np.rot90(image, turn) -> of the image of that `shape`."""
    height, width = shape[:2]
    x, y, z = points.T
    places = ((x, y), (width - y, x), (width - x, height - y), (y, height - x))
    return np.column_stack([*places[turn % 4], z]).astype(np.float32)


def extent(landmarks: np.ndarray) -> float:
    """Pixels of a face's larger side; how faces are ranked."""
    return float(np.ptp(landmarks[:, :2], axis=0).max())


def eyes_apart(landmarks: np.ndarray) -> float:
    """Pixels between the irises."""
    return float(np.linalg.norm(landmarks[IRISES[1], :2] - landmarks[IRISES[0], :2]))


def roll_of(landmarks: np.ndarray) -> float:
    """Degrees by which the eyes' line is turned in the picture, clockwise."""
    across = landmarks[IRISES[1], :2] - landmarks[IRISES[0], :2]
    return float(np.degrees(np.arctan2(across[1], across[0])))


def turned_by(a: np.ndarray, b: np.ndarray) -> float:
    """Degrees from b's eye line to a's, -180..180."""
    return (roll_of(a) - roll_of(b) + 180) % 360 - 180


def _tiles(image: np.ndarray, side: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Squares of `side` pixels that cover the picture and overlap by a third or more, with their corners (3,)."""
    height, width = image.shape[:2]
    for y, x in product(_starts(height, side), _starts(width, side)):
        yield image[y : y + int(side), x : x + int(side)], np.array([x, y, 0], dtype=np.float32)


def _starts(length: int, side: float) -> list[int]:
    count = 1 if side >= length else int(np.ceil((length - side) / (side * 2 / 3))) + 1
    return np.linspace(0, max(0, length - side), count).astype(int).tolist()


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """One face, seen twice?"""
    return _apart(a, b) < 0.3 * min(extent(a), extent(b))


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    """Can b be a first idea of a?"""
    return _apart(a, b) < 0.6 * max(extent(a), extent(b)) and 0.4 < extent(a) / max(extent(b), 1e-6) < 2.5


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a[:, :2].mean(axis=0) - b[:, :2].mean(axis=0)))
