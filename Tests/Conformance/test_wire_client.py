"""The other end: what the client of the command line makes of a server's answers, errors and resets.

The server is a script. HTTP/2's errors are mapped by PROTOCOL-HTTP2.md, HTTP's by
http-grpc-status-mapping.md.
"""

from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Callable, Iterator

import pytest
from frames import (
    ACK,
    CANCEL,
    COMPRESSION_ERROR,
    CONNECT_ERROR,
    DATA,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    INADEQUATE_SECURITY,
    INTERNAL_ERROR,
    NO_ERROR,
    PING,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS_TIMEOUT,
    Answer,
    Connection,
    Field,
    message,
    raw_frame,
)
from harness import BINARY, clean_environment
from wire import CHECK, SERVING

RESPONSE: list[Field] = [(":status", "200"), ("content-type", "application/grpc")]
OK: list[Field] = [("grpc-status", "0")]

#: How the command says a status: its first words on standard error, and its exit code.
WORDS = {
    "CANCELLED": ("cancelled", 5),
    "UNKNOWN": ("unknown error", 5),
    "DEADLINE_EXCEEDED": ("no answer in time", 4),
    "PERMISSION_DENIED": ("permission denied", 5),
    "RESOURCE_EXHAUSTED": ("limit exceeded", 5),
    "UNIMPLEMENTED": ("not implemented by this server", 5),
    "INTERNAL": ("internal error of the server", 5),
    "UNAVAILABLE": ("unavailable", 4),
    "UNAUTHENTICATED": ("not authenticated", 5),
}


class Outcome:
    """How `signalbox health` ended."""

    def __init__(self, code: int, output: str, errors: str) -> None:
        self.code = code
        self.output = output
        self.errors = errors

    @property
    def is_ok(self) -> bool:
        return (self.code, self.output, self.errors) == (0, "SERVING\n", "")

    def is_status(self, name: str) -> bool:
        words, code = WORDS[name]
        return self.code == code and self.errors.startswith(f"signalbox: {words}")

    def __repr__(self) -> str:
        return f"exit code {self.code}, {self.output!r}, {self.errors!r}"


Script = Callable[[Connection, Answer], None]


