"""The server: a session's clock, both doors, jobs, who is let in, bad input, what is left behind."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import struct
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from websockets.sync.client import connect

from moda import TalkingHead
from moda.audio.decode import read_audio
from moda.engine.capacity import Admission
from moda.serve.live import Event, LiveSession

SIZE = 128


@pytest.fixture(scope="module")
def head(tiny) -> TalkingHead:
    return TalkingHead.from_pretrained(tiny, "cpu")


@pytest.fixture(scope="module")
def character(head, portrait):
    return head.prepare(portrait, size=64)


@pytest.fixture(scope="module")
def wave(speech):
    return read_audio(speech)


# -- the clock, virtual ------------------------------------------------------------------------


class FastClock:
    """Time that passes only where somebody waits for it."""

    def __init__(self) -> None:
        self.time = 100.0
        self.meanwhile = lambda now: None

    def now(self) -> float:
        return self.time

    def begin(self, make, done) -> Future:
        future: Future = Future()
        future.set_result(make())
        return future

    def close(self) -> None: ...

    def wait(self, condition, seconds: float) -> None:
        self.time += seconds
        condition.release()
        try:
            self.meanwhile(self.time)
        finally:
            condition.acquire()


def play(character, seconds: float, script=lambda live, now: None, **options):
    """A session over so many seconds -> frames with the moments they came, events."""
    clock, frames, events = FastClock(), [], []

    def deliver(item) -> None:
        if isinstance(item, Event):
            events.append((clock.time - 100, item))
        else:
            frames.append((clock.time - 100, item))

    live = LiveSession(character.session(**options), deliver, clock)

    def meanwhile(now: float) -> None:
        script(live, now - 100)
        if now - 100 > seconds:
            live.close()

    clock.meanwhile = meanwhile
    live.start()
    live._thread.join(120)
    assert not live._thread.is_alive()
    return frames, events, live


def test_frames_leave_with_the_clock(character):
    """An hour's rule on ten seconds: frames = clock x 25 to one, no gaps, no drift."""
    frames, events, live = play(character, 10)
    assert [frame.index for _, frame in frames] == list(range(len(frames)))
    assert abs(len(frames) - 250) <= 2 and not events
    assert max(abs(moment - frame.index / 25) for moment, frame in frames) < 0.05  # of the virtual clock
    assert live.counts.late == 0


def test_sound_faster_than_real_time_plays_at_once_and_in_order(character, wave):
    sent = []

    def script(live, now):
        if now > 1 and not sent:
            sent.append(now)
            for piece in np.split(wave[:64_000], range(3000, 64_000, 3000)):
                live.append(piece)
            live.commit()

    frames, events, live = play(character, 7, script)
    assert [event.kind for _, event in events] == ["started", "done"]
    speaking = [(moment, frame) for moment, frame in frames if frame.speaking]
    assert len(speaking) == 100
    assert speaking[0][0] - sent[0] < 0.30, "the first frame is late"
    heard = np.concatenate([frame.sound[:, 0] for _, frame in speaking])
    np.testing.assert_allclose(heard, wave[:64_000], atol=1e-6)
    assert [frame.index for _, frame in frames] == list(range(len(frames)))


def test_an_interrupt_empties_every_queue(character, wave):
    done = []

    def script(live, now):
        if now > 0.5 and not done:
            done.append("spoken")
            live.append(wave[:160_000])
        if now > 3 and len(done) == 1:
            done.append(now)
            live.interrupt()

    frames, events, live = play(character, 5, script)
    assert [event.kind for _, event in events] == ["started", "interrupted"]
    stopped = events[1][0]
    played = [frame for moment, frame in frames if frame.speaking]
    assert events[1][1].data == {"frames": len(played), "seconds": len(played) / 25}
    after = [frame for moment, frame in frames if moment > stopped + 0.001]
    assert after and not any(frame.speaking or frame.sound.any() for frame in after)
    assert live.waiting == 0 and live.counts.interrupt < 0.1


