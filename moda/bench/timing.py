"""A stage's time and operations, beside what the machine reaches in the same run."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


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


def current_memory() -> float:
    """GB that this process holds now; its peak where the system does not say."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize() / 1e9
    except OSError:
        return peak_memory()
