"""Text that is slow to compare: a letter with thousands of combining marks, in every place where text comes in.

Swift puts text into normal form to compare or hash it, in time that grows with the square of a run of marks: for the
32 KiB used here that is 0.1 s and more for each comparison, on an event loop or a thread that others wait for. So each
call is timed, and honest clients of the event loop and of the cooperative pool are timed beside them.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from access import Secured
from frames import DATA, END_STREAM, Connection, grpc_headers, message, raw_frame
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from harness import Server, command_config, unique
from hostile import BUILD, Honest, HostileServer
from signalbox.v1 import admin_service_pb2, job_pb2, job_service_pb2

import signalbox

#: 32 KiB of marks of two classes in turn, which normal form sorts.
MARKS = "a" + "\u0345\u0334" * 8_192
#: As many as a header list has room for; each character stands for a byte, as in all headers here.
HEADER_MARKS = ("a" + "\u0345\u0334" * 1_750).encode().decode("latin-1")

#: The best of a few tries, so that a machine that was busy once does not decide. Without optimisation, what is linear
#: takes ten times as long.
CALL_S = {"release": 0.020, "debug": 0.200}[BUILD]
TRIES = 3
#: The longest that an honest call may take beside them.
PROBE_S = {"release": 0.050, "debug": 0.500}[BUILD]

BYTES: dict[str, Any] = {"request_serializer": bytes, "response_deserializer": bytes}


# Every text of every request

SERVICES = [
    service
    for module in (job_service_pb2, admin_service_pb2, health_pb2, reflection_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]
METHODS = {f"/{method.containing_service.full_name}/{method.name}": method for s in SERVICES for method in s.methods}

Path = tuple[FieldDescriptor, ...]


def is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def texts(descriptor: Any, before: Path = ()) -> Iterator[Path]:
    """The ways to the texts of a message."""
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (*before, field)
        elif field.message_type is not None and len(before) < 4:
            yield from texts(field.message_type, (*before, field))


def put(target: Message, path: Path, text: str) -> None:
    field, *rest = path
    if not rest:
        if field.label == FieldDescriptor.LABEL_REPEATED:
            getattr(target, field.name).append(text)
        else:
            setattr(target, field.name, text)
    elif is_map(field):
        entries = getattr(target, field.name)
        if rest[0].name == "key":
            entries[text] = "v"
        else:
            entries["k"] = text
    elif field.label == FieldDescriptor.LABEL_REPEATED:
        put(getattr(target, field.name).add(), tuple(rest), text)
    else:
        put(getattr(target, field.name), tuple(rest), text)


def valid(method: MethodDescriptor) -> Message:
    """A request with which nothing is wrong, so that a text is looked at whatever is checked first."""
    request = GetMessageClass(method.input_type)()
    spec = {"kind": "test.noop", "user_id": "ada", "payload": b"null"}
    match method.name:
        case "Enqueue":
            request.job.CopyFrom(job_pb2.JobSpec(**spec))
        case "EnqueueBatch":
            request.jobs.add().CopyFrom(job_pb2.JobSpec(**spec))
        case "UpdateUserLimit":
            request.limit.user_id = "ada"
            request.limit.max_running = 1
        case "Watch" if method.containing_service.full_name.startswith("signalbox."):
            request.filter.user_id = "ada"
    return request


CASES = [
    pytest.param(name, path, id=f"{name.rpartition('/')[2]}-{'.'.join(field.name for field in path)}")
    for name, method in METHODS.items()
    for path in texts(method.input_type)
]


@pytest.fixture(scope="module")
def server(cluster) -> Iterator[HostileServer]:
    server = HostileServer(cluster)
    yield server
    server.close()


@pytest.fixture(scope="module")
def channel(server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        channel.unary_unary("/grpc.health.v1.Health/Check", **BYTES)(b"", timeout=20)
        yield channel


def call(channel: grpc.Channel, path: str, request: bytes, compression: grpc.Compression | None = None) -> grpc.StatusCode:
    """Calls, takes one answer where it is a stream, and gives the code."""
    method = METHODS.get(path)
    options: dict[str, Any] = {"timeout": 20, "compression": compression}
    try:
        if method is None or not (method.server_streaming or method.client_streaming):
            channel.unary_unary(path, **BYTES)(request, **options)
        elif method.client_streaming:
            next(channel.stream_stream(path, **BYTES)(iter([request]), **options))
        else:
            stream = channel.unary_stream(path, **BYTES)(request, **options)
            next(stream)
            stream.cancel()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def quickest(body: Callable[[], Any]) -> tuple[float, Any]:
    took = []
    for _ in range(TRIES):
        began = time.perf_counter()
        result = body()
        took.append(time.perf_counter() - began)
    return min(took), result


#: How a text may be answered that is too long, or that nothing is named by.
ANSWERS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OK,
}


@pytest.mark.parametrize("compression", [None, grpc.Compression.Gzip], ids=["plain", "gzip"])
@pytest.mark.parametrize(("name", "path"), CASES)
def test_every_text_of_a_request(channel, name, path, compression, record_property):
    request = valid(METHODS[name])
    put(request, path, MARKS)
    data = request.SerializeToString()
    took, code = quickest(lambda: call(channel, name, data, compression))
    record_property("figures", f"{code.name} in {took * 1_000:.1f} ms")
    assert code in ANSWERS
    assert took < CALL_S


# Headers


HEADERS = {
    "path": {"replace": {":path": f"/{HEADER_MARKS}"}},
    "path of a service": {"replace": {":path": f"/signalbox.v1.JobService/{HEADER_MARKS}"}},
    "authority": {"authority": HEADER_MARKS},
    "content-type": {"replace": {"content-type": f"application/grpc+{HEADER_MARKS}"}},
    "te": {"replace": {"te": HEADER_MARKS}},
    **{
        name: {"extra": (name, HEADER_MARKS)}
        for name in (
            *("grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "authorization", "user-agent"),
            *("x-text", "x-data-bin", HEADER_MARKS),
        )
    },
}


def names_of(headers: dict[str, Any]) -> list[str]:
    return [name if name.isascii() else "metadata name" for name in headers]


#: Requests that come in one piece: each costs little, but a few bytes on the wire repeat it (RFC 7541 section 2.3.2).
REQUESTS = 20


@pytest.mark.parametrize("case", HEADERS.values(), ids=names_of(HEADERS))
def test_every_header(server, case, record_property):
    options = dict(case)
    extra = [options.pop("extra")] if "extra" in options else []
    headers = grpc_headers("/grpc.health.v1.Health/Check", *extra, **options)

    def once() -> float:
        with Connection.open(server.address) as peer:
            peer.settle()
            streams = [peer.new_stream() for _ in range(REQUESTS)]
            # A list that is the same as the one before is not looked at again. Encoded before the time is taken: that
            # takes Python longer than it takes the server to answer.
            blocks = [peer.header_frames(stream, [*headers, ("x-number", str(stream))]) for stream in streams]
            ends = [raw_frame(DATA, END_STREAM, stream, message(b"")) for stream in streams]
            began = time.perf_counter()
            peer.send(*(part for pair in zip(blocks, ends) for part in pair))
            answers = [peer.answer(stream, settle=False) for stream in streams]
            took = time.perf_counter() - began
            assert all(answer.is_over for answer in answers)
            return took

    took = min(once() for _ in range(TRIES))
    record_property("figures", f"{REQUESTS} in {took * 1_000:.1f} ms")
    assert took < HEADERS_S


#: All of them, and what Python takes to read as many answers.
HEADERS_S = {"release": 0.020, "debug": 0.300}[BUILD]


# Tokens


def unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = (json.dumps(part, ensure_ascii=False).encode() for part in (header, claims))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + ".c2ln"


SHORT = "a" + "\u0345\u0334" * 500
TOKENS = {
    "bearer": "sbx_" + "x" * 6_000,
    "kid": unsigned({"alg": "ES256", "kid": SHORT}, {}),
    "alg": unsigned({"alg": SHORT, "kid": "1"}, {}),
    "typ": unsigned({"alg": "ES256", "kid": "1", "typ": SHORT}, {}),
    "header name": unsigned({"alg": "ES256", "kid": "1", SHORT: 1}, {}),
    **{claim: unsigned({"alg": "ES256", "kid": "1"}, {claim: SHORT}) for claim in ("iss", "sub", "aud", "scope")},
    "claim name": unsigned({"alg": "ES256", "kid": "1"}, {SHORT: 1}),
}


@pytest.fixture(scope="module")
def secured(cluster) -> Iterator[Secured]:
    with Secured(cluster) as secured:
        yield secured


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
def test_every_part_of_a_token(secured, token, record_property):
    somebody = secured.somebody(token)
    took, code = quickest(lambda: somebody.code("/signalbox.v1.JobService/ListJobs"))
    record_property("figures", f"{code.name} in {took * 1_000:.1f} ms")
    assert code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE)
    assert took < CALL_S


# JSON of payloads and of commands


def key_of(bytes_count: int) -> str:
    return "a" + "\u0345\u0334" * (bytes_count // 4)


def test_json_keys_of_a_payload(server, record_property):
    """Refused where the payload says that it is JSON; else the handler's reader refuses it."""
    payload = json.dumps({key_of(100_000): 1}, ensure_ascii=False).encode()
    with server.client() as client:
        took, error = quickest(lambda: caught(lambda: client.enqueue("test.sleep", payload, content_type="application/json", user_id="ada")))
        record_property("figures", f"{took * 1_000:.1f} ms")
        assert isinstance(error, signalbox.InvalidArgument)
        assert "more than 1024 bytes" in str(error)
        assert took < CALL_S
        job = client.enqueue("test.sleep", payload, content_type="text/plain", user_id="ada").job
        assert client.wait(job.id).state is signalbox.JobState.FAILED