def test_two_utterances_back_to_back_are_two(character, wave):
    sent = []

    def script(live, now):
        if now > 0.5 and not sent:
            sent.append(now)
            for start in (0, 16_000):
                live.append(wave[start : start + 16_000])
                live.commit()
            live.commit()  # the end of nothing

    frames, events, _ = play(character, 5, script)
    assert [event.kind for _, event in events] == ["started", "done"] * 2
    assert sum(frame.speaking for _, frame in frames) == 50


def test_a_microphone_that_stops_is_taken_for_the_end(character, wave):
    taken = [0]

    def script(live, now):  # real time, until it breaks off
        until = min(int(min(now, 3) * 16_000), 48_000)
        if until > taken[0]:
            live.append(wave[taken[0] : until])
            taken[0] = until

    frames, events, _ = play(character, 6, script)
    assert [event.kind for _, event in events] == ["started", "done"]
    assert sum(frame.speaking for _, frame in frames) == 75
    assert not frames[-1][1].speaking


def test_settings_reach_a_running_session(character):
    def script(live, now):
        if 1 < now < 1.1:
            live.change(lips=0.5, emotion="happiness")

    _, events, live = play(character, 2, script)
    assert not events and live.session._performance.settings.lips == 0.5


# -- over the wire -----------------------------------------------------------------------------


class Server:
    def __init__(self, hub) -> None:
        import uvicorn

        from moda.serve.app import build

        config = uvicorn.Config(build(hub), port=0, log_level="error", ws_max_size=1 << 20)
        self.hub, self.server = hub, uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        deadline = time.monotonic() + 20
        while not self.server.started:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30)

    def socket(self, **query):
        words = "&".join(f"{name}={value}" for name, value in query.items())
        return connect(f"ws://127.0.0.1:{self.port}/live?{words}", max_size=None)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


@pytest.fixture(scope="module")
def server(head, portrait):
    from moda.serve.hub import Hub

    hub = Hub(head, size=SIZE, admission=Admission(limit=100.0))
    hub.own = hub.add(portrait)
    server = Server(hub)
    yield server
    server.stop()


def unpacked(data: bytes) -> tuple[dict, bytes, np.ndarray]:
    (length,) = struct.unpack(">I", data[:4])
    header = json.loads(data[4 : 4 + length])
    picture = data[4 + length : 4 + length + header["picture"]]
    return header, picture, np.frombuffer(data[4 + length + header["picture"] :], "<i2")


def test_an_agent_speaks_over_the_socket(server, wave):
    from PIL import Image

    with server.socket(portrait=server.hub.own, rate=16_000) as socket:
        created = json.loads(socket.recv())
        assert created["type"] == "session.created" and created["session"]["fps"] == 25
        pcm = (wave[:32_000] * 32767).astype("<i2")
        socket.send(pcm[:16_000].tobytes())
        audio = base64.b64encode(pcm[16_000:].tobytes()).decode()
        socket.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
        socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
        frames, kinds = [], []
        while "response.done" not in kinds or len(frames) < 50:
            message = socket.recv(timeout=20)
            if isinstance(message, bytes):
                frames.append(unpacked(message))
            else:
                kinds.append(json.loads(message)["type"])
    spoken = [frame for frame in frames if frame[0]["speaking"]]
    assert [kind for kind in kinds if kind.startswith("response")] == ["response.created", "response.done"]
    heard = np.concatenate([sound for _, _, sound in spoken])
    assert np.abs(heard.astype(int) - pcm[: len(heard)]).max() <= 1 and len(spoken) >= 49
    assert Image.open(io.BytesIO(spoken[0][1])).size == (SIZE, SIZE)
    indices = [header["index"] for header, _, _ in frames]
    assert indices == list(range(indices[0], indices[0] + len(indices)))


def test_portraits_that_are_uploaded_are_the_uploaders(server, portrait):
    answer = server.http.post("/portraits", content=portrait.read_bytes())
    assert answer.status_code == 201
    key = answer.json()["id"]
    assert len(key) == 32 and key not in json.dumps(server.http.get("/about").json())
    assert server.http.get(f"/portraits/{key}").content[:2] == b"\xff\xd8"
    with server.socket(portrait=key) as socket:
        assert json.loads(socket.recv())["type"] == "session.created"


