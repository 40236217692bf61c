"""Calls in: health checks, single jobs, batches of jobs."""

from __future__ import annotations

from contextlib import ExitStack

from . import peer
from .database import Database, Session
from .load import Calls, h2load, h2load_get, nghttpd, pgbench
from .processes import Failed, cpu_seconds
from .registry import Environment, Figures, guide, least, measure, most
from .server import JOBS, Server, batch_request, enqueue_request, serving, users, wait_until
from .sql import BATCH_INSERT, SINGLE_INSERT, SINGLE_TABLE, prepare_queue
from .statistics_of import in_turns, median, ratio_of

QUEUE = "bench"


@measure(
    "health",
    "Health checks",
    least("ratio", 0.45, "× nghttpd"),
    most("cpu_us_per_call", 5, "µs CPU/call"),
    guide("calls_per_s", 250_000, "calls/s"),
)
def health(env: Environment) -> Figures:
    """Health/Check, one event loop, against nghttpd with one worker and a file of as many bytes."""
    cpu: list[float] = []
    seconds = env.seconds(3)
    with env.database() as database, serving(database, "--event-loops", "1") as server, nghttpd() as file:

        def ours() -> float:
            before = cpu_seconds(server.pid)
            path = "/grpc.health.v1.Health/Check"
            calls = h2load(server.url + path, [b""], connections=4, streams=32, seconds=seconds)
            cpu.append((cpu_seconds(server.pid) - before) / calls.done * 1e6)
            # Every answer is a message of 2 bytes: SERVING. Some are still on their way at the end.
            if not 7 * calls.done <= calls.data_bytes <= 7 * (calls.done + 4 * 32):
                raise Failed(f"{calls.data_bytes} bytes in {calls.done} answers")
            return calls.per_s

        def nghttp() -> float:
            return h2load_get(file, connections=4, streams=32, seconds=seconds).per_s

        rates = in_turns(env.rounds, ours=ours, nghttpd=nghttp)
    return {
        "calls_per_s": median(rates["ours"]),
        "nghttpd_per_s": median(rates["nghttpd"]),
        "ratio": ratio_of(rates["ours"], rates["nghttpd"]),
        "cpu_us_per_call": median(cpu),
    }


def _empty(session: Session) -> None:
    session.query("TRUNCATE job, live, finished, change")


def _counted(session: Session, done: int, in_flight: int) -> None:
    """That what was answered is in the database."""
    rows = -1

    def stays() -> bool:
        nonlocal rows
        before, rows = rows, session.count("SELECT count(*) FROM job")
        return rows == before

    # h2load leaves at once; what it had sent by then is still written, and must not fall into the next side's time.
    wait_until(stays, 10, "jobs are still written", 0.05)
    if not done <= rows <= done + in_flight:
        raise Failed(f"{done} jobs were answered, {rows} are in the database")


def _paused(env: Environment, stack: ExitStack) -> tuple[Database, Server, Session]:
    """A node on a database of its own, whose queue takes jobs and gives none."""
    database = stack.enter_context(env.database())
    server = stack.enter_context(serving(database))
    server.pause(QUEUE)
    return database, server, stack.enter_context(database.session())


def _against(rates: dict[str, list[float]], theirs: float | str) -> Figures:
    return {
        "jobs_per_s": median(rates["ours"]),
        "pgbench_per_s": median(rates["inserts"]),
        "ratio": ratio_of(rates["ours"], rates["inserts"]),
        "pgqueuer_per_s": theirs,
    }


@measure(
    "enqueue",
    "Single Enqueue calls",
    least("ratio", 4, "× pgbench's inserts"),
    guide("jobs_per_s", 75_000, "jobs/s"),
)
def enqueue(env: Environment) -> Figures:
    """4 × 64 calls in flight, of one user, into a paused queue, against single-row inserts of 16 clients."""
    seconds = env.seconds(4)
    with ExitStack() as stack:
        database, server, session = _paused(env, stack)
        session.query(SINGLE_TABLE)
        bodies = [enqueue_request(user, queue=QUEUE) for user in users(1)]

        def ours() -> float:
            calls = h2load(f"{server.url}{JOBS}/Enqueue", bodies, connections=4, streams=64, seconds=seconds)
            _counted(session, calls.done, 4 * 64)
            _empty(session)
            return calls.per_s

        def inserts() -> float:
            rate = pgbench(database, SINGLE_INSERT, clients=16, seconds=seconds)
            session.query("TRUNCATE single")
            return rate

        rates = in_turns(env.rounds, ours=ours, inserts=inserts)
        other = peer.peer_or_reason(env, stack)
        theirs = other if isinstance(other, str) else other.enqueue(seconds)
    return _against(rates, theirs)


@measure(
    "batch",
    "EnqueueBatch of 1,000",
    least("ratio", 0.75, "× the same rows by pgbench"),
    guide("jobs_per_s", 120_000, "jobs/s"),
)
def batch(env: Environment) -> Figures:
    """4 calls in flight, of 1,000 users, against 4 clients of pgbench that insert the same rows."""
    seconds = env.seconds(4)
    with ExitStack() as stack:
        database, server, session = _paused(env, stack)
        prepare_queue(session, QUEUE, 1000)
        body = batch_request(users(1000), queue=QUEUE)

        def ours() -> float:
            calls = _batches(server, body, seconds)
            _counted(session, calls.done * 1000, 4000)
            _empty(session)
            return calls.per_s * 1000.0

        def inserts() -> float:
            rate = pgbench(database, BATCH_INSERT, clients=4, seconds=seconds)
            _empty(session)
            return rate * 1000

        rates = in_turns(env.rounds, ours=ours, inserts=inserts)
        other = peer.peer_or_reason(env, stack)
        theirs = other if isinstance(other, str) else other.enqueue_batches(seconds)
    return _against(rates, theirs)


def _batches(server: Server, body: bytes, seconds: float) -> Calls:
    return h2load(f"{server.url}{JOBS}/EnqueueBatch", [body], connections=4, streams=1, seconds=seconds)
