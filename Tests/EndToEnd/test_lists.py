"""Pages of attempts, log lines, queues, nodes and limits, and the rules of filters and labels."""

from __future__ import annotations

import uuid

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from harness import detail_of, unique, violations
from signalbox.v1 import admin_service_pb2, job_pb2, job_service_pb2

TIMEOUT = 20


def enqueue(api, user: str, kind: str = "test.noop", **fields) -> job_service_pb2.EnqueueResponse:
    spec = job_pb2.JobSpec(kind=kind, user_id=user, **fields)
    return api.jobs.Enqueue(job_service_pb2.EnqueueRequest(job=spec), timeout=TIMEOUT)


def reason(error: grpc.RpcError) -> str:
    return detail_of(error, error_details_pb2.ErrorInfo).reason


def refusal(call, request: Message) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=TIMEOUT)
    return caught.value


def pages(call, request: Message, field: str) -> list[Message]:
    """The items of all pages."""
    items: list[Message] = []
    while True:
        page = call(request, timeout=TIMEOUT)
        items += getattr(page, field)
        if not page.next_page_token:
            return items
        request.page_token = page.next_page_token


def list_jobs(**fields) -> job_service_pb2.ListJobsRequest:
    size = fields.pop("page_size", 0)
    return job_service_pb2.ListJobsRequest(page_size=size, filter=job_pb2.JobFilter(**fields))


def test_jobs_of_any_of_several_kinds(api, user):
    noop, echo = (enqueue(api, user, kind, payload=b"1").job.id for kind in ("test.noop", "test.echo"))
    for kinds, expected in [
        (["test.noop"], {noop}),
        (["test.noop", "test.echo", "none"], {noop, echo}),
        (["none"], set()),
        ([], {noop, echo}),
    ]:
        jobs = pages(api.jobs.ListJobs, list_jobs(user_id=user, kinds=kinds, page_size=1), "jobs")
        assert {job.id for job in jobs} == expected


def test_a_filter_names_its_wrong_fields(api):
    error = refusal(api.jobs.ListJobs, list_jobs(kinds=["k"] * 33, labels={"a b": ""}, page_size=-1))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert set(violations(error)) == {"filter.kinds", "filter.labels", "page_size"}


@pytest.mark.parametrize("key", ["a b", "é", "-a", "signalbox.a", "signalbox/a", "k" * 64, ""])
def test_label_keys_that_are_refused(api, user, key):
    spec = job_pb2.JobSpec(kind="test.noop", user_id=user, labels={key: "v"})
    error = refusal(api.jobs.Enqueue, job_service_pb2.EnqueueRequest(job=spec))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT and set(violations(error)) == {"job.labels"}


@pytest.mark.parametrize("key", ["a", "0", "Team/a.b_c-d", "signalboxes", "k" * 63])
def test_label_keys_that_are_accepted(api, user, key):
    id = enqueue(api, user, labels={key: "é ü"}).job.id
    assert [job.id for job in pages(api.jobs.ListJobs, list_jobs(user_id=user, labels={key: "é ü"}), "jobs")] == [id]


def test_an_id_in_upper_case_is_returned_in_lower_case(api, user):
    id = str(uuid.uuid4())
    first = enqueue(api, user, job_id=id.upper())
    again = enqueue(api, user, job_id=id)
    assert first.job.id == again.job.id == id
    created, same = (
        job_service_pb2.ENQUEUE_DISPOSITION_CREATED,
        job_service_pb2.ENQUEUE_DISPOSITION_SAME_REQUEST,
    )
    assert (first.disposition, again.disposition) == (created, same)
    found = api.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=id.upper()), timeout=TIMEOUT)
    assert found.job.id == id
    # The key is no part of the content.
    assert enqueue(api, user, job_id=id, idempotency_key="key").disposition == same


def test_a_batch_names_the_sequence_of_existing_jobs(api, client, user):
    keys = [unique("key") for _ in range(2)]
    done = enqueue(api, user, idempotency_key=keys[0]).job.id
    client.wait(done, timeout=30)
    specs = [job_pb2.JobSpec(kind="test.noop", user_id=user, idempotency_key=key) for key in keys]
    answer = api.jobs.EnqueueBatch(job_service_pb2.EnqueueBatchRequest(jobs=specs), timeout=TIMEOUT).jobs
    assert [(job.created, job.sequence) for job in answer] == [(False, 3), (True, 1)]