def test_a_browser_gets_both_tracks_in_step(server, wave):
    """aiortc on the other side: 25 pictures a second, sound and picture with the same clock, events by data channel."""
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

    async def visit():
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer.addTransceiver("video", direction="recvonly")
        peer.addTransceiver("audio", direction="recvonly")
        channel = peer.createDataChannel("events")
        messages, pictures, sounds, tasks = [], [], [], []
        channel.on("message", lambda text: messages.append(json.loads(text)))

        @peer.on("track")
        def come(track):
            async def take():
                while True:
                    frame = await track.recv()
                    (pictures if track.kind == "video" else sounds).append((time.monotonic(), frame))

            tasks.append(asyncio.create_task(take()))

        await peer.setLocalDescription(await peer.createOffer())
        offer = {"sdp": peer.localDescription.sdp, "type": "offer", "portrait": server.hub.own, "size": SIZE}
        answer = await asyncio.to_thread(lambda: server.http.post("/offer", json=offer))
        assert answer.status_code == 201, answer.text
        await peer.setRemoteDescription(RTCSessionDescription(answer.json()["sdp"], "answer"))
        while channel.readyState != "open":
            await asyncio.sleep(0.02)
        pcm = (np.interp(np.arange(96_000) / 3, np.arange(32_000), wave[:32_000]) * 32767).astype("<i2")
        for start in range(0, len(pcm), 4800):
            channel.send(pcm[start : start + 4800].tobytes())
        channel.send(json.dumps({"type": "input_audio_buffer.commit"}))
        channel.send(json.dumps({"type": "nonsense"}))
        await asyncio.sleep(4)
        gone = await asyncio.to_thread(lambda: server.http.delete(f"/sessions/{answer.json()['session']}"))
        for task in tasks:
            task.cancel()
        await peer.close()
        return messages, pictures, sounds, gone.status_code

    messages, pictures, sounds, gone = asyncio.run(visit())
    kinds = [message["type"] for message in messages]
    assert {"response.created", "response.done", "state", "error"} <= set(kinds)
    assert gone == 204
    times = np.array([frame.pts * float(frame.time_base) for _, frame in pictures])
    assert 40 <= len(pictures) <= 115 and np.median(np.diff(times)) == pytest.approx(0.04, abs=1e-3)
    loud = [frame for _, frame in sounds if np.abs(frame.to_ndarray()).max() > 500]
    assert 50 <= len(loud) <= 110  # 2 s of speech, its pauses left out