def caught(body: Callable[[], Any]) -> Exception | None:
    try:
        body()
    except Exception as error:  # noqa: BLE001 (whatever it is, it is what is looked at)
        return error
    return None


LINES = {
    "key beside a result": {"result": 1, key_of(100_000): 1},
    "key in a result": {"result": {key_of(100_000): 1}},
    "key of a log line": {key_of(100_000): 1},
    "key in a log record": {"log": {"message": "m", key_of(1_000): 1}},
    "keys in a log record": {"log": {"message": "m", **{f"{key_of(1_000)}{n}": n for n in range(100)}}},
    "level": {"log": {"message": "m", "level": key_of(100_000)}},
    "log": {"log": key_of(100_000)},
    "stage": {"progress": {"stage": key_of(100_000), "message": key_of(100_000)}},
    "reason": {"error": {"reason": key_of(100_000), "message": key_of(100_000)}},
    "content type": {"result_base64": "", "content_type": key_of(100_000)},
}


@pytest.fixture(scope="module")
def echoing(cluster, tmp_path_factory) -> Iterator[Server]:
    """`echo` writes its payload as a line."""
    folder = tmp_path_factory.mktemp("echo")
    folder.chmod(0o755)
    server = Server(cluster.database(), config=command_config(folder, {"echo": "cat; echo\n"}))
    yield server
    server.close()


