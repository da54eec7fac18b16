"""Motion: 70 numbers a frame, the middle of everything.

Who can make a Motion can drive any portrait; who can draw one can be driven by any source.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from moda.constants import FPS, KEYPOINTS, MOTION_DIM
from moda.errors import ModaError

SPACES = ("explicit", "liveportrait")
_FIELDS = ("exp", "scale", "t", "pitch", "yaw", "roll")


@dataclass(frozen=True)
class Motion:
    """A face moving, `fps` frames a second.

    exp:   (T, 21, 3) float32, offsets of the keypoints from the neutral face
    scale: (T,)       float32, size of the head (1 at rest in the explicit space)
    t:     (T, 3)     float32, translation x right, y down, z away
    pitch, yaw, roll: (T,) float32, degrees
    space: what the numbers mean, one of `SPACES`:
        "explicit"      named facial points, units of the eye distance (moda.motion.explicit)
        "liveportrait"  learned keypoints of the LivePortrait renderer

    Source: MoDA, arXiv 2507.03256, section 3; the order of the 70 numbers is that of its checkpoint.
    """

    exp: np.ndarray
    scale: np.ndarray
    t: np.ndarray
    pitch: np.ndarray
    yaw: np.ndarray
    roll: np.ndarray
    space: str = "explicit"
    fps: float = FPS

    def __post_init__(self) -> None:
        n = len(self.exp)
        shapes = {
            "exp": (n, KEYPOINTS, 3),
            "scale": (n,),
            "t": (n, 3),
            "pitch": (n,),
            "yaw": (n,),
            "roll": (n,),
        }
        for name, shape in shapes.items():
            value = np.ascontiguousarray(getattr(self, name), dtype=np.float32)
            if value.shape != shape:
                raise ModaError(f"motion: {name} has shape {value.shape}, but {shape} is needed")
            if not np.isfinite(value).all():
                raise ModaError(f"motion: {name} holds numbers that are not finite")
            object.__setattr__(self, name, value)
        if self.space not in SPACES:
            raise ModaError(f"motion: space is {self.space!r}, but must be one of {', '.join(SPACES)}")
        if not self.fps > 0:
            raise ModaError(f"motion: fps is {self.fps}, but must be above 0")

    # -- as numbers ---------------------------------------------------------------------------

    @classmethod
    def from_array(cls, array: np.ndarray, space: str = "explicit", fps: float = FPS) -> Motion:
        """(T, 70) in the order exp 63, scale, t 3, pitch, yaw, roll -> Motion."""
        array = np.asarray(array, dtype=np.float32)
        if array.ndim != 2 or array.shape[1] != MOTION_DIM:
            raise ModaError(
                f"motion: an array of shape {array.shape} was given, but (frames, {MOTION_DIM}) is needed"
            )
        return cls(
            exp=array[:, :63].reshape(-1, KEYPOINTS, 3),
            scale=array[:, 63],
            t=array[:, 64:67],
            pitch=array[:, 67],
            yaw=array[:, 68],
            roll=array[:, 69],
            space=space,
            fps=fps,
        )

    def to_array(self) -> np.ndarray:
        """-> (T, 70) float32 in the order exp 63, scale, t 3, pitch, yaw, roll."""
        pose = np.stack([self.scale, *self.t.T, self.pitch, self.yaw, self.roll], axis=1)
        return np.concatenate([self.exp.reshape(len(self), -1), pose], axis=1)

    @classmethod
    def still(cls, frames: int, space: str = "explicit", fps: float = FPS) -> Motion:
        """`frames` frames of the neutral face looking straight ahead, at scale 1."""
        array = np.zeros((frames, MOTION_DIM), dtype=np.float32)
        array[:, 63] = 1.0
        return cls.from_array(array, space, fps)

    # -- as a sequence ------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.exp)

    def __getitem__(self, index: slice | int) -> Motion:
        """A part of it; an integer gives a Motion of one frame."""
        if isinstance(index, (int, np.integer)):
            if not -len(self) <= index < len(self):
                raise IndexError(index)
            index = slice(index, index + 1 or None)
        return replace(self, **{name: getattr(self, name)[index] for name in _FIELDS})

    @property
    def seconds(self) -> float:
        return len(self) / self.fps

    def require(self, space: str, who: str) -> Motion:
        """Itself, if its space is the one that `who` works in; else a ModaError that names both."""
        if self.space != space:
            raise ModaError(
                f"{who} works in the {space!r} space, but this motion is in the {self.space!r} space"
            )
        return self

    # -- as a file ----------------------------------------------------------------------------

    def save(self, path: str | os.PathLike) -> Path:
        """Write the documented .npz: exp (T,21,3), scale (T,), t (T,3), pitch, yaw, roll (T,), fps, space."""
        from moda.media.files import whole

        path = Path(path)
        with whole(path) as part, open(part, "wb") as file:
            arrays = {name: getattr(self, name) for name in _FIELDS}
            np.savez_compressed(file, **arrays, fps=np.float64(self.fps), space=np.str_(self.space))
        return path

    @classmethod
    def load(cls, path: str | os.PathLike) -> Motion:
        """Read a file that `save` (or anyone following its format) wrote; never unpickles."""
        try:
            with np.load(path, allow_pickle=False) as file:
                missing = [name for name in (*_FIELDS, "fps", "space") if name not in file]
                if missing:
                    raise ModaError(f"{path} is no motion file: it lacks {', '.join(missing)}")
                arrays = {name: file[name] for name in _FIELDS}
                fps, space = float(file["fps"]), str(file["space"])
        except FileNotFoundError as error:
            raise ModaError(f"there is no motion file {path}") from error
        except ModaError:
            raise
        except Exception as error:  # a damaged archive raises whatever its parts do
            raise ModaError(f"{path} is no motion file that can be read: {error}") from error
        if not len(arrays["exp"]):
            raise ModaError(f"the motion file {path} holds no frames")
        return cls(**arrays, space=space, fps=fps)


def join(parts: Sequence[Motion]) -> Motion:
    """One after another; all of one space and rate."""
    if not parts:
        raise ModaError("motion: nothing to join")
    first = parts[0]
    for part in parts[1:]:
        if (part.space, part.fps) != (first.space, first.fps):
            raise ModaError(
                f"motion: cannot join {first.space!r} at {first.fps:g} fps with {part.space!r} at {part.fps:g} fps"
            )
    return replace(first, **{name: np.concatenate([getattr(p, name) for p in parts]) for name in _FIELDS})