def test_whep_is_the_same_session(server):
    from aiortc import RTCConfiguration, RTCPeerConnection

    async def offer() -> str:
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer.addTransceiver("video", direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        sdp = peer.localDescription.sdp
        await peer.close()
        return sdp

    sdp = asyncio.run(offer())
    answer = server.http.post(
        f"/whep/{server.hub.own}", content=sdp, headers={"Content-Type": "application/sdp"}
    )
    assert answer.status_code == 201 and answer.text.startswith("v=0")
    place = answer.headers["Location"]
    assert server.http.delete(place).status_code == 204
    assert server.http.delete(place).status_code == 404


def test_a_video_as_a_job(server, portrait, speech, tmp_path):
    from moda.media.read import probe

    sound = tmp_path / "s.wav"
    sound.write_bytes(speech.read_bytes()[: 44 + 2 * 24_000 * 2])
    files = {"portrait": portrait.read_bytes(), "sound": sound.read_bytes()}
    answer = server.http.post("/jobs", files=files, data={"seed": "3", "size": "128"})
    assert answer.status_code == 202, answer.text
    place = answer.headers["Location"]
    with server.http.stream("GET", place + "/events", timeout=60) as stream:
        told = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    assert told[-1]["state"] == "done" and told[-1]["progress"] == 1, told[-1]
    (tmp_path / "v.mp4").write_bytes(server.http.get(place + "/video").content)
    assert probe(tmp_path / "v.mp4").has_sound and probe(tmp_path / "v.mp4").width == 128
    assert server.http.delete(place).status_code == 204
    assert server.http.get(place).status_code == 404
    assert not list(server.hub.folder.name and Path(server.hub.folder.name).glob("job-*"))


def test_a_job_of_files_that_cannot_be_read_is_refused_at_once(server, portrait, speech, tmp_path):
    picture, empty = portrait.read_bytes(), speech.read_bytes()[:40] + bytes(4)  # a header, no samples
    for files in (
        {"portrait": picture, "sound": b"no sound at all"},
        {"portrait": picture, "sound": b""},
        {"portrait": picture, "sound": empty},
        {"portrait": b"no picture", "sound": speech.read_bytes()},
    ):
        answer = server.http.post("/jobs", files=files)
        said = answer.json()["error"]["message"]
        assert answer.status_code == 422 and "\n" not in said and server.hub.folder.name not in said
        assert ("the portrait" if files["portrait"] != picture else "the sound") in said
        assert "the sound of the sound" not in said
    assert not list(Path(server.hub.folder.name).glob("job-*"))


def test_a_job_that_fails_says_why(server, speech):
    """A picture without a face: it is looked for when the job's turn comes."""
    empty = cv2.imencode(".png", np.full((256, 256, 3), 99, np.uint8))[1].tobytes()
    answer = server.http.post("/jobs", files={"portrait": empty, "sound": speech.read_bytes()})
    with server.http.stream("GET", answer.headers["Location"] + "/events", timeout=60) as stream:
        told = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    assert told[-1]["state"] == "failed" and "no face was found in the portrait" in told[-1]["message"]
    assert server.hub.folder.name not in told[-1]["message"]


def test_the_session_beyond_capacity_is_refused(head, portrait):
    from moda.serve.hub import Hub

    hub = Hub(head, size=SIZE, admission=Admission(limit=1.0))
    hub.costs[SIZE] = 0.6
    own = hub.add(portrait)
    server = Server(hub)
    try:
        with server.socket(portrait=own) as first:
            assert json.loads(first.recv())["type"] == "session.created"
            with server.socket(portrait=own) as second:
                message = json.loads(second.recv())
                assert message["type"] == "error" and "full" in message["error"]["message"]
            answer = server.http.post("/offer", json={"sdp": "v=0\r\n", "portrait": own})
            assert answer.status_code == 503 and int(answer.headers["Retry-After"]) > 0
        deadline = time.monotonic() + 5
        while hub.admission.sessions and time.monotonic() < deadline:
            time.sleep(0.05)
        with server.socket(portrait=own) as again:
            assert json.loads(again.recv())["type"] == "session.created"
        assert "moda_refused_total 2" in server.http.get("/metrics").text
    finally:
        server.stop()


def test_clients_that_vanish_leave_nothing(server):
    threads = threading.active_count()
    for _ in range(30):
        with server.socket(portrait=server.hub.own) as socket:
            socket.recv()
            socket.socket.shutdown(2)  # no goodbye
    deadline = time.monotonic() + 20
    while server.hub.sessions and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not server.hub.sessions and server.hub.admission.sessions == 0
    assert threading.active_count() <= threads + 8  # the event loop's own pool


# -- bad input and secrets ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("POST", "/portraits", {"content": b""}, 400),
        ("POST", "/portraits", {"content": b"no picture"}, 422),
        ("POST", "/portraits", {"content": b"\x89PNG\r\n\x1a\n" + b"\0" * 100}, 422),
        ("POST", "/portraits", {"content": iter([b"abc"])}, 411),
        ("POST", "/portraits", {"content": b"x" * 20_000_001}, 413),
        ("GET", "/portraits", {}, 405),
        ("GET", "/portraits/" + "0" * 32, {}, 404),
        ("GET", "/portraits/..%2f..%2fetc%2fpasswd", {}, 404),
        ("POST", "/offer", {"content": b"{"}, 400),
        ("POST", "/offer", {"json": []}, 400),
        ("POST", "/offer", {"content": b"[" * 100_000}, 400),
        ("POST", "/offer", {"json": {}}, 400),
        ("POST", "/offer", {"json": {"sdp": "v=0", "portrait": "nobody"}}, 404),
        ("POST", "/offer", {"json": {"sdp": "v=0\r\nnonsense", "portrait": "OWN"}}, 400),
        ("POST", "/offer", {"json": {"sdp": 7, "portrait": "OWN"}}, 400),
        ("POST", "/offer", {"json": {"sdp": "v=0", "portrait": "OWN", "size": 100}}, 400),
        ("POST", "/offer", {"json": {"sdp": "v=0", "portrait": "OWN", "seed": -1}}, 400),
        ("POST", "/offer", {"json": {"sdp": "v=0", "portrait": "OWN", "seed": "x"}}, 400),
        ("POST", "/offer", {"json": {"sdp": "v=0", "portrait": "OWN", "emotion": "bored"}}, 400),
        ("POST", "/whep/OWN", {"content": b"hello"}, 400),
        ("POST", "/whep/nobody", {"content": b"v=0"}, 404),
        ("DELETE", "/sessions/nobody", {}, 404),
        ("POST", "/jobs", {"content": b"x"}, 415),
        ("POST", "/jobs", {"files": {"portrait": b"x"}}, 400),
        ("POST", "/jobs", {"files": {"portrait": b"x", "sound": b"y"}, "data": {"speed": "2"}}, 400),
        ("POST", "/jobs", {"files": {"portrait": b"x", "sound": b"y"}, "data": {"seed": "-2"}}, 400),
        ("POST", "/jobs", {"files": {"portrait": b"x", "sound": b"y"}, "data": {"lips": "99"}}, 422),
        ("POST", "/jobs", {"files": {"portrait": b"x", "sound": b"y"}, "data": {"size": "7"}}, 400),
        ("POST", "/jobs", {"files": {"portrait": b"x", "sound": b"y"}, "data": {"emotion": "bored"}}, 422),
        ("GET", "/jobs/nothing", {}, 404),
        ("GET", "/jobs/nothing/video", {}, 404),
        ("DELETE", "/jobs/nothing", {}, 404),
        ("GET", "/nowhere", {}, 404),
        ("POST", "/offer", {"json": {}, "headers": {"Origin": "https://evil.example"}}, 403),
    ],
)
def test_bad_requests_are_told(server, method, path, options, status):
    def own(value):
        return server.hub.own if value == "OWN" else value

    if isinstance(options.get("json"), dict):
        options = {**options, "json": {name: own(value) for name, value in options["json"].items()}}
    answer = server.http.request(method, path.replace("OWN", server.hub.own), **options)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    assert server.http.get("/healthz").json()["status"] == "ok"


