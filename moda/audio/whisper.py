"""Features from the early layers of Whisper's encoder, at the video's rate: sound -> (T, layers, width).

The first layers tell unseen people's lips better than the later ones do (docs/speech-encoder.md), so only as many as
are asked for are read and run. Published files hold all of them (`openai/whisper-base` and its like on the hub).
Source: Radford et al., Whisper, arXiv 2212.04356.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.audio.encoder import encode
from moda.audio.mel import slaney_filters
from moda.constants import SAMPLES_PER_FRAME
from moda.errors import ModaError

WINDOW, HOP = 400, 160  # samples
BANDS = 80
PIECE_FRAMES = 500  # 20 s; longer sound goes through in pieces of that length
OVERLAP = 50  # frames that a piece sees of its neighbors, at either side
HEAD_DIM = 64  # of every published size
PREFIXES = ("model.encoder.", "encoder.", "")  # how files name the encoder


def log_mel(wave: Tensor) -> Tensor:
    """(n,) at 16 kHz -> (80, n // 160): log10 of mel power, within 8 of the largest, then (x + 4) / 4."""
    window = torch.hann_window(WINDOW, dtype=wave.dtype)
    spectrum = torch.stft(
        wave, WINDOW, HOP, window=window, center=True, pad_mode="reflect", return_complex=True
    )
    power = spectrum[:, :-1].abs().square()
    filters = torch.from_numpy(slaney_filters(WINDOW)).to(power.dtype)
    mel = (filters.T @ power).clamp_min(1e-10).log10()
    return (mel.clamp_min(mel.max() - 8) + 4) / 4


class Layer(nn.Module):
    """Pre-norm attention and MLP; keys have no bias: (B, N, D) -> same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attn = nn.ModuleDict(
            {f"{name}_proj": nn.Linear(width, width, bias=name != "k") for name in ("q", "k", "v", "out")}
        )
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.self_attn_layer_norm(x)
        heads = [
            self.self_attn[f"{name}_proj"](h).unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2) for name in "qkv"
        ]
        x = x + self.self_attn["out_proj"](F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
        return x + self.fc2(F.gelu(self.fc1(self.final_layer_norm(x))))


class WhisperNet(nn.Module):
    """Log-mel (B, 80, 2 N) -> the residual stream (B, N, D) after each of the first layers, stem first."""

    def __init__(self, width: int, layers: int, positions: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(BANDS, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(positions, width)
        self.layers = nn.ModuleList(Layer(width) for _ in range(layers))

    def forward(self, mel: Tensor) -> list[Tensor]:
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel)))).transpose(1, 2)
        x = x + self.embed_positions.weight[: x.shape[1]]
        states = [x]
        for layer in self.layers:
            states.append(layer(states[-1]))
        return states

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], layers: int, who: str) -> WhisperNet:
        """Published names, any prefix. Errors: ModaError for what is missing or misshapen."""
        prefix = next((p for p in PREFIXES if f"{p}conv1.weight" in tensors), None)
        if prefix is None:
            raise ModaError(f"{who} holds no Whisper encoder: it has no conv1.weight")
        given = {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}
        try:
            net = cls(given["conv1.weight"].shape[0], layers, given["embed_positions.weight"].shape[0])
            net.load_state_dict({k: given[k] for k in net.state_dict()})
        except KeyError as error:
            raise ModaError(f"{who} does not fit: it lacks {error.args[0]}") from error
        except RuntimeError as error:
            raise ModaError(f"{who} does not fit: {' '.join(str(error).split())}") from error
        return net.eval().requires_grad_(False)


class WhisperEncoder:
    """Sound -> (T, layers, width): chosen layers, averaged from 50 to 25 a second."""

    def __init__(self, net: WhisperNet, use: Sequence[int] = (2, 3, 4)) -> None:
        """use: which layers, 0 is the stem. Errors: ModaError for one that the net does not have."""
        if not use or min(use) < 0 or max(use) > len(net.layers):
            raise ModaError(
                f"the Whisper layers {list(use)} are asked for, but 0 to {len(net.layers)} are there"
            )
        self.net, self.use = net, tuple(use)
        self.layers, self.width = len(use), net.conv1.out_channels

    @classmethod
    def load(cls, source: str | Path, use: Sequence[int] = (2, 3, 4), device: str = "cpu") -> WhisperEncoder:
        """source: a folder with model.safetensors, such a file, or a name on the hub.

        Errors: ModaError for files that are missing or do not fit.
        """
        from moda.weights.load import read_tensors

        path = Path(source)
        if path.is_dir():
            path = path / "model.safetensors"
        elif not path.exists():
            path = _from_hub(str(source))
        net = WhisperNet.from_tensors(read_tensors(path), max(use), str(path))
        return cls(net.to(device), use)

    def stream(self) -> WhisperStream:
        return WhisperStream(self)

    def encode(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """(n,) float32 pieces at 16 kHz -> (frames, layers, width) float32, round(n_total / 640) frames in all."""
        return encode(self, pieces)

    @torch.inference_mode()
    def features(self, wave: np.ndarray) -> np.ndarray:
        """(n,) -> (round(n / 640), layers, width), seen at once."""
        frames = round(len(wave) / SAMPLES_PER_FRAME)
        padded = np.zeros(max(1, frames) * SAMPLES_PER_FRAME, np.float32)
        padded[: min(len(wave), len(padded))] = wave[: len(padded)]
        mel = log_mel(torch.from_numpy(padded)).to(self.net.conv1.weight.device)
        states = self.net(mel[None])
        chosen = torch.stack([states[k] for k in self.use], dim=2)[0]  # (2 frames, layers, width)
        return chosen.unflatten(0, (-1, 2)).mean(1)[:frames].cpu().numpy()


class WhisperStream:
    """One sound on its way through Whisper, 20 s at a time, each with two seconds to either side; see
    moda.audio.encoder. Sounds of up to 20 s are seen at once."""

    def __init__(self, encoder: WhisperEncoder) -> None:
        self._encoder = encoder
        self._held = np.zeros(0, np.float32)
        self._before = 0  # of the samples held, how many are context

    def push(self, wave: np.ndarray) -> np.ndarray:
        size, margin = PIECE_FRAMES * SAMPLES_PER_FRAME, OVERLAP * SAMPLES_PER_FRAME
        self._held = np.concatenate([self._held, np.asarray(wave, np.float32)])
        parts = [np.zeros((0, self._encoder.layers, self._encoder.width), np.float32)]
        while len(self._held) >= self._before + size + margin:
            first = self._before // SAMPLES_PER_FRAME
            found = self._encoder.features(self._held[: self._before + size + margin])
            parts.append(found[first : first + PIECE_FRAMES])
            start = max(0, self._before + size - margin)
            self._before, self._held = self._before + size - start, self._held[start:]
        return np.concatenate(parts)

    def flush(self) -> np.ndarray:
        frames = round((len(self._held) - self._before) / SAMPLES_PER_FRAME)
        first = self._before // SAMPLES_PER_FRAME
        found = self._encoder.features(self._held)[first : first + frames] if frames > 0 else None
        self._held, self._before = self._held[:0], 0
        return (
            np.zeros((0, self._encoder.layers, self._encoder.width), np.float32) if found is None else found
        )


def _from_hub(name: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise ModaError(
            'a Whisper by name needs the hub: pip install "moda-talkinghead[official]"'
        ) from error
    try:
        return Path(hf_hub_download(name, "model.safetensors"))
    except Exception as error:  # of networks, names and files: many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModaError(f"the Whisper encoder {name!r} cannot be fetched: {reason}") from error
