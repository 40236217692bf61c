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
from signalbox._requests import encode_payload, job_spec, list_request, uuid7, watch_ids
from signalbox._types import job_from, server_info_from
from signalbox.v1 import info_service_pb2, job_pb2


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


def test_every_field_arrives():
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


def test_filters_arrive():
    at = datetime(2031, 5, 6, tzinfo=timezone.utc)
    states = [signalbox.JobState.FAILED, signalbox.JobState.CANCELLED]
    request = list_request("u", None, "k", states, {"a": "b"}, at, None, 7, "token")
    assert (request.user_id, request.queue, request.kind) == ("u", "", "k")
    assert list(request.states) == [4, 5] and dict(request.labels) == {"a": "b"}
    assert request.HasField("created_from") and not request.HasField("created_to")
    assert (request.page_size, request.page_token) == (7, "token")


def test_what_is_ambiguous_is_refused():
    with pytest.raises(ValueError, match="aware"):
        job_spec(NewJob("k", user_id="u", run_at=datetime(2031, 1, 1)))
    with pytest.raises(ValueError, match="exclude"):
        job_spec(NewJob("k", user_id="u", run_at=datetime.now(timezone.utc), delay=timedelta(seconds=1)))
    with pytest.raises(ValueError, match="no job"):
        watch_ids([])
    with pytest.raises(ValueError, match="1,000"):
        watch_ids(str(number) for number in range(1_001))
    assert watch_ids("a") == ["a"] and watch_ids(["a", "b", "a"]) == ["a", "b"]


def test_a_stability_that_is_not_known():
    """A newer server may use values that this version does not know."""
    feature = info_service_pb2.Feature(name="graphs", stability=99, enabled=True)
    info = server_info_from(info_service_pb2.GetServerInfoResponse(features=[feature]))
    assert info.features == (signalbox.Feature("graphs", signalbox.Stability.UNSPECIFIED, True),)


def test_a_job_in_pythons_types():
    message = job_pb2.Job(id="a", state=99, attempt=2)
    message.created_at.FromJsonString("2031-05-06T07:08:09.123456Z")
    message.timeout.FromMilliseconds(1500)
    message.result.data = b'{"x":1}'
    job = job_from(message)
    # A state that this client does not know yet.
    assert job.state is signalbox.JobState.UNSPECIFIED and not job.is_final
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