@pytest.mark.parametrize(
    "message",
    [
        "{",
        "[]",
        "7",
        '{"type": "nothing"}',
        '{"type": "input_audio_buffer.append"}',
        '{"type": "input_audio_buffer.append", "audio": "***"}',
        '{"type": "session.update", "session": {"speed": 2}}',
        '{"type": "session.update", "session": {"lips": "wide"}}',
        '{"type": "session.update", "session": {"lips": 100}}',
        '{"type": "session.update", "session": {"emotion": "bored"}}',
        '{"type": "session.update", "session": {"gaze": [1]}}',
        '{"type": "session.update", "session": {"gaze": 5}}',
        '{"type": "session.update", "session": {"gaze": null}}',
        '{"type": "timeline.direct"}',
        '{"type": "timeline.direct", "events": []}',
        '{"type": "timeline.direct", "events": [{"at": 0}]}',
        '{"type": "timeline.direct", "events": [{"at": 0, "emotion": "bored"}]}',
        "[" * 5000,
        '{"type": "text.say", "text": ""}',
        '{"type": "text.say", "text": "hello"}',
        b"odd",
    ],
)
def test_bad_messages_are_told_and_the_session_lives(server, message):
    with server.socket(portrait=server.hub.own) as socket:
        socket.recv()
        socket.send(message)
        while isinstance(answer := socket.recv(timeout=10), bytes):
            pass
        assert json.loads(answer)["type"] == "error"
        while not isinstance(socket.recv(timeout=10), bytes):
            pass


@pytest.mark.parametrize(
    "query", [{}, {"portrait": "x"}, {"portrait": "OWN", "rate": 1}, {"portrait": "OWN", "size": "big"}]
)
def test_bad_sessions_are_refused_in_words(server, query):
    query = {name: server.hub.own if value == "OWN" else value for name, value in query.items()}
    with server.socket(**query) as socket:
        assert json.loads(socket.recv())["type"] == "error"


