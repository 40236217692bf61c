"""From Python's types to messages, and from a status to an error."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2

import signalbox
from signalbox import NewJob, RetryPolicy
from signalbox._backoff import Backoff, UnaryRetry
from signalbox._errors import decode_details, make_error
from signalbox._requests import encode_payload, job_spec, limit_request, list_request, uuid7, watch_ids
from signalbox._types import (
    attempt_from,
    enqueued_from,
    enqueued_item_from,
    job_event_from,
    job_from,
    log_line_from,
    progress_from,
    queue_from,
    retry_policy_from,
    server_info_from,
    user_limit_from,
)
from signalbox.v1 import admin_service_pb2, info_service_pb2, job_pb2, job_service_pb2


def test_uuid7_has_version_variant_and_order():
    first, second = uuid.UUID(uuid7()), uuid.UUID(uuid7())
    assert first.version == 7 and first.variant == uuid.RFC_4122
    assert first != second and first.int >> 80 <= second.int >> 80


@pytest.mark.parametrize(
    ("payload", "content_type", "expected"),
    [
        (None, None, (b"", "")),
        ({"a": "é"}, None, ('{"a":"é"}'.encode(), "application/json")),
        ([1, None], None, (b"[1,null]", "application/json")),
        ("text", None, (b'"text"', "application/json")),
        (b"\x00\xff", None, (b"\x00\xff", "application/octet-stream")),
        (b"{}", "application/json", (b"{}", "application/json")),
    ],
)
def test_payloads(payload, content_type, expected):
    assert encode_payload(payload, content_type) == expected


def test_a_job_is_given_an_id_unless_it_has_an_id_or_key():
    assert uuid.UUID(job_spec(NewJob("k", user_id="u")).job_id).version == 7
    assert job_spec(NewJob("k", user_id="u", idempotency_key="x")).job_id == ""
    assert job_spec(NewJob("k", user_id="u", job_id="mine")).job_id == "mine"


def test_every_field_is_sent():
    at = datetime(2031, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=2)))
    spec = job_spec(
        NewJob(
            "k",
            {},
            user_id="u",
            queue="q",
            priority=-5,
            run_at=at,
            max_attempts=7,
            retry_policy=RetryPolicy(timedelta(seconds=1), 3, timedelta(minutes=1), 0.5),
            timeout=timedelta(milliseconds=1500),
            soft_timeout=timedelta(seconds=1),
            labels={"a": "b"},
        )
    )
    assert spec.priority == -5 and spec.max_attempts == 7 and dict(spec.labels) == {"a": "b"}
    assert spec.run_at.ToDatetime(tzinfo=timezone.utc) == at
    assert spec.timeout.ToMilliseconds() == 1500 and spec.soft_timeout.seconds == 1
    assert spec.retry_policy.factor == 3 and spec.retry_policy.max_delay.seconds == 60
    assert job_spec(NewJob("k", user_id="u", delay=timedelta(0))).WhichOneof("due") == "delay"


def test_filters_are_sent():
    at = datetime(2031, 5, 6, tzinfo=timezone.utc)
    states = [signalbox.JobState.FAILED, signalbox.JobState.CANCELLED]
    request = list_request("u", None, ["k", "l"], states, {"a": "b"}, at, None, 7, "token")
    selected = request.filter
    assert (selected.user_id, selected.queue, list(selected.kinds)) == ("u", "", ["k", "l"])
    assert list(selected.states) == [4, 5] and dict(selected.labels) == {"a": "b"}
    assert selected.HasField("created_from") and not selected.HasField("created_to")
    assert (request.page_size, request.page_token) == (7, "token")
    # One kind need not be in a list.
    request = list_request(None, None, "kind", (), None, None, None, 0, "")
    assert list(request.filter.kinds) == ["kind"]


def test_fields_that_may_be_unset_are_not_the_same_as_0():
    unset, zero = job_spec(NewJob("k", user_id="u")), job_spec(NewJob("k", user_id="u", priority=0))
    assert not unset.HasField("priority") and zero.HasField("priority") and zero.priority == 0
    policy = job_spec(NewJob("k", user_id="u", retry_policy=RetryPolicy(jitter=0.0))).retry_policy
    assert policy.HasField("jitter") and not policy.HasField("factor")
    assert retry_policy_from(policy) == RetryPolicy(jitter=0.0)
    assert progress_from(job_pb2.Progress(stage="s")).fraction is None
    assert progress_from(job_pb2.Progress(fraction=0.0)).fraction == 0.0


def test_a_limit_is_set_or_removed():
    for max_running in (0, 7):
        request = limit_request("u", max_running, "q")
        assert request.limit.HasField("max_running") and request.limit.max_running == max_running
        assert list(request.update_mask.paths) == ["max_running"]
    request = limit_request("u", None, "q")
    assert not request.limit.HasField("max_running") and list(request.update_mask.paths) == ["max_running"]
    limit = user_limit_from(request.limit)
    assert (limit.user_id, limit.queue, limit.max_running) == ("u", "q", None)


def test_ambiguous_input_is_refused():
    with pytest.raises(ValueError, match="aware"):
        job_spec(NewJob("k", user_id="u", run_at=datetime(2031, 1, 1)))
    with pytest.raises(ValueError, match="exclude"):
        job_spec(NewJob("k", user_id="u", run_at=datetime.now(timezone.utc), delay=timedelta(seconds=1)))
    with pytest.raises(ValueError, match="no job"):
        watch_ids([])
    with pytest.raises(ValueError, match="1,000"):
        watch_ids(str(number) for number in range(1_001))
    assert watch_ids("a") == ["a"] and watch_ids(["a", "b", "a"]) == ["a", "b"]


def test_values_of_enums_that_are_not_known():
    """A newer server may use values that this version does not know; they are UNSPECIFIED."""
    error = job_pb2.JobError(reason="r", message="m", cause=99)
    attempt = attempt_from(job_pb2.Attempt(number=1, outcome=99, error=error, counted=True))
    assert attempt.outcome is signalbox.AttemptOutcome.UNSPECIFIED and attempt.counted
    assert attempt.error == signalbox.JobError("r", "m", signalbox.FailureCause.UNSPECIFIED)
    line = log_line_from(job_pb2.LogLine(number=1, level=99))
    assert line.level is signalbox.LogLevel.UNSPECIFIED
    event = job_event_from(job_service_pb2.JobEvent(job_id="a", sequence=7, type=99, state=2))
    assert event.type is signalbox.JobEventType.UNSPECIFIED
    assert (event.sequence, event.state) == (7, signalbox.JobState.RUNNING)
    item = enqueued_item_from(job_service_pb2.EnqueuedJob(job_id="a", disposition=99), is_own_id=False)
    assert item.disposition is signalbox.EnqueueDisposition.UNSPECIFIED and not item.created


def test_a_job_with_an_id_of_the_clients_own_is_new():
    """The service says that it existed if an earlier try of the same call added it."""
    again = job_service_pb2.EnqueuedJob(job_id="a", disposition=2, sequence=1)
    same = signalbox.EnqueueDisposition.SAME_REQUEST
    assert enqueued_item_from(again, is_own_id=False) == signalbox.EnqueuedItem("a", False, same, 1)
    created = signalbox.EnqueueDisposition.CREATED
    assert enqueued_item_from(again, is_own_id=True) == signalbox.EnqueuedItem("a", True, created, 1)
    answer = job_service_pb2.EnqueueResponse(job=job_pb2.Job(id="a"), disposition=2)
    assert enqueued_from(answer, is_own_id=True).disposition is created
    assert enqueued_from(answer, is_own_id=False).disposition is same


def test_a_queue_without_stats():
    queue = queue_from(admin_service_pb2.Queue(name="q", paused=True))
    assert queue == signalbox.Queue("q", True, None)
    stats = queue_from(admin_service_pb2.Queue(stats=admin_service_pb2.QueueStats(not_due=2, capped=True))).stats
    assert stats is not None and stats.not_due == 2 and stats.capped


def test_a_stability_that_is_not_known():
    feature = info_service_pb2.Feature(name="graphs", stability=99, enabled=True)
    info = server_info_from(info_service_pb2.GetServerInfoResponse(features=[feature]))
    assert info.features == (signalbox.Feature("graphs", signalbox.Stability.UNSPECIFIED, True),)


def test_a_job_in_pythons_types():
    message = job_pb2.Job(id="a", state=99, attempt=2, attempts_used=1)
    message.created_at.FromJsonString("2031-05-06T07:08:09.123456Z")
    message.timeout.FromMilliseconds(1500)
    message.result.data = b'{"x":1}'
    job = job_from(message)
    # A state that this version does not know.
    assert job.state is signalbox.JobState.UNSPECIFIED and not job.is_final
    assert (job.attempt, job.attempts_used) == (2, 1)
    assert job.created_at == datetime(2031, 5, 6, 7, 8, 9, 123456, tzinfo=timezone.utc)
    assert job.timeout == timedelta(seconds=1.5) and job.started_at is None and job.error is None
    assert job.result is not None and job.result.json() == {"x": 1}


def trailers(*details) -> list[tuple[str, str | bytes]]:
    status = status_pb2.Status(code=3)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return [("x", "y"), ("grpc-status-details-bin", status.SerializeToString())]


def test_details_become_attributes():
    why = error_details_pb2.ErrorInfo(reason="FIELDS_INVALID", domain="signalbox", metadata={"violations": "1"})
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="jobs[3].kind", description="is empty", reason="REQUIRED")
    error = make_error(grpc.StatusCode.INVALID_ARGUMENT, "no", decode_details(trailers(why, bad)))
    assert isinstance(error, signalbox.InvalidArgument)
    assert error.violations == (signalbox.FieldViolation("jobs[3].kind", "is empty", "REQUIRED"),)
    assert error.reason == "FIELDS_INVALID" and dict(error.metadata) == {"violations": "1"}

    info = error_details_pb2.ResourceInfo(resource_type="job", resource_name="abc")
    error = make_error(grpc.StatusCode.ALREADY_EXISTS, "no", decode_details(trailers(info)))
    assert isinstance(error, signalbox.AlreadyExists) and error.job_id == "abc"

    stale = error_details_pb2.ErrorInfo(reason="SEQUENCE_MISMATCH", metadata={"expected": "3", "actual": "4"})
    error = make_error(grpc.StatusCode.ABORTED, "no", decode_details(trailers(stale)))
    assert isinstance(error, signalbox.Aborted) and error.metadata["actual"] == "4"

    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(1500)
    error = make_error(grpc.StatusCode.UNAVAILABLE, "no", decode_details(trailers(retry)))
    assert isinstance(error, signalbox.Unavailable) and error.retry_after == timedelta(seconds=1.5)


def test_details_that_cannot_be_read_are_left_out():
    assert decode_details([("grpc-status-details-bin", b"\xff\xff")]) == ()
    assert decode_details(None) == ()
    error = make_error(grpc.StatusCode.DATA_LOSS, "gone")
    assert type(error) is signalbox.ServiceError and error.retry_after is None and error.resource_name == ""
    assert error.reason == "" and dict(error.metadata) == {}


def test_only_what_is_safe_and_unavailable_is_tried_again_and_only_in_time():
    unavailable = make_error(grpc.StatusCode.UNAVAILABLE, "no")
    steady = Backoff(rand=lambda: 1.0)
    assert UnaryRetry(10.0, True, steady).delay_after(unavailable, 0.0) == pytest.approx(0.1)
    assert UnaryRetry(10.0, False).delay_after(unavailable, 0.0) is None
    assert UnaryRetry(10.0, True).delay_after(make_error(grpc.StatusCode.INTERNAL, "no"), 0.0) is None
    assert UnaryRetry(10.0, True).delay_after(unavailable, 9.99) is None


def test_the_service_may_ask_for_a_longer_delay():
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromSeconds(3)
    error = make_error(grpc.StatusCode.UNAVAILABLE, "no", [retry])
    assert Backoff().next_delay(error) == 3.0
    retry.retry_delay.FromSeconds(1_000_000)
    assert Backoff().next_delay(make_error(grpc.StatusCode.UNAVAILABLE, "no", [retry])) == 60.0
