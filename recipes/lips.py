"""Filmed people's lips: tracked, brought in time with their sound, told from features by ridge regression.

    python -m recipes.lips WORK --dataset DATASET --teacher FILE --index INDEX.tsv      WORK/people.npz

DATASET: of `moda data prepare`, where faces were tracked. INDEX.tsv: columns person and language.

Every person weighs the same but for the root of their minutes; people, never files, are left out.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moda.motion.explicit import INDEX, MOUTH

NEVER = ("reagan",)  # people that nothing is learned from
LAG = 2  # frames around a clip's own offset within which r is taken
LONG = 150  # frames from which a clip has an offset of its own; a person's shorter ones share one


@dataclass
class Take:
    """One clip: lips (T, 33) as tracked; lag: how many frames the mouth comes after its sound."""

    name: str
    person: str
    language: str
    sound: np.ndarray
    lips: np.ndarray
    lag: int = 0

    def pairs(self, features: np.ndarray, lag: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Features and lips at the same moments."""
        lag = self.lag if lag is None else lag
        n = min(len(features), len(self.lips))
        return features[max(0, -lag) : n - max(0, lag)], self.lips[max(0, lag) : n - max(0, -lag)]


def gap(lips: np.ndarray) -> np.ndarray:
    points = lips.reshape(len(lips), -1, 3)
    return points[:, INDEX["lip_lower_inner"], 1] - points[:, INDEX["lip_upper_inner"], 1]


def width(lips: np.ndarray) -> np.ndarray:
    points = lips.reshape(len(lips), -1, 3)
    return points[:, INDEX["lip_corner_left"], 0] - points[:, INDEX["lip_corner_right"], 0]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a, b)[0, 1]) if len(a) > 2 and a.std() > 1e-6 and b.std() > 1e-6 else 0.0


def amplitudes(takes: list[Take]) -> dict[str, float]:
    """Person -> what their lips are multiplied by to move as far as the mean person's do."""
    people = sorted({t.person for t in takes})
    size = {p: np.mean([gap(t.lips).std() for t in takes if t.person == p]) for p in people}
    mean = np.mean(list(size.values()))
    return {p: float(np.clip(mean / size[p], 0.6, 1.7)) for p in people}


