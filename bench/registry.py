"""The measures: each with its name, its goals, and the function that gives its figures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from .database import Cluster, Database

Figure = float | list[float] | str
Figures = dict[str, Figure]


@dataclass(frozen=True)
class Goal:
    """A figure must be at least, or at most, this."""

    figure: str
    bound: float
    unit: str
    is_least: bool = True
    #: A number to go by, for a machine of 2 cores; only the others are checked.
    is_guide: bool = False

    def ratio(self, value: float) -> float:
        """Above 1: better than the goal."""
        if self.is_least:
            return value / self.bound
        return self.bound / value if value > 0 else float("inf")

    def is_met(self, value: float) -> bool:
        return value >= self.bound if self.is_least else value <= self.bound


def least(figure: str, bound: float, unit: str = "") -> Goal:
    return Goal(figure, bound, unit)


def most(figure: str, bound: float, unit: str = "") -> Goal:
    return Goal(figure, bound, unit, is_least=False)


def guide(figure: str, bound: float, unit: str = "") -> Goal:
    return Goal(figure, bound, unit, is_guide=True)


@dataclass
class Environment:
    """What a measure has at hand."""

    cluster: Cluster
    #: Everything tiny: does it run at all?
    is_smoke: bool = False
    is_long: bool = False
    #: Figures of the measures so far, for those that belong together.
    earlier: dict[str, Figures] = field(default_factory=dict)

    def database(self) -> AbstractContextManager[Database]:
        return self.cluster.database()

    def size(self, whole: int, smoke: int) -> int:
        return smoke if self.is_smoke else whole

    def seconds(self, whole: float, smoke: float = 1.0) -> float:
        return smoke if self.is_smoke else whole

    @property
    def rounds(self) -> int:
        return self.size(3, 1)


@dataclass(frozen=True)
class Measure:
    name: str
    title: str
    goals: tuple[Goal, ...]
    run: Callable[[Environment], Figures]
    is_long: bool = False


MEASURES: dict[str, Measure] = {}


def measure(
    name: str, title: str, *goals: Goal, is_long: bool = False
) -> Callable[[Callable[[Environment], Figures]], Callable[[Environment], Figures]]:
    """Registers a function as a measure. They run in the order in which they are written down."""

    def register(function: Callable[[Environment], Figures]) -> Callable[[Environment], Figures]:
        assert name not in MEASURES, name
        MEASURES[name] = Measure(name, title, goals, function, is_long)
        return function

    return register
