"""The published AToM: its sizes, and its file, which holds more than the network uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from moda.generator.atom.config import AtomConfig
from moda.generator.atom.model import MotionDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLISHED = AtomConfig(
    space="landmarks68",
    frames=156,
    hop=78,
    width=512,
    heads=8,
    hidden=1024,
    encoder_layers=2,
    layers=8,
    audio_width=1024,
    audio_tokens=2,
    dropout=0.1,
    condition_dropout=0.25,
    steps=50,
    guidance=2.0,
    eta=1.0,
    bound=1.0,
    aligned=False,
    separate=False,
    residual=False,
)
PARTS = ("ema_state_dict", "model_state_dict")  # of the released file; inference takes the second one
_FACE_NUMBERS = 96  # that an unused branch would read
_POSE_NUMBERS = 198


def _linear(name: str, outputs: int, inputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def unused(c: AtomConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what the released file holds and no output depends on."""
    d = c.width
    names = [
        *_linear("face_mlp.0", 4 * d, _FACE_NUMBERS),
        *_linear("to_face_cond.0", d, 4 * d),
        *_linear("to_face_tokens.0", 2 * d, 4 * d),
        *_linear("input_projection", d, c.numbers),
        *_linear("pos_projection", d, _POSE_NUMBERS),
        ("non_attn_pos_projection.0.weight", (d,)),
        ("non_attn_pos_projection.0.bias", (d,)),
        *_linear("non_attn_pos_projection.1", d, d),
        *_linear("non_attn_pos_projection.3", d, d),
    ]
    rotary = ["rotary"]
    for i in range(c.encoder_layers):
        layer = f"pos_encoder.{i}"
        names += [
            (f"{layer}.self_attn.in_proj_weight", (3 * d, d)),
            (f"{layer}.self_attn.in_proj_bias", (3 * d,)),
        ]
        names += [*_linear(f"{layer}.self_attn.out_proj", d, d)]
        names += [*_linear(f"{layer}.linear1", c.hidden, d), *_linear(f"{layer}.linear2", d, c.hidden)]
        names += [(f"{layer}.norm{n}.{part}", (d,)) for n in (1, 2) for part in ("weight", "bias")]
        rotary += [f"{kind}_encoder.{i}.rotary" for kind in ("cond", "face", "pos")]
    for i in range(c.layers):
        layer = f"seqTransDecoder.stack.{i}"
        names += [*_linear(f"{layer}.linear1", c.hidden, d), *_linear(f"{layer}.linear2", d, c.hidden)]
        rotary.append(f"{layer}.rotary")
    return dict(names) | {f"{name}.freqs": (d // 2,) for name in rotary}


def load_published(tensors: Mapping[str, Tensor], who: str, config: AtomConfig = PUBLISHED) -> MotionDecoder:
    """The released state dict -> the network. Errors: ModaError that names what is missing, left over or misshapen."""
    from moda.weights.load import check, strict_load

    with torch.device("meta"):
        model = MotionDecoder(config)
        extra = {name: torch.empty(shape) for name, shape in unused(config).items()}
    check(model.state_dict() | extra, tensors, who)
    strict_load(model, {name: tensors[name] for name in model.state_dict()}, who)
    return model.eval()