class Ridge:
    """features -> lips, from sums over people; a person is left out by leaving out their sums."""

    def __init__(self, takes: list[Take], features: dict[str, np.ndarray], strength: float) -> None:
        self.strength = strength
        stacked = np.concatenate(list(features.values()))
        self.mean, self.std = stacked.mean(0), stacked.std(0) + 1e-5
        scale = amplitudes(takes)
        self.sums: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for person in sorted({t.person for t in takes}):
            a = b = 0.0
            count = 0
            for take in takes:
                if take.person == person:
                    x, y = take.pairs(self._design(features[take.name]))
                    a, b, count = (
                        a + x.T @ x,
                        b + x.T @ (y.astype(np.float64) * scale[person]),
                        count + len(x),
                    )
            self.sums[person] = (a * count**-0.5, b * count**-0.5)

    def _design(self, features: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [(features - self.mean) / self.std, np.ones((len(features), 1))], axis=1
        ).astype(np.float64)

    def fit(self, without: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """-> weight (D, 33), bias (33,) on the features as they are."""
        used = [p for p in self.sums if p != without and p not in NEVER]
        a, b = (sum(self.sums[p][i] for p in used) for i in (0, 1))
        penalty = np.eye(len(a)) * self.strength * a[-1, -1] / 1000
        penalty[-1, -1] = 0
        solution = np.linalg.solve(a + penalty, b)
        weight = solution[:-1] / self.std[:, None]
        return weight, solution[-1] - self.mean @ weight


def neighbors(x: np.ndarray, before: int, after: int) -> np.ndarray:
    """(T, D) -> (T, D (before + 1 + after))."""
    padded = np.concatenate([np.repeat(x[:1], before, 0), x, np.repeat(x[-1:], after, 0)])
    return np.concatenate([padded[i : i + len(x)] for i in range(before + 1 + after)], axis=1)


def score(takes: list[Take], told: dict[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Person -> r of gap and width, the best within LAG frames of each clip's offset, mean over their clips."""
    rows: dict[str, dict[str, list[float]]] = {}
    for take in takes:
        row = rows.setdefault(take.person, {"gap": [], "width": []})
        for name, measure in (("gap", gap), ("width", width)):
            found = [take.pairs(told[take.name], take.lag + k) for k in range(-LAG, LAG + 1)]
            row[name].append(max(correlation(measure(a), measure(b)) for a, b in found))
    return {p: {k: float(np.mean(v)) for k, v in row.items()} for p, row in rows.items()}


def leave_out(
    takes: list[Take], hear: Callable[[np.ndarray], np.ndarray], strengths: tuple[float, ...] = (3.0, 30.0)
) -> dict[str, float]:
    """Mean r over people, each told by ridge on all others' lips; the best strength."""
    features = {t.name: hear(t.sound)[: len(t.lips)] for t in takes}
    best: dict[str, float] = {}
    for strength in strengths:
        ridge = Ridge(takes, features, strength)
        told = {}
        for person in ridge.sums:
            weight, bias = ridge.fit(person)
            told |= {t.name: features[t.name] @ weight + bias for t in takes if t.person == person}
        people = score(takes, told)
        free = [p for p in people if not p.startswith("grid")]
        result = {
            "gap": np.mean([r["gap"] for r in people.values()]),
            "width": np.mean([r["width"] for r in people.values()]),
            "gap_free": np.mean([people[p]["gap"] for p in free]),
            "gap_reagan": people["reagan"]["gap"] if "reagan" in people else 0,
            "strength": strength,
        }
        if result["gap"] > best.get("gap", -1):
            best = {k: float(v) for k, v in result.items()}
    return best


def offsets(
    takes: list[Take], features: dict[str, np.ndarray], strength: float = 300.0, reach: int = 5
) -> None:
    """Set every take's lag to where a ridge on all other people fits best."""
    ridge = Ridge(takes, features, strength)
    for person in ridge.sums:
        weight, bias = ridge.fit(person)
        mine = [t for t in takes if t.person == person]
        told = {t.name: gap(features[t.name] @ weight + bias) for t in mine}
        groups = [[t] for t in mine if len(t.lips) >= LONG]
        groups += [short] if (short := [t for t in mine if len(t.lips) < LONG]) else []
        for group in groups:
            found = {}
            for k in range(-reach, reach + 1):
                pairs = [t.pairs(told[t.name], t.lag + k) for t in group]
                found[k] = correlation(
                    np.concatenate([a for a, _ in pairs]), np.concatenate([gap(b) for _, b in pairs])
                )
            best = max(found, key=lambda k: (round(found[k], 3), -abs(k)))
            for take in group:
                take.lag += best


def load_people(work: Path) -> list[Take]:
    with np.load(work / "people.npz") as file:
        rows = list(zip(file["names"], file["people"], file["languages"], file["lags"], strict=True))
        return [
            Take(
                str(n),
                str(p),
                str(g),
                file[f"{n}/sound"].astype(np.float32) / 32768,
                file[f"{n}/lips"],
                int(lag),
            )
            for n, p, g, lag in rows
        ]


def main() -> None:
    from moda.audio.whisper import WhisperEncoder
    from moda.training.dataset import items

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    options = parser.parse_args()
    encoder = WhisperEncoder.load(options.teacher, (3,))
    with open(options.index, encoding="utf-8") as file:
        languages = {row["person"]: row["language"] for row in csv.DictReader(file, delimiter="\t")}
    takes, features = [], {}
    for item in items([options.dataset]):
        lips = item.motion[:, : 3 * MOUTH.stop]
        heard = encoder.features(item.wave)[:, 0]
        n = min(len(heard), len(lips))
        name = item.path.stem
        takes.append(Take(name, item.person, languages[item.person], item.wave, lips[:n], item.lag))
        features[name] = heard[:n]
    for reach in (5, 2):
        offsets(takes, features, reach=reach)
    print(leave_out(takes, lambda sound: encoder.features(sound)[:, 0], (300.0,)))
    arrays: dict[str, np.ndarray] = {}
    for take in takes:
        arrays[f"{take.name}/sound"] = np.int16(np.clip(take.sound, -1, 1) * 32767)
        arrays[f"{take.name}/lips"] = take.lips.astype(np.float32)
    lists = {"names": [t.name for t in takes], "people": [t.person for t in takes]}
    lists |= {"languages": [t.language for t in takes], "lags": [t.lag for t in takes]}
    np.savez(options.work / "people.npz", **arrays, **{k: np.array(v) for k, v in lists.items()})


if __name__ == "__main__":
    main()
