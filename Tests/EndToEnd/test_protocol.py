"""What any gRPC tool expects: health, reflection, and how it answers what is no message."""

from __future__ import annotations

import functools
import json
import threading

import grpc
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from harness import Api, unique, violations
from signalbox.v1 import admin_service_pb2, job_pb2, job_service_pb2

ENQUEUE = "/signalbox.v1.JobService/Enqueue"
BATCH = "/signalbox.v1.JobService/EnqueueBatch"
SERVICES = {
    "signalbox.v1.JobService",
    "signalbox.v1.AdminService",
    "signalbox.v1.InfoService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
}
SERVING = health_pb2.HealthCheckResponse.SERVING


# Health


@pytest.mark.parametrize("service", ["", "signalbox.v1.JobService", "signalbox.v1.AdminService"])
def test_it_is_serving(api: Api, service):
    answer = api.health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
    assert answer.status == SERVING


def test_a_service_that_is_not_known(api: Api):
    request = health_pb2.HealthCheckRequest(service="no.such.Service")
    with pytest.raises(grpc.RpcError) as caught:
        api.health.Check(request, timeout=20)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    call = api.health.Watch(request, timeout=20)
    assert next(call).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    call.cancel()


def test_health_is_watched(api: Api):
    call = api.health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert next(call).status == SERVING
    call.cancel()


def test_the_clients_health(client):
    assert client.health() and client.health("signalbox.v1.JobService")


# Reflection


def test_a_call_without_generated_code(api: Api):
    """As grpcurl does it: names in, JSON in, JSON out."""
    database = ProtoReflectionDescriptorDatabase(api.channel)
    assert SERVICES <= set(database.get_services())
    pool = DescriptorPool(database)
    method = pool.FindServiceByName("signalbox.v1.JobService").FindMethodByName("Enqueue")
    request = message_factory.GetMessageClass(method.input_type)()
    response = message_factory.GetMessageClass(method.output_type)
    json_format.ParseDict(
        {
            "job": {
                "kind": "test.echo",
                "userId": unique(),
                "payload": "e30=",
                "delay": "3600s",
                "labels": {"a": "b"},
                "retryPolicy": {"initialDelay": "1.5s"},
            }
        },
        request,
    )
    path = f"/{method.containing_service.full_name}/{method.name}"
    call = api.channel.unary_unary(
        path,
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response.FromString,
    )
    answer = json.loads(json_format.MessageToJson(call(request, timeout=20)))
    assert answer["created"] is True and answer["job"]["state"] == "JOB_STATE_PENDING"
    assert answer["job"]["labels"] == {"a": "b"} and answer["job"]["retryPolicy"]["initialDelay"] == "1.500s"
    assert request.DESCRIPTOR.file.pool is pool


def ask(api: Api, version: str, *questions: reflection_pb2.ServerReflectionRequest) -> list:
    """The answers of one stream. v1 and v1alpha are the same on the wire."""
    call = api.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    return list(call(iter(questions), timeout=20))


both = pytest.mark.parametrize("version", ["v1", "v1alpha"])


