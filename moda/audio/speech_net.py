"""The embedded speech encoder's network: log-mel to learned features. Streams step through it: moda.audio.speech_steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.audio.mel import BANDS, FLOOR
from moda.elementwise import rms_norm

# of log-mel over loud and quiet speech; fixed, so that a stream needs no statistics
MEL_MEAN, MEL_STD = -8.0, 3.5
SILENCE = float(np.log(FLOOR))  # what log-mel is where there is no sound
LIP_POINTS = 11  # of the explicit space: ten of the lips and the jaw
INNER_UPPER, INNER_LOWER = [4, 6, 7], [5, 8, 9]  # inner lips: middle, right, left


@dataclass(frozen=True)
class SpeechConfig:
    """Every number of the architecture.

    stem:    channels at 50 frames a second
    width:   channels at 25 frames a second
    behind, ahead: how many video frames each block looks back and ahead
    hidden:  numbers from which everything is predicted linearly
    directions: of the teacher's features, the most important first
    phones:  classes of sounds, predicted 50 times a second
    """

    stem: int
    width: int
    behind: tuple[int, ...]
    ahead: tuple[int, ...]
    hidden: int
    directions: int
    phones: int

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
        return rms_norm(x, eps=1e-5) * self.weight


class Block(nn.Module):
    """x + MLP of x now, `behind` frames ago and `ahead` frames on: (B, T, C) -> (B, T - behind - ahead, C)."""

    def __init__(self, channels: int, behind: int, ahead: int) -> None:
        super().__init__()
        self.offsets = (0, behind, behind + ahead) if ahead else (0, behind)
        self.behind = behind
        self.norm = Norm(channels)
        self.mix = nn.Linear(len(self.offsets) * channels, channels)
        self.out = nn.Linear(channels, channels)

    @property
    def field(self) -> int:
        """Frames that the input is longer than the output."""
        return self.offsets[-1]

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1] - self.field
        h = self.norm(x)
        h = torch.cat([h[:, o : o + n] for o in self.offsets], dim=-1)
        h = self.out(F.gelu(self.mix(h), approximate="tanh"))
        return x[:, self.behind : self.behind + n] + h


@dataclass(frozen=True)
class Heard:
    """What the network tells of each frame.

    directions (B, T, D) of the teacher, unit variance; lips (B, T, 33) of filmed people and jaw (B, T, 1) of the
    blendshape performer, both in units of their deviation; voice (B, T, 1) logit; phones (B, T, 2, classes) logits.
    """

    hidden: Tensor
    directions: Tensor
    lips: Tensor
    jaw: Tensor
    voice: Tensor
    phones: Tensor


class SpeechNet(nn.Module):
    """Log-mel -> all predictions; no padding inside: the caller gives the context."""

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        self.config = config
        self.fast = nn.Conv1d(BANDS, config.stem, 6, stride=2)  # 100 -> 50 frames a second
        self.slow = nn.Conv1d(config.stem, config.width, 4, stride=2)  # -> 25
        self.blocks = nn.ModuleList(
            Block(config.width, behind, ahead) for behind, ahead in zip(config.behind, config.ahead)
        )
        self.norm = Norm(config.width)
        self.hidden = nn.Linear(config.width, config.hidden)
        self.directions = nn.Linear(config.hidden, config.directions)
        self.lips = nn.Linear(config.hidden, LIP_POINTS * 3)
        self.jaw = nn.Linear(config.hidden, 1)
        self.voice = nn.Linear(config.hidden, 1)
        self.phones = nn.Linear(config.hidden, 2 * config.phones)

    def stem(self, mel: Tensor) -> Tensor:
        """(B, 4 (T + 2), 80) log-mel -> (B, T, width)."""
        x = ((mel - MEL_MEAN) / MEL_STD).transpose(1, 2)
        return self.slow(F.gelu(self.fast(x), approximate="tanh")).transpose(1, 2)

    def heads(self, x: Tensor) -> Heard:
        hidden = F.gelu(self.hidden(self.norm(x)), approximate="tanh")
        phones = self.phones(hidden).unflatten(-1, (2, -1))
        return Heard(
            hidden, self.directions(hidden), self.lips(hidden), self.jaw(hidden), self.voice(hidden), phones
        )

    def forward(self, mel: Tensor) -> Heard:
        """(B, 4 (behind + T + ahead), 80) log-mel -> T frames."""
        x = self.stem(mel)
        for block in self.blocks:
            x = block(x)
        return self.heads(x)
