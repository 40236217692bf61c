"""Enqueue and EnqueueBatch: what is new, what was there before, and what is refused."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
import pytest
import signalbox
from google.rpc import error_details_pb2
from harness import Api, detail_of, unique, violations
from signalbox import JobEventType, JobState, NewJob
from signalbox.v1 import job_pb2, job_service_pb2

FAR = timedelta(hours=1)


def enqueue(api: Api, **fields) -> job_service_pb2.EnqueueResponse:
    job = job_pb2.JobSpec(**{"kind": "test.noop", **fields})
    return api.jobs.Enqueue(job_service_pb2.EnqueueRequest(job=job), timeout=20)


def test_a_job_runs_and_gives_its_result(client, user):
    job = client.enqueue("test.echo", {"text": "é😀"}, user_id=user, labels={"a": "b"})
    assert job.created and job.job.state is JobState.PENDING and job.job.sequence == 1
    assert client.result(job.id, timeout=30) == {"text": "é😀"}
    final = client.get(job.id, include_payload=True)
    assert final.state is JobState.SUCCEEDED and final.attempt == 1 and final.sequence == 3
    assert final.payload == '{"text":"é😀"}'.encode() and final.labels == {"a": "b"}
    assert [attempt.outcome.name for attempt in final.attempts] == ["SUCCEEDED"]
    assert final.attempts[0].node == "shared" and final.error is None
    assert final.created_at <= final.started_at <= final.finished_at


def test_bytes_come_back_as_they_are(client, user):
    data = bytes(range(256)) * 16
    job = client.enqueue("test.echo", data, user_id=user)
    assert client.result(job.id, timeout=30) == data


def test_a_payload_and_result_of_a_mebibyte(client, user):
    data = bytes(1 << 20)
    job = client.enqueue("test.echo", data, user_id=user)
    assert client.result(job.id, timeout=30) == data


def test_an_id_is_made_of_version_7(api, user):
    answer = enqueue(api, user_id=user)
    assert answer.created and uuid.UUID(answer.job.id).version == 7


def test_the_callers_id_is_kept(api, user):
    id = str(uuid.uuid4())
    first = enqueue(api, user_id=user, job_id=id.upper())
    again = enqueue(api, user_id=user, job_id=id)
    assert first.job.id == again.job.id == id
    assert first.created and not again.created


def test_the_same_key_with_the_same_content_gives_the_first_job(api, user):
    fields = {"user_id": user, "idempotency_key": "k", "payload": b'{"a":1}', "labels": {"x": "1", "y": "2"}}
    first, again = enqueue(api, **fields), enqueue(api, **fields)
    assert first.created and not again.created and first.job.id == again.job.id
    assert first.job.idempotency_key == "k"


@pytest.mark.parametrize(
    "other",
    [
        {"payload": b"2"},
        {"kind": "test.echo"},
        {"priority": 1},
        {"queue": "other"},
        {"labels": {"a": "b"}},
        {"max_attempts": 9},
        {"delay": {"seconds": 5}},
        {"content_type": "text/plain"},
        {"retry_policy": {"factor": 3}},
        {"timeout": {"seconds": 5}},
    ],
    ids=lambda other: next(iter(other)),
)
@pytest.mark.parametrize("by", ["job_id", "idempotency_key"])
def test_other_content_already_exists(api, user, by, other):
    fields = {"user_id": user, "payload": b"1", by: str(uuid.uuid4())}
    first = enqueue(api, **fields)
    with pytest.raises(grpc.RpcError) as caught:
        enqueue(api, **{**fields, **other})
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    info = detail_of(caught.value, error_details_pb2.ResourceInfo)
    assert info is not None and info.resource_name == first.job.id


def test_an_id_belongs_to_one_user(api, user):
    id = str(uuid.uuid4())
    enqueue(api, user_id=user, job_id=id)
    with pytest.raises(grpc.RpcError) as caught:
        enqueue(api, user_id=unique(), job_id=id)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


def test_a_key_is_unique_per_user(api, user):
    first = enqueue(api, user_id=user, idempotency_key="k")
    other = enqueue(api, user_id=unique(), idempotency_key="k")
    assert first.created and other.created and first.job.id != other.job.id


def test_an_id_and_a_key_of_different_jobs(client, user):
    first = client.enqueue("test.noop", user_id=user, job_id=str(uuid.uuid4()))
    client.enqueue("test.noop", user_id=user, idempotency_key="k")
    with pytest.raises(signalbox.AlreadyExists):
        client.enqueue("test.noop", user_id=user, job_id=first.id, idempotency_key="k")


def test_the_same_key_at_the_same_time_makes_one_job(server, user):
    """However the two arrive: in one commit, or in two at once."""
    with server.client(timeout=20) as client, ThreadPoolExecutor(16) as pool:
        for key in range(10):
            calls = [
                pool.submit(client.enqueue, "test.noop", user_id=user, idempotency_key=str(key))
                for _ in range(16)
            ]
            answers = [call.result() for call in calls]
            assert len({answer.id for answer in answers}) == 1
            assert sum(answer.created for answer in answers) == 1


def test_a_job_that_is_final_still_answers_for_its_key(client, user):
    job = client.enqueue("test.echo", 1, user_id=user, idempotency_key="k")
    client.wait(job.id, timeout=30)
    again = client.enqueue("test.echo", 1, user_id=user, idempotency_key="k")
    assert not again.created and again.id == job.id and again.job.state is JobState.SUCCEEDED


def test_a_batch_is_taken_in_order(client, user):
    known = client.enqueue("test.echo", 0, user_id=user, idempotency_key="0", delay=FAR)
    jobs = [NewJob("test.echo", n, user_id=user, idempotency_key=str(n), delay=FAR) for n in range(100)]
    items = client.enqueue_batch(jobs)
    assert [item.created for item in items] == [False] + [True] * 99
    assert items[0].job_id == known.id
    assert [client.get(item.job_id).idempotency_key for item in items[:5]] == ["0", "1", "2", "3", "4"]


def test_ten_thousand_jobs_at_once(client, user):
    queue = unique("big")
    client.pause(queue)
    jobs = [NewJob("test.noop", user_id=f"{user}-{n % 100}", queue=queue) for n in range(10_000)]
    items = client.enqueue_batch(jobs, timeout=60)
    assert len({item.job_id for item in items}) == 10_000 and all(item.created for item in items)
    assert client.get_queue(queue, include_stats=True).stats.pending == 10_000
    # And again: nothing is new.
    again = client.enqueue_batch(
        [
            NewJob("test.noop", user_id=f"{user}-{n % 100}", queue=queue, job_id=items[n].job_id)
            for n in range(99)
        ]
    )
    assert not any(item.created for item in again)


def test_a_batch_is_all_or_none(client, user):
    taken = client.enqueue("test.echo", 1, user_id=user, idempotency_key="taken", delay=FAR)
    jobs = [NewJob("test.noop", user_id=user, delay=FAR) for _ in range(5)]
    with pytest.raises(signalbox.AlreadyExists) as caught:
        client.enqueue_batch(
            [*jobs, NewJob("test.echo", 2, user_id=user, idempotency_key="taken", delay=FAR)]
        )
    assert caught.value.job_id == taken.id and "jobs[5]" in caught.value.message
    with pytest.raises(signalbox.InvalidArgument) as wrong:
        client.enqueue_batch([*jobs, NewJob("test.noop", user_id="")])
    assert wrong.value.violations[0].field == "jobs[5].user_id"
    assert [job.id for job in client.list(user_id=user)] == [taken.id]


def test_the_same_key_twice_in_a_batch(client, user):
    same = NewJob("test.noop", user_id=user, idempotency_key="k", delay=FAR)
    items = client.enqueue_batch([same, same])
    assert items[0].job_id == items[1].job_id and [item.created for item in items] == [True, False]
    other = NewJob("test.noop", user_id=user, idempotency_key="l", delay=FAR)
    unlike = NewJob("test.noop", user_id=user, idempotency_key="l", delay=FAR, priority=1)
    with pytest.raises(signalbox.AlreadyExists):
        client.enqueue_batch([other, unlike])
    assert len(list(client.list(user_id=user))) == 1


def test_a_payload_over_the_limit_in_a_batch(api, user):
    small = job_pb2.JobSpec(kind="test.noop", user_id=user)
    large = job_pb2.JobSpec(
        kind="test.noop", user_id=user, payload=b"x" * ((1 << 20) + 1), content_type="a/b"
    )
    with pytest.raises(grpc.RpcError) as caught:
        api.jobs.EnqueueBatch(job_service_pb2.EnqueueBatchRequest(jobs=[small, large]), timeout=20)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_every_enqueue_is_committed_when_many_come_at_once(server, user):
    queue = unique("many")
    with server.client(timeout=30) as client, ThreadPoolExecutor(32) as pool:
        client.pause(queue)
        ids = list(pool.map(lambda n: client.enqueue("test.noop", user_id=user, queue=queue).id, range(500)))
        assert len(set(ids)) == 500
        assert {job.id for job in client.list(user_id=user, page_size=1_000)} == set(ids)


def test_an_enqueue_event_says_what_was_enqueued(client, user):
    with client.watch(user_id=user, timeout=30) as watch:
        next(item for item in watch if isinstance(item, signalbox.SnapshotsComplete))
        job = client.enqueue("test.noop", user_id=user, delay=FAR)
        event = next(watch)
    assert isinstance(event, signalbox.JobEvent) and event.type is JobEventType.ENQUEUED
    assert (event.job_id, event.sequence, event.kind, event.user_id) == (job.id, 1, "test.noop", user)
    assert event.due_at == job.job.due_at


def test_violations_reach_the_raw_caller_too(api):
    with pytest.raises(grpc.RpcError) as caught:
        enqueue(api, user_id="")
    assert violations(caught.value) == {"job.user_id": "is required"}
