"""The rate of jobs when there are many: pending jobs of many users or of one user, and final jobs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from .database import Cluster, Database, Session
from .drain import QUEUE, USERS, settle
from .flow import CONNECTIONS, STREAMS, USER_LIMIT
from .load import h2load
from .processes import Failed
from .registry import Environment, Figures, least, measure, most
from .server import JOBS, Server, enqueue_request, looking, serving, users, wait_until
from .sql import fill, fill_by_two, fill_finished, prepare_queue
from .statistics_of import in_turns, median, percentile, ratio_of

#: The user with a million jobs: its lane is behind those of the others.
GREEDY = f"user-{USERS:06}"

#: "[PROCESS] LOG:  duration: 1.234 ms  execute claim_runs_7: …"; a connection numbers its prepared statements.
_LINE = re.compile(r"\[(\d+)\] LOG:  duration: ([\d.]+) ms  (\w+) (\w+?)(?:_\d+)?:")


def claim_times(log: str) -> list[float]:
    """Milliseconds of each claim that had lanes to claim from: its statements, in the database, with their commit."""
    begun: dict[str, float] = {}
    has_claimed: set[str] = set()
    claims: list[float] = []
    for line in log.splitlines():
        found = _LINE.search(line)
        if not found:
            continue
        process, took, phase, statement = found[1], float(found[2]), found[3], found[4]
        if statement == "lock_lanes" and phase == "bind":
            begun[process] = 0.0
            has_claimed.discard(process)
        if process not in begun:
            continue
        begun[process] += took
        if statement == "claim_runs":
            has_claimed.add(process)
        if phase == "execute" and line.rstrip().endswith(("COMMIT", "ROLLBACK")):
            time_of_claim = begun.pop(process)
            if process in has_claimed:
                claims.append(time_of_claim)
    return claims


@contextmanager
def logged(cluster: Cluster, session: Session) -> Iterator[Callable[[], str]]:
    """Has Postgres log how long each statement takes; what it has logged since."""
    session.query("ALTER SYSTEM SET log_parameter_max_length = 0")
    session.query("ALTER SYSTEM SET log_min_duration_statement = 0; SELECT pg_reload_conf()")
    # A new connection has what Postgres has read, and has told those that are there to read.
    wait_until(lambda: _setting(cluster, "log_min_duration_statement") == "0", 10, "the settings are not read")
    size = cluster.log_size()
    try:
        yield lambda: cluster.log(size)
    finally:
        session.query("ALTER SYSTEM RESET ALL")
        session.query("SELECT pg_reload_conf()")


def _setting(cluster: Cluster, name: str) -> str:
    with cluster.database_named("postgres").session() as session:
        return session.value(f"SHOW {name}")


def drain_some(server: Server, session: Session, jobs: int, others_running: int = 0) -> float:
    """Lets so many jobs of the paused queue run, and pauses it again. Jobs a second.

    Only what ends from now on is counted, whatever was there before.
    """
    settle(session)
    begin = session.value("SELECT clock_timestamp()")
    before = session.count("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM run_token")
    server.resume(QUEUE)
    wait_until(
        lambda: session.count("SELECT last_value FROM run_token") - before >= jobs,
        30 + jobs / 1000,
        f"fewer than {jobs} jobs have begun",
    )
    server.pause(QUEUE)
    ended = f"FROM finished WHERE finished_at >= '{begin}' AND state = 'succeeded'"
    running = "SELECT count(*) FROM live WHERE state = 'running'"
    # Tokens are drawn before their claim is committed: for a moment nothing may run although more is about to.
    wait_until(
        lambda: session.count(f"SELECT count(*) {ended}") >= jobs and session.count(running) <= others_running,
        60,
        "the jobs did not end in time",
        0.05,
    )
    count, seconds = session.query(f"SELECT count(*), extract(epoch FROM max(finished_at) - min(started_at)) {ended}")[0]
    return int(count) / float(seconds)


class Side:
    """A database with a node: the deep one, or the empty one that it is compared with."""

    def __init__(self, stack: ExitStack, database: Database) -> None:
        self.database = database
        self.server = stack.enter_context(serving(database))
        self.session = stack.enter_context(database.session())
        self.others_running = 0

    def refill(self, jobs: int) -> None:
        """Jobs of 1,000 users, by SQL on both sides alike."""
        fill(self.session, jobs, lanes=f"id <= {USERS}")

    def drain(self, jobs: int) -> float:
        self.server.pause(QUEUE)
        return drain_some(self.server, self.session, jobs, self.others_running)


def migrated(stack: ExitStack, env: Environment, lanes: int) -> Database:
    """A database with the tables, the kinds, and a paused queue with its lanes; no node is left on it."""
    database = stack.enter_context(env.database())
    with serving(database), database.session() as session:
        prepare_queue(session, QUEUE, lanes)
    return database


def compare(env: Environment, shallow: Side, deep: Side, *, refills_deep: bool) -> Figures:
    """The drain of the deep side against that of the empty one, and the deep one's claims."""
    jobs = env.size(100_000, 2000)

    def of_shallow() -> float:
        shallow.refill(jobs)
        rate = shallow.drain(jobs)
        shallow.session.query("TRUNCATE job, live, finished, change")
        return rate

    def of_deep() -> float:
        if refills_deep:
            deep.refill(jobs)
        return deep.drain(jobs)

    rates = in_turns(env.size(2, 1), deep=of_deep, empty=of_shallow)
    with logged(deep.database.cluster, deep.session) as log:
        of_deep()
        claims = claim_times(log())
    if not claims:
        raise Failed("no claim was logged")
    return {
        "jobs_per_s": median(rates["deep"]),
        "empty_per_s": median(rates["empty"]),
        "ratio": ratio_of(rates["deep"], rates["empty"]),
        "claim_p50_ms": percentile(claims, 50),
        "claim_p99_ms": percentile(claims, 99),
        "claims": float(len(claims)),
    }


