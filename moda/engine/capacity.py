"""How many live sessions this machine holds, measured; the next one is refused before anyone's face stutters."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from moda.constants import SAMPLE_RATE
from moda.engine.parallel import workers
from moda.errors import ModaError

if TYPE_CHECKING:
    from moda.engine.character import Character

# Of the processors that sessions may take, measured: threads of one process do not fill them all; hosts (moda.serve.hosts)
# do, but their pictures have to be encoded too.
SHARE, SHARE_OF_HOSTS = 0.5, 0.8
SECONDS = 2.0  # of sound that is measured, after as much to warm up


def cost(character: Character) -> float:
    """Processor seconds that a speaking live session of this character takes a second."""
    session = character.session()
    noise = np.random.default_rng(0).standard_normal(round(SECONDS * SAMPLE_RATE)).astype(np.float32) * 0.1
    pieces = np.split(noise, range(2560, len(noise), 2560))
    for piece in pieces:
        session.push(piece)
    frames, start = 0, time.process_time()
    for piece in pieces:
        frames += len(session.push(piece))
    return (time.process_time() - start) / (frames / 25)


def limit(hosts: bool) -> float:
    """Processor seconds a second that sessions may take here. hosts: whether in processes of their own."""
    return workers() * (SHARE_OF_HOSTS if hosts else SHARE)


class Full(ModaError):
    """No more sessions fit on this machine now."""


class Admission:
    """Lets sessions in as long as their costs fit.

    limit: processor seconds a second that they may take together. processes: that they live in, of which each has its
    even part of the limit: no session can be parted among them.
    """

    def __init__(self, limit: float, processes: int = 1) -> None:
        self.limit = limit / processes
        self._taken = [0.0] * processes
        self._count = 0
        self._lock = threading.Lock()

    @property
    def sessions(self) -> int:
        return self._count

    def room(self, cost: float) -> int:
        """How many more sessions of this cost fit."""
        with self._lock:
            return sum(int((self.limit - taken) / cost + 1e-9) for taken in self._taken)

    @contextmanager
    def admit(self, cost: float) -> Iterator[None]:
        """For as long as a session lives. Errors: Full. The first session is always let in."""
        with self._lock:
            place = self._taken.index(min(self._taken))
            if self._count and self._taken[place] + cost > self.limit + 1e-9:
                raise Full(
                    f"this machine is full: {self._count} sessions are all that it holds at 25 frames a second"
                )
            self._taken[place] += cost
            self._count += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[place] -= cost
                self._count -= 1
