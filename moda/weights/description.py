"""config.json of a model folder as types, and the one registry of what a model can be made of.

A model is three parts of one space: encoder (sound to features), generator (features to Motion), renderer (Motion to
frames). Each kind of part is a class here: its name, its numbers, and how it is loaded from the model's folder. A new
kind is one class, and its place in `Encoder`, `Generator` or `Renderer`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from moda import validation
from moda.errors import ModaError
from moda.generator.atom.config import AtomConfig
from moda.generator.config import ModelConfig
from moda.render.triplane.config import VideoConfig

if TYPE_CHECKING:
    from moda.audio.encoder import Encoder as AnyEncoder
    from moda.generator import AnyGenerator
    from moda.generator.atom.model import MotionDecoder
    from moda.interchange.networks import Network
    from moda.render import Renderer as AnyRenderer
    from moda.render import Repainter


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def networks(self, folder: Path) -> list[Network]:
        """What of it can be exported: moda.interchange.networks."""
        return []


class SpeechEncoder(Part):
    """The embedded log-mel encoder: encoder.json and encoder.safetensors, of this folder or the embedded model's own."""

    name: Literal["speech"]
    source: Literal["folder", "embedded"] = "folder"

    def load(self, folder: Path, device: str) -> AnyEncoder:
        from moda.audio.speech import EMBEDDED, SpeechEncoder

        folder = EMBEDDED if self.source == "embedded" else folder
        return SpeechEncoder.load(folder)  # small enough that a processor is the better place for it

    def networks(self, folder: Path) -> list[Network]:
        from moda.audio.speech import EMBEDDED, SpeechEncoder
        from moda.interchange.networks import speech

        return speech(SpeechEncoder.load(EMBEDDED if self.source == "embedded" else folder).net)


class HubertEncoder(Part):
    """HuBERT or wav2vec2 in the folder hubert/, in transformers' layout."""

    name: Literal["hubert"]
    pre_emphasis: float
    rest_frames: int

    def load(self, folder: Path, device: str) -> AnyEncoder:
        from moda.audio.hubert import HubertEncoder

        return HubertEncoder.load(folder / "hubert", device, self.pre_emphasis, self.rest_frames)

    def networks(self, folder: Path) -> list[Network]:
        from moda.audio.hubert import HubertEncoder
        from moda.interchange.networks import hubert

        return hubert(HubertEncoder.load(folder / "hubert").model)


class Hubert50Encoder(Part):
    """HuBERT's last hidden state, two features a frame, in the folder hubert/: as MoDiTalker uses HuBERT-large."""

    name: Literal["hubert50"]

    def load(self, folder: Path, device: str) -> AnyEncoder:
        from moda.audio.hubert50 import Hubert50Encoder

        return Hubert50Encoder.load(folder / "hubert", device)

    def networks(self, folder: Path) -> list[Network]:
        from moda.audio.hubert50 import Hubert50Encoder
        from moda.interchange.networks import hubert50

        return hubert50(Hubert50Encoder.load(folder / "hubert").model)


class WhisperEncoder(Part):
    """Early layers of a Whisper: `source` is a folder within the model's, or a name on the hub. layers: 0 is the stem."""

    name: Literal["whisper"]
    source: str
    layers: list[int]

    def load(self, folder: Path, device: str) -> AnyEncoder:
        from moda.audio.whisper import WhisperEncoder

        inside = folder / self.source
        return WhisperEncoder.load(inside if inside.exists() else self.source, self.layers, device)

    def networks(self, folder: Path) -> list[Network]:
        from moda.audio.whisper import WhisperEncoder
        from moda.interchange.networks import whisper

        inside = folder / self.source
        encoder = WhisperEncoder.load(inside if inside.exists() else self.source, self.layers)
        return whisper(encoder.net, self.layers)


class MotionGenerator(Part):
    """MoDA's multi-modal diffusion transformer: generator.safetensors. mean, std: of its motion, see Statistics."""

    name: Literal["mmdit"]
    config: ModelConfig
    mean: list[float]
    std: list[float]

    def load(self, folder: Path, device: str, precision: str) -> AnyGenerator:
        from moda.weights.load import load_generator

        return load_generator(folder, self, device, precision)

    def networks(self, folder: Path) -> list[Network]:
        from moda.interchange.networks import velocity
        from moda.weights.load import load_transformer

        return velocity(load_transformer(folder, self))


