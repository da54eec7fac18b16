"""For Pipecat: a service between the TTS and the transport; its sound is heard in place of the TTS's own.

TransportParams: video_out_enabled, video_out_is_live, video_out_width and video_out_height as `size`,
video_out_framerate 25, audio_out_enabled.
"""

from __future__ import annotations

import asyncio
import io
from contextlib import AsyncExitStack

from PIL import Image
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    SpeechOutputAudioRawFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.ai_service import AIService

import moda_client


class ModaVideoService(AIService):
    """url, portrait, size, token: as `moda_client.connect`; rate: of the TTS's sound."""

    def __init__(
        self,
        url: str,
        portrait: str,
        *,
        size: int = 512,
        rate: int = 24_000,
        token: str | None = None,
        **options,
    ) -> None:
        super().__init__(**options)
        self._where = {"url": url, "portrait": portrait, "size": size, "rate": rate, "token": token}
        self._stack = AsyncExitStack()
        self._session: moda_client.Session | None = None
        self._reading: asyncio.Task | None = None

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        self._session = await self._stack.enter_async_context(moda_client.connect(**self._where))
        self._reading = self.create_task(self._read(self._session))

    async def stop(self, frame: EndFrame) -> None:
        await super().stop(frame)
        await self._end()

    async def cancel(self, frame: CancelFrame) -> None:
        await super().cancel(frame)
        await self._end()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        session = self._session
        if session and isinstance(frame, TTSAudioRawFrame):
            await session.push(frame.audio)  # comes back with its picture
            return
        if session and isinstance(frame, TTSStoppedFrame):
            await session.commit()
        elif session and isinstance(frame, InterruptionFrame):
            await session.interrupt()
        await self.push_frame(frame, direction)

    async def _read(self, session: moda_client.Session) -> None:
        async for item in session:
            if not isinstance(item, moda_client.Frame):
                continue
            if item.speaking:
                await self.push_frame(SpeechOutputAudioRawFrame(item.sound, session.rate, 1))
            if item.jpeg:
                image = await asyncio.to_thread(_rgb, item.jpeg)
                picture = OutputImageRawFrame(image=image.tobytes(), size=image.size, format="RGB")
                picture.sync_with_audio = item.speaking  # after the sound before it
                await self.push_frame(picture)

    async def _end(self) -> None:
        if self._reading:
            await self.cancel_task(self._reading)
            self._reading = None
        self._session = None
        await self._stack.aclose()


def _rgb(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg)).convert("RGB")
