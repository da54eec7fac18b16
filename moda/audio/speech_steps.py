"""The speech encoder's network on its way through a sound: a few frames of log-mel in, as many frames told.

What it tells is what SpeechNet tells of the whole; laid out for few frames at a time, where the time is that of reading
weights and of starting operations: convolutions are products, each frame is normed once, all heads are one product.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moda.audio.mel import BANDS, PER_FRAME
from moda.audio.speech_net import MEL_MEAN, MEL_STD, SILENCE, Block, Heard, SpeechNet
from moda.packed import for_few_rows


class Layout:
    """A network's weights as the steps take them; streams share one."""

    def __init__(self, net: SpeechNet) -> None:
        self.fast, self.slow = _Windows(net.fast), _Windows(net.slow)
        self.blocks = [_Block(block) for block in net.blocks if isinstance(block, Block)]
        self.norm = net.norm
        self.hidden = for_few_rows(net.hidden.weight, net.hidden.bias)
        heads = (net.directions, net.lips, net.jaw, net.voice, net.phones)
        self.sizes = [head.out_features for head in heads]
        self.heads = for_few_rows(
            torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads])
        )

    def stem(self, mel: Tensor) -> Tensor:
        """(4 (T + 2), 80) log-mel -> (T, width)."""
        return self.slow(self.fast((mel - MEL_MEAN) / MEL_STD, gelu=True))

    def told(self, x: Tensor) -> Heard:
        """(T, width) -> Heard, of a batch of one."""
        hidden = self.hidden(self.norm(x), gelu=True)[None]
        directions, lips, jaw, voice, phones = self.heads(hidden).split(self.sizes, dim=-1)
        return Heard(hidden, directions, lips, jaw, voice, phones.unflatten(-1, (2, -1)))


class Steps:
    """The state of one sound. What the blocks look back at is kept, so that each frame is computed once. A frame comes
    out when `ahead` more have gone in; what was before the first is silence.
    """

    def __init__(self, layout: Layout, chunk: int) -> None:
        """chunk: video frames that go through the net together."""
        self.layout, self.chunk = layout, chunk
        silence = torch.full(((2 + chunk) * PER_FRAME, BANDS), SILENCE)
        self.mel = silence[: 2 * PER_FRAME]
        still = layout.stem(silence)  # silence for ever, block by block
        self.normed: list[Tensor] = []  # of each block, the frames that it looks back at
        self.late: list[Tensor] = []  # and those that wait for the ones ahead
        for block in layout.blocks:
            normed = block.norm(still[:1])
            self.normed.append(normed.expand(block.offsets[-1], -1))
            self.late.append(still[: block.ahead])
            still = block.add(normed.expand(block.offsets[-1] + chunk, -1), still)

    def push(self, mel: Tensor) -> Heard:
        """(4 chunk, 80) -> Heard of chunk frames, those `ahead` frames ago."""
        mel = torch.cat([self.mel, mel])
        self.mel = mel[-2 * PER_FRAME :]
        x = self.layout.stem(mel)
        for i, block in enumerate(self.layout.blocks):
            normed = torch.cat([self.normed[i], block.norm(x)])
            self.normed[i] = normed[self.chunk :]
            if block.ahead:
                x = torch.cat([self.late[i], x])
                x, self.late[i] = x[: self.chunk], x[self.chunk :]
            x = block.add(normed, x)
        return self.layout.told(x)


class _Windows:
    """A convolution with a stride over (T, C) in time, as a product with its windows."""

    def __init__(self, conv: nn.Conv1d) -> None:
        assert conv.bias is not None
        self.step = conv.stride[0] * conv.in_channels
        self.size = conv.kernel_size[0] * conv.in_channels
        weight = conv.weight.transpose(1, 2).flatten(1)
        self.product = for_few_rows(weight.contiguous(), conv.bias)

    def __call__(self, x: Tensor, gelu: bool = False) -> Tensor:
        count = (x.numel() - self.size) // self.step + 1
        return self.product(x.as_strided((count, self.size), (self.step, 1)), gelu)


class _Block:
    def __init__(self, block: Block) -> None:
        self.offsets = block.offsets
        self.ahead = block.offsets[-1] - block.behind
        self.norm = block.norm
        self.mix = for_few_rows(block.mix.weight, block.mix.bias)
        self.out = for_few_rows(block.out.weight, block.out.bias)

    def add(self, normed: Tensor, x: Tensor) -> Tensor:
        """(n + behind + ahead, C) normed, (n, C) that they are added to -> (n, C)."""
        n = len(x)
        seen = torch.cat([normed[o : o + n] for o in self.offsets], dim=-1)
        return x + self.out(self.mix(seen, gelu=True))
