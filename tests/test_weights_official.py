"""From published files (weights by rule, so the picture is noise) to a video: the whole path at full size."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import pytest
import torch
from published import shapes
from rule import state_dict

from moda.generator.config import PUBLISHED
from moda.weights.published import RENDERER

FRAMES = 4  # a frame takes ten seconds


def by_rule(entries: dict) -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(tensor) for key, tensor in state_dict(entries).items()}


def write_published(folder: Path, golden: Path) -> None:
    """The files that `moda weights download` fetches, in the form in which they are published."""
    transformers = pytest.importorskip("transformers")
    networks = {
        part: json.loads((golden / f"state_dict_lp_{part}.json").read_text())
        for part in ("F", "M", "W", "G", "S_stitching", "S_lip", "S_eye")
    }
    torch.save(by_rule(shapes(PUBLISHED)), folder / "net-200.pth")
    for stem, part in zip(RENDERER[:4], "FMWG"):
        torch.save(by_rule(networks[part]), folder / f"{stem}.pth")
    parts = {"retarget_shoulder": "S_stitching", "retarget_mouth": "S_lip", "retarget_eye": "S_eye"}
    stitching = {k: {"module." + n: t for n, t in by_rule(networks[p]).items()} for k, p in parts.items()}
    torch.save(stitching, folder / f"{RENDERER[4]}.pth")
    (folder / "hubert").mkdir()
    config = transformers.HubertConfig()
    config.save_pretrained(folder / "hubert")
    with torch.device("meta"):
        entries = {k: tuple(v.shape) for k, v in transformers.HubertModel(config).state_dict().items()}
    torch.save(by_rule(entries), folder / "hubert" / "pytorch_model.bin")


@pytest.mark.slow
def test_generate_with_rule_weights(shared, portrait, tmp_path):
    from moda.cli import run
    from moda.media.read import probe, read_video
    from moda.motion import Motion

    originals, model = tmp_path / "originals", tmp_path / "model"
    originals.mkdir()
    write_published(originals, shared / "golden")
    from moda import weights
    from moda.weights.published import convert

    convert(originals, model)
    assert weights.resolve(model) == model

    recording = sorted((shared / "data" / "speech").rglob("*.wav"))[0]
    with wave.open(str(recording)) as source, wave.open(str(tmp_path / "speech.wav"), "wb") as out:
        out.setparams(source.getparams())
        out.writeframes(source.readframes(source.getframerate() * FRAMES // 25))

    made, motion = tmp_path / "out.mp4", tmp_path / "m.npz"
    arguments = [
        portrait,
        tmp_path / "speech.wav",
        "-o",
        made,
        "--model",
        model,
        "--steps",
        2,
        "--motion-out",
        motion,
    ]
    assert run(["generate", *map(str, arguments)]) == 0
    frames = list(read_video(made))
    assert len(frames) == FRAMES and frames[0].shape == (512, 512, 3)
    assert probe(made).has_sound
    written = Motion.load(motion)
    assert len(written) == FRAMES and written.space.name == "liveportrait"
