"""The WebRTC door, for browsers: picture and sound as two tracks on one clock, events by a data channel.

`POST /offer` takes and gives JSON; the same session is had by WHEP (draft-ietf-wish-whep: POST application/sdp, 201
with a Location, DELETE). No STUN server is asked; peers meet on this machine's own addresses.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from moda.constants import FPS
from moda.engine.capacity import Full
from moda.engine.session import Frame
from moda.errors import ModaError
from moda.serve.hub import Refused
from moda.serve.live import Event, LiveSession
from moda.serve.socket import Control, message_of

if TYPE_CHECKING:
    from moda.engine.session import Session
    from moda.serve.hosts import HostedSession
    from moda.serve.hub import Hub

log = logging.getLogger("moda.serve")

RATE = 48_000
PACKET = RATE // 50  # samples of a packet of sound, 20 ms
CONNECT_SECONDS = 20.0  # in which an offer has to become a connection
MAX_SDP = 200_000  # bytes
PICTURES = 3  # that wait for a slow encoder
SOUNDS = 100  # packets


class _Track(MediaStreamTrack):
    """Items put in the event loop's thread, taken by the sender; what waits too long is dropped."""

    def __init__(self, kept: int) -> None:
        super().__init__()
        self._items: deque = deque(maxlen=kept)
        self._some = asyncio.Event()

    def put(self, item: object) -> None:
        self._items.append(item)
        self._some.set()

    async def take(self):
        while not self._items:
            self._some.clear()
            await self._some.wait()
            if self.readyState != "live":
                raise MediaStreamError
        return self._items.popleft()

    def stop(self) -> None:
        super().stop()
        self._some.set()


