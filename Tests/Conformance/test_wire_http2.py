"""Frames that are wrong, or that a server has to pass over (RFC 9113, RFC 7541)."""

from __future__ import annotations

import struct

import pytest
from frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_FRAME_SIZE,
    NO_ERROR,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Connection,
    grpc_headers,
    message,
    raw_frame,
)
from harness import Server
from wire import (
    BATCH,
    CHECK,
    REFLECT,
    SERVING,
    WATCH_HEALTH,
    assert_connection_error,
    assert_reset,
    assert_serves,
)

#: What a frame of each type may have for a payload, on stream 1.
PRIORITY_PAYLOAD = struct.pack(">IB", 0, 15)


def error_code(code: int) -> bytes:
    return struct.pack(">I", code)


def open_watch(peer: Connection) -> int:
    """A stream that the client has ended and the server has not."""
    stream = peer.request(WATCH_HEALTH, message(b""))
    answer = peer.answer_of(stream)
    peer.until(lambda: bool(answer.body))
    return stream


# The preface


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + raw_frame(SETTINGS, 0, 0),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"\0" * 24,
    ],
    ids=["HTTP/1.1", "nearly", "TLS", "zeros"],
)
def test_another_preface(server: Server, data):
    """No HTTP/2 client is there: the connection is closed."""
    with Connection.open(server.address, preface=False) as peer:
        peer.send(data)
        peer.until_closed()


def test_a_preface_in_parts(server: Server):
    with Connection.open(server.address, preface=False) as peer:
        for byte in PREFACE:
            peer.send(bytes([byte]))
        peer.send_settings()
        peer.settle()
        assert_serves(peer)


def test_SETTINGS_come_first(server: Server):
    with Connection.open(server.address, preface=False) as peer:
        peer.send(PREFACE, raw_frame(PING, 0, 0, bytes(8)))
        assert_connection_error(peer, PROTOCOL_ERROR)


def test_the_servers_SETTINGS_come_first(peer: Connection):
    assert peer.frames[0].type == SETTINGS and "ACK" not in peer.frames[0].flags


def test_a_call_before_the_servers_SETTINGS_are_read(server: Server):
    """A client may send at once."""
    with Connection.open(server.address, preface=False) as peer:
        peer.hello()
        stream = peer.request(CHECK, message(b""))
        assert peer.answer(stream).messages == [SERVING]


# Stream ids

STREAM_0 = {
    "DATA": raw_frame(DATA, 0, 0, b"data"),
    "HEADERS": None,
    "RST_STREAM": raw_frame(RST_STREAM, 0, 0, error_code(NO_ERROR)),
    "CONTINUATION": raw_frame(CONTINUATION, END_HEADERS, 0, b""),
}


@pytest.mark.parametrize("frame", STREAM_0.values(), ids=STREAM_0.keys())
def test_frames_of_streams_on_stream_0(peer: Connection, frame):
    peer.send(frame or raw_frame(HEADERS, END_HEADERS, 0, peer.encode(grpc_headers(CHECK))))
    assert_connection_error(peer, PROTOCOL_ERROR)


def test_PRIORITY_on_stream_0(peer: Connection):
    """An error, or passed over like every other PRIORITY; the server has said that it looks at none."""
    peer.send(raw_frame(PRIORITY, 0, 0, PRIORITY_PAYLOAD))
    peer.settle()
    if peer.goaways:
        assert_connection_error(peer, PROTOCOL_ERROR)
    else:
        assert_serves(peer)


STREAM_1 = {
    "SETTINGS": raw_frame(SETTINGS, 0, 1),
    "PING": raw_frame(PING, 0, 1, bytes(8)),
    "GOAWAY": raw_frame(GOAWAY, 0, 1, bytes(8)),
}


@pytest.mark.parametrize("frame", STREAM_1.values(), ids=STREAM_1.keys())
def test_frames_of_the_connection_on_a_stream(peer: Connection, frame):
    peer.send(frame)
    assert_connection_error(peer, PROTOCOL_ERROR)


IDLE = {
    "DATA": raw_frame(DATA, 0, 1, b"data"),
    "RST_STREAM": raw_frame(RST_STREAM, 0, 1, error_code(NO_ERROR)),
    "WINDOW_UPDATE": raw_frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1)),
    "CONTINUATION": raw_frame(CONTINUATION, END_HEADERS, 1, b""),
}


@pytest.mark.parametrize("frame", IDLE.values(), ids=IDLE.keys())
def test_frames_before_HEADERS(peer: Connection, frame):
    peer.send(frame)
    assert_connection_error(peer, PROTOCOL_ERROR)


