"""Which requests are calls at all, and what their headers ask for (PROTOCOL-HTTP2.md, "Requests")."""

from __future__ import annotations

import time

import pytest
from frames import PROTOCOL_ERROR, Connection, grpc_headers, message
from wire import (
    CHECK,
    JOBS,
    SERVING,
    WATCH_HEALTH,
    Code,
    assert_reset,
    assert_serves,
    assert_status,
    filled,
    header_list_bytes,
)

# The content type


@pytest.mark.parametrize(
    "value",
    ["application/grpc", "application/grpc+proto", "application/grpc;v=1", "application/grpc+proto; v=1"],
)
def test_a_content_type_of_grpc(peer: Connection, value):
    answer = peer.call(CHECK, headers=grpc_headers(CHECK, replace={"content-type": value}))
    assert answer.grpc_status == Code.OK and answer.messages == [SERVING]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "application/json",
        "text/plain",
        "application/grp",
        "application/grpcx",
        "application/grpc-web",
    ],
)
def test_another_content_type_is_415(peer: Connection, value):
    """A browser or a proxy must not take a gRPC error, which has the status 200, for success."""
    headers = grpc_headers(CHECK, drop=["content-type"])
    if value is not None:
        headers.append(("content-type", value))
    answer = peer.call(CHECK, headers=headers)
    assert answer.http_status == 415 and answer.order == ["HEADERS+"]
    assert answer.grpc_status is None
    assert_serves(peer)


def test_415_does_not_wait_for_the_body(peer: Connection):
    stream = peer.request(CHECK, None, end=False, headers=grpc_headers(CHECK, drop=["content-type"]))
    answer = peer.answer(stream)
    assert answer.http_status == 415 and answer.order == ["HEADERS+", "RST_STREAM"] and answer.reset == 0
    assert_serves(peer)


# The method


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "post"])
def test_not_POST_is_405(peer: Connection, method):
    answer = peer.call(CHECK, headers=grpc_headers(CHECK, replace={":method": method}))
    assert answer.http_status == 405 and answer.order == ["HEADERS+"]
    assert answer.grpc_status is None
    assert_serves(peer)


def test_405_says_what_is_allowed(peer: Connection):
    """RFC 9110, 15.5.6: the answer must have the field Allow."""
    answer = peer.call(CHECK, headers=grpc_headers(CHECK, replace={":method": "GET"}))
    assert answer.http_status == 405 and answer.header("allow") == "POST"


# The path


@pytest.mark.parametrize(
    "path",
    [
        "/grpc.health.v1.Health/NoSuch",
        "/no.such.Service/Check",
        "/grpc.health.v1.health/check",
        "/grpc.health.v1.Health/Check/",
        "/grpc.health.v1.Health/Check?a=b",
        "//grpc.health.v1.Health/Check",
        "/",
    ],
)
def test_a_path_that_is_no_method(peer: Connection, path):
    answer = peer.call(path)
    assert_status(answer, Code.UNIMPLEMENTED)
    assert_serves(peer)


# grpc-timeout


@pytest.mark.parametrize("unit", ["H", "M", "S"])
def test_one_to_eight_digits_of_time(peer: Connection, unit):
    for digits in range(1, 9):
        answer = peer.call(CHECK, b"", ("grpc-timeout", "9" * digits + unit))
        assert answer.grpc_status == Code.OK and answer.messages == [SERVING]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("1S", 1.0), ("200m", 0.2), ("00000300m", 0.3), ("200000u", 0.2), ("99999999n", 0.1), ("1n", 0.0)],
)
def test_a_deadline_that_passes(peer: Connection, value, seconds):
    begun = time.monotonic()
    answer = peer.call(WATCH_HEALTH, b"", ("grpc-timeout", value))
    assert answer.grpc_status == Code.DEADLINE_EXCEEDED
    assert time.monotonic() - begun >= seconds * 0.99
    assert_serves(peer)


@pytest.mark.parametrize("path", [CHECK, WATCH_HEALTH, JOBS + "ListJobs"])
def test_no_time_at_all(peer: Connection, path):
    """It has passed before the handler could begin, so it does not."""
    for value in ("0H", "0M", "0S", "0m", "0u", "0n", "00000000S"):
        answer = peer.call(path, b"", ("grpc-timeout", value))
        assert_status(answer, Code.DEADLINE_EXCEEDED)


