"""A batch on a Ray cluster: actors that make lines; one whose node is lost is followed by another, its line made again.

Every node must see the same folders (portraits, sounds, output) and have moda installed.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from moda.batch.manifest import Job, Line
from moda.batch.work import Setup, Worker
from moda.errors import ModaError

if TYPE_CHECKING:
    from moda.batch.run import Done

PATIENCE = 10.0  # seconds for the cluster's door to open


class _Actor:
    """What Ray Data calls with one line at a time. Lines travel as JSON, whatever columns they have."""

    def __init__(self, setup: Setup) -> None:
        self.worker = Worker(setup)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        values = json.loads(row["job"])
        job = Job(values["number"], Line(**values["line"]), values["output"])
        return {"number": job.number, "reason": self.worker.make(job) or ""}


def _reachable(address: str) -> None:
    """Errors: ModaError where nobody listens, for which Ray itself waits minutes. "auto" and "local" name no place."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise ModaError(f"there is no Ray cluster at {address}: {error}") from error


def spread(jobs: Sequence[Job], setup: Setup, address: str, done: Done) -> None:
    """Make the jobs on the cluster; done(job, reason) as they end. Errors: ModaError without Ray or its cluster."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ModaError("--ray needs Ray: pip install 'moda-talkinghead[cluster]'") from error
    if not jobs:
        return
    _reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
    except Exception as error:  # Ray raises what it likes for an address that does not answer
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModaError(f"there is no Ray cluster at {address}: {first}") from error
    by_number = {job.number: job for job in jobs}
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = 0
    rows = [{"job": json.dumps(asdict(job))} for job in jobs]
    actors = max(1, int(ray.cluster_resources().get("CPU", 1)))
    made = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        _Actor,
        fn_constructor_args=(setup,),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),
        num_cpus=1,
        max_restarts=-1,
        max_task_retries=-1,
    )
    try:
        for row in made.iter_rows():
            done(by_number.pop(row["number"]), row["reason"] or None)
    finally:
        ray.shutdown()
    for job in by_number.values():  # nothing is silently lost
        done(job, "the cluster gave no answer for this line")
