"""PgQueuer, a job queue over Postgres in Python, in the same run: what the same work takes there."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .database import Database
from .processes import Unavailable, run
from .registry import Environment


@dataclass(frozen=True)
class Peer:
    """Each of its measures runs in a process of its own."""

    database: Database

    def enqueue(self, seconds: float) -> float:
        return self._ask("enqueue", seconds)["per_s"]

    def enqueue_batches(self, seconds: float) -> float:
        return self._ask("batches", seconds)["per_s"]

    def drain(self, jobs: int) -> float:
        return self._ask("drain", jobs)["per_s"]

    def pickup(self, samples: int) -> dict[str, float]:
        return self._ask("pickup", samples)

    def _ask(self, what: str, size: float) -> dict[str, float]:
        script = Path(__file__).parent / "pgqueuer_side.py"
        return dict(json.loads(run([sys.executable, str(script), self.database.url, what, f"{size:g}"], 120)))


@contextmanager
def peer(env: Environment) -> Iterator[Peer]:
    for name in ("pgqueuer", "asyncpg"):
        if importlib.util.find_spec(name) is None:
            raise Unavailable(f"{name} is not installed")
    with env.database() as database:
        yield Peer(database)


def peer_or_reason(env: Environment, stack: ExitStack) -> Peer | str:
    """The peer for as long as `stack` lasts, or the words for the results that say why there is none."""
    try:
        return stack.enter_context(peer(env))
    except Unavailable as reason:
        return f"skipped: {reason}"
