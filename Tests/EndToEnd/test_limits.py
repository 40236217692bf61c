"""The semaphore per user, queues that are paused, and what AdminService says of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
import pytest
import signalbox
from harness import PATIENCE_S, is_complete, is_event, most_at_once, unique, until
from signalbox import JobEventType, JobState, NewJob
from signalbox.v1 import admin_service_pb2

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
    assert client.get_limit(user, queue=queue).max_running == 3
    assert not client.get_limit(user, queue=queue).overridden
    set_to = client.update_limit(user, limit, queue=queue)
    assert (set_to.max_running, set_to.overridden, set_to.queue) == (limit, True, queue)
    jobs = run_all(
        client, [NewJob("test.sleep", {"ms": 50}, user_id=user, queue=queue) for _ in range(4 * limit)]
    )
    assert at_once(jobs) == limit
    cleared = client.update_limit(user, None, queue=queue)
    assert (cleared.max_running, cleared.overridden) == (3, False)


def test_the_limits_that_were_set_are_listed(client, user):
    queues = sorted(unique("own") for _ in range(3))
    for n, queue in enumerate(queues):
        client.update_limit(user, n, queue=queue)
    listed = list(client.list_limits(user_id=user, page_size=2))
    assert [(limit.queue, limit.max_running) for limit in listed] == list(zip(queues, range(3), strict=True))
    assert all(limit.overridden and limit.user_id == user for limit in listed)
    assert [limit.user_id for limit in client.list_limits(queue=queues[0])] == [user]
    client.update_limit(user, None, queue=queues[0])
    assert [limit.queue for limit in client.list_limits(user_id=user)] == queues[1:]


def test_an_update_that_sets_nothing_is_refused(api, user):
    """A limit of 0 stops a user, so it must be said."""
    update = admin_service_pb2.UpdateUserLimitRequest
    with pytest.raises(grpc.RpcError) as caught:
        api.admin.UpdateUserLimit(update(limit={"user_id": user}), timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    set_to = api.admin.UpdateUserLimit(update(limit={"user_id": user, "max_running": 0}), timeout=20).limit
    assert set_to.HasField("max_running") and set_to.max_running == 0 and set_to.overridden
    # Fields that only the service sets are ignored.
    limit = {"user_id": user, "max_running": 2, "overridden": False, "running": 99}
    set_to = api.admin.UpdateUserLimit(update(limit=limit), timeout=20).limit
    assert (set_to.max_running, set_to.overridden, set_to.running) == (2, True, 0)


def test_a_limit_of_zero_stops_and_a_new_one_starts(client, user):
    client.update_limit(user, 0)
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        until(watch, is_complete)
        id = client.enqueue("test.echo", 1, user_id=user).id
        # Somebody else's job was enqueued later and has run.
        client.wait(client.enqueue("test.noop", user_id=unique()).id, timeout=30)
        assert client.get(id).state is JobState.PENDING
        client.update_limit(user, 1)
        until(watch, is_event(JobEventType.SUCCEEDED, id))


def test_a_limit_raised_while_jobs_run(client, user):
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        ids = [client.enqueue("test.sleep", {"ms": 60_000, "steps": 600}, user_id=user).id for _ in range(5)]
        started: set[str] = set()
        while len(started) < 3:
            started.add(until(watch, is_event(JobEventType.STARTED))[-1].job_id)
        limit = client.get_limit(user)
        assert (limit.max_running, limit.running) == (3, 3)
        client.update_limit(user, 5)
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
    assert client.get_queue(queue).paused
    ids = [client.enqueue("test.echo", n, user_id=user, queue=queue).id for n in range(3)]
    client.wait(client.enqueue("test.noop", user_id=user).id, timeout=30)
    assert all(client.get(id).state is JobState.PENDING for id in ids)
    client.resume(queue)
    client.resume(queue)
    assert [client.result(id, timeout=30) for id in ids] == [0, 1, 2]
    assert not client.get_queue(queue).paused


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
    found = client.get_queue(queue, include_stats=True)
    stats = found.stats
    assert found.name == queue and found.paused and stats is not None and not stats.capped
    assert (stats.pending, stats.not_due, stats.running) == (3, 1, 1)
    assert (stats.succeeded, stats.failed, stats.cancelled) == (1, 1, 1)
    assert stats.oldest_pending_age is not None and stats.oldest_pending_age >= timedelta(0)
    assert stats.enqueued_per_second > 0 and stats.finished_per_second > 0
    listed = list(client.list_queues(page_size=2))
    names = [item.name for item in listed]
    assert queue in names and names == sorted(names) and all(item.stats is None for item in listed)
    assert all(item.stats is not None for item in client.list_queues(include_stats=True))
    client.cancel(long)


def test_an_unknown_queue(client):
    with pytest.raises(signalbox.NotFound):
        client.get_queue(unique("none"))


def test_the_nodes(client, server, user):
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        client.enqueue("test.sleep", {"ms": 60_000}, user_id=user)
        id = until(watch, is_event(JobEventType.STARTED))[-1].job_id
    (node,) = [node for node in client.list_nodes() if node.alive]
    assert node.name == server.name and node.concurrency == 32 and node.version and node.id
    assert {"test.echo", "test.sleep", "test.fail", "test.noop"} <= set(node.kinds)
    assert node.running >= 1 and id in node.running_job_ids
    assert node.started_at is not None and node.last_heartbeat_at >= node.started_at
    client.cancel(id)
