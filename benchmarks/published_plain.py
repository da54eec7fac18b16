"""MoDA's generator and LivePortrait's W and G in plain torch, as they are described: what ours is measured against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moda.generator.embed import sinusoid
from moda.generator.model import MotionTransformer


def linear(of: nn.Linear) -> nn.Linear:
    """torch's own, on the same weights."""
    made = nn.Linear(of.in_features, of.out_features, device="meta")
    made.weight, made.bias = (nn.Parameter(p.detach(), requires_grad=False) for p in (of.weight, of.bias))
    return made


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(B, N, H, d)"""
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * cos[:, None] + turned * sin[:, None]


class PlainAttention(nn.Module):
    """qkv of one stream, its head norms, its rotation."""

    def __init__(self, qkv: nn.Linear, norms: nn.Module, heads: int) -> None:
        super().__init__()
        self.qkv, self.heads = linear(qkv), heads
        self.q_norm, self.k_norm = (nn.Parameter(n.weight.detach().clone()) for n in (norms.q, norms.k))

    def forward(self, qkv: Tensor, tables: tuple[Tensor, Tensor] | None) -> list[Tensor]:
        b, n, _ = qkv.shape
        q, k, v = qkv.view(b, n, 3, self.heads, -1).unbind(2)
        q = q * torch.rsqrt(q.pow(2).mean(-1, keepdim=True) + 1e-5) * self.q_norm
        k = k * torch.rsqrt(k.pow(2).mean(-1, keepdim=True) + 1e-5) * self.k_norm
        if tables is not None:
            q, k = rope(q, *tables), rope(k, *tables)
        return [part.transpose(1, 2) for part in (q, k, v)]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class PlainStream(nn.Module):
    def __init__(self, stream: nn.Module, heads: int) -> None:
        super().__init__()
        self.ada = linear(stream.modulation)
        self.attention = PlainAttention(stream.qkv, stream.norms, heads)
        self.out = linear(stream.out)
        self.fc1, self.fc2 = linear(stream.mlp.fc1), linear(stream.mlp.fc2)

    def finish(self, x: Tensor, attended: Tensor, mod: tuple[Tensor, ...]) -> Tensor:
        x = x + mod[2] * self.out(attended)
        hidden = F.gelu(self.fc1(rms(x) * (1 + mod[4]) + mod[3]), approximate="tanh")
        return x + mod[5] * self.fc2(hidden)


class PlainJoint(nn.Module):
    def __init__(self, block: nn.Module, heads: int) -> None:
        super().__init__()
        self.streams = nn.ModuleList(PlainStream(stream, heads) for stream in block.streams)

    def forward(self, xs: list[Tensor], c: Tensor, tables: list) -> list[Tensor]:
        mods = [stream.ada(F.silu(c))[:, None].chunk(6, dim=-1) for stream in self.streams]
        parts = [
            stream.attention(stream.attention.qkv(rms(x) * (1 + mod[1]) + mod[0]), table)
            for stream, x, mod, table in zip(self.streams, xs, mods, tables)
        ]
        attended = attend(*(torch.cat(part, dim=2) for part in zip(*parts)))
        pieces = attended.split([x.shape[1] for x in xs], dim=1)
        return [s.finish(x, piece, mod) for s, x, piece, mod in zip(self.streams, xs, pieces, mods)]


class PlainSingle(nn.Module):
    def __init__(self, block: nn.Module, width: int, heads: int) -> None:
        super().__init__()
        self.width = width
        self.ada, self.out = linear(block.modulation), linear(block.out)
        self.attention = PlainAttention(block.qkv_mlp, block.norms, heads)

    def forward(self, x: Tensor, c: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
        shift, scale, gate = self.ada(F.silu(c))[:, None].chunk(3, dim=-1)
        inner = self.attention.qkv(rms(x) * (1 + scale) + shift)
        qkv, hidden = inner.split([3 * self.width, inner.shape[-1] - 3 * self.width], dim=-1)
        attended = attend(*self.attention(qkv, table))
        return x + gate * self.out(torch.cat([attended, F.gelu(hidden, approximate="tanh")], dim=-1))


class PlainGenerator(nn.Module):
    """The transformer on the weights of one of ours."""

    def __init__(self, model: MotionTransformer) -> None:
        super().__init__()
        self.config = model.config
        heads, width = model.config.heads, model.config.width
        for name in ("motion_embedder", "identity_embedder", "time_embedder"):
            of = getattr(model, name)
            setattr(self, name, nn.Sequential(linear(of.fc1), nn.SiLU(), linear(of.fc2)))
        audio = model.audio_embedder
        self.audio = nn.Sequential(
            linear(audio.fc1), nn.ReLU(), linear(audio.fc2), nn.ReLU(), linear(audio.fc3)
        )
        self.audio_norm = nn.Parameter(audio.norm.weight.detach().clone())
        self.emotions = nn.Embedding.from_pretrained(model.emotion_embedder.weight.detach())
        self.null_audio = nn.Parameter(model.null_audio.detach(), requires_grad=False)
        self.blocks4 = nn.ModuleList(PlainJoint(block, heads) for block in model.blocks4)
        self.blocks2 = nn.ModuleList(PlainJoint(block, heads) for block in model.blocks2)
        self.blocks1 = nn.ModuleList(PlainSingle(block, width, heads) for block in model.blocks1)
        self.final_ada, self.final = linear(model.final_modulation), linear(model.final)
        self.eval()

    def forward(
        self, motion: Tensor, time: Tensor, audio: Tensor, emotion: Tensor, identity: Tensor
    ) -> Tensor:
        """motion (B, N, 140), time (B,), audio (B, N, layers, width), emotion (B,), identity (B, N, 63)."""
        n, d = motion.shape[1], self.config.head_dim
        frequency = 256.0 ** (-torch.arange(0, d, 2) / d)
        angles = torch.outer(torch.arange(n), frequency).repeat_interleave(2, dim=-1)
        table = angles.cos().to(motion.dtype), angles.sin().to(motion.dtype)
        table3, table4 = (tuple(part.repeat(times, 1) for part in table) for times in (3, 4))
        e = self.emotions(emotion)
        c = self.time_embedder(sinusoid(time).to(motion.dtype)) + e
        x, a = self.motion_embedder(motion), rms(self.audio(audio.flatten(2))) * self.audio_norm
        e = e[:, None].repeat(1, n, 1)
        i = self.identity_embedder(identity.mean(1))[:, None].repeat(1, n, 1)
        for block in self.blocks4:
            x, a, e, i = block([x, a, e, i], c, [table, table, None, None])
        rest = torch.cat([a, e, i], dim=1)
        for block in self.blocks2:
            x, rest = block([x, rest], c, [table, table3])
        x = torch.cat([x, rest], dim=1)
        for block in self.blocks1:
            x = block(x, c, table4)
        shift, scale = self.final_ada(F.silu(c))[:, None].chunk(2, dim=-1)
        return self.final(rms(x[:, :n]) * (1 + scale) + shift)

    @torch.inference_mode()
    def sample(
        self,
        identity: Tensor,
        audio: Tensor,
        previous: Tensor,
        noise: Tensor,
        emotion: int,
        steps: int,
        guidance: float,
        only: int | None = None,
    ) -> Tensor:
        """A segment, guided, by Euler's rule; `only` its first steps."""
        n = len(audio)
        null = self.null_audio.expand(1, n, self.config.audio_layers, -1)
        audio = torch.cat([null, audio[None]])
        identity = identity.expand(2, n, -1)
        emotions = torch.tensor([len(self.emotions.weight) - 1, emotion])
        x, times = noise, torch.linspace(1000, 1, steps)
        for time in times[:only]:
            sigma = float(time) / 1000
            after = max(0.0, sigma - 0.999 / (steps - 1))
            motion = torch.cat([previous.expand(n, -1), x.to(previous.dtype)], dim=-1).expand(2, -1, -1)
            v = self(motion, time.expand(2), audio, emotions, identity).float()
            x = x + (v[0] + guidance * (v[1] - v[0])) * (after - sigma)
        return x


