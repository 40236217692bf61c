"""Compressed messages, both ways (gRPC's compression.md).

gzip is RFC 1952 and has one member; "deflate" is RFC 1950, as in HTTP. An answer is compressed as its request
was, if the client's grpc-accept-encoding has that; where it does not pay, a message goes as it is, with the
flag 0.
"""

from __future__ import annotations

import gzip
import os
import zlib

import pytest
from frames import INITIAL_WINDOW_SIZE, Answer, Connection, message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from harness import Server, unique
from hostile import Memory
from signalbox.v1 import job_pb2, job_service_pb2
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
    decode_bin,
)

LIMIT = MESSAGE_BYTES_MAX[BATCH]
PACK = {"gzip": lambda data: gzip.compress(data, mtime=0), "deflate": zlib.compress}
UNPACK = {"gzip": gzip.decompress, "deflate": zlib.decompress}
both = pytest.mark.parametrize("encoding", ["gzip", "deflate"])

#: A megabyte of JSON that shrinks well.
PAYLOAD = b'"%s"' % (b"the same again, " * 60_000)


def packed(data: bytes, encoding: str) -> bytes:
    return message(PACK[encoding](data), 1)


def names(value: str | None) -> set[str]:
    return {name.strip() for name in (value or "").split(",")}


def unpacked(answer: Answer) -> list[bytes]:
    """The messages of an answer, by its flags and its grpc-encoding."""
    encoding = answer.header("grpc-encoding")
    return [UNPACK[encoding](data) if flag else data for flag, data in answer.messages]


def enqueue_request(**fields) -> bytes:
    """A job that does not start."""
    spec = {"kind": "test.echo", "user_id": unique(), "delay": {"seconds": 3_600}, **fields}
    return job_service_pb2.EnqueueRequest(job=job_pb2.JobSpec(**spec)).SerializeToString()


def enqueue(peer: Connection, **fields) -> str:
    """The id of such a job."""
    answer = peer.call(JOBS + "Enqueue", enqueue_request(**fields))
    assert answer.grpc_status == Code.OK, f"{answer}"
    return job_service_pb2.EnqueueResponse.FromString(answer.messages[0][1]).job.id


# Requests


@both
def test_a_compressed_request(peer: Connection, encoding):
    request = enqueue_request(payload=PAYLOAD)
    answer = peer.answer(
        peer.request(JOBS + "Enqueue", packed(request, encoding), ("grpc-encoding", encoding))
    )
    assert answer.grpc_status == Code.OK, f"{answer}"
    id = job_service_pb2.EnqueueResponse.FromString(answer.messages[0][1]).job.id
    read = job_service_pb2.GetJobRequest(job_id=id, include_payload=True).SerializeToString()
    answer = peer.call(JOBS + "GetJob", read)
    assert job_service_pb2.GetJobResponse.FromString(answer.messages[0][1]).job.payload == PAYLOAD


@both
def test_an_empty_message_compressed(peer: Connection, encoding):
    answer = peer.answer(peer.request(CHECK, packed(b"", encoding), ("grpc-encoding", encoding)))
    assert answer.grpc_status == Code.OK and unpacked(answer) == [SERVING[1]]


@both
def test_a_message_as_it_is_beside_an_encoding(peer: Connection, encoding):
    """The flag decides, message by message."""
    answer = peer.answer(peer.request(CHECK, message(b""), ("grpc-encoding", encoding)))
    assert answer.grpc_status == Code.OK and unpacked(answer) == [SERVING[1]]


@both
def test_compressed_and_not_on_one_stream(peer: Connection, encoding):
    questions = [
        reflection_pb2.ServerReflectionRequest(list_services="*", host=str(n)).SerializeToString()
        for n in range(6)
    ]
    body = b"".join(packed(data, encoding) if n % 2 else message(data) for n, data in enumerate(questions))
    stream = peer.request(REFLECT, None, ("grpc-encoding", encoding), end=False)
    peer.send_data(stream, body, end=True, frame_bytes=13)
    answer = peer.answer(stream)
    assert answer.grpc_status == Code.OK
    answers = [reflection_pb2.ServerReflectionResponse.FromString(data) for data in unpacked(answer)]
    assert [item.valid_host for item in answers] == [str(n) for n in range(6)]


