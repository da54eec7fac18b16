"""Motion: what lies between generating and rendering (`motion`), and what its numbers mean (`space`)."""

from moda.motion.motion import Motion, join
from moda.motion.space import Space, space

__all__ = ["Motion", "Space", "join", "space"]
