"""The same face from frame to frame of a video: 478 landmarks in each, or None where it is not seen.

MediaPipe's tracker is steady once it has a face, but finds only those that fill much of what it is shown. So a small
or turned face is found as in a still picture (moda.face.landmarks), and the tracker is shown a window about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from moda.errors import ModaError
from moda.face.landmarks import (
    TURNS,
    Face,
    extent,
    look_again,
    roll_of,
    search,
    settle,
    turn_back,
    turned_by,
)
from moda.face.mesh import Mesh

LARGE = 0.22  # of the frame's longer side: a face above is followed in the whole frame
WINDOW = 3.0  # the window's side, in sides of the face
NEARBY = 1.5  # sides of the face: so near to where it was one of several is taken for it again
CHOSEN = 2.0  # the same where one of several faces is followed: the others' middles lie outside
STRAY = 0.6  # sides of the face that it may move from the window's middle
GROWN = 1.5  # so often may its size change before the window does
INSIDE = 0.9  # part of the landmarks that must lie in the frame; those beyond it are guesses
SEARCH_EVERY, SEARCH_LESS = (
    12,
    60,
)  # frames without a face between two looks into every corner: at first, later
SIMILAR = 0.5, 2.0  # size of a face found again, against the one that was lost, to be preferred


@dataclass(frozen=True)
class Window:
    """What the tracker sees of a frame: the square with this corner, turned by quarters; all of it if side is 0."""

    left: int = 0
    top: int = 0
    side: int = 0
    turn: int = 0

    def cut(self, frame: np.ndarray) -> np.ndarray:
        part = (
            frame[self.top : self.top + self.side, self.left : self.left + self.side] if self.side else frame
        )
        return np.rot90(part, self.turn)

    def back(self, points: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Pixels of the cut -> of the frame."""
        height, width = frame.shape[:2]
        shape = (
            (min(self.side, height - self.top), min(self.side, width - self.left))
            if self.side
            else (height, width)
        )
        corner = np.array([self.left, self.top, 0], dtype=np.float32)
        return turn_back(points, self.turn, shape) + corner

    @classmethod
    def about(cls, face: np.ndarray, frame: np.ndarray, chosen: bool = False) -> Window:
        """Of whole pixels, within the frame, so that what does not move is seen alike in every frame.

        chosen: other faces are to be left out.
        """
        height, width = frame.shape[:2]
        turn = round(roll_of(face) / 90) % 4
        size = extent(face)
        if size > LARGE * max(height, width) and not chosen:
            return cls(turn=turn)
        side = int(min((CHOSEN if chosen else WINDOW) * size, max(height, width)))
        left, top = (face[:, :2].mean(axis=0) - side / 2).astype(int)
        left, top = max(0, min(left, width - side)), max(0, min(top, height - side))
        return cls(int(left), int(top), side, turn)

    def fits(self, face: np.ndarray, frame: np.ndarray, chosen: bool = False) -> bool:
        """Is the face still well inside, and of the size that the window was made for?"""
        size = extent(face)
        if not self.side:
            return not chosen and size > LARGE / GROWN * max(frame.shape[:2])
        wanted = Window.about(face, frame, chosen)
        if not 1 / GROWN < self.side / max(wanted.side, 1) < GROWN:
            return False
        stray = STRAY / 2 if chosen else STRAY
        return max(abs(wanted.left - self.left), abs(wanted.top - self.top)) < stray * size


def follow_face(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray | None]:
    """RGB frames of one video -> the followed face's (478, 3) pixels, or None where it is not seen.

    The largest face of the first frame that shows one; where it is lost, the one most like it in place and size.
    """
    follower = Follower()
    try:
        for frame in frames:
            yield follower.push(frame)
    finally:
        follower.close()


