"""Speech whose sounds are known: synthesized (exactly) and recorded (aligned), with the teacher's features.

    python -m recipes.phone_corpus OUT --data ../shared/data --teacher FILE

Writes what recipes.speech_corpus writes, and `sounds` (int16, 50 a second; recipes.phones) beside it.
"""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path

import numpy as np

from moda.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from recipes import phones, synth
from recipes.align import align_folder
from recipes.sound import read_sound
from recipes.speech_corpus import store_teacher, whole_frames

GRID_WORDS = (
    dict(b="bin", l="lay", p="place", s="set"),
    dict(b="blue", g="green", r="red", w="white"),
    dict(a="at", b="by", i="in", w="with"),
    {c: c for c in "abcdefghijklmnopqrstuvwxyz"},
    dict(zip("z123456789", "zero one two three four five six seven eight nine".split())),
    dict(a="again", n="now", p="please", s="soon"),
)


def grid_text(code: str) -> str:
    """The sentence that a GRID file's name spells: "bbaf2n" -> "bin blue at f two now"."""
    return " ".join(words[letter] for words, letter in zip(GRID_WORDS, code))


def transcripts(path: Path) -> dict[str, str]:
    """name|text[|text as spoken] lines -> name -> text."""
    with open(path, encoding="utf-8") as file:
        return {row[0]: row[-1].strip() for row in csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE)}


def sounds_of(segments: list, frames: int) -> np.ndarray:
    return phones.frames(segments, 2 * frames, 2 * FPS)


def recorded(speech: Path, out: Path, english: dict[str, str], unread: int):
    """LJ by its transcripts, and `unread` files of LibriSpeech whose words are recognized first."""
    for folder, count in (("lj", None), ("librispeech", unread)):
        files = sorted((speech / folder).glob("*.opus"))
        files = files if count is None else files[:: max(1, len(files) // count)]
        found = align_folder(files, english if folder == "lj" else {}, out / f"{folder}.jsonl")
        for path in files:
            if found[path.stem]:
                named = [(a, b, phones.from_arpabet(name)) for a, b, name in found[path.stem]]
                yield f"{folder}/{path.stem}", read_sound(path)[: 16 * SAMPLE_RATE], named


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--espeak", type=int, default=500, help="clips")
    parser.add_argument("--recorded", type=int, default=110, help="files of LibriSpeech")
    parser.add_argument("--flite", type=int, default=30, help="clips of each voice")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    speech = options.data / "speech"
    english = transcripts(speech / "lj" / "transcripts.csv")
    german = list(transcripts(speech / "kerstin_de" / "transcripts.csv").values())
    sentences = [re.sub(r"\s+", " ", text)[:110] for text in [*english.values(), *german[::20]]]
    names, sounds, classes = [], [], []
    for name, sound, segments in (
        *synth.espeak_clips(sentences, options.espeak),
        *synth.flite_clips(sentences[: len(english)], options.flite),
        *recorded(speech, options.out, english, options.recorded),
    ):
        sound = whole_frames(np.int16(32767 * np.clip(sound, -1, 1)))
        names.append(name)
        sounds.append(sound)
        classes.append(sounds_of(segments, len(sound) // SAMPLES_PER_FRAME))
    print(len(names), "clips", sum(map(len, sounds)) / SAMPLE_RATE / 60, "minutes", flush=True)
    ends = np.cumsum([len(s) for s in sounds])
    np.savez(
        options.out / "clips.npz",
        sound=np.concatenate(sounds),
        ends=ends,
        names=names,
        sounds=np.concatenate(classes),
    )
    store_teacher(options.out, sounds, options.teacher)


if __name__ == "__main__":
    main()
