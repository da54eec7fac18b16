"""Motion: the space between generating and rendering. See `moda.motion.motion`."""

from moda.motion.motion import Motion, join

__all__ = ["Motion", "join"]
