"""A dataset's report page: how much there is of whom, offsets, what was refused and why."""

from __future__ import annotations

import html
from collections import Counter
from pathlib import Path

from moda.media.files import whole
from moda.training.clips import Found

STYLE = """body{font:15px/1.4 sans-serif;margin:2em;max-width:900px}table{border-collapse:collapse;font-size:13px}
td,th{padding:2px 8px;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}
.bar{display:inline-block;height:11px;background:#4a7fb5;margin-right:6px}"""


def dataset_report(out: Path, found: list[Found]) -> Path:
    """Write OUT/report.html."""
    kept = [f for f in found if f.clip]
    people: dict[str, list[Found]] = {}
    for f in kept:
        people.setdefault(f.person, []).append(f)
    rows = "".join(
        f"<tr><td>{html.escape(p)}<td>{len(fs)}<td>{sum(f.end - f.start for f in fs) / 60:.2f}"
        f"<td>{sum(f.r for f in fs) / len(fs):.2f}<td>{', '.join(map(str, sorted({f.lag for f in fs})))}"
        for p, fs in sorted(people.items())
    )
    refused = "".join(
        f"<tr><td>{html.escape(f.video)}<td>{f.start:.1f} to {f.end:.1f} s<td>{html.escape(f.reason)}"
        for f in found
        if not f.clip
    )
    page = f"""<!doctype html><meta charset=utf-8><title>dataset</title><style>{STYLE}</style>
<h1>{len(kept)} clips of {len(people)} people, {sum(f.end - f.start for f in kept) / 60:.1f} minutes</h1>
<h2>People</h2><table><tr><th>person<th>clips<th>minutes<th>r of lips and sound<th>offsets (frames){rows}</table>
<h2>Offset of the picture after the sound, frames</h2>{_histogram(Counter(f.lag for f in kept))}
<h2>Agreement of lips and sound</h2>{_histogram(Counter(round(f.r, 1) for f in kept))}
<h2>What they teach</h2>{_histogram(Counter(f.teaches for f in kept))}
<h2>Refused</h2><table><tr><th>file<th>stretch<th>reason{refused}</table>
"""
    path = out / "report.html"
    with whole(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def _histogram(counts: Counter) -> str:
    most = max(counts.values(), default=1)
    return "".join(
        f"<div><span class=bar style='width:{400 * n / most:.0f}px'></span>{n} clips: {value}</div>"
        for value, n in sorted(counts.items())
    )
