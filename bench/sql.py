"""What the service is compared with: the same work as plain SQL, on the service's own tables.

Also how tables are filled. The schema is that of Sources/JobStore/Migrations; where that changes, this does.
"""

from __future__ import annotations

from .database import Session

#: What a job of a measure has in `job`, but for number, id, lane and user.
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
        CREATE SEQUENCE IF NOT EXISTS batch
        """
    )
