"""A batch on this machine: several processes, each with its part of the processors; one that dies takes one line along."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, replace
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path

from moda.batch.manifest import Failure, Job, read
from moda.batch.work import Setup, Worker, is_there
from moda.engine.parallel import workers as processors
from moda.errors import ModaError, why
from moda.validation import check_whole

FAILED = "failed.jsonl"
TRIES = 2  # of a line in whose making a process died
Done = Callable[[Job, str | None], None]


def run(
    manifest: Path,
    folder: Path,
    setup: Setup,
    count: int = 1,
    ray: str | None = None,
    progress: Callable[[float], None] | None = None,
) -> dict:
    """-> {"lines", "made", "there_already", "failed", "seconds"}; the failed ones' reasons are in failed.jsonl.

    count: processes here; ray: a cluster's address instead. Errors: ModaError for a table that cannot be read.
    """
    check_whole("workers", count, 1, 256)
    jobs, failures = read(manifest, folder)
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModaError(f"cannot write the folder {folder}: {why(error)}") from error
    began = time.perf_counter()
    lines, made, there = len(jobs) + len(failures), 0, 0
    waiting = []
    for job in jobs:
        try:
            if is_there(job):
                there += 1
            else:
                waiting.append(job)
        except OSError as error:
            reason = f"{error.filename}: {error.strerror}"
            failures.append(Failure(job.number, Path(job.output).name, reason))

    def done(job: Job, reason: str | None) -> None:
        nonlocal made
        if reason is None:
            made += 1
        else:
            failures.append(Failure(job.number, Path(job.output).name, reason))
        if progress:
            progress((made + there + len(failures)) / lines)

    # Lines of one portrait lie together, so that few processes prepare it.
    waiting.sort(key=lambda job: (job.line.portrait, job.number))
    try:
        if ray is not None:
            from moda.batch.cluster import spread

            spread(waiting, setup, ray, done)
        elif waiting:
            _here(waiting, setup, min(count, len(waiting)), done)
    except BaseException:
        if new:
            with suppress(OSError):  # what was made stays
                folder.rmdir()
        raise
    failures.sort(key=lambda failure: failure.number)
    _write(folder / FAILED, failures)
    return {
        "lines": lines,
        "made": made,
        "there_already": there,
        "failed": len(failures),
        "seconds": time.perf_counter() - began,
    }


def _here(jobs: Sequence[Job], setup: Setup, count: int, done: Done) -> None:
    """Each process has a thread that hands it lines; a dead process is followed by another."""
    waiting: queue.SimpleQueue[tuple[Job, int]] = queue.SimpleQueue()
    for job in jobs:
        waiting.put((job, 1))
    lock, stop = threading.Lock(), threading.Event()
    mine = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    setup = replace(setup, threads=max(1, processors() // count))
    errors: list[BaseException] = []

    def hand(index: int) -> None:
        cores = mine[index::count] if count <= len(mine) else []
        pool = _process(setup, cores)
        try:
            while not stop.is_set():
                try:
                    job, tries = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    reason = pool.submit(_make, job).result()
                except BrokenProcessPool:
                    pool.shutdown(wait=False)
                    pool = _process(setup, cores)
                    if tries < TRIES:
                        waiting.put((job, tries + 1))
                        continue
                    reason = "the process that made it died (out of memory?)"
                with lock:
                    done(job, reason)
        except BaseException as error:
            errors.append(error)
            stop.set()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    threads = [threading.Thread(target=hand, args=(index,), name="moda-batch") for index in range(count)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        stop.set()  # the lines under way are finished or, the processes interrupted too, leave nothing
        raise
    if errors:
        raise errors[0]


def _process(setup: Setup, cores: list[int]) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, get_context("spawn"), initializer=_begin, initargs=(setup, cores))


_worker: Worker | None = None


def _begin(setup: Setup, cores: list[int]) -> None:
    global _worker
    from moda.cli.surroundings import prepare

    prepare()
    threading.Thread(target=_leave_with, args=(parent_process(),), daemon=True).start()
    if cores:
        os.sched_setaffinity(0, cores)
    _worker = Worker(setup)


def _leave_with(parent: BaseProcess | None) -> None:
    """A process whose parent is gone ends as by Ctrl-C, so that no half-written file stays."""
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
    os._exit(1)


def _make(job: Job) -> str | None:
    assert _worker
    return _worker.make(job)


def _write(path: Path, failures: Sequence[Failure]) -> None:
    """One line a failure; no file where there is none."""
    if not failures:
        path.unlink(missing_ok=True)
        return
    from moda.media.files import whole

    with whole(path) as part:
        part.write_text("".join(json.dumps(asdict(failure)) + "\n" for failure in failures))
