"""Damaged files of every kind that is read: a result, or one line and exit code 2.

MODA_FUZZ=2000 sets how many (without it a few minutes' worth), MODA_FUZZ=17,42 which.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, tone

from moda.media.picture import read_picture
from moda.motion import Motion

PICTURES = {
    "jpg": {}, "png": {}, "webp": {}, "gif": {}, "bmp": {}, "tiff": {"compression": "tiff_lzw"}, "avif": {},
    "jp2": {}, "ppm": {}, "tga": {},
}  # fmt: skip
SOUNDS = {
    "wav": "pcm_s16le", "aiff": "pcm_s16be", "flac": "flac", "mp3": "libmp3lame", "ogg": "flac",
    "m4a": "aac", "aac": "aac", "wma": "wmav2", "ac3": "ac3", "mka": "flac", "caf": "pcm_s16le",
    "au": "pcm_s16be", "wv": "wavpack",
}  # fmt: skip
VIDEOS = {
    "mp4": ("libx264", "aac"), "mov": ("mpeg4", "aac"), "mkv": ("libx264", "flac"), "webm": ("libvpx", None),
    "avi": ("mpeg4", "libmp3lame"), "ts": ("libx264", "aac"), "flv": ("flv", "libmp3lame"), "mpg": ("mpeg2video", "mp2"),
    "wmv": ("wmv2", "wmav2"),
}  # fmt: skip


RATE = 44_100


def write_media(path: Path, video: str | None, audio: str | None, frames: list[np.ndarray]) -> None:
    import av

    with av.open(str(path), "w") as out:
        packets = []
        picture = out.add_stream(video, rate=25) if video else None
        sound = out.add_stream(audio, rate=RATE, layout="stereo") if audio else None
        if picture:
            picture.height, picture.width, picture.pix_fmt = *frames[0].shape[:2], "yuv420p"
            for index, pixels in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                packets += picture.encode(frame)
            packets += picture.encode(None)
        if sound:
            sound.bit_rate = 128_000
            sound.codec_context.open()
            size = sound.codec_context.frame_size or 1024
            pieces = av.AudioResampler(format=sound.format, layout="stereo", rate=RATE, frame_size=size)
            wave = np.ascontiguousarray(tone(len(frames) / 25, RATE, channels=2).T)
            frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            for piece in [*pieces.resample(frame), *pieces.resample(None)]:
                packets += sound.encode(piece)
            packets += sound.encode(None)
        for packet in packets:
            out.mux(packet)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory, portrait) -> Path:
    import PIL.Image

    folder = tmp_path_factory.mktemp("seeds")
    head = read_picture(portrait)[20:276, 100:356]
    image = PIL.Image.fromarray(head)
    image.save(folder / "portrait.jpg")
    for suffix, options in PICTURES.items():
        image.save(folder / f"picture.{suffix}", **options)
    turned = PIL.Image.fromarray(np.ascontiguousarray(np.rot90(head)))
    image.save(folder / "picture.animated.webp", save_all=True, append_images=[turned])
    phone = ROOT.parent / "shared/cases/phone.heic"
    if phone.exists():
        shutil.copy(phone, folder / "picture.heic")
    frames = [np.roll(head, shift, axis=1) for shift in range(15)]
    for suffix, codec in SOUNDS.items():
        write_media(folder / f"sound.{suffix}", None, codec, frames)
    for suffix, (video, audio) in VIDEOS.items():
        write_media(folder / f"video.{suffix}", video, audio, frames)
    shutil.copy(folder / "sound.wav", folder / "speech.wav")
    Motion.still(10).save(folder / "motion.npz")
    return folder


@pytest.mark.slow
def test_damaged_inputs(seeds, tiny, tmp_path):
    count = os.environ.get("MODA_FUZZ", "150")
    script = Path(__file__).with_name("fuzz.py")
    command = [sys.executable, str(script), str(tiny), str(seeds), str(tmp_path), count]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    assert done.returncode == 0, done.stdout
