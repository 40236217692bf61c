"""Cancel and Retry, in each state."""

from __future__ import annotations

from datetime import timedelta

import pytest
import signalbox
from harness import PATIENCE_S, events_of, is_event, unique, until
from signalbox import AttemptOutcome, FailureCause, JobEventType, JobState, RetryPolicy

FAR = timedelta(hours=1)
SOON = RetryPolicy(initial_delay=timedelta(milliseconds=20), factor=1)


def running(client: signalbox.Client, user: str, kind: str = "test.sleep", payload=None, **options) -> str:
    """The id of a job that has just started."""
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        id = client.enqueue(kind, payload or {"ms": 60_000, "steps": 600}, user_id=user, **options).id
        until(watch, is_event(JobEventType.STARTED, id))
    return id


@pytest.mark.parametrize("delay", [FAR, None], ids=["not due", "due"])
def test_a_pending_job_never_starts(client, user, delay):
    queue = unique("held")
    client.pause(queue)
    id = client.enqueue("test.noop", user_id=user, queue=queue, delay=delay).id
    job = client.cancel(id, note="not needed")
    assert job.state is JobState.CANCELLED and job.sequence == 2 and job.finished_at is not None
    assert job.error == signalbox.JobError("", "not needed", FailureCause.CANCELLED)
    client.resume(queue)
    # A later job of the same queue and user has run, so the cancelled one would have started before it.
    client.wait(client.enqueue("test.noop", user_id=user, queue=queue).id, timeout=30)
    job = client.get(id)
    assert job.state is JobState.CANCELLED and job.attempts == () and job.attempt == 0


def test_a_running_job_is_told_and_ends(client, user):
    id = running(client, user)
    job = client.cancel(id, note="changed my mind")
    assert job.state is JobState.RUNNING and job.cancel_requested or job.state is JobState.CANCELLED
    job = client.wait(id, timeout=30)
    assert job.state is JobState.CANCELLED and not job.cancel_requested
    assert job.error == signalbox.JobError("", "changed my mind", FailureCause.CANCELLED)
    assert [attempt.outcome for attempt in job.attempts] == [AttemptOutcome.CANCELLED]
    with pytest.raises(signalbox.JobCancelled):
        client.result(id, timeout=30)


def test_cancel_is_idempotent(client, user):
    id = running(client, user)
    for _ in range(3):
        client.cancel(id, note="once")
    job = client.wait(id, timeout=30)
    assert client.cancel(id, note="again").sequence == job.sequence == 4
    assert job.error is not None and job.error.message == "once"


@pytest.mark.parametrize(
    ("kind", "payload", "state"),
    [
        ("test.noop", None, JobState.SUCCEEDED),
        ("test.fail", {"permanent": True}, JobState.FAILED),
    ],
)
def test_a_final_job_is_returned_as_it_is(client, user, kind, payload, state):
    id = client.enqueue(kind, payload, user_id=user).id
    before = client.wait(id, timeout=30)
    after = client.cancel(id)
    assert after.state is before.state is state and after.sequence == before.sequence


def test_a_job_that_waits_for_its_next_attempt(client, user):
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        policy = RetryPolicy(initial_delay=FAR, max_delay=FAR)
        id = client.enqueue("test.fail", {"times": 1}, user_id=user, retry_policy=policy).id
        until(watch, is_event(JobEventType.RETRY_SCHEDULED, id))
    assert client.cancel(id).state is JobState.CANCELLED
    assert [attempt.outcome.name for attempt in client.get(id).attempts] == ["FAILED"]


def test_cancelling_one_frees_its_place(client, user):
    jobs = [running(client, user) for _ in range(3)]
    waiting = client.enqueue("test.echo", 1, user_id=user).id
    assert client.get(waiting).state is JobState.PENDING
    client.cancel(jobs[1])
    assert client.result(waiting, timeout=30) == 1
    for id in jobs:
        client.cancel(id)
        assert client.wait(id, timeout=30).state is JobState.CANCELLED


def test_a_failed_job_is_put_back_with_a_fresh_budget(client, user):
    queue = unique("held")
    id = client.enqueue(
        "test.fail", {"times": 4}, user_id=user, queue=queue, max_attempts=2, retry_policy=SOON
    ).id
    assert client.wait(id, timeout=30).state is JobState.FAILED
    client.pause(queue)
    job = client.retry(id)
    assert job.state is JobState.PENDING and job.finished_at is None
    assert (job.max_attempts, job.attempt, job.attempts_used) == (2, 2, 0)
    client.resume(queue)
    job = client.wait(id, timeout=30)
    assert job.state is JobState.FAILED and len(job.attempts) == 4
    client.retry(id)
    job = client.wait(id, timeout=30)
    assert job.state is JobState.SUCCEEDED and job.error is None
    assert (job.max_attempts, job.attempt, job.attempts_used) == (2, 5, 1)
    assert [attempt.number for attempt in job.attempts] == [1, 2, 3, 4, 5]
    assert [attempt.outcome.name for attempt in job.attempts] == ["FAILED"] * 4 + ["SUCCEEDED"]
    with client.watch(id, after={id: 1}, timeout=PATIENCE_S) as watch:
        events = events_of(watch)
    assert [event.sequence for event in events] == list(range(2, job.sequence + 1))
    assert sum(event.type is JobEventType.RETRIED for event in events) == 2


def test_a_cancelled_job_is_put_back(client, user):
    # Paused: put back it is due at once, and might have started before it is looked at.
    queue = unique("held")
    client.pause(queue)
    id = client.enqueue("test.echo", 7, user_id=user, queue=queue, delay=FAR).id
    client.cancel(id)
    job = client.retry(id)
    assert job.state is JobState.PENDING and job.error is None
    client.resume(queue)
    assert client.result(id, timeout=30) == 7


def test_only_a_job_with_the_expected_sequence_is_changed(client, user):
    id = client.enqueue("test.noop", user_id=user, delay=FAR).id
    with pytest.raises(signalbox.Aborted) as caught:
        client.cancel(id, expected_sequence=2)
    assert caught.value.reason == "SEQUENCE_MISMATCH"
    assert (caught.value.metadata["expected"], caught.value.metadata["actual"]) == ("2", "1")
    assert client.get(id).state is JobState.PENDING
    assert client.cancel(id, expected_sequence=1).sequence == 2
    # As if the answer of the call had been lost.
    with pytest.raises(signalbox.Aborted):
        client.cancel(id, expected_sequence=1)
    with pytest.raises(signalbox.Aborted):
        client.retry(id, expected_sequence=1)
    assert client.retry(id, expected_sequence=2).sequence == 3
    with pytest.raises(signalbox.Aborted):
        client.retry(id, expected_sequence=2)
    assert client.get(id).sequence >= 3


@pytest.mark.parametrize("state", ["pending", "running", "succeeded"])
def test_retry_in_other_states(client, user, state):
    if state == "pending":
        id = client.enqueue("test.noop", user_id=user, delay=FAR).id
    elif state == "running":
        id = running(client, user)
    else:
        id = client.enqueue("test.noop", user_id=user).id
        client.wait(id, timeout=30)
    with pytest.raises(signalbox.FailedPrecondition):
        client.retry(id)
    client.cancel(id)
