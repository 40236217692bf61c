"""What an answer looks like, and how it ends (PROTOCOL-HTTP2.md, "Responses")."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import pytest
from frames import NO_ERROR, Connection, message
from grpc_health.v1 import health_pb2
from signalbox.v1 import job_pb2, job_service_pb2
from wire import (
    CHECK,
    JOBS,
    LARGE_QUESTION,
    REFLECT,
    SERVING,
    WATCH_HEALTH,
    Code,
    assert_serves,
    assert_status,
    decode_bin,
    details_of,
)

#: What is wrong with it is found before anything is asked of the database.
BAD_JOB = job_service_pb2.EnqueueRequest(
    job=job_pb2.JobSpec(kind="test.noop", user_id="")
).SerializeToString()
NO_JOB = job_service_pb2.GetJobRequest(job_id="0190a5b0-0000-7000-8000-000000000000").SerializeToString()


# An answer that is well


def test_a_whole_answer(peer: Connection):
    answer = peer.call(CHECK)
    assert answer.order == ["HEADERS", "DATA", "HEADERS+"]
    assert answer.http_status == 200 and answer.grpc_status == Code.OK
    assert answer.messages == [SERVING]
    # The status is in the trailers and nowhere else.
    assert answer.header("grpc-status") is None and answer.trailer(":status") is None


def test_names_are_lower_case_and_pseudo_headers_come_first(peer: Connection):
    for answer in (peer.call(CHECK), peer.call(JOBS + "GetJob", NO_JOB), peer.call("/no/method")):
        fields = [*(answer.headers or []), *(answer.trailers or [])]
        assert all(name == name.lower() for name, _ in fields)
        names = [name for name, _ in answer.headers or []]
        assert names.index(":status") == 0 and not any(name.startswith(":") for name in names[1:])


def test_the_same_call_again_is_answered_the_same(peer: Connection):
    """What HPACK's tables hold by then makes no difference."""
    first, *others = (peer.call(CHECK) for _ in range(20))
    assert all(
        (item.headers, item.body, item.trailers) == (first.headers, first.body, first.trailers)
        for item in others
    )


def test_messages_go_as_they_are_made(peer: Connection):
    stream = peer.request(WATCH_HEALTH, message(b""))
    answer = peer.answer_of(stream)
    peer.until(lambda: len(answer.body) >= 7)
    peer.settle()
    assert answer.messages == [SERVING] and answer.order == ["HEADERS", "DATA"]


# An immediate error

IMMEDIATE = {
    "before the method": ("/no.such.Service/Method", b"", Code.UNIMPLEMENTED),
    "before the handler": (CHECK, b"\xff", Code.INVALID_ARGUMENT),
    "by a handler without a task": (JOBS + "Enqueue", BAD_JOB, Code.INVALID_ARGUMENT),
    "by the database": (JOBS + "GetJob", NO_JOB, Code.NOT_FOUND),
    "by a stream": (
        JOBS + "Watch",
        job_service_pb2.WatchRequest().SerializeToString(),
        Code.INVALID_ARGUMENT,
    ),
}


@pytest.mark.parametrize(("path", "request_bytes", "code"), IMMEDIATE.values(), ids=IMMEDIATE.keys())
def test_an_immediate_error_is_trailers_only(peer: Connection, path, request_bytes, code):
    answer = peer.call(path, request_bytes)
    assert_status(answer, code)
    assert answer.order == ["HEADERS+"] and answer.body == b""
    assert answer.grpc_message


def test_an_immediate_error_has_its_details(peer: Connection):
    answer = peer.call(JOBS + "Enqueue", BAD_JOB)
    status, violations = details_of(answer)
    assert status.code == answer.grpc_status == Code.INVALID_ARGUMENT
    assert status.message == answer.grpc_message
    assert list(violations) == ["job.user_id"]


def test_an_error_of_the_database_has_its_details(peer: Connection):
    answer = peer.call(JOBS + "GetJob", NO_JOB)
    status, _ = details_of(answer)
    assert (status.code, status.message) == (answer.grpc_status, answer.grpc_message)
    assert [detail.TypeName() for detail in status.details] == ["google.rpc.ErrorInfo", "google.rpc.ResourceInfo"]


