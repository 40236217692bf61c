"""The official interop cases, each over plaintext and over TLS.

The core cases are those of the official Python client, which is a process of its own. It has neither the
cases of compression nor the soaks; those are written here after grpc's interop-test-descriptions.md.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from interop import PATIENCE_S, InteropServer, messages, run_official_case, services
from interop_tap import Tap

OFFICIAL_CASES = [
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "custom_metadata",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_method",
    "unimplemented_service",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
]

#: Of UnaryCall, in bytes.
LARGE_REQUEST, LARGE_RESPONSE = 271_828, 314_159

ALGORITHMS = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}
#: grpc.compression_enabled_algorithms_bitset, with which a client says that it accepts this one alone: bit 0
#: is identity, 1 deflate, 2 gzip.
ACCEPTED = {"gzip": 0b101, "deflate": 0b011}

each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@pytest.mark.parametrize("case", OFFICIAL_CASES)
def test_official(interop: InteropServer, case: str) -> None:
    run_official_case(interop, case)


# Compression


@pytest.fixture
def tap(interop: InteropServer) -> Iterator[Tap]:
    tap = Tap(interop)
    yield tap
    tap.close()


def flag(value: bool) -> Any:
    return messages.BoolValue(value=value)


def zeros(count: int) -> Any:
    return messages.Payload(body=bytes(count))


def large_request(**fields: Any) -> Any:
    return messages.SimpleRequest(response_size=LARGE_RESPONSE, payload=zeros(LARGE_REQUEST), **fields)


@each_algorithm
def test_client_compressed_unary(interop: InteropServer, tap: Tap, algorithm: str) -> None:
    with interop.channel(tap.port) as channel:
        stub = services.TestServiceStub(channel)
        # Does the server look at all?
        with pytest.raises(grpc.RpcError) as refused:
            stub.UnaryCall(large_request(expect_compressed=flag(True)), timeout=PATIENCE_S)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        compressed = stub.UnaryCall(
            large_request(expect_compressed=flag(True)),
            timeout=PATIENCE_S,
            compression=ALGORITHMS[algorithm],
        )
        plain = stub.UnaryCall(large_request(expect_compressed=flag(False)), timeout=PATIENCE_S)
    assert compressed.payload.body == plain.payload.body == bytes(LARGE_RESPONSE)
    assert [call.request.flags for call in tap.calls] == [[0], [1], [0]]
    assert tap.calls[1].request.headers["grpc-encoding"] == algorithm


@each_algorithm
def test_server_compressed_unary(interop: InteropServer, tap: Tap, algorithm: str) -> None:
    options = {"compression_enabled_algorithms_bitset": ACCEPTED[algorithm]}
    with interop.channel(tap.port, **options) as channel:
        stub = services.TestServiceStub(channel)
        answers = [
            stub.UnaryCall(large_request(response_compressed=flag(value)), timeout=PATIENCE_S)
            for value in (True, False)
        ]
    assert [answer.payload.body for answer in answers] == [bytes(LARGE_RESPONSE)] * 2
    assert [call.response.flags for call in tap.calls] == [[1], [0]]
    assert tap.calls[0].response.headers["grpc-encoding"] == algorithm


@each_algorithm
def test_client_compressed_streaming(interop: InteropServer, tap: Tap, algorithm: str) -> None:
    def request(payload: Any, expect_compressed: bool) -> Any:
        return messages.StreamingInputCallRequest(payload=payload, expect_compressed=flag(expect_compressed))

    with interop.channel(tap.port) as channel:
        stub = services.TestServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.StreamingInputCall(iter([request(zeros(27_182), True)]), timeout=PATIENCE_S)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        # grpcio cannot be told to leave one message of a call as it is, but it does so where compression
        # would make it no smaller. Hence no zeros in the second one.
        incompressible = messages.Payload(body=os.urandom(45_904))
        answer = stub.StreamingInputCall(
            iter([request(zeros(27_182), True), request(incompressible, False)]),
            timeout=PATIENCE_S,
            compression=ALGORITHMS[algorithm],
        )
    assert answer.aggregated_payload_size == 73_086
    probe, call = tap.calls
    assert probe.request.flags == [0]
    assert call.request.flags == [1, 0]
    assert call.request.headers["grpc-encoding"] == algorithm


@each_algorithm
def test_server_compressed_streaming(interop: InteropServer, tap: Tap, algorithm: str) -> None:
    request = messages.StreamingOutputCallRequest(
        response_parameters=[
            messages.ResponseParameters(compressed=flag(True), size=31_415),
            messages.ResponseParameters(compressed=flag(False), size=92_653),
        ]
    )
    options = {"compression_enabled_algorithms_bitset": ACCEPTED[algorithm]}
    with interop.channel(tap.port, **options) as channel:
        stub = services.TestServiceStub(channel)
        answers = list(stub.StreamingOutputCall(request, timeout=PATIENCE_S))
    assert [answer.payload.body for answer in answers] == [bytes(31_415), bytes(92_653)]
    (call,) = tap.calls
    assert call.response.flags == [1, 0]
    assert call.response.headers["grpc-encoding"] == algorithm


# Soaks


def short_and_long(short: int, long: int) -> Any:
    return pytest.mark.parametrize("iterations", [short, pytest.param(long, marks=pytest.mark.long)])


def large_unary(channel: grpc.Channel) -> None:
    answer = services.TestServiceStub(channel).UnaryCall(large_request(), timeout=PATIENCE_S)
    assert answer.payload.body == bytes(LARGE_RESPONSE)


@short_and_long(100, 5_000)
def test_rpc_soak(interop: InteropServer, iterations: int) -> None:
    with interop.channel() as channel:
        for _ in range(iterations):
            large_unary(channel)


@short_and_long(20, 1_000)
def test_channel_soak(interop: InteropServer, iterations: int) -> None:
    for _ in range(iterations):
        with interop.channel() as channel:
            large_unary(channel)


@pytest.mark.parametrize(
    ("iterations", "interval_s"), [(5, 0.2), pytest.param(10, 6.0, marks=pytest.mark.long)]
)
def test_long_lived_channel(interop: InteropServer, iterations: int, interval_s: float) -> None:
    """A call now and then over one channel, whose connection is there all the time between them."""
    is_ready, is_lost = threading.Event(), threading.Event()

    def observe(state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.READY:
            is_ready.set()
        elif is_ready.is_set():
            is_lost.set()

    with interop.channel() as channel:
        channel.subscribe(observe, try_to_connect=True)
        assert is_ready.wait(PATIENCE_S), "no connection"
        for _ in range(iterations):
            large_unary(channel)
            assert not is_lost.wait(interval_s), "the connection was lost"
        channel.unsubscribe(observe)