@both
def test_every_kind_of_question(api: Api, version):
    question = reflection_pb2.ServerReflectionRequest
    answers = ask(
        api,
        version,
        question(list_services="*"),
        question(file_by_filename="signalbox/v1/job_service.proto"),
        question(file_containing_symbol="signalbox.v1.JobService.Watch"),
        question(file_containing_symbol="signalbox.v1.Job.LabelsEntry"),
        question(file_containing_symbol="signalbox.v1.JOB_STATE_PENDING"),
        question(file_containing_symbol="google.protobuf.Timestamp"),
        question(file_by_filename="no/such.proto", host="h"),
        question(file_containing_symbol="no.such.Symbol"),
        question(file_containing_extension={"containing_type": "signalbox.v1.Job", "extension_number": 1}),
        question(all_extension_numbers_of_type="signalbox.v1.Job"),
        question(all_extension_numbers_of_type="no.such.Type"),
    )
    assert len(answers) == 11
    listed = {service.name for service in answers[0].list_services_response.service}
    assert SERVICES <= listed
    for answer, name in zip(
        answers[1:6],
        ["job_service", "job_service", "job", "job", "timestamp"],
        strict=True,
    ):
        files = [
            FileDescriptorProto.FromString(data)
            for data in answer.file_descriptor_response.file_descriptor_proto
        ]
        assert files[0].name.endswith(f"/{name}.proto")
        # Everything that it imports, in whatever order.
        names = {file.name for file in files}
        assert all(set(file.dependency) <= names for file in files)
    assert all(
        answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0] for answer in answers[6:9]
    )
    assert answers[6].original_request.host == "h" and answers[6].valid_host == "h"
    assert list(answers[9].all_extension_numbers_response.extension_number) == []
    assert answers[10].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@both
def test_text_is_told_as_text(api: Api, version):
    """The server's own messages have bytes there, so that nothing is cut; tools must not see that."""
    (answer,) = ask(
        api, version, reflection_pb2.ServerReflectionRequest(file_by_filename="signalbox/v1/job.proto")
    )
    told = FileDescriptorProto.FromString(answer.file_descriptor_response.file_descriptor_proto[0])
    expected = FileDescriptorProto()
    job_pb2.DESCRIPTOR.CopyToProto(expected)
    for file in (told, expected):
        for message in file.message_type:
            for part in [*message.field, *(f for nested in message.nested_type for f in nested.field)]:
                part.ClearField("json_name")
    assert told == expected


@both
def test_answers_come_before_the_stream_is_closed(api: Api, version):
    closed = threading.Event()

    def questions():
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        closed.wait(20)

    call = api.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(questions(), timeout=20)
    assert next(call).HasField("list_services_response")
    closed.set()
    assert list(call) == []


# What is no message


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def spec(**changes: bytes) -> bytes:
    """An EnqueueRequest with these fields of its job as raw bytes."""
    fields = {"kind": b"test.noop", "user_id": b"raw", **changes}
    numbers = {item.name: item.number for item in job_pb2.JobSpec.DESCRIPTOR.fields}
    return field(1, b"".join(field(numbers[name], value) for name, value in fields.items()))


def refused(api: Api, method: str, data: bytes) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        api.raw(method, data)
    assert api.health.Check(health_pb2.HealthCheckRequest(), timeout=20).status == SERVING
    return caught.value


MALFORMED = {
    "no tag": b"\xff" * 11,
    "half a varint": b"\x08\xff",
    "length beyond the end": b"\x0a\x7f",
    "a length that overflows": b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    "a length of 4 GiB": b"\x0a\xff\xff\xff\xff\x0f",
    "wire type 6": b"\x0e",
    "wire type 7": b"\x0f",
    "field number 0": b"\x02\x00",
    "malformed within": field(1, b"\x0a\x7f"),
    "half a fixed32": b"\x15\x00",
    "half a fixed64": b"\x11\x00",
    "malformed map entry": field(1, field(15, b"\x0a\x05a")),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(api: Api, data):
    assert refused(api, ENQUEUE, data).code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["kind", "user_id", "queue", "content_type", "job_id", "idempotency_key"])
@pytest.mark.parametrize(
    "value",
    [b"\xff", b"a\xc3", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"a\0b"],
    ids=["no lead", "cut", "overlong", "surrogate", "beyond", "NUL"],
)
def test_text_that_is_no_text(api: Api, name, value):
    error = refused(api, ENQUEUE, spec(**{name: value}))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(violations(error)) == [f"job.{name}"]


@pytest.mark.parametrize("value", [b"\xff", b"a\0b"])
def test_labels_that_are_no_text(api: Api, value):
    for entry in (field(1, value) + field(2, b"v"), field(1, b"k") + field(2, value)):
        error = refused(api, ENQUEUE, spec(labels=entry))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert list(violations(error)) == ["job.labels"]


