"""A stage's time and operations, beside what the machine reaches in the same run and what the published code did."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PUBLISHED_SHARE = 0.65  # of the matrix product's speed, which the published code reaches on two CPU cores


@dataclass(frozen=True)
class Row:
    """One stage: seconds (the best run), GFLOP done here and by the published code, GFLOP/s, its share of the
    machine's matrix product in the same run, and the process's peak memory so far in GB."""

    name: str
    seconds: float
    gflop: float
    published: float
    speed: float
    share: float
    memory: float

    @classmethod
    def of(cls, name: str, seconds: float, gflop: float, published: float, peak: float) -> Row:
        """peak: GFLOP/s of the matrix product."""
        speed = gflop / seconds
        return cls(name, seconds, gflop, published, speed, speed / peak, peak_memory())

    @property
    def gain(self) -> float:
        """Times the published code's speed: its operations over ours, our share of the peak over its share."""
        return self.published / self.gflop * self.share / PUBLISHED_SHARE


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds that a call takes, with all that it leaves to the device."""
    start = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """GPUs work on after the call has come back."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def peak_memory() -> float:
    """GB, of this process since its start."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1e9 if sys.platform == "darwin" else 1e6)
