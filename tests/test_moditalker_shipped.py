"""The small MoDiTalker that is shipped: it loads, is small, and draws."""

from __future__ import annotations

import cv2
import numpy as np
from conftest import write_frames

from moda.media.picture import read_picture
from moda.media.read import read_video
from moda.pipeline import TalkingHead
from moda.weights.folder import MODITALKER


def test_it_is_small_and_has_a_card():
    assert sum(path.stat().st_size for path in MODITALKER.iterdir()) < 20e6
    assert (MODITALKER / "README.md").is_file()


def test_it_generates_and_dubs(portrait, tmp_path):
    head = TalkingHead.from_pretrained("moditalker")
    wave = np.random.default_rng(0).normal(0, 0.05, 12_800).astype(np.float32)
    frames = list(head(portrait, wave, size=128).frames())
    assert len(frames) == 20 and frames[0].shape == (128, 128, 3)
    picture = cv2.resize(read_picture(portrait)[:512, :512], (192, 192), interpolation=cv2.INTER_AREA)
    footage = write_frames(tmp_path / "video.mp4", [picture] * 14)
    with head.dub(footage, wave) as dub:
        dub.save(tmp_path / "out.mp4")
    original, dubbed = list(read_video(footage)), list(read_video(tmp_path / "out.mp4"))
    assert len(dubbed) == 14
    # What is painted looks like the person: the field's mean color is near the footage's.
    face = slice(60, 150), slice(60, 130)
    assert np.abs(dubbed[5][face].mean(axis=(0, 1)) - original[5][face].mean(axis=(0, 1))).max() < 12
