"""What the README shows in Python runs, one block after the other, as it stands there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]


def test_the_blocks_run(tmp_path, monkeypatch, portrait, speech):
    shutil.copyfile(portrait, tmp_path / "portrait.jpg")
    shutil.copyfile(speech, tmp_path / "speech.wav")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 3
    sound = np.zeros(48_000, np.int16)
    scope = {"pcm": sound, "pieces": [np.zeros(16_000, np.float32)]}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), scope)
    assert (tmp_path / "out.mp4").exists() and len(scope["frames"]) == 25
    assert scope["picture"].shape == (512, 512, 3)
