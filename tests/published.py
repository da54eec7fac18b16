"""The published generator in plain numpy, float64, token by token as described; its weights by rule.

Deliberately naive: 80 copies of every emotion and identity token, nothing shared, nothing cached.
"""

from __future__ import annotations

import numpy as np
import rule

from moda.generator.config import ModelConfig


def shapes(c: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The state dict of the published code, for any sizes."""
    D, d, hidden = c.width, c.head_dim, c.hidden
    out: dict[str, tuple[int, ...]] = {
        "null_audio_feat": (1, 1, 1, 1, c.audio_width),
        "null_motion_feat": (1, 1, c.motion_dim),
    }

    def linear(name: str, inputs: int, outputs: int) -> None:
        out[f"talking_head_dit.{name}.weight"] = (outputs, inputs)
        out[f"talking_head_dit.{name}.bias"] = (outputs,)

    for name, inputs in (("motion", 2 * c.motion_dim), ("identity", c.identity_dim), ("time", 256)):
        linear(f"{name}_embedder.mlp.0", inputs, D)
        linear(f"{name}_embedder.mlp.2", D, D)
    linear("audio_embedder.proj1", c.audio_layers * c.audio_width, c.audio_hidden)
    linear("audio_embedder.proj2", c.audio_hidden, c.audio_hidden)
    linear("audio_embedder.proj3", c.audio_hidden, D)
    out["talking_head_dit.audio_embedder.norm.weight"] = (D,)
    out["talking_head_dit.emo_embedder.embedding_table.weight"] = (len(c.emotions) + 1, D)
    for kind, count, streams in (("blocks4", c.depths[0], "123"), ("blocks2", c.depths[1], [""])):
        for i in range(count):
            b = f"{kind}.{i}"
            for qkv, qn, kn, proj, mlp, ada in [
                ("qkv_xs", "xs_q_norm", "xs_k_norm", "xs_proj", "xs_mlp", "adaLN_modulation_xs"),
                *[
                    (
                        f"qkv_au{s}",
                        f"au_q_norm{s}",
                        f"au_k_norm{s}",
                        f"au_proj{s}",
                        f"audio_mlp{s}",
                        f"adaLN_modulation_audio{s}",
                    )
                    for s in streams
                ],
            ]:
                linear(f"{b}.attn1.{qkv}", D, 3 * D)
                out[f"talking_head_dit.{b}.attn1.{qn}.weight"] = (d,)
                out[f"talking_head_dit.{b}.attn1.{kn}.weight"] = (d,)
                linear(f"{b}.attn1.{proj}", D, D)
                linear(f"{b}.{mlp}.fc1", D, hidden)
                linear(f"{b}.{mlp}.fc2", hidden, D)
                linear(f"{b}.{ada}.1", D, 6 * D)
    for i in range(c.depths[2]):
        b = f"blocks.{i}"
        out[f"talking_head_dit.{b}.attn1.xs_q_norm.weight"] = (d,)
        out[f"talking_head_dit.{b}.attn1.xs_k_norm.weight"] = (d,)
        linear(f"{b}.qkv_xs", D, 3 * D + hidden)
        linear(f"{b}.linear2", D + hidden, D)
        linear(f"{b}.adaLN_modulation_xs.1", D, 3 * D)
    linear("final_layer.linear", D, c.motion_dim)
    linear("final_layer.adaLN_modulation.1", D, 2 * D)
    out["scheduler.sigmas"] = (1000,)
    return out


class Reference:
    """velocity of one sample, from weights under the published names."""

    def __init__(self, c: ModelConfig) -> None:
        self.c = c
        prefix = "talking_head_dit."
        self.w = {k.removeprefix(prefix): v.astype(np.float64) for k, v in rule.state_dict(shapes(c)).items()}

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def embed(self, name: str, x: np.ndarray) -> np.ndarray:
        return self.linear(f"{name}_embedder.mlp.2", silu(self.linear(f"{name}_embedder.mlp.0", x)))

    def heads(
        self, qkv: np.ndarray, q_norm: str, k_norm: str, positions: np.ndarray | None
    ) -> list[np.ndarray]:
        """(N, 3D) -> q, k, v (H, N, d)."""
        q, k, v = (
            part.reshape(len(qkv), self.c.heads, self.c.head_dim).transpose(1, 0, 2)
            for part in np.split(qkv, 3, axis=1)
        )
        q = rms(q, 1e-5) * self.w[q_norm + ".weight"]
        k = rms(k, 1e-5) * self.w[k_norm + ".weight"]
        if positions is not None:
            q, k = rope(q, positions), rope(k, positions)
        return [q, k, v]

    def attend(self, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        logits = np.einsum("hnd,hmd->hnm", q, k) / np.sqrt(self.c.head_dim)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return np.einsum("hnm,hmd->nhd", weights, v).reshape(q.shape[1], -1)

    def joint(self, b: str, c: np.ndarray, xs: list, names: list[str], positions: list) -> list[np.ndarray]:
        mods, parts = [], []
        for x, s, at in zip(xs, names, positions):
            xs_or_audio = "xs" if s == "xs" else "audio" + s[2:]
            mods.append(np.split(self.linear(f"{b}.adaLN_modulation_{xs_or_audio}.1", silu(c)), 6))
            h = rms(x, 1e-6) * (1 + mods[-1][1]) + mods[-1][0]
            q, k = ("xs_q_norm", "xs_k_norm") if s == "xs" else (f"au_q_norm{s[2:]}", f"au_k_norm{s[2:]}")
            parts.append(
                self.heads(self.linear(f"{b}.attn1.qkv_{s}", h), f"{b}.attn1.{q}", f"{b}.attn1.{k}", at)
            )
        attended = self.attend(*(np.concatenate([p[i] for p in parts], axis=1) for i in range(3)))
        out, start = [], 0
        for x, s, m in zip(xs, names, mods):
            piece = attended[start : start + len(x)]
            start += len(x)
            x = x + m[2] * self.linear(f"{b}.attn1." + ("xs_proj" if s == "xs" else f"au_proj{s[2:]}"), piece)
            h = rms(x, 1e-6) * (1 + m[4]) + m[3]
            mlp = f"{b}." + ("xs_mlp" if s == "xs" else f"audio_mlp{s[2:]}")
            out.append(x + m[5] * self.linear(mlp + ".fc2", gelu(self.linear(mlp + ".fc1", h))))
        return out

    def __call__(self, motion, time, audio, emotion, identity) -> np.ndarray:
        """motion (N, 2 dim), audio (N, layers, width), identity (numbers,) -> (N, dim)."""
        n = len(motion)
        frequency = np.exp(-np.log(10000) * np.arange(128) / 128)
        e = self.w["emo_embedder.embedding_table.weight"][emotion]
        c = self.embed("time", np.concatenate([np.cos(time * frequency), np.sin(time * frequency)])) + e
        a = audio.reshape(n, -1)
        for i in (1, 2):
            a = np.maximum(self.linear(f"audio_embedder.proj{i}", a), 0)
        a = rms(self.linear("audio_embedder.proj3", a), 1e-6) * self.w["audio_embedder.norm.weight"]
        at = np.arange(n)
        x, e, i = (
            self.embed("motion", motion),
            np.tile(e, (n, 1)),
            np.tile(self.embed("identity", identity), (n, 1)),
        )
        for j in range(self.c.depths[0]):
            x, a, e, i = self.joint(
                f"blocks4.{j}", c, [x, a, e, i], ["xs", "au1", "au2", "au3"], [at, at, None, None]
            )
        rest = np.concatenate([a, e, i])
        for j in range(self.c.depths[1]):
            x, rest = self.joint(f"blocks2.{j}", c, [x, rest], ["xs", "au"], [at, np.tile(at, 3)])
        x = np.concatenate([x, rest])
        for j in range(self.c.depths[2]):
            b = f"blocks.{j}"
            shift, scale, gate = np.split(self.linear(f"{b}.adaLN_modulation_xs.1", silu(c)), 3)
            inner = self.linear(f"{b}.qkv_xs", rms(x, 1e-6) * (1 + scale) + shift)
            qkv, hidden = inner[:, : 3 * self.c.width], inner[:, 3 * self.c.width :]
            attended = self.attend(
                *self.heads(qkv, f"{b}.attn1.xs_q_norm", f"{b}.attn1.xs_k_norm", np.tile(at, 4))
            )
            x = x + gate * self.linear(f"{b}.linear2", np.concatenate([attended, gelu(hidden)], axis=1))
        shift, scale = np.split(self.linear("final_layer.adaLN_modulation.1", silu(c)), 2)
        return self.linear("final_layer.linear", rms(x[:n], 1e-6) * (1 + scale) + shift)


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def rms(x: np.ndarray, eps: float) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)


def rope(x: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Pairs (2i, 2i+1) of (H, N, d) as complex numbers, turned by position * 256^(-2i/d)."""
    angle = positions[:, None] * 256.0 ** (-np.arange(0, x.shape[-1], 2) / x.shape[-1])
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angle)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)
