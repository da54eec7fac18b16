"""How well a net's lips and jaw follow clips whose truth is known."""

from __future__ import annotations

import numpy as np
import torch

from moda.audio.mel import PER_FRAME
from moda.audio.speech import SILENCE, SpeechNet
from moda.training.speech.corpora import Clip

LAGS = range(-3, 4)  # frames


def hear(net: SpeechNet, mel: np.ndarray) -> torch.Tensor:
    """(4 T, 80) log-mel of a whole clip -> (1, T, hidden); silence before and after it."""
    before, after = net.config.context
    around = ((before * PER_FRAME, after * PER_FRAME), (0, 0))
    return net(torch.from_numpy(np.pad(mel.astype(np.float32), around, constant_values=SILENCE))[None])


@torch.no_grad()
def tell(net: SpeechNet, mel: np.ndarray) -> dict[str, np.ndarray]:
    """(4 T, 80) log-mel -> lips (T, 33), shapes (T, 9), in the heads' own units, and sounds (2 T, classes)."""
    was = net.training
    net.eval()
    hidden = hear(net, mel)
    net.train(was)
    return {
        "lips": net.lips(hidden)[0].numpy(),
        "shapes": net.shapes(hidden)[0].numpy(),
        "sounds": net.phones(hidden).reshape(-1, net.config.phones).numpy(),
    }


def gap(lips: np.ndarray) -> np.ndarray:
    """(T, 33) -> (T,) how far the inner lips are apart, up and down (may come out below 0)."""
    points = lips.reshape(len(lips), -1, 3)
    return points[:, 5, 1] - points[:, 4, 1]


def best_r(told: np.ndarray, true: np.ndarray) -> tuple[float, int]:
    """Correlation at the best lag within 3 frames, and that lag (told ahead of true: above 0)."""
    found = []
    for lag in LAGS:
        a, b = told[max(0, -lag) : len(told) - max(0, lag)], true[max(0, lag) : len(true) - max(0, -lag)]
        seen = ~np.isnan(b)
        found.append((float(np.corrcoef(a[seen], b[seen])[0, 1]), lag))
    return max(found)


def judge(
    net: SpeechNet, lip_scale: np.ndarray, videos: list[Clip], shapes: list[Clip], speech: list[Clip]
) -> dict[str, float]:
    """name -> number: r and lag of the lips' gap for videos, of the jaw's channel and the lips' gap against the real
    jaw for blendshape clips; the part of sounds told right; the widest gap in digital silence (eye distances)."""
    out = {}
    grid = []
    for clip in videos:
        told = tell(net, clip.mel)
        r, lag = best_r(gap(told["lips"] * lip_scale), gap(clip.lips))
        if clip.name.startswith("grid"):
            grid.append(r)
        else:
            out[f"r {clip.name}"], out[f"lag {clip.name}"] = r, lag
    if grid:
        out["r grid"] = float(np.mean(grid))
    for clip in shapes:
        told, jaw = tell(net, clip.mel), clip.shapes[:, 0]
        out[f"r jaw {clip.name}"], out[f"lag jaw {clip.name}"] = best_r(told["shapes"][:, 0], jaw)
        out[f"r gap {clip.name}"], out[f"lag gap {clip.name}"] = best_r(gap(told["lips"] * lip_scale), jaw)
    right = total = 0
    for clip in speech:
        told = tell(net, clip.mel)["sounds"].argmax(1)
        known = clip.sounds[: len(told)] >= 0
        right += int((told == clip.sounds[: len(told)])[known].sum())
        total += int(known.sum())
    if total:
        out["sounds right"] = right / total
    quiet = tell(net, np.full((200, 80), SILENCE))["lips"] * lip_scale
    out["quiet gap"] = float(np.abs(gap(quiet)).max())
    return out