def test_text_elsewhere_that_is_no_text(api: Api):
    prefix = "/signalbox.v1.JobService/"
    for method, number, name in [
        ("GetJob", 1, "job_id"),
        ("ListJobs", 9, "page_token"),
        ("Cancel", 2, "note"),
    ]:
        id = field(1, b"0190a5b0-0000-7000-8000-000000000000") if method == "Cancel" else b""
        error = refused(api, prefix + method, id + field(number, b"\xff"))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert list(violations(error)) == [name]


def test_the_last_of_a_field_given_twice_counts(api: Api):
    """As the protobuf encoding says: scalars are replaced, messages merged.

    protobuf-c before 1.5 cannot merge messages when a oneof is set in neither, and it gets an optional field alone in one.
    """
    user = unique().encode()
    hour = job_pb2.JobSpec(
        kind="test.noop", user_id="first", priority=1, delay={"seconds": 3_600}
    ).SerializeToString()
    data = field(1, hour) + field(1, field(2, b"second") + field(2, user))
    job = job_service_pb2.EnqueueResponse.FromString(api.raw(ENQUEUE, data)).job
    assert job.kind == "test.noop" and job.user_id == user.decode()
    assert job.due_at.seconds - job.created_at.seconds == 3_600


def test_a_job_in_two_parts_that_are_not_due(api: Api):
    """The request is refused then, or read as another implementation reads it."""
    user = unique().encode()
    try:
        answer = job_service_pb2.EnqueueResponse.FromString(
            api.raw(ENQUEUE, spec() + field(1, field(2, user)))
        )
        assert answer.job.user_id == user.decode() and answer.job.kind == "test.noop"
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def messages_in(message, path="", numbers=()):
    """Each message in a request: its path in errors, and the numbers of the fields that lead to it."""
    yield path, numbers
    for part in message.fields:
        if part.message_type is not None:
            name = f"{part.name}[0]" if part.label == part.LABEL_REPEATED else part.name
            yield from messages_in(part.message_type, f"{path}{name}.", (*numbers, part.number))