def test_attempts_and_log_lines_of_a_job(api, client, user):
    id = enqueue(api, user, "test.echo", payload=b"1").job.id
    client.wait(id, timeout=30)
    whole = api.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=id), timeout=TIMEOUT).job
    request = job_service_pb2.ListAttemptsRequest(job_id=id, page_size=1)
    assert pages(api.jobs.ListAttempts, request, "attempts") == list(whole.attempts) != []
    lines = job_service_pb2.ListLogLinesRequest(job_id=id, page_size=1)
    assert pages(api.jobs.ListLogLines, lines, "lines") == list(whole.log)


def test_attempts_and_log_lines_of_no_job(api):
    id = str(uuid.uuid4())
    for call, request in [
        (api.jobs.ListAttempts, job_service_pb2.ListAttemptsRequest(job_id=id)),
        (api.jobs.ListLogLines, job_service_pb2.ListLogLinesRequest(job_id=id)),
    ]:
        error = refusal(call, request)
        assert error.code() == grpc.StatusCode.NOT_FOUND and reason(error) == "JOB_NOT_FOUND"


def test_queues(api, user):
    names = [unique("queue") for _ in range(3)]
    for name in names:
        assert reason(refusal(api.admin.GetQueue, admin_service_pb2.GetQueueRequest(queue=name))) == "QUEUE_NOT_FOUND"
        paused = api.admin.PauseQueue(admin_service_pb2.PauseQueueRequest(queue=name), timeout=TIMEOUT).queue
        assert (paused.name, paused.paused) == (name, True)
    enqueue(api, user, queue=names[0])
    found = pages(api.admin.ListQueues, admin_service_pb2.ListQueuesRequest(page_size=2), "queues")
    assert [queue.name for queue in found if queue.name in names] == sorted(names)
    assert not any(queue.HasField("stats") for queue in found)
    request = admin_service_pb2.GetQueueRequest(queue=names[0], include_stats=True)
    stats = api.admin.GetQueue(request, timeout=TIMEOUT).queue.stats
    assert (stats.queue, stats.pending, stats.not_due, stats.running) == (names[0], 1, 0, 0)
    for name in names:
        resumed = api.admin.ResumeQueue(admin_service_pb2.ResumeQueueRequest(queue=name), timeout=TIMEOUT).queue
        assert (resumed.name, resumed.paused) == (name, False)


def test_nodes(api):
    nodes = pages(api.admin.ListNodes, admin_service_pb2.ListNodesRequest(page_size=1), "nodes")
    assert nodes and any(node.alive for node in nodes)


def test_the_limit_of_a_user(api, user):
    def update(mask: list[str] | None = None, **fields) -> admin_service_pb2.UserLimit:
        return api.admin.UpdateUserLimit(change(mask, **fields), timeout=TIMEOUT).limit

    def change(mask: list[str] | None = None, **fields) -> admin_service_pb2.UpdateUserLimitRequest:
        limit = admin_service_pb2.UserLimit(user_id=user, **fields)
        return admin_service_pb2.UpdateUserLimitRequest(
            limit=limit, update_mask=None if mask is None else FieldMask(paths=mask)
        )

    assert update(max_running=0).max_running == 0
    assert update(["max_running"], max_running=7, running=99).max_running == 7
    listed = pages(api.admin.ListUserLimits, admin_service_pb2.ListUserLimitsRequest(user_id=user), "limits")
    assert [(limit.queue, limit.max_running, limit.overridden) for limit in listed] == [("default", 7, True)]
    assert not update(["max_running"]).overridden
    assert not pages(api.admin.ListUserLimits, admin_service_pb2.ListUserLimitsRequest(user_id=user), "limits")
    nothing = refusal(api.admin.UpdateUserLimit, change())
    assert set(violations(nothing)) == {"limit.max_running"}
    assert reason(refusal(api.admin.UpdateUserLimit, change(["running"], max_running=1))) == "MASK_INVALID"


def test_a_page_token_of_another_list(api, user):
    for _ in range(2):
        enqueue(api, user)
    request = list_jobs(user_id=user, page_size=1)
    request.page_token = api.jobs.ListJobs(request, timeout=TIMEOUT).next_page_token
    assert request.page_token
    request.filter.kinds.append("test.noop")
    assert reason(refusal(api.jobs.ListJobs, request)) == "PAGE_TOKEN_INVALID"
    queues = admin_service_pb2.ListQueuesRequest(page_token=request.page_token)
    assert reason(refusal(api.admin.ListQueues, queues)) == "PAGE_TOKEN_INVALID"