@pytest.fixture
def health() -> Iterator[Callable[..., Outcome]]:
    """Runs `signalbox health` against a server that takes its request and then does as the script says."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def run(script: Script, timeout: str = "20s") -> Outcome:
            process = subprocess.Popen(
                [str(BINARY), "health", "--server", address, "--timeout", timeout],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=clean_environment(),
            )
            try:
                with Connection.accept(listener) as server:
                    request = server.answer_of(1)
                    server.until(lambda: request.is_ended, what="request")
                    script(server, request)
                    output, errors = process.communicate(timeout=30)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.communicate()
            return Outcome(process.returncode, output, errors)

        yield run


def answers(*parts: bytes | list[Field], end: bool = True) -> Script:
    """An answer of header lists and DATA; the last part ends the stream."""

    def script(server: Connection, request: Answer) -> None:
        for at, part in enumerate(parts):
            is_last = end and at == len(parts) - 1
            if isinstance(part, bytes):
                server.send_data(1, part, end=is_last)
            else:
                server.send_headers(1, part, end=is_last)

    return script


SERVED = message(SERVING[1])


# Requests


def test_a_request_is_as_the_protocol_asks(health):
    seen: list[Answer] = []

    def script(server: Connection, request: Answer) -> None:
        seen.append(request)
        answers(RESPONSE, SERVED, OK)(server, request)

    assert health(script, "5s").is_ok
    (request,) = seen
    fields = dict(request.headers or [])
    assert fields[":method"] == "POST" and fields[":path"] == CHECK and fields[":scheme"] == "http"
    assert fields["te"] == "trailers" and fields["content-type"].startswith("application/grpc")
    assert fields["user-agent"].startswith("grpc-")
    names = [name for name, _ in request.headers or []]
    pseudo = [name for name in names if name.startswith(":")]
    assert names[: len(pseudo)] == pseudo
    # A deadline of at most what was asked for.
    assert fields["grpc-timeout"][-1] in "HMSmun" and 1 <= len(fields["grpc-timeout"][:-1]) <= 8
    unit = {"H": 3_600, "M": 60, "S": 1, "m": 1e-3, "u": 1e-6, "n": 1e-9}[fields["grpc-timeout"][-1]]
    assert 0 < int(fields["grpc-timeout"][:-1]) * unit <= 5
    assert request.messages == [(0, b"")]


# Answers


def test_an_answer(health):
    assert health(answers(RESPONSE, SERVED, OK)).is_ok


def test_an_answer_after_a_hundred_and_three(health):
    assert health(answers([(":status", "103")], RESPONSE, SERVED, OK)).is_ok


def test_an_answer_a_byte_a_frame(health):
    assert health(answers(RESPONSE, *(bytes([byte]) for byte in SERVED), OK)).is_ok


def test_a_status(health):
    trailers = [("grpc-status", "8"), ("grpc-message", "f%C3%BCr%20%25 zz")]
    outcome = health(answers([*RESPONSE, *trailers]))
    assert outcome.is_status("RESOURCE_EXHAUSTED") and "für % zz" in outcome.errors, outcome
    outcome = health(answers(RESPONSE, SERVED, trailers))
    assert outcome.is_status("RESOURCE_EXHAUSTED") and "für % zz" in outcome.errors, outcome


@pytest.mark.parametrize(
    ("trailers", "name"),
    [
        ([("grpc-message", "no status")], "UNKNOWN"),
        ([("grpc-status", "99")], "UNKNOWN"),
        ([("grpc-status", "what")], "UNKNOWN"),
        ([("grpc-status", "-1")], "UNKNOWN"),
        ([("grpc-status", "")], "UNKNOWN"),
    ],
    ids=["none", "99", "a word", "negative", "empty"],
)
def test_a_status_that_is_none(health, trailers, name):
    for parts in ((RESPONSE, SERVED, trailers), ([*RESPONSE, *trailers],)):
        outcome = health(answers(*parts))
        assert outcome.is_status(name), outcome


BROKEN = {
    "no message": ((RESPONSE, OK), "UNIMPLEMENTED"),
    "two messages": ((RESPONSE, SERVED + SERVED, OK), "UNIMPLEMENTED"),
    "half a message": ((RESPONSE, SERVED[:6], OK), "INTERNAL"),
    "half a prefix": ((RESPONSE, SERVED[:3], OK), "INTERNAL"),
    "a bad flag": ((RESPONSE, message(SERVING[1], 2), OK), "INTERNAL"),
    "compressed, unasked": ((RESPONSE, message(SERVING[1], 1), OK), "INTERNAL"),
    "too large": ((RESPONSE, message(b"", length=2**31), OK), "RESOURCE_EXHAUSTED"),
    "not gRPC": (([(":status", "200"), ("content-type", "text/html")], b"<html>"), "UNKNOWN"),
}


@pytest.mark.parametrize(("parts", "name"), BROKEN.values(), ids=BROKEN.keys())
def test_an_answer_that_is_none(health, parts, name):
    outcome = health(answers(*parts))
    assert outcome.is_status(name), outcome


def test_an_answer_without_trailers(health):
    """The stream ends with its DATA. There are statuses for it in several stacks; it is no success."""
    outcome = health(answers(RESPONSE, SERVED))
    assert outcome.is_status("INTERNAL") or outcome.is_status("UNKNOWN"), outcome


@pytest.mark.parametrize(
    ("status", "name"),
    [
        *[(400, "INTERNAL"), (401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"), (404, "UNIMPLEMENTED")],
        *[(429, "UNAVAILABLE"), (502, "UNAVAILABLE"), (503, "UNAVAILABLE"), (504, "UNAVAILABLE")],
        *[(204, "UNKNOWN"), (301, "UNKNOWN"), (405, "UNKNOWN"), (415, "UNKNOWN"), (418, "UNKNOWN")],
        *[(500, "UNKNOWN"), (505, "UNKNOWN")],
    ],
)
def test_statuses_of_HTTP(health, status, name):
    outcome = health(answers([(":status", str(status)), ("content-type", "text/plain")]))
    assert outcome.is_status(name), outcome
    assert str(status) in outcome.errors


def test_a_status_of_gRPC_beside_one_of_HTTP(health):
    """gRPC's is the more exact one."""
    outcome = health(
        answers([(":status", "503"), ("content-type", "application/grpc"), ("grpc-status", "7")])
    )
    assert outcome.is_status("PERMISSION_DENIED"), outcome


