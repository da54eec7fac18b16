"""HuBERT or wav2vec2 features at the video's rate, through transformers (extra [official]).

The convolutions' features (50 a second) are brought to 25 a second before the transformer runs: it then sees
one token for each video frame. Source: MoDA, arXiv 2507.03256; HuBERT, arXiv 2106.07447.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from moda.audio.encoder import encode
from moda.constants import FPS, SAMPLES_PER_FRAME
from moda.errors import ModaError

PIECE_FRAMES = 60 * FPS  # longer sound goes through in pieces of a minute, each for itself
STRETCH = 64_000  # samples that go through the convolutions at once
REFLECTED = 20  # samples of the sound, mirrored at either end, twice


class HubertEncoder:
    """Sound -> (T, layers, width): the hidden states after each transformer layer.

    Memory is that of a minute of sound, however long it is.
    """

    def __init__(
        self, model: Any, normalize: bool = True, pre_emphasis: float = 0.0, rest_frames: int = 0
    ) -> None:
        """model: transformers' HubertModel or Wav2Vec2Model, which have no types

        normalize:    to zero mean and unit variance, each piece
        pre_emphasis: coefficient of the filter before it, see `PreEmphasis`; 0: none
        rest_frames:  silence appended to the sound; as many frames more come out
        """
        self.model = model.eval().requires_grad_(False)
        self.normalize = normalize
        self.pre_emphasis, self.rest_frames = pre_emphasis, rest_frames
        self._lock = threading.Lock()
        self.layers: int = model.config.num_hidden_layers
        self.width: int = model.config.hidden_size

    @classmethod
    def load(
        cls, folder: str | os.PathLike, device: str = "cpu", pre_emphasis: float = 0.0, rest_frames: int = 0
    ) -> HubertEncoder:
        """folder: in the layout of transformers.

        Errors: ModaError without transformers or files, and for keys that are missing or unknown.
        """
        try:
            from transformers import AutoFeatureExtractor, AutoModel
            from transformers.utils import logging
        except ImportError as error:
            raise ModaError('HuBERT needs transformers: pip install "moda-talkinghead[official]"') from error
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise ModaError(f"there is no HuBERT in {folder}: it has no config.json")
        logging.set_verbosity_error()
        logging.disable_progress_bar()  # it would be drawn even where standard error is a file
        try:
            model, info = AutoModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
            normalize = True
            if (folder / "preprocessor_config.json").is_file():
                normalize = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True).do_normalize
        except Exception as error:  # of configs, of files and of shapes: many kinds
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ModaError(f"the HuBERT in {folder} cannot be loaded: {reason}") from error
        if model.config.model_type not in ("hubert", "wav2vec2"):
            raise ModaError(
                f"{folder} holds a {model.config.model_type!r} model, but hubert or wav2vec2 is needed"
            )
        # The vector that hides parts of the input in pre-training is not used here, and some files lack it.
        missing = set(info["missing_keys"]) - {"masked_spec_embed"}
        for word, keys in (("lacks", missing), ("has unknown", set(info["unexpected_keys"]))):
            if keys:
                raise ModaError(
                    f"the HuBERT in {folder} does not fit its config: it {word} {', '.join(sorted(keys)[:3])}"
                )
        return cls(model.to(device), normalize, pre_emphasis, rest_frames)

    def stream(self) -> HubertStream:
        return HubertStream(self)

    def encode(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """(n,) float32 pieces, mono 16 kHz, of any length -> (frames, layers, width).

        round(n_total / 640) frames in all, and `rest_frames` of silence.
        """
        return encode(self, pieces)

    @torch.inference_mode()
    def features(self, wave: np.ndarray, frames: int) -> np.ndarray:
        """One piece: (n,) cut, or padded with its last value, to 640 samples a frame -> (frames, ...)."""
        device = next(self.model.parameters()).device
        x = torch.from_numpy(np.ascontiguousarray(wave, dtype=np.float32))
        if self.normalize:
            x = (x - x.mean()) / torch.sqrt(x.var(correction=0) + 1e-7)
        x = fit(x, frames * SAMPLES_PER_FRAME)
        convolved = self.convolve(reflect(x)[None, None].to(device))  # (1, 512, 2 frames)
        resampled = F.interpolate(convolved, size=frames, mode="linear", align_corners=True).transpose(1, 2)
        hidden = self.model.feature_projection(resampled)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden  # wav2vec2 also returns what goes in
        states = self._layers(hidden)
        return torch.stack(states, dim=2)[0].float().cpu().numpy()

    @torch.inference_mode()
    def convolve(self, wave: Tensor) -> Tensor:
        """(1, 1, n) -> (1, channels, m): the model's convolutions, a stretch of sound at a time.

        The first layer alone would otherwise hold some 20 MB for each second, three times over.
        """
        layers = self.model.feature_extractor.conv_layers
        first, rest = layers[0], layers[1:]
        whole = isinstance(getattr(first, "layer_norm", None), nn.GroupNorm)  # over the piece's whole length
        if whole:
            mean, deviation = self._statistics(wave)
        out = []
        for stretch in stretches(wave, self.model.config.conv_kernel, self.model.config.conv_stride):
            if whole:
                group = first.layer_norm
                x = (first.conv(stretch) - mean) * (group.weight[:, None] / deviation) + group.bias[:, None]
                x = first.activation(x)
            else:
                x = first(stretch)
            for layer in rest:
                x = layer(x)
            out.append(x)
        return torch.cat(out, dim=2)

    def _statistics(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (channels, 1) of the first convolution's outputs over all of the piece."""
        config, first = self.model.config, self.model.feature_extractor.conv_layers[0]
        counts, means, variances = [], [], []
        for stretch in stretches(wave, config.conv_kernel[:1], config.conv_stride[:1]):
            variance, mean = torch.var_mean(first.conv(stretch)[0], dim=1, correction=0)
            counts.append((stretch.shape[-1] - config.conv_kernel[0]) // config.conv_stride[0] + 1)
            means.append(mean)
            variances.append(variance)
        share = torch.tensor(counts, device=wave.device) / sum(counts)
        every = torch.stack(means, dim=1)  # (channels, stretches)
        mean = (share * every).sum(1, keepdim=True)
        within = torch.stack(variances, dim=1)
        variance = (share * (within + (every - mean).square())).sum(1, keepdim=True)
        return mean, torch.sqrt(variance + first.layer_norm.eps)

    def _layers(self, hidden: Tensor) -> list[Tensor]:
        """The transformer's output after each layer; the embedding before the first is left out."""
        states: list[Tensor] = []

        def take(module: nn.Module, arguments: tuple, output) -> None:
            states.append(output[0] if isinstance(output, tuple) else output)

        with self._lock:  # hooks belong to the model, which several streams may share
            hooks = [layer.register_forward_hook(take) for layer in self.model.encoder.layers]
            try:
                self.model.encoder(hidden)
            finally:
                for hook in hooks:
                    hook.remove()
        return states


def stretches(wave: Tensor, kernels: Sequence[int], strides: Sequence[int]) -> Iterator[Tensor]:
    """Views of wave (..., n) whose outputs through such convolutions, joined, are those of the whole."""
    field, stride = 1, math.prod(strides)
    for kernel, step in zip(reversed(kernels), reversed(strides)):
        field = (field - 1) * step + kernel
    outputs = (wave.shape[-1] - field) // stride + 1
    at_once = max(1, STRETCH // stride)
    for start in range(0, outputs, at_once):
        stop = min(outputs, start + at_once)
        yield wave[..., start * stride : (stop - 1) * stride + field]


def fit(wave: Tensor, samples: int) -> Tensor:
    """Cut at the end, or padded with the last value."""
    if len(wave) >= samples:
        return wave[:samples]
    return torch.cat([wave, wave[-1:].expand(samples - len(wave))])


def reflect(wave: Tensor) -> Tensor:
    """(n,) of a whole number of frames -> (n + 80,): 20 samples mirrored at both ends, then 20 of the result.

    It makes the convolutions give two outputs a frame exactly.
    """
    for _ in range(2):
        wave = F.pad(wave[None], (REFLECTED, REFLECTED), mode="reflect")[0]
    return wave


class PreEmphasis:
    """y_t = x_t - coefficient * x_(t-1), piece by piece, as librosa's filter does it.

    That filter starts with y_0 = x_0 + (2 x_0 - x_1): it adds the line's continuation.
    """

    def __init__(self, coefficient: float) -> None:
        self.coefficient = np.float32(coefficient)
        self._first: np.ndarray | None = None  # a sample that waits for the second one
        self._before: np.float32 | None = None

    def push(self, wave: np.ndarray) -> np.ndarray:
        wave = np.asarray(wave, dtype=np.float32)
        if self._before is not None:
            if len(wave):
                wave, self._before = self._filter(wave, self._before), wave[-1]
            return wave
        wave = wave if self._first is None else np.concatenate([self._first, wave])
        if len(wave) < 2:
            self._first = wave
            return wave[:0]
        out = self._filter(wave, np.float32(0))
        out[0] = 3 * wave[0] - wave[1]
        self._before = wave[-1]
        return out

    def flush(self) -> np.ndarray:
        """A single sample in all comes out as it is."""
        alone = self._first if self._before is None and self._first is not None else np.zeros(0, np.float32)
        self._first = None
        return alone

    def _filter(self, wave: np.ndarray, before: np.float32) -> np.ndarray:
        return wave - self.coefficient * np.concatenate([[before], wave[:-1]]).astype(np.float32)


class HubertStream:
    """One sound on its way through HuBERT; it waits for a minute of it, or its end. See moda.audio.encoder."""

    def __init__(self, encoder: HubertEncoder) -> None:
        self._encoder = encoder
        self._filter = PreEmphasis(encoder.pre_emphasis) if encoder.pre_emphasis else None
        self._held = np.zeros(0, dtype=np.float32)

    def push(self, wave: np.ndarray) -> np.ndarray:
        return self._take(self._filter.push(wave) if self._filter else wave)

    def flush(self) -> np.ndarray:
        encoder = self._encoder
        rest = np.zeros(encoder.rest_frames * SAMPLES_PER_FRAME, dtype=np.float32)
        parts = [self.push(rest)]
        if self._filter:
            parts.append(self._take(self._filter.flush()))
        frames = round(len(self._held) / SAMPLES_PER_FRAME)
        if frames:
            parts.append(encoder.features(self._held, frames))
        self._held = self._held[:0]
        return np.concatenate(parts)

    def _take(self, wave: np.ndarray) -> np.ndarray:
        self._held = np.concatenate([self._held, np.asarray(wave, dtype=np.float32)])
        size = PIECE_FRAMES * SAMPLES_PER_FRAME
        parts = [np.zeros((0, self._encoder.layers, self._encoder.width), np.float32)]
        while len(self._held) >= size:
            parts.append(self._encoder.features(self._held[:size], PIECE_FRAMES))
            self._held = self._held[size:]
        return np.concatenate(parts)