def final(client: signalbox.Client, kind: str, payload: bytes) -> signalbox.Job:
    job = client.enqueue(kind, payload, content_type="text/plain", user_id=unique(), max_attempts=1).job
    return client.wait(job.id)


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_lines_of_a_command_do_not_hold_up_others(echoing, line, record_property):
    """Two commands write such lines again and again, as many as there are threads in the pool of a small machine; the
    jobs of another user come and go as before."""
    payload = json.dumps(line, ensure_ascii=False).encode()
    with echoing.client() as client, looping(lambda: final(client, "echo", payload), times=2):
        took = sorted(timed(lambda: final(client, "test.noop", b"")) for _ in range(60))
    # One of them may have waited for the disk.
    record_property("figures", f"jobs beside it: median {took[30] * 1_000:.1f} ms, next to longest {took[-2] * 1_000:.1f} ms")
    assert took[-2] < PROBE_S


def timed(body: Callable[[], Any]) -> float:
    began = time.perf_counter()
    body()
    return time.perf_counter() - began


@contextmanager
def looping(body: Callable[[], Any], times: int) -> Iterator[None]:
    """Calls the body again and again in so many threads."""
    is_over = threading.Event()

    def loop() -> None:
        while not is_over.is_set():
            body()

    with ThreadPoolExecutor(times) as pool:
        loops = [pool.submit(loop) for _ in range(times)]
        try:
            yield
        finally:
            is_over.set()
    for one in loops:
        one.result()


def test_honest_calls_beside_them(server, channel, record_property):
    """Every text of every request, plain and compressed, while an honest client calls on the one event loop."""
    requests = []
    for name, method in METHODS.items():
        for path in texts(method.input_type):
            request = valid(method)
            put(request, path, MARKS)
            requests.append((name, request.SerializeToString()))
    server.calm_down()
    honest = Honest(server.address)
    try:
        honest.call()
        with honest.calling() as results, ThreadPoolExecutor(4) as pool:
            list(
                pool.map(
                    lambda item: call(channel, *item, grpc.Compression.Gzip),
                    [item for item in requests for _ in range(4)],
                )
            )
    finally:
        honest.close()
    calls = results[0]
    record_property("figures", f"{calls.calls} honest calls: p99 {calls.p99 * 1_000:.2f} ms, longest {calls.max * 1_000:.1f} ms")
    assert not calls.failures and calls.calls > 50
    assert calls.max < PROBE_S