@pytest.mark.parametrize("stream", [2, 4, 2**31 - 2])
def test_an_even_stream(peer: Connection, stream):
    peer.send_headers(stream, grpc_headers(CHECK), end=True)
    assert_connection_error(peer, PROTOCOL_ERROR)


def test_a_stream_below_the_last(peer: Connection):
    """It was closed when the greater one was opened (RFC 9113, 5.1.1). It is not served; whether the
    connection ends for it is for the server to say, as frames of a stream that it has reset look the same."""
    peer.send_headers(5, grpc_headers(CHECK))
    peer.send_data(5, message(b""), end=True)
    assert peer.answer(5).messages == [SERVING]
    peer.send_headers(3, grpc_headers(CHECK))
    peer.send_data(3, message(b""), end=True)
    peer.settle()
    assert peer.answer_of(3).headers is None
    if peer.goaways:
        assert_connection_error(peer, PROTOCOL_ERROR, STREAM_CLOSED)
    else:
        stream = 7
        peer.send_headers(stream, grpc_headers(CHECK))
        peer.send_data(stream, message(b""), end=True)
        assert peer.answer(stream).messages == [SERVING]


def test_a_stream_far_above_the_last(peer: Connection):
    peer.send_headers(2**31 - 1, grpc_headers(CHECK))
    peer.send_data(2**31 - 1, message(b""), end=True)
    assert peer.answer(2**31 - 1).messages == [SERVING]


def test_the_reserved_bit_of_a_stream_id(peer: Connection):
    stream = peer.request(CHECK, None, end=False)
    peer.send(raw_frame(DATA, END_STREAM, stream | 1 << 31, message(b"")))
    assert peer.answer(stream).messages == [SERVING]


# Streams that have ended


def test_DATA_after_the_end(peer: Connection):
    """On a stream that the client has ended and the server has not."""
    stream = open_watch(peer)
    peer.send_data(stream, b"data")
    answer = peer.answer_of(stream)
    peer.until(lambda: answer.reset is not None or bool(peer.goaways))
    assert (answer.reset if answer.reset is not None else peer.goaways[0].error_code) == STREAM_CLOSED


def test_HEADERS_after_the_end(peer: Connection):
    stream = open_watch(peer)
    peer.send_headers(stream, [("x-more", "1")], end=True)
    answer = peer.answer_of(stream)
    peer.until(lambda: answer.reset is not None or bool(peer.goaways))
    assert (answer.reset if answer.reset is not None else peer.goaways[0].error_code) == STREAM_CLOSED


def test_DATA_on_a_closed_stream(peer: Connection):
    """It is dropped, as after a reset of ours that the client has not seen; or the connection ends for it.
    What it may not do is starve the others: the bytes come back to the connection's window."""
    answer = peer.call(CHECK)
    for _ in range(64):
        peer.send_data(answer.stream, bytes(65_535))
        peer.settle()
    if peer.is_closed:
        assert peer.goaways[0].error_code == STREAM_CLOSED
    else:
        assert_serves(peer)


def test_late_frames_on_a_closed_stream(peer: Connection):
    """These may have been sent before our end was seen: they are no error."""
    stream = peer.call(CHECK).stream
    peer.send_window_update(stream, 100)
    peer.send_reset(stream, NO_ERROR)
    peer.send(raw_frame(PRIORITY, 0, stream, PRIORITY_PAYLOAD))
    assert_serves(peer)


# Sizes

SIZES = {
    "DATA over the limit": raw_frame(DATA, 0, 1, bytes(16_385)),
    "an unknown frame over the limit": raw_frame(0xFA, 0, 0, bytes(16_385)),
    "HEADERS over the limit": raw_frame(HEADERS, END_HEADERS, 1, bytes(16_385)),
    "SETTINGS of 5 bytes": raw_frame(SETTINGS, 0, 0, bytes(5)),
    "SETTINGS of 7 bytes": raw_frame(SETTINGS, 0, 0, bytes(7)),
    "an acknowledgement with a payload": raw_frame(SETTINGS, ACK, 0, bytes(6)),
    "PING of 7 bytes": raw_frame(PING, 0, 0, bytes(7)),
    "PING of 9 bytes": raw_frame(PING, 0, 0, bytes(9)),
    "WINDOW_UPDATE of 3 bytes": raw_frame(WINDOW_UPDATE, 0, 0, bytes(3)),
    "WINDOW_UPDATE of 5 bytes": raw_frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\x01\0"),
    "GOAWAY of 7 bytes": raw_frame(GOAWAY, 0, 0, bytes(7)),
    "RST_STREAM of 3 bytes": raw_frame(RST_STREAM, 0, 1, bytes(3)),
    "RST_STREAM of 5 bytes": raw_frame(RST_STREAM, 0, 1, bytes(5)),
}


