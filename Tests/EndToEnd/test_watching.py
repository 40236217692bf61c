"""Watch: a snapshot, then every lifecycle change once and in order, and how it resumes."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
import pytest
import signalbox
import signalbox.aio
from harness import PATIENCE_S, Api, Proxy, events_of, is_complete, is_event, unique, until, violations
from signalbox import FailureCause, JobEventType, JobRemoved, JobState, NewJob, ProgressEvent, RetryPolicy, Snapshot
from signalbox.v1 import job_pb2, job_service_pb2

FAR = timedelta(hours=1)
SOON = RetryPolicy(initial_delay=timedelta(milliseconds=50), factor=1)


def watch_raw(api: Api, *jobs: tuple[str, int]) -> list[job_service_pb2.WatchResponse]:
    """Everything that a watch of these jobs sends until it ends with OK."""
    request = job_service_pb2.WatchRequest(
        jobs=[job_service_pb2.WatchedJob(job_id=id, after_sequence=after) for id, after in jobs]
    )
    return list(api.jobs.Watch(request, timeout=PATIENCE_S))


def kinds(messages: list[job_service_pb2.WatchResponse]) -> list[str]:
    return [message.WhichOneof("event") for message in messages]


def named(id: str) -> job_service_pb2.WatchRequest:
    return job_service_pb2.WatchRequest(jobs=[{"job_id": id}])


def numbers(messages: list[job_service_pb2.WatchResponse]) -> list[int]:
    return [message.lifecycle.sequence for message in messages if message.HasField("lifecycle")]


def test_snapshot_then_events_then_ok(api, client, user):
    queue = unique("held")
    client.pause(queue)
    id = client.enqueue("test.sleep", {"ms": 100, "steps": 4}, user_id=user, queue=queue).id
    call = api.jobs.Watch(named(id), timeout=PATIENCE_S)
    first, second, third = next(call), next(call), next(call)
    assert first.HasField("opened") and not first.opened.resumed
    assert first.opened.heartbeat_interval.ToTimedelta() == timedelta(seconds=15)
    assert second.snapshot.job.id == id and second.snapshot.job.sequence == 1
    assert second.snapshot.job.state == job_pb2.JOB_STATE_PENDING
    assert third.HasField("snapshots_complete") and third.resume_token
    client.resume(queue)
    rest = list(call)
    assert call.code() is grpc.StatusCode.OK
    assert numbers(rest) == [2, 3]
    events = [message.lifecycle for message in rest if message.HasField("lifecycle")]
    assert [event.type for event in events] == [
        job_service_pb2.JOB_EVENT_TYPE_STARTED,
        job_service_pb2.JOB_EVENT_TYPE_SUCCEEDED,
    ]
    assert events[0].attempt == 1 and events[0].node == "shared"
    assert events[1].HasField("result") and events[1].state == job_pb2.JOB_STATE_SUCCEEDED
    assert all(event.job_id == id and event.user_id == user and event.queue == queue for event in events)
    assert rest[-1].HasField("lifecycle"), "the terminal event is the last message"
    fractions = [message.progress.progress.fraction for message in rest if message.HasField("progress")]
    assert fractions == sorted(fractions) and all(0 <= fraction <= 1 for fraction in fractions)


def test_a_final_job_gives_its_snapshot_and_its_end(api, client, user):
    id = client.enqueue("test.echo", 1, user_id=user).id
    client.wait(id, timeout=30)
    messages = watch_raw(api, (id, 0))
    assert kinds(messages) == ["opened", "snapshot", "lifecycle", "snapshots_complete"]
    _, first, last, _ = messages
    assert first.snapshot.job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert not first.snapshot.job.HasField("result") and last.lifecycle.HasField("result")
    assert last.lifecycle.type == job_service_pb2.JOB_EVENT_TYPE_SUCCEEDED


def test_resuming_from_each_sequence_gives_exactly_the_missing_events(api, client, user):
    job = client.enqueue("test.fail", {"times": 2}, user_id=user, retry_policy=SOON)
    final = client.wait(job.id, timeout=30)
    assert final.state is JobState.SUCCEEDED and final.sequence == 7
    for after in range(1, 8):
        assert numbers(watch_raw(api, (job.id, after))) == list(range(after + 1, 8))
    types = [
        message.lifecycle.type for message in watch_raw(api, (job.id, 1)) if message.HasField("lifecycle")
    ]
    assert [JobEventType(value).name for value in types] == [
        "STARTED",
        "RETRY_SCHEDULED",
        "STARTED",
        "RETRY_SCHEDULED",
        "STARTED",
        "SUCCEEDED",
    ]
    with pytest.raises(grpc.RpcError) as caught:
        watch_raw(api, (job.id, 8))
    assert caught.value.code() is grpc.StatusCode.OUT_OF_RANGE


def test_events_say_why_and_when(client, user):
    job = client.enqueue("test.fail", {"times": 1}, user_id=user, retry_policy=SOON)
    with client.watch(job.id, after={job.id: 1}, timeout=PATIENCE_S) as watch:
        events = events_of(watch)
    failed = events[1]
    assert failed.type is JobEventType.RETRY_SCHEDULED and failed.state is JobState.PENDING
    assert failed.error is not None and failed.error.cause is FailureCause.HANDLER and failed.attempt == 1
    assert failed.due_at is not None and failed.at is not None
    assert abs((failed.due_at - failed.at).total_seconds() - 0.05) < 0.005
    assert [event.at for event in events] == sorted(event.at for event in events)


def test_a_cut_connection_is_resumed_with_exactly_the_missing_events(api, client, user):
    """With the official grpcio alone: read some, lose the call, ask for what came after."""
    queue = unique("held")
    client.pause(queue)
    jobs = [
        client.enqueue("test.fail", {"times": 2}, user_id=user, queue=queue, retry_policy=SOON).id
        for _ in range(3)
    ]
    request = job_service_pb2.WatchRequest(jobs=[{"job_id": id} for id in jobs])
    call = api.jobs.Watch(request, timeout=PATIENCE_S)
    seen: dict[str, list[int]] = {id: [] for id in jobs}
    client.resume(queue)
    for message in call:
        if message.HasField("snapshot"):
            seen[message.snapshot.job.id].append(message.snapshot.job.sequence)
        if message.HasField("lifecycle"):
            seen[message.lifecycle.job_id].append(message.lifecycle.sequence)
            if sum(map(len, seen.values())) >= 7:
                break
    call.cancel()
    # Everything happens while there is no watch.
    for id in jobs:
        client.wait(id, timeout=30)
    for message in watch_raw(api, *((id, seen[id][-1]) for id in jobs)):
        if message.HasField("lifecycle"):
            seen[message.lifecycle.job_id].append(message.lifecycle.sequence)
    assert all(sequences == list(range(sequences[0], 8)) for sequences in seen.values()), seen


def collect_through(proxy: Proxy, job_ids: list[str], cuts: int) -> list:
    """The items of a watch whose connection is cut after some of its events."""
    items = []
    with signalbox.Client(proxy.address) as client:
        with client.watch(job_ids, timeout=PATIENCE_S) as watch:
            for item in watch:
                items.append(item)
                if cuts and isinstance(item, signalbox.JobEvent):
                    cuts -= 1
                    proxy.cut()
    return items


def test_the_client_resumes_by_itself(client, user, proxy):
    jobs = [client.enqueue("test.fail", {"times": 2}, user_id=user, retry_policy=SOON).id for _ in range(5)]
    items = collect_through(proxy, jobs, cuts=6)
    for id in jobs:
        start = next(item.job.sequence for item in items if isinstance(item, Snapshot) and item.job.id == id)
        events = [event.sequence for event in events_of(items) if event.job_id == id]
        assert events == list(range(start + 1, 8))
    assert sum(isinstance(item, Snapshot) for item in items) == 5


async def test_the_asyncio_client_resumes_by_itself(client, user, proxy):
    job = client.enqueue("test.fail", {"times": 2}, user_id=user, retry_policy=SOON)
    async with signalbox.aio.Client(proxy.address) as patient:
        sequences = []
        async with patient.watch(job.id, after={job.id: 1}, timeout=PATIENCE_S) as watch:
            async for item in watch:
                if isinstance(item, signalbox.JobEvent):
                    sequences.append(item.sequence)
                    proxy.cut()
    assert sequences == [2, 3, 4, 5, 6, 7]


def test_a_users_watch_resumes_by_itself(client, proxy, user):
    """No event of a job is lost, also if the job ended while the watch was cut."""
    queue = unique("held")
    client.pause(queue)
    jobs = [client.enqueue("test.echo", n, user_id=user, queue=queue).id for n in range(3)]
    with signalbox.Client(proxy.address) as patient, patient.watch(user_id=user, timeout=PATIENCE_S) as watch:
        until(watch, is_complete)
        proxy.refuse()
        client.resume(queue)
        for id in jobs:
            client.wait(id, timeout=30)
        proxy.accept()
        events: list[signalbox.JobEvent] = []
        while len(events) < 6:
            events += events_of([next(watch)])
    for id in jobs:
        assert [event.sequence for event in events if event.job_id == id] == [2, 3]


@pytest.mark.parametrize("by", ["user", "queue", "both"])
def test_a_watch_of_a_user_or_queue_stays_open(client, user, by):
    queue = unique("queue")
    old = client.enqueue("test.noop", user_id=user, queue=queue, delay=FAR)
    scope = {"user": {"user_id": user}, "queue": {"queue": queue}, "both": {"user_id": user, "queue": queue}}
    with client.watch(**scope[by], timeout=PATIENCE_S) as watch:
        begin = until(watch, is_complete)
        assert [item.job.id for item in begin if isinstance(item, Snapshot)] == [old.id]
        for n in range(3):
            # A neighbour's job must not be seen.
            other_queue = unique("queue") if by != "user" else queue
            client.enqueue("test.noop", user_id=unique(), queue=other_queue)
            job = client.enqueue("test.echo", n, user_id=user, queue=queue)
            items = until(watch, is_event(JobEventType.SUCCEEDED))
            assert {event.job_id for event in events_of(items)} == {job.id}
            assert [event.sequence for event in events_of(items)] == [1, 2, 3]
        client.cancel(old.id)
        assert until(watch, is_event(JobEventType.CANCELLED))[-1].job_id == old.id


def test_a_thousand_jobs(client, user):
    jobs = [NewJob("test.noop", user_id=f"{user}-{n % 100}") for n in range(1_000)]
    ids = [item.job_id for item in client.enqueue_batch(jobs)]
    with client.watch(ids, after=dict.fromkeys(ids, 1), timeout=PATIENCE_S) as watch:
        events = events_of(watch)
    by_job: dict[str, list[int]] = {}
    for event in events:
        by_job.setdefault(event.job_id, []).append(event.sequence)
    assert by_job.keys() == set(ids) and all(sequences == [2, 3] for sequences in by_job.values())


def test_many_watch_the_same_job(client, user):
    queue = unique("held")
    client.pause(queue)
    id = client.enqueue("test.fail", {"times": 1}, user_id=user, queue=queue, retry_policy=SOON).id
    begun = threading.Barrier(33, timeout=PATIENCE_S)

    def follow(_: int) -> list[int]:
        with client.watch(id, timeout=PATIENCE_S) as watch:
            until(watch, is_complete)
            begun.wait()
            return [event.sequence for event in events_of(watch)]

    with ThreadPoolExecutor(32) as pool:
        followers = pool.map(follow, range(32))
        begun.wait()
        client.resume(queue)
        assert list(followers) == [[2, 3, 4, 5]] * 32


def test_progress_is_the_latest(client, user):
    queue = unique("held")
    client.pause(queue)
    id = client.enqueue("test.sleep", {"ms": 1_000, "steps": 5}, user_id=user, queue=queue).id
    with client.watch(id, timeout=PATIENCE_S) as watch:
        until(watch, is_complete)
        client.resume(queue)
        reports = [item for item in watch if isinstance(item, ProgressEvent)]
    assert reports and all(report.attempt == 1 and report.progress.total == 5 for report in reports)
    steps = [report.progress.done for report in reports]
    assert steps == sorted(set(steps)) and steps[-1] <= 5
    final = client.get(id)
    assert final.progress is not None and final.progress.done == 5 and final.progress.updated_at is not None


def test_a_slow_reader_misses_no_lifecycle_event(server, api, user):
    """1,500 reports while nobody reads; then everything that matters is there, in order."""
    with server.client(timeout=20) as client:
        queue = unique("held")
        client.pause(queue)
        jobs = [
            client.enqueue("test.sleep", {"ms": 500, "steps": 500}, user_id=user, queue=queue).id
            for _ in range(3)
        ]
        request = job_service_pb2.WatchRequest(jobs=[{"job_id": id} for id in jobs])
        call = api.jobs.Watch(request, timeout=PATIENCE_S)
        assert next(call).HasField("opened") and next(call).HasField("snapshot")
        client.resume(queue)
        for id in jobs:
            client.wait(id, timeout=30)
        messages = list(call)
    for id in jobs:
        own = [m.lifecycle.sequence for m in messages if m.HasField("lifecycle") and m.lifecycle.job_id == id]
        assert own == [2, 3]


def test_a_job_put_back_while_watched_goes_on(client, user):
    held = client.enqueue("test.noop", user_id=user, delay=FAR)
    job = client.enqueue("test.fail", {"permanent": True}, user_id=user)
    client.wait(job.id, timeout=30)
    with client.watch([held.id, job.id], timeout=PATIENCE_S) as watch:
        until(watch, is_complete)
        client.retry(job.id)
        items = until(watch, is_event(JobEventType.FAILED, job.id))
        assert [event.type.name for event in events_of(items)] == ["RETRIED", "STARTED", "FAILED"]
        client.cancel(held.id)
        assert [event.type for event in events_of(watch)] == [JobEventType.CANCELLED]


def test_the_same_job_twice_in_a_request(api, client, user):
    id = client.enqueue("test.noop", user_id=user, delay=FAR).id
    with pytest.raises(grpc.RpcError) as caught:
        watch_raw(api, (id, 1), (id.upper(), 0))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations(caught.value)) == ["jobs[1].job_id"]


@pytest.mark.parametrize("by", ["job", "user", "queue"])
def test_a_watch_resumes_where_its_token_was_sent(api, client, user, by):
    """With the official grpcio alone: no snapshot, and every event since the token, in order.

    Events from shortly before the token may come again, which clients drop by their sequence.
    """
    queue = unique("held")
    client.pause(queue)
    id = client.enqueue("test.echo", 1, user_id=user, queue=queue).id
    request = {
        "job": named(id),
        "user": job_service_pb2.WatchRequest(filter={"user_id": user}),
        "queue": job_service_pb2.WatchRequest(filter={"queue": queue}),
    }[by]
    call = api.jobs.Watch(request, timeout=PATIENCE_S)
    messages = [next(call) for _ in range(3)]
    assert kinds(messages) == ["opened", "snapshot", "snapshots_complete"]
    call.cancel()
    client.resume(queue)
    client.wait(id, timeout=30)
    request.resume_token = messages[2].resume_token
    call = api.jobs.Watch(request, timeout=PATIENCE_S)
    again = []
    for message in call:
        again.append(message)
        if message.lifecycle.state == job_pb2.JOB_STATE_SUCCEEDED:
            break
    call.cancel()
    assert again[0].opened.resumed and "snapshot" not in kinds(again)
    assert numbers(again) in ([2, 3], [1, 2, 3])


def test_a_token_is_for_the_same_jobs(api, client, user):
    first, second = (client.enqueue("test.noop", user_id=user, delay=FAR).id for _ in range(2))
    call = api.jobs.Watch(named(first), timeout=PATIENCE_S)
    token = [next(call) for _ in range(3)][-1].resume_token
    call.cancel()
    request = named(second)
    request.resume_token = token
    with pytest.raises(grpc.RpcError) as caught:
        list(api.jobs.Watch(request, timeout=PATIENCE_S))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations(caught.value)) == ["resume_token"]


def test_a_job_that_does_not_exist_is_named_in_the_stream(client, user):
    """If it is one of several; the watch of the others goes on."""
    unknown = str(uuid.uuid4())
    job = client.enqueue("test.echo", 1, user_id=user)
    with client.watch([unknown, job.id], timeout=PATIENCE_S) as watch:
        items = list(watch)
    assert [item.job_id for item in items if isinstance(item, JobRemoved)] == [unknown]
    assert events_of(items)[-1].type is JobEventType.SUCCEEDED
    with pytest.raises(signalbox.NotFound):
        list(client.watch(unknown, timeout=PATIENCE_S))


def test_a_watch_is_told_that_a_job_is_to_be_cancelled(client, user):
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        id = client.enqueue("test.sleep", {"ms": 60_000}, user_id=user).id
        until(watch, is_event(JobEventType.STARTED, id))
        client.cancel(id, note="not needed")
        events = events_of(until(watch, is_event(JobEventType.CANCELLED, id)))
    requested, cancelled = events
    assert requested.type is JobEventType.CANCEL_REQUESTED
    assert (requested.state, requested.sequence) == (JobState.RUNNING, 3)
    for event in events:
        assert event.error is not None and event.error.cause is FailureCause.CANCELLED
        assert event.error.message == "not needed"
    assert cancelled.sequence == 4


def test_a_heartbeat_comes_every_15_seconds(api, user):
    request = job_service_pb2.WatchRequest(filter={"user_id": user})
    call = api.jobs.Watch(request, timeout=PATIENCE_S)
    assert kinds([next(call), next(call)]) == ["opened", "snapshots_complete"]
    began = time.monotonic()
    heartbeat = next(call)
    assert heartbeat.HasField("heartbeat") and heartbeat.heartbeat.at.seconds > 0 and heartbeat.resume_token
    # From when the second message was read, which may be later than it was sent.
    assert 10 < time.monotonic() - began < 20
    call.cancel()