# -- LivePortrait -------------------------------------------------------------------------------------------


class PlainConv(nn.Module):
    """Convolution (2 or 3 dimensions, size kept) and, where it has one, its batch norm, in evaluation."""

    def __init__(self, w: dict[str, Tensor], name: str, norm: str | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(w[name + ".weight"], requires_grad=False)
        self.bias = nn.Parameter(w[name + ".bias"], requires_grad=False) if name + ".bias" in w else None
        self.norm = None
        if norm:
            kind = nn.BatchNorm2d if self.weight.ndim == 4 else nn.BatchNorm3d
            self.norm = kind(len(self.weight))
            parts = {part: w[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
            self.norm.load_state_dict(parts, strict=False)
            self.norm.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        run = F.conv2d if self.weight.ndim == 4 else F.conv3d
        x = run(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)
        return x if self.norm is None else self.norm(x)


class PlainWarping(nn.Module):
    def __init__(self, w: dict[str, Tensor]) -> None:
        super().__init__()
        p = "dense_motion_network."
        self.compress = PlainConv(w, p + "compress", p + "norm")
        h = p + "hourglass."
        names = [f"{h}{side}_blocks.{i}." for side in ("encoder.down", "decoder.up") for i in range(5)]
        self.down = nn.ModuleList(PlainConv(w, name + "conv", name + "norm") for name in names[:5])
        self.up = nn.ModuleList(PlainConv(w, name + "conv", name + "norm") for name in names[5:])
        self.last = PlainConv(w, h + "decoder.conv", h + "decoder.norm")
        self.mask, self.occlusion = PlainConv(w, p + "mask"), PlainConv(w, p + "occlusion")
        self.third, self.fourth = PlainConv(w, "third.conv", "third.norm"), PlainConv(w, "fourth")

    def forward(self, volume: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        """(1, 32, 16, 64, 64), keypoints (1, 21, 3) -> (1, 256, 64, 64)."""
        _, _, depth, height, width = volume.shape
        axes = [torch.linspace(-1, 1, n).to(volume.dtype) for n in (depth, height, width)]
        z, y, x = torch.meshgrid(*axes, indexing="ij")
        grid = torch.stack([x, y, z], dim=-1)  # (D, H, W, 3)
        shifts = torch.cat([torch.zeros_like(source[:, :1]), source - driving], dim=1)[0]
        grids = grid + shifts[:, None, None, None]  # (22, D, H, W, 3)

        small = F.relu(self.compress(volume))
        moved = F.grid_sample(small.expand(22, -1, -1, -1, -1), grids, align_corners=False)
        heat = [((grid - kp[0][:, None, None, None]) ** 2).sum(-1).mul(-50).exp() for kp in (driving, source)]
        heat = torch.cat([torch.zeros_like(heat[0][:1]), heat[0] - heat[1]])
        skips = [torch.cat([heat[:, None], moved], dim=1).flatten(0, 1)[None]]
        for conv in self.down:
            skips.append(F.avg_pool3d(F.relu(conv(skips[-1])), (1, 2, 2)))
        x = skips.pop()
        for conv in self.up:
            x = F.interpolate(x, scale_factor=(1, 2, 2))
            x = torch.cat([F.relu(conv(x)), skips.pop()], dim=1)
        x = F.relu(self.last(x))

        mask = self.mask(x).softmax(dim=1)
        deformation = (grids.permute(0, 4, 1, 2, 3)[None] * mask[:, :, None]).sum(1).permute(0, 2, 3, 4, 1)
        occlusion = torch.sigmoid(self.occlusion(x.flatten(1, 2)))
        x = F.grid_sample(volume, deformation, align_corners=False).flatten(1, 2)
        return self.fourth(F.leaky_relu(self.third(x), 0.01)) * occlusion


class PlainSpade(nn.Module):
    def __init__(self, w: dict[str, Tensor], name: str) -> None:
        super().__init__()
        self.shared = PlainConv(w, name + ".mlp_shared.0")
        self.gamma, self.beta = PlainConv(w, name + ".mlp_gamma"), PlainConv(w, name + ".mlp_beta")

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        hidden = F.relu(self.shared(F.interpolate(features, size=x.shape[2:])))
        return F.instance_norm(x) * (1 + self.gamma(hidden)) + self.beta(hidden)


class PlainBlock(nn.Module):
    def __init__(self, w: dict[str, Tensor], name: str) -> None:
        super().__init__()
        self.norm_0, self.norm_1 = PlainSpade(w, name + ".norm_0"), PlainSpade(w, name + ".norm_1")
        self.conv_0, self.conv_1 = PlainConv(w, name + ".conv_0"), PlainConv(w, name + ".conv_1")
        self.short = name + ".conv_s.weight" in w
        if self.short:
            self.norm_s, self.conv_s = PlainSpade(w, name + ".norm_s"), PlainConv(w, name + ".conv_s")

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        shortcut = self.conv_s(self.norm_s(x, features)) if self.short else x
        x = self.conv_0(F.leaky_relu(self.norm_0(x, features), 0.2))
        return shortcut + self.conv_1(F.leaky_relu(self.norm_1(x, features), 0.2))


class PlainDecoder(nn.Module):
    def __init__(self, w: dict[str, Tensor]) -> None:
        super().__init__()
        self.fc, self.image = PlainConv(w, "fc"), PlainConv(w, "conv_img.0")
        self.middle = nn.ModuleList(PlainBlock(w, f"G_middle_{i}") for i in range(6))
        self.up = nn.ModuleList(PlainBlock(w, name) for name in ("up_0", "up_1"))

    def forward(self, features: Tensor) -> Tensor:
        """(1, 256, 64, 64) -> (1, 3, 512, 512)."""
        x = self.fc(features)
        for block in self.middle:
            x = block(x, features)
        for block in self.up:
            x = block(F.interpolate(x, scale_factor=2), features)
        return torch.sigmoid(F.pixel_shuffle(self.image(F.leaky_relu(x, 0.2)), 2))
