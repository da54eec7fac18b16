"""Sound whose lips are known without film: what lies beside it says how they move, or when they have to meet.

NAME.csv:       curves of a face (moda.interchange.tables), the head's too where it was recorded
NAME.npy:       blendshape weights, with names.json in the same folder (moda.interchange.arrays)
NAME.TextGrid:  phone times of any language (moda.training.align)
NAME.txt:       what is said, in English, aligned by pocketsphinx

Curves with a head that moves and eyes that blink are stored as film is. All else teaches lips alone: those of the
curves, or the speech encoder's, brought together where p, b and m are spoken.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from moda.constants import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from moda.errors import ModaError
from moda.motion import Motion
from moda.motion.explicit import LIDS
from moda.training.align import closed_in, segments_of
from moda.training.clips import IN_TIME, SHORTEST, Found, best_lag, encoded, store, voiced

SOUND = {".wav", ".flac", ".opus", ".ogg", ".mp3", ".m4a"}
BESIDE = (".csv", ".npy", ".TextGrid", ".txt")  # the first that is there is used
HEAD_MOVES, LIDS_MOVE = 0.2, 0.005  # deviations of a face that was recorded whole: degrees, eye distances


def beside(sound: Path) -> Path | None:
    """The file that says how the lips of a sound move."""
    if sound.suffix.lower() not in SOUND:
        return None
    return next((p for ending in BESIDE if (p := sound.with_suffix(ending)).is_file()), None)


def prepare_sound(path: Path, out: Path, person: str) -> Found:
    """One sound with what lies beside it -> a stored clip, or why it was refused."""
    from moda.audio.decode import read_audio

    found = Found(path.name, 0, 0, person=person)
    known = beside(path)
    if known is None:
        return replace(found, reason=f"nothing beside it ({', '.join(BESIDE)}) says how its lips move")
    try:
        wave = read_audio(path)
        found = replace(found, end=len(wave) / SAMPLE_RATE)
        if found.end < SHORTEST:
            return replace(found, reason=f"shorter than {SHORTEST:g} s")
        points, voice = encoded(wave)
        if not voiced(voice):
            return replace(found, reason="no voice")
        if known.suffix in (".csv", ".npy"):
            return _curves(found, known, wave, points, out / f"{path.stem}.npz")
        return _timed(found, known, wave, out / f"{path.stem}.npz")
    except ModaError as error:
        return replace(found, reason=str(error))


def _curves(found: Found, known: Path, wave: np.ndarray, points: np.ndarray, stored: Path) -> Found:
    from moda.interchange.arrays import read_weights
    from moda.interchange.tables import read_curves
    from moda.motion.explicit import lip_gap

    motion = read_curves(known) if known.suffix == ".csv" else read_weights(known, len(wave) / SAMPLE_RATE)
    n = min(len(motion), len(wave) // SAMPLES_PER_FRAME)
    motion, wave = motion[:n], wave[: n * SAMPLES_PER_FRAME]
    lag, r = best_lag(lip_gap(points[:n]), lip_gap(motion.exp))
    if r < IN_TIME:
        reason = f"lips do not follow the sound (r {r:.2f} at the best offset)"
        return replace(found, reason=reason, lag=lag, r=r)
    whole = max(motion.pitch.std(), motion.yaw.std()) > HEAD_MOVES
    whole = whole and motion.exp[:, LIDS, 1].std(axis=0).max() > LIDS_MOVE
    store(stored, motion, None, wave, lag, found.person, known, lips_only=not whole)
    return replace(found, clip=stored.name, lag=lag, r=round(r, 3), teaches="face" if whole else "lips")


def _timed(found: Found, known: Path, wave: np.ndarray, stored: Path) -> Found:
    segments = segments_of(known, wave)
    n = len(wave) // SAMPLES_PER_FRAME
    store(
        stored, Motion.still(n), None, wave, 0, found.person, known,
        lips_only=True, closed=closed_in(segments, n),
    )  # fmt: skip
    return replace(found, end=n / FPS, clip=stored.name, teaches="closures")