class LandmarkGenerator(Part):
    """MoDiTalker's AToM: generator.safetensors."""

    name: Literal["atom"]
    config: AtomConfig

    def load(self, folder: Path, device: str, precision: str) -> AnyGenerator:
        import torch

        from moda.generator.atom.generator import AtomGenerator

        dtype = torch.float32 if precision == "int8" else getattr(torch, precision)
        return AtomGenerator(self._model(folder).to(device, dtype).requires_grad_(False))

    def networks(self, folder: Path) -> list[Network]:
        from moda.interchange.networks import landmarks

        return landmarks(self._model(folder).float().eval())

    def _model(self, folder: Path) -> MotionDecoder:
        import torch

        from moda.generator.atom.model import MotionDecoder
        from moda.weights.load import read_tensors, strict_load

        path = folder / "generator.safetensors"
        with torch.device("meta"):
            model = MotionDecoder(self.config)
        strict_load(model, read_tensors(path), str(path))
        return model


class RendererPart(Part):
    """load: what draws portraits; load_repainter: what draws lips on footage."""

    name: str

    def load_repainter(self, folder: Path, device: str, precision: str) -> Repainter:
        raise ModaError(f"the {self.name} renderer cannot dub a video; use the embedded model")


class MeshRenderer(RendererPart):
    """The mesh renderer, which needs no files."""

    name: Literal["mesh"]

    def load(self, folder: Path, device: str, precision: str, size: int) -> AnyRenderer:
        from moda.render.mesh.renderer import MeshRenderer

        return MeshRenderer(size)

    def load_repainter(self, folder: Path, device: str, precision: str) -> Repainter:
        from moda.render.lips.repainter import LipRepainter

        return LipRepainter()


class LivePortraitRenderer(RendererPart):
    """LivePortrait's networks in the folder liveportrait/; it draws 512 pixels whatever is asked for."""

    name: Literal["liveportrait"]

    def load(self, folder: Path, device: str, precision: str, size: int) -> AnyRenderer:
        from moda.render.liveportrait.renderer import LivePortraitRenderer

        precision = "float32" if precision == "int8" else precision
        return LivePortraitRenderer.load(folder / "liveportrait", device, precision)

    def networks(self, folder: Path) -> list[Network]:
        from moda.interchange.networks import liveportrait
        from moda.render.liveportrait.renderer import LivePortraitRenderer

        return liveportrait(LivePortraitRenderer.load(folder / "liveportrait", fast=False))


class TriplaneRenderer(RendererPart):
    """MoDiTalker's MToV: autoencoder, landmarks and unet.safetensors."""

    name: Literal["mtov"]
    config: VideoConfig

    def load(self, folder: Path, device: str, precision: str, size: int) -> AnyRenderer:
        from moda.render.triplane.renderer import TriplaneRenderer, load_painter

        return TriplaneRenderer(load_painter(folder, self.config, device, precision), size)

    def load_repainter(self, folder: Path, device: str, precision: str) -> Repainter:
        from moda.render.triplane.renderer import TriplaneRepainter, load_painter

        return TriplaneRepainter(load_painter(folder, self.config, device, precision))

    def networks(self, folder: Path) -> list[Network]:
        from moda.interchange.networks import triplane
        from moda.render.triplane.renderer import load_painter

        painter = load_painter(folder, self.config, "cpu", "float32")
        return triplane(painter.rgb, painter.dots, painter.sampler.network)


Encoder = Annotated[
    SpeechEncoder | HubertEncoder | Hubert50Encoder | WhisperEncoder, Field(discriminator="name")
]
Generator = Annotated[MotionGenerator | LandmarkGenerator, Field(discriminator="name")]
DEFAULT_RENDERER = "mesh"
MODEL_RENDERERS = {"mesh": MeshRenderer, "liveportrait": LivePortraitRenderer}
Renderer = Annotated[MeshRenderer | LivePortraitRenderer | TriplaneRenderer, Field(discriminator="name")]


class Description(BaseModel):
    """What config.json says of a model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: Encoder
    generator: Generator
    renderer: Renderer

    @classmethod
    def read(cls, folder: Path) -> Description:
        """Errors: ModaError that names the file and the field."""
        found = validation.from_file(cls, folder / "config.json")
        rest = getattr(found.encoder, "rest_frames", 0)
        if rest != found.generator.config.rest_frames:
            raise ModaError(
                f"{folder / 'config.json'}: the encoder ends with {rest} frames of rest, but the generator wants "
                f"{found.generator.config.rest_frames}"
            )
        return found

    def with_renderer(self, name: str | None) -> Description:
        """The same model with another renderer. Errors: a ModaError that lists the names."""
        if name is None:
            return self
        validation.check_choice("renderer", name, tuple(MODEL_RENDERERS))
        return self.model_copy(update={"renderer": MODEL_RENDERERS[name](name=name)})