@pytest.mark.parametrize("frame", SIZES.values(), ids=SIZES.keys())
def test_a_frame_of_the_wrong_size(peer: Connection, frame):
    if frame[8:9] == b"\x01":
        assert peer.request(CHECK, None, end=False) == 1
    peer.send(frame)
    assert_connection_error(peer, FRAME_SIZE_ERROR)


def test_PRIORITY_of_the_wrong_size(peer: Connection):
    """Of its stream only (RFC 9113, 6.3), or of the connection."""
    stream = peer.request(CHECK, None, end=False)
    peer.send(raw_frame(PRIORITY, 0, stream, bytes(4)))
    answer = peer.answer_of(stream)
    peer.until(lambda: answer.reset is not None or bool(peer.goaways))
    assert FRAME_SIZE_ERROR in (answer.reset, *(frame.error_code for frame in peer.goaways))


def test_a_frame_as_large_as_it_may_be(peer: Connection):
    assert peer.settings.get(MAX_FRAME_SIZE, 16_384) == 16_384
    stream = peer.request(BATCH, None, end=False)
    peer.send_data(stream, message(bytes(16_379)), frame_bytes=16_384, end=True)
    # No message in protobuf, but one in gRPC: the handler has seen it.
    assert peer.answer(stream).grpc_status == 3


@pytest.mark.parametrize("type", [DATA, HEADERS])
def test_more_padding_than_payload(peer: Connection, type):
    stream = peer.request(CHECK, None, end=False) if type == DATA else peer.new_stream()
    peer.send(raw_frame(type, PADDED | END_HEADERS, stream, b"\x05abcd"))
    assert_connection_error(peer, PROTOCOL_ERROR)


# SETTINGS

BAD_SETTINGS = {
    "ENABLE_PUSH 2": (ENABLE_PUSH, 2, PROTOCOL_ERROR),
    "INITIAL_WINDOW_SIZE 2^31": (INITIAL_WINDOW_SIZE, 2**31, FLOW_CONTROL_ERROR),
    "INITIAL_WINDOW_SIZE 2^32-1": (INITIAL_WINDOW_SIZE, 2**32 - 1, FLOW_CONTROL_ERROR),
    "MAX_FRAME_SIZE 0": (MAX_FRAME_SIZE, 0, PROTOCOL_ERROR),
    "MAX_FRAME_SIZE 2^14-1": (MAX_FRAME_SIZE, 16_383, PROTOCOL_ERROR),
    "MAX_FRAME_SIZE 2^24": (MAX_FRAME_SIZE, 2**24, PROTOCOL_ERROR),
}


@pytest.mark.parametrize(("id", "value", "code"), BAD_SETTINGS.values(), ids=BAD_SETTINGS.keys())
def test_a_setting_out_of_range(peer: Connection, id, value, code):
    peer.send_settings({id: value})
    assert_connection_error(peer, code)


def test_settings_that_are_not_known(peer: Connection):
    peer.send_settings([(0x0, 1), (0xFF, 2**32 - 1), (0x1234, 0), (0xF000, 7)])
    peer.settle()
    assert_serves(peer)


def test_every_SETTINGS_is_acknowledged(peer: Connection):
    before = sum(frame.type == SETTINGS and "ACK" in frame.flags for frame in peer.frames)
    for value in (65_535, 0, 2**31 - 1):
        peer.send_settings({INITIAL_WINDOW_SIZE: value})
    peer.settle()
    after = sum(frame.type == SETTINGS and "ACK" in frame.flags for frame in peer.frames)
    assert after - before == 4


def test_the_last_of_a_setting_given_twice_counts(server: Server):
    settings = [(INITIAL_WINDOW_SIZE, 0), (MAX_FRAME_SIZE, 16_384), (INITIAL_WINDOW_SIZE, 65_535)]
    with Connection.open(server.address, preface=False) as peer:
        peer.send(PREFACE)
        peer.send_settings(settings)
        assert_serves(peer)


def test_a_client_without_HPACKs_table(server: Server):
    """The server has to say that it gave its table up, and then do without (RFC 7541, 4.2)."""
    with Connection.open(
        server.address, settings={HEADER_TABLE_SIZE: 0, INITIAL_WINDOW_SIZE: 65_535}
    ) as peer:
        peer.decoder.max_allowed_table_size = 0
        for _ in range(3):
            assert_serves(peer)
        assert peer.decoder.header_table_size == 0


