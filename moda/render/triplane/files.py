"""MToV's weights in a model's folder: one file for each network, any float type, read strictly."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from moda.media.files import whole
from moda.render.triplane.autoencoder import TriplaneAutoencoder
from moda.render.triplane.config import TriplaneConfig, UNetConfig
from moda.render.triplane.unet import PlaneUNet
from moda.weights.load import read_tensors, strict_load

RGB, DOTS, UNET = "autoencoder.safetensors", "landmarks.safetensors", "unet.safetensors"


def _without_decoder(model: TriplaneAutoencoder) -> TriplaneAutoencoder:
    """Of the landmarks' autoencoder only the encoder is used."""
    for name in ("decoder", "to_pixel", "post_xy", "post_yt", "post_xt"):
        delattr(model, name)
    return model


def read_autoencoder(path: Path, config: TriplaneConfig, decoder: bool = True) -> TriplaneAutoencoder:
    """Errors: ModaError for a file that is missing or does not fit."""
    with torch.device("meta"):
        model = TriplaneAutoencoder(config)
    if not decoder:
        _without_decoder(model)
    strict_load(model, read_tensors(path), str(path))
    return model


def read_unet(path: Path, config: UNetConfig, planes: TriplaneConfig) -> PlaneUNet:
    """Errors: as `read_autoencoder`."""
    with torch.device("meta"):
        model = PlaneUNet(config, planes)
    strict_load(model, read_tensors(path), str(path))
    return model


def write_network(model: nn.Module, path: Path, decoder: bool = True) -> Path:
    """In half precision."""
    from copy import deepcopy

    from safetensors.torch import save_file

    if not decoder and isinstance(model, TriplaneAutoencoder):
        model = _without_decoder(deepcopy(model))
    path.parent.mkdir(parents=True, exist_ok=True)
    half = {k: v.detach().to("cpu", torch.float16).contiguous() for k, v in model.state_dict().items()}
    with whole(path) as part:
        save_file(half, part)
    return path