@pytest.mark.parametrize("value", ["99999999H", "99999999M", "99999999S", "99999999m", "99999999u"])
def test_the_longest_deadlines(peer: Connection, value):
    """11,000 years are more than the clock can count: it is no error, and not over at once."""
    stream = peer.request(WATCH_HEALTH, message(b""), ("grpc-timeout", value))
    answer = peer.answer_of(stream)
    peer.until(lambda: bool(answer.body))
    assert_serves(peer)
    assert answer.messages == [SERVING] and not answer.is_over


MALFORMED_DEADLINES = [
    *("", "S", "1", "100", "123456789S", "000000001S", "-1S", "+1S", "1 S", "1s", "1h", "1N"),
    *("1.5S", "1e3S", "0x1S", "S1", "1SS", "1S1", "1,5S", "\u0661S"),
]


def test_a_malformed_deadline(peer: Connection):
    for value in MALFORMED_DEADLINES:
        # As bytes, for one of them has a digit that is not ASCII's.
        answer = peer.call(CHECK, b"", ("grpc-timeout", value.encode().decode("latin-1")))
        assert answer.grpc_status == Code.INTERNAL and answer.is_trailers_only, f"{value!r}: {answer}"
    assert_serves(peer)


def test_spaces_around_a_deadline(peer: Connection):
    """RFC 9113, 8.2.1: a field that begins or ends so makes the request malformed."""
    for value in (" 1S", "1S ", "\t1S"):
        answer = peer.answer(peer.request(CHECK, message(b""), ("grpc-timeout", value)))
        assert answer.reset == PROTOCOL_ERROR or answer.grpc_status == Code.INTERNAL, f"{value!r}: {answer}"
        assert answer.body == b""
    assert_serves(peer)


# The size of the headers


def test_the_limit_is_told(peer: Connection):
    assert peer.settings[0x6] == 8_192


def test_headers_as_large_as_they_may_be(peer: Connection):
    answer = peer.call(CHECK, headers=filled(8_192))
    assert answer.grpc_status == Code.OK and answer.messages == [SERVING]


@pytest.mark.parametrize("total", [8_193, 20_000, 60_000])
def test_larger_headers_are_refused(peer: Connection, total):
    """With a status, for a stream that is only reset would be tried again; and the connection goes on."""
    answer = peer.call(CHECK, headers=filled(total))
    assert_status(answer, Code.RESOURCE_EXHAUSTED)
    assert answer.order == ["HEADERS+"]
    assert_serves(peer)


def test_larger_headers_are_refused_before_the_body(peer: Connection):
    stream = peer.request(CHECK, None, end=False, headers=filled(10_000))
    answer = peer.answer(stream)
    assert_status(answer, Code.RESOURCE_EXHAUSTED)
    assert answer.order == ["HEADERS+", "RST_STREAM"] and answer.reset == 0
    assert_serves(peer)


def test_each_field_counts_thirty_two_bytes_more(peer: Connection):
    """Many short fields take room too."""
    fields = grpc_headers(CHECK)
    count = (8_192 - header_list_bytes(fields)) // 33
    answer = peer.call(CHECK, headers=[*fields, *[("a", "")] * count])
    assert answer.grpc_status == Code.OK
    answer = peer.call(CHECK, headers=[*fields, *[("a", "")] * (count + 1)])
    assert_status(answer, Code.RESOURCE_EXHAUSTED)
    assert_serves(peer)


def test_fields_count_as_they_unpack(peer: Connection):
    """A field that is in HPACK's table takes one byte on the wire."""
    large = ("x-large", "a" * 3_000)
    assert peer.call(CHECK, headers=[*grpc_headers(CHECK), large]).grpc_status == Code.OK
    block = peer.encode([*grpc_headers(CHECK), large, large, large])
    assert len(block) < 100
    stream = peer.new_stream()
    peer.send(peer.block_frames(stream, block, end=True))
    assert_status(peer.answer(stream), Code.RESOURCE_EXHAUSTED)
    assert_serves(peer)


