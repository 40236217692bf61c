"""What the interop server promises beyond the official cases: half-duplex calls, intervals, limits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from interop import PATIENCE_S, InteropServer, messages, services

SIZE_MAX = 16 * 1024 * 1024
INTERVAL_MAX_US = 60_000_000

@pytest.fixture
def stub(plaintext_interop_server: InteropServer) -> Iterator[Any]:
    with plaintext_interop_server.channel(max_receive_message_length=-1) as channel:
        yield services.TestServiceStub(channel)


def streaming_request(*parameters: dict[str, int], **fields: Any) -> Any:
    return messages.StreamingOutputCallRequest(
        response_parameters=[messages.ResponseParameters(**item) for item in parameters], **fields
    )


def sizes(answers: Any) -> list[int]:
    return [len(answer.payload.body) for answer in answers]


def code_of(call: Any) -> grpc.StatusCode:
    """With what a call fails that must fail."""
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code()


def test_a_half_duplex_call_answers_when_all_is_said(stub: Any) -> None:
    is_answered = threading.Event()
    answered_early: list[bool] = []

    def requests() -> Iterator[Any]:
        yield streaming_request({"size": 10}, {"size": 20})
        # Half a second in which a full-duplex call would have been answered.
        answered_early.append(is_answered.wait(0.5))
        yield streaming_request({"size": 30})

    answers = stub.HalfDuplexCall(requests(), timeout=PATIENCE_S)
    first = next(answers)
    is_answered.set()
    assert sizes([first, *answers]) == [10, 20, 30]
    assert answered_early == [False]


def test_a_message_waits_for_its_interval(stub: Any) -> None:
    begin = time.monotonic()
    request = streaming_request({"size": 1}, {"size": 2, "interval_us": 200_000})
    assert sizes(stub.StreamingOutputCall(request, timeout=PATIENCE_S)) == [1, 2]
    assert time.monotonic() - begin >= 0.2


def test_a_deadline_ends_an_interval(stub: Any) -> None:
    request = streaming_request({"size": 1, "interval_us": 30_000_000})
    answers = stub.FullDuplexCall(iter([request]), timeout=0.3)
    assert code_of(lambda: next(answers)) is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_largest_answer(stub: Any) -> None:
    answer = stub.UnaryCall(messages.SimpleRequest(response_size=SIZE_MAX), timeout=PATIENCE_S)
    assert answer.payload.body == bytes(SIZE_MAX)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"response_size": -1}, id="size below 0"),
        pytest.param({"response_size": SIZE_MAX + 1}, id="size over 16 MiB"),
        pytest.param({"response_type": 1}, id="type"),
    ],
)
def test_what_a_unary_call_may_not_ask_for(stub: Any, fields: dict[str, int]) -> None:
    request = messages.SimpleRequest(**fields)
    assert code_of(lambda: stub.UnaryCall(request, timeout=PATIENCE_S)) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"size": -1}, id="size below 0"),
        pytest.param({"size": SIZE_MAX + 1}, id="size over 16 MiB"),
        pytest.param({"interval_us": -1}, id="interval below 0"),
        pytest.param({"interval_us": INTERVAL_MAX_US + 1}, id="interval over a minute"),
    ],
)
@pytest.mark.parametrize("method", ["StreamingOutputCall", "FullDuplexCall", "HalfDuplexCall"])
def test_what_a_stream_may_not_ask_for(stub: Any, method: str, parameters: dict[str, int]) -> None:
    request = streaming_request({"size": 1}, parameters)
    argument = request if method == "StreamingOutputCall" else iter([request])
    answers = getattr(stub, method)(argument, timeout=PATIENCE_S)
    # Not even the first, which is in order, is answered.
    assert code_of(lambda: next(answers)) is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["StreamingOutputCall", "FullDuplexCall", "HalfDuplexCall"])
def test_a_stream_ends_with_the_status_asked_for(stub: Any, method: str) -> None:
    status = messages.EchoStatus(code=grpc.StatusCode.DATA_LOSS.value[0], message="as asked")
    request = streaming_request({"size": 1}, response_status=status)
    argument = request if method == "StreamingOutputCall" else iter([request])
    answers = getattr(stub, method)(argument, timeout=PATIENCE_S)
    assert code_of(lambda: next(answers)) is grpc.StatusCode.DATA_LOSS
    assert answers.details() == "as asked"


def test_a_status_that_there_is_not(stub: Any) -> None:
    request = messages.SimpleRequest(response_status=messages.EchoStatus(code=99))
    assert code_of(lambda: stub.UnaryCall(request, timeout=PATIENCE_S)) is grpc.StatusCode.INVALID_ARGUMENT


def test_an_ok_status_is_no_end(stub: Any) -> None:
    request = messages.SimpleRequest(response_size=3, response_status=messages.EchoStatus(code=0))
    assert len(stub.UnaryCall(request, timeout=PATIENCE_S).payload.body) == 3


# Bytes that need not be a message


@pytest.fixture
def raw(plaintext_interop_server: InteropServer) -> Iterator[Callable[[str, bytes], bytes]]:
    """Calls a method with bytes, and gives those of the answer."""
    with plaintext_interop_server.channel() as channel:
        yield lambda method, request: channel.unary_unary(f"/grpc.testing.TestService/{method}")(
            request, timeout=PATIENCE_S
        )


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"\x10", id="field without a value"),
        pytest.param(b"\x10\x80", id="number that does not end"),
        pytest.param(b"\x10" + b"\x80" * 10 + b"\x01", id="number of eleven bytes"),
        pytest.param(b"\x1a\x05abcd", id="length beyond the end"),
        pytest.param(b"\x1a" + b"\xff" * 9 + b"\x01", id="length beyond every end"),
        pytest.param(b"\x0d" + bytes(3), id="three of four bytes"),
        pytest.param(b"\x09" + bytes(7), id="seven of eight bytes"),
        pytest.param(b"\x00\x01", id="field 0"),
        pytest.param(b"\x0b", id="group that does not end"),
        pytest.param(b"\x0b\x14", id="group that ends as another"),
        pytest.param(b"\x0c", id="end of no group"),
        pytest.param(b"\x0b" * 200 + b"\x0c" * 200, id="groups nested too deep"),
        pytest.param(b"\x0e", id="type that there is not"),
        pytest.param(b"\x3a\x02\x12\x05", id="cut short one level down"),
        pytest.param(b"\x3a\x03\x12\x01\xff", id="text that is not UTF-8"),
    ],
)
def test_what_is_not_a_message_is_an_internal_error(raw: Any, request_bytes: bytes) -> None:
    code = code_of(lambda: raw("UnaryCall", request_bytes))
    assert code is grpc.StatusCode.INTERNAL


def test_unknown_fields_are_passed_over(raw: Any) -> None:
    group = b"\xfb\x07" + b"\x0b\x08\x01\x0c" + b"\x12\x01a" + b"\xfc\x07"
    unknown = b"\xf8\x07\x05" + b"\xf9\x07" + bytes(8) + b"\xfa\x07\x02ab" + b"\xfd\x07" + bytes(4) + group
    known = messages.SimpleRequest(response_size=7).SerializeToString()
    # One that is known, but has another type than it should, is an unknown one too.
    mistyped = b"\x12\x01a"
    answer = raw("UnaryCall", unknown + known + mistyped + unknown)
    assert messages.SimpleResponse.FromString(answer).payload.body == bytes(7)


def test_an_empty_message_may_have_fields_that_are_unknown(raw: Any) -> None:
    assert raw("EmptyCall", b"\x08\x01") == b""
    assert code_of(lambda: raw("EmptyCall", b"\x08")) is grpc.StatusCode.INTERNAL
