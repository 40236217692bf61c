"""Medians, percentiles, ratios, and turns."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent do not exceed."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def in_turns(rounds: int, **sides: Callable[[], float]) -> dict[str, list[float]]:
    """A B A B …: whatever the machine does meanwhile, it does to both."""
    results: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            results[name].append(side())
    return results


def ratio_of(over: Sequence[float], under: Sequence[float]) -> float:
    """The median of the ratios of neighbours."""
    return median([a / b for a, b in zip(over, under, strict=True)])
