"""The WebSocket door, for agents and tests: sound in, frames out, events in the words of OpenAI's realtime convention.

In:  binary messages: 16-bit little-endian mono PCM at the rate agreed on; or text messages, JSON:
     input_audio_buffer.append {audio: base64}, input_audio_buffer.commit, input_audio_buffer.clear, response.cancel
     (both interrupt), session.update {session: {emotion, pose, lips, blink, gaze}}, text.say {text}
Out: text messages: session.created, session.updated, response.created, response.done, response.cancelled
     {audio_end_ms, frames}, rate.thinned, error {error: {type, message}}
     binary messages, one a frame: 4 bytes (big-endian) of length, that many bytes of JSON {index, time, speaking,
     picture, sound}, `picture` bytes of JPEG, `sound` bytes of PCM
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import logging
import struct
import threading
from collections import deque
from typing import TYPE_CHECKING

import cv2
import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from moda.engine.capacity import Full
from moda.engine.session import Frame
from moda.errors import ModaError
from moda.motion.timeline import Event as TimelineEvent
from moda.motion.timeline import Timeline
from moda.serve.hub import Refused
from moda.serve.live import Event, LiveSession
from moda.validation import from_dict

if TYPE_CHECKING:
    from moda.serve.hub import Hub

log = logging.getLogger("moda.serve")

QUALITY = 85  # of JPEG
QUEUE = 50  # frames that wait for a slow reader; then pictures are left out, never sound
MAX_EVENTS = 100  # of a timeline's, a message
SETTINGS = ("emotion", "pose", "lips", "blink", "gaze")
NAMES = {
    "started": "response.created",
    "done": "response.done",
    "interrupted": "response.cancelled",
    "thinned": "rate.thinned",
    "failed": "error",
}


def whole(values: dict, name: str, default: int) -> int:
    """A whole number among a request's values. Errors: Refused."""
    given = values.get(name, default)
    try:
        found = int(given)
    except (TypeError, ValueError, OverflowError) as error:
        raise Refused(400, f"{name} must be a whole number") from error
    if not 0 <= found < 2**63:
        raise Refused(400, f"{name} must be a whole number of 0 or more")
    return found


def message_of(event: Event) -> dict:
    """An Event in the convention's words."""
    data = event.data
    if event.kind == "failed":
        return {"type": "error", "error": {"type": "server_error", "message": data["message"]}}
    if event.kind == "interrupted":
        data = {"frames": data["frames"], "audio_end_ms": round(1000 * data["seconds"])}
    return {"type": NAMES[event.kind], **data}


def packed(frame: Frame, picture: bytes) -> bytes:
    sound = (np.clip(frame.sound[:, 0], -1, 1) * 32767).astype("<i2").tobytes()
    header = {
        "index": frame.index,
        "time": frame.time,
        "speaking": frame.speaking,
        "picture": len(picture),
        "sound": len(sound),
    }
    text = json.dumps(header).encode()
    return struct.pack(">I", len(text)) + text + picture + sound


def jpeg(picture: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


class Outbox:
    """From the session's thread to the reader's task; when the reader is slow, old pictures go, sound stays."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._items: deque[tuple[Frame, bool] | Event] = deque()
        self._some = asyncio.Event()
        self.left_out = 0

    def deliver(self, item: Frame | Event) -> None:
        """In any thread."""
        self._loop.call_soon_threadsafe(self._put, item)

    def _put(self, item: Frame | Event) -> None:
        if isinstance(item, Event) and item.kind == "interrupted":  # a slow reader hears no more of it
            self._items = deque(held for held in self._items if isinstance(held, Event))
        self._items.append(item if isinstance(item, Event) else (item, True))
        if len(self._items) > QUEUE:
            for i, held in enumerate(self._items):
                if not isinstance(held, Event) and held[1]:
                    self._items[i] = (held[0], False)
                    self.left_out += 1
                    break
        if len(self._items) > 20 * QUEUE:  # 40 s: nobody reads
            self._items.popleft()
        self._some.set()

    async def read(self, timeout: float) -> None:
        """Until the reader has taken everything, or so many seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        await asyncio.sleep(0.1)  # what the session's thread has handed over is put by now
        while self._items and loop.time() < until:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.1)  # and what was taken is on its way

    async def get(self) -> tuple[Frame, bool] | Event:
        while not self._items:
            self._some.clear()
            await self._some.wait()
        return self._items.popleft()


