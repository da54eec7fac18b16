"""What a server holds: the model, portraits by secret ids, who is let in, and what is counted."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import tempfile
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moda.engine.capacity import Admission, cost, limit
from moda.engine.character import Character
from moda.errors import ModaError
from moda.serve.live import Counts, LiveSession
from moda.serve.worker import Worker

if TYPE_CHECKING:
    from moda.engine.session import Session
    from moda.pipeline import TalkingHead
    from moda.serve.hosts import HostedSession, Hosts
    from moda.voice import Voice

log = logging.getLogger("moda.serve")

SIZES = (128, 256, 384, 512)
MAX_PICTURE = 20_000_000  # bytes of an upload
MAX_SOUND = 200_000_000
PORTRAITS = 64  # uploaded ones that are kept
IDLE_SECONDS = 300.0  # of a session that nobody speaks to, after which it is ended
MAX_SESSION_SECONDS = 4 * 3600.0
RETRY_AFTER = 10  # seconds that somebody who was refused should wait


class Refused(Exception):
    """An answer that is no success: an HTTP status and a line for the person."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class Entry:
    """A portrait. name: of the server's own, None for an uploaded one. characters: by size."""

    image: np.ndarray
    name: str | None
    characters: dict[int, Character] = field(default_factory=dict)


class Hub:
    """shared by all requests; its slow parts run in threads."""

    def __init__(
        self,
        head: TalkingHead,
        voice: Voice | None = None,
        token: str | None = None,
        size: int = 512,
        admission: Admission | None = None,
        hosts: Hosts | None = None,
    ) -> None:
        """hosts: where sessions are; None: in this process."""
        self.head, self.voice, self.token, self.size, self.hosts = head, voice, token, size, hosts
        self.admission = admission or Admission(limit(hosts is not None), hosts.count if hosts else 1)
        self.portraits: OrderedDict[str, Entry] = OrderedDict()
        self.costs: dict[int, float] = {}
        self.sessions: dict[str, LiveSession] = {}
        self.counted: Counter[str] = Counter()
        self.ended = Counts()  # of sessions that are gone
        self.reader = Worker()
        # Threads of their own: what takes long for one must not hold up the pictures of another.
        self.pictures, self.voices, self.uploads = (
            ThreadPoolExecutor(count, name) for count, name in ((2, "jpeg"), (8, "voice"), (2, "upload"))
        )
        self.folder = tempfile.TemporaryDirectory(prefix="moda-serve-")
        self.closing = False
        self._preparing = asyncio.Lock()

    @staticmethod
    async def in_pool(pool: ThreadPoolExecutor, call: Callable, *args: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, call, *args)

    # -- portraits -----------------------------------------------------------------------------

    def add(self, path: Path) -> str:
        """One of the server's own portraits, known to everyone by its file's name."""
        from moda.media.picture import read_picture

        key = hashlib.sha256(str(path).encode()).hexdigest()[:32]
        entry = Entry(read_picture(path), path.stem)
        try:
            entry.characters[self.size] = self.head.prepare(entry.image, size=self.size)
        except ModaError as error:
            raise ModaError(f"{path}: {error}") from error
        self.portraits[key] = entry
        return key

    async def upload(self, data: bytes) -> str:
        """A stranger's portrait -> its id, which only the stranger knows. Errors: Refused."""
        if len(data) > MAX_PICTURE:
            raise Refused(413, f"a picture may have {MAX_PICTURE // 1_000_000} MB at most")
        key = secrets.token_hex(16)
        path = Path(self.folder.name) / key
        try:
            path.write_bytes(data)
            image = await self.in_pool(
                self.uploads, self.reader.call, "moda.serve.worker:read_picture", str(path)
            )
            entry = Entry(image, None)
            prepare = partial(self.head.prepare, image, size=self.size)
            entry.characters[self.size] = await self.in_pool(self.uploads, prepare)
        except ModaError as error:
            raise Refused(422, str(error).replace(str(path), "the upload")) from error
        finally:
            path.unlink(missing_ok=True)
        self.portraits[key] = entry
        uploaded = [one for one, kept in self.portraits.items() if kept.name is None]
        for old in uploaded[:-PORTRAITS]:
            del self.portraits[old]
        return key

    async def character(self, key: str, size: int) -> Character:
        """Errors: Refused for an unknown id or size."""
        if self.closing:
            raise Refused(503, "the server is going down")
        entry = self.portraits.get(key)
        if entry is None:
            raise Refused(404, "there is no such portrait; upload it first")
        if size not in SIZES:
            raise Refused(400, f"size must be one of {', '.join(map(str, SIZES))}")
        if size not in entry.characters:
            async with self._preparing:
                entry.characters[size] = await asyncio.to_thread(self.head.prepare, entry.image, size=size)
        return entry.characters[size]

    async def cost(self, character: Character) -> float:
        """Of a session; measured once a size."""
        if character.view.size not in self.costs:
            await asyncio.to_thread(self.measure, character)
        return self.costs[character.view.size]

    def measure(self, character: Character) -> None:
        size = character.view.size
        self.costs[size] = self.hosts.cost(character) if self.hosts else cost(character)
        log.info("a session of %d pixels takes %.2f processors", size, self.costs[size])

    # -- sessions ------------------------------------------------------------------------------

    async def session(self, character: Character, **options) -> Session | HostedSession:
        """seed, emotion, rate. Errors: ModaError as `Character.session`."""
        make = self.hosts.open if self.hosts else Character.session
        return await asyncio.to_thread(partial(make, character, **options))

    def register(self, live: LiveSession) -> str:
        key = secrets.token_hex(16)
        self.sessions[key] = live
        self.counted["sessions"] += 1
        log.info("session %s: begun", key[:8])
        return key

    def forget(self, key: str) -> None:
        live = self.sessions.pop(key, None)
        if live is None:
            return
        for name in ("frames", "late", "thinned", "resets", "interrupts"):
            setattr(self.ended, name, getattr(self.ended, name) + getattr(live.counts, name))
        log.info("session %s: ended after %d frames, %d late", key[:8], live.counts.frames, live.counts.late)

    async def watch(self, live: LiveSession) -> str:
        """Until the session has lived or idled too long -> why it has to end."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(0.5)
            if self.closing:
                return "the server is going down"
            if time.monotonic() - live.touched > IDLE_SECONDS:
                return f"nothing was said for {IDLE_SECONDS:.0f} s"
            if time.monotonic() - began > MAX_SESSION_SECONDS:
                return "the session is over"

    async def close(self) -> None:
        """Utterances are finished, then everything ends."""
        self.closing = True
        for live in list(self.sessions.values()):
            await asyncio.to_thread(live.close, True)
        self.reader.close()
        if self.hosts:
            self.hosts.close()
        for pool in (self.pictures, self.voices, self.uploads):
            pool.shutdown(wait=False, cancel_futures=True)
        self.folder.cleanup()

    # -- seen from outside ---------------------------------------------------------------------

    def metrics(self) -> str:
        """Prometheus text."""
        lives = list(self.sessions.values())

        def total(name: str) -> int:
            return getattr(self.ended, name) + sum(getattr(live.counts, name) for live in lives)

        def latest(name: str) -> float:
            values = [value for live in lives if (value := getattr(live.counts, name)) is not None]
            return max(values, default=0.0)

        rows = [
            ("moda_sessions", "gauge", "Sessions now.", len(lives)),
            ("moda_sessions_total", "counter", "Sessions so far.", self.counted["sessions"]),
            ("moda_refused_total", "counter", "Sessions refused for lack of room.", self.counted["refused"]),
            ("moda_jobs_total", "counter", "Videos asked for.", self.counted["jobs"]),
            ("moda_frames_total", "counter", "Frames delivered.", total("frames")),
            ("moda_frames_late_total", "counter", "Frames more than a frame late.", total("late")),
            (
                "moda_pictures_thinned_total",
                "counter",
                "Pictures shown twice for lack of time.",
                total("thinned"),
            ),
            ("moda_interrupts_total", "counter", "Utterances broken off.", total("interrupts")),
            ("moda_first_frame_seconds", "gauge", "Longest, of the last utterances.", latest("first_frame")),
            ("moda_interrupt_seconds", "gauge", "Longest, of the last interrupts.", latest("interrupt")),
            (
                "moda_waiting_seconds",
                "gauge",
                "Sound that waits, in all.",
                sum(live.waiting for live in lives),
            ),
        ]
        lines = []
        for name, kind, text, value in rows:
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"
