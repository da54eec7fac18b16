"""Every network of a model as ONNX, for those who run it without torch; checked against torch.

Graphs have no loops: the sampler's steps, the stream's state, the warping's source stay in the caller's hands, as
examples/onnx_sample.py shows. Shapes are those of a segment, a picture, a frame; only the encoder's length is free.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from moda.errors import ModaError
from moda.media.files import whole_folder

if TYPE_CHECKING:
    from moda.audio.speech_net import SpeechNet
    from moda.audio.whisper import WhisperNet
    from moda.generator.atom.model import MotionDecoder
    from moda.generator.model import MotionTransformer
    from moda.render.liveportrait.renderer import LivePortraitRenderer
    from moda.render.triplane.autoencoder import TriplaneAutoencoder
    from moda.render.triplane.unet import PlaneUNet
    from moda.weights.description import Description

OPSET = 20  # the first whose GridSample takes volumes
TOLERANCE = 1e-3  # of the size of a network's numbers


@dataclass
class Network:
    """name: of the file; module: what is computed; inputs: by name, of the shapes it is exported for; outputs: names.

    free: input -> its axis whose length may change.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    free: dict[str, int] = field(default_factory=dict)


class _Called(nn.Module):
    """A function as a module, as the exporter wants it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


class _OfThree(_Called):
    def forward(self, a: Tensor, b: Tensor, c: Tensor) -> Any:  # type: ignore[override]
        return self.function(a, b, c)


class _OfFour(_Called):
    def forward(self, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Any:  # type: ignore[override]
        return self.function(a, b, c, d)


def _randn(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) * scale


def velocity(model: MotionTransformer) -> list[Network]:
    """One step of the flow: moda.generator.model.MotionTransformer.forward for one segment."""
    c = model.config
    inputs = {
        "motion": _randn(1, c.segment, 2 * c.motion_dim),
        "time": torch.tensor([437.0]),
        "audio": _randn(1, c.segment, c.audio_layers, c.audio_width),
        "emotion": torch.tensor([c.no_emotion]),
        "identity": _randn(1, c.identity_dim),
    }
    return [Network("velocity", model.eval(), inputs, ("velocity",))]


def speech(net: SpeechNet) -> list[Network]:
    """Log-mel with its context to what the network tells; the free length is 4 (behind + T + ahead)."""
    behind, ahead = net.config.context

    def told(mel: Tensor) -> tuple[Tensor, ...]:
        heard = net(mel)
        return heard.directions, heard.lips, heard.jaw, heard.voice, heard.phones

    mel = _randn(1, 4 * (behind + 10 + ahead), 80)
    return [
        Network(
            "encoder",
            _Called(told),
            {"mel": mel},
            ("directions", "lips", "jaw", "voice", "phones"),
            {"mel": 1},
        )
    ]


def hubert(model: Any) -> list[Network]:
    """Sound of 16 kHz to the hidden states after each layer, 50 a second."""

    def states(wave: Tensor) -> Tensor:
        return torch.stack(model(wave, output_hidden_states=True).hidden_states[1:], dim=2)

    return [
        Network("encoder", _Called(states), {"wave": _randn(1, 16_000, scale=0.1)}, ("states",), {"wave": 1})
    ]


def hubert50(model: Any) -> list[Network]:
    """Normalized sound of 16 kHz to the last hidden state, 50 a second."""
    called = _Called(lambda wave: model(wave).last_hidden_state)
    return [Network("encoder", called, {"wave": _randn(1, 16_000)}, ("state",), {"wave": 1})]


def whisper(net: WhisperNet, layers: Sequence[int]) -> list[Network]:
    """Log-mel of any even length to the chosen layers, 50 a second."""
    called = _Called(lambda mel: torch.stack([net(mel)[k] for k in layers], dim=2))
    return [Network("encoder", called, {"mel": _randn(1, 80, 200)}, ("states",))]


def landmarks(model: MotionDecoder) -> list[Network]:
    """One step of AToM's sampler: the data x_0 of a window, in centimeters."""
    c = model.config
    known = torch.tensor([False])

    def step(x: Tensor, time: Tensor, audio: Tensor, face: Tensor) -> Tensor:
        return model(x, time, model.condition(audio, face, known))

    inputs = {
        "x": _randn(1, c.frames, c.numbers),
        "time": torch.tensor([437]),
        "audio": _randn(1, c.tokens, c.audio_width),
        "face": _randn(1, 1, c.numbers),
    }
    return [Network("landmarks", _OfFour(step), inputs, ("x_0",))]


