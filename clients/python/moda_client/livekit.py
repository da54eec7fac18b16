"""For LiveKit's agents: a VideoGenerator that AvatarRunner plays.

>>> async with connect(URL, portrait=KEY, rate=24_000) as session:
...     runner = AvatarRunner(room, audio_recv=..., video_gen=ModaGenerator(session), options=options(session))
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd, AvatarOptions, VideoGenerator
from PIL import Image

from moda_client import Frame, Session


def options(session: Session) -> AvatarOptions:
    return AvatarOptions(
        video_width=session.size,
        video_height=session.size,
        video_fps=session.fps,
        audio_sample_rate=session.rate,
        audio_channels=1,
    )


class ModaGenerator(VideoGenerator):
    """Sound of the agent in; picture and sound out, in step. The sound's rate must be the session's."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._resampler: rtc.AudioResampler | None = None
        self._picture: rtc.VideoFrame | None = None

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        if isinstance(frame, AudioSegmentEnd):
            await self._session.commit()
            return
        frames = [frame]
        if frame.sample_rate != self._session.rate or frame.num_channels != 1:
            if self._resampler is None:
                self._resampler = rtc.AudioResampler(frame.sample_rate, self._session.rate, num_channels=1)
            mono = np.frombuffer(frame.data, np.int16).reshape(-1, frame.num_channels).mean(axis=1)
            data = mono.astype(np.int16).tobytes()
            frames = self._resampler.push(rtc.AudioFrame(data, frame.sample_rate, 1, len(data) // 2))
        for one in frames:
            await self._session.push(bytes(one.data))

    async def clear_buffer(self) -> None:
        await self._session.interrupt()

    async def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        async for item in self._session:
            if isinstance(item, Frame):
                if item.jpeg:
                    self._picture = await asyncio.to_thread(_picture, item.jpeg)
                if self._picture is not None:
                    yield self._picture
                if item.speaking:
                    yield rtc.AudioFrame(item.sound, self._session.rate, 1, len(item.sound) // 2)
            elif item["type"] == "response.done":
                yield AudioSegmentEnd()


def _picture(jpeg: bytes) -> rtc.VideoFrame:
    image = Image.open(io.BytesIO(jpeg)).convert("RGBA")
    return rtc.VideoFrame(image.width, image.height, rtc.VideoBufferType.RGBA, image.tobytes())
