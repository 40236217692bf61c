"""What the tests of the wire share: calls to make, and what an answer must look like."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

import pytest
from frames import Answer, Connection, Field, grpc_headers, message
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection_pb2
from harness import Server, postgres_program
from signalbox.v1 import job_pb2, job_service_pb2

CHECK = "/grpc.health.v1.Health/Check"
WATCH_HEALTH = "/grpc.health.v1.Health/Watch"
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
JOBS = "/signalbox.v1.JobService/"
#: Takes larger messages than any other.
BATCH = JOBS + "EnqueueBatch"

ERRORS_PAGE = Path(__file__).parents[2] / "docs/errors.md"

#: The largest message of a method.
MESSAGE_BYTES_MAX = {
    CHECK: 1 << 10,
    WATCH_HEALTH: 1 << 10,
    REFLECT: 1 << 10,
    "/signalbox.v1.AdminService/ListNodes": 4 << 10,
    JOBS + "GetJob": 16 << 10,
    JOBS + "Watch": 128 << 10,
    JOBS + "Enqueue": (1 << 20) + (64 << 10),
    BATCH: 4 << 20,
}

#: The answer of `CHECK`, as (flag, message).
SERVING = (0, b"\x08\x01")


class Code(IntEnum):
    """gRPC's status codes."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@pytest.fixture
def peer(server: Server) -> Iterator[Connection]:
    """A connection of its own to the shared server."""
    with Connection.open(server.address) as peer:
        yield peer


def batch(size: int) -> bytes:
    """A message for `BATCH` of this size, some megabytes. Nobody knows the kind of its job."""
    spec = job_pb2.JobSpec(kind="k" * (size - 10))
    data = job_service_pb2.EnqueueBatchRequest(jobs=[spec]).SerializeToString()
    assert len(data) == size
    return data


def symbol_question(symbol: str) -> bytes:
    """A message for `REFLECT`."""
    return reflection_pb2.ServerReflectionRequest(file_containing_symbol=symbol).SerializeToString()


#: Its answer takes several KiB, and shrinks well.
LARGE_QUESTION = symbol_question("signalbox.v1.JobService")


def assert_serves(peer: Connection, *, settle: bool = True) -> None:
    """A call on this connection is answered as ever. Without `settle` it costs nothing but the call."""
    answer = peer.answer(peer.request(CHECK, message(b"")), settle=settle)
    assert answer.grpc_status == Code.OK and answer.messages == [SERVING], peer.history()


def assert_status(answer: Answer, code: Code, *, trailers_only: bool = True) -> None:
    """The answer is a gRPC status, and nothing but it unless `trailers_only` is false."""
    assert answer.grpc_status == code, f"{answer}"
    assert answer.http_status == 200, f"{answer}"
    assert (answer.header("content-type") or "").startswith("application/grpc"), f"{answer}"
    if trailers_only:
        assert answer.is_trailers_only, f"{answer}"
    if code != Code.OK:
        assert_reason(answer)


def assert_reason(answer: Answer) -> None:
    """The error has exactly one ErrorInfo, with a reason that docs/errors.md lists for its status."""
    status, _ = details_of(answer)
    types = [detail.TypeName() for detail in status.details]
    assert len(types) == len(set(types)), f"{answer}"
    (packed,) = [detail for detail in status.details if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR)]
    info = error_details_pb2.ErrorInfo.FromString(packed.value)
    assert status.code == answer.grpc_status and info.domain == "signalbox", f"{info}"
    row = f"| {Code(answer.grpc_status).name} | {info.reason} |"
    assert any(line.startswith(row) for line in ERRORS_PAGE.read_text().splitlines()), row


def assert_reset(peer: Connection, stream: int, *codes: int) -> None:
    """A stream error: the stream is reset with one of the codes, unanswered, and the connection goes on."""
    answer = peer.answer(stream)
    assert answer.order == ["RST_STREAM"], f"{answer}; {peer.history()}"
    assert answer.reset in codes, f"{answer}"
    assert_serves(peer)


def assert_connection_error(peer: Connection, *codes: int) -> None:
    """GOAWAY with one of the codes, and then the end of the connection."""
    assert peer.goaway().error_code in codes, peer.history()
    peer.until_closed()


def header_list_bytes(fields: list[Field]) -> int:
    """As SETTINGS_MAX_HEADER_LIST_SIZE counts (RFC 9113, 6.5.2)."""
    return sum(len(name) + len(value) + 32 for name, value in fields)


def filled(total: int, path: str = CHECK) -> list[Field]:
    """The headers of a call, with one more field so that they count `total` bytes."""
    fields = [*grpc_headers(path), ("x-fill", "")]
    fields[-1] = ("x-fill", "a" * (total - header_list_bytes(fields)))
    assert header_list_bytes(fields) == total
    return fields


def details_of(answer: Answer) -> tuple[status_pb2.Status, dict[str, str]]:
    """The google.rpc.Status of an answer, and the violations of the BadRequest in it."""
    (text,) = answer.trailer_values("grpc-status-details-bin")
    status = status_pb2.Status.FromString(decode_bin(text))
    violations = {}
    for detail in status.details:
        request = error_details_pb2.BadRequest()
        if detail.Unpack(request):
            violations |= {item.field: item.description for item in request.field_violations}
    return status, violations


def decode_bin(text: str) -> bytes:
    """Base64, with or without its padding."""
    return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)


class Lock:
    """A table that nobody else can read or write meanwhile."""

    def __init__(self, url: str, table: str) -> None:
        self._process = subprocess.Popen(
            [postgres_program("psql"), url, "-AtXq", "-v", "ON_ERROR_STOP=1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin and self._process.stdout
        lock = f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"
        self._process.stdin.write(f"SET lock_timeout = '20s';\nBEGIN;\n{lock};\n\\echo locked\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "locked\n"

    def release(self) -> None:
        self._process.communicate("ROLLBACK;\n", timeout=20)

    def __enter__(self) -> Lock:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.release()