# Resets


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (NO_ERROR, "INTERNAL"),
        (PROTOCOL_ERROR, "INTERNAL"),
        (INTERNAL_ERROR, "INTERNAL"),
        (FLOW_CONTROL_ERROR, "INTERNAL"),
        (SETTINGS_TIMEOUT, "INTERNAL"),
        (FRAME_SIZE_ERROR, "INTERNAL"),
        (REFUSED_STREAM, "UNAVAILABLE"),
        (CANCEL, "CANCELLED"),
        (COMPRESSION_ERROR, "INTERNAL"),
        (CONNECT_ERROR, "INTERNAL"),
        (ENHANCE_YOUR_CALM, "RESOURCE_EXHAUSTED"),
        (INADEQUATE_SECURITY, "PERMISSION_DENIED"),
    ],
)
def test_resets(health, code, name):
    def at_once(server: Connection, request: Answer) -> None:
        server.send_reset(1, code)

    def after_headers(server: Connection, request: Answer) -> None:
        server.send_headers(1, RESPONSE)
        server.send_reset(1, code)

    for script in (at_once, after_headers):
        outcome = health(script)
        assert outcome.is_status(name), outcome


def test_a_status_before_a_reset_counts(health):
    """A server ends so when the rest of a request does not matter to it."""

    def script(server: Connection, request: Answer) -> None:
        answers([*RESPONSE, ("grpc-status", "7")])(server, request)
        server.send_reset(1, NO_ERROR)

    assert health(script).is_status("PERMISSION_DENIED")


# The connection


def test_the_end_of_the_connection(health):
    outcome = health(lambda server, request: server.close())
    assert outcome.is_status("UNAVAILABLE"), outcome


def test_GOAWAY_to_a_call_that_was_not_processed(health):
    def script(server: Connection, request: Answer) -> None:
        server.send(raw_frame(GOAWAY, 0, 0, struct.pack(">II", 0, NO_ERROR)))
        server.until(lambda: server.is_closed)

    outcome = health(script)
    assert outcome.is_status("UNAVAILABLE"), outcome


def test_GOAWAY_to_a_call_that_is_being_processed(health):
    """It is answered yet."""

    def script(server: Connection, request: Answer) -> None:
        server.send(raw_frame(GOAWAY, 0, 0, struct.pack(">II", 2**31 - 1, NO_ERROR)))
        server.send(raw_frame(GOAWAY, 0, 0, struct.pack(">II", 1, NO_ERROR)))
        server.settle()
        answers(RESPONSE, SERVED, OK)(server, request)

    assert health(script).is_ok


def test_a_deadline(health):
    """The client does not wait for a server to tell it, and takes the call back, or ends the connection."""
    resets: list[int | None] = []

    def script(server: Connection, request: Answer) -> None:
        server.until(lambda: request.reset is not None or server.is_closed)
        resets.append(request.reset)

    assert health(script, "300ms").is_status("DEADLINE_EXCEEDED")
    assert resets in ([CANCEL], [None])


def test_a_PING_is_answered(health):
    def script(server: Connection, request: Answer) -> None:
        server.send_ping(b"areuther")
        server.until(lambda: server.frames[-1].type == PING)
        assert server.frames[-1].opaque_data == b"areuther" and "ACK" in server.frames[-1].flags
        answers(RESPONSE, SERVED, OK)(server, request)

    assert health(script).is_ok


def test_what_is_passed_over(health):
    def script(server: Connection, request: Answer) -> None:
        server.send(
            raw_frame(0xFA, 0xFF, 0, b"whatever"),
            raw_frame(PING, ACK, 0, b"nobodyis"),
            server.header_frames(1, [*RESPONSE, ("x-more", "1")]),
            raw_frame(DATA, 0x8, 1, b"\x03" + SERVED + bytes(3)),
            server.header_frames(1, [*OK, ("x-more", "2")], end=True),
        )

    assert health(script).is_ok


def test_a_server_that_breaks_the_protocol(health):
    """The connection is given up, and the server told why."""
    codes: list[int] = []

    def script(server: Connection, request: Answer) -> None:
        server.send_data(7, b"of no stream")
        server.until_closed()
        codes.extend(frame.error_code for frame in server.goaways)

    assert health(script).is_status("UNAVAILABLE")
    assert codes == [PROTOCOL_ERROR]
