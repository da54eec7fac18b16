"""The clients against a real server on loopback, with the frameworks' own classes. `make agents` runs it.

MODA_URL: the server's address. Each test is skipped where its framework is not installed.
"""

from __future__ import annotations

import asyncio
import json
import os
import urllib.request

import moda_client
import numpy as np
import pytest

URL = os.environ.get("MODA_URL", "http://127.0.0.1:8000")
RATE = 24_000
SPEECH = (
    (3000 * np.sin(np.arange(2 * RATE) * 0.05) * (np.arange(2 * RATE) % 6000 < 4000)).astype("<i2").tobytes()
)


@pytest.fixture(scope="module")
def portrait() -> str:
    with urllib.request.urlopen(URL + "/about", timeout=10) as answer:
        return json.loads(answer.read())["portraits"][0]["id"]


async def within(seconds: float, work):
    return await asyncio.wait_for(work, seconds)


def test_the_client_speaks_and_is_interrupted(portrait):
    async def run():
        async with moda_client.connect(URL, portrait, size=128, rate=RATE) as session:
            await session.push(SPEECH)
            await session.commit()
            sound, kinds = b"", []
            async for item in session:
                if isinstance(item, dict):
                    kinds.append(item["type"])
                elif item.speaking:
                    sound += item.sound
                if "response.done" in kinds:
                    break
            await session.push(SPEECH * 5)
            async for item in session:
                if isinstance(item, moda_client.Frame) and item.speaking:
                    break
            await session.interrupt()
            async for item in session:
                if isinstance(item, dict) and item["type"] == "response.cancelled":
                    return sound, item

    sound, cancelled = asyncio.run(within(60, run()))
    assert abs(len(sound) - len(SPEECH)) <= RATE // 25 * 4
    assert (
        np.abs(
            np.frombuffer(sound, "<i2").astype(int) - np.frombuffer(SPEECH, "<i2")[: len(sound) // 2]
        ).max()
        <= 1
    )
    assert 0 < cancelled["audio_end_ms"] < 8000


def test_livekit_gets_picture_and_sound_in_step(portrait):
    pytest.importorskip("livekit.agents")
    from livekit import rtc
    from livekit.agents.voice.avatar import AudioSegmentEnd
    from moda_client.livekit import ModaGenerator, options

    async def run():
        async with moda_client.connect(URL, portrait, size=128, rate=RATE) as session:
            assert options(session).video_fps == 25
            generator = ModaGenerator(session)
            for start in range(0, len(SPEECH), 960):
                data = SPEECH[start : start + 960]
                await generator.push_audio(rtc.AudioFrame(data, RATE, 1, len(data) // 2))
            await generator.push_audio(AudioSegmentEnd())
            order = []
            async for item in generator:
                order.append(type(item).__name__)
                if isinstance(item, AudioSegmentEnd):
                    break
            for _ in range(5):
                await generator.push_audio(rtc.AudioFrame(SPEECH, RATE, 1, len(SPEECH) // 2))
            count, after = 0, 0
            async for item in generator:
                count += isinstance(item, rtc.AudioFrame)
                if count == 10:
                    await generator.clear_buffer()
                if count >= 10 and isinstance(item, rtc.VideoFrame):
                    after += 1
                if after > 40:
                    return order, count

    order, heard = asyncio.run(within(90, run()))
    sounds = [i for i, kind in enumerate(order) if kind == "AudioFrame"]
    assert 47 <= len(sounds) <= 51
    assert all(order[i - 1] == "VideoFrame" for i in sounds), "a sound without its picture before it"
    assert heard < 40, "it spoke on after the interruption"


def test_pipecat_gets_picture_and_sound_in_step(portrait):
    pytest.importorskip("pipecat")
    from moda_client.pipecat import ModaVideoService
    from pipecat.frames.frames import (
        EndFrame,
        InterruptionFrame,
        OutputImageRawFrame,
        SpeechOutputAudioRawFrame,
        TTSAudioRawFrame,
        TTSStoppedFrame,
    )
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.runner import PipelineRunner
    from pipecat.pipeline.task import PipelineTask
    from pipecat.processors.frame_processor import FrameProcessor

    seen: list = []

    class Sink(FrameProcessor):
        async def process_frame(self, frame, direction):
            await super().process_frame(frame, direction)
            seen.append(frame)
            await self.push_frame(frame, direction)

    async def run():
        service = ModaVideoService(URL, portrait, size=128, rate=RATE)
        task = PipelineTask(Pipeline([service, Sink()]))
        running = asyncio.create_task(PipelineRunner(handle_sigint=False).run(task))
        await asyncio.sleep(1)
        await task.queue_frames([TTSAudioRawFrame(SPEECH, RATE, 1), TTSStoppedFrame()])
        await asyncio.sleep(5)
        first = [type(frame) for frame in seen]
        await task.queue_frames([TTSAudioRawFrame(SPEECH * 4, RATE, 1)])
        await asyncio.sleep(2)
        await task.queue_frames([InterruptionFrame()])
        await asyncio.sleep(1)
        at = len(seen)
        await asyncio.sleep(1.5)
        late = [type(frame) for frame in seen[at:]]
        await task.queue_frames([EndFrame()])
        await asyncio.wait_for(running, 20)
        return first, late

    first, late = asyncio.run(within(90, run()))
    assert 47 <= first.count(SpeechOutputAudioRawFrame) <= 51
    assert first.count(OutputImageRawFrame) >= 60
    assert TTSAudioRawFrame not in first, "the TTS's own sound went on"
    assert SpeechOutputAudioRawFrame not in late and OutputImageRawFrame in late
