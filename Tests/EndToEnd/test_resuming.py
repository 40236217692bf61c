"""Watch: resume tokens, what is removed, and what opens a watch; with the official grpcio alone."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest
from harness import PATIENCE_S, Api, Cluster, Server, unique, violations
from signalbox.v1 import admin_service_pb2, job_pb2, job_service_pb2

WatchRequest = job_service_pb2.WatchRequest


def enqueue(
    api: Api, user: str, queue: str = "default", kind: str = "test.noop", payload: object = None, id: str = ""
) -> str:
    spec = job_pb2.JobSpec(kind=kind, user_id=user, queue=queue, job_id=id)
    spec.retry_policy.initial_delay.FromMilliseconds(50)
    if payload is not None:
        spec.payload = json.dumps(payload).encode()
    request = job_service_pb2.EnqueueRequest(job=spec)
    return api.jobs.Enqueue(request, timeout=PATIENCE_S).job.id


@contextmanager
def held(api: Api) -> Iterator[str]:
    """A queue in which no job starts before the end of the block."""
    queue = unique("held")
    api.admin.PauseQueue(admin_service_pb2.PauseQueueRequest(queue=queue))
    try:
        yield queue
    finally:
        api.admin.ResumeQueue(admin_service_pb2.ResumeQueueRequest(queue=queue))


def named(*jobs: str, token: str = "", log: bool = False) -> WatchRequest:
    return WatchRequest(jobs=[{"job_id": id} for id in jobs], resume_token=token, include_log=log)


def filtered(token: str = "", **fields: object) -> WatchRequest:
    return WatchRequest(filter=job_pb2.JobFilter(**fields), resume_token=token)


class Watch:
    """One watch, and the latest token that it has sent."""

    def __init__(self, api: Api, request: WatchRequest) -> None:
        self.call = api.jobs.Watch(request, timeout=PATIENCE_S)
        self.opened = next(self.call).opened
        self.token = ""

    def __iter__(self) -> Iterator[job_service_pb2.WatchResponse]:
        for message in self.call:
            self.token = message.resume_token or self.token
            yield message

    def beginning(self) -> list[job_service_pb2.WatchResponse]:
        """What comes before the snapshots are complete."""
        messages = []
        for message in self:
            if message.HasField("snapshots_complete"):
                return messages
            messages.append(message)
        raise AssertionError("the watch has ended")

    def cut(self) -> str:
        self.call.cancel()
        return self.token


def cut_at_once(api: Api, request: WatchRequest) -> str:
    watch = Watch(api, request)
    watch.beginning()
    return watch.cut()


def wait(api: Api, *jobs: str) -> None:
    """Returns when all jobs are final."""
    for _ in api.jobs.Watch(named(*jobs), timeout=PATIENCE_S):
        pass


def sequences(messages: list[job_service_pb2.WatchResponse], id: str) -> list[int]:
    return [m.lifecycle.sequence for m in messages if m.HasField("lifecycle") and m.lifecycle.job_id == id]


def test_what_opens_a_watch(api, user):
    id = enqueue(api, user)
    wait(api, id)
    for request in (named(id), filtered(user_id=user)):
        watch = Watch(api, request)
        assert not watch.opened.resumed and watch.opened.heartbeat_interval.ToSeconds() == 15
        watch.beginning()
        assert watch.token and len(watch.token) <= 16_384
        watch.cut()


def test_named_jobs_resume_without_a_gap(api, user):
    """The token is older than the events that came before the cut, so these may come again, and none is missing."""
    with held(api) as queue:
        jobs = [enqueue(api, user, queue, "test.fail", {"times": 2}) for _ in range(3)]
        watch = Watch(api, named(*jobs))
        watch.beginning()
    seen = {id: [1] for id in jobs}
    for message in watch:
        if message.HasField("lifecycle"):
            seen[message.lifecycle.job_id].append(message.lifecycle.sequence)
            if sum(map(len, seen.values())) >= 7:
                break
    token = watch.cut()
    wait(api, *jobs)
    again = Watch(api, named(*reversed(jobs), token=token))
    assert again.opened.resumed
    rest = list(again)
    assert again.call.code() is grpc.StatusCode.OK
    assert not any(message.HasField("snapshot") for message in rest)
    for id in jobs:
        own = sequences(rest, id)
        assert own == list(range(own[0], 8)) and own[0] <= seen[id][-1] + 1
    # All was sent before the last token.
    assert not [m for m in Watch(api, named(*jobs, token=again.token)) if m.HasField("lifecycle")]


def test_a_users_watch_resumes_with_what_has_ended(api, user):
    with held(api) as queue:
        jobs = [enqueue(api, user, queue) for _ in range(20)]
        watch = Watch(api, filtered(user_id=user))
        assert {m.snapshot.job.id for m in watch.beginning()} == set(jobs)
        token = watch.cut()
        late = enqueue(api, user, queue)
        enqueue(api, unique("neighbour"), queue)
    wait(api, *jobs, late)
    again = Watch(api, filtered(user_id=user, token=token))
    assert again.opened.resumed
    missed = again.beginning()
    assert {m.lifecycle.job_id for m in missed if m.HasField("lifecycle")} == {*jobs, late}
    assert all(sequences(missed, id) == [2, 3] for id in jobs)
    assert sequences(missed, late) == [1, 2, 3]
    # It follows what comes next, and its own token leads on.
    next_one = enqueue(api, user)
    for message in again:
        if message.HasField("lifecycle") and message.lifecycle.sequence == 3:
            assert message.lifecycle.job_id == next_one
            break
    third = Watch(api, filtered(user_id=user, token=again.cut()))
    assert third.opened.resumed
    assert {m.lifecycle.job_id for m in third.beginning() if m.HasField("lifecycle")} == {next_one}
    third.cut()


def test_missing_jobs_are_removed_from_the_watch(api, user):
    with held(api) as queue:
        id = enqueue(api, user, queue)
        missing = str(uuid.uuid4())
        watch = Watch(api, named(missing, id))
        first, second = watch.beginning()
        assert first.removed.job_id == missing and second.snapshot.job.id == id
    assert sequences(list(watch), id) == [2, 3]
    assert watch.call.code() is grpc.StatusCode.OK
    with pytest.raises(grpc.RpcError) as caught:
        next(api.jobs.Watch(named(missing), timeout=PATIENCE_S))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("token", ["garbage", "AQ", "=" * 16_384, "ü"])
def test_a_token_that_cannot_be_read_begins_anew(api, user, token):
    with held(api) as queue:
        id = enqueue(api, user, queue)
        for request in (named(id, token=token), filtered(user_id=user, token=token)):
            watch = Watch(api, request)
            assert not watch.opened.resumed
            assert [m.snapshot.job.id for m in watch.beginning()] == [id]
            watch.cut()


def test_tokens_of_other_requests_are_refused(api, user):
    with held(api) as queue:
        one, two = enqueue(api, user, queue), enqueue(api, user, queue)
        of_jobs, of_user = cut_at_once(api, named(one, two)), cut_at_once(api, filtered(user_id=user))
        for request in (
            named(one, token=of_jobs),
            named(one, two, token=of_user),
            filtered(user_id=user, token=of_jobs),
            filtered(user_id=user, queue=queue, token=of_user),
            filtered(user_id=unique(), token=of_user),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                next(api.jobs.Watch(request, timeout=PATIENCE_S))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert list(violations(caught.value)) == ["resume_token"]


def remove(cluster: Cluster, server: Server, condition: str) -> None:
    """Removes jobs as their retention does."""
    assert server.database_url
    cluster.query(
        server.database_url,
        f"WITH gone AS (DELETE FROM job WHERE {condition} RETURNING number), "
        "live_gone AS (DELETE FROM live USING gone WHERE live.number = gone.number) "
        "DELETE FROM finished USING gone WHERE finished.number = gone.number",
    )


def test_an_id_that_is_used_again_while_away_begins_anew(cluster, server, api, user):
    """The new job has come further than the token says of the old one."""
    with held(api) as queue:
        old = enqueue(api, user, queue)
        other = enqueue(api, user, queue)
        token = cut_at_once(api, named(old, other))
        alone = cut_at_once(api, named(old))
        remove(cluster, server, f"id = '{old}'")
        assert enqueue(api, user, kind="test.fail", payload={"times": 1}, id=old) == old
        wait(api, old)
        for watch in (Watch(api, named(old, other, token=token)), Watch(api, named(old, token=alone))):
            assert not watch.opened.resumed
            snapshot = next(m.snapshot.job for m in watch.beginning() if m.snapshot.job.id == old)
            assert snapshot.kind == "test.fail" and snapshot.sequence == 5
            watch.cut()


def test_a_removed_id_that_is_used_again_has_all_events(cluster, server, api, user):
    """The token is from after the watch said that the first job was removed."""
    with held(api) as queue:
        other, id = enqueue(api, user, queue), str(uuid.uuid4())
        watch = Watch(api, named(id, other))
        assert [m.removed.job_id for m in watch.beginning() if m.HasField("removed")] == [id]
        token = watch.cut()
        enqueue(api, user, id=id)
        wait(api, id)
        again = Watch(api, named(id, other, token=token))
        assert again.opened.resumed
        assert sequences(again.beginning(), id) == [1, 2, 3]
        again.cut()


def test_a_token_with_too_many_changes_since_begins_anew(cluster, server, api, user):
    """A resume reads at most 10,000 jobs. What happened since is in the snapshots."""
    with held(api) as queue:
        first = enqueue(api, user, queue)
        token = cut_at_once(api, filtered(user_id=user))
        spec = job_pb2.JobSpec(kind="test.noop", user_id=user, queue=queue)
        for count in (10_000, 1):
            batch = job_service_pb2.EnqueueBatchRequest(jobs=[spec] * count)
            assert len(api.jobs.EnqueueBatch(batch, timeout=PATIENCE_S).jobs) == count
        watch = Watch(api, filtered(user_id=user, token=token))
        assert not watch.opened.resumed
        messages = [next(watch.call) for _ in range(20)]
        assert messages[0].snapshot.job.id == first
        assert all(m.snapshot.job.state == job_pb2.JOB_STATE_PENDING for m in messages)
        watch.cut()
        # The token cannot be used, but it still has to be of the same request.
        with pytest.raises(grpc.RpcError) as caught:
            next(api.jobs.Watch(filtered(queue=queue, token=token), timeout=PATIENCE_S))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert list(violations(caught.value)) == ["resume_token"]
        # So that the other tests do not wait for them.
        remove(cluster, server, f"user_id = '{user}'")


def test_the_log_goes_on(api, user):
    id = enqueue(api, user, kind="test.sleep", payload={"ms": 10})
    wait(api, id)
    lines = [n for m in Watch(api, named(id, log=True)) for n in (line.number for line in m.log.lines)]
    after = WatchRequest(jobs=[{"job_id": id, "after_log_line": 1}], include_log=True)
    rest = [n for m in Watch(api, after) for n in (line.number for line in m.log.lines)]
    assert rest == [number for number in lines if number > 1]


@pytest.mark.parametrize(
    ("filter", "field"),
    [
        ({}, "filter"),
        ({"user_id": "u", "kinds": ["k"]}, "filter.kinds"),
        ({"user_id": "u", "states": [job_pb2.JOB_STATE_PENDING]}, "filter.states"),
        ({"queue": "q", "labels": {"a": "b"}}, "filter.labels"),
        ({"queue": "q", "created_from": {"seconds": 1}}, "filter.created_from"),
        ({"queue": "q", "created_to": {"seconds": 1}}, "filter.created_to"),
        ({"queue": "a queue"}, "filter.queue"),
    ],
)
def test_filters_that_cannot_be_watched(api, filter, field):
    with pytest.raises(grpc.RpcError) as caught:
        next(api.jobs.Watch(filtered(**filter), timeout=PATIENCE_S))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations(caught.value)) == [field]


@pytest.mark.parametrize("field", ["after_sequence", "after_log_line"])
def test_numbers_below_zero(api, user, field):
    id = enqueue(api, user)
    with pytest.raises(grpc.RpcError) as caught:
        next(api.jobs.Watch(WatchRequest(jobs=[{"job_id": id, field: -1}]), timeout=PATIENCE_S))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations(caught.value)) == [f"jobs[0].{field}"]