class Control:
    """JSON messages of a client, whichever door they came through."""

    def __init__(self, hub: Hub, live: LiveSession) -> None:
        self.hub, self.live = hub, live
        self._saying: asyncio.Task | None = None
        self._stop = threading.Event()  # of the voice that speaks for it
        self.failed: asyncio.Queue[str] = asyncio.Queue(8)

    async def __call__(self, text: str) -> dict | None:
        """-> an answer, if there is one. Errors: Refused, ModaError."""
        try:
            message = json.loads(text)
            kind = message["type"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Refused(400, "a text message must be a JSON object with a type") from error
        if kind == "input_audio_buffer.append":
            try:
                data = base64.b64decode(message["audio"], validate=True)
            except (KeyError, TypeError, binascii.Error, ValueError) as error:
                raise Refused(400, "audio must be base64 of 16-bit PCM") from error
            self.sound(data)
        elif kind == "input_audio_buffer.commit":
            self.live.commit()
        elif kind in ("input_audio_buffer.clear", "response.cancel"):
            self.close()
            self.live.interrupt()
        elif kind == "session.update":
            settings = message.get("session")
            if not isinstance(settings, dict) or set(settings) - set(SETTINGS):
                raise Refused(400, f"session must be an object with some of {', '.join(SETTINGS)}")
            if "gaze" in settings and isinstance(settings["gaze"], list):
                settings["gaze"] = tuple(settings["gaze"])
            if "emotion" in settings:
                self.hub.head.description.generator.config.emotion(settings["emotion"])
            self.live.change(**settings)
            return {"type": "session.updated", "session": settings}
        elif kind == "timeline.direct":
            events = message.get("events")
            if not isinstance(events, list) or not 0 < len(events) <= MAX_EVENTS:
                raise Refused(400, f"events must be an array of 1 to {MAX_EVENTS}")
            self.live.direct(Timeline(tuple(from_dict(TimelineEvent, value, "events") for value in events)))
            return {"type": "timeline.directed", "events": len(events)}
        elif kind == "text.say":
            said = message.get("text")
            if not isinstance(said, str) or not said.strip() or len(said) > 10_000:
                raise Refused(400, "text must be 1 to 10000 characters")
            if self.hub.voice is None:
                raise Refused(400, "this server has no voice; start it with --voice or --voice-url")
            self.close()
            self._stop = threading.Event()
            self._saying = asyncio.create_task(self._say(said, self._stop))
        else:
            raise Refused(400, f"there is no message type {str(kind)[:40]!r}")
        return None

    def sound(self, data: bytes) -> None:
        if len(data) % 2:
            raise Refused(400, "PCM of 16 bits has an even number of bytes")
        self.live.append(np.frombuffer(data, "<i2").astype(np.float32) / 32768)

    async def _say(self, text: str, stop: threading.Event) -> None:
        from moda.audio.resample import to_rate

        voice = self.hub.voice
        assert voice is not None
        try:
            sentences = voice.say(text, stop)
            while (wave := await self.hub.in_pool(self.hub.voices, next, sentences, None)) is not None:
                self.live.append(to_rate(wave, self.live.rate))
        except ModaError as error:
            await self.failed.put(str(error))
        self.live.commit()

    def close(self) -> None:
        """End what is being said."""
        self._stop.set()
        if self._saying:
            self._saying.cancel()


async def serve(hub: Hub, socket: WebSocket) -> None:
    """One client from its first message to its last."""
    query = dict(socket.query_params)
    try:
        size, rate = whole(query, "size", hub.size), whole(query, "rate", 24_000)
        seed = whole(query, "seed", 0)
        character = await hub.character(query.get("portrait", ""), size)
        price = await hub.cost(character)
    except (Refused, ModaError, ValueError) as error:
        await refuse(socket, 1008, str(error))
        return
    try:
        with hub.admission.admit(price):
            try:
                session = await hub.session(character, seed=seed, emotion=query.get("emotion"), rate=rate)
            except ModaError as error:
                await refuse(socket, 1008, str(error))
                return
            await _converse(hub, socket, session, size)
    except Full as error:
        hub.counted["refused"] += 1
        await refuse(socket, 1013, str(error))


async def refuse(socket: WebSocket, code: int, message: str) -> None:
    await socket.accept()
    await socket.send_json({"type": "error", "error": {"type": "refused", "message": message}})
    await socket.close(code, message[:120])


async def _converse(hub: Hub, socket: WebSocket, session, size: int) -> None:
    await socket.accept()
    outbox = Outbox(asyncio.get_running_loop())
    live = LiveSession(session, outbox.deliver)
    key = hub.register(live)
    control = Control(hub, live)
    about = {"id": key, "rate": session.rate, "size": size, "fps": 25}
    await socket.send_json({"type": "session.created", "session": about})
    live.start()
    tasks = [
        asyncio.create_task(_send(hub, socket, outbox)),
        asyncio.create_task(_receive(socket, control)),
        asyncio.create_task(_failures(socket, control)),
        asyncio.create_task(hub.watch(live)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        failed = next((task.exception() for task in done if task.exception()), None)
        reason = next((task.result() for task in done if not task.exception() and task.result()), None)
        if failed and not isinstance(failed, (WebSocketDisconnect, RuntimeError, OSError)):
            log.error("session %s: %s", key[:8], failed, exc_info=failed)
            await socket.send_json(
                {"type": "error", "error": {"type": "server_error", "message": "a fault of ours"}}
            )
            await socket.close(1011)
        elif reason:
            if hub.closing:  # what waits is spoken to its end
                await asyncio.to_thread(live.close, True)
                await outbox.read(timeout=2.0)
            await socket.close(1001, reason)
    except (WebSocketDisconnect, RuntimeError, OSError):
        pass
    finally:
        control.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(live.close)
        hub.forget(key)


async def _send(hub: Hub, socket: WebSocket, outbox: Outbox) -> None:
    while True:
        item = await outbox.get()
        if isinstance(item, Event):
            await socket.send_json(message_of(item))
            continue
        frame, with_picture = item
        picture = await hub.in_pool(hub.pictures, jpeg, frame.picture) if with_picture else b""
        await socket.send_bytes(packed(frame, picture))


async def _receive(socket: WebSocket, control: Control) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        try:
            if message.get("bytes") is not None:
                control.sound(message["bytes"])
            else:
                answer = await control(message.get("text") or "")
                if answer:
                    await socket.send_json(answer)
        except (Refused, ModaError) as error:
            await socket.send_json(
                {"type": "error", "error": {"type": "invalid_request", "message": str(error)}}
            )


async def _failures(socket: WebSocket, control: Control) -> None:
    while True:
        message = await control.failed.get()
        await socket.send_json({"type": "error", "error": {"type": "voice", "message": message}})
