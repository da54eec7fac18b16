"""Mean and deviation of a model's motion, and the normalising that its network sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moda.constants import KEYPOINTS, MOTION_DIM
from moda.errors import ModaError
from moda.motion import Motion

EPSILON = np.float32(1e-5)
SCALE = 3 * KEYPOINTS  # place of the scale among the 70 numbers
SIZED = slice(SCALE, SCALE + 4)  # the scale and the translation, which go with the size of the source's head
TZ = SCALE + 3


@dataclass(frozen=True)
class Statistics:
    """mean, std: (70,) float32, over the training data.

    A motion m is normalised as (m - mean) / (std + 1e-5), after its scale and translation were divided by the
    ratio r = (scale + 1e-5) / (mean scale + 1e-5) of its source, and its z translation set to 0.
    """

    mean: np.ndarray
    std: np.ndarray

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = np.asarray(getattr(self, name), dtype=np.float32).reshape(-1)
            if (
                value.shape != (MOTION_DIM,)
                or not np.isfinite(value).all()
                or (name == "std" and (value < 0).any())
            ):
                raise ModaError(
                    f"motion statistics: {name} must be {MOTION_DIM} finite numbers (std: 0 or more)"
                )
            object.__setattr__(self, name, value)

    @property
    def unit(self) -> np.ndarray:
        """(70,) what one unit of the normalised numbers is."""
        return self.std + EPSILON

    def ratio(self, source: Motion) -> np.float32:
        """The size of a source's head (its first frame), relative to the mean."""
        return (source.scale[0] + EPSILON) / (self.mean[SCALE] + EPSILON)

    def normalise(self, motion: Motion, ratio: float) -> np.ndarray:
        """-> (T, 70) float32."""
        array = motion.to_array()
        array[:, TZ] = 0
        array[:, SIZED] /= np.float32(ratio)
        return (array - self.mean) / self.unit

    def restore(self, normalised: np.ndarray, ratio: float, space: str) -> Motion:
        """(T, 70) -> Motion, the inverse; the z translation is 0."""
        array = normalised * self.unit + self.mean
        array[:, SIZED] *= np.float32(ratio)
        array[:, TZ] = 0
        return Motion.from_array(array, space)

    def to_dict(self) -> dict[str, list[float]]:
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, values: dict) -> Statistics:
        try:
            return cls(np.array(values["mean"], dtype=np.float32), np.array(values["std"], dtype=np.float32))
        except (KeyError, TypeError, ValueError) as error:
            raise ModaError(
                f"motion statistics: mean and std, {MOTION_DIM} numbers each, are needed"
            ) from error
