"""A lip-sync expert of our own: how far a mouth's movement and a sound are apart, by contrast learned from filmed people.

Two small towers see the same WINDOW frames, one the sound as the embedded speech encoder hears it (what Whisper's
layers say, and loudness; not the lips it predicts), one the lips and the jaw; their embeddings are near where both
belong together. Trained by `moda train configs/sync.json`.
Source: Chung & Zisserman, "Out of time: automated lip sync in the wild", ACCV 2016 workshops; there on pixels.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.audio.speech import EMBEDDED, LOUD_BANDS, SpeechEncoder
from moda.audio.speech_net import LIP_POINTS
from moda.errors import ModaError
from moda.motion.motion import Motion

MOUTH = 3 * LIP_POINTS
UNIT = 0.1  # eye distances: what lips are divided by
REACH = 15  # frames to either side in which an offset is looked for, as SyncNet's
LAYERS = 3  # of width 3 in each tower, before the last one that sees what is left of the window


@dataclass(frozen=True)
class SyncConfig:
    """window: frames that are seen together; sound: numbers a frame; width: channels; dims: of the embeddings;
    encoder: SHA-256 of the speech encoder's weights whose sound this is."""

    window: int
    sound: int
    sound_width: int
    mouth_width: int
    dims: int
    encoder: str

    def __post_init__(self) -> None:
        if self.window < 2 * LAYERS + 1:
            raise ValueError(f"a window of {self.window} frames is shorter than {2 * LAYERS + 1}")


def _tower(inputs: int, width: int, config: SyncConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(LAYERS):
        layers += [nn.Conv1d(inputs, width, 3), nn.GELU()]
        inputs = width
    return nn.Sequential(*layers, nn.Conv1d(width, config.dims, config.window - 2 * LAYERS))


class SyncNet(nn.Module):
    """Both towers; whole clips go through as well as windows: N frames give N - window + 1 embeddings."""

    def __init__(self, config: SyncConfig) -> None:
        super().__init__()
        self.config = config
        self.sound = _tower(config.sound, config.sound_width, config)
        self.mouth = _tower(MOUTH, config.mouth_width, config)
        self.sharpness = nn.Parameter(
            torch.tensor(2.0)
        )  # log of what similarities are multiplied by in training

    def hear(self, features: Tensor) -> Tensor:
        """(B, N, sound) -> (B, N - window + 1, dims) of length 1."""
        return F.normalize(self.sound(features.transpose(1, 2)), dim=1).transpose(1, 2)

    def see(self, lips: Tensor) -> Tensor:
        """(B, N, 33) eye distances -> (B, N - window + 1, dims) of length 1."""
        return F.normalize(self.mouth(lips.transpose(1, 2) / UNIT), dim=1).transpose(1, 2)


def mark_of(encoder: Path) -> str:
    """What a speech encoder's folder is known by. Errors: ModaError without its weights."""
    try:
        return sha256((encoder / "encoder.safetensors").read_bytes()).hexdigest()
    except OSError as error:
        raise ModaError(f"there is no speech encoder in {encoder}: {error.strerror}") from error


def sound_of(features: np.ndarray, encoder: SpeechEncoder) -> np.ndarray:
    """(T, 1, width) of the speech encoder -> (T, sound) that the expert hears."""
    return features[:, 0, : sound_size(encoder)]


def sound_size(encoder: SpeechEncoder) -> int:
    return encoder.calibration.directions + LOUD_BANDS


@dataclass(frozen=True)
class Sync:
    """offset: frames by which the mouth comes after its sound; distance: of the embeddings there (0 to 2; LSE-D);
    confidence: by how much the median offset's distance is greater (LSE-C). Names: Prajwal et al., Wav2Lip, 2020."""

    offset: int
    distance: float
    confidence: float


class SyncExpert:
    """The trained towers beside the encoder that they hear through."""

    def __init__(self, net: SyncNet, encoder: SpeechEncoder) -> None:
        self.net, self.encoder = net.eval().requires_grad_(False), encoder

    @classmethod
    def load(cls, folder: str | os.PathLike = EMBEDDED, encoder: str | os.PathLike = EMBEDDED) -> SyncExpert:
        """Read sync.json and sync.safetensors. Errors: ModaError if they are missing, do not fit, or were trained with
        another speech encoder."""
        net = load_net(Path(folder))
        if net.config.encoder != mark_of(Path(encoder)):
            raise ModaError(
                f"the lip-sync expert in {folder} was trained with another speech encoder than {encoder}"
            )
        return cls(net, SpeechEncoder.load(encoder))

    def __call__(self, wave: np.ndarray, motion: Motion) -> Sync | None:
        """(n,) at 16 kHz and a motion of the explicit space. None for less than a window and twice REACH."""
        return self.judge(self.listen(wave), motion)

    def listen(self, wave: np.ndarray) -> np.ndarray:
        """(n,) at 16 kHz -> (T, 1, width) features, for `judge`."""
        empty = np.zeros((0, 1, self.encoder.width), np.float32)
        return np.concatenate([empty, *self.encoder.encode([wave])])

    @torch.no_grad()
    def judge(self, features: np.ndarray, motion: Motion) -> Sync | None:
        """(T, 1, width) features of this encoder, and a motion."""
        n = min(len(features), len(motion))
        if n < self.net.config.window + 2 * REACH:
            return None
        lips = torch.from_numpy(motion.exp[:n].reshape(n, -1)[:, :MOUTH]).float()
        heard = self.net.hear(torch.from_numpy(sound_of(features[:n], self.encoder)).float()[None])[0]
        return compare(heard, self.net.see(lips[None])[0])


def compare(heard: Tensor, seen: Tensor) -> Sync:
    """(N, dims) each, N > 2 REACH -> the offset at which they are nearest, on average over all moments."""
    n = len(seen)
    curve = []
    for offset in range(-REACH, REACH + 1):
        a, b = heard[max(0, -offset) : n - max(0, offset)], seen[max(0, offset) : n - max(0, -offset)]
        curve.append(float((a - b).square().sum(-1).sqrt().mean()))
    best = int(np.argmin(curve))
    return Sync(best - REACH, curve[best], float(np.median(curve)) - curve[best])


def load_net(folder: Path) -> SyncNet:
    """Errors: ModaError if sync.json or sync.safetensors are missing or do not fit."""
    from moda.weights.load import read_tensors, strict_load

    try:
        net = SyncNet(SyncConfig(**json.loads((folder / "sync.json").read_text(encoding="utf-8"))))
    except OSError as error:
        raise ModaError(f"there is no lip-sync expert in {folder}: it has no sync.json") from error
    except (TypeError, ValueError) as error:
        raise ModaError(f"{folder / 'sync.json'} is not what `moda train` writes: {error}") from error
    path = folder / "sync.safetensors"
    strict_load(net, read_tensors(path), str(path))
    return net


def save_net(net: SyncNet, folder: Path) -> Path:
    """Write sync.safetensors (half precision) and sync.json."""
    from safetensors.torch import save_file

    from moda.media.files import whole

    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / "sync.safetensors") as part:
        save_file({k: v.half().contiguous() for k, v in net.state_dict().items()}, part)
    (folder / "sync.json").write_text(json.dumps(asdict(net.config), indent=1) + "\n", encoding="utf-8")
    return folder
