"""Operations (2 for a product and its sum) of products and attention: the published code's, and ours."""

from __future__ import annotations

from dataclasses import dataclass

from moda.generator.config import ModelConfig


@dataclass(frozen=True)
class Cost:
    """GFLOP. step: for each step of the solver; segment, clip: once for each of those."""

    step: float
    segment: float
    clip: float

    def total(self, steps: int, segments: int = 1) -> float:
        return self.clip + segments * (self.segment + steps * self.step)


def published(config: ModelConfig, guided: bool = True) -> Cost:
    """Everything again at every step, for both branches: 206.8 GFLOP a step of DiT-B."""
    n, branches = config.segment, 2 if guided else 1
    everything = _embedders(config) + _modulation(config) + _audio(config, n) + _ends(config)
    everything += sum(config.depths[:2]) * _joint(config, 4 * n) + config.depths[2] * _single(
        config, 4 * n, 4 * n
    )
    return Cost(branches * everything, 0, 0)


def ours(config: ModelConfig, steps: int, guided: bool = True) -> Cost:
    """The same result; what each saving is worth is `savings`."""
    n, branches = config.segment, 2 if guided else 1
    four, two, single = config.depths
    blocks = four * _joint(config, 2 * n + 2) + two * _joint(config, 4 * n) - _parting(config)
    if single:
        blocks += (single - 1) * _single(config, 4 * n, 4 * n) + _single(config, n, 4 * n)
    clip = (
        _embedders(config)
        + branches * steps * (_modulation(config) + _time(config))
        + (branches - 1) * _audio(config, 1)
    )
    return Cost(step=branches * (blocks + _ends(config)), segment=_audio(config, n), clip=clip)


def savings(config: ModelConfig, guided: bool = True) -> dict[str, float]:
    """GFLOP a step that need not be done, by why."""
    n, branches = config.segment, 2 if guided else 1
    four, _, single = config.depths
    last = _single(config, 4 * n, 4 * n) - _single(config, n, 4 * n) if single else 0.0
    return {
        "emotion and identity once in four-stream blocks": branches
        * four
        * (_joint(config, 4 * n) - _joint(config, 2 * n + 2)),
        "and for the queries, keys and values of the block where they part": branches * _parting(config),
        "the last block for motion alone": branches * last,
        "audio embedded once a segment": branches * _audio(config, n),
        "modulation and other conditions once a clip": branches * (_modulation(config) + _embedders(config)),
    }


def _linear(rows: float, inputs: float, outputs: float) -> float:
    return 2e-9 * rows * inputs * outputs


def _attention(config: ModelConfig, queries: int, keys: int) -> float:
    return 4e-9 * queries * keys * config.width


def _joint(config: ModelConfig, tokens: int) -> float:
    """qkv, output and MLP of every token, and the attention."""
    products = _linear(tokens, config.width, 4 * config.width + 2 * config.hidden)
    return products + _attention(config, tokens, tokens)


def _parting(config: ModelConfig) -> float:
    """What the first two-stream block saves: emotion's and identity's qkv once instead of for every frame."""
    return _linear(2 * config.segment - 2, config.width, 3 * config.width) if config.depths[1] else 0.0


def _single(config: ModelConfig, queries: int, keys: int) -> float:
    """Keys and values of all tokens; the rest for those that are kept."""
    width = config.width
    products = _linear(keys, width, 2 * width) + _linear(queries, width, 2 * width + 2 * config.hidden)
    return products + _attention(config, queries, keys)


def _audio(config: ModelConfig, frames: int) -> float:
    hidden = config.audio_hidden
    inputs = config.audio_layers * config.audio_width
    return (
        _linear(frames, inputs, hidden)
        + _linear(frames, hidden, hidden)
        + _linear(frames, hidden, config.width)
    )


def _ends(config: ModelConfig) -> float:
    """Into the network and out of it."""
    width, n = config.width, config.segment
    return (
        _linear(n, 2 * config.motion_dim, width)
        + _linear(n, width, width)
        + _linear(n, width, config.motion_dim)
    )


def _time(config: ModelConfig) -> float:
    from moda.generator.embed import TIME_FEATURES

    return _linear(1, TIME_FEATURES + config.width, config.width)


def _embedders(config: ModelConfig) -> float:
    return _linear(1, config.identity_dim + config.width, config.width)


def _modulation(config: ModelConfig) -> float:
    four, two, single = config.depths
    return _linear(1, config.width, config.width * (6 * (4 * four + 2 * two) + 3 * single + 2))