class Follower:
    """`follow_face`, pushed frame by frame. One video, one thread; close it.

    face: instead of the largest one, the one of this place by size in the first frame that shows any (0: the largest);
    it alone is followed then. Errors: a ModaError where that frame shows fewer.
    """

    def __init__(self, face: int | None = None) -> None:
        self._face = face
        self._alone = False  # one of several is followed, whoever else is there
        self._tracker: Mesh | None = Mesh(follow=True)
        self._finder: Mesh | None = None
        self._window = Window()
        self._shape: tuple[int, ...] = ()
        self._last: np.ndarray | None = None  # where the face was last seen
        self._lost_for = 0

    def push(self, frame: np.ndarray) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB -> (478, 3) pixels or None."""
        if frame.shape != self._shape:
            self._show(Window())
            self._shape, self._last = frame.shape, None
        face = self._tracked(frame)
        if face is not None and (self._last is None or self._lost_for) and not self._confirmed(frame, face):
            self._show(None)
            face = None
        if self._face is not None and self._last is None:
            face = None  # to be chosen among all that are there
        if self._alone and face is not None and self._unlike(Face(face)) > STRAY:
            face = None  # another's
        if face is None or not self._window.fits(face, frame, self._alone):
            face = self._found(frame, face)
        if face is None:
            self._lost_for += 1
            return None
        self._lost_for = 0
        self._last = face
        inside = (face[:, :2] >= 0).all(axis=1) & (face[:, :2] < [frame.shape[1], frame.shape[0]]).all(axis=1)
        return face if inside.mean() >= INSIDE else None

    def _tracked(self, frame: np.ndarray) -> np.ndarray | None:
        self._tracker = self._tracker or Mesh(follow=True)
        faces = self._tracker(self._window.cut(frame))
        return self._window.back(faces[0], frame) if faces else None

    def _confirmed(self, frame: np.ndarray, face: np.ndarray) -> bool:
        """Is what the tracker begins with a face? On a wall it may see one, and stay there."""
        self._finder = self._finder or Mesh()
        again = look_again(self._finder, frame, face)
        settled = settle(self._finder, frame, [again]) if again else []
        return any(f.trusted and abs(turned_by(f.landmarks, face)) < 45 for f in settled)

    def _found(self, frame: np.ndarray, face: np.ndarray | None) -> np.ndarray | None:
        """Find the face anew, and show the tracker a window about it."""
        if face is None:
            known = self._search(frame)
            if not known:
                return None
            known.sort(key=self._unlike)
            if self._face is None or self._last is not None:
                if self._alone and self._unlike(known[0]) > NEARBY:
                    return None  # the others are not meant
                face = known[0].landmarks
            else:
                if self._face >= len(known):
                    raise ModaError(
                        f"the first frame with a face shows {len(known)}, so face {self._face} is not there; they "
                        "count from 0"
                    )
                self._alone = len(known) > 1
                face = known[self._face].landmarks
        window = Window.about(face, frame, self._alone)
        if window != self._window:
            self._show(window)
            again = self._tracked(frame)
            face = face if again is None else again
        return face

    def _search(self, frame: np.ndarray) -> list[Face]:
        self._finder = self._finder or Mesh()
        if self._lost_for % (SEARCH_EVERY if self._lost_for < SEARCH_LESS else SEARCH_LESS) == 0:
            # Someone upright comes back upright.
            turns = TURNS if self._last is None else (self._window.turn,)
            found = settle(self._finder, frame, search(self._finder, frame, turns))
            return [face for face in found if face.trusted]
        # In between only where it was, so that a long way without a face costs little.
        face = look_again(self._finder, frame, self._last) if self._last is not None else None
        return [face] if face and face.trusted else []

    def _unlike(self, face: Face) -> float:
        """0 for the face that was followed; before there is one, the largest comes first."""
        size = extent(face.landmarks)
        if self._last is None:
            return -size
        before = extent(self._last)
        far = float(np.linalg.norm((face.landmarks - self._last)[:, :2].mean(axis=0))) / before
        return far if SIMILAR[0] < size / before < SIMILAR[1] else far + 10

    def _show(self, window: Window | None) -> None:
        """From now on the tracker sees this (None: the same) and looks anew: where the face was tells it nothing."""
        if window != self._window and self._tracker:
            self._tracker.close()
            self._tracker = None
        self._window = window or self._window

    def close(self) -> None:
        for mesh in (self._tracker, self._finder):
            if mesh:
                mesh.close()
