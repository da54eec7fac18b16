"""MToV at its published size beside the same networks in plain torch: alternating in one process, random weights.

`python benchmarks/moditalker.py [--threads 1] [--pairs 1]`. Plain: attention as two products and a softmax, the planes one
by one, every token through every layer, a still clip as any other. Seconds of processor; it stops unless both give the
same numbers.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor
from torch.nn import functional as F

from moda.bench.timing import peak_memory
from moda.render.liveportrait.cost import count
from moda.render.triplane import cost
from moda.render.triplane.bench import random_painter
from moda.render.triplane.layers import Attention
from moda.render.triplane.unet import Blocks, Planes


def attention(q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0) -> Tensor:
    return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v


def first(self: Attention, x: Tensor) -> Tensor:
    return self(x)[:, 0]


def blocks(self: Blocks, planes: Planes, e: Tensor) -> Planes:
    t = [self._one(part, e) for part in planes.t.chunk(2)]
    return Planes(self._one(planes.xy, e), torch.cat(t))


@contextmanager
def plain() -> Iterator[None]:
    with (
        mock.patch.object(F, "scaled_dot_product_attention", attention),
        mock.patch.object(Attention, "first", first),
        mock.patch.object(Blocks, "forward", blocks),
    ):
        yield


def timed(call: Callable[[], Tensor]) -> tuple[float, Tensor]:
    start = time.process_time()
    out = call()
    return time.process_time() - start, out


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    painter = random_painter()
    c = painter.config.triplane
    random = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random).clamp(-1, 1)

    picture, latent, conditions = randn(1, 3, c.size, c.size), randn(1, 4, c.length), randn(1, 12, c.length)
    clip = picture[:, :, None].expand(-1, -1, c.frames, -1, -1)
    unet, rgb, at = painter.sampler.network, painter.rgb, torch.tensor([100])
    xy = c.plane_sizes[0]
    stages: list[tuple[str, Callable[[], Tensor], Callable[[], Tensor], float | None]] = [
        ("a step of the UNet", lambda: unet(latent, conditions, at), lambda: unet(latent, conditions, at), None),
        ("reference, xy plane", lambda: rgb.encode_still(picture, ("xy",)), lambda: rgb.encode(clip)[..., :xy], cost.encode(c)),
        ("reference, whole", lambda: rgb.encode_still(picture), lambda: rgb.encode(clip), cost.encode(c)),
        ("clip decoded", lambda: rgb.decode(latent), lambda: rgb.decode(latent), cost.decode(c)),
    ]  # fmt: skip
    print(f"{'':<22}{'plain s':>9}{'ours s':>9}{'ratio':>7}{'GFLOP':>9}{'published':>11}{'GB':>6}")
    for name, ours, theirs, published in stages:
        gflop, ratios, best = count(ours), [], (math.inf, math.inf)
        for _ in range(options.pairs):
            with plain():
                a, wanted = timed(theirs)
            b, got = timed(ours)
            error = float((wanted - got).abs().max() / wanted.std())
            if error > 1e-3:
                raise SystemExit(f"{name}: the numbers differ by {error:.1e} deviations")
            ratios.append(a / b)
            best = min(best, (a, b), key=lambda pair: pair[1])
        ratio = sorted(ratios)[len(ratios) // 2]
        print(
            f"{name:<22}{best[0]:>9.2f}{best[1]:>9.2f}{ratio:>7.2f}{gflop:>9.1f}{published or gflop:>11.1f}"
            f"{peak_memory():>6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
