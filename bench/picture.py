"""The picture of a run: a bar a goal, how it stands to that goal, as plain SVG."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from .registry import Goal

ROW, LABEL, WIDTH, TOP = 22, 250, 460, 44
#: A bar that is longer is cut here; its number says how long it would be.
RATIO_MAX = 3.0
MET, MISSED, GUIDE = "#2e7d5b", "#c0492f", "#9aa3ad"


def bars(measures: dict[str, Any]) -> list[tuple[str, float | None, bool]]:
    """Label and ratio of each goal, and whether it is a guide."""
    result: list[tuple[str, float | None, bool]] = []
    for name, found in measures.items():
        for goal in found["goals"]:
            least = "at_least" in goal
            bound = goal["at_least"] if least else goal["at_most"]
            value = goal["value"]
            ratio = None if value is None else Goal(goal["figure"], bound, "", least).ratio(value)
            label = f"{name}: {goal['figure']}" + (" (guide)" if goal["guide"] else "")
            result.append((label, ratio, goal["guide"]))
    return result


def svg(measures: dict[str, Any], subtitle: str) -> str:
    rows = bars(measures)
    height = TOP + ROW * len(rows) + 16
    goal_x = LABEL + WIDTH / RATIO_MAX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LABEL + WIDTH + 70} {height}" '
        f'font-family="system-ui, sans-serif" font-size="12">',
        f"<title>{escape(subtitle)}</title>",
        # A ground of its own, so that it can be read on a dark page too.
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="12" y="18" font-weight="bold">{escape(subtitle)}</text>',
        f'<text x="{goal_x:.0f}" y="36" text-anchor="middle" fill="#555">goal</text>',
    ]
    bottom = TOP + ROW * len(rows)
    line = f'x1="{goal_x:.1f}" y1="{TOP - 4}" x2="{goal_x:.1f}" y2="{bottom}"'
    parts.append(f'<line {line} stroke="#222" stroke-dasharray="4 3"/>')
    for index, (label, ratio, is_guide) in enumerate(rows):
        y = TOP + ROW * index
        parts.append(f'<text x="{LABEL - 8}" y="{y + 14}" text-anchor="end">{escape(label)}</text>')
        if ratio is None:
            parts.append(f'<text x="{LABEL + 4}" y="{y + 14}" fill="{MISSED}">not measured</text>')
            continue
        length = min(ratio, RATIO_MAX) / RATIO_MAX * WIDTH
        color = GUIDE if is_guide else MET if ratio >= 1 else MISSED
        text = f"{ratio:.2f}" if math.isfinite(ratio) else "∞"
        parts.append(f'<rect x="{LABEL}" y="{y + 3}" width="{length:.1f}" height="{ROW - 7}" fill="{color}"/>')
        parts.append(f'<text x="{LABEL + length + 5:.1f}" y="{y + 14}">{text}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