def test_an_encoding_that_is_not_known(peer: Connection):
    """The answer says which ones are."""
    for encoding in ("snappy", "br", "x-gzip", "GZIP", "gzip,gzip", "zstd", ""):
        answer = peer.answer(peer.request(CHECK, message(b"", 1), ("grpc-encoding", encoding)))
        assert_status(answer, Code.UNIMPLEMENTED)
        assert {"gzip", "deflate"} <= names(answer.header("grpc-accept-encoding")), f"{encoding}: {answer}"
    assert_serves(peer)


def test_an_encoding_that_is_not_known_is_told_at_once(peer: Connection):
    stream = peer.request(CHECK, None, ("grpc-encoding", "snappy"), end=False)
    answer = peer.answer(stream)
    assert_status(answer, Code.UNIMPLEMENTED)
    assert answer.order == ["HEADERS+", "RST_STREAM"] and answer.reset == 0


WHOLE = gzip.compress(health_pb2.HealthCheckRequest(service="signalbox.v1.JobService").SerializeToString())
RAW = zlib.compressobj(wbits=-15)
CORRUPT = {
    "nothing": ("gzip", b""),
    "no gzip at all": ("gzip", b"what is this"),
    "an unknown method": ("gzip", WHOLE[:2] + b"\x07" + WHOLE[3:]),
    "reserved flags": ("gzip", WHOLE[:3] + b"\xe0" + WHOLE[4:]),
    "another checksum": ("gzip", WHOLE[:-5] + bytes([WHOLE[-5] ^ 1]) + WHOLE[-4:]),
    "another length": ("gzip", WHOLE[:-1] + b"\x01"),
    "a changed bit": ("gzip", WHOLE[:12] + bytes([WHOLE[12] ^ 0x10]) + WHOLE[13:]),
    "cut in the header": ("gzip", WHOLE[:5]),
    "cut in the data": ("gzip", WHOLE[:20]),
    "cut in the checksum": ("gzip", WHOLE[:-1]),
    "more behind it": ("gzip", WHOLE + b"\0"),
    "two members": ("gzip", WHOLE + WHOLE),
    "gzip called deflate": ("deflate", WHOLE),
    "deflate called gzip": ("gzip", zlib.compress(b"")),
    "deflate without zlib's header": ("deflate", RAW.compress(b"") + RAW.flush()),
    "another adler": ("deflate", zlib.compress(b"")[:-1] + b"\x02"),
    "deflate cut": ("deflate", zlib.compress(b"")[:-1]),
    "more behind deflate": ("deflate", zlib.compress(b"") + b"\0"),
}


@pytest.mark.parametrize(("encoding", "data"), CORRUPT.values(), ids=CORRUPT.keys())
def test_corrupt(peer: Connection, encoding, data):
    answer = peer.answer(peer.request(CHECK, message(data, 1), ("grpc-encoding", encoding)))
    assert_status(answer, Code.INTERNAL)
    assert_serves(peer)


@both
def test_corrupt_on_a_stream_that_has_begun(peer: Connection, encoding):
    stream = peer.request(REFLECT, packed(LARGE_QUESTION, encoding), ("grpc-encoding", encoding), end=False)
    answer = peer.answer_of(stream)
    peer.until(lambda: bool(answer.body) or answer.is_over)
    peer.send_data(stream, message(b"what is this", 1))
    answer = peer.answer(stream)
    assert_status(answer, Code.INTERNAL, trailers_only=False)
    assert answer.order[-2:] == ["HEADERS+", "RST_STREAM"] and answer.reset == 0


# Limits