def test_details_are_sent_without_padding(peer: Connection):
    """Servers accept both and send none (PROTOCOL-HTTP2.md, "Custom-Metadata")."""
    remainders = set()
    for length in range(3):
        # The path is in the message and in the metadata of the details.
        (text,) = peer.call("/no.such.Service/" + "m" * length, b"").trailer_values("grpc-status-details-bin")
        assert re.fullmatch(r"[A-Za-z0-9+/]+", text)
        remainders.add(len(decode_bin(text)) % 3)
    assert remainders == {0, 1, 2}, "only some would have needed padding"


# grpc-message


def test_the_message_is_percent_encoded(peer: Connection):
    for name in ("größe", "100%", "a\nb\r\tc", "日本語", "\U0001f682", "a b~!", "\x7f"):
        answer = peer.call(CHECK, health_pb2.HealthCheckRequest(service=name).SerializeToString())
        assert_status(answer, Code.NOT_FOUND)
        raw = answer.trailer("grpc-message") or ""
        # Printable ASCII but for '%', and two upper-case digits after that.
        assert re.fullmatch(r"(?:[ -$&-~]|%[0-9A-F]{2})+", raw), raw
        assert name in answer.grpc_message


def test_a_long_message_is_cut_between_characters(peer: Connection):
    """Trailers of any size would be refused by the client, and the status lost."""
    # Each takes six.
    request = health_pb2.HealthCheckRequest(service="ü" * 500).SerializeToString()
    answer = peer.call(CHECK, request)
    assert_status(answer, Code.NOT_FOUND)
    assert len(answer.trailer("grpc-message") or "") <= 2_048
    assert answer.grpc_message.endswith("ü") and answer.grpc_message.count("ü") > 100


# Before the client has ended its side

EARLY = {
    "no such method": ("/no.such.Service/Method", b"", Code.UNIMPLEMENTED),
    "a bad prefix": (CHECK, b"\x07", Code.INTERNAL),
    "too large": (JOBS + "GetJob", message(b"", length=5 << 20), Code.RESOURCE_EXHAUSTED),
}


@pytest.mark.parametrize(("path", "body", "code"), EARLY.values(), ids=EARLY.keys())
def test_the_status_comes_first_and_then_the_reset(peer: Connection, path, body, code):
    """RFC 9113, 8.1: the answer is whole, the rest of the request does not matter: NO_ERROR."""
    answer = peer.answer(peer.request(path, body, end=False))
    assert_status(answer, code)
    assert answer.order == ["HEADERS+", "RST_STREAM"] and answer.reset == NO_ERROR
    assert_serves(peer)


def test_the_trailers_come_first_and_then_the_reset(peer: Connection):
    """The same on a stream whose answer has begun."""
    stream = peer.request(REFLECT, message(LARGE_QUESTION), end=False)
    answer = peer.answer_of(stream)
    peer.until(lambda: bool(answer.body))
    peer.send_data(stream, b"\x07")
    answer = peer.answer(stream)
    assert_status(answer, Code.INTERNAL, trailers_only=False)
    assert answer.order[0] == "HEADERS" and answer.order[-2:] == ["HEADERS+", "RST_STREAM"]
    assert answer.reset == NO_ERROR and len(answer.messages) == 1


def test_a_deadline_comes_first_and_then_the_reset(peer: Connection):
    stream = peer.request(REFLECT, None, ("grpc-timeout", "100m"), end=False)
    answer = peer.answer(stream)
    assert_status(answer, Code.DEADLINE_EXCEEDED)
    assert answer.order == ["HEADERS+", "RST_STREAM"] and answer.reset == NO_ERROR


def test_what_is_sent_on_after_the_answer_is_dropped(peer: Connection):
    """The client has not seen it yet. Its bytes come back to the connection's window."""
    stream = peer.request("/no.such.Service/Method", None, end=False)
    assert peer.answer(stream).reset == NO_ERROR
    for _ in range(64):
        # 4 MiB in all, of a window of one.
        peer.send_data(stream, bytes(65_535))
        peer.settle()
    peer.send_data(stream, b"", end=True)
    assert_serves(peer)


