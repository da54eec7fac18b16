"""What the encoder is to hear in each frame of the corpora: WORK/targets.npz.

directions: the main directions (PCA over speech) of the teacher's layers 2 to 4 together, unit variance
lips:       of filmed people, by ridge on those directions over five frames; at rest where there is no voice
voice:      by loudness of the clean sound; jaw: of the blendshape performer, where it was recorded
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from moda.constants import FPS, SAMPLES_PER_FRAME
from recipes.encoder import DIRECTIONS, voice_of
from recipes.lips import Ridge, leave_out, load_people, neighbors

AROUND = 2  # frames to either side that the teacher's lips are told from
STRENGTH = 100.0
JAW_COLUMN, JAW_FPS = 74, 30
JAW_HELD_OUT = ("1114_2_05", "1114_3_16")


class Directions:
    """Teacher features (T, 3, 512) -> (T, DIRECTIONS) of unit variance, the most important first."""

    def __init__(self, features: np.ndarray) -> None:
        flat = features.reshape(len(features), -1).astype(np.float64)
        self.mean, self.scale = flat.mean(0), flat.std(0) + 1e-4
        z = (flat - self.mean) / self.scale
        values, vectors = np.linalg.eigh(z.T @ z / len(z))
        order = np.argsort(values)[::-1][:DIRECTIONS]
        self.deviation = np.sqrt(values[order])
        self.matrix = ((vectors[:, order] / self.deviation) / self.scale[:, None]).astype(np.float32)
        self.offset = (self.mean @ self.matrix).astype(np.float32)

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return features.reshape(len(features), -1).astype(np.float32) @ self.matrix - self.offset


def prepare(work: Path, teacher: Path, data: Path) -> None:
    from moda.audio.whisper import WhisperEncoder

    stored = {name: np.load(work / name / "teacher.npy", mmap_mode="r") for name in ("speech", "phones")}
    step = max(1, len(stored["speech"]) // 60_000)
    directions = Directions(np.asarray(stored["speech"][::step]))
    kept = float((directions.deviation**2).sum() / stored["speech"][0].size)
    print(f"{DIRECTIONS} directions hold {kept:.3f} of the variance", flush=True)

    encoder = WhisperEncoder.load(teacher, (2, 3, 4))
    takes = load_people(work)
    heard = {t.name: directions(encoder.features(t.sound))[: len(t.lips)] for t in takes}
    by_sound = {id(t.sound): heard[t.name] for t in takes}
    print(
        "teacher, people left out:",
        leave_out(takes, lambda s: neighbors(by_sound[id(s)], AROUND, AROUND), (STRENGTH,)),
        flush=True,
    )
    ridge = Ridge(takes, {k: neighbors(v, AROUND, AROUND) for k, v in heard.items()}, STRENGTH)
    weight, bias = (a.astype(np.float32) for a in ridge.fit())

    out: dict[str, np.ndarray] = {"deviation": directions.deviation.astype(np.float32)}
    lips_of = {}
    for name, features in stored.items():
        clips = np.load(work / name / "clips.npz")
        ends, sound = clips["ends"], clips["sound"]
        told, lips, voice = [], [], []
        for a, b in zip(np.concatenate([[0], ends[:-1]]), ends):
            seen = directions(np.asarray(features[a // SAMPLES_PER_FRAME : b // SAMPLES_PER_FRAME]))
            speaking = voice_of(sound[a:b])[: len(seen)]
            told.append(seen.astype(np.float16))
            soft = np.convolve(np.pad(speaking.astype(np.float32), 1, "edge"), np.ones(3) / 3, "valid")
            lips.append(
                ((neighbors(seen, AROUND, AROUND) @ weight + bias) * soft[:, None]).astype(np.float32)
            )
            voice.append(speaking)
        out[f"{name}_directions"], lips_of[name] = np.concatenate(told), np.concatenate(lips)
        out[f"{name}_voice"] = np.concatenate(voice)
        print(
            name,
            len(out[f"{name}_voice"]),
            "frames, voice in",
            float(out[f"{name}_voice"].mean()),
            flush=True,
        )
    speaking = lips_of["speech"][out["speech_voice"] > 0]
    mean, scale = speaking.mean(0), speaking.std(0) + 1e-4
    for name, lips in lips_of.items():
        out[f"{name}_lips"] = ((lips - mean) / scale).astype(np.float16)
    out |= {"lip_mean": mean, "lip_scale": scale}
    out["speech_jaw"], out["jaw_scale"] = _jaw(work, data)
    np.savez(work / "targets.npz", **out)


def _jaw(work: Path, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """(T,) of the speech corpus, NaN where unknown, unit deviation; and that deviation."""
    clips = np.load(work / "speech" / "clips.npz")
    names = clips["names"]
    lengths = np.diff(clips["ends"], prepend=0) // SAMPLES_PER_FRAME
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    jaw = np.full(int(lengths.sum()), np.nan, np.float32)
    for path in sorted((data / "blendshapes").glob("*.npy")):
        if path.stem in JAW_HELD_OUT:
            continue
        weights = np.load(path)[:, JAW_COLUMN].astype(np.float32)
        pieces = [i for i, n in enumerate(names) if n.startswith(f"blendshapes/blendshapes/{path.stem}#")]
        if not pieces:
            raise SystemExit(
                f"{work}/speech has no {path.name}: give {data}/blendshapes to recipes.speech_corpus too"
            )
        frames = int(lengths[pieces].sum())
        at = (np.arange(frames) + 0.5) / FPS
        jaw[starts[pieces[0]] : starts[pieces[0]] + frames] = np.interp(
            at, (np.arange(len(weights)) + 0.5) / JAW_FPS, weights
        )
    scale = np.nanstd(jaw)
    return (jaw - np.nanmean(jaw)) / scale, np.array([np.nanmean(jaw), scale])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    options = parser.parse_args()
    prepare(options.work, options.teacher, options.data)


if __name__ == "__main__":
    main()
