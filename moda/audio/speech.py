"""The embedded speech encoder: sound -> features that know the mouth, streamed with a look-ahead of 0.3 s.

A small convolutional network on log-mel, trained to tell speech sounds and to predict lips and jaw at once
(docs/speech-encoder.md). It has seen many voices and only a few faces: the sounds carry what the faces lack.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from moda.audio.encoder import encode
from moda.audio.mel import BANDS, FLOOR, PER_FRAME, LogMel
from moda.errors import ModaError

MEL_MEAN, MEL_STD = (
    -8.0,
    3.5,
)  # of log-mel over loud and quiet speech; fixed, so that a stream needs no statistics
SILENCE = float(np.log(FLOOR))  # what log-mel is where there is no sound
LIP_POINTS = 11  # of the explicit space: ten of the lips and the jaw
INNER_PAIRS = ((4, 5), (6, 8), (7, 9))  # upper and lower inner lip: middle, right, left
AROUND = 16  # frames from a sound within which a mouth may stay open
CHUNK = 4  # video frames that go through the net together
EMBEDDED = Path(__file__).parent.parent / "weights" / "embedded"


@dataclass(frozen=True)
class SpeechConfig:
    """Every number of the architecture.

    stem:    channels at 50 frames a second
    width:   channels at 25 frames a second
    behind, ahead: how many video frames each block looks back and ahead
    hidden:  features from which everything is told linearly
    phones:  classes of sounds, told 50 times a second
    shapes:  blendshape channels
    """

    stem: int
    width: int
    behind: tuple[int, ...]
    ahead: tuple[int, ...]
    hidden: int
    phones: int
    shapes: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "behind", tuple(self.behind))
        object.__setattr__(self, "ahead", tuple(self.ahead))
        if len(self.behind) != len(self.ahead):
            raise ValueError(
                f"speech encoder: {len(self.behind)} blocks look back, but {len(self.ahead)} ahead"
            )

    @property
    def context(self) -> tuple[int, int]:
        """Video frames that an output needs before and after its own; the stem takes one on each side."""
        return 1 + sum(self.behind), 1 + sum(self.ahead)


class Norm(nn.Module):
    """Root mean square over channels, moment by moment: (B, T, C) -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


class Block(nn.Module):
    """x + MLP of x now, `behind` frames ago and `ahead` frames on: (B, T, C) -> (B, T - behind - ahead, C)."""

    def __init__(self, channels: int, behind: int, ahead: int, dropout: float) -> None:
        super().__init__()
        self.offsets = (0, behind, behind + ahead) if ahead else (0, behind)
        self.behind = behind
        self.norm = Norm(channels)
        self.mix = nn.Linear(len(self.offsets) * channels, channels)
        self.out = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1] - self.offsets[-1]
        h = self.norm(x)
        h = torch.cat([h[:, o : o + n] for o in self.offsets], dim=-1)
        h = self.out(self.dropout(F.gelu(self.mix(h), approximate="tanh")))
        return x[:, self.behind : self.behind + n] + h


