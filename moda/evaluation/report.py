"""An evaluation as one HTML page: the summary, a row for each person, bars of the main figures."""

from __future__ import annotations

import html
import math

import numpy as np

from moda.evaluation.judge import COLUMNS, summary
from moda.evaluation.strips import tag

STYLE = """body{font:15px/1.4 sans-serif;margin:2em;max-width:1200px}table{border-collapse:collapse;font-size:13px}
td,th{padding:2px 8px;text-align:right;border-bottom:1px solid #ddd}td:first-child,th:first-child{text-align:left}
.bar{display:inline-block;height:12px;background:#4a7fb5;margin-right:6px}h2{margin-top:2em}"""
PLOTTED = (
    "gap_r",
    "width_r",
    "lmd",
    "lip_gap_std",
    "lips_closed",
    "blinks_per_minute",
    "head_speed",
    "yaw_std",
)


def page(result: dict, strips: dict[str, np.ndarray] | None = None) -> str:
    """-> the page; it needs nothing beside itself. strips: what is above what -> frames side by side."""
    people = sorted({row["person"] for row in result["rows"]})
    parts = [
        f"<!doctype html><meta charset=utf-8><title>moda evaluate</title><style>{STYLE}</style>",
        f"<h1>{html.escape(result['clips'])}</h1><p>Means over {len(people)} people; seeds {result['seeds']}. "
        "What each figure is: moda/evaluation/metrics.py.</p>",
        _table(result["summary"]),
    ]
    for key in PLOTTED:
        values = {who: row[key] for who, row in result["summary"].items()}
        parts.append(f"<h2>{html.escape(COLUMNS[key])}</h2>{_bars(values)}")
    parts += strip_section(strips or {})
    for person in people:
        rows = [row for row in result["rows"] if row["person"] == person]
        parts.append(
            f"<h2>{html.escape(person)} ({len({r['clip'] for r in rows})} clips)</h2>{_table(summary(rows))}"
        )
    return "\n".join(parts)


def self_page(result: dict, text: str, strips: dict[str, np.ndarray]) -> str:
    """`moda evaluate --self` as a page: its table, and real frames above what was drawn."""
    parts = [
        f"<!doctype html><meta charset=utf-8><title>moda evaluate --self</title><style>{STYLE}</style>",
        f"<h1>{html.escape(result['clips'])}</h1><pre>{html.escape(text)}</pre>",
        *strip_section(strips),
    ]
    return "\n".join(parts)


def strip_section(strips: dict[str, np.ndarray]) -> list[str]:
    return [f"<h2>{html.escape(name)}</h2>{tag(picture)}" for name, picture in strips.items()]


def _table(rows: dict[str, dict[str, float]]) -> str:
    head = "".join(f"<th>{html.escape(name)}" for name in COLUMNS.values())
    body = "".join(
        f"<tr><td>{html.escape(who)}" + "".join(f"<td>{_number(row[key])}" for key in COLUMNS)
        for who, row in rows.items()
    )
    return f"<table><tr><th>{head}{body}</table>"


def _bars(values: dict[str, float]) -> str:
    most = max((abs(v) for v in values.values() if math.isfinite(v)), default=1) or 1
    lines = []
    for who, value in values.items():
        wide = 400 * abs(value) / most if math.isfinite(value) else 0
        lines.append(
            f"<div><span class=bar style='width:{wide:.0f}px'></span>{_number(value)} {html.escape(who)}</div>"
        )
    return "".join(lines)


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"
