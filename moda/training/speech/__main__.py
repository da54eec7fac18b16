"""Make the speech encoder: `python -m moda.training.speech --data ../shared/data --out runs/speech`.

Prepares the corpora once (OUT/cache, OUT/phones), trains (OUT/last.pt, OUT/log.jsonl: goes on where it was cut off)
and writes OUT/encoder.safetensors and OUT/encoder.json, which moda/weights/embedded ships.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
from pathlib import Path

import torch

from moda.training.speech import corpora, synth, teacher
from moda.training.speech.align import align_folder
from moda.training.speech.corpora import Clip

log = logging.getLogger("moda.training.speech")

MADE = ("espeak", "flite")
ESPEAK_CLIPS, FLITE_CLIPS = 160, 12
TEST_EVERY = 16  # of the recorded speakers: kept for judging the sounds


def transcripts(path: Path) -> dict[str, str]:
    """name|text[|text as spoken] lines -> name -> text."""
    with open(path, encoding="utf-8") as file:
        return {row[0]: row[-1].strip() for row in csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE)}


def prepare(data: Path, out: Path) -> None:
    """Write the corpora that are not there yet to OUT/cache."""
    cache, speech = out / "cache", data / "speech"
    videos = sorted(data.glob("video/*/*.mp4"))
    english = transcripts(speech / "lj" / "transcripts.csv")
    if not (cache / "train_video.npz").exists():
        log.info("videos: sounds and lips")
        texts = {p.stem: corpora.grid_text(p.stem) for p in videos if p.stem.startswith("grid")}
        segments = align_folder(videos, texts, out / "phones" / "video.jsonl")
        for part in ("val", "train"):
            clips = corpora.video_clips([p for p in videos if p.parent.name == part], segments, cache)
            corpora.save(cache / f"{part}_video.npz", clips)
    if not (cache / "shapes.npz").exists():
        log.info("blendshape clips")
        corpora.save(cache / "shapes.npz", corpora.shape_clips(data / "blendshapes"))
    if not (cache / "sounds.npz").exists():
        log.info("speech: synthesised, then recorded and aligned (about a quarter of its length)")
        german = list(transcripts(speech / "kerstin_de" / "transcripts.csv").values())
        sentences = [text[:120] for text in [*english.values(), *german[::40]]]
        clips = synth.espeak_clips(sentences, ESPEAK_CLIPS)
        clips += synth.flite_clips(sentences[: len(english)], FLITE_CLIPS)
        for folder, texts in (("librispeech", {}), ("lj", english)):
            sounds = sorted((speech / folder).glob("*.opus"))
            segments = align_folder(sounds, texts, out / "phones" / f"{folder}.jsonl")
            clips += corpora.speech_clips(sounds, segments, lambda path: path.stem.split("-")[0])
        corpora.save(cache / "sounds.npz", clips)


def load(out: Path) -> tuple[dict[str, list[Clip]], dict[str, list[Clip]]]:
    """-> corpora to train on, clips to judge by."""
    cache = out / "cache"
    as_recorded = [
        c for name in ("train_video", "val_video", "shapes") for c in corpora.load(cache / f"{name}.npz")
    ]
    as_recorded = [c for c in as_recorded if c.name.endswith("@1.0")]
    videos = [c for c in corpora.load(cache / "train_video.npz") if c.sounds is not None]
    shapes = [c for c in corpora.load(cache / "shapes.npz") if not c.name.startswith(corpora.HELD_OUT)]
    speech = corpora.load(cache / "sounds.npz")
    real = [c for c in speech if not c.name.startswith(MADE)]
    made = [c for c in speech if c.name.startswith(MADE)]

    teacher.centre(videos)
    fitted = teacher.fit(videos)
    for clip in speech:
        clip.lips = teacher.lips(clip, fitted)
    teacher.soften(videos, fitted)
    test = {
        "videos": [c for c in as_recorded if c.lips is not None],
        "shapes": [c for c in as_recorded if c.name.startswith(corpora.HELD_OUT)],
        "speech": [c for c in real if c.name[0].isdigit()][::TEST_EVERY],
    }
    known = {c.name for c in test["speech"]}
    return {
        "video": videos,
        "shapes": shapes,
        "real": [c for c in real if c.name not in known],
        "made": made,
    }, test


def main() -> None:
    from moda.audio.speech import SpeechEncoder
    from moda.training.speech.judge import judge
    from moda.training.speech.train import Plan, finish, train

    parser = argparse.ArgumentParser(
        prog="python -m moda.training.speech", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with video, blendshapes and speech")
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(options.threads)

    prepare(options.data, options.out)
    known, test = load(options.out)
    for name, clips in known.items():
        log.info("%s: %d clips, %.0f minutes", name, len(clips), corpora.seconds(clips) / 60)

    def check(net, scales):
        return judge(net, scales.lips, **test)

    net, scales = train(known, Plan(steps=options.steps, seed=options.seed), options.out, check)
    people = {c.speaker for c in known["video"]}
    finish(
        net,
        scales,
        known["real"],
        [c for c in test["videos"] if c.speaker in people and c.sounds is not None],
    )
    SpeechEncoder(net).save(options.out)
    found = judge(net, net.lip_scale.numpy(), **test)
    (options.out / "result.json").write_text(json.dumps(found, indent=1) + "\n")
    log.info("%s", json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
