"""The velocity network: a multi-stream diffusion transformer over motion, audio, emotion and identity.

    motion [previous | noisy] ─┐
    audio ─────────────────────┤  joint blocks   joint blocks      single-stream
    emotion (same every frame)─┤  of 4 streams   of 2: motion      blocks over    ──▶ velocity
    identity (same)  ──────────┘                 and the rest      all tokens

Time and emotion drive every block's adaLN. The family's members differ in ModelConfig alone.
Source: MoDA, arXiv 2507.03256.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from moda.generator.blocks import JointBlock, Mod, Several, SingleBlock, norm
from moda.generator.config import ModelConfig
from moda.generator.embed import TIME_FEATURES, AudioEmbedder, Embedder, layouts, sinusoid


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
    """adaLN of block i: joint[i][s] of stream s, six of (B, 1, D); single[i], three; final: shift and 1 + scale."""

    joint: list[list[Mod]]
    single: list[Mod]
    final: Mod

    def rows(self, index: Tensor | slice) -> Modulation:
        """A part of the batch."""

        def part(mod: Mod) -> Mod:
            return [m[index] for m in mod]

        return Modulation(
            [[part(mod) for mod in block] for block in self.joint],
            [part(mod) for mod in self.single],
            part(self.final),
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

        def chunks(linear: nn.Linear) -> Mod:
            mod = list(linear(c).unsqueeze(1).split(self.config.width, dim=-1))
            mod[1::3] = (1 + scale for scale in mod[1::3])
            return mod

        return Modulation(
            joint=[[chunks(s.modulation) for s in block.streams] for block in (*self.blocks4, *self.blocks2)],
            single=[chunks(block.modulation) for block in self.blocks1],
            final=chunks(self.final_modulation),
        )

    def velocity(self, motion: Tensor, tokens: Tokens, modulation: Modulation) -> Tensor:
        n = motion.shape[1]
        layout = layouts(n, self.config.head_dim, motion)
        mods = iter(modulation.joint)
        x = torch.cat([self.motion_embedder(motion), tokens.audio, tokens.emotion, tokens.identity], dim=1)
        for joint in self.blocks4:
            x = joint(x, next(mods), layout.four)
        for joint in self.blocks2:
            x = joint(x, next(mods), layout.parting if joint is self.blocks2[0] else layout.two)
        if not self.blocks2:
            x = x.index_select(1, layout.source)
        for block, mod in zip(self.blocks1, modulation.single):
            x = block(x, mod, layout.two.rope, keep=n if block is self.blocks1[-1] else None)

        shift, scale = modulation.final
        return self.final(torch.addcmul(shift, norm(x[:, :n]), scale))
