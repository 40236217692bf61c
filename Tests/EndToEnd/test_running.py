"""How attempts end, and when the next one comes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import signalbox
from harness import PATIENCE_S, events_of, is_event, unique, until
from signalbox import AttemptOutcome, FailureCause, JobEventType, JobState, NewJob, RetryPolicy

FAR = timedelta(hours=1)


def ms(value: float) -> timedelta:
    return timedelta(milliseconds=value)


def test_it_is_tried_again_until_it_succeeds(client, user):
    policy = RetryPolicy(initial_delay=ms(40), factor=3)
    id = client.enqueue("test.fail", {"times": 3}, user_id=user, max_attempts=5, retry_policy=policy).id
    with client.watch(id, after={id: 1}, timeout=PATIENCE_S) as watch:
        events = events_of(watch)
    delays = [
        (event.due_at - event.at).total_seconds()
        for event in events
        if event.type is JobEventType.RETRY_SCHEDULED
    ]
    assert delays == pytest.approx([0.04, 0.12, 0.36], abs=0.005)
    job = client.get(id)
    assert job.state is JobState.SUCCEEDED and job.attempt == 4 and job.error is None
    assert [attempt.number for attempt in job.attempts] == [1, 2, 3, 4]
    assert [attempt.outcome.name for attempt in job.attempts] == ["FAILED"] * 3 + ["SUCCEEDED"]
    assert all(attempt.error is not None for attempt in job.attempts[:3])
    # No attempt starts before it is due.
    due = [event.due_at for event in events if event.type is JobEventType.RETRY_SCHEDULED]
    assert all(attempt.started_at >= at for attempt, at in zip(job.attempts[1:], due, strict=True))


def test_the_delay_has_an_upper_bound_and_jitter(client, user):
    policy = RetryPolicy(initial_delay=ms(20), factor=100, max_delay=ms(60), jitter=0.5)
    id = client.enqueue("test.fail", {"times": 3}, user_id=user, max_attempts=4, retry_policy=policy).id
    with client.watch(id, after={id: 1}, timeout=PATIENCE_S) as watch:
        delays = [
            (event.due_at - event.at).total_seconds()
            for event in events_of(watch)
            if event.type is JobEventType.RETRY_SCHEDULED
        ]
    assert len(delays) == 3
    for delay, nominal in zip(delays, [0.02, 0.06, 0.06], strict=True):
        assert nominal * 0.5 - 0.005 <= delay <= 0.06 + 0.005


def test_the_first_delay_is_5_seconds_unless_set(client, user):
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        id = client.enqueue("test.fail", {"times": 1}, user_id=user).id
        event = until(watch, is_event(JobEventType.RETRY_SCHEDULED, id))[-1]
    assert (event.due_at - event.at).total_seconds() == pytest.approx(5, abs=0.01)
    job = client.get(id)
    assert job.state is JobState.PENDING and job.due_at == event.due_at
    assert job.error is not None and job.error.cause is FailureCause.HANDLER
    client.cancel(id)


def test_the_budget_of_attempts(client, user):
    policy = RetryPolicy(initial_delay=ms(10), factor=1)
    id = client.enqueue("test.fail", {"times": 100}, user_id=user, max_attempts=3, retry_policy=policy).id
    with pytest.raises(signalbox.JobFailed) as caught:
        client.result(id, timeout=30)
    job = caught.value.job
    assert job.attempt == 3 and len(job.attempts) == 3 and job.error is not None
    assert job.error.cause is FailureCause.HANDLER and job.finished_at is not None


def test_a_permanent_failure_is_not_tried_again(client, user):
    id = client.enqueue("test.fail", {"permanent": True}, user_id=user, max_attempts=10).id
    job = client.wait(id, timeout=30)
    assert job.state is JobState.FAILED and job.attempt == 1 and len(job.attempts) == 1
    assert job.error is not None and job.error.cause is FailureCause.HANDLER_PERMANENT


def test_a_payload_that_the_handler_does_not_understand(client, user):
    id = client.enqueue("test.sleep", {"ms": "a while"}, user_id=user, max_attempts=1).id
    assert client.wait(id, timeout=30).state is JobState.FAILED


def test_the_hard_timeout_stops_an_attempt(client, user):
    policy = RetryPolicy(initial_delay=ms(10), factor=1)
    id = client.enqueue(
        "test.sleep",
        {"ms": 60_000, "steps": 60},
        user_id=user,
        job_timeout=ms(300),
        max_attempts=2,
        retry_policy=policy,
    ).id
    job = client.wait(id, timeout=30)
    assert job.state is JobState.FAILED and job.error is not None and job.error.cause is FailureCause.TIMEOUT
    assert [attempt.outcome for attempt in job.attempts] == [AttemptOutcome.TIMED_OUT] * 2
    for attempt in job.attempts:
        assert attempt.error is not None and attempt.error.cause is FailureCause.TIMEOUT
        assert ms(290) <= attempt.ended_at - attempt.started_at < timedelta(seconds=10)


def test_timeouts_are_kept(client, user):
    id = client.enqueue("test.noop", user_id=user, delay=FAR, job_timeout=ms(1_500), soft_timeout=ms(700)).id
    job = client.get(id)
    assert job.timeout == ms(1_500) and job.soft_timeout == ms(700)
    client.cancel(id)


def test_a_delayed_job_starts_when_it_is_due(client, user):
    late = client.enqueue("test.echo", 1, user_id=user, delay=ms(3_000)).id
    early = client.enqueue("test.echo", 2, user_id=user).id
    assert client.get(late).state is JobState.PENDING
    client.wait(early, timeout=30)
    job = client.wait(late, timeout=30)
    assert job.due_at - job.created_at == ms(3_000)
    assert job.started_at >= job.due_at
    # The poll (1 s) is the slowest way to hear of it.
    assert job.started_at - job.due_at < timedelta(seconds=3)


def test_a_moment_that_has_passed_means_at_once(client, user):
    past = datetime.now(UTC) - timedelta(days=300)
    id = client.enqueue("test.echo", 1, user_id=user, run_at=past).id
    assert client.result(id, timeout=30) == 1


def test_a_moment_to_come(client, user):
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    id = client.enqueue("test.echo", 1, user_id=user, run_at=at).id
    job = client.wait(id, timeout=30)
    assert job.due_at == at and job.started_at >= at


def test_the_order_within_a_lane(client, user):
    """Higher priority first, then earlier due, then earlier enqueued."""
    queue = unique("ordered")
    client.update_limit(user, 1, queue=queue)
    client.pause(queue)
    now = datetime.now(UTC)
    wanted = [
        (50, timedelta(0)),
        (5, timedelta(seconds=-60)),
        (5, timedelta(seconds=-30)),
        (0, timedelta(seconds=-90)),
        (0, timedelta(seconds=-10)),
        (-100, timedelta(days=-1)),
    ]
    shuffled = [3, 0, 5, 2, 4, 1]
    items = client.enqueue_batch(
        [
            NewJob("test.noop", user_id=user, queue=queue, priority=wanted[n][0], run_at=now + wanted[n][1])
            for n in shuffled
        ]
    )
    by_place = {n: item.job_id for n, item in zip(shuffled, items, strict=True)}
    same = [client.enqueue("test.noop", user_id=user, queue=queue, priority=-100).id for _ in range(3)]
    client.resume(queue)
    expected = [by_place[n] for n in range(6)] + same
    jobs = [client.wait(id, timeout=30) for id in expected]
    starts = [job.started_at for job in jobs]
    assert starts == sorted(starts) and len(set(starts)) == len(starts)


def test_ones_backlog_does_not_delay_another(client, user):
    busy = unique("busy")
    client.enqueue_batch([NewJob("test.sleep", {"ms": 300}, user_id=busy) for _ in range(200)])
    id = client.enqueue("test.echo", 1, user_id=user).id
    assert client.result(id, timeout=30) == 1
    waiting = [job.id for job in client.list(user_id=busy, states=[JobState.PENDING], page_size=1_000)]
    assert len(waiting) > 150
    for job in waiting:
        client.cancel(job)


def test_a_job_runs_once_however_many_wake_for_it(client, user):
    ids = [
        item.job_id
        for item in client.enqueue_batch(
            [NewJob("test.noop", user_id=f"{user}-{n % 20}") for n in range(200)]
        )
    ]
    with client.watch(ids, timeout=PATIENCE_S) as watch:
        for _ in watch:
            pass
    jobs = [client.get(id) for id in ids]
    assert all(job.state is JobState.SUCCEEDED and len(job.attempts) == 1 for job in jobs)
