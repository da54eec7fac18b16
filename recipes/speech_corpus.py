"""Sounds to learn from: every file that PyAV reads -> 16 kHz clips of about 12 s, with the teacher's features.

    python -m recipes.speech_corpus speech OUT FOLDER...     speech; short prompts of a folder are joined by pauses
    python -m recipes.speech_corpus noise OUT FOLDER...      anything without a voice

OUT/clips.npz: sound (int16, joined), ends (samples), names. OUT/teacher.npy: (frames, 3, 512) float16, speech alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from moda.constants import SAMPLE_RATE, SAMPLES_PER_FRAME

SOUND = {".wav", ".flac", ".opus", ".ogg", ".oga", ".g722", ".mp3"}
LENGTH = 12 * SAMPLE_RATE
SHORT = 8 * SAMPLE_RATE  # shorter files are joined


def read_sound(path: Path) -> np.ndarray:
    """-> (n,) int16 mono at 16 kHz."""
    import av

    resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE)
    parts = []
    with av.open(
        str(path), format="g722" if path.suffix == ".g722" else None, metadata_errors="ignore"
    ) as container:
        for frame in container.decode(audio=0):
            parts += [f.to_ndarray()[0] for f in resampler.resample(frame)]
        parts += [f.to_ndarray()[0] for f in resampler.resample(None)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)


def clips_of(folder: Path, random: np.random.Generator, limit: int | None = None, most: int = 0):
    """-> (name, int16 sound) of 2 to 12 s; prompts of one folder with pauses of 0.2 to 1 s between.

    most: of so many files at most, evenly chosen; 0: of all.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SOUND and p.is_file())
    files = files[:: max(1, -(-len(files) // most))] if most else files
    held: list[np.ndarray] = []
    held_name = ""
    for path in files:
        try:
            sound = read_sound(path)
        except Exception as error:  # of PyAV: many kinds; a corpus may do without a file
            print(f"left out {path}: {error}")
            continue
        sound = sound[: limit or len(sound)]
        name = f"{folder.name}/{path.parent.name}/{path.stem}"
        if len(sound) >= SHORT:
            pieces = max(1, round(len(sound) / LENGTH))
            for k, piece in enumerate(np.array_split(sound, pieces)):
                yield f"{name}#{k}", piece
            continue
        if held and (
            sum(map(len, held)) + len(sound) > LENGTH or held_name.rsplit("/", 1)[0] != name.rsplit("/", 1)[0]
        ):
            yield held_name, np.concatenate(held)
            held = []
        held_name = held_name if held else name
        held += [sound, np.zeros(random.integers(3200, 16000), np.int16)]
    if held:
        yield held_name, np.concatenate(held)


def whole_frames(sound: np.ndarray) -> np.ndarray:
    return sound[: len(sound) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME]


def store_teacher(out: Path, sounds: list[np.ndarray], teacher: Path) -> None:
    """Write OUT/teacher.npy: (frames of all sounds, 3, 512) float16, the layers 2 to 4."""
    from moda.audio.whisper import WhisperEncoder

    encoder = WhisperEncoder.load(teacher, (2, 3, 4))
    shape = (sum(map(len, sounds)) // SAMPLES_PER_FRAME, 3, encoder.width)
    store = np.lib.format.open_memmap(out / "teacher.part.npy", "w+", np.float16, shape)
    at = 0
    for count, sound in enumerate(sounds):
        features = encoder.features(sound.astype(np.float32) / 32768)
        store[at : at + len(features)] = features
        at += len(features)
        if count % 100 == 0:
            print(count, "of", len(sounds), flush=True)
    store.flush()
    (out / "teacher.part.npy").rename(out / "teacher.npy")


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("speech", "noise"))
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--teacher", type=Path, help="Whisper base, a file or folder")
    parser.add_argument("--files", type=int, default=0, help="at most so many of each folder, evenly chosen")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    names, sounds = [], []
    for folder in options.folders:
        limit = 60 * SAMPLE_RATE if options.kind == "noise" else None
        for name, sound in clips_of(folder, random, limit, options.files):
            sound = whole_frames(sound)
            if len(sound) >= SAMPLE_RATE // 2:
                names.append(name)
                sounds.append(sound)
        print(folder, len(names), "clips", sum(map(len, sounds)) / SAMPLE_RATE / 60, "minutes", flush=True)
    ends = np.cumsum([len(s) for s in sounds])
    np.savez(options.out / "clips.npz", sound=np.concatenate(sounds), ends=ends, names=names)
    if options.kind == "speech":
        store_teacher(options.out, sounds, options.teacher)


if __name__ == "__main__":
    main()
