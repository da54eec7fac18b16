"""The embedded speech encoder: sound -> features that know the mouth, streamed a few frames at a time.

A small convolutional network on log-mel, distilled from Whisper's early layers (docs/speech-encoder.md). It also says
whether there is a voice, which sounds are being made, and how filmed people's lips and a blendshape jaw move to them.
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
from torch import Tensor

from moda.audio.mel import BANDS, PER_FRAME, LogMel
from moda.audio.speech_net import (
    INNER_LOWER,
    INNER_UPPER,
    LIP_POINTS,
    MEL_MEAN,
    MEL_STD,
    SILENCE,
    Heard,
    SpeechConfig,
    SpeechNet,
)
from moda.audio.speech_steps import Layout, Steps
from moda.constants import KEYPOINTS
from moda.errors import ModaError
from moda.media.files import whole
from moda.streams import pushed

LOUD_BANDS = 10  # of the log-mel that stands beside the learned features
BILABIAL = (1, 2)  # classes of sounds that are made with closed lips: p and b, m
USUAL_GAP, GAP_SCALE = (
    0.07,
    0.1,
)  # eye distances: where odds of p, b, m count as they are, and how soon otherwise
# Video frames that go through the network together: as soon as possible; for a file, in a third of the time.
LIVE, FILED = 4, 32
EMBEDDED = Path(__file__).parent.parent / "weights" / "embedded"


@dataclass(frozen=True)
class Calibration:
    """Numbers measured after training (encoder.json, "calibration").

    directions:   how many of the network's are given as features
    lip_mean, lip_scale: (33,) eye distances: the network's lips are (lips - mean) / scale
    lip_gain:     what x and y of the lips are enlarged by about the mean: a mean over people moves less than anyone
    gap_from, gap_to: knots of the map from the told gap to a real one, eye distances
    closing:      odds of a bilabial sound, weighed by the gap, at which the lips begin to meet and have met
    loud_mean, loud_scale: of the log-mel bands beside
    voice:        logits between which the mouth wakes
    """

    directions: int
    lip_mean: tuple[float, ...]
    lip_scale: tuple[float, ...]
    lip_gain: float
    gap_from: tuple[float, ...]
    gap_to: tuple[float, ...]
    closing: tuple[float, float]
    loud_mean: float
    loud_scale: float
    voice: tuple[float, float]

    @classmethod
    def plain(cls, directions: int) -> Calibration:
        """Of a network that nothing was measured of: everything as it comes."""
        dims = 3 * LIP_POINTS
        return cls(
            directions=directions,
            lip_mean=(0.0,) * dims,
            lip_scale=(0.05,) * dims,
            lip_gain=1.0,
            gap_from=(0.0, 1.0),
            gap_to=(0.0, 1.0),
            closing=(0.25, 0.5),
            loud_mean=MEL_MEAN,
            loud_scale=MEL_STD,
            voice=(-1.0, 1.0),
        )


class SpeechEncoder:
    """Sound -> (T, 1, width) features of about unit variance: the teacher's main directions, loudness in LOUD_BANDS
    bands, whether there is a voice, whether lips have to meet, the jaw, and the lips as they would be drawn. Sound goes
    through the same number of frames at a time wherever the pieces were cut: a stream equals the whole to the last bit.
    """

    layers = 1

    def __init__(self, net: SpeechNet, calibration: Calibration) -> None:
        self.net = net.eval().requires_grad_(False)
        self.layout = Layout(self.net)
        self.calibration = calibration
        self.width = calibration.directions + LOUD_BANDS + 3 + 3 * LIP_POINTS
        self._mean = torch.tensor(calibration.lip_mean)
        self._scale = torch.tensor(calibration.lip_scale)
        self._gap_from, self._gap_to = np.array(calibration.gap_from), np.array(calibration.gap_to)

    @classmethod
    def load(cls, folder: str | os.PathLike = EMBEDDED) -> SpeechEncoder:
        """Read encoder.json and encoder.safetensors. Errors: ModaError if they are missing or do not fit."""
        folder = Path(folder)
        try:
            values = json.loads((folder / "encoder.json").read_text())
            calibration = Calibration(**values.pop("calibration"))
            net = SpeechNet(SpeechConfig(**values))
            net.load_state_dict({k: v.float() for k, v in load_file(folder / "encoder.safetensors").items()})
        except FileNotFoundError as error:
            raise ModaError(f"{folder} lacks {Path(error.filename or 'encoder.safetensors').name}") from error
        except (SafetensorError, RuntimeError, TypeError, KeyError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ModaError(f"the speech encoder in {folder} does not fit: {reason}") from error
        return cls(net, calibration)

    def save(self, folder: str | os.PathLike) -> None:
        """Write encoder.safetensors (half precision) and encoder.json."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with whole(folder / "encoder.safetensors") as part:
            save_file({k: v.half().contiguous() for k, v in self.net.state_dict().items()}, part)
        values = asdict(self.net.config) | {"calibration": asdict(self.calibration)}
        (folder / "encoder.json").write_text(json.dumps(values, indent=1) + "\n")

    def stream(self) -> SpeechStream:
        """Of a sound that is still being made: four frames at a time, as soon as they can be told."""
        return SpeechStream(self, LIVE)

    def encode(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """(n,) float32 pieces at 16 kHz -> (frames, 1, width) float32, round(n_total / 640) frames in all."""
        return pushed(SpeechStream(self, FILED), pieces)

    def lips(self, wave: np.ndarray) -> np.ndarray:
        """(n,) float32 at 16 kHz -> (T, 11, 3) offsets of lips and jaw in the explicit space (eye distances).

        What is most likely for this sound over all people, with a real person's amplitude.
        """
        features = np.concatenate(list(self.encode([wave])) or [np.zeros((0, 1, self.width), np.float32)])
        return self.lips_in(features)

    def lips_in(self, features: np.ndarray) -> np.ndarray:
        """(T, 1, width) features -> the lips among them, (T, 11, 3) eye distances."""
        scaled = features[:, 0, -3 * LIP_POINTS :]
        return (scaled * self._scale.numpy() + self._mean.numpy()).reshape(-1, LIP_POINTS, 3)

    def points(self, features: np.ndarray) -> np.ndarray:
        """(T, 1, width) features -> (T, 21, 3) offsets in the explicit space: the lips, the rest of the face at rest."""
        out = np.zeros((len(features), KEYPOINTS, 3), np.float32)
        out[:, :LIP_POINTS] = self.lips_in(features)
        return out

    def voice_in(self, features: np.ndarray) -> np.ndarray:
        """(T, 1, width) features -> (T,) how sure it is that somebody speaks, 0..1."""
        return (features[:, 0, self.calibration.directions + LOUD_BANDS] + 1) / 2

    def meeting_in(self, features: np.ndarray) -> np.ndarray:
        """(T, 1, width) features -> (T,) how far the lips have to meet for p, b or m, 0..1."""
        return (features[:, 0, self.calibration.directions + LOUD_BANDS + 1] + 1) / 2

    def features(self, heard: Heard, mel: Tensor) -> np.ndarray:
        """What was heard of T frames, and their own log-mel (1, 4 T, 80) -> (T, 1, width)."""
        c = self.calibration
        loud = mel[0].unflatten(0, (-1, PER_FRAME)).mean(1).unflatten(-1, (LOUD_BANDS, -1)).mean(-1)
        loud = (loud - c.loud_mean) / c.loud_scale
        awake = rise(heard.voice[0], c.voice)
        told = heard.lips[0] * self._scale + self._mean
        meeting = met(heard.phones[0], told, c.closing)
        lips = self._drawn(told, meeting) * awake
        directions, states = heard.directions[0, :, : c.directions], (2 * awake - 1, 2 * meeting - 1)
        parts = [directions, loud, *states, heard.jaw[0], (lips - self._mean) / self._scale]
        return torch.cat(parts, dim=-1)[:, None].numpy()

    def _drawn(self, lips: Tensor, meeting: Tensor) -> Tensor:
        """(T, 33) conditional mean -> the same with a real mouth's amplitude, the inner lips never crossing.

        x and y are drawn away from the mean by the gain (depth is too uncertain). Then the inner lips are set as far
        apart as the middle's gap, mapped to a real one, says; p, b and m bring them together.
        """
        points = lips.unflatten(-1, (LIP_POINTS, 3)).clone()
        drawn = (self.calibration.lip_gain - 1) * (lips - self._mean).unflatten(-1, (LIP_POINTS, 3))
        points[..., :2] += drawn[..., :2]
        told = lips.unflatten(-1, (LIP_POINTS, 3))
        middle = gap(lips)[:, 0]
        wanted = torch.from_numpy(np.interp(middle.numpy(), self._gap_from, self._gap_to).astype(np.float32))
        opened = (wanted * (1 - meeting[:, 0]) / middle.clamp_min(1e-3)).clamp(max=2)
        apart = (told[:, INNER_LOWER, 1] - told[:, INNER_UPPER, 1]).clamp_min(0)
        change = apart * opened[:, None] - (points[:, INNER_LOWER, 1] - points[:, INNER_UPPER, 1])
        points[:, INNER_UPPER, 1] -= 0.3 * change  # the lower lip and the jaw do most of the way
        points[:, INNER_LOWER, 1] += 0.7 * change
        return points.flatten(1)


def gap(lips: Tensor) -> Tensor:
    """(T, 33) lips -> (T, 1) how far the inner lips' middle is open, eye distances."""
    upper, lower = 1 + 3 * INNER_UPPER[0], 1 + 3 * INNER_LOWER[0]
    return lips[:, lower : lower + 1] - lips[:, upper : upper + 1]


def rise(x: Tensor, ends: tuple[float, float]) -> Tensor:
    """0 up to the one end, 1 from the other on."""
    low, high = ends
    return ((x - low) / (high - low)).clamp(0, 1)


def met(phones: Tensor, lips: Tensor, closing: tuple[float, float]) -> Tensor:
    """(T, 2, classes) logits and the told lips (T, 33) -> (T, 1) how far lips have to meet for p, b or m, 0..1.

    Where the lips are told to be nearly together lower odds are enough; wide open they have to be higher.
    """
    chance = phones.softmax(-1)[..., list(BILABIAL)].sum(-1).amax(-1, keepdim=True)
    return rise(chance * ((USUAL_GAP - gap(lips)) / GAP_SCALE).exp(), closing)


class SpeechStream:
    """One sound on its way through the net; see moda.audio.encoder."""

    def __init__(self, encoder: SpeechEncoder, chunk: int) -> None:
        self._encoder, self._chunk = encoder, chunk
        with torch.inference_mode():
            self._steps = Steps(encoder.layout, chunk)
        ahead = encoder.net.config.context[1]
        lead = -ahead % chunk  # frames of silence before the sound, so that whole chunks come out
        self._mel = LogMel().stream(chunk, lead)
        self._waiting = np.full((lead * PER_FRAME, BANDS), SILENCE, np.float32)
        self._own = np.full((0, BANDS), SILENCE, np.float32)  # log-mel of frames not yet given out
        self._skip = lead + ahead  # frames that are predicted but lie before the sound
        self._given = self._seen = 0

    def push(self, wave: np.ndarray) -> np.ndarray:
        return self._take(self._mel.push(wave))

    def flush(self) -> np.ndarray:
        parts = [self._take(self._mel.flush())]
        silence = np.full((self._chunk * PER_FRAME, BANDS), SILENCE, np.float32)
        total = self._seen
        while self._given < total:
            parts.append(self._take(silence))
        out = np.concatenate(parts)
        return out[: len(out) - (self._given - total)]

    @torch.inference_mode()
    def _take(self, mel: np.ndarray) -> np.ndarray:
        self._seen += len(mel) // PER_FRAME
        self._waiting = np.concatenate([self._waiting, mel])
        self._own = np.concatenate([self._own, mel])
        parts = [np.zeros((0, 1, self._encoder.width), np.float32)]
        size = self._chunk * PER_FRAME
        while len(self._waiting) >= size:
            chunk, self._waiting = self._waiting[:size], self._waiting[size:]
            heard = self._steps.push(torch.from_numpy(np.ascontiguousarray(chunk)))
            if self._skip:
                self._skip -= self._chunk
                continue
            own, self._own = self._own[:size], self._own[size:]
            parts.append(self._encoder.features(heard, torch.from_numpy(np.ascontiguousarray(own))[None]))
            self._given += self._chunk
        return np.concatenate(parts)