def test_a_slow_voice_holds_nobody_else_up(head, portrait, tmp_path):
    import sys

    from moda.serve.hub import Hub
    from moda.voice import Voice

    (tmp_path / "slow.py").write_text("import time; time.sleep(30)")
    hub = Hub(
        head, Voice(f"{sys.executable} {tmp_path / 'slow.py'} {{out}}"), size=SIZE, admission=Admission(9)
    )
    own = hub.add(portrait)
    server = Server(hub)
    try:
        with server.socket(portrait=own) as patient, server.socket(portrait=own) as talker:
            patient.recv()
            talker.recv()
            for _ in range(8):
                talker.send(json.dumps({"type": "text.say", "text": "One. Two."}))
            frames, until = 0, time.monotonic() + 3
            while time.monotonic() < until:
                frames += isinstance(patient.recv(timeout=5), bytes)
            assert frames > 30
    finally:
        began = time.monotonic()
        server.stop()
    assert time.monotonic() - began < 10


def test_a_signal_lets_utterances_end(portrait, tiny, wave, tmp_path):
    import os
    import signal
    import subprocess
    import sys

    command = [sys.executable, "-m", "moda", "serve", "--portrait", str(portrait), "--model", str(tiny),
               "--port", "0", "--size", "128"]  # fmt: skip
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        address = next(line for line in process.stdout if line.startswith("http")).split()[0]
        for _ in range(100):
            try:
                about = httpx.get(address + "about").json()
                break
            except httpx.TransportError:
                time.sleep(0.1)
        key = about["portraits"][0]["id"]
        with connect(
            address.replace("http", "ws") + f"live?portrait={key}&rate=16000", max_size=None
        ) as socket:
            socket.recv()
            socket.send((wave[:48_000] * 32767).astype("<i2").tobytes())
            socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
            spoken, kinds = 0, []
            for message in socket:
                if isinstance(message, str):
                    kinds.append(json.loads(message)["type"])
                    continue
                spoken += unpacked(message)[0]["speaking"]
                if spoken == 20:
                    process.send_signal(signal.SIGTERM)
        assert spoken >= 74 and "response.done" in kinds
        assert process.wait(15) == 0
    finally:
        process.kill()
    assert not list(tmp_path.glob("moda-serve-*"))


def test_a_token_guards_everything_but_the_page(head, portrait):
    from moda.serve.hub import Hub

    hub = Hub(head, size=SIZE, token="secret")
    hub.add(portrait)
    server = Server(hub)
    try:
        assert server.http.get("/").status_code == 200
        assert server.http.get("/about").status_code == 401
        assert server.http.get("/about?token=wrong").status_code == 401
        assert server.http.get("/about?token=secret").status_code == 200
        assert server.http.get("/about", headers={"Authorization": "Bearer secret"}).status_code == 200
        with server.socket(portrait="x") as socket:
            assert "token" in json.loads(socket.recv())["error"]["message"]
    finally:
        server.stop()


def test_a_picture_that_kills_its_reader_kills_nothing_else():
    from moda.errors import ModaError
    from moda.serve.worker import Worker

    worker = Worker(timeout=20)
    with pytest.raises(ModaError, match="broke its reader"):
        worker.call("os:abort")
    with pytest.raises(ModaError, match="there is no picture"):
        worker.call("moda.serve.worker:read_picture", "/nowhere.png")
    worker.close()


def test_beyond_this_machine_a_token_is_made():
    from moda.serve.run import loopback

    assert loopback("127.0.0.1") and loopback("localhost") and loopback("::1")
    assert not loopback("0.0.0.0") and not loopback("192.168.1.4") and not loopback("example.org")


def test_a_timelines_events_reach_the_face(server):
    with server.socket(portrait=server.hub.own) as socket:
        socket.recv()
        socket.send('{"type": "timeline.direct", "events": [{"at": 0, "length": 2, "head": {"yaw": 20}}]}')
        pictures = []
        while len(pictures) < 40:
            answer = socket.recv(timeout=10)
            if isinstance(answer, bytes):
                pictures.append(answer)
            elif json.loads(answer)["type"] != "rate.thinned":  # a machine that is late says so
                assert json.loads(answer) == {"type": "timeline.directed", "events": 1}
