"""The baseline for the comparisons: the same work as plain SQL, on the service's own tables.

Also how tables are filled. The schema is that of Sources/JobStore/Migrations; where that changes, this does.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from .database import Database, Session

#: The columns of a measure's row in `job`, except for number, id, lane and user.
_REST = "1, 0, 3, now(), now(), 5000, 2, 3600000, 0, 'application/json', '\\x7b226e223a31323334353637387d'"
_JOB = (
    "(id, lane, user_id, kind, priority, max_attempts, created_at, due_at, retry_initial_ms, retry_factor, "
    "retry_max_ms, retry_jitter, content_type, payload)"
)
_LIVE = "(number, lane, kind, rank, state, due_at, sequence, attempt, max_attempts)"

SINGLE_TABLE = "CREATE TABLE single (LIKE job INCLUDING ALL)"

#: One row a transaction, as a service would write it that has no batches.
SINGLE_INSERT = f"""\
\\set user random(0, 999)
INSERT INTO single {_JOB} VALUES (gen_random_uuid(), :user, 'user-' || lpad(:user::text, 6, '0'), {_REST});
"""

#: Ids in order, as version 7 has them, and as cheap as they can be made.
_ID = "lpad(to_hex({number}), 32, '0')::uuid"

#: 1,000 jobs of 1,000 users, in one statement.
BATCH_INSERT = f"""\
WITH new AS (
    INSERT INTO job {_JOB}
    SELECT {_ID.format(number="s.base * 1000 + lane.id")}, lane.id, lane.user_id, {_REST}
    FROM (SELECT nextval('batch') AS base OFFSET 0) s, lane WHERE lane.id <= 1000
    RETURNING number, lane, kind, priority, due_at, max_attempts
)
INSERT INTO live {_LIVE}
SELECT number, lane, kind, -priority, 'ready', due_at, 1, 0, max_attempts FROM new;
"""


def prepare_queue(session: Session, queue: str, users: int) -> None:
    """A paused queue with its lanes, numbered from 1, and a sequence for batches; nothing else may be there yet."""
    session.query(
        f"""
        INSERT INTO queue (name, paused) VALUES ('{queue}', true) ON CONFLICT DO NOTHING;
        INSERT INTO lane (queue, user_id)
            SELECT queue.id, 'user-' || lpad(n::text, 6, '0') FROM queue, generate_series(0, {users - 1}) AS n
            WHERE queue.name = '{queue}' ORDER BY n;
        CREATE SEQUENCE IF NOT EXISTS batch;
        CREATE SEQUENCE IF NOT EXISTS filled START 1000000000000
        """
    )


#: Claims 200 jobs and ends them, each in a transaction of its own; several of these share the work.
#: Without limits and turns: the least that a queue on these tables has to do.
DRAIN = """\
WITH pick AS (
    SELECT number FROM live WHERE state = 'ready'
    ORDER BY lane, kind, rank, due_at, number LIMIT 200 FOR UPDATE SKIP LOCKED
), run AS (
    UPDATE live SET state = 'running', token = nextval('run_token'), node = 1, started_at = clock_timestamp(),
        attempt = attempt + 1, sequence = sequence + 1
    FROM pick WHERE live.number = pick.number
    RETURNING live.number
)
SELECT coalesce(array_agg(number), '{}') AS numbers, sum(length(job.payload)) AS bytes
FROM run JOIN job USING (number)
\\gset
WITH gone AS (
    DELETE FROM live WHERE number = ANY (:numbers::bigint[]) AND state = 'running'
    RETURNING number, sequence + 1 AS sequence, attempt, max_attempts, node, started_at
)
INSERT INTO finished (
    number, state, sequence, attempt, max_attempts, node, started_at, finished_at, result, result_type)
SELECT number, 'succeeded', sequence, attempt, max_attempts, node, started_at, now(), '\\x6e756c6c',
    'application/json'
FROM gone;
"""


def fill(session: Session, jobs: int, *, lanes: str, chunk: int = 500_000) -> None:
    """Waiting jobs, spread over the lanes that a condition names; without the checks that the service's own have."""
    session.query("SET session_replication_role = replica; SET synchronous_commit = off")
    # A number in the statement, or Postgres would not join by hash.
    count = session.count(f"SELECT count(*) FROM lane WHERE {lanes}")
    for start in range(0, jobs, chunk):
        session.query(
            f"""
            WITH lanes AS MATERIALIZED (
                SELECT id, user_id, row_number() OVER (ORDER BY id) - 1 AS place FROM lane WHERE {lanes}
            ), new AS (
                INSERT INTO job {_JOB}
                SELECT {_ID.format(number="nextval('filled')")}, lanes.id, user_id, kind.id, {_REST.partition(", ")[2]}
                FROM generate_series({start}, {min(jobs, start + chunk) - 1}) AS n
                JOIN lanes ON lanes.place = n % {count}
                JOIN kind ON kind.name = 'test.noop'
                RETURNING number, lane, kind, priority, due_at, max_attempts
            )
            INSERT INTO live {_LIVE}
            SELECT number, lane, kind, -priority, 'ready', due_at, 1, 0, max_attempts FROM new
            """
        )
    session.query("RESET session_replication_role; RESET synchronous_commit")


def fill_finished(session: Session, jobs: int, chunk: int = 500_000) -> None:
    """Jobs of 1,000 users that have succeeded."""
    session.query("SET session_replication_role = replica; SET synchronous_commit = off")
    for start in range(0, jobs, chunk):
        session.query(
            f"""
            WITH new AS (
                INSERT INTO job {_JOB}
                SELECT {_ID.format(number="nextval('filled')")}, lane.id, user_id, kind.id, {_REST.partition(", ")[2]}
                FROM generate_series({start}, {min(jobs, start + chunk) - 1}) AS n
                JOIN lane ON lane.id = n % 1000 + 1 JOIN kind ON kind.name = 'test.noop'
                RETURNING number, created_at
            )
            INSERT INTO finished (
                number, state, sequence, attempt, max_attempts, node, started_at, finished_at, result, result_type)
            SELECT number, 'succeeded', 3, 1, 3, 1, created_at, created_at, '\\x6e756c6c', 'application/json' FROM new
            """
        )
    session.query("RESET session_replication_role; RESET synchronous_commit")


def fill_by_two(database: Database, jobs: int, part: Callable[[Session, int], None]) -> None:
    """Fills tables by two sessions, half by each."""

    def half() -> None:
        with database.session() as session:
            part(session, jobs // 2)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(half), pool.submit(half)]:
            future.result()
