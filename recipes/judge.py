"""What `moda evaluate` does not ask: noise, pauses, p b m, people left out of the lips' ridge.

python -m recipes.judge noise  [--model M] [SOUND ...]
python -m recipes.judge closure --data ../shared/data [--model M]
python -m recipes.judge leave-out WORK RUN OUT [--model M]    OUT/CLIP_SEED.npz: motions for `moda evaluate --motions`
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from moda import Motion, TalkingHead
from moda.audio.decode import read_audio
from moda.audio.encoder import encode
from moda.constants import SAMPLE_RATE
from moda.evaluation.metrics import correlation, meetings
from moda.face.pose import canonical
from moda.motion import join
from moda.motion.blinks import Blinks
from moda.motion.explicit import LANDMARK_OF, lip_gap
from recipes.noise import KINDS

BILABIAL = {"P", "B", "M"}


def perform(head: TalkingHead, wave: np.ndarray, seed: int = 0, encoder=None, identity=None) -> Motion:
    features = list(encode(encoder or head.encoder, [wave]))
    face = canonical()[LANDMARK_OF] if identity is None else identity
    return Blinks()(join(list(head.generator.stream(features, face, Motion.still(1), seed=seed))))


def noise(head: TalkingHead, speech: np.ndarray, recorded: list[tuple[str, np.ndarray]]) -> None:
    """p90 of the gap for sounds without a voice, and r of speech over them, at the same power, with clean speech."""
    clean = lip_gap(perform(head, speech).exp)
    print(f"{'kind':<22}{'p90 of the gap':>16}{'r, speech at 0 dB over it':>28}")
    made = [(kind, [f(8.0, np.random.default_rng(100 + s)) for s in range(4)]) for kind, f in KINDS.items()]
    made += [(name, [sound]) for name, sound in recorded]
    for kind, sounds in made:
        high, agree = [], []
        for sound in sounds:
            high.append(np.quantile(lip_gap(perform(head, 0.3 * sound).exp), 0.9))
            loud = np.resize(sound, len(speech))
            power = np.sqrt(np.square(speech).mean() / (np.square(loud).mean() + 1e-12))
            if kind != "silence":
                over = speech + loud * min(power, 1e3)
                agree.append(correlation(lip_gap(perform(head, over.astype(np.float32)).exp), clean, 0)[0])
        print(
            f"{kind:<22}{np.mean(high):>10.3f} ({np.max(high):.3f}){np.mean(agree) if agree else float('nan'):>20.2f}"
        )


def closure(head: TalkingHead, data: Path) -> None:
    """p, b and m in aligned speech that was not trained on; the gap in silence; how soon the lips rest."""
    met, where = {}, data / "speech" / "librivox"
    for path in sorted(where.glob("*.wav")):
        spans = []
        for word in json.loads(path.with_suffix("").with_suffix(".phone.json").read_text())["w"]:
            spans += [(p["b"], p["b"] + p["d"]) for p in word.get("w", []) if p["t"] in BILABIAL]
        gap = lip_gap(perform(head, read_audio(path)).exp)
        for closed in (0.02, 0.03, 0.05):
            met.setdefault(("recorded (LibriVox)", closed), []).append(
                (meetings(gap, spans, closed), len(spans))
            )
    from recipes import phones, synth

    sentences = [
        "Peter bought a bamboo boat from my mother.",
        "Maybe Bob may stop by the pub with a map in April.",
    ]
    for name, sound, segments in synth.flite_clips(sentences, 2, seed=7):
        spans = [(a, b) for a, b, c in segments if c and c[0] in (phones.ID["p"], phones.ID["m"])]
        gap = lip_gap(perform(head, sound).exp)
        for closed in (0.02, 0.03, 0.05):
            met.setdefault((f"synthesized ({name.split('/')[0]})", closed), []).append(
                (meetings(gap, spans, closed), len(spans))
            )
    for (name, closed), found in met.items():
        share = sum(m * n for m, n in found) / sum(n for _, n in found)
        print(f"{name}: lips within {closed} in {share:.2f} of {sum(n for _, n in found)} p, b, m")
    speech = read_audio(sorted(where.glob("*.wav"))[0])[: 4 * SAMPLE_RATE]
    still = np.zeros(2 * SAMPLE_RATE, np.float32)
    late = []
    for seed in range(4):
        gap = lip_gap(perform(head, np.concatenate([still, speech, still]), seed).exp)
        loud = np.abs(speech).reshape(-1, 640).max(1) > 0.02
        end = 50 + int(np.flatnonzero(loud)[-1]) + 1
        after = np.flatnonzero(gap[end:] >= 0.02)
        late.append((after[-1] + 1) / 25 if len(after) else 0.0)
        quiet = np.concatenate([gap[:40], gap[end + 10 :]])
    print(
        f"silence: gap mean {quiet.mean():.4f}, largest {quiet.max():.4f}; closed {np.mean(late):.2f} s after the last sound"
    )


def leave_out(head: TalkingHead, work: Path, run_folder: Path, out: Path, seeds: int = 1) -> None:
    """Motions of every filmed person, from an encoder whose lips were fitted on all the others."""
    from moda.training.dataset import items
    from recipes.calibrate import encoder_for, load_net
    from recipes.encoder import run
    from recipes.lips import load_people

    net = load_net(run_folder / "model")
    takes = load_people(work)
    hidden = {t.name: run(net, t.sound).hidden[0].numpy()[: len(t.lips)] for t in takes}
    out.mkdir(parents=True, exist_ok=True)
    encoders: dict[str, object] = {}
    for item in items([work / "dataset"]):
        if all((out / f"{item.path.stem}_{seed}.npz").exists() for seed in range(seeds)):
            continue  # made before it was cut off
        if item.person not in encoders:
            encoders[item.person] = encoder_for(net, takes, hidden, item.person, head.encoder.calibration)
        wave = item.wave[max(0, -item.lag) * 640 :]
        for seed in range(seeds):
            motion = perform(head, wave, seed, encoders[item.person], item.identity)
            motion.save(out / f"{item.path.stem}_{seed}.npz")


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("noise", "closure", "leave-out"))
    parser.add_argument("paths", type=Path, nargs="*")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    head = TalkingHead.from_pretrained(options.model)
    if options.what == "noise":
        speech = read_audio(Path(__file__).parents[1] / "assets" / "speech.wav")[: 8 * SAMPLE_RATE]
        noise(head, speech, [(p.stem, read_audio(p)[: 20 * SAMPLE_RATE]) for p in options.paths])
    elif options.what == "closure":
        closure(head, options.data)
    else:
        leave_out(head, *options.paths)


if __name__ == "__main__":
    main()
