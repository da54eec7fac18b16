"""Doing several things at once with threads: work in order by several workers, and iterators that run ahead.

The heavy parts (OpenCV, torch, FFmpeg) let other threads run. Nothing here outlives the iterator that it serves.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def workers() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    """One for the process: many sessions share the processors."""
    return ThreadPoolExecutor(workers(), thread_name_prefix="moda-draw")


def ordered(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """work(item) of every item, in order, several at a time; a few more than are asked for are begun."""
    items = iter(items)
    begun: deque[Future[R]] = deque()
    try:
        while True:
            while len(begun) < 2 * workers():
                try:
                    begun.append(_pool().submit(work, next(items)))
                except StopIteration:
                    break
            if not begun:
                return
            yield begun.popleft().result()
    finally:
        for future in begun:
            future.cancel()


def ahead(items: Iterable[T], depth: int = 1) -> Iterator[T]:
    """The same items; the next `depth` are made in a thread of their own while these are used.

    An error in making them comes out here, in its place. Leaving the iterator ends the thread after its present item.
    """
    made: queue.Queue = queue.Queue(maxsize=depth)
    left = threading.Event()

    def put(kind: str, value: object) -> bool:
        while not left.is_set():
            try:
                made.put((kind, value), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            for item in items:
                if not put("item", item):
                    return
            put("end", None)
        except BaseException as error:  # handed over, whatever it is
            put("error", error)

    thread = threading.Thread(target=run, name="moda-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = made.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        left.set()
        thread.join()
