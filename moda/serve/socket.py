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
import struct
from collections import deque
from typing import TYPE_CHECKING

import cv2
import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from moda.engine.capacity import Full
from moda.engine.session import Frame
from moda.errors import ModaError
from moda.serve.hub import Refused
from moda.serve.live import Event, LiveSession

if TYPE_CHECKING:
    from moda.serve.hub import Hub

QUALITY = 85  # of JPEG
QUEUE = 50  # frames that wait for a slow reader; then pictures are left out, never sound
SETTINGS = ("emotion", "pose", "lips", "blink", "gaze")
NAMES = {
    "started": "response.created",
    "done": "response.done",
    "interrupted": "response.cancelled",
    "thinned": "rate.thinned",
    "failed": "error",
}


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
        self.failed: asyncio.Queue[str] = asyncio.Queue(8)

    async def __call__(self, text: str) -> dict | None:
        """-> an answer, if there is one. Errors: Refused, ModaError."""
        try:
            message = json.loads(text)
            kind = message["type"]
        except (ValueError, TypeError, KeyError) as error:
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
            if self._saying:
                self._saying.cancel()
            self.live.interrupt()
        elif kind == "session.update":
            settings = message.get("session")
            if not isinstance(settings, dict) or set(settings) - set(SETTINGS):
                raise Refused(400, f"session must be an object with some of {', '.join(SETTINGS)}")
            if "gaze" in settings and isinstance(settings["gaze"], list):
                settings["gaze"] = tuple(settings["gaze"])
            if "emotion" in settings:
                self.hub.head.description.generator.config.emotion_index(settings["emotion"])
            self.live.change(**settings)
            return {"type": "session.updated", "session": settings}
        elif kind == "text.say":
            said = message.get("text")
            if not isinstance(said, str) or not said.strip() or len(said) > 10_000:
                raise Refused(400, "text must be 1 to 10000 characters")
            if self.hub.voice is None:
                raise Refused(400, "this server has no voice; start it with --voice or --voice-url")
            if self._saying:
                self._saying.cancel()
            self._saying = asyncio.create_task(self._say(said))
        else:
            raise Refused(400, f"there is no message type {str(kind)[:40]!r}")
        return None

    def sound(self, data: bytes) -> None:
        if len(data) % 2:
            raise Refused(400, "PCM of 16 bits has an even number of bytes")
        self.live.append(np.frombuffer(data, "<i2").astype(np.float32) / 32768)

    async def _say(self, text: str) -> None:
        from moda.audio.resample import to_rate

        voice = self.hub.voice
        assert voice is not None
        try:
            sentences = voice.say(text)
            while (wave := await asyncio.to_thread(next, sentences, None)) is not None:
                self.live.append(to_rate(wave, self.live.rate))
            self.live.commit()
        except ModaError as error:
            await self.failed.put(str(error))

    def close(self) -> None:
        if self._saying:
            self._saying.cancel()


async def serve(hub: Hub, socket: WebSocket) -> None:
    """One client from its first message to its last."""
    query = socket.query_params
    try:
        size, rate = int(query.get("size", hub.size)), int(query.get("rate", 24_000))
        seed = int(query.get("seed", 0))
        character = await hub.character(query.get("portrait", ""), size)
        session = character.session(seed=seed, emotion=query.get("emotion"), rate=rate)
        price = await hub.cost(character)
    except (Refused, ModaError, ValueError) as error:
        await refuse(socket, 1008, str(error))
        return
    try:
        with hub.admission.admit(price):
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
        asyncio.create_task(_send(socket, outbox)),
        asyncio.create_task(_receive(socket, control)),
        asyncio.create_task(_failures(socket, control)),
        asyncio.create_task(hub.watch(live)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        reason = next((task.result() for task in done if not task.exception() and task.result()), None)
        if reason:
            if hub.closing:  # what waits is spoken to its end
                await asyncio.to_thread(live.close, True)
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


async def _send(socket: WebSocket, outbox: Outbox) -> None:
    while True:
        item = await outbox.get()
        if isinstance(item, Event):
            await socket.send_json(message_of(item))
            continue
        frame, with_picture = item
        picture = await asyncio.to_thread(jpeg, frame.picture) if with_picture else b""
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