def triplane(rgb: TriplaneAutoencoder, dots: TriplaneAutoencoder, unet: PlaneUNet) -> list[Network]:
    """MToV: a clip to its planes, drawn landmarks to theirs, one step over planes, planes to a clip."""
    c = rgb.config
    clip = _randn(1, 3, c.frames, c.size, c.size, scale=0.5).clamp(-1, 1)
    latent = _randn(1, c.latent, sum(c.plane_sizes), scale=0.5)
    step = {
        "x": latent,
        "conditions": _randn(1, unet.config.inputs - c.latent, sum(c.plane_sizes), scale=0.5),
        "time": torch.tensor([437]),
    }
    return [
        Network("planes", _Called(rgb.encode), {"clip": clip}, ("latent",)),
        Network("landmark_planes", _Called(dots.encode), {"clip": clip}, ("latent",)),
        Network("unet", unet.eval(), step, ("out",)),
        Network("clip", _Called(rgb.decode), {"latent": latent}, ("clip",)),
    ]


def liveportrait(renderer: LivePortraitRenderer) -> list[Network]:
    """F (picture), M (picture), W (source and driving keypoints), G (features): the renderer's own methods."""
    from moda.render.liveportrait.warping import WarpSource

    parts = _parts(renderer)
    call = {name: type(part).__call__.__wrapped__ for name, part in parts.items()}  # type: ignore[attr-defined]
    picture = torch.rand((1, 256, 256, 3), generator=torch.Generator().manual_seed(0))
    points = _randn(21, 3, scale=0.4).clamp(-0.95, 0.95)
    with torch.no_grad():
        volume = call["F"](parts["F"], picture).clone()
        volume = volume[0] if volume.dim() == 5 else volume

    prepare = type(renderer.warping).prepare.__wrapped__  # type: ignore[attr-defined]

    def warp(volume: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        prepared: WarpSource = prepare(renderer.warping, volume, source)
        return call["W"](renderer.warping, prepared, driving)

    with torch.no_grad():
        features = warp(volume, points, points[None]).clone()
    heads = tuple(call["M"](parts["M"], picture))
    return [
        Network("F", _Called(lambda x: call["F"](parts["F"], x)), {"picture": picture}, ("volume",)),
        Network(
            "M", _Called(lambda x: tuple(call["M"](parts["M"], x).values())), {"picture": picture}, heads
        ),
        Network(
            "W",
            _OfThree(warp),
            {"volume": volume, "source": points, "driving": points[None] + _randn(1, 21, 3, scale=0.05)},
            ("features",),
        ),
        Network("G", _Called(lambda x: call["G"](parts["G"], x)), {"features": features}, ("frame",)),
    ]


def _parts(renderer: LivePortraitRenderer) -> dict[str, Any]:
    return {
        "F": renderer.appearance,
        "M": renderer.extractor,
        "W": renderer.warping,
        "G": renderer.decoder,
    }


def export(
    folder: Path, description: Description, output: Path, check: bool = False
) -> list[tuple[str, float]]:
    """Write <network>.onnx, config.json and statistics of a model's folder -> (network, error) of each, if checked.

    error: the largest difference from torch over the root mean square of torch's numbers.
    Errors: ModaError without the extra, or for an error above TOLERANCE.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError as error:
        raise ModaError("export needs onnx: pip install 'moda-talkinghead[export]'") from error
    del onnx, onnxruntime
    networks = [
        network
        for part in (description.encoder, description.generator, description.renderer)
        for network in part.networks(folder)
    ]
    found = []
    with whole_folder(output) as made:
        for network in networks:
            path = write(network, made / f"{network.name}.onnx")
            if check:
                found.append((network.name, difference(network, path)))
                if found[-1][1] > TOLERANCE:
                    raise ModaError(
                        f"{network.name} differs from torch by {found[-1][1]:.2g} of the size of its numbers"
                    )
        shutil.copyfile(folder / "config.json", made / "config.json")
    return found


def write(network: Network, path: Path) -> Path:
    free = {axis: torch.export.Dim("length") for axis in network.free.values()}
    shapes = tuple(
        {network.free[name]: free[network.free[name]]} if name in network.free else None
        for name in network.inputs
    )
    with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network.module, tuple(network.inputs.values()), input_names=list(network.inputs),
            output_names=list(network.outputs), dynamic_shapes=shapes if free else None, opset_version=OPSET,
            dynamo=True, verbose=False,
        )  # fmt: skip
        assert program is not None
        program.save(str(path), external_data=False)
    return path


def difference(network: Network, path: Path) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted_inputs = {one.name for one in session.get_inputs()}
    given = {name: tensor.numpy() for name, tensor in network.inputs.items() if name in wanted_inputs}
    found: Sequence[np.ndarray] = session.run(list(network.outputs), given)
    with torch.no_grad():
        expected = network.module(*network.inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    errors = []
    for a, b in zip(found, expected):
        wanted = b.numpy().astype(np.float64)
        errors.append(float(np.abs(a - wanted).max() / max(np.sqrt(np.square(wanted).mean()), 1e-6)))
    return max(errors)
