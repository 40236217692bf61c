"""Length-prefixed messages: how they are cut, counted and limited (PROTOCOL-HTTP2.md)."""

from __future__ import annotations

import pytest
from frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    Connection,
    grpc_headers,
    message,
    raw_frame,
)
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from wire import (
    BATCH,
    CHECK,
    JOBS,
    LARGE_QUESTION,
    MESSAGE_BYTES_MAX,
    REFLECT,
    SERVING,
    WATCH_HEALTH,
    Code,
    assert_serves,
    assert_status,
    batch,
)

SHORT = health_pb2.HealthCheckRequest(service="12345678").SerializeToString()


# How many


@pytest.mark.parametrize("path", [CHECK, JOBS + "GetJob", WATCH_HEALTH])
def test_no_message(peer: Connection, path):
    """statuscodes.md calls it UNIMPLEMENTED when the number of messages is not the method's."""
    by_data = peer.answer(peer.request(path, b""))
    assert_status(by_data, Code.UNIMPLEMENTED)
    by_headers = peer.answer(peer.request(path, None, end=True))
    assert_status(by_headers, Code.UNIMPLEMENTED)
    assert_serves(peer)


@pytest.mark.parametrize("path", [CHECK, JOBS + "GetJob", WATCH_HEALTH])
def test_two_messages(peer: Connection, path):
    answer = peer.answer(peer.request(path, message(b"") + message(b"")))
    assert_status(answer, Code.UNIMPLEMENTED)
    assert_serves(peer)


def test_a_message_and_a_part_of_another(peer: Connection):
    """Both rules are broken; either answer is right, the message is not taken."""
    answer = peer.answer(peer.request(CHECK, message(b"") + b"\0\0"))
    assert answer.grpc_status in (Code.UNIMPLEMENTED, Code.INTERNAL) and answer.is_trailers_only


def test_no_message_where_any_number_may_come(peer: Connection):
    for body in (b"", None):
        answer = peer.answer(peer.request(REFLECT, body))
        assert answer.grpc_status == Code.OK and answer.body == b""


# Cut short


@pytest.mark.parametrize("path", [CHECK, WATCH_HEALTH, REFLECT])
def test_a_message_that_is_cut_short(peer: Connection, path):
    body = message(SHORT)
    for kept in range(1, len(body)):
        answer = peer.answer(peer.request(path, body[:kept]))
        assert answer.grpc_status == Code.INTERNAL and answer.is_trailers_only, f"{kept} bytes: {answer}"
    assert_serves(peer)


def test_a_message_that_is_cut_short_by_trailers(peer: Connection):
    stream = peer.request(CHECK, message(SHORT)[:9], end=False)
    peer.send_headers(stream, [("x-end", "1")], end=True)
    assert_status(peer.answer(stream), Code.INTERNAL)


# Too large


@pytest.mark.parametrize("path", MESSAGE_BYTES_MAX)
def test_a_large_message_is_refused_by_its_prefix(peer: Connection, path):
    """Nothing of it has come, nor is it waited for. One that is as large as it may be is."""
    limit = MESSAGE_BYTES_MAX[path]
    stream = peer.request(path, message(b"", length=limit), end=False)
    peer.settle()
    assert not peer.answer_of(stream).is_over
    for length in (limit + 1, 2**31, 2**32 - 1):
        answer = peer.answer(peer.request(path, message(b"", length=length), end=False))
        assert_status(answer, Code.RESOURCE_EXHAUSTED)
        assert answer.order == ["HEADERS+", "RST_STREAM"] and answer.reset == 0
    assert_serves(peer)


def test_a_large_message_is_refused_by_a_prefix_in_parts(peer: Connection):
    stream = peer.request(CHECK, None, end=False)
    for byte in message(b"", length=MESSAGE_BYTES_MAX[CHECK] + 1):
        peer.send_data(stream, bytes([byte]))
    assert_status(peer.answer(stream), Code.RESOURCE_EXHAUSTED)


def test_the_largest_message(peer: Connection):
    """Its bytes come as fast as the window is given back."""
    body = message(batch(MESSAGE_BYTES_MAX[BATCH]))
    stream = peer.request(BATCH, None, end=False)
    answer = peer.answer_of(stream)
    window = min(peer.settings[0x4], 65_535)
    for at in range(0, len(body), window):
        assert not answer.is_over, f"{answer}"
        peer.send_data(stream, body[at : at + window], end=at + window >= len(body))
        peer.settle()
    assert_status(peer.answer(stream), Code.INVALID_ARGUMENT)


# The flag


@pytest.mark.parametrize("path", [CHECK, REFLECT])
def test_another_flag_than_0_or_1(peer: Connection, path):
    for flag in (2, 3, 128, 255):
        assert_status(peer.answer(peer.request(path, message(b"", flag))), Code.INTERNAL)
    assert_serves(peer)


@pytest.mark.parametrize("path", [CHECK, REFLECT])
def test_compressed_without_an_encoding(peer: Connection, path):
    for extra in ([], [("grpc-encoding", "identity")]):
        answer = peer.answer(peer.request(path, message(b"", 1), *extra))
        assert_status(answer, Code.INTERNAL)
    assert_serves(peer)


