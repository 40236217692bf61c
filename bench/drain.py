"""The rate at which pending jobs are run: on one node with and without limits, and on several nodes."""

from __future__ import annotations

import time
from contextlib import ExitStack

from . import peer
from .database import Database, Session
from .load import pgbench
from .processes import Failed
from .registry import Environment, Figures, guide, least, measure
from .server import Server, batch_request, enqueue_batch, serving, users
from .sql import DRAIN
from .statistics_of import in_turns, median, ratio_of

QUEUE = "bench"
USERS = 1000
#: The values of --concurrency that are tried.
CONCURRENCIES = (500, 1000, 2000, 4000)

#: From the first start to the last end, by the database's clock.
_SPAN = """
    SELECT count(*), extract(epoch FROM max(finished_at) - min(started_at)) FROM finished WHERE state = 'succeeded'
"""


def empty(session: Session) -> None:
    session.query("TRUNCATE job, live, finished, change")


def settle(session: Session) -> None:
    """Writes the dirty pages of an earlier side now, so that the next side does not pay for them."""
    session.query("CHECKPOINT")


def enqueue_waiting(server: Server, jobs: int) -> None:
    """Jobs of 1,000 users, through the API, into the paused queue."""
    body = batch_request(users(USERS), queue=QUEUE)
    with server.connection() as connection:
        for _ in range(0, jobs, USERS):
            enqueue_batch(connection, body)


def rate_of(session: Session, jobs: int) -> float:
    count, seconds = session.query(_SPAN)[0]
    if int(count) != jobs:
        raise Failed(f"{count} of {jobs} jobs have succeeded")
    return jobs / float(seconds)


def drain_once(server: Server, session: Session, jobs: int) -> float:
    """Fills the paused queue, lets it run empty, and leaves it paused and empty. Jobs a second."""
    server.pause(QUEUE)
    enqueue_waiting(server, jobs)
    settle(session)
    before = session.count("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM run_token")
    server.resume(QUEUE)
    deadline = time.monotonic() + 30 + jobs / 1000
    # A run takes a token: until all have one, there is nothing to look at that would cost the database something.
    while session.count("SELECT last_value FROM run_token") - before < jobs:
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    rate = _ended(session, jobs, deadline)
    server.pause(QUEUE)
    empty(session)
    return rate


def _ended(session: Session, jobs: int, deadline: float) -> float:
    while session.value("SELECT EXISTS (SELECT FROM live)") == "t":
        if time.monotonic() > deadline:
            raise Failed(f"{session.value('SELECT count(*) FROM live')} of {jobs} jobs are left")
        time.sleep(0.05)
    return rate_of(session, jobs)


def sql_drain(server: Server, database: Database, session: Session, jobs: int, clients: int = 2) -> float:
    """The same jobs, worked off by plain SQL."""
    server.pause(QUEUE)
    enqueue_waiting(server, jobs)
    settle(session)
    pgbench(database, DRAIN, clients=clients, transactions=-(-jobs // 200 // clients) + 2)
    rate = rate_of(session, jobs)
    empty(session)
    return rate


@measure(
    "drain",
    "Waiting jobs worked off",
    least("ratio", 0.8, "× plain SQL"),
    guide("jobs_per_s", 70_000, "jobs/s"),
)
def drain(env: Environment) -> Figures:
    """200,000 jobs of 1,000 users, from the first start to the last end, against claim-and-finish in SQL."""
    jobs = env.size(200_000, 2000)
    figures: Figures = {}
    with ExitStack() as stack:
        database = stack.enter_context(env.database())
        session = stack.enter_context(database.session())
        rates_tried = {}
        for concurrency in CONCURRENCIES[: env.size(len(CONCURRENCIES), 1)]:
            with serving(database, concurrency=concurrency) as server:
                rates_tried[concurrency] = drain_once(server, session, env.size(100_000, 2000))
        best = max(rates_tried, key=lambda concurrency: rates_tried[concurrency])
        figures |= {f"jobs_per_s_at_concurrency_{key}": value for key, value in rates_tried.items()}
        server = stack.enter_context(serving(database, concurrency=best))
        sides = {
            "ours": lambda: drain_once(server, session, jobs),
            "sql": lambda: sql_drain(server, database, session, jobs),
        }
        other = peer.peer_or_reason(env, stack)
        rates = in_turns(env.rounds, **sides)
        # It is slower by so much that fewer jobs say as much.
        theirs = other if isinstance(other, str) else other.drain(env.size(10_000, 1000))
    return figures | {
        "best_concurrency": best,
        "jobs_per_s": median(rates["ours"]),
        "sql_per_s": median(rates["sql"]),
        "ratio": ratio_of(rates["ours"], rates["sql"]),
        "pgqueuer_per_s": theirs,
    }


@measure("limits", "Exact limits: drain with, against without", least("ratio", 0.85, "× the drain without"))
def limits(env: Environment) -> Figures:
    """The drain of 100,000 jobs with 3 at once for each user, against 100,000 at once, which no user reaches."""
    jobs = env.size(100_000, 2000)
    with ExitStack() as stack:
        sides = {}
        for name, limit in (("with_limits", "3"), ("without", "100000")):
            database = stack.enter_context(env.database())
            session = stack.enter_context(database.session())
            server = stack.enter_context(serving(database, "--user-limit", limit))
            sides[name] = lambda server=server, session=session: drain_once(server, session, jobs)
        rates = in_turns(env.rounds, **sides)
    return {
        "with_limits_per_s": median(rates["with_limits"]),
        "without_per_s": median(rates["without"]),
        "ratio": ratio_of(rates["with_limits"], rates["without"]),
    }


@measure(
    "nodes",
    "Several nodes: drain of two and four, against one",
    least("ratio_of_two", 1, "× one node"),
    least("ratio_of_four", 1, "× one node"),
)
def nodes(env: Environment) -> Figures:
    """The drain of 100,000 jobs by two and by four nodes on this machine."""
    jobs = env.size(100_000, 2000)
    with env.database() as database, database.session() as session:

        def by(count: int) -> float:
            with ExitStack() as stack:
                servers = [stack.enter_context(serving(database, name=f"node-{n}")) for n in range(count)]
                return drain_once(servers[0], session, jobs)

        rates = in_turns(env.rounds, one=lambda: by(1), two=lambda: by(2), four=lambda: by(4))
    return {
        "one_per_s": median(rates["one"]),
        "two_per_s": median(rates["two"]),
        "four_per_s": median(rates["four"]),
        "ratio_of_two": ratio_of(rates["two"], rates["one"]),
        "ratio_of_four": ratio_of(rates["four"], rates["one"]),
    }
