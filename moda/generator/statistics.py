"""Mean and deviation of a model's motion, and the normalizing that its network sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moda.errors import ModaError
from moda.motion import Motion, Space

EPSILON = np.float32(1e-5)
# Among a motion's numbers, from its end: the scale, z of the translation, and what goes with the head's size.
SCALE, TZ, SIZED = -7, -4, slice(-7, -3)


@dataclass(frozen=True)
class Statistics:
    """mean, std: (dim,) float32, over the training data; dim is the motion's.

    A motion m is normalized as (m - mean) / (std + 1e-5), after its scale and translation were divided by the
    ratio r = (scale + 1e-5) / (mean scale + 1e-5) of its source, and its z translation set to 0.
    """

    mean: np.ndarray
    std: np.ndarray

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            value = np.asarray(getattr(self, name), dtype=np.float32).reshape(-1)
            if not np.isfinite(value).all() or (name == "std" and (value < 0).any()):
                raise ModaError(f"motion statistics: {name} must be finite numbers (std: 0 or more)")
            object.__setattr__(self, name, value)
        if len(self.mean) != len(self.std):
            raise ModaError(
                f"motion statistics: mean has {len(self.mean)} numbers, but std has {len(self.std)}"
            )

    @property
    def unit(self) -> np.ndarray:
        """(dim,) what one unit of the normalized numbers is."""
        return self.std + EPSILON

    def ratio(self, source: Motion) -> np.float32:
        """The size of a source's head (its first frame), relative to the mean."""
        return (source.scale[0] + EPSILON) / (self.mean[SCALE] + EPSILON)

    def normalize(self, motion: Motion, ratio: float) -> np.ndarray:
        """-> (T, dim) float32."""
        array = motion.to_array()
        array[:, TZ] = 0
        array[:, SIZED] /= np.float32(ratio)
        return (array - self.mean) / self.unit

    def restore(self, normalized: np.ndarray, ratio: float, space: Space) -> Motion:
        """(T, dim) -> Motion, the inverse; the z translation is 0."""
        array = normalized * self.unit + self.mean
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
                "motion statistics: mean and std, as many numbers as a motion has, are needed"
            ) from error
