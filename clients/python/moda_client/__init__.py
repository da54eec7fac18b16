"""A moda server's live session from Python; needs nothing of moda.

>>> async with connect("http://127.0.0.1:8000", portrait=KEY) as session:
...     await session.push(pcm)                 # 16-bit mono PCM at session.rate, any length
...     await session.commit()                  # the utterance is whole
...     async for item in session:              # Frame, or a dict: an event
...         ...
"""

from __future__ import annotations

import asyncio
import json
import struct
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_socket

__all__ = ["Frame", "ModaError", "Session", "connect", "upload"]


class ModaError(Exception):
    """What the server says is wrong."""


@dataclass(frozen=True)
class Frame:
    """index, time (seconds): of the session's clock, 25 a second; speaking: within an utterance.

    jpeg: the picture, or None where the reader was too slow for it; sound: its own 40 ms, 16-bit mono PCM.
    """

    index: int
    time: float
    speaking: bool
    jpeg: bytes | None
    sound: bytes


class Session:
    """rate: samples a second of the sound, both ways; size: pixels of the square picture; fps: 25."""

    def __init__(self, socket: ClientConnection, about: dict) -> None:
        self._socket = socket
        self.id: str = about["id"]
        self.rate: int = about["rate"]
        self.size: int = about["size"]
        self.fps: int = about["fps"]

    async def push(self, pcm: bytes) -> None:
        """16-bit little-endian mono PCM at `rate`; it may come faster than it is spoken."""
        for start in range(0, len(pcm), 1 << 16):
            await self._socket.send(pcm[start : start + (1 << 16)])

    async def commit(self) -> None:
        """What was pushed so far is a whole utterance."""
        await self.send("input_audio_buffer.commit")

    async def interrupt(self) -> None:
        """Stop speaking; an event "response.cancelled" says how much was played (audio_end_ms)."""
        await self.send("response.cancel")

    async def update(self, **settings: object) -> None:
        """emotion, pose, lips, blink, gaze."""
        await self.send("session.update", session=settings)

    async def direct(self, *events: dict) -> None:
        """Events of a timeline, their times from now: {"at": 0, "length": 1, "head": {"yaw": 8}}."""
        await self.send("timeline.direct", events=events)

    async def send(self, kind: str, **values: object) -> None:
        await self._socket.send(json.dumps({"type": kind, **values}))

    async def __aiter__(self) -> AsyncIterator[Frame | dict]:
        async for message in self._socket:
            yield json.loads(message) if isinstance(message, str) else _frame(message)


@asynccontextmanager
async def connect(
    url: str, portrait: str, *, size: int = 512, rate: int = 24_000, seed: int = 0, token: str | None = None
) -> AsyncIterator[Session]:
    """url: the server's, http://...; portrait: one of its ids, see `upload`. Errors: ModaError in the server's words."""
    query = {"portrait": portrait, "size": size, "rate": rate, "seed": seed} | (
        {"token": token} if token else {}
    )
    address = url.rstrip("/").replace("http", "ws", 1) + "/live?" + urllib.parse.urlencode(query)
    async with open_socket(address, max_size=None) as socket:
        first = json.loads(await socket.recv())
        if first["type"] == "error":
            raise ModaError(first["error"]["message"])
        yield Session(socket, first["session"])


async def upload(url: str, picture: bytes, token: str | None = None) -> str:
    """A picture file's content -> its id at this server. Errors: ModaError."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url.rstrip("/") + "/portraits", picture, headers, method="POST")

    def ask() -> str:
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())["id"]
        except urllib.error.HTTPError as error:
            raise ModaError(json.loads(error.read())["error"]["message"]) from error

    return await asyncio.to_thread(ask)


def _frame(message: bytes) -> Frame:
    (length,) = struct.unpack(">I", message[:4])
    header = json.loads(message[4 : 4 + length])
    middle = 4 + length + header["picture"]
    return Frame(
        header["index"],
        header["time"],
        header["speaking"],
        message[4 + length : middle] or None,
        message[middle:],
    )