# PING


def test_a_PING_comes_back(peer: Connection):
    for data in (b"12345678", bytes(8), b"\xff" * 8):
        peer.send_ping(data)
        frame = peer.receive()
        assert frame and frame.type == PING
        assert "ACK" in frame.flags and frame.opaque_data == data


def test_an_answer_to_a_PING_that_was_not_sent(peer: Connection):
    peer.send(raw_frame(PING, ACK, 0, b"nobodyis"))
    assert_serves(peer)
    assert not any(frame.type == PING for frame in peer.frames)


# What is passed over


def test_frames_of_an_unknown_type(peer: Connection):
    stream = peer.request(CHECK, None, end=False)
    for type in (0xA, 0x10, 0x42, 0xFF):
        for id in (0, stream, stream + 100):
            peer.send(raw_frame(type, 0xFF, id, b"whatever it is"))
    peer.send_data(stream, message(b""), end=True)
    assert peer.answer(stream).messages == [SERVING]


def test_flags_without_a_meaning(peer: Connection):
    stream = peer.new_stream()
    peer.send(raw_frame(HEADERS, END_HEADERS | 0xD2 & ~PADDED, stream, peer.encode(grpc_headers(CHECK))))
    peer.send(raw_frame(DATA, END_STREAM | 0xF6 & ~PADDED, stream, message(b"")))
    assert peer.answer(stream).messages == [SERVING]


def test_PRIORITY_is_passed_over(peer: Connection):
    """On streams that are open, that were never opened, and that do not exist."""
    stream = peer.request(CHECK, None, end=False)
    for id in (stream, stream + 2, stream + 100, 2):
        peer.send(raw_frame(PRIORITY, 0, id, PRIORITY_PAYLOAD))
    peer.send_data(stream, message(b""), end=True)
    assert peer.answer(stream).messages == [SERVING]
    assert_serves(peer)


def test_HEADERS_with_a_priority(peer: Connection):
    stream = peer.new_stream()
    payload = PRIORITY_PAYLOAD + peer.encode(grpc_headers(CHECK))
    peer.send(raw_frame(HEADERS, END_HEADERS | 0x20, stream, payload))
    peer.send_data(stream, message(b""), end=True)
    assert peer.answer(stream).messages == [SERVING]


def test_a_reset_with_an_unknown_code(peer: Connection):
    stream = open_watch(peer)
    peer.send_reset(stream, 0xDEADBEEF)
    assert_serves(peer)


def test_a_client_that_says_GOAWAY(peer: Connection):
    """It opens no more streams; those that it has go on, and then the connection ends."""
    stream = peer.request(REFLECT, None, end=False)
    peer.send(raw_frame(GOAWAY, 0, 0, struct.pack(">II", 0, NO_ERROR) + b"bye"))
    peer.send_data(stream, message(b"\x3a\x01*"))
    answer = peer.answer_of(stream)
    peer.until(lambda: bool(answer.body))
    peer.send_data(stream, b"", end=True)
    assert peer.answer(stream, settle=False).grpc_status == 0
    peer.until_closed()


# What a client may not send


def test_PUSH_PROMISE_from_a_client(peer: Connection):
    stream = peer.request(CHECK, None, end=False)
    block = peer.encode(grpc_headers(CHECK))
    peer.send(raw_frame(PUSH_PROMISE, END_HEADERS, stream, struct.pack(">I", 2) + block))
    assert_connection_error(peer, PROTOCOL_ERROR)


BETWEEN = {
    "DATA": raw_frame(DATA, 0, 1, b"data"),
    "PING": raw_frame(PING, 0, 0, bytes(8)),
    "SETTINGS": raw_frame(SETTINGS, 0, 0),
    "another HEADERS": raw_frame(HEADERS, END_HEADERS, 3, b"\x82"),
    "CONTINUATION of another stream": raw_frame(CONTINUATION, END_HEADERS, 3, b"\x82"),
    "a frame of an unknown type": raw_frame(0xFA, 0, 0, b"data"),
}


@pytest.mark.parametrize("frame", BETWEEN.values(), ids=BETWEEN.keys())
def test_frames_within_a_header_block(peer: Connection, frame):
    """From HEADERS to the end of the block there is nothing but CONTINUATION (RFC 9113, 6.10)."""
    block = peer.encode(grpc_headers(CHECK))
    peer.send(
        raw_frame(HEADERS, 0, 1, block[:10]), frame, raw_frame(CONTINUATION, END_HEADERS, 1, block[10:])
    )
    assert_connection_error(peer, PROTOCOL_ERROR)


