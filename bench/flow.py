"""Jobs that come and go: the rate that a node keeps up with, and the memory that it takes."""

from __future__ import annotations

import time
from dataclasses import dataclass

from .database import Session
from .drain import empty, settle
from .load import h2load
from .processes import Failed, forget_resident_max, resident_bytes, resident_bytes_max
from .registry import Environment, Figures, guide, measure, most
from .server import JOBS, Server, enqueue_request, looking, serving, users
from .statistics_of import median

QUEUE = "flow"
CONNECTIONS, STREAMS = 4, 256
#: h2load sends one body a process, so there are few users: 3 jobs of each at once would measure that limit. The locks
#: and counts that make limits exact are made all the same.
USERS = 4
USER_LIMIT = ("--user-limit", "100000")
MIB = 2**20


@dataclass(frozen=True)
class Step:
    """Some seconds at one rate."""

    wanted: float
    calls_per_s: float
    #: Jobs that waited or ran, twice a second.
    backlog: list[float]
    seconds: float

    @property
    def growth_per_s(self) -> float:
        """From the second third of the time to its last."""
        count = len(self.backlog)
        if count < 3:
            raise Failed(f"too few samples of the backlog: {count}")
        middle, last = self.backlog[count // 3 : 2 * count // 3], self.backlog[2 * count // 3 :]
        return (sum(last) / len(last) - sum(middle) / len(middle)) / (self.seconds / 3)

    @property
    def is_sustained(self) -> bool:
        """The calls came at the rate wanted, and what came went: within 2 % of it."""
        return self.calls_per_s >= 0.98 * self.wanted and self.growth_per_s <= 0.02 * self.wanted


def step(server: Server, session: Session, rate: float | None, seconds: float) -> Step:
    """Enqueues at this rate (None: as fast as it goes), then waits until all has run, and clears away."""
    bodies = [enqueue_request(user, queue=QUEUE) for user in users(USERS)]
    url = f"{server.url}{JOBS}/Enqueue"
    with looking(lambda: session.count("SELECT count(*) FROM live"), min(0.5, seconds / 6)) as backlog:
        calls = h2load(url, bodies, connections=CONNECTIONS, streams=STREAMS, seconds=seconds, rate=rate)
    deadline = time.monotonic() + 60
    while session.value("SELECT EXISTS (SELECT FROM live)") == "t":
        if time.monotonic() > deadline:
            raise Failed("the jobs did not end in time")
        time.sleep(0.05)
    done = session.count("SELECT count(*) FROM finished WHERE state = 'succeeded'")
    if not calls.done <= done <= calls.done + CONNECTIONS * STREAMS:
        raise Failed(f"{calls.done} jobs were answered, {done} have succeeded")
    empty(session)
    settle(session)
    return Step(rate or calls.per_s, calls.per_s, backlog, seconds)


@measure("flow", "Jobs that run as they come", guide("jobs_per_s", 50_000, "jobs/s"))
def flow(env: Environment) -> Figures:
    """The highest rate of single Enqueue calls at which the backlog does not grow, found by halving."""
    seconds = env.seconds(5, 2)
    with env.database() as database, database.session() as session, serving(database, *USER_LIMIT) as server:
        # An unpaced client enqueues at least as many jobs as the node can run.
        unpaced = step(server, session, None, seconds).calls_per_s
        low, high, steps = 0.0, 1.1 * unpaced, []
        rate = 0.7 * unpaced
        for _ in range(env.size(6, 1)):
            steps.append(step(server, session, rate, seconds))
            if steps[-1].is_sustained:
                low = rate
            else:
                high = rate
            rate = (low + high) / 2
    best = next((item for item in reversed(steps) if item.wanted == low), None)
    return {
        "jobs_per_s": low,
        "unpaced_calls_per_s": unpaced,
        "backlog": float(median(best.backlog)) if best else 0.0,
        "tried_per_s": [item.wanted for item in steps],
    }


@measure("memory", "Memory of a node", most("idle_mib", 40, "MiB"), most("flow_mib", 200, "MiB"))
def memory(env: Environment) -> Figures:
    """Resident memory of a node that has nothing to do, and the most of one at the rate of `flow`."""
    if "flow" not in env.earlier:
        env.earlier["flow"] = flow(env)
    rate = env.earlier["flow"]["jobs_per_s"]
    # A smoke run tries a single rate, which need not be sustained.
    if env.is_smoke:
        rate = rate or 500.0
    if not isinstance(rate, float) or rate <= 0:
        raise Failed("flow has found no rate")
    with env.database() as database, database.session() as session, serving(database, *USER_LIMIT) as server:
        time.sleep(env.seconds(5))
        idle = resident_bytes(server.pid)
        forget_resident_max(server.pid)
        step(server, session, rate, env.seconds(5, 2))
        busy = resident_bytes_max(server.pid)
    return {"idle_mib": idle / MIB, "flow_mib": busy / MIB, "flow_per_s": rate}


@measure("memory-long", "Memory over 30 minutes", most("growth_percent", 5, "%"), is_long=True)
def memory_long(env: Environment) -> Figures:
    """30 minutes at 2,000 jobs/s: the last 10 minutes' median against that of the 10 before them."""
    seconds, rate = env.seconds(1800, 6), env.size(2000, 500)
    with env.database() as database, serving(database, *USER_LIMIT) as server:
        bodies = [enqueue_request(user, queue=QUEUE) for user in users(CONNECTIONS)]
        url = f"{server.url}{JOBS}/Enqueue"
        with looking(lambda: resident_bytes(server.pid) / MIB, seconds / 360) as samples:
            h2load(url, bodies, connections=CONNECTIONS, streams=STREAMS, seconds=seconds, rate=rate)
    third = len(samples) // 3
    middle, last = median(samples[third : 2 * third]), median(samples[2 * third :])
    return {"growth_percent": (last / middle - 1) * 100, "middle_mib": middle, "last_mib": last, "per_s": float(rate)}
