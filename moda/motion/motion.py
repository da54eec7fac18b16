"""Motion: some seventy numbers a frame, the middle of everything.

Who can make a Motion can drive any portrait; who can draw one can be driven by any source.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from moda.constants import FPS
from moda.errors import ModaError, why
from moda.motion.space import Space
from moda.motion.space import space as find

# Of a file's numbers; none of a face comes near.
LARGEST = {"exp": 100, "scale": 100, "t": 100, "pitch": 360, "yaw": 360, "roll": 360, "breath": 10}
_FACE = ("exp", "scale", "t", "pitch", "yaw", "roll")
_FIELDS = (*_FACE, "breath")


@dataclass(frozen=True, eq=False)
class Motion:
    """A face moving, `fps` frames a second.

    exp:   (T, K, 3) float32, offsets of the space's K keypoints from the neutral face
    scale: (T,)      float32, size of the head
    t:     (T, 3)    float32, translation x right, y down, z away
    pitch, yaw, roll: (T,) float32, degrees
    space: what the numbers mean (moda.motion.space); a name is taken for its space
    fps:   frames a second
    breath: (T,) float32, how far chest and shoulders have risen, 0 as pictured, 1 breathed in; none unless given. It is
           no face's: the numbers of a face (`to_array`) are without it

    Source: MoDA, arXiv 2507.03256, section 3; the order of the numbers is that of its checkpoint.
    """

    exp: np.ndarray
    scale: np.ndarray
    t: np.ndarray
    pitch: np.ndarray
    yaw: np.ndarray
    roll: np.ndarray
    space: Space = field(default_factory=find)
    fps: float = FPS
    breath: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", find(self.space))
        n = len(self.exp)
        if not len(self.breath):
            object.__setattr__(self, "breath", np.zeros(n, np.float32))
        shapes = {
            "exp": (n, self.space.keypoints, 3),
            "scale": (n,),
            "t": (n, 3),
            "pitch": (n,),
            "yaw": (n,),
            "roll": (n,),
            "breath": (n,),
        }
        for name, shape in shapes.items():
            value = np.ascontiguousarray(getattr(self, name), dtype=np.float32)
            if value.shape != shape:
                raise ModaError(f"motion: {name} has shape {value.shape}, but {shape} is needed")
            if not np.isfinite(value).all():
                raise ModaError(f"motion: {name} holds numbers that are not finite")
            object.__setattr__(self, name, value)
        if not self.fps > 0:
            raise ModaError(f"motion: fps is {self.fps}, but must be above 0")

    # -- as numbers ---------------------------------------------------------------------------

    @classmethod
    def from_array(cls, array: np.ndarray, space: Space | str | None = None, fps: float = FPS) -> Motion:
        """(T, dim) in the order exp, scale, t 3, pitch, yaw, roll -> Motion."""
        space = find(space)
        array = np.asarray(array, dtype=np.float32)
        if array.ndim != 2 or array.shape[1] != space.dim:
            raise ModaError(
                f"motion: an array of shape {array.shape} was given, but (frames, {space.dim}) is needed"
            )
        pose = array[:, 3 * space.keypoints :]
        return cls(
            exp=array[:, : 3 * space.keypoints].reshape(-1, space.keypoints, 3),
            scale=pose[:, 0],
            t=pose[:, 1:4],
            pitch=pose[:, 4],
            yaw=pose[:, 5],
            roll=pose[:, 6],
            space=space,
            fps=fps,
        )

    def to_array(self) -> np.ndarray:
        """-> (T, dim) float32 in the order exp, scale, t 3, pitch, yaw, roll."""
        pose = np.stack([self.scale, *self.t.T, self.pitch, self.yaw, self.roll], axis=1)
        return np.concatenate([self.exp.reshape(len(self), 3 * self.space.keypoints), pose], axis=1)

    @classmethod
    def still(cls, frames: int, space: Space | str | None = None, fps: float = FPS) -> Motion:
        """`frames` frames of the neutral face looking straight ahead, at scale 1."""
        space = find(space)
        array = np.zeros((frames, space.dim), dtype=np.float32)
        array[:, 3 * space.keypoints] = 1.0
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

    def __eq__(self, other: object) -> bool:
        """The same numbers, space and rate."""
        if not isinstance(other, Motion):
            return NotImplemented
        if (self.space, self.fps) != (other.space, other.fps):
            return False
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in _FIELDS)

    @property
    def seconds(self) -> float:
        return len(self) / self.fps

    def require(self, wanted: Space | str, who: str) -> Motion:
        """Itself, if its space is the one that `who` works in; else a ModaError that names both."""
        wanted = find(wanted)
        if self.space is not wanted:
            raise ModaError(
                f"{who} works in the {wanted.name!r} space, but this motion is in the {self.space.name!r} space"
            )
        return self

    # -- as a file ----------------------------------------------------------------------------

    def save(self, path: str | os.PathLike) -> Path:
        """Write the documented .npz: exp (T,K,3), scale (T,), t (T,3), pitch, yaw, roll, breath (T,), fps, space."""
        from moda.media.files import whole

        path = Path(path)
        with whole(path) as part, open(part, "wb") as file:
            arrays = {name: getattr(self, name) for name in _FIELDS}
            np.savez_compressed(file, **arrays, fps=np.float64(self.fps), space=np.str_(self.space.name))
        return path

    @classmethod
    def load(cls, path: str | os.PathLike) -> Motion:
        """Read a file that `save` (or anyone following its format; without breath, too) wrote; never unpickles."""
        try:
            with np.load(path, allow_pickle=False) as file:
                missing = [name for name in (*_FACE, "fps", "space") if name not in file]
                if missing:
                    raise ModaError(f"{path} is no motion file: it lacks {', '.join(missing)}")
                arrays = {name: file[name] for name in _FIELDS if name in file}
                for name, array in arrays.items():
                    if array.dtype.kind not in "fiu" or not array.ndim:
                        raise ModaError(f"{path} is no motion file: its {name} holds no numbers of a face")
                    if array.size and np.abs(array).max() > LARGEST[name]:
                        raise ModaError(
                            f"{path} is no motion of a face: its {name} holds numbers beyond {LARGEST[name]}"
                        )
                if arrays["scale"].size and arrays["scale"].min() <= 0:
                    raise ModaError(f"{path} is no motion of a face: its scale must be above 0")
                fps, space = float(file["fps"]), find(str(file["space"]))
        except FileNotFoundError as error:
            raise ModaError(f"there is no motion file {path}") from error
        except ModaError:
            raise
        except OSError as error:
            raise ModaError(f"the motion file {path} cannot be read: {why(error)}") from error
        except Exception as error:  # a damaged archive raises whatever its parts do
            raise ModaError(f"{path} is no motion file: it is damaged, or no archive of arrays") from error
        if not len(arrays["exp"]):
            raise ModaError(f"the motion file {path} holds no frames")
        try:
            return cls(**arrays, space=space, fps=fps)
        except ModaError as error:
            raise ModaError(f"{path}: {error}") from error


def join(parts: Sequence[Motion]) -> Motion:
    """One after another; all of one space and rate."""
    if not parts:
        raise ModaError("motion: nothing to join")
    first = parts[0]
    for part in parts[1:]:
        if (part.space, part.fps) != (first.space, first.fps):
            raise ModaError(
                f"motion: cannot join {first.space.name!r} at {first.fps:g} fps with "
                f"{part.space.name!r} at {part.fps:g} fps"
            )
    return replace(first, **{name: np.concatenate([getattr(p, name) for p in parts]) for name in _FIELDS})
