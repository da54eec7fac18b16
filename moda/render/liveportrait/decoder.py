"""G, the decoder: warped features (64, 64, 256) -> the picture, 512x512. SPADE, arXiv 1903.07291."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from moda.render.liveportrait.reader import Reader

FEATURES, HIDDEN = 256, 128
SLOPE = 0.2
_EPS = 1e-5


class Decoder:
    def __init__(self, read: Reader) -> None:
        self.fc = read.conv(*read.plain("fc", 512, FEATURES, 3, 3))
        self.middle = [_Block(read, f"G_middle_{i}", 512, 512, 1) for i in range(6)]
        self.up = [_Block(read, "up_0", 512, 256, 2), _Block(read, "up_1", 256, 64, 4)]
        self.image = read.conv(*read.plain("conv_img.0", 12, 64, 3, 3))
        read.finish()

    @torch.inference_mode()
    def __call__(self, features: Tensor) -> Tensor:
        """(N, 64, 64, 256) -> (N, 512, 512, 3) RGB in 0..1."""
        x = self.fc(features)
        for block in self.middle + self.up:
            x = block(x, features)
        x = self.image(F.leaky_relu(x, SLOPE)).float()
        n, h, w, _ = x.shape
        x = x.view(n, h, w, 3, 2, 2).permute(0, 1, 4, 2, 5, 3)  # a pixel's 12 numbers are 2x2 pixels of 3
        return torch.sigmoid(x.reshape(n, 2 * h, 2 * w, 3))


def normalize(x: Tensor) -> Tensor:
    """Instance norm of (N, H, W, C), no weights."""
    centered = x - _mean(x.float()).to(x.dtype)
    factor = torch.rsqrt(_mean(centered.float().square()) + _EPS)
    return centered.mul_(factor.to(x.dtype))


def _mean(x: Tensor) -> Tensor:
    """(N, H, W, C) float32 -> (N, 1, 1, C); along rows as a matrix product, the quickest sum of strided numbers."""
    row = x.new_full((1, x.shape[2]), 1 / x.shape[2])
    return (row @ x).mean(dim=1, keepdim=True)


class _Block:
    """conv_1(act(norm_1(conv_0(act(norm_0(x)))))) + shortcut, x first enlarged to the features' size x `enlarge`.

    x enlarged is never made: its norm is that of x, and the modulation spreads each pixel.
    """

    def __init__(self, read: Reader, prefix: str, width_in: int, width_out: int, enlarge: int) -> None:
        hidden = min(width_in, width_out)
        self.norm_0 = _Spade(read, prefix + ".norm_0", width_in, enlarge)
        self.norm_1 = _Spade(read, prefix + ".norm_1", hidden, enlarge)
        # The instance norm after conv_0 removes its bias.
        read.take(prefix + ".conv_0.bias", hidden)
        self.conv_0 = read.conv(read.spectral(prefix + ".conv_0", hidden, width_in, 3, 3), None)
        bias = read.take(prefix + ".conv_1.bias", width_out)
        self.conv_1 = read.conv(read.spectral(prefix + ".conv_1", width_out, hidden, 3, 3), bias)
        self.shortcut = (
            _Shortcut(read, prefix, width_in, width_out, enlarge) if width_in != width_out else None
        )

    def __call__(self, x: Tensor, features: Tensor) -> Tensor:
        n = normalize(x)
        y = self.conv_0(self.norm_0(n, features))
        y = self.conv_1(self.norm_1(normalize(y), features))
        return y.add_(self.shortcut(n, features) if self.shortcut else x)


class _Spade:
    """act(n * (1 + gamma) + beta), gamma and beta made from the features at the size wanted."""

    def __init__(self, read: Reader, prefix: str, width: int, enlarge: int) -> None:
        self.shared = read.conv(*read.plain(prefix + ".mlp_shared.0", HIDDEN, FEATURES, 3, 3), enlarge)
        gamma, gamma_bias = read.plain(prefix + ".mlp_gamma", width, HIDDEN, 3, 3)
        beta, beta_bias = read.plain(prefix + ".mlp_beta", width, HIDDEN, 3, 3)
        self.both = read.conv(torch.cat([gamma, beta]), torch.cat([gamma_bias + 1, beta_bias]))
        self.width = width

    def __call__(self, n: Tensor, features: Tensor) -> Tensor:
        """n (N, h, w, width), normalized -> (N, H, W, width), H a multiple of h."""
        hidden = F.relu_(self.shared(features))
        y = n.new_empty(*hidden.shape[:3], self.width)
        for rows, strip in self.both.strips(hidden):
            gamma, beta = strip[..., : self.width], strip[..., self.width :]
            target = y[:, rows]
            torch.addcmul(beta, spread(n, rows, hidden.shape[1]), gamma, out=target)
            F.leaky_relu_(target, SLOPE)
        return y


class _Shortcut:
    """conv_s(norm_s(x)), conv_s 1x1 and linear: so beta's convolution and conv_s are one, with fewer channels."""

    def __init__(self, read: Reader, prefix: str, width_in: int, width_out: int, enlarge: int) -> None:
        norm = prefix + ".norm_s"
        self.shared = read.conv(*read.plain(norm + ".mlp_shared.0", HIDDEN, FEATURES, 3, 3), enlarge)
        gamma, gamma_bias = read.plain(norm + ".mlp_gamma", width_in, HIDDEN, 3, 3)
        beta, beta_bias = read.plain(norm + ".mlp_beta", width_in, HIDDEN, 3, 3)
        mix = read.spectral(prefix + ".conv_s", width_out, width_in, 1, 1).flatten(1)
        beta = torch.einsum("oc,cijk->oijk", mix.double(), beta.double()).float()
        self.both = read.conv(torch.cat([gamma, beta]), torch.cat([gamma_bias + 1, mix @ beta_bias]))
        self.mix = read.put(mix.T)
        self.width_in, self.width_out = width_in, width_out

    def __call__(self, n: Tensor, features: Tensor) -> Tensor:
        hidden = F.relu_(self.shared(features))
        y = n.new_empty(*hidden.shape[:3], self.width_out)
        for rows, strip in self.both.strips(hidden):
            gamma, beta = strip[..., : self.width_in], strip[..., self.width_in :]
            y[:, rows] = (gamma * spread(n, rows, hidden.shape[1])) @ self.mix + beta
        return y


def spread(n: Tensor, rows: slice, height: int) -> Tensor:
    """Rows of n (N, h, w, C) enlarged by nearest neighbor to `height`, and so its columns."""
    times = height // n.shape[1]
    if times == 1:
        return n[:, rows]
    start, stop, _ = rows.indices(height)
    return n[:, start // times : stop // times].repeat_interleave(times, 1).repeat_interleave(times, 2)