def test_a_bad_flag_is_seen_before_the_end(peer: Connection):
    stream = peer.request(CHECK, b"\x02", end=False)
    answer = peer.answer(stream)
    assert_status(answer, Code.INTERNAL)
    assert answer.order == ["HEADERS+", "RST_STREAM"] and answer.reset == 0


# How they lie in frames


def test_a_byte_a_frame(peer: Connection):
    body = message(health_pb2.HealthCheckRequest(service="signalbox.v1.JobService").SerializeToString())
    stream = peer.request(CHECK, None, end=False)
    peer.send_data(stream, body, end=True, frame_bytes=1)
    answer = peer.answer(stream)
    assert answer.grpc_status == Code.OK and answer.messages == [SERVING]


def test_a_byte_a_write(peer: Connection):
    """The frames' own headers are cut as well."""
    stream = peer.new_stream()
    frames = peer.header_frames(stream, grpc_headers(CHECK)) + raw_frame(
        DATA, END_STREAM, stream, message(b"")
    )
    for byte in frames:
        peer.send(bytes([byte]))
    answer = peer.answer(stream)
    assert answer.grpc_status == Code.OK and answer.messages == [SERVING]


def test_the_end_in_a_frame_of_its_own(peer: Connection):
    stream = peer.request(CHECK, message(b""), end=False)
    peer.send_data(stream, b"", end=True)
    assert peer.answer(stream).messages == [SERVING]


def test_the_end_by_trailers(peer: Connection):
    """Those of a request have no meaning, and do no harm."""
    stream = peer.request(CHECK, message(b""), end=False)
    peer.send_headers(stream, [("x-checksum", "1"), ("grpc-status", "13")], end=True)
    answer = peer.answer(stream)
    assert answer.grpc_status == Code.OK and answer.messages == [SERVING]
    assert answer.order == ["HEADERS", "DATA", "HEADERS+"]


def test_a_frame_without_data_between_others(peer: Connection):
    stream = peer.request(CHECK, b"\0\0", end=False)
    peer.send_data(stream, b"")
    peer.send_data(stream, b"\0\0\0", end=True)
    assert peer.answer(stream).messages == [SERVING]


def test_several_messages_in_one_frame(peer: Connection):
    questions = [f"signalbox.v1.JobService.{name}" for name in ("Enqueue", "GetJob", "Watch")]
    body = b"".join(
        message(reflection_pb2.ServerReflectionRequest(host=name, list_services="*").SerializeToString())
        for name in questions
    )
    answer = peer.answer(peer.request(REFLECT, body))
    assert answer.grpc_status == Code.OK
    answers = [reflection_pb2.ServerReflectionResponse.FromString(data) for _, data in answer.messages]
    assert [item.valid_host for item in answers] == questions


def test_messages_cut_anywhere(peer: Connection):
    """No boundary of a frame is one of a message."""
    one = reflection_pb2.ServerReflectionRequest(list_services="*").SerializeToString()
    body = message(one) * 20
    for size in (1, 3, 7, len(message(one)) + 1):
        stream = peer.request(REFLECT, None, end=False)
        peer.send_data(stream, body, end=True, frame_bytes=size)
        answer = peer.answer(stream)
        assert answer.grpc_status == Code.OK and len(answer.messages) == 20


def test_messages_of_no_bytes(peer: Connection):
    """A length of zero is a message, with nothing but defaults in it."""
    answer = peer.answer(peer.request(REFLECT, message(b"") * 3))
    assert answer.grpc_status == Code.OK and len(answer.messages) == 3


def test_an_answer_comes_before_the_next_message(peer: Connection):
    stream = peer.request(REFLECT, None, end=False)
    answer = peer.answer_of(stream)
    for count in range(1, 4):
        peer.send_data(stream, message(LARGE_QUESTION))
        peer.until(lambda count=count: answer.body.count(b"signalbox/v1/job_service.proto") >= count)
        assert not answer.is_over
    peer.send_data(stream, b"", end=True)
    assert peer.answer(stream).grpc_status == Code.OK
    assert answer.order[-1] == "HEADERS+"


# Padding


@pytest.mark.parametrize("padding", [0, 1, 255])
def test_padded_data(peer: Connection, padding):
    stream = peer.request(CHECK, None, end=False)
    for part in (b"\0\0", b"\0\0\0"):
        peer.send(raw_frame(DATA, PADDED, stream, bytes([padding]) + part + bytes(padding)))
    peer.send(raw_frame(DATA, PADDED | END_STREAM, stream, bytes([padding]) + bytes(padding)))
    assert peer.answer(stream).messages == [SERVING]


@pytest.mark.parametrize("padding", [0, 1, 255])
def test_padded_headers(peer: Connection, padding):
    stream = peer.new_stream()
    payload = bytes([padding]) + peer.encode(grpc_headers(CHECK)) + bytes(padding)
    peer.send(raw_frame(HEADERS, PADDED | END_HEADERS, stream, payload))
    peer.send_data(stream, message(b""), end=True)
    assert peer.answer(stream).messages == [SERVING]