def _vacuumed(session: Session) -> None:
    """Brings the tables into the state in which autovacuum leaves them some time after they were filled."""
    session.query("VACUUM ANALYZE job")
    session.query("VACUUM ANALYZE live")
    session.query("VACUUM ANALYZE finished")


GOALS = (least("ratio", 0.8, "× the empty tables"), most("claim_p99_ms", 10, "ms"))


@measure("depth-pending", "5 million pending of 100,000 users", *GOALS)
def depth_pending(env: Environment) -> Figures:
    """The drain of 5 million waiting jobs of 100,000 users, while it goes on."""
    jobs, lanes = env.size(5_000_000, 20_000), env.size(100_000, 2000)
    with ExitStack() as stack:
        full, other = migrated(stack, env, lanes), migrated(stack, env, USERS)
        with env.cluster.filling(), full.session() as session:
            fill_by_two(full, jobs, lambda session, part: fill(session, part, lanes="true"))
            _vacuumed(session)
        deep, shallow = Side(stack, full), Side(stack, other)
        return compare(env, shallow, deep, refills_deep=False)


@measure("depth-user", "One user with a million pending", *GOALS)
def depth_user(env: Environment) -> Figures:
    """The drain of 1,000 users' jobs beside one user who has 3 running and a million more waiting."""
    with ExitStack() as stack:
        full, other = migrated(stack, env, USERS), migrated(stack, env, USERS)
        deep, shallow = Side(stack, full), Side(stack, other)
        deep.server.resume(QUEUE)
        sleep = enqueue_request(GREEDY, kind="test.sleep", queue=QUEUE, payload=b'{"ms":3600000}')
        with deep.server.connection() as connection:
            for _ in range(3):
                connection.call(f"{JOBS}/Enqueue", sleep)
        running = "SELECT count(*) FROM live WHERE state = 'running'"
        wait_until(lambda: deep.session.count(running) == 3, 10, "the user's jobs do not run")
        deep.others_running = 3
        deep.server.pause(QUEUE)
        fill(deep.session, env.size(1_000_000, 5000), lanes=f"user_id = '{GREEDY}'")
        _vacuumed(deep.session)
        return compare(env, shallow, deep, refills_deep=True)


@measure("depth-finished", "10 million finished jobs", *GOALS)
def depth_finished(env: Environment) -> Figures:
    """The drain beside 10 million jobs that have finished and are kept."""
    with ExitStack() as stack:
        full, other = migrated(stack, env, USERS), migrated(stack, env, USERS)
        with env.cluster.filling(), full.session() as session:
            fill_by_two(full, env.size(10_000_000, 10_000), fill_finished)
            _vacuumed(session)
        deep, shallow = Side(stack, full), Side(stack, other)
        return compare(env, shallow, deep, refills_deep=True)


@measure(
    "depth-transaction",
    "A transaction left open for 10 minutes",
    most("backlog_max", 4000, "jobs"),
    most("drained_s", 60, "s"),
    is_long=True,
)
def depth_transaction(env: Environment) -> Figures:
    """800 jobs/s while another session holds a snapshot, so that nothing dead can be removed."""
    seconds, rate = env.seconds(600, 3), 800
    with ExitStack() as stack:
        database = stack.enter_context(env.database())
        server = stack.enter_context(serving(database, *USER_LIMIT))
        session, other = stack.enter_context(database.session()), stack.enter_context(database.session())
        other.query("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT txid_current(), count(*) FROM live")
        bodies = [enqueue_request(user, queue=QUEUE) for user in users(CONNECTIONS)]
        url = f"{server.url}{JOBS}/Enqueue"
        with looking(lambda: session.count("SELECT count(*) FROM live"), 1) as backlog:
            calls = h2load(url, bodies, connections=CONNECTIONS, streams=STREAMS, seconds=seconds, rate=rate)
        other.query("ROLLBACK")
        begin = time.monotonic()
        wait_until(lambda: session.value("SELECT EXISTS (SELECT FROM live)") == "f", 300, "the backlog stays", 0.05)
        drained = time.monotonic() - begin
        done = session.count("SELECT count(*) FROM finished WHERE state = 'succeeded'")
    if done < max(calls.done, 0.9 * rate * seconds):
        raise Failed(f"{done} jobs have succeeded of {rate * seconds:g}")
    return {"backlog_max": float(max(backlog)), "backlog_p50": median(backlog), "drained_s": drained}