def test_large_trailers_of_a_request(peer: Connection):
    """They have no meaning in gRPC, so it is for the server to pass over them or to refuse them; it goes
    on."""
    stream = peer.request(CHECK, message(b""), end=False)
    peer.send_headers(stream, [("x-fill", "a" * 20_000)], end=True)
    answer = peer.answer(stream)
    assert answer.grpc_status in (Code.OK, Code.RESOURCE_EXHAUSTED)
    assert_serves(peer)


# Requests that are malformed as HTTP/2 (RFC 9113, 8.1.1 to 8.3)

MALFORMED = {
    "no method": grpc_headers(CHECK, drop=[":method"]),
    "no path": grpc_headers(CHECK, drop=[":path"]),
    "no scheme": grpc_headers(CHECK, drop=[":scheme"]),
    "an empty path": grpc_headers("", drop=[]),
    "a path without a slash": grpc_headers(CHECK[1:]),
    "a path twice": [(":path", CHECK), *grpc_headers(CHECK)],
    "an unknown pseudo-header": [(":grpc", "1"), *grpc_headers(CHECK)],
    "a pseudo-header of answers": [(":status", "200"), *grpc_headers(CHECK)],
    "a pseudo-header after a field": [*grpc_headers(CHECK, drop=[":path"]), (":path", CHECK)],
    "an upper-case name": grpc_headers(CHECK, ("X-Upper", "1")),
    "a space in a name": grpc_headers(CHECK, ("x y", "1")),
    "an empty name": grpc_headers(CHECK, ("", "1")),
    "a line break in a value": grpc_headers(CHECK, ("x-value", "a\r\nb: c")),
    "a NUL in a value": grpc_headers(CHECK, ("x-value", "a\0b")),
    "connection": grpc_headers(CHECK, ("connection", "close")),
    "keep-alive": grpc_headers(CHECK, ("keep-alive", "timeout=5")),
    "proxy-connection": grpc_headers(CHECK, ("proxy-connection", "keep-alive")),
    "transfer-encoding": grpc_headers(CHECK, ("transfer-encoding", "chunked")),
    "upgrade": grpc_headers(CHECK, ("upgrade", "h2c")),
    "te is not trailers": grpc_headers(CHECK, replace={"te": "gzip"}),
    "te is more than trailers": grpc_headers(CHECK, replace={"te": "trailers, deflate"}),
    "content-length is no number": grpc_headers(CHECK, ("content-length", "five")),
    "content-length is negative": grpc_headers(CHECK, ("content-length", "-5")),
    "content-length twice": grpc_headers(CHECK, ("content-length", "5"), ("content-length", "6")),
}


@pytest.mark.parametrize("headers", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_request(peer: Connection, headers):
    assert_reset(peer, peer.request(CHECK, message(b""), headers=headers), PROTOCOL_ERROR)


@pytest.mark.parametrize("length", ["0", "4", "6", "1000"])
def test_another_length_than_content_length_says(peer: Connection, length):
    stream = peer.request(CHECK, message(b""), ("content-length", length))
    assert_reset(peer, stream, PROTOCOL_ERROR)


def test_the_length_that_content_length_says(peer: Connection):
    assert peer.call(CHECK, b"", ("content-length", "5")).grpc_status == Code.OK


def test_more_than_content_length_says_is_seen_before_the_end(peer: Connection):
    stream = peer.request(CHECK, message(bytes(100)), ("content-length", "50"), end=False)
    assert_reset(peer, stream, PROTOCOL_ERROR)


@pytest.mark.parametrize(
    "trailers", [[(":path", CHECK)], [("X-Upper", "1")], [("connection", "close")]], ids=str
)
def test_malformed_trailers(peer: Connection, trailers):
    stream = peer.request(CHECK, message(b""), end=False)
    peer.send_headers(stream, trailers, end=True)
    assert_reset(peer, stream, PROTOCOL_ERROR)


def test_a_second_header_list_that_does_not_end_the_stream(peer: Connection):
    stream = peer.request(CHECK, message(b""), end=False)
    peer.send_headers(stream, [("x-more", "1")], end=False)
    assert_reset(peer, stream, PROTOCOL_ERROR)
