"""The results of a run as JSON and as a table, and the goals that it misses."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .registry import MEASURES, Figures, Goal

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


@dataclass
class Outcome:
    """The outcome of one measure."""

    figures: Figures
    seconds: float = 0.0
    #: "skipped: …" or "failed: …", when there are no figures.
    problem: str = ""

    def to_json(self, goals: tuple[Goal, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {"seconds": round(self.seconds, 1), "figures": rounded(self.figures)}
        if self.problem:
            result["problem"] = self.problem
        result["goals"] = [
            {
                "figure": goal.figure,
                "at_least" if goal.is_least else "at_most": goal.bound,
                "unit": goal.unit,
                "guide": goal.is_guide,
                "value": value if (value := number(self.figures, goal.figure)) is None else significant(value),
                "met": value is not None and goal.is_met(value),
            }
            for goal in goals
        ]
        return result


def number(figures: Figures, name: str) -> float | None:
    value = figures.get(name)
    return float(value) if isinstance(value, (int, float)) and not math.isnan(value) else None


def significant(value: float) -> float:
    return float(f"{value:.4g}")


def rounded(figures: Figures) -> dict[str, Any]:
    def one(value: Any) -> Any:
        if isinstance(value, list):
            return [one(item) for item in value]
        return significant(value) if isinstance(value, float) else value

    return {name: one(value) for name, value in figures.items()}


def missed(outcomes: dict[str, Outcome]) -> list[str]:
    """A line for every goal that is not met; one that was not measured is not met, be it a guide."""
    lines = []
    for name, outcome in outcomes.items():
        for goal in MEASURES[name].goals:
            value = number(outcome.figures, goal.figure)
            if goal.is_guide and value is not None:
                continue
            bound = f"{'at least' if goal.is_least else 'at most'} {goal.bound:g} {goal.unit}".rstrip()
            if value is None:
                lines.append(f"{name}: {goal.figure}: {outcome.problem or 'not measured'} (goal: {bound})")
            elif not goal.is_met(value):
                lines.append(f"{name}: {goal.figure} is {value:.3g}, not {bound}")
    return lines


def shown(value: float) -> str:
    """With as many digits as mean something."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.3g}"


def table(measures: dict[str, Any]) -> str:
    """Markdown, from the JSON of the results."""
    lines = ["| measure | figure | goal | measured | ratio to the goal | |", "|---|---|---|---|---|---|"]
    for name, result in measures.items():
        title = MEASURES[name].title if name in MEASURES else name
        for goal in result["goals"]:
            least = "at_least" in goal
            bound = goal["at_least"] if least else goal["at_most"]
            value = goal["value"]
            kind = "guide: " if goal["guide"] else ""
            wanted = f"{kind}{'≥' if least else '≤'} {bound:,g} {goal['unit']}".rstrip()
            if value is None:
                cells = [result.get("problem", "not measured"), "", "missed"]
            else:
                ratio = Goal(goal["figure"], bound, "", least).ratio(value)
                verdict = "" if goal["guide"] else "met" if goal["met"] else "**missed**"
                cells = [shown(value), f"{ratio:.2f}" if math.isfinite(ratio) else "∞", verdict]
            lines.append(f"| {title} | {goal['figure']} | {wanted} | {' | '.join(cells)} |")
            title = ""
    return "\n".join(lines) + "\n"


#: The headline figures in README: title, measure, figure, unit, and its ratio (or a second figure) with its unit.
HEADLINES = (
    ("Health checks, one event loop", "health", "calls_per_s", "calls/s", "ratio", "of nghttpd"),
    ("Single `Enqueue` calls, each durable", "enqueue", "jobs_per_s", "jobs/s", "ratio", "× pgbench's single inserts"),
    ("`EnqueueBatch` of 1,000", "batch", "jobs_per_s", "jobs/s", "ratio", "of the same rows by pgbench"),
    ("Waiting jobs worked off, limits on", "drain", "jobs_per_s", "jobs/s", "ratio", "of plain SQL without limits"),
    ("Enqueued, run and finished as they come", "flow", "jobs_per_s", "jobs/s", None, ""),
    ("Idle: from the call to the start, p50", "pickup", "start_p50_ms", "ms", "start_p99_ms", "ms p99"),
    ("Cancel to the end of a run, p99", "cancel", "same_node_p99_ms", "ms", "other_node_p99_ms", "ms, other node"),
    ("Progress events delivered", "events", "events_per_s", "events/s", "lag_p99_ms", "ms lag p99"),
    ("An idle watch", "watches", "kib_per_watch", "KiB", None, ""),
    ("Exact limits, against none", "limits", "with_limits_per_s", "jobs/s", "ratio", "of the drain without"),
    ("A node: idle, and under load", "memory", "idle_mib", "MiB", "flow_mib", "MiB under load"),
)


def headlines(measures: dict[str, Any]) -> str:
    """A short table, for those who only want to know whether it is fast."""
    lines = ["| | measured | |", "|---|---|---|"]
    for title, name, figure, unit, second, what in HEADLINES:
        figures = measures[name]["figures"] if name in measures else {}
        value = number(figures, figure)
        if value is None:
            lines.append(f"| {title} | not measured | |")
            continue
        beside = number(figures, second) if second else None
        lines.append(f"| {title} | {shown(value)} {unit} | {f'{shown(beside)} {what}' if beside is not None else ''} |")
    return "\n".join(lines) + "\n"


def others(measures: dict[str, Any]) -> str:
    """The figures that no goal is about, a line a measure."""
    lines = []
    for name, result in measures.items():
        named = {goal["figure"] for goal in result["goals"]}
        rest = [f"{key} {_plain(value)}" for key, value in result["figures"].items() if key not in named]
        if rest:
            lines.append(f"- {MEASURES[name].title if name in MEASURES else name}: {', '.join(rest)}")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return " / ".join(_plain(item) for item in value)
    return shown(value) if isinstance(value, (int, float)) else str(value)


def machine() -> dict[str, Any]:
    """The hardware and versions of the run, without the name of the machine."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": found[1] if found else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory[1]) / 2**20) if memory else None,
        "kernel": ".".join(platform.release().split(".")[:2]),
    }


def commit(root: Path) -> str:
    """The commit of the checkout, and whether its sources differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=10).stdout.strip()

    name = git("rev-parse", "--short=12", "HEAD") or "unknown"
    return f"{name} with changes" if git("status", "--porcelain", "Sources", "Package.swift") else name


def digest(path: Path) -> str:
    """The digest of the program that was measured: SIGNALBOX_BIN need not be of this commit."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def write_page(page: Path, generated: str) -> None:
    """Puts the newest results between the markers."""
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no markers")
    page.write_text(f"{before}{BEGIN}\n{generated}\n{END}{after}")


def dump(path: Path, results: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
