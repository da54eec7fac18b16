"""The velocity network: a multi-stream diffusion transformer over motion, audio, emotion and identity.

    motion [previous | noisy] ─┐
    audio ─────────────────────┤  joint blocks   joint blocks      single-stream
    emotion (same every frame)─┤  of 4 streams   of 2: motion      blocks over    ──▶ velocity
    identity (same)  ──────────┘                 and the rest      all tokens

Time and emotion drive every block's adaLN. The family's members differ in ModelConfig alone.
Source: MoDA, arXiv 2507.03256.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moda.generator.blocks import JointBlock, Several, SingleBlock, modulate
from moda.generator.config import ModelConfig
from moda.generator.embed import TIME_FEATURES, AudioEmbedder, Embedder, rope_table, sinusoid


@dataclass
class Tokens:
    """The embedded conditions, which are the same at all times of the flow.

    audio: (B, N, D); emotion, identity: (B, 1, D), one token that stands for N equal ones.
    """

    audio: Tensor
    emotion: Tensor
    identity: Tensor


@dataclass
class Modulation:
    """adaLN outputs: joint[i][s] (B, 6, 1, D) of stream s; single[i] (B, 3, 1, D); final (B, 2, 1, D)."""

    joint: list[list[Tensor]]
    single: list[Tensor]
    final: Tensor

    def rows(self, index: Tensor | slice) -> Modulation:
        """A part of the batch."""
        return Modulation(
            [[m[index] for m in block] for block in self.joint],
            [m[index] for m in self.single],
            self.final[index],
        )


class MotionTransformer(nn.Module):
    """velocity = model(motion, time, audio, emotion, identity)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        four, two, single = config.depths
        self.motion_embedder = Embedder(2 * config.motion_dim, width)
        self.identity_embedder = Embedder(config.identity_dim, width)
        self.time_embedder = Embedder(TIME_FEATURES, width)
        self.audio_embedder = AudioEmbedder(
            config.audio_layers * config.audio_width, config.audio_hidden, width
        )
        table = torch.zeros(len(config.emotions) + 1, width)
        self.emotion_embedder = nn.Embedding.from_pretrained(table, freeze=False)
        self.null_audio = nn.Parameter(
            torch.zeros(config.audio_width)
        )  # stands for "no audio given", every layer
        self.blocks4: Several[JointBlock] = Several(JointBlock(config, 4) for _ in range(four))
        self.blocks2: Several[JointBlock] = Several(JointBlock(config, 2) for _ in range(two))
        self.blocks1: Several[SingleBlock] = Several(SingleBlock(config) for _ in range(single))
        self.final_modulation = nn.Linear(width, 2 * width)
        self.final = nn.Linear(width, config.motion_dim)
        if not self.final.weight.is_meta:  # a meta model's weights come from a file
            self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Weights to start training from: gates closed, every block the identity, the output 0."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                if name.endswith("modulation") or name == "final":
                    nn.init.zeros_(module.weight)
                else:
                    nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.emotion_embedder.weight, std=0.02)
        nn.init.normal_(self.null_audio, std=0.02)

    def forward(
        self, motion: Tensor, time: Tensor, audio: Tensor, emotion: Tensor, identity: Tensor
    ) -> Tensor:
        """The velocity noise - data at x_t, all of it normalized.

        motion:   (B, N, 2 * motion_dim), the previous frame repeated | x_t
        time:     (B,) in 0..1000, 1000 sigma
        audio:    (B, N, layers, audio_width); `without_audio` gives the null features
        emotion:  (B,) rows of the emotion table
        identity: (B, identity_dim)
        -> (B, N, motion_dim)
        """
        return self.velocity(
            motion,
            self.tokens(audio, emotion, identity),
            self.modulation(time, self.emotion_embedder(emotion)),
        )

    # -- the forward pass in parts, so that what does not change between steps is computed once -------

    def without_audio(self, audio: Tensor, drop: Tensor) -> Tensor:
        """Features (B, N, layers, audio_width) with the learned null vector where drop (B,) is true."""
        return torch.where(drop[:, None, None, None], self.null_audio, audio)

    def tokens(self, audio: Tensor, emotion: Tensor, identity: Tensor) -> Tokens:
        return Tokens(
            self.audio_embedder(audio),
            self.emotion_embedder(emotion)[:, None],
            self.identity_embedder(identity)[:, None],
        )

    def modulation(self, time: Tensor, emotion: Tensor) -> Modulation:
        """Everything that time (B,) and an embedded emotion (B, D) decide."""
        c = self.time_embedder(sinusoid(time).to(self.final.weight.dtype)) + emotion
        c = torch.nn.functional.silu(c)

        def chunks(linear: nn.Linear) -> Tensor:
            return linear(c).view(len(c), -1, 1, self.config.width)

        return Modulation(
            joint=[[chunks(s.modulation) for s in block.streams] for block in (*self.blocks4, *self.blocks2)],
            single=[chunks(block.modulation) for block in self.blocks1],
            final=chunks(self.final_modulation),
        )

    def velocity(self, motion: Tensor, tokens: Tokens, modulation: Modulation) -> Tensor:
        x = self.motion_embedder(motion)
        n = x.shape[1]
        rope, rest_rope, all_rope = (
            rope_table(n, self.config.head_dim, x.device, copies) for copies in (1, 3, 4)
        )
        mods = iter(modulation.joint)

        # Emotion and identity carry no position in these blocks, so their N tokens are N times the same one:
        # one token serves, with log N added to its logit as a key.
        streams = [x, tokens.audio, tokens.emotion, tokens.identity]
        bias = x.new_zeros(1, 2 * n + 2)
        bias[:, -2:] = math.log(n)
        for joint in self.blocks4:
            streams = joint(streams, next(mods), (rope, rope, None, None), bias)

        # From here every frame's copy has its frame's position: they part.
        x, audio, emotion, identity = streams
        rest = torch.cat([audio, emotion.expand(-1, n, -1), identity.expand(-1, n, -1)], dim=1)
        for joint in self.blocks2:
            x, rest = joint([x, rest], next(mods), (rope, rest_rope))

        x = torch.cat([x, rest], dim=1)
        for block, mod in zip(self.blocks1, modulation.single):
            x = block(x, mod, all_rope, keep=n if block is self.blocks1[-1] else None)

        shift, scale = modulation.final.unbind(1)
        return self.final(modulate(x[:, :n], shift, scale))