@both
def test_a_compressed_message_over_the_limit_as_it_comes(peer: Connection, encoding):
    """By its prefix, as any other."""
    stream = peer.request(BATCH, message(b"", 1, length=LIMIT + 1), ("grpc-encoding", encoding), end=False)
    answer = peer.answer(stream)
    assert_status(answer, Code.RESOURCE_EXHAUSTED)
    assert answer.order == ["HEADERS+", "RST_STREAM"] and answer.reset == 0


@both
def test_the_limit_is_of_what_is_decompressed(peer: Connection, encoding):
    for size, code in ((LIMIT, Code.INVALID_ARGUMENT), (LIMIT + 1, Code.RESOURCE_EXHAUSTED)):
        stream = peer.request(BATCH, packed(batch(size), encoding), ("grpc-encoding", encoding))
        assert_status(peer.answer(stream), code)
    assert_serves(peer)


@both
def test_a_bomb(server: Server, encoding):
    """A gibibyte of zeros is a megabyte on the wire; it is refused before it is allocated."""
    packer = zlib.compressobj(9, wbits=31 if encoding == "gzip" else 15)
    zeros = bytes(1 << 20)
    data = b"".join(packer.compress(zeros) for _ in range(1_024)) + packer.flush()
    memory = Memory(server)
    for path in (CHECK, WATCH_HEALTH, REFLECT, JOBS + "Enqueue", BATCH):
        with Connection.open(server.address) as peer:
            stream = peer.request(path, None, ("grpc-encoding", encoding), end=False)
            answer = peer.answer_of(stream)
            body = message(data, 1)
            window = min(peer.settings[INITIAL_WINDOW_SIZE], 65_535)
            for at in range(0, len(body), window):
                if not answer.is_over:
                    peer.send_data(stream, body[at : at + window], end=at + window >= len(body))
                    peer.settle()
            assert_status(peer.answer(stream), Code.RESOURCE_EXHAUSTED)
            assert_serves(peer)
    # What has come, up to the limit of what it may become, and what the buffers of both grow by.
    assert memory.growth() <= 4 * LIMIT


# Answers


@both
def test_an_answer_as_its_request(peer: Connection, encoding):
    id = enqueue(peer, payload=PAYLOAD)
    request = job_service_pb2.GetJobRequest(job_id=id, include_payload=True).SerializeToString()
    for accepted in (encoding, f"identity,{encoding}", "identity, deflate ,gzip", f"snappy,{encoding}"):
        answer = peer.answer(
            peer.request(
                JOBS + "GetJob",
                packed(request, encoding),
                ("grpc-encoding", encoding),
                ("grpc-accept-encoding", accepted),
            )
        )
        assert answer.grpc_status == Code.OK, f"{answer}"
        assert answer.header("grpc-encoding") == encoding, accepted
        ((flag, data),) = answer.messages
        assert flag == 1 and len(data) < len(PAYLOAD) // 10
        assert job_service_pb2.GetJobResponse.FromString(UNPACK[encoding](data)).job.payload == PAYLOAD


@both
def test_a_stream_of_answers_as_its_request(peer: Connection, encoding):
    """Each message by itself, as the protocol says."""
    body = packed(LARGE_QUESTION, encoding) * 3
    answer = peer.answer(
        peer.request(REFLECT, body, ("grpc-encoding", encoding), ("grpc-accept-encoding", encoding))
    )
    assert answer.grpc_status == Code.OK and answer.header("grpc-encoding") == encoding
    assert [flag for flag, _ in answer.messages] == [1, 1, 1]
    first, *others = unpacked(answer)
    assert others == [first, first]
    assert len(
        reflection_pb2.ServerReflectionResponse.FromString(first).file_descriptor_response.ListFields()
    )