@pytest.mark.parametrize(("path", "code"), [(CHECK, Code.OK), ("/no/method", Code.UNIMPLEMENTED)])
def test_no_reset_when_the_client_has_ended(peer: Connection, path, code):
    answer = peer.call(path)
    assert answer.grpc_status == code
    assert answer.reset is None and answer.order[-1] == "HEADERS+"
    # Nor later.
    assert_serves(peer)
    assert answer.reset is None


def test_no_reset_when_the_client_ends_with_its_headers(peer: Connection):
    answer = peer.answer(peer.request("/no/method", None, end=True))
    assert answer.order == ["HEADERS+"]


def test_no_reset_when_the_client_ends_a_stream(peer: Connection):
    answer = peer.answer(peer.request(REFLECT, message(LARGE_QUESTION)))
    assert answer.grpc_status == Code.OK and answer.reset is None


# Metadata: where the interop server gives back what it was given

UNARY = "/grpc.testing.TestService/UnaryCall"
INITIAL = "x-grpc-test-echo-initial"
TRAILING = "x-grpc-test-echo-trailing-bin"


@pytest.fixture
def interop(interop_server: str) -> Iterator[Connection]:
    with Connection.open(interop_server) as peer:
        yield peer


def echoed(answer) -> list[bytes]:
    """The values of the trailing metadata; several may come in one field."""
    return [decode_bin(part) for text in answer.trailer_values(TRAILING) for part in text.split(",")]


def unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode().rstrip("=")


@pytest.mark.parametrize("is_padded", [True, False], ids=["padded", "unpadded"])
def test_bytes_as_metadata(interop: Connection, is_padded):
    for data in (b"\xab", b"\xab\xab", b"\xab\xab\xab", b"\xab\0\xff\xfe", bytes(range(256))):
        text = base64.b64encode(data).decode() if is_padded else unpadded(data)
        answer = interop.call(UNARY, b"", (TRAILING, text))
        assert answer.grpc_status == Code.OK, f"{answer}"
        assert echoed(answer) == [data]
        # Sent without padding, whatever came.
        assert all("=" not in item for item in answer.trailer_values(TRAILING))


def test_no_bytes_as_metadata(interop: Connection):
    answer = interop.call(UNARY, b"", (TRAILING, ""))
    assert answer.grpc_status == Code.OK and echoed(answer) == [b""]


def test_values_joined_by_a_comma(interop: Connection):
    """As a proxy may join them."""
    for text in ("qg==,q6s=", "qg,q6s", "qg, q6s=", "qg== , q6s"):
        answer = interop.call(UNARY, b"", (TRAILING, text))
        assert answer.grpc_status == Code.OK and echoed(answer) == [b"\xaa", b"\xab\xab"], f"{text}: {answer}"


def test_values_in_fields_of_their_own(interop: Connection):
    answer = interop.call(UNARY, b"", (TRAILING, "qg"), (TRAILING, "q6s="))
    assert answer.grpc_status == Code.OK and echoed(answer) == [b"\xaa", b"\xab\xab"]


def test_text_as_metadata(interop: Connection):
    """In the headers, as it is: a comma in it has no meaning."""
    answer = interop.call(UNARY, b"", (INITIAL, "a, b=c%20d"))
    assert answer.grpc_status == Code.OK and answer.header(INITIAL) == "a, b=c%20d"
    assert INITIAL not in [name for name, _ in answer.trailers or []]


def test_bytes_that_are_not_base64(interop: Connection):
    """They are nobody's metadata; whether the call goes on without is for the server to say."""
    for text in ("!", "qg=", "q", "q===", "qg==qg==", "=qg"):
        answer = interop.call(UNARY, b"", (TRAILING, text))
        assert answer.grpc_status in (Code.OK, Code.INTERNAL)
        assert text not in answer.trailer_values(TRAILING)
    assert interop.call(UNARY).grpc_status == Code.OK


def test_a_status_with_metadata_is_trailers_only(interop: Connection):
    """EchoStatus with a code and a message; metadata goes with it."""
    status = b"\x08\x0a\x12\x05" + "tëst".encode()
    request = b"\x3a" + bytes([len(status)]) + status
    answer = interop.call(UNARY, request, (INITIAL, "one"), (TRAILING, "qg"))
    assert answer.grpc_status == Code.ABORTED and answer.grpc_message == "tëst"
    assert answer.header(INITIAL) == "one" and echoed(answer) == [b"\xaa"]
