"""Both clients against the real service."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from authority import LOOPBACK, Authority
from harness import BINARY, PATIENCE_S, Server, events_of, is_complete, is_event, until

import signalbox
import signalbox.aio
from signalbox import (
    EnqueueDisposition,
    FailureCause,
    JobEvent,
    JobEventType,
    JobRemoved,
    JobState,
    LogLevel,
    NewJob,
    Queue,
    RetryPolicy,
    Snapshot,
    SnapshotsComplete,
    UserLimit,
)

pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(not BINARY.exists(), reason=f"{BINARY} is not built"),
]

FAR = timedelta(hours=1)


@pytest.fixture
async def aclient(server):
    async with signalbox.aio.Client(server.address, timeout=20) as client:
        yield client


def test_from_enqueue_to_result(client, user):
    job = client.enqueue("test.echo", {"a": ["é", 1, None]}, user_id=user, labels={"k": "v"}, priority=5)
    assert job.created and uuid.UUID(job.id).version == 7 and job.job.labels == {"k": "v"}
    assert client.result(job.id, timeout=30) == {"a": ["é", 1, None]}


async def test_from_enqueue_to_result_for_asyncio(aclient, user):
    jobs = await asyncio.gather(*(aclient.enqueue("test.echo", n, user_id=user) for n in range(20)))
    results = await asyncio.gather(*(aclient.result(job.id, timeout=30) for job in jobs))
    assert results == list(range(20))


def test_every_option(client, user):
    policy = RetryPolicy(timedelta(seconds=2), 3, timedelta(minutes=5), 0.25)
    at = datetime.now(timezone.utc) + FAR
    job = client.enqueue(
        "test.sleep",
        {"ms": 1},
        user_id=user,
        queue="options",
        job_id=str(uuid.uuid4()),
        idempotency_key="key",
        priority=-7,
        run_at=at,
        max_attempts=9,
        retry_policy=policy,
        job_timeout=timedelta(minutes=2),
        soft_timeout=timedelta(minutes=1),
        labels={"a": "b"},
    ).job
    assert (job.queue, job.priority, job.max_attempts, job.idempotency_key) == ("options", -7, 9, "key")
    assert job.retry_policy == policy and job.due_at == at
    assert (job.timeout, job.soft_timeout) == (timedelta(minutes=2), timedelta(minutes=1))
    client.cancel(job.id)


def test_enqueue_says_whether_it_is_new(client, user):
    first = client.enqueue("test.noop", user_id=user, idempotency_key="k")
    again = client.enqueue("test.noop", user_id=user, idempotency_key="k")
    assert first.created and not again.created and again.id == first.id


def test_errors_tell_what_is_wrong(client, user):
    with pytest.raises(signalbox.InvalidArgument) as invalid:
        client.enqueue("no such kind", user_id="", priority=1_000)
    assert {violation.field for violation in invalid.value.violations} == {
        "job.kind",
        "job.user_id",
        "job.priority",
    }
    first = client.enqueue("test.echo", 1, user_id=user, idempotency_key="k")
    with pytest.raises(signalbox.AlreadyExists) as exists:
        client.enqueue("test.echo", 2, user_id=user, idempotency_key="k")
    assert exists.value.job_id == first.id
    with pytest.raises(signalbox.NotFound):
        client.get(str(uuid.uuid4()))
    with pytest.raises(signalbox.ResourceExhausted):
        client.enqueue("test.echo", bytes((1 << 20) + 1), user_id=user)
    with pytest.raises(signalbox.NotFound):
        list(client.watch(str(uuid.uuid4()), timeout=20))
    with pytest.raises(signalbox.OutOfRange):
        list(client.watch(first.id, after={first.id: 99}, timeout=20))


def test_nobody_listens():
    with signalbox.Client("127.0.0.1:1") as client:
        with pytest.raises(signalbox.Unavailable):
            client.get(str(uuid.uuid4()), timeout=1)
        with pytest.raises((signalbox.Unavailable, signalbox.DeadlineExceeded)):
            client.wait(str(uuid.uuid4()), timeout=1)


async def test_the_same_for_asyncio(aclient, user):
    with pytest.raises(signalbox.FailedPrecondition) as unknown:
        await aclient.enqueue("no.such.kind", user_id=user)
    assert unknown.value.reason == "KIND_UNKNOWN"
    job = await aclient.enqueue("test.fail", {"permanent": True}, user_id=user)
    with pytest.raises(signalbox.JobFailed) as failed:
        await aclient.result(job.id, timeout=30)
    error = failed.value.job.error
    assert error is not None and error.cause is FailureCause.HANDLER_PERMANENT
    with pytest.raises(signalbox.FailedPrecondition):
        waiting = await aclient.enqueue("test.noop", user_id=user, delay=FAR)
        await aclient.retry(waiting.id)
    cancelled = await aclient.cancel(waiting.id, note="enough", expected_sequence=1)
    assert cancelled.state is JobState.CANCELLED and cancelled.error is not None
    assert (cancelled.error.cause, cancelled.error.message) == (FailureCause.CANCELLED, "enough")
    with pytest.raises(signalbox.JobCancelled):
        await aclient.result(waiting.id, timeout=30)
    with pytest.raises(signalbox.Aborted) as stale:
        await aclient.retry(job.id, expected_sequence=1)
    sequence = failed.value.job.sequence
    metadata = stale.value.metadata
    assert (metadata["expected"], metadata["actual"]) == ("1", str(sequence))
    assert (await aclient.retry(job.id, expected_sequence=sequence)).state is JobState.PENDING


async def test_batch_list_and_pages_for_asyncio(aclient, user):
    items = await aclient.enqueue_batch([NewJob("test.noop", user_id=user, delay=FAR) for _ in range(25)])
    listed = [job.id async for job in aclient.list(user_id=user, page_size=10)]
    assert listed == [item.job_id for item in reversed(items)]
    page = await aclient.list_page(user_id=user, page_size=10)
    assert len(page.jobs) == 10 and page.next_page_token


async def test_administration_for_asyncio(aclient, user):
    queue = f"queue-{user}"
    assert (await aclient.pause(queue)).paused
    job = await aclient.enqueue("test.echo", 1, user_id=user, queue=queue)
    found = await aclient.get_queue(queue, include_stats=True)
    assert found.paused and found.stats is not None and found.stats.pending == 1
    assert Queue(queue, True, None) in [item async for item in aclient.list_queues(page_size=1)]
    assert not (await aclient.resume(queue)).paused
    assert await aclient.result(job.id, timeout=30) == 1
    assert (await aclient.update_limit(user, 9, queue=queue)).max_running == 9
    limit = await aclient.get_limit(user, queue=queue)
    assert limit == UserLimit(user, queue, 9, overridden=True, running=0)
    assert [item async for item in aclient.list_limits(user_id=user)] == [limit]
    assert (await aclient.update_limit(user, 0, queue=queue)).max_running == 0
    assert not (await aclient.update_limit(user, None, queue=queue)).overridden
    assert [node.alive async for node in aclient.list_nodes()].count(True) == 1
    assert await aclient.health()


def test_server_info(client, server):
    info = client.server_info()
    assert info.api_packages == ("signalbox.v1",) and info.node == server.name
    assert info.limits.max_payload_bytes == 1 << 20 and info.limits.retention == timedelta(days=7)
    assert info.limits.max_wait is None and info.features == ()
    assert info.caller.source == "none" and info.caller.all_users and info.caller.users == ()
    assert abs(info.at - datetime.now(timezone.utc)) < timedelta(minutes=1)


async def test_server_info_for_asyncio(aclient, client):
    assert replace(await aclient.server_info(), at=None) == replace(client.server_info(), at=None)


def test_attempts_by_page(client, user):
    policy = RetryPolicy(timedelta(0), jitter=0.0)
    job = client.enqueue("test.fail", {"times": 2}, user_id=user, retry_policy=policy)
    assert job.disposition is EnqueueDisposition.CREATED
    final = client.wait(job.id, timeout=30)
    attempts = list(client.list_attempts(job.id, page_size=1))
    assert tuple(attempts) == final.attempts
    assert [(item.number, item.counted) for item in attempts] == [(1, True), (2, True), (3, True)]
    assert attempts[0].error is not None and attempts[0].error.cause is FailureCause.HANDLER
    assert (final.attempt, final.attempts_used) == (3, 3)

    # The kinds for tests write no lines; test_commands.py of the end-to-end tests has lines.
    assert list(client.list_log_lines(job.id, min_level=LogLevel.WARNING)) == []
    with pytest.raises(signalbox.NotFound):
        next(client.list_attempts(str(uuid.uuid4())))


def test_a_job_that_does_not_exist_does_not_end_the_watch_of_another(client, user):
    job, unknown = client.enqueue("test.echo", 1, user_id=user), str(uuid.uuid4())
    with client.watch([unknown, job.id], timeout=30) as watch:
        items = list(watch)
    assert JobRemoved(unknown) in items and events_of(items)[-1].type is JobEventType.SUCCEEDED


def test_a_watch_goes_on_from_a_token_in_another_process(client, user):
    """A new client stands for another process: the server cannot tell them apart."""
    held = client.enqueue("test.noop", user_id=user, delay=FAR)
    with client.watch(user_id=user, timeout=30) as watch:
        until(watch, is_complete)
        token = watch.resume_token
    assert token
    client.cancel(held.id)
    done = client.enqueue("test.echo", 1, user_id=user)
    client.wait(done.id, timeout=30)
    with client.watch(user_id=user, resume_token=token, timeout=30) as watch:
        items = until(watch, is_event(JobEventType.SUCCEEDED, done.id))
    # Events, not snapshots: the watch goes on where the token was sent.
    assert not [item for item in items if isinstance(item, Snapshot)]
    events = {(event.job_id, event.sequence) for event in events_of(items)}
    # The event before the token may come again.
    assert events - {(held.id, 1)} == {(held.id, 2), (done.id, 1), (done.id, 2), (done.id, 3)}


def test_a_watch_from_snapshot_to_end(client, user):
    job = client.enqueue("test.fail", {"times": 1}, user_id=user, retry_policy=RetryPolicy(timedelta(0)))
    with client.watch(job.id, timeout=30) as watch:
        items = list(watch)
        assert watch.sequences == {job.id: 5}
    assert isinstance(items[0], Snapshot) and any(isinstance(item, SnapshotsComplete) for item in items)
    sequences = [item.sequence for item in items if isinstance(item, JobEvent)]
    # If the job was final already, there is only its last event.
    assert sequences == list(range(min(items[0].job.sequence + 1, 5), 6))


def test_a_watch_of_a_job_that_was_final_already_gives_its_result(client, user):
    job = client.enqueue("test.echo", {"a": 1}, user_id=user)
    client.wait(job.id, timeout=30)
    first, *rest = client.watch(job.id, timeout=30)
    assert isinstance(first, Snapshot) and first.job.state is JobState.SUCCEEDED
    (event,) = events_of(rest)
    assert (
        event.type is JobEventType.SUCCEEDED and event.result is not None and event.result.json() == {"a": 1}
    )
    with client.watch(job.id, after={job.id: event.sequence}, timeout=30) as watch:
        assert [type(item) for item in watch] == [SnapshotsComplete]


async def test_tasks_that_watch_can_be_cancelled(aclient, user):
    began = asyncio.Event()

    async def follow() -> None:
        async for item in aclient.watch(user_id=user):
            if isinstance(item, SnapshotsComplete):
                began.set()

    task = asyncio.create_task(follow())
    await asyncio.wait_for(began.wait(), 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_two_watches_of_one_client(aclient, user):
    async with aclient.watch(user_id=user, timeout=30) as watch:
        async for item in watch:
            if isinstance(item, SnapshotsComplete):
                job = await aclient.enqueue("test.echo", 1, user_id=user)
                assert (await aclient.wait(job.id, timeout=30)).state is JobState.SUCCEEDED
            if isinstance(item, JobEvent) and item.type is JobEventType.SUCCEEDED:
                break


def test_a_users_watch_goes_on_although_a_job_still_runs(client, proxy, user):
    """The watch fetches the events that it missed while it was cut; one of those jobs still runs and delays nothing."""
    queue = f"queue-{user}"
    client.pause(queue)
    long = client.enqueue("test.sleep", {"ms": 60_000}, user_id=user, queue=queue).id
    short = client.enqueue("test.echo", 1, user_id=user, queue=queue).id
    with signalbox.Client(proxy.address) as patient, patient.watch(user_id=user, timeout=PATIENCE_S) as watch:
        until(watch, is_complete)
        proxy.refuse()
        client.resume(queue)
        client.wait(short, timeout=30)
        with client.watch(long, after={long: 1}, timeout=30) as started:
            until(started, is_event(JobEventType.STARTED))
        proxy.accept()
        missed = events_of([next(watch) for _ in range(3)])
        assert sorted((event.job_id, event.sequence) for event in missed) == sorted(
            [(long, 2), (short, 2), (short, 3)]
        )
        later = client.enqueue("test.echo", 2, user_id=user, queue=queue).id
        until(watch, is_event(JobEventType.SUCCEEDED, later))
    client.cancel(long)


@pytest.fixture(scope="module")
def secured(cluster, tmp_path_factory):
    """A server that talks TLS and asks for a token, with the authority's file and the token."""
    authority = Authority()
    pair = authority.issue(*LOOPBACK)
    token = "sbx_" + "a" * 43
    tokens = tmp_path_factory.mktemp("tokens") / "tokens.yaml"
    digest = hashlib.sha256(token.encode()).hexdigest()
    scopes = "[jobs.enqueue, jobs.read, jobs.cancel]"
    tokens.write_text(
        f"tokens:\n  - {{name: importer, hash: 'sha256:{digest}', users: all, scopes: {scopes}}}\n"
    )
    tls = ("--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key))
    server = Server(cluster.database(), arguments=[*tls, "--auth-tokens", str(tokens)])
    yield server, authority.path, token
    server.close()
    authority.close()


def test_tls_and_a_token(secured, user):
    server, authority, token = secured
    tls = signalbox.TLS(ca=authority)
    with server.client(token=token, tls=tls, timeout=20) as client:
        job = client.enqueue("test.sleep", {"ms": 50}, user_id=user)
        with client.watch(job.id, timeout=30) as watch:
            assert events_of(watch)[-1].type is JobEventType.SUCCEEDED
    with server.client(tls=tls, timeout=20) as client, pytest.raises(signalbox.Unauthenticated):
        client.get(job.id)
    with server.client(token=token, timeout=20) as client, pytest.raises(signalbox.Unavailable):
        client.retry(job.id)
    assert token not in server.log()


async def test_tls_and_a_token_for_asyncio(secured, user):
    server, authority, token = secured
    tls = signalbox.TLS(ca=authority.read_bytes())

    async def renewed() -> str:
        return token

    async with signalbox.aio.Client(server.address, token=renewed, tls=tls, timeout=20) as client:
        job = await client.enqueue("test.sleep", {"ms": 50}, user_id=user)
        async with client.watch(job.id, timeout=30) as watch:
            items = [item async for item in watch]
        assert events_of(items)[-1].type is JobEventType.SUCCEEDED
    async with signalbox.aio.Client(server.address, token="unknown", tls=tls, timeout=20) as client:
        with pytest.raises(signalbox.Unauthenticated):
            async with client.watch(job.id, timeout=30) as watch:
                _ = [item async for item in watch]
