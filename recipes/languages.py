"""Recordings in many languages that nobody filmed: do the lips do what the teacher says, meet for p b m, rest in pauses?

    python -m recipes.languages WORK --data ../shared/data --teacher FILE [--sheet OUT.jpg --portrait FILE] [FOLDER ...]

The teacher's lips are a ridge on Whisper's third layer, fitted on all filmed people (WORK/people.npz). FOLDERs are
further recordings, named as their language is to be, without times of words; of each, 20 files.
"""

from __future__ import annotations

import argparse
import json
import unicodedata
from pathlib import Path

import numpy as np

from moda import TalkingHead
from moda.audio.decode import read_audio
from moda.constants import FPS
from moda.evaluation.metrics import CLOSED, correlation, meetings
from moda.motion.explicit import lip_gap
from recipes.judge import perform
from recipes.lips import Ridge, gap, load_people
from recipes.sound import read_sound

STRENGTH = 300.0
KOREAN = {
    "\u1107",
    "\u1106",
    "\u1111",
    "\u1108",
    "\u11b7",
    "\u11b8",
}  # b, m, p, bb; m and b at a syllable's end
PAUSE = 0.35  # seconds between words, of which 0.15 after the last and 0.1 before the next do not count


def has_bilabial(word: str) -> bool:
    """By its spelling, in Latin letters or Hangul."""
    return any(c in "pbm" or c in KOREAN for c in unicodedata.normalize("NFD", word.lower()))


def timed(leopard: Path) -> dict[str, tuple[Path, list[dict]]]:
    """language -> its recording and words with times."""
    tests = json.loads((leopard / "word_times.json").read_text())["tests"]["language_tests"]
    return {
        t["language"]: ((leopard / t["audio_file"]).with_suffix(".opus"), t["words"])
        for t in tests
        if (leopard / t["audio_file"]).with_suffix(".opus").exists()
    }


def main() -> None:
    from moda.audio.whisper import WhisperEncoder

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("folders", type=Path, nargs="*")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--portrait", type=Path, default=Path("assets/astronaut.jpg"))
    options = parser.parse_args()
    teacher = WhisperEncoder.load(options.teacher, (3,))
    takes = load_people(options.work)
    ridge = Ridge(takes, {t.name: teacher.features(t.sound)[: len(t.lips), 0] for t in takes}, STRENGTH)
    weight, bias = ridge.fit()
    head = TalkingHead.from_pretrained(options.model)
    drawn = []
    print(
        f"{'language':<28}{'r with the teacher':>19}{'words with p b m':>18}{'without':>9}{'pauses':>8}{'std':>7}"
    )
    for language, (path, words) in timed(options.data / "speech" / "leopard").items():
        wave = read_audio(path)
        motion = perform(head, wave)
        made = lip_gap(motion.exp)
        told = gap(teacher.features(wave)[:, 0] @ weight + bias)
        r, _ = correlation(made, told)
        spans: dict[bool, list] = {True: [], False: []}
        for word in words:
            spans[has_bilabial(word["word"])].append((word["start_sec"], word["end_sec"]))
        shares = [f"{meetings(made, s, CLOSED):.2f} of {len(s)}" if s else "-" for s in spans.values()]
        edges = [0.0, *(t for w in words for t in (w["start_sec"], w["end_sec"])), len(made) / FPS]
        still = [
            made[round((a + 0.15) * FPS) : round((b - 0.1) * FPS)].mean()
            for a, b in zip(edges[::2], edges[1::2])
            if b - a > PAUSE
        ]
        pause = f"{np.mean(still):.3f}" if still else "-"
        print(
            f"{language:<28}{r:>19.2f}{shares[0]:>18}{shares[1]:>9}{pause:>8}{made.std():>7.3f}", flush=True
        )
        drawn.append((language, motion, spans[True]))
    for folder in options.folders:
        files = sorted(p for p in folder.rglob("*") if p.suffix in (".opus", ".wav", ".g722", ".ogg", ".mp4"))
        scores, spread = [], []
        for path in files[:: max(1, len(files) // 20)]:
            wave = read_audio(path) if path.suffix != ".ogg" else read_sound(path)
            if len(wave) < 32_000:
                continue
            made = lip_gap(perform(head, wave).exp)
            scores.append(correlation(made, gap(teacher.features(wave)[:, 0] @ weight + bias))[0])
            spread.append(made.std())
        print(
            f"{folder.name + f' ({len(scores)} files)':<28}{np.mean(scores):>19.2f}{'':>35}{np.mean(spread):>7.3f}"
        )
    if options.sheet:
        draw(head, options.portrait, drawn, options.sheet)


def draw(head: TalkingHead, portrait: Path, drawn: list, out: Path) -> None:
    """A row a language: eight moments, evenly spread; where words with p, b, m are, those in which lips are closest."""
    import cv2

    from moda import Motion
    from moda.evaluation.strips import strip

    character = head.prepare(portrait)
    rows = []
    for _, motion, spans in drawn:
        gaps = lip_gap(motion.exp)
        closest = [
            round(a * FPS) + int(gaps[round(a * FPS) : round(b * FPS) + 1].argmin()) for a, b in spans[:4]
        ]
        spread = [round(i) for i in np.linspace(0.1, 0.9, 8 - len(closest)) * len(motion)]
        some = Motion.from_array(motion.to_array()[closest + spread], motion.space)
        rows.append(list(character.draw(motion.space.generated(some, character.motion))))
    cv2.imwrite(str(out), strip(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(out, [name for name, _, _ in drawn])


if __name__ == "__main__":
    main()