class SpeechNet(nn.Module):
    """Log-mel -> hidden features, lips, sounds, blendshapes; no padding inside: the caller gives the context."""

    def __init__(self, config: SpeechConfig, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.fast = nn.Conv1d(BANDS, config.stem, 6, stride=2)  # 100 -> 50 frames a second
        self.slow = nn.Conv1d(config.stem, config.width, 4, stride=2)  # -> 25
        self.blocks = nn.ModuleList(
            Block(config.width, behind, ahead, dropout) for behind, ahead in zip(config.behind, config.ahead)
        )
        self.norm = Norm(config.width)
        self.hidden = nn.Linear(config.width, config.hidden)
        self.lips = nn.Linear(config.hidden, LIP_POINTS * 3)
        self.phones = nn.Linear(config.hidden, 2 * config.phones)
        self.shapes = nn.Linear(config.hidden, config.shapes)
        # Measured after training: what the features and the lips are scaled by.
        self.register_buffer("hidden_mean", torch.zeros(config.hidden))
        self.register_buffer("hidden_std", torch.ones(config.hidden))
        self.register_buffer("lip_scale", torch.ones(LIP_POINTS * 3))  # eye distances
        self.register_buffer("lip_mean", torch.zeros(LIP_POINTS * 3))  # of speech, eye distances
        self.register_buffer("lip_gain", torch.ones(1))

    def forward(self, mel: Tensor) -> Tensor:
        """(B, 4 (behind + T + ahead), 80) log-mel -> (B, T, hidden)."""
        x = ((mel - MEL_MEAN) / MEL_STD).transpose(1, 2)
        x = F.gelu(self.fast(x), approximate="tanh")
        x = self.slow(x).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return F.gelu(self.hidden(self.norm(x)), approximate="tanh")


class SpeechEncoder:
    """Sound -> (T, 1, width) features, about zero mean and unit variance each: `hidden` of them, then the lips.

    Every output depends on 1 s before and 0.25 s after its frame. Sound goes through in blocks of CHUNK frames that
    begin at multiples of CHUNK wherever the pieces were cut: the stream equals the whole to the last bit.
    """

    layers = 1

    def __init__(self, net: SpeechNet) -> None:
        self.net = net.eval().requires_grad_(False)
        self.width = net.config.hidden + LIP_POINTS * 3

    @classmethod
    def load(cls, folder: str | os.PathLike | None = None) -> SpeechEncoder:
        """From encoder.safetensors and encoder.json in `folder` (that shipped with the package by default).

        Raises ModaError: a file is missing or does not fit.
        """
        folder = Path(folder) if folder is not None else EMBEDDED
        try:
            numbers = json.loads((folder / "encoder.json").read_text())
            net = SpeechNet(SpeechConfig(**numbers))
            state = {k: v.float() for k, v in load_file(str(folder / "encoder.safetensors")).items()}
            net.load_state_dict(state, strict=True)
        except FileNotFoundError as error:
            raise ModaError(f"{folder} lacks {Path(error.filename or 'encoder.safetensors').name}") from error
        except (SafetensorError, RuntimeError, TypeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ModaError(f"the speech encoder in {folder} does not fit: {reason}") from error
        return cls(net)

    def save(self, folder: str | os.PathLike) -> None:
        """Write encoder.safetensors (half precision) and encoder.json."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / "encoder.safetensors.part"
        save_file({k: v.half().contiguous() for k, v in self.net.state_dict().items()}, str(part))
        os.replace(part, folder / "encoder.safetensors")
        (folder / "encoder.json").write_text(json.dumps(asdict(self.net.config), indent=1) + "\n")

    def stream(self) -> SpeechStream:
        return SpeechStream(self.net)

    def encode(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """(n,) float32 pieces at 16 kHz -> (frames, 1, width) float32, round(n_total / 640) frames in all."""
        return encode(self, pieces)

    def lips(self, wave: np.ndarray) -> np.ndarray:
        """(n,) float32 at 16 kHz -> (T, 11, 3) offsets of lips and jaw in the explicit space (eye distances).

        What is most likely for this sound over all people, enlarged to the size of a real person's movement.
        """
        stream = self.stream()
        blocks = [*stream.blocks(wave), *stream.rest()]
        if not blocks:
            return np.zeros((0, LIP_POINTS, 3), np.float32)
        hidden, lips = (torch.cat(parts) for parts in zip(*blocks))
        lips = self._enlarge(lips * self.net.lip_scale) * self._speaking(hidden)[:, None]
        return lips.reshape(-1, LIP_POINTS, 3).numpy()

    @torch.no_grad()
    def _speaking(self, hidden: Tensor) -> Tensor:
        """(T, hidden) -> (T,) 1 near a sound, 0 from about 0.8 s away, where there is silence or noise only."""
        silent = self.net.phones(hidden).reshape(len(hidden), 2, -1).softmax(-1)[..., 0].amin(1)
        most = F.max_pool1d(1 - silent[None], 2 * AROUND + 1, stride=1, padding=AROUND)[0]
        open_ = ((most - 0.15) / 0.25).clamp(0, 1)
        return F.avg_pool1d(open_[None], 9, stride=1, padding=4, count_include_pad=False)[0]  # over 0.36 s

    def _enlarge(self, lips: Tensor) -> Tensor:
        """(T, 33) conditional mean -> the same with a real mouth's amplitude.

        A mean over what a mouth may do moves less than any mouth: x and y are drawn away from the mean of speech by
        `lip_gain` (depth is too uncertain); what is near rest goes to rest; lips that would pass through each other
        meet halfway.
        """
        mean = self.net.lip_mean
        awake = (lips.norm(dim=1, keepdim=True) / (0.5 * mean.norm() + 1e-6)).clamp(max=1)
        points = (awake * lips).reshape(len(lips), LIP_POINTS, 3)
        drawn = (awake * (self.net.lip_gain - 1) * (lips - mean)).reshape(points.shape)
        points[..., :2] += drawn[..., :2]
        for upper, lower in INNER_PAIRS:
            overlap = (points[:, upper, 1] - points[:, lower, 1]).clamp(min=0)
            points[:, upper, 1] -= overlap / 2
            points[:, lower, 1] += overlap / 2
        return points.flatten(1)


class SpeechStream:
    """One sound on its way through the net; see moda.audio.encoder."""

    def __init__(self, net: SpeechNet) -> None:
        self._net = net
        self._mel = LogMel().stream()
        self._before, after = net.config.context
        self._size = (self._before + CHUNK + after) * PER_FRAME  # mel frames of a block
        self._held = np.full((self._before * PER_FRAME, BANDS), SILENCE, np.float32)

    def push(self, wave: np.ndarray) -> np.ndarray:
        return self._features(self.blocks(wave))

    def flush(self) -> np.ndarray:
        return self._features(self.rest())

    def blocks(self, wave: np.ndarray) -> list[tuple[Tensor, Tensor]]:
        """-> hidden (T, hidden), lips (T, 33) of the blocks that are full now."""
        self._held = np.concatenate([self._held, self._mel.push(wave)])
        out = []
        while len(self._held) >= self._size:
            out.append(self._block(self._held[: self._size], CHUNK))
            self._held = self._held[CHUNK * PER_FRAME :]
        return out

    def rest(self) -> list[tuple[Tensor, Tensor]]:
        """The same for what is left: the sound ends in silence."""
        self._held = np.concatenate([self._held, self._mel.flush()])
        rest = len(self._held) // PER_FRAME - self._before
        out = []
        while rest > 0:
            padded = np.full((self._size, BANDS), SILENCE, np.float32)
            held = self._held[: self._size]
            padded[: len(held)] = held
            out.append(self._block(padded, min(rest, CHUNK)))
            self._held = self._held[CHUNK * PER_FRAME :]
            rest -= CHUNK
        return out

    @torch.no_grad()
    def _block(self, mel: np.ndarray, frames: int) -> tuple[Tensor, Tensor]:
        hidden = self._net(torch.from_numpy(np.ascontiguousarray(mel))[None])[0, :frames]
        return hidden, self._net.lips(hidden)

    def _features(self, blocks: list[tuple[Tensor, Tensor]]) -> np.ndarray:
        width = self._net.config.hidden + LIP_POINTS * 3
        if not blocks:
            return np.zeros((0, 1, width), np.float32)
        hidden, lips = (torch.cat(parts) for parts in zip(*blocks))
        features = (hidden - self._net.hidden_mean) / self._net.hidden_std
        return torch.cat([features, lips], dim=-1)[:, None].numpy()
