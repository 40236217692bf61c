"""Each rule of a job's description, as the caller hears of it when it is broken."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2
from harness import Api, detail_of, unique, violations
from signalbox.v1 import admin_service_pb2 as admin
from signalbox.v1 import job_pb2, job_service_pb2

YEAR = 366 * 86_400


def spec(**fields) -> job_pb2.JobSpec:
    return job_pb2.JobSpec(**{"kind": "test.noop", "user_id": "validation", **fields})


def refused(call, request) -> dict[str, str]:
    """The violations with which a request is refused."""
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=20)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, caught.value
    return violations(caught.value)


BAD = [
    ("kind", {"kind": ""}),
    ("kind", {"kind": "a" * 129}),
    ("kind", {"kind": "test noop"}),
    ("kind", {"kind": "test.nööp"}),
    ("kind", {"kind": "test.noop\0"}),
    ("user_id", {"user_id": ""}),
    ("user_id", {"user_id": "u" * 257}),
    ("user_id", {"user_id": "é" * 129}),
    ("user_id", {"user_id": "a\0b"}),
    ("user_id", {"user_id": "ada\n2026-11-30 warning signalbox: forged"}),
    ("user_id", {"user_id": "\x1b[31mada"}),
    ("user_id", {"user_id": "ada\x85"}),
    ("queue", {"queue": "q" * 129}),
    ("queue", {"queue": "a queue"}),
    ("payload", {"payload": b"{"}),
    ("payload", {"payload": b"{} {}"}),
    ("payload", {"payload": b"\xff"}),
    ("payload", {"payload": b"[1,]"}),
    ("payload", {"payload": b"01"}),
    ("payload", {"payload": b"[" * 100_000}),
    ("payload", {"payload": b'{"' + b"k" * 1025 + b'": 1}'}),
    ("content_type", {"content_type": "t" * 129}),
    ("content_type", {"content_type": "text/plain\r\nx: y"}),
    ("job_id", {"job_id": "not-a-uuid"}),
    ("job_id", {"job_id": "0190a5b0-0000-7000-8000-00000000000"}),
    ("job_id", {"job_id": "0190a5b0000070008000000000000000"}),
    ("job_id", {"job_id": "{0190a5b0-0000-7000-8000-000000000000}"}),
    ("idempotency_key", {"idempotency_key": "k" * 257}),
    ("idempotency_key", {"idempotency_key": "\0"}),
    ("idempotency_key", {"idempotency_key": "\x7f"}),
    ("labels", {"labels": {"a\tb": "v"}}),
    ("labels", {"labels": {"a": "v\n"}}),
    ("priority", {"priority": 101}),
    ("priority", {"priority": -101}),
    ("priority", {"priority": 2**31 - 1}),
    ("delay", {"delay": Duration(seconds=-1)}),
    ("delay", {"delay": Duration(nanos=-1)}),
    ("delay", {"delay": Duration(seconds=11 * YEAR)}),
    ("delay", {"delay": Duration(seconds=2**63 - 1, nanos=999_999_999)}),
    ("delay", {"delay": Duration(seconds=1, nanos=-1)}),
    ("run_at", {"run_at": Timestamp(seconds=253_402_300_800)}),
    ("run_at", {"run_at": Timestamp(seconds=-(2**63))}),
    ("run_at", {"run_at": Timestamp(seconds=4_102_444_800, nanos=-1)}),
    ("run_at", {"run_at": Timestamp(seconds=7_258_118_400)}),
    ("max_attempts", {"max_attempts": 101}),
    ("max_attempts", {"max_attempts": 2**31 - 1}),
    ("max_attempts", {"max_attempts": -1}),
    ("timeout", {"timeout": Duration()}),
    ("timeout", {"timeout": Duration(seconds=-5)}),
    ("timeout", {"timeout": Duration(seconds=31 * 86_400)}),
    ("soft_timeout", {"soft_timeout": Duration()}),
    ("soft_timeout", {"timeout": Duration(seconds=2), "soft_timeout": Duration(seconds=2)}),
    ("retry_policy.initial_delay", {"retry_policy": {"initial_delay": Duration(seconds=-1)}}),
    ("retry_policy.initial_delay", {"retry_policy": {"initial_delay": Duration(seconds=31 * 86_400)}}),
    ("retry_policy.factor", {"retry_policy": {"factor": 0.5}}),
    ("retry_policy.factor", {"retry_policy": {"factor": -1}}),
    ("retry_policy.factor", {"retry_policy": {"factor": 101}}),
    ("retry_policy.factor", {"retry_policy": {"factor": float("nan")}}),
    ("retry_policy.factor", {"retry_policy": {"factor": float("inf")}}),
    ("retry_policy.max_delay", {"retry_policy": {"max_delay": Duration(seconds=31 * 86_400)}}),
    ("retry_policy.jitter", {"retry_policy": {"jitter": 1.5}}),
    ("retry_policy.jitter", {"retry_policy": {"jitter": -0.1}}),
    ("retry_policy.jitter", {"retry_policy": {"jitter": float("nan")}}),
    ("labels", {"labels": {f"k{n}": "" for n in range(33)}}),
    ("labels", {"labels": {"": "v"}}),
    ("labels", {"labels": {"k" * 64: "v"}}),
    ("labels", {"labels": {"a key": "v"}}),
    ("labels", {"labels": {".k": "v"}}),
    ("labels", {"labels": {"signalbox.k": "v"}}),
    ("labels", {"labels": {"signalbox/k": "v"}}),
    ("labels", {"labels": {"k": "v" * 257}}),
    ("labels", {"labels": {"k": "a\0b"}}),
]


@pytest.mark.parametrize(("field", "fields"), BAD, ids=[f"{n}-{field}" for n, (field, _) in enumerate(BAD)])
def test_a_bad_field_is_named(api: Api, field, fields):
    request = job_service_pb2.EnqueueRequest(job=spec(**fields))
    found = refused(api.jobs.Enqueue, request)
    assert list(found) == [f"job.{field}"] and found[f"job.{field}"]


def test_every_bad_field_is_named_at_once(api: Api):
    request = job_service_pb2.EnqueueRequest(job=spec(kind="", user_id="", priority=500, max_attempts=500))
    assert set(refused(api.jobs.Enqueue, request)) >= {
        "job.kind",
        "job.user_id",
        "job.priority",
        "job.max_attempts",
    }


def test_a_request_without_a_job(api: Api):
    assert list(refused(api.jobs.Enqueue, job_service_pb2.EnqueueRequest())) == ["job"]


GOOD = [
    {"kind": "test.noop", "queue": "a.Z_9-/" + "q" * 121},
    {"user_id": "u" * 256},
    {"user_id": "日本語 😀\u200d\u00a0"},
    {"payload": b'{"a":[1,2.5e3,"\\u00e9",null,true]}'},
    {"payload": b" 3 "},
    {"payload": b"\x00\xff", "content_type": "application/octet-stream"},
    {"payload": b"", "content_type": "application/json"},
    {"payload": b"x" * (1 << 20), "content_type": "text/plain"},
    {"content_type": "t" * 128},
    {"priority": 100},
    {"priority": -100},
    {"delay": Duration(seconds=10 * 365 * 86_400)},
    {"delay": Duration()},
    {"run_at": Timestamp(seconds=0)},
    {"max_attempts": 100},
    {"timeout": Duration(nanos=1_000_000)},
    {"timeout": Duration(seconds=30 * 86_400), "soft_timeout": Duration(seconds=30 * 86_400 - 1)},
    {"retry_policy": {"initial_delay": Duration(), "factor": 1, "max_delay": Duration(), "jitter": 1}},
    {"retry_policy": {"factor": 100, "max_delay": Duration(seconds=30 * 86_400)}},
    {"labels": {f"{n:063}": "v" * 256 for n in range(32)}},
]


@pytest.mark.parametrize("fields", GOOD, ids=[f"{n}-{'-'.join(fields)}" for n, fields in enumerate(GOOD)])
def test_values_just_within_a_limit_are_accepted(api: Api, fields):
    # Paused, so that the jobs do not run.
    queue = fields.get("queue", unique("paused"))
    api.admin.PauseQueue(admin.PauseQueueRequest(queue=queue), timeout=20)
    request = job_service_pb2.EnqueueRequest(job=spec(**{"queue": queue, **fields}))
    answer = api.jobs.Enqueue(request, timeout=20)
    assert answer.created and answer.job.sequence == 1
    assert answer.job.state == job_pb2.JOB_STATE_PENDING
    for name, value in fields.items():
        if name in (
            "user_id",
            "content_type",
            "priority",
            "max_attempts",
            "labels",
            "timeout",
            "soft_timeout",
        ):
            assert getattr(answer.job, name) == value
    read = job_service_pb2.GetJobRequest(job_id=answer.job.id, include_payload=True)
    assert api.jobs.GetJob(read, timeout=20).job.payload == fields.get("payload", b"")


def test_defaults_are_filled_in(api: Api):
    request = job_service_pb2.EnqueueRequest(job=spec(delay=Duration(seconds=3600)))
    job = api.jobs.Enqueue(request, timeout=20).job
    assert job.queue == "default" and job.content_type == "application/json"
    assert job.max_attempts == 3 and job.priority == 0
    assert job.retry_policy.initial_delay.seconds == 5 and job.retry_policy.factor == 2
    assert job.retry_policy.max_delay.seconds == 3600 and job.retry_policy.jitter == 0
    assert job.due_at.ToMicroseconds() - job.created_at.ToMicroseconds() == 3_600_000_000


@pytest.mark.parametrize("size", [(1 << 20) + 1, 3 << 20, 16 << 20])
def test_a_payload_over_the_limit(api: Api, size):
    job = spec(payload=b"x" * size, content_type="text/plain")
    with pytest.raises(grpc.RpcError) as caught:
        api.jobs.Enqueue(job_service_pb2.EnqueueRequest(job=job), timeout=20)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_batch_names_index_and_field(api: Api):
    wrong = {2: {"labels": {"k": "v" * 300}}, 3: {"priority": 101}}
    request = job_service_pb2.EnqueueBatchRequest(jobs=[spec(**wrong.get(n, {})) for n in range(4)])
    assert set(refused(api.jobs.EnqueueBatch, request)) == {"jobs[2].labels", "jobs[3].priority"}


def test_a_kind_that_no_node_handles(api: Api):
    jobs = [spec(), spec(kind="no.such.kind")]
    with pytest.raises(grpc.RpcError) as caught:
        api.jobs.EnqueueBatch(job_service_pb2.EnqueueBatchRequest(jobs=jobs), timeout=20)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION, caught.value
    info = detail_of(caught.value, error_details_pb2.ErrorInfo)
    assert info.reason == "KIND_UNKNOWN" and info.metadata == {"kind": "no.such.kind", "field": "jobs[1].kind"}
    failure = detail_of(caught.value, error_details_pb2.PreconditionFailure)
    assert [(item.type, item.subject) for item in failure.violations] == [("KIND_UNKNOWN", "no.such.kind")]


@pytest.mark.parametrize("count", [0, 10_001])
def test_the_size_of_a_batch(api: Api, count):
    request = job_service_pb2.EnqueueBatchRequest(jobs=[spec()] * count)
    assert list(refused(api.jobs.EnqueueBatch, request)) == ["jobs"]


@pytest.mark.parametrize("id", ["", "nonsense", "\0"])
@pytest.mark.parametrize("method", ["GetJob", "Cancel", "Retry"])
def test_a_job_id_is_a_uuid(api: Api, method, id):
    kind = {
        "GetJob": job_service_pb2.GetJobRequest,
        "Cancel": job_service_pb2.CancelRequest,
        "Retry": job_service_pb2.RetryRequest,
    }[method]
    assert list(refused(getattr(api.jobs, method), kind(job_id=id))) == ["job_id"]


@pytest.mark.parametrize("method", ["GetJob", "Cancel", "Retry"])
def test_a_job_that_does_not_exist(api: Api, method):
    kind = getattr(job_service_pb2, f"{method}Request")
    id = "0190a5b0-0000-7000-8000-000000000000"
    with pytest.raises(grpc.RpcError) as caught:
        getattr(api.jobs, method)(kind(job_id=id), timeout=20)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert detail_of(caught.value, error_details_pb2.ResourceInfo).resource_name == id


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("filter.user_id", {"filter": {"user_id": "u" * 257}}),
        ("filter.queue", {"filter": {"queue": "q" * 129}}),
        ("filter.kinds[1]", {"filter": {"kinds": ["k", "k" * 129]}}),
        ("filter.kinds", {"filter": {"kinds": [f"k{n}" for n in range(33)]}}),
        ("filter.states", {"filter": {"states": [0]}}),
        ("filter.states", {"filter": {"states": [99]}}),
        ("filter.labels", {"filter": {"labels": {f"k{n}": "v" for n in range(9)}}}),
        ("filter.created_from", {"filter": {"created_from": Timestamp(seconds=-(2**62))}}),
        ("filter.created_to", {"filter": {"created_to": Timestamp(nanos=-1)}}),
        ("page_size", {"page_size": -1}),
        ("page_token", {"page_token": "not ours"}),
        ("page_token", {"page_token": "AAAAAAAAAAAAAAAAAAAAAA"}),
    ],
)
def test_a_bad_filter_is_named(api: Api, field, fields):
    assert list(refused(api.jobs.ListJobs, job_service_pb2.ListJobsRequest(**fields))) == [field]


def test_a_note_has_a_limit(api: Api):
    request = job_service_pb2.CancelRequest(job_id="0190a5b0-0000-7000-8000-000000000000", note="n" * 1_025)
    assert list(refused(api.jobs.Cancel, request)) == ["note"]


@pytest.mark.parametrize("method", ["Cancel", "Retry"])
def test_a_sequence_is_not_negative(api: Api, method):
    kind = getattr(job_service_pb2, f"{method}Request")
    request = kind(job_id="0190a5b0-0000-7000-8000-000000000000", expected_sequence=-1)
    assert list(refused(getattr(api.jobs, method), request)) == ["expected_sequence"]


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("PauseQueue", admin.PauseQueueRequest(), "queue"),
        ("PauseQueue", admin.PauseQueueRequest(queue="no good"), "queue"),
        ("ResumeQueue", admin.ResumeQueueRequest(), "queue"),
        ("GetQueue", admin.GetQueueRequest(queue="q" * 129), "queue"),
        ("GetQueue", admin.GetQueueRequest(), "queue"),
        ("ListQueues", admin.ListQueuesRequest(page_size=-1), "page_size"),
        ("ListNodes", admin.ListNodesRequest(page_token="not ours"), "page_token"),
        ("UpdateUserLimit", admin.UpdateUserLimitRequest(limit={"max_running": 1}), "limit.user_id"),
        (
            "UpdateUserLimit",
            admin.UpdateUserLimitRequest(limit={"user_id": "u", "max_running": 100_001}),
            "limit.max_running",
        ),
        (
            "UpdateUserLimit",
            admin.UpdateUserLimitRequest(limit={"user_id": "u", "max_running": -1}),
            "limit.max_running",
        ),
        (
            "UpdateUserLimit",
            admin.UpdateUserLimitRequest(limit={"user_id": "u"}, update_mask={"paths": ["no such field"]}),
            "update_mask.paths[0]",
        ),
        ("GetUserLimit", admin.GetUserLimitRequest(), "user_id"),
        ("GetUserLimit", admin.GetUserLimitRequest(user_id="u", queue="no good"), "queue"),
    ],
)
def test_bad_administration_is_named(api: Api, method, request_, field):
    assert list(refused(getattr(api.admin, method), request_)) == [field]


def watch_refused(api: Api, request: job_service_pb2.WatchRequest) -> list[str]:
    return list(refused(lambda request, timeout: list(api.jobs.Watch(request, timeout=timeout)), request))


def test_a_watch_names_jobs_or_a_user_or_a_queue(api: Api):
    id = "0190a5b0-0000-7000-8000-000000000000"
    job = job_service_pb2.WatchedJob(job_id=id)
    request = job_service_pb2.WatchRequest
    assert watch_refused(api, request()) == ["jobs"]
    assert watch_refused(api, request(jobs=[job] * 1_001)) == ["jobs"]
    assert watch_refused(api, request(jobs=[job, {"job_id": "bad"}])) == ["jobs[1].job_id"]
    assert watch_refused(api, request(jobs=[job], filter={"user_id": "u"}))
    assert watch_refused(api, request(jobs=[job], filter={"queue": "q"}))
    assert watch_refused(api, request(filter={"user_id": "u"}, include_log=True)) == ["include_log"]
    assert watch_refused(api, request(filter={"user_id": "u", "kinds": ["k"]})) == ["filter.kinds"]
    assert watch_refused(api, request(filter={"kinds": ["k"]}))
    assert watch_refused(api, request(jobs=[job], resume_token="t" * 16_385)) == ["resume_token"]
    assert watch_refused(api, request(jobs=[{"job_id": id, "after_sequence": -1}])) == ["jobs[0].after_sequence"]
    with pytest.raises(grpc.RpcError) as caught:
        list(api.jobs.Watch(request(jobs=[job]), timeout=20))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert detail_of(caught.value, error_details_pb2.ResourceInfo).resource_name == id