def test_a_header_block_in_parts(peer: Connection):
    stream = peer.new_stream()
    block = peer.encode(grpc_headers(CHECK))
    size = len(block) // 5 + 1
    peer.send(peer.block_frames(stream, block, frame_bytes=size))
    peer.send_data(stream, message(b""), end=True)
    assert peer.answer(stream).messages == [SERVING]


def test_a_header_block_with_empty_parts(peer: Connection):
    stream = peer.new_stream()
    block = peer.encode(grpc_headers(CHECK))
    peer.send(
        raw_frame(HEADERS, 0, stream, b""),
        raw_frame(CONTINUATION, 0, stream, b""),
        raw_frame(CONTINUATION, 0, stream, block),
        raw_frame(CONTINUATION, END_HEADERS, stream, b""),
    )
    peer.send_data(stream, message(b""), end=True)
    assert peer.answer(stream).messages == [SERVING]


def test_CONTINUATION_after_the_end_of_a_block(peer: Connection):
    stream = peer.request(CHECK, None, end=False)
    peer.send(raw_frame(CONTINUATION, END_HEADERS, stream, b""))
    assert_connection_error(peer, PROTOCOL_ERROR)


def test_CONTINUATION_without_end(peer: Connection):
    stream = peer.new_stream()
    peer.send(raw_frame(HEADERS, 0, stream, b""), *[raw_frame(CONTINUATION, 0, stream, b"")] * 1_000)
    peer.until_closed()


# HPACK

GARBAGE = {
    "index 0": b"\x80",
    "an index beyond the tables": b"\xff\xff\x7f",
    "an index that overflows": b"\xff" + b"\xff" * 10 + b"\x7f",
    "a literal whose name is beyond the tables": b"\x7f\xff\x7f\x01a",
    "a name longer than the block": b"\x40\x7f\xff\x7fabc",
    "a value longer than the block": b"\x40\x01a\x7f\xff\x7fabc",
    "a cut literal": b"\x40",
    "Huffman padding of more than 7 bits": b"\x40\x01a\x82\xff\xff",
    "Huffman padding that is not ones": b"\x40\x01a\x81\x00",
    "Huffman's end-of-string": b"\x40\x01a\x84\xff\xff\xff\xff",
    "a table larger than agreed": b"\x3f\xe2\x1f",
    "a table as large as can be": b"\x3f\xff\xff\xff\xff\x0f",
    "a table size in the middle": b"\x82\x20",
}


@pytest.mark.parametrize("block", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_for_headers(peer: Connection, block):
    peer.send(raw_frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
    assert_connection_error(peer, COMPRESSION_ERROR)


def test_garbage_for_trailers(peer: Connection):
    stream = peer.request(CHECK, message(b""), end=False)
    peer.send(raw_frame(HEADERS, END_HEADERS | END_STREAM, stream, b"\x80"))
    assert_connection_error(peer, COMPRESSION_ERROR)


def test_a_table_within_what_is_agreed(peer: Connection):
    for size in (100, 0, 4_096):
        peer.encoder.header_table_size = size
        for _ in range(3):
            assert_serves(peer)


def test_the_table_counts_streams_that_are_refused(peer: Connection):
    """What a refused request has put into the table is there for the next one."""
    extra = ("x-of-the-table", "one")
    assert peer.call("/no/method", b"", extra).grpc_status == 12
    for fields in ([*grpc_headers(CHECK), extra], [*grpc_headers(CHECK), ("x-of-the-table", "two")]):
        assert peer.call(CHECK, headers=fields).messages == [SERVING]


# Two things at once


def test_a_request_without_a_path_does_no_harm_to_others(peer: Connection):
    """A stream error is its stream's."""
    watch = open_watch(peer)
    assert_reset(peer, peer.request(CHECK, None, headers=grpc_headers(CHECK, drop=[":path"])), PROTOCOL_ERROR)
    assert not peer.answer_of(watch).is_over


def test_streams_take_turns(peer: Connection):
    """Frames of several requests, mixed."""
    streams = [peer.request(CHECK, None, end=False) for _ in range(10)]
    for byte in message(b""):
        peer.send(*(raw_frame(DATA, 0, stream, bytes([byte])) for stream in streams))
    for stream in reversed(streams):
        peer.send_data(stream, b"", end=True)
    for stream in streams:
        assert peer.answer(stream).messages == [SERVING]
