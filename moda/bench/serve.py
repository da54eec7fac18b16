"""A running server measured from outside, over its WebSocket: delay, and an hour's soak."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from moda.bench.stages import ASSETS, check_assets
from moda.constants import FPS, SAMPLE_RATE
from moda.errors import ModaError

if TYPE_CHECKING:
    from moda.serve.hub import Hub

PIECE = 640  # samples, 40 ms
SECONDS = 20.0
SPOKEN = 8.0  # seconds of an utterance in the soak
SILENT = 4.0
BROKEN_OFF = 3.0  # seconds after which every third one is interrupted


def bench_serve(
    model: str = "embedded",
    device: str = "auto",
    size: int = 512,
    hours: float = 0.0,
    report: Callable = print,
) -> dict:
    """-> {"microphone": {...}, "speech service": {...}, "soak": {...}}: seconds from a sample's sending until the
    frame that carries it came, sent in real time, and seconds to the first frame where all sound is sent at once.

    hours: also so long a session that speaks, is silent and is interrupted, in real time. Errors: ModaError without
    the extra [serve].
    """
    try:
        import uvicorn
        import websockets.asyncio.client as client
    except ImportError as error:
        raise ModaError(
            f'the server needs more packages ({error}): pip install "moda-talkinghead[serve]"'
        ) from error
    from moda.audio.decode import read_audio
    from moda.pipeline import TalkingHead
    from moda.serve.app import build
    from moda.serve.hosts import Hosts
    from moda.serve.hub import Hub

    check_assets()
    head = TalkingHead.from_pretrained(model, device)
    hosts = Hosts(head)
    hub = Hub(head, size=size, hosts=hosts)
    own = hub.add(ASSETS / "astronaut.jpg")
    hosts.ready(hub.portraits[own].characters[size])
    server = uvicorn.Server(uvicorn.Config(build(hub), port=0, log_level="error", ws_max_size=1 << 20))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    address = f"ws://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/live?portrait={own}&rate=16000&size={size}"
    speech = read_audio(ASSETS / "speech.wav")

    async def run() -> dict:
        found: dict = {}
        async with client.connect(address, max_size=None) as socket:
            found["microphone"] = _show("microphone", await microphone(socket, speech), report)
        async with client.connect(address, max_size=None) as socket:
            found["speech service"] = _show("speech service", await service(socket, speech), report)
        if hours:
            async with client.connect(address, max_size=None) as socket:
                found["soak"] = _show("soak", await soak(socket, speech, hours, hub), report)
        return found

    try:
        return asyncio.run(run())
    finally:
        server.should_exit = True
        thread.join(20)


def _show(name: str, found: dict, report: Callable) -> dict:
    report(f"{name}: " + ", ".join(f"{key.replace('_', ' ')} {value:.4g}" for key, value in found.items()))
    return found


def _header(message: bytes) -> dict:
    (length,) = struct.unpack(">I", message[:4])
    return json.loads(message[4 : 4 + length])


def _pcm(wave: np.ndarray) -> bytes:
    return (np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes()


async def _send_live(socket, wave: np.ndarray, sent: list[float]) -> None:
    """In real time, a piece every 40 ms; `sent` gets when each left."""
    began = time.perf_counter()
    for count, start in enumerate(range(0, len(wave) - PIECE + 1, PIECE), 1):
        await asyncio.sleep(max(0.0, began + count * PIECE / SAMPLE_RATE - time.perf_counter()))
        await socket.send(_pcm(wave[start : start + PIECE]))
        sent.append(time.perf_counter())


async def microphone(socket, speech: np.ndarray) -> dict:
    wave = np.tile(speech, int(SECONDS * SAMPLE_RATE / len(speech)) + 1)[: round(SECONDS * SAMPLE_RATE)]
    await socket.recv()
    sent: list[float] = []
    sending = asyncio.create_task(_send_live(socket, wave, sent))
    delays: list[float] = []
    while len(delays) < len(wave) // PIECE - 15:
        message = await socket.recv()
        if isinstance(message, bytes) and _header(message)["speaking"]:
            delays.append(
                time.perf_counter() - sent[len(delays)]
            )  # a frame's sound is the piece of its number
    sending.cancel()
    return {
        "delay_median": float(np.median(delays)),
        "delay_p99": float(np.quantile(delays, 0.99)),
        "frames": len(delays),
    }


async def service(socket, speech: np.ndarray, utterances: int = 5) -> dict:
    await socket.recv()
    first, stopped = [], []
    for _ in range(utterances):
        await asyncio.sleep(1)
        while True:  # what came meanwhile
            try:
                await asyncio.wait_for(socket.recv(), 0.005)
            except asyncio.TimeoutError:
                break
        began = time.perf_counter()
        await socket.send(_pcm(speech[: 4 * SAMPLE_RATE]))
        await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        spoken = 0
        while spoken < 25:
            message = await socket.recv()
            if isinstance(message, bytes) and _header(message)["speaking"]:
                first += [time.perf_counter() - began] if not spoken else []
                spoken += 1
        began = time.perf_counter()
        await socket.send(json.dumps({"type": "response.cancel"}))
        while True:
            message = await socket.recv()
            if isinstance(message, str) and json.loads(message)["type"] == "response.cancelled":
                stopped.append(time.perf_counter() - began)
                break
    return {
        "first_frame_max": max(first),
        "first_frame_median": float(np.median(first)),
        "interrupt_max": max(stopped),
    }


async def soak(socket, speech: np.ndarray, hours: float, hub: Hub) -> dict:
    """Speaks, is silent, is interrupted. skew: of frames' own time stamps against the clock, the middle one of every
    minute's last second, which one late frame does not move; behind: the latest frame of all. Threads and descriptors
    are counted from the first turn's end, when every pool is there.
    """
    import psutil

    me = psutil.Process()
    every = [me, *me.children(recursive=True)]  # and the sessions' hosts

    def total(name: str) -> int:
        return sum(getattr(process, name)() for process in every)

    await socket.recv()
    wave = np.tile(speech, 2)[: round(SPOKEN * SAMPLE_RATE)]
    state = {"frames": 0, "first": 0.0, "last": 0.0, "behind": 0.0}
    second: deque[float] = deque(maxlen=FPS)
    skews: list[float] = []
    memory: list[float] = []

    async def listen() -> None:
        minute = 0
        while True:
            message = await socket.recv()
            if not isinstance(message, bytes):
                continue
            header, now = _header(message), time.perf_counter()
            if not state["frames"]:
                state["first"] = now - header["time"]
            state["frames"] += 1
            state["last"] = now
            second.append(now - state["first"] - header["time"])
            state["behind"] = max(state["behind"], second[-1])
            if now - state["first"] > 60 * (minute + 1):
                minute += 1
                skews.append(float(np.median(second)))
                memory.append(sum(process.memory_info().rss for process in every) / 1e9)

    listening = asyncio.create_task(listen())
    began, turn, threads, descriptors = time.perf_counter(), 0, 0, 0
    while time.perf_counter() - began < hours * 3600:
        turn += 1
        await socket.send(_pcm(wave))
        await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        if turn % 3 == 0:
            await asyncio.sleep(BROKEN_OFF)
            await socket.send(json.dumps({"type": "response.cancel"}))
        else:
            await asyncio.sleep(SPOKEN)
        await asyncio.sleep(SILENT)
        if turn == 1:
            threads, descriptors = total("num_threads"), total("num_fds")
    listening.cancel()
    seconds = state["last"] - state["first"]
    (live,) = hub.sessions.values()
    slope = np.polyfit(np.arange(len(memory)), memory, 1)[0] * 10 * 1000 if len(memory) > 2 else 0.0
    return {
        "seconds": seconds,
        "frames": state["frames"],
        "frames_expected": seconds * FPS,
        "skew_max": float(np.abs(skews).max()) if skews else 0.0,
        "behind_max": state["behind"],
        "memory_mb_in_10_minutes": float(slope),
        "late": live.counts.late,
        "resets": live.counts.resets,
        "threads_more": total("num_threads") - threads,
        "descriptors_more": total("num_fds") - descriptors,
    }