class PictureTrack(_Track):
    kind = "video"

    def __init__(self) -> None:
        super().__init__(PICTURES)

    async def recv(self) -> av.VideoFrame:
        frame: Frame = await self.take()
        picture = av.VideoFrame.from_ndarray(frame.picture, format="rgb24")
        picture.pts, picture.time_base = frame.index * (90_000 // FPS), Fraction(1, 90_000)
        return picture


class SoundTrack(_Track):
    kind = "audio"

    def __init__(self) -> None:
        super().__init__(SOUNDS)

    def put_frame(self, frame: Frame) -> None:
        samples = (np.clip(frame.sound[:, 0], -1, 1) * 32767).astype(np.int16)
        for start in range(0, len(samples), PACKET):
            self.put((frame.index * len(samples) + start, samples[start : start + PACKET]))

    async def recv(self) -> av.AudioFrame:
        pts, samples = await self.take()
        sound = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = RATE, pts, Fraction(1, RATE)
        return sound


class Peer:
    """One browser."""

    def __init__(self, hub: Hub, session: Session | HostedSession) -> None:
        self.hub = hub
        self.loop = asyncio.get_running_loop()
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.live = LiveSession(session, self._deliver)
        self.control = Control(hub, self.live)
        self.pictures, self.sounds = PictureTrack(), SoundTrack()
        self.key = ""
        self._channel = None
        self._over = asyncio.Event()
        self._connected = asyncio.Event()
        self._tasks: set[asyncio.Task] = set()

    async def answer(self, sdp: str) -> str:
        """The other side's offer -> our answer. Errors: Refused for what is no offer."""
        pc = self.connection

        @pc.on("connectionstatechange")
        def changed() -> None:
            if pc.connectionState == "connected":
                self._connected.set()
            elif pc.connectionState in ("failed", "closed"):
                self._over.set()

        @pc.on("track")
        def heard(track: MediaStreamTrack) -> None:
            if track.kind == "audio":
                self._begin(self._listen(track))

        @pc.on("datachannel")
        def opened(channel) -> None:
            self._channel = channel

            @channel.on("message")
            def told(message) -> None:
                self._begin(self._told(message))

        try:
            await pc.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
            kinds = {transceiver.kind for transceiver in pc.getTransceivers()}
            if "video" in kinds:
                pc.addTrack(self.pictures)
            if "audio" in kinds:
                pc.addTrack(self.sounds)
            if "video" not in kinds:
                raise ValueError("it asks for no video")
            await pc.setLocalDescription(await pc.createAnswer())
        except Exception as error:  # of parsing: many kinds
            await pc.close()
            raise Refused(400, f"this is no usable SDP offer: {str(error)[:200]}") from error
        return pc.localDescription.sdp

    async def run(self, admitted) -> None:
        """From the answer to the end; `admitted` is left at the end."""
        with admitted:
            self.key = self.hub.register(self.live)
            try:
                await asyncio.wait_for(self._connected.wait(), CONNECT_SECONDS)
                self.live.start()
                self._begin(self._failures())
                over = asyncio.create_task(self._over.wait())
                watch = asyncio.create_task(self.hub.watch(self.live))
                _, waiting = await asyncio.wait({over, watch}, return_when=asyncio.FIRST_COMPLETED)
                for task in waiting:
                    task.cancel()
                if self.hub.closing:
                    await asyncio.to_thread(self.live.close, True)
            except asyncio.TimeoutError:
                log.info("session %s: never connected", self.key[:8])
            finally:
                self.control.close()
                for task in list(self._tasks):
                    task.cancel()
                await asyncio.to_thread(self.live.close)
                self.pictures.stop()
                self.sounds.stop()
                await self.connection.close()
                self.hub.forget(self.key)

    def end(self) -> None:
        self._over.set()
        self._connected.set()

    def _begin(self, work) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _deliver(self, item: Frame | Event) -> None:
        """In the session's thread."""
        self.loop.call_soon_threadsafe(self._put, item)

    def _put(self, item: Frame | Event) -> None:
        if isinstance(item, Event):
            self._send(message_of(item))
            return
        self.pictures.put(item)
        self.sounds.put_frame(item)
        if item.index % FPS == 0:
            counts = self.live.counts
            self._send(
                {
                    "type": "state",
                    "frames": counts.frames,
                    "late": counts.late,
                    "speaking": item.speaking,
                    "waiting_ms": round(1000 * self.live.waiting),
                    "first_frame_ms": round(1000 * (counts.first_frame or 0)),
                }
            )

    def _send(self, message: dict) -> None:
        if self._channel is not None and self._channel.readyState == "open":
            self._channel.send(json.dumps(message))

    async def _told(self, message) -> None:
        try:
            if isinstance(message, bytes):
                self.control.sound(message)
            elif answer := await self.control(message):
                self._send(answer)
        except (Refused, ModaError) as error:
            self._send({"type": "error", "error": {"type": "invalid_request", "message": str(error)}})

    async def _failures(self) -> None:
        while True:
            message = await self.control.failed.get()
            self._send({"type": "error", "error": {"type": "voice", "message": message}})

    async def _listen(self, track: MediaStreamTrack) -> None:
        """The browser's microphone."""
        resampler = av.AudioResampler("flt", "mono", RATE)
        try:
            while True:
                frame = await track.recv()
                if not isinstance(frame, av.AudioFrame):
                    continue
                for part in resampler.resample(frame):
                    self.live.append(part.to_ndarray()[0])
        except (MediaStreamError, ModaError):
            return


class Peers:
    """All browsers that are connected, by their secret keys."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self._peers: dict[str, tuple[Peer, asyncio.Task]] = {}

    async def connect(
        self, sdp: str, portrait: str, size: int, seed: int = 0, emotion: str | None = None
    ) -> tuple[str, str]:
        """-> the session's key and our answer. Errors: Refused."""
        if not isinstance(sdp, str) or len(sdp) > MAX_SDP or "v=0" not in sdp[:20]:
            raise Refused(400, "an SDP offer is needed")
        character = await self.hub.character(portrait, size)
        price = await self.hub.cost(character)
        admitted = self.hub.admission.admit(price)
        try:
            admitted.__enter__()
        except Full as error:
            self.hub.counted["refused"] += 1
            raise Refused(503, str(error)) from error
        session = None
        try:
            session = await self.hub.session(character, seed=seed, emotion=emotion, rate=RATE)
            peer = Peer(self.hub, session)
            answer = await peer.answer(sdp)
        except BaseException as error:
            if session:
                await asyncio.to_thread(session.close)
            admitted.__exit__(None, None, None)
            if isinstance(error, ModaError):
                raise Refused(400, str(error)) from error
            raise
        task = asyncio.create_task(peer.run(_Held(admitted)))
        await asyncio.sleep(0)  # it registers
        key = peer.key
        self._peers[key] = (peer, task)
        task.add_done_callback(lambda _: self._peers.pop(key, None))
        return key, answer

    async def disconnect(self, key: str) -> None:
        """Errors: Refused for an unknown key."""
        if key not in self._peers:
            raise Refused(404, "there is no such session")
        peer, task = self._peers[key]
        peer.end()
        await asyncio.wait([task], timeout=10)

    async def close(self) -> None:
        for peer, _ in list(self._peers.values()):
            peer.end()
        if self._peers:
            await asyncio.wait([task for _, task in self._peers.values()], timeout=10)


class _Held:
    """A context that was entered before."""

    def __init__(self, entered) -> None:
        self._entered = entered

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None:
        self._entered.__exit__(*error)
