"""Live sessions in processes of their own, one a processor: threads of one Python process cannot fill them.

A session here is what a `Session` is, at the other end of a pipe. A host does one thing at a time, so its sessions take
turns, four frames each.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from moda.constants import SAMPLE_RATE
from moda.engine.parallel import workers
from moda.errors import ModaError
from moda.motion.timeline import Event, Timeline
from moda.serve.worker import Worker

if TYPE_CHECKING:
    from moda.engine.character import Character
    from moda.engine.session import Frame, Position
    from moda.pipeline import TalkingHead

MOST = 8  # processes: each holds the model, a third of a gigabyte
KEPT = 16  # characters that a host keeps beside those of its sessions
GONE = "this session's process has ended; begin a new one"


class Hosts:
    """count: of processes; as many as processors unless given, one where a GPU does the work."""

    def __init__(self, head: TalkingHead, count: int | None = None) -> None:
        usual = min(workers(), MOST) if head.device == "cpu" else 1
        self._made = head.folder, head.description, head.device, head.precision
        self._workers = [Worker(broken=GONE) for _ in range(count or usual)]
        self._sessions = [0] * len(self._workers)
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._keys: weakref.WeakKeyDictionary[Character, int] = weakref.WeakKeyDictionary()

    @property
    def count(self) -> int:
        """Of processes."""
        return len(self._workers)

    def ready(self, character: Character) -> None:
        """Every host started, with this character: the first session then begins at once."""
        with ThreadPoolExecutor(len(self._workers)) as pool:
            list(pool.map(lambda worker: self._prepare(worker, character), self._workers))

    def cost(self, character: Character) -> float:
        """As `moda.engine.capacity.cost`, measured in a host."""
        worker = self._workers[0]
        self._prepare(worker, character)
        return worker.call("moda.serve.hosts:_cost", self._keys[character])

    def open(
        self, character: Character, *, seed: int = 0, emotion: str | None = None, rate: int = SAMPLE_RATE
    ) -> HostedSession:
        """A session where there are fewest. Errors: ModaError as `Character.session`."""
        with self._lock:
            place = self._sessions.index(min(self._sessions))
            self._sessions[place] += 1
        worker, number = self._workers[place], next(self._numbers)
        try:
            self._prepare(worker, character)
            options = {"seed": seed, "emotion": emotion, "rate": rate}
            worker.call("moda.serve.hosts:_open", number, self._keys[character], options)
        except BaseException:
            self._left(place)
            raise
        return HostedSession(self, place, number, rate)

    def processor_seconds(self) -> float:
        """Of all hosts so far."""
        return sum(worker.call("time:process_time") for worker in self._workers)

    def close(self) -> None:
        for worker in self._workers:
            worker.close()

    def call(self, place: int, name: str, *args: object) -> Any:
        return self._workers[place].call(f"moda.serve.hosts:{name}", *args)

    def end(self, place: int, number: int) -> None:
        self._left(place)
        with suppress(ModaError):  # its process died: nothing is left of it
            self.call(place, "_end", number)

    def _left(self, place: int) -> None:
        with self._lock:
            self._sessions[place] -= 1

    def _prepare(self, worker: Worker, character: Character) -> None:
        with self._lock:
            if character not in self._keys:
                self._keys[character] = next(self._numbers)
            key = self._keys[character]
        if not worker.call("moda.serve.hosts:_knows", key):
            worker.call("moda.serve.hosts:_prepare", key, self._made, character.source, character.view)


class HostedSession:
    """See moda.engine.session.Session, whose calls these are. Errors: also a ModaError where its process has ended."""

    def __init__(self, hosts: Hosts, place: int, number: int, rate: int) -> None:
        self.rate = rate
        self._hosts, self._place, self._number = hosts, place, number
        self._stride, self._closed = 1, False

    @property
    def stride(self) -> int:
        return self._stride

    @stride.setter
    def stride(self, value: int) -> None:
        self._stride = value
        self._hosts.call(self._place, "_thin", self._number, value)

    def push(self, sound: np.ndarray) -> list[Frame]:
        return self._call("push", sound)

    def flush(self) -> list[Frame]:
        return self._call("flush")

    def idle(self, frames: int = 4) -> list[Frame]:
        return self._call("idle", frames)

    def interrupt(self, shown: int | None = None) -> Position:
        return self._call("interrupt", shown)

    def set(self, **settings: object) -> None:
        self._call("set", **settings)

    def direct(self, timeline: Timeline | Sequence[Event]) -> None:
        self._call("direct", timeline)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._hosts.end(self._place, self._number)

    def _call(self, name: str, *args: object, **options: object) -> Any:
        return self._hosts.call(self._place, "_act", self._number, name, args, options)


# -- in a host --------------------------------------------------------------------------------

_head: Any = None
_characters: OrderedDict[int, Any] = OrderedDict()
_sessions: dict[int, Any] = {}


def _knows(key: int) -> bool:
    return key in _characters


def _prepare(key: int, made: tuple, source: Any, view: Any) -> None:
    import torch

    from moda.engine.character import Character
    from moda.pipeline import TalkingHead

    global _head
    if _head is None:
        torch.set_num_threads(1)  # the other processors have hosts of their own
        _head = TalkingHead(*made)
    _characters[key] = Character(_head, source, view)
    while len(_characters) > KEPT:
        _characters.popitem(last=False)


def _cost(key: int) -> float:
    from moda.engine.capacity import cost

    return cost(_characters[key])


def _open(number: int, key: int, options: dict) -> None:
    _characters.move_to_end(key)
    _sessions[number] = _characters[key].session(**options)


def _end(number: int) -> None:
    _sessions.pop(number, None)


def _thin(number: int, stride: int) -> None:
    _session(number).stride = stride


def _act(number: int, name: str, args: tuple, options: dict) -> Any:
    return getattr(_session(number), name)(*args, **options)


def _session(number: int) -> Any:
    if number not in _sessions:  # this process took the place of one that had died
        raise ModaError(GONE)
    return _sessions[number]