PLACES = [
    pytest.param(f"/{service.full_name}/{method.name}", path, numbers, id=f"{method.name} {path}")
    for file in (job_service_pb2, admin_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    for path, numbers in messages_in(method.input_type)
]


@pytest.mark.parametrize(("method", "path", "numbers"), PLACES)
def test_fields_that_are_not_known_are_refused(api: Api, method, path, numbers):
    """A client of a newer version must not get something else than it asked for."""
    unknown = field(99, b"x" * 1_000) + varint(98 << 3) + varint(2**64 - 1)
    unknown += varint(97 << 3 | 5) + bytes(4) + varint(96 << 3 | 1) + bytes(8)
    data = functools.reduce(lambda inner, number: field(number, inner), reversed(numbers), unknown + unknown)
    error = refused(api, method, data)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    expected = dict.fromkeys(
        (f"{path}<field {number}>" for number in (99, 98, 97, 96)), "is not known to this server"
    )
    assert violations(error) == expected


def test_a_job_with_an_unknown_field_is_not_enqueued(api: Api):
    user = unique()
    job = job_pb2.JobSpec(kind="test.noop", user_id=user).SerializeToString() + field(30, b"x")
    for method, name in ((ENQUEUE, "job"), (BATCH, "jobs[0]")):
        assert list(violations(refused(api, method, field(1, job)))) == [f"{name}.<field 30>"]
    assert not api.jobs.ListJobs(job_service_pb2.ListJobsRequest(filter={"user_id": user}), timeout=20).jobs


def test_unknown_fields_of_health_and_reflection_are_passed_over(api: Api):
    """These services are not this server's own, and their clients may be newer."""
    unknown = field(99, b"x") + varint(98 << 3 | 0) + varint(1)
    answer = health_pb2.HealthCheckResponse.FromString(api.raw("/grpc.health.v1.Health/Check", unknown))
    assert answer.status == SERVING
    question = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString() + unknown
    call = api.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
    answers = [reflection_pb2.ServerReflectionResponse.FromString(data) for data in call(iter([question]), timeout=20)]
    assert SERVICES <= {service.name for service in answers[0].list_services_response.service}


@pytest.mark.parametrize("deep", ["known", "unknown", "groups"])
def test_nesting_without_end(api: Api, deep):
    if deep == "groups":
        data = b"\x0b" * 200_000
    else:
        heads, length = [], 0
        while length < 400_000:
            heads.append(varint((1 if deep == "known" else 99) << 3 | 2) + varint(length))
            length += len(heads[-1])
        data = b"".join(reversed(heads))
    try:
        api.raw(ENQUEUE, data)
    except grpc.RpcError as error:
        assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert api.health.Check(health_pb2.HealthCheckRequest(), timeout=20).status == SERVING


MANY = {
    "empty jobs": (BATCH, b"\x0a\x00" * 1_900_000),
    "empty labels": (ENQUEUE, field(1, b"\x7a\x00" * 500_000)),
    "unknown fields": (ENQUEUE, b"\xf8\x06\x00" * 300_000),
    "empty watched jobs": ("/signalbox.v1.JobService/Watch", b"\x0a\x00" * 400_000),
    "states": ("/signalbox.v1.JobService/ListJobs", field(10, field(4, b"\x01" * 900_000))),
    "states, one by one": ("/signalbox.v1.JobService/ListJobs", field(10, b"\x20\x01" * 400_000)),
    "kinds": ("/signalbox.v1.JobService/ListJobs", field(10, b"\x1a\x00" * 400_000)),
}


@pytest.mark.parametrize(("method", "data"), MANY.values(), ids=MANY.keys())
def test_a_message_that_would_unpack_into_too_much(api: Api, method, data):
    """A few bytes on the wire can be a large object in memory: there is a budget."""
    code = refused(api, method, data).code()
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)


@pytest.mark.parametrize("method", [ENQUEUE, BATCH, "/grpc.health.v1.Health/Check"])
def test_a_message_over_the_limit(api: Api, method):
    assert refused(api, method, bytes(20 << 20)).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "path", ["/signalbox.v1.JobService/NoSuch", "/no.such.Service/Enqueue", "/nothing", "/a/b/c"]
)
def test_a_method_that_is_not_known(api: Api, path):
    assert refused(api, path, b"").code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_messages(api: Api, compression):
    job = job_pb2.JobSpec(kind="test.echo", user_id=unique(), payload=b'"%s"' % (b"a" * 100_000))
    request = job_service_pb2.EnqueueRequest(job=job)
    answer = api.jobs.Enqueue(request, timeout=20, compression=compression)
    read = job_service_pb2.GetJobRequest(job_id=answer.job.id, include_payload=True)
    assert api.jobs.GetJob(read, timeout=20, compression=compression).job.payload == job.payload


def test_a_compressed_bomb(api: Api):
    """200 MiB of zeros are 200 KiB on the wire."""
    call = api.channel.unary_unary(ENQUEUE)
    with pytest.raises(grpc.RpcError) as caught:
        call(field(1, field(4, bytes(200 << 20))), timeout=30, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert api.health.Check(health_pb2.HealthCheckRequest(), timeout=20).status == SERVING


def test_two_messages_where_one_belongs(api: Api):
    call = api.channel.stream_unary(ENQUEUE)
    with pytest.raises(grpc.RpcError) as caught:
        call(iter([spec(), spec()]), timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_no_message_where_one_belongs(api: Api):
    call = api.channel.stream_unary(ENQUEUE)
    with pytest.raises(grpc.RpcError) as caught:
        call(iter([]), timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
