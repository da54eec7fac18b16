"""A trained network -> the encoder that is shipped: its lips from filmed people, its numbers measured.

    python -m recipes.calibrate WORK RUN OUT [--like ENCODER]
RUN: the folder with model/net.pt; OUT: encoder.json, .safetensors; ENCODER: one whose features' units are kept, so that
a generator trained on it takes this one too.

Prints r of people's lips, each told by a ridge that has not seen them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from moda.audio.mel import LogMel
from moda.audio.speech import Calibration, SpeechEncoder, met, rise
from moda.audio.speech_net import SpeechConfig, SpeechNet
from recipes.encoder import run
from recipes.lips import NEVER, Ridge, Take, amplitudes, gap, leave_out, load_people, score, width

DIRECTIONS = 64  # of the features
KNOTS = np.linspace(0, 1, 21)
STRENGTH = 300.0
CLOSING, VOICE = (0.09, 0.18), (-0.75, 1.75)


def load_net(folder: Path) -> SpeechNet:
    values = json.loads((folder / "net.json").read_text())
    net = SpeechNet(SpeechConfig(**values))
    state = torch.load(folder / "net.pt", weights_only=True)["net"]
    net.load_state_dict(state)
    return net.eval().requires_grad_(False)


def encoder_for(
    net: SpeechNet,
    takes: list[Take],
    hidden: dict[str, np.ndarray],
    without: str | None = None,
    like: Calibration | None = None,
    report: bool = False,
) -> SpeechEncoder:
    """The encoder whose lips and measures come from all people but `without` (and those that nothing is learned from)."""
    ridge = Ridge(takes, hidden, STRENGTH)
    people = [p for p in ridge.sums if p != without and p not in NEVER]
    told: dict[str, np.ndarray] = {}
    for person in people:  # as strangers see them
        weight, bias = ridge.fit(person) if without is None else ridge.fit(without)
        told |= {t.name: hidden[t.name] @ weight + bias for t in takes if t.person == person}
    if report:
        found = score([t for t in takes if t.name in told], told)
        print({k: round(float(np.mean([r[k] for r in found.values()])), 3) for k in ("gap", "width")})
    scale = amplitudes(takes)
    heard, seen, wide = [], [], []
    for person in people:
        mine_of = [t for t in takes if t.person == person]
        pairs = [t.pairs(told[t.name]) for t in mine_of]
        mine = np.concatenate([gap(a) for a, _ in pairs])
        real = np.concatenate([gap(b) for _, b in pairs]) * scale[person]
        # What p, b, m and silence close is not closed by the map once more.
        shut = np.concatenate([t.pairs(_shut(net, hidden[t.name], told[t.name]))[0] for t in mine_of])
        mine, real = mine[~shut], np.sort(real)[shut.sum() :]
        heard.append(np.quantile(mine, KNOTS))
        seen.append(np.quantile(np.maximum(real, 0), KNOTS))
        spreads = [(width(a).std(), width(b).std() * scale[person]) for a, b in pairs]
        wide.append(np.mean([s[1] for s in spreads]) / np.mean([s[0] for s in spreads]))
    knots_from, knots_to = np.mean(heard, axis=0), np.mean(seen, axis=0)
    knots_from = np.maximum.accumulate(knots_from + 1e-5 * np.arange(len(KNOTS)))
    weight, bias = ridge.fit(without)
    everything = np.concatenate([hidden[t.name] @ weight + bias for t in takes if t.person in people])
    mean, deviation = everything.mean(0), everything.std(0) + 1e-4
    if like:
        mean, deviation = np.array(like.lip_mean), np.array(like.lip_scale)
    loud = (like.loud_mean, like.loud_scale) if like else _loudness(takes)
    told_net = SpeechNet(net.config)
    told_net.load_state_dict(net.state_dict())
    with torch.no_grad():
        told_net.lips.weight.copy_(torch.from_numpy((weight / deviation).T.astype(np.float32)))
        told_net.lips.bias.copy_(torch.from_numpy(((bias - mean) / deviation).astype(np.float32)))
    calibration = Calibration(
        directions=DIRECTIONS,
        lip_mean=tuple(float(v) for v in mean),
        lip_scale=tuple(float(v) for v in deviation),
        lip_gain=float(np.median(wide)),
        gap_from=tuple(float(v) for v in knots_from),
        gap_to=tuple(float(v) for v in knots_to),
        closing=CLOSING,
        loud_mean=loud[0],
        loud_scale=loud[1],
        voice=VOICE,
    )
    if report:
        print(
            "gain of the width",
            calibration.lip_gain,
            "gap",
            np.round(knots_from, 3),
            "->",
            np.round(knots_to, 3),
        )
    return SpeechEncoder(told_net, calibration)


def _shut(net: SpeechNet, hidden: np.ndarray, lips: np.ndarray) -> np.ndarray:
    """(T, hidden), lips (T, 33) -> (T,) whether a bilabial or silence brings the lips together."""
    with torch.no_grad():
        x = torch.from_numpy(hidden)
        meeting = met(net.phones(x).unflatten(-1, (2, -1)), torch.from_numpy(lips), CLOSING)
        asleep = 1 - rise(net.voice(x), VOICE)
    return (torch.maximum(meeting, asleep) > 0.5)[:, 0].numpy()


def _loudness(takes: list[Take]) -> tuple[float, float]:
    mels = np.concatenate([LogMel().whole(t.sound) for t in takes[::6]])
    return float(mels.mean()), float(mels.std())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--like", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    net = load_net(options.run / "model")
    takes = load_people(options.work)
    hidden = {t.name: run(net, t.sound).hidden[0].numpy()[: len(t.lips)] for t in takes}
    by_sound = {id(t.sound): hidden[t.name] for t in takes}
    print("people left out:", leave_out(takes, lambda s: by_sound[id(s)], (STRENGTH,)))
    like = SpeechEncoder.load(options.like).calibration if options.like else None
    encoder = encoder_for(net, takes, hidden, like=like, report=True)
    encoder.save(options.out)
    made = {t.name: encoder.lips(t.sound).reshape(-1, 33)[: len(t.lips)] for t in takes}
    print("as drawn (these people's lips are known):", _size(takes, made))
    print("real:", _size(takes, {t.name: t.lips for t in takes}))


def _size(takes: list[Take], lips: dict[str, np.ndarray]) -> dict[str, float]:
    return {
        "gap_std": round(float(np.mean([gap(lips[t.name]).std() for t in takes])), 4),
        "closed": round(float(np.mean([(gap(lips[t.name]) < 0.02).mean() for t in takes])), 3),
        "r": round(float(np.mean([np.corrcoef(*map(gap, t.pairs(lips[t.name])))[0, 1] for t in takes])), 3),
        "width_std": round(float(np.mean([width(lips[t.name]).std() for t in takes])), 4),
    }


if __name__ == "__main__":
    main()
