"""Videos as jobs: post a portrait and a sound, watch the progress, fetch the mp4. Each job has a folder of its own."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from moda.errors import ModaError
from moda.serve.hub import Refused
from moda.serve.worker import Worker

if TYPE_CHECKING:
    from moda.serve.hub import Hub

MAX_JOBS = 32  # that wait or are kept
KEEP_SECONDS = 3600.0  # after which a job and its files are deleted

FILES = ("portrait", "sound")


def _named(message: str, paths: list[Path]) -> str:
    """What is said of the server's files, of what was sent."""
    for path in paths:
        for said in (f"the {path.name} of {path}", str(path)):
            message = message.replace(said, f"the {path.name} sent")
    return message


@dataclass
class Job:
    """state: waiting, running, done or failed; progress: 0..1; message: why it failed."""

    id: str
    folder: Path
    options: dict
    state: str = "waiting"
    progress: float = 0.0
    message: str | None = None
    made: float = field(default_factory=time.monotonic)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def video(self) -> Path:
        return self.folder / "video.mp4"

    def told(self) -> dict:
        said = {"id": self.id, "state": self.state, "progress": round(self.progress, 3)}
        return said | ({"message": self.message} if self.message else {})

    def change(self, **values: object) -> None:
        for name, value in values.items():
            setattr(self, name, value)
        self.changed.set()
        self.changed = asyncio.Event()


class Jobs:
    """One at a time, in a process of its own."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.jobs: dict[str, Job] = {}
        self._waiting: asyncio.Queue[Job] = asyncio.Queue()
        self._worker = Worker(timeout=300.0)
        self._tasks: list[asyncio.Task] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._sweep())]

    async def new(self, portrait: bytes, sound: bytes, options: dict) -> Job:
        """Errors: Refused where too many wait, and for files that cannot be read."""
        self._check_room()
        key = secrets.token_hex(16)
        folder = Path(self.hub.folder.name) / f"job-{key}"
        folder.mkdir()
        paths = [folder / name for name in FILES]
        try:
            for path, content in zip(paths, (portrait, sound)):
                path.write_bytes(content)
            check = "moda.serve.worker:check_files"
            await self.hub.in_pool(self.hub.uploads, self.hub.reader.call, check, *map(str, paths))
            self._check_room()  # others may have come meanwhile
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, ModaError):
                raise Refused(422, _named(str(error), paths)) from error
            raise
        over = [old for old in self.jobs.values() if old.state in ("done", "failed")]
        for old in over[: max(0, len(self.jobs) - MAX_JOBS + 1)]:
            self.delete(old.id)
        job = Job(key, folder, options)
        self.jobs[key] = job
        self.hub.counted["jobs"] += 1
        self._waiting.put_nowait(job)
        return job

    def _check_room(self) -> None:
        if sum(job.state in ("waiting", "running") for job in self.jobs.values()) >= MAX_JOBS:
            raise Refused(503, f"{MAX_JOBS} videos are waiting already; try again later")

    def get(self, key: str) -> Job:
        """Errors: Refused for an unknown id."""
        if key not in self.jobs:
            raise Refused(404, "there is no such job")
        return self.jobs[key]

    def delete(self, key: str) -> None:
        job = self.get(key)
        if job.state == "running":
            self._worker.close()  # its call fails, and the next job starts a new process
        del self.jobs[key]
        job.change(state="failed", message="deleted")
        shutil.rmtree(job.folder, ignore_errors=True)

    async def watch(self, job: Job) -> AsyncIterator[dict]:
        """What there is to say of a job, until it is over."""
        while True:
            changed = job.changed
            yield job.told()
            if job.state in ("done", "failed"):
                return
            await changed.wait()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._worker.close()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            job = await self._waiting.get()
            if job.id not in self.jobs:
                continue
            job.change(state="running")

            def report(part: float, job: Job = job) -> None:
                loop.call_soon_threadsafe(lambda: job.change(progress=part))

            head = self.hub.head
            paths = [job.folder / name for name in FILES]
            try:
                await asyncio.to_thread(
                    self._worker.call, "moda.serve.worker:generate", str(head.folder), head.device,
                    *map(str, paths), str(job.video), job.options, progress=report,
                )  # fmt: skip
                await asyncio.sleep(0)
                job.change(state="done", progress=1.0)
            except Exception as error:  # whatever it was, the next job is waiting
                message = str(error) if isinstance(error, ModaError) else "a fault of the server's own"
                if job.state == "running":
                    job.change(state="failed", message=_named(message, paths))
            for path in paths:  # they are not needed any more
                path.unlink(missing_ok=True)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(30)
            for job in list(self.jobs.values()):
                if time.monotonic() - job.made > KEEP_SECONDS and job.state != "running":
                    self.delete(job.id)