def whole_messages(body: bytes) -> list[tuple[int, bytes]]:
    """The (flag, message) pairs of a body that may end within one."""
    found, at = [], 0
    while len(body) >= at + 5:
        end = at + 5 + int.from_bytes(body[at + 1 : at + 5], "big")
        if len(body) < end:
            break
        found.append((body[at], body[at + 5 : end]))
        at = end
    return found


@both
def test_a_watch_as_its_request(peer: Connection, encoding):
    labels = {f"label-{n}": "value " * 40 for n in range(32)}
    id = enqueue(peer, labels=labels)
    request = job_service_pb2.WatchRequest(jobs=[job_service_pb2.WatchedJob(job_id=id)])
    stream = peer.request(
        JOBS + "Watch",
        packed(request.SerializeToString(), encoding),
        ("grpc-encoding", encoding),
        ("grpc-accept-encoding", f"identity,{encoding}"),
    )
    answer = peer.answer_of(stream)
    peer.until(lambda: len(whole_messages(answer.body)) >= 2 or answer.is_over)
    assert answer.header("grpc-encoding") == encoding, f"{answer}"
    # The first message, which is short, says that the watch is open.
    (_, opened), (flag, snapshot), *_ = whole_messages(answer.body)
    assert flag == 1 and opened
    event = job_service_pb2.WatchResponse.FromString(UNPACK[encoding](snapshot))
    assert dict(event.snapshot.job.labels) == labels


@both
def test_what_does_not_shrink_goes_as_it_is(peer: Connection, encoding):
    """The flag is 0 then, whatever grpc-encoding says."""
    noise = os.urandom(100_000)
    id = enqueue(peer, payload=noise, content_type="application/octet-stream")
    request = job_service_pb2.GetJobRequest(job_id=id, include_payload=True).SerializeToString()
    answer = peer.answer(
        peer.request(
            JOBS + "GetJob",
            packed(request, encoding),
            ("grpc-encoding", encoding),
            ("grpc-accept-encoding", encoding),
        )
    )
    ((flag, data),) = answer.messages
    assert flag == 0
    assert job_service_pb2.GetJobResponse.FromString(data).job.payload == noise


NOT_ACCEPTED = {
    "a plain request": (None, "gzip,deflate"),
    "nothing is accepted": ("gzip", None),
    "only identity is accepted": ("gzip", "identity"),
    "another encoding is accepted": ("gzip", "identity,deflate"),
    "an unknown encoding is accepted": ("deflate", "identity,br"),
    "a longer name is accepted": ("gzip", "gzipped"),
}


@pytest.mark.parametrize(("encoding", "accepted"), NOT_ACCEPTED.values(), ids=NOT_ACCEPTED.keys())
def test_an_answer_that_is_not_compressed(peer: Connection, encoding, accepted):
    id = enqueue(peer, payload=PAYLOAD)
    request = job_service_pb2.GetJobRequest(job_id=id, include_payload=True).SerializeToString()
    extra = [("grpc-encoding", encoding)] if encoding else []
    extra += [("grpc-accept-encoding", accepted)] if accepted else []
    body = packed(request, encoding) if encoding else message(request)
    answer = peer.answer(peer.request(JOBS + "GetJob", body, *extra))
    assert answer.grpc_status == Code.OK, f"{answer}"
    assert answer.header("grpc-encoding") in (None, "identity")
    ((flag, data),) = answer.messages
    assert flag == 0
    assert job_service_pb2.GetJobResponse.FromString(data).job.payload == PAYLOAD


@both
def test_an_error_to_a_compressed_request(peer: Connection, encoding):
    """Statuses are never compressed: it is Trailers-Only as any other."""
    request = job_service_pb2.GetJobRequest(job_id="no id").SerializeToString()
    answer = peer.answer(
        peer.request(
            JOBS + "GetJob",
            packed(request, encoding),
            ("grpc-encoding", encoding),
            ("grpc-accept-encoding", encoding),
        )
    )
    assert_status(answer, Code.INVALID_ARGUMENT)
    assert decode_bin(answer.trailer("grpc-status-details-bin") or "")
