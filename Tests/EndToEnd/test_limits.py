"""The semaphore per user, queues that are paused, and what AdminService tells."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from harness import PATIENCE_S, is_complete, is_event, most_at_once, unique, until
from signalbox import JobEventType, JobState, NewJob

FAR = timedelta(hours=1)


def run_all(client, jobs: list[NewJob]) -> list:
    """The final jobs, with attempts."""
    ids = [item.job_id for item in client.enqueue_batch(jobs)]
    with client.watch(ids, timeout=PATIENCE_S) as watch:
        for _ in watch:
            pass
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(client.get, ids))


def at_once(jobs: list) -> int:
    return most_at_once((attempt.started_at, attempt.ended_at) for job in jobs for attempt in job.attempts)


def test_three_of_a_user_at_once(client, user):
    jobs = run_all(client, [NewJob("test.sleep", {"ms": 20}, user_id=f"{user}-{n % 5}") for n in range(200)])
    assert all(job.state is JobState.SUCCEEDED for job in jobs)
    for n in range(5):
        assert at_once([job for job in jobs if job.user_id == f"{user}-{n}"]) == 3
    assert at_once(jobs) > 3


def test_the_limit_is_per_queue(client, user):
    queues = [unique("lane") for _ in range(3)]
    jobs = run_all(
        client, [NewJob("test.sleep", {"ms": 100}, user_id=user, queue=queues[n % 3]) for n in range(27)]
    )
    for queue in queues:
        assert at_once([job for job in jobs if job.queue == queue]) == 3
    assert at_once(jobs) > 3


@pytest.mark.parametrize("limit", [1, 7])
def test_a_limit_of_ones_own(client, user, limit):
    queue = unique("own")
    assert client.get_limit(user, queue=queue).limit == 3
    assert not client.get_limit(user, queue=queue).is_override
    set_to = client.set_limit(user, limit, queue=queue)
    assert (set_to.limit, set_to.is_override, set_to.queue) == (limit, True, queue)
    jobs = run_all(
        client, [NewJob("test.sleep", {"ms": 50}, user_id=user, queue=queue) for _ in range(4 * limit)]
    )
    assert at_once(jobs) == limit
    cleared = client.set_limit(user, None, queue=queue)
    assert (cleared.limit, cleared.is_override) == (3, False)


def test_a_limit_of_zero_stops_and_a_new_one_starts(client, user):
    client.set_limit(user, 0)
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        until(watch, is_complete)
        id = client.enqueue("test.echo", 1, user_id=user).id
        # Somebody else's job was enqueued later and has run.
        client.wait(client.enqueue("test.noop", user_id=unique()).id, timeout=30)
        assert client.get(id).state is JobState.PENDING
        client.set_limit(user, 1)
        until(watch, is_event(JobEventType.SUCCEEDED, id))


def test_a_limit_raised_while_jobs_run(client, user):
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        ids = [client.enqueue("test.sleep", {"ms": 60_000, "steps": 600}, user_id=user).id for _ in range(5)]
        started: set[str] = set()
        while len(started) < 3:
            started.add(until(watch, is_event(JobEventType.STARTED))[-1].job_id)
        limit = client.get_limit(user)
        assert (limit.limit, limit.running) == (3, 3)
        client.set_limit(user, 5)
        while len(started) < 5:
            started.add(until(watch, is_event(JobEventType.STARTED))[-1].job_id)
    for id in ids:
        client.cancel(id)
    for id in ids:
        client.wait(id, timeout=30)
    assert client.get_limit(user).running == 0


def test_a_paused_queue(client, user):
    queue = unique("paused")
    client.pause(queue)
    client.pause(queue)
    assert client.queue_stats(queue)[0].paused
    ids = [client.enqueue("test.echo", n, user_id=user, queue=queue).id for n in range(3)]
    client.wait(client.enqueue("test.noop", user_id=user).id, timeout=30)
    assert all(client.get(id).state is JobState.PENDING for id in ids)
    client.resume(queue)
    client.resume(queue)
    assert [client.result(id, timeout=30) for id in ids] == [0, 1, 2]
    assert not client.queue_stats(queue)[0].paused


def test_what_runs_in_a_queue_goes_on_when_it_is_paused(client, user):
    queue = unique("paused")
    with client.watch(queue=queue, timeout=PATIENCE_S) as watch:
        id = client.enqueue("test.sleep", {"ms": 500}, user_id=user, queue=queue).id
        until(watch, is_event(JobEventType.STARTED, id))
        client.pause(queue)
    assert client.wait(id, timeout=30).state is JobState.SUCCEEDED


def test_the_state_of_a_queue(client, user):
    queue = unique("stats")
    with client.watch(queue=queue, timeout=PATIENCE_S) as watch:
        client.enqueue("test.sleep", {"ms": 60_000}, user_id=user, queue=queue)
        long = until(watch, is_event(JobEventType.STARTED))[-1].job_id
    client.wait(client.enqueue("test.noop", user_id=user, queue=queue).id, timeout=30)
    client.wait(client.enqueue("test.fail", {"permanent": True}, user_id=user, queue=queue).id, timeout=30)
    client.cancel(client.enqueue("test.noop", user_id=user, queue=queue, delay=FAR).id)
    client.enqueue("test.noop", user_id=user, queue=queue, delay=FAR)
    client.pause(queue)
    client.enqueue("test.noop", user_id=user, queue=queue)
    client.enqueue("test.noop", user_id=user, queue=queue)
    (stats,) = client.queue_stats(queue)
    assert stats.queue == queue and stats.paused
    assert (stats.pending, stats.scheduled, stats.running) == (3, 1, 1)
    assert (stats.succeeded, stats.failed, stats.cancelled) == (1, 1, 1)
    assert stats.oldest_pending_age is not None and stats.oldest_pending_age >= timedelta(0)
    assert stats.enqueued_per_second > 0 and stats.finished_per_second > 0
    names = [item.queue for item in client.queue_stats()]
    assert queue in names and names == sorted(names)
    client.cancel(long)


def test_a_queue_that_nobody_knows(client):
    assert client.queue_stats(unique("none")) == ()


def test_the_nodes(client, server, user):
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        client.enqueue("test.sleep", {"ms": 60_000}, user_id=user)
        id = until(watch, is_event(JobEventType.STARTED))[-1].job_id
    (node,) = [node for node in client.nodes() if node.alive]
    assert node.name == server.name and node.concurrency == 32 and node.version and node.id
    assert {"test.echo", "test.sleep", "test.fail", "test.noop"} <= set(node.kinds)
    assert node.running >= 1 and id in node.running_job_ids
    assert node.started_at is not None and node.last_heartbeat_at >= node.started_at
    client.cancel(id)
