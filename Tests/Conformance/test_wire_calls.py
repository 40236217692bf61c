"""How a call ends that its client no longer wants, and how many may run at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from frames import (
    CANCEL,
    DATA,
    END_STREAM,
    INTERNAL_ERROR,
    MAX_CONCURRENT_STREAMS,
    NO_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    Connection,
    grpc_headers,
    message,
    raw_frame,
)
from harness import Cluster, Server, unique
from signalbox.v1 import job_pb2, job_service_pb2
from wire import CHECK, JOBS, REFLECT, SERVING, WATCH_HEALTH, Code, Lock, assert_serves, assert_status

#: By when the statement of a call that is over must be gone: well before Postgres itself stops it.
SOON_S = 4.0


@pytest.fixture(scope="module")
def url(cluster: Cluster) -> str:
    return cluster.database()


@pytest.fixture(scope="module")
def node(url: str) -> Iterator[Server]:
    """A server whose database only it uses."""
    node = Server(url, name="calls", arguments=["--database-connections", "4"])
    yield node
    node.close()


@pytest.fixture
def client(node: Server) -> Iterator[Connection]:
    with Connection.open(node.address) as client:
        yield client


@pytest.fixture
def locked_log(url: str, node: Server) -> Iterator[Lock]:
    """What handlers have logged cannot be read: who asks for it waits. Nothing else is held up."""
    with Lock(url, "log_line") as lock:
        yield lock


def readers(cluster: Cluster, url: str) -> int:
    """How many statements wait to read it."""
    return int(
        cluster.query(
            url,
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted"
            " AND relation = 'log_line'::regclass AND mode = 'AccessShareLock' AND state = 'active'",
        )
    )


def reach(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what


@pytest.fixture
def job(client: Connection) -> str:
    spec = job_pb2.JobSpec(kind="test.echo", user_id=unique(), delay={"seconds": 3_600})
    answer = client.call(JOBS + "Enqueue", job_service_pb2.EnqueueRequest(job=spec).SerializeToString())
    return job_service_pb2.EnqueueResponse.FromString(answer.messages[0][1]).job.id


def get_job(job: str) -> bytes:
    return message(job_service_pb2.GetJobRequest(job_id=job).SerializeToString())


def watch_log(job: str) -> bytes:
    request = job_service_pb2.WatchRequest(jobs=[job_service_pb2.WatchedJob(job_id=job)], include_log=True)
    return message(request.SerializeToString())


CALLS = {"a unary call": ("GetJob", get_job), "a watch": ("Watch", watch_log)}
calls = pytest.mark.parametrize(("method", "make"), CALLS.values(), ids=CALLS.keys())


@calls
def test_a_deadline_reaches_the_statement(cluster: Cluster, url, client, job, locked_log, method, make):
    begun = time.monotonic()
    stream = client.request(JOBS + method, make(job), ("grpc-timeout", "2S"))
    reach(lambda: readers(cluster, url) == 1, 10, "the statement does not wait for the lock")
    answer = client.answer(stream)
    assert answer.grpc_status == Code.DEADLINE_EXCEEDED
    assert 1.9 <= time.monotonic() - begun < 2 + SOON_S
    reach(lambda: readers(cluster, url) == 0, SOON_S, "the statement still runs")


@calls
def test_a_reset_reaches_the_statement(cluster: Cluster, url, client, job, locked_log, method, make):
    stream = client.request(JOBS + method, make(job))
    reach(lambda: readers(cluster, url) == 1, 10, "the statement does not wait for the lock")
    client.send_reset(stream, CANCEL)
    assert_serves(client)
    reach(lambda: readers(cluster, url) == 0, SOON_S, "the statement still runs")


@calls
def test_the_end_of_a_connection_reaches_the_statement(
    cluster: Cluster, url, node, job, locked_log, method, make
):
    with Connection.open(node.address) as client:
        client.request(JOBS + method, make(job))
        reach(lambda: readers(cluster, url) == 1, 10, "the statement does not wait for the lock")
    reach(lambda: readers(cluster, url) == 0, SOON_S, "the statement still runs")


def test_calls_that_were_given_up_hold_no_connections(client, job, locked_log):
    """More of them than there are connections to the database; a call that needs one gets it."""
    for _ in range(12):
        stream = client.request(JOBS + "GetJob", get_job(job), ("grpc-timeout", "200m"))
        assert client.answer(stream).grpc_status == Code.DEADLINE_EXCEEDED
    answer = client.call(JOBS + "ListJobs", b"", ("grpc-timeout", "4S"))
    assert answer.grpc_status == Code.OK, f"{answer}"


def test_a_deadline_while_the_database_is_busy(client, job, locked_log):
    """Those that wait for a connection are told in time as well."""
    begun = time.monotonic()
    streams = [client.request(JOBS + "GetJob", get_job(job), ("grpc-timeout", "1S")) for _ in range(12)]
    assert {client.answer(stream).grpc_status for stream in streams} == {Code.DEADLINE_EXCEEDED}
    assert time.monotonic() - begun < 1 + SOON_S


def test_a_statement_that_ends_in_time(client, job, locked_log):
    stream = client.request(JOBS + "GetJob", get_job(job), ("grpc-timeout", "20S"))
    client.settle()
    assert not client.answer_of(stream).is_over
    locked_log.release()
    answer = client.answer(stream)
    assert answer.grpc_status == Code.OK
    assert job_service_pb2.GetJobResponse.FromString(answer.messages[0][1]).job.id == job


# How many at once


def open_watches(client: Connection, count: int) -> list[int]:
    streams = [client.request(WATCH_HEALTH, message(b"")) for _ in range(count)]
    client.until(lambda: all(client.answer_of(stream).body for stream in streams))
    return streams


def open_in_time(client: Connection, count: int) -> list[int]:
    """The same where handlers that were told to end may need a moment: a refused stream is tried again."""
    streams: list[int] = []
    deadline = time.monotonic() + 10
    while len(streams) < count:
        assert time.monotonic() < deadline, f"{len(streams)} of {count} places are free again"
        stream = client.request(WATCH_HEALTH, message(b""))
        answer = client.answer_of(stream)
        client.until(lambda answer=answer: bool(answer.body) or answer.is_over)
        if answer.is_over:
            assert answer.order == ["RST_STREAM"] and answer.reset == REFUSED_STREAM, f"{answer}"
            client.is_quiet(0.05)
        else:
            streams.append(stream)
    return streams


def test_a_stream_over_the_limit_is_refused(client: Connection):
    """REFUSED_STREAM: it was not processed, so the client may try it elsewhere. The others go on."""
    limit = client.settings[MAX_CONCURRENT_STREAMS]
    streams = open_watches(client, limit)
    refused = client.answer(client.request(CHECK, message(b"")))
    assert refused.order == ["RST_STREAM"] and refused.reset == REFUSED_STREAM, client.history()
    assert not any(client.answer_of(stream).is_over for stream in streams)
    client.send_reset(streams[0])
    open_in_time(client, 1)


def test_a_stream_over_the_limit_that_the_client_does_not_know(node: Server):
    """It has not acknowledged the SETTINGS, and so may not have seen it."""
    with Connection.open(node.address, preface=False) as client:
        client.answers_settings = False
        client.hello()
        client.until(lambda: bool(client.settings))
        open_watches(client, client.settings[MAX_CONCURRENT_STREAMS])
        refused = client.answer(client.request(CHECK, message(b"")))
        assert refused.order == ["RST_STREAM"] and refused.reset == REFUSED_STREAM, client.history()


@pytest.mark.parametrize("code", [CANCEL, NO_ERROR, INTERNAL_ERROR])
def test_a_reset_ends_the_handler(client: Connection, code):
    """Whatever its code: the place of the call is free again, as soon as its handler has ended."""
    limit = client.settings[MAX_CONCURRENT_STREAMS]
    streams = open_watches(client, limit)
    for stream in streams[:50]:
        client.send_reset(stream, code)
    others = open_in_time(client, 50)
    client.settle()
    assert not any(client.answer_of(stream).is_over for stream in [*streams[50:], *others])


def test_a_reset_ends_a_handler_that_waits_for_messages(client: Connection):
    limit = client.settings[MAX_CONCURRENT_STREAMS]
    streams = [client.request(REFLECT, None, end=False) for _ in range(limit)]
    for stream in streams[:50]:
        client.send_reset(stream)
    open_in_time(client, 50)


def test_a_deadline_ends_the_handler(client: Connection):
    limit = client.settings[MAX_CONCURRENT_STREAMS]
    streams = [client.request(WATCH_HEALTH, message(b""), ("grpc-timeout", "1S")) for _ in range(limit)]
    answers = [client.answer(stream, settle=False) for stream in streams]
    assert {answer.grpc_status for answer in answers} == {Code.DEADLINE_EXCEEDED}
    open_in_time(client, limit)


def test_handlers_count_and_not_streams(url: str, client: Connection):
    """A call that is given up has its place until its work is done: here, the commit of a job, which others
    wait for too. Who gives up as many calls as may run gets no more of them, although no stream of it is
    open."""
    limit = client.settings[MAX_CONCURRENT_STREAMS]
    with Lock(url, "job") as lock:
        streams = []
        for _ in range(limit):
            spec = job_pb2.JobSpec(kind="test.echo", user_id=unique(), delay={"seconds": 3_600})
            request = message(job_service_pb2.EnqueueRequest(job=spec).SerializeToString())
            streams.append(client.request(JOBS + "Enqueue", request, ("grpc-timeout", "1S")))
        ends = {client.answer(stream, settle=False).grpc_status for stream in streams}
        assert ends == {Code.DEADLINE_EXCEEDED}
        refused = client.answer(client.request(WATCH_HEALTH, message(b"")))
        assert refused.order == ["RST_STREAM"] and refused.reset == REFUSED_STREAM, f"{refused}"
        lock.release()

    def is_served() -> bool:
        answer = client.answer(client.request(CHECK, message(b"")))
        assert answer.reset in (None, REFUSED_STREAM)
        if answer.reset is not None:
            client.is_quiet(0.1)
        return answer.grpc_status == Code.OK

    reach(is_served, 10, "the places are not free again")


def test_a_reset_before_the_message_is_whole(client: Connection):
    stream = client.request(CHECK, message(b"")[:3], end=False)
    client.send_reset(stream)
    assert_serves(client)
    assert client.answer_of(stream).order == []


def test_a_reset_in_the_same_write_as_the_request(client: Connection):
    """Whether it is answered is a race; that the connection goes on is not."""
    for _ in range(20):
        stream = client.new_stream()
        client.send(
            client.header_frames(stream, grpc_headers(CHECK)),
            raw_frame(DATA, END_STREAM, stream, message(b"")),
            raw_frame(RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big")),
        )
    assert_serves(client)


def test_an_answer_that_nobody_waits_for_any_more(client: Connection, job, locked_log):
    """It comes after the reset, and is dropped."""
    streams = [client.request(JOBS + "GetJob", get_job(job)) for _ in range(3)]
    client.settle()
    for stream in streams:
        client.send_reset(stream)
    client.settle()
    locked_log.release()
    answer = client.call(JOBS + "GetJob", get_job(job)[5:])
    assert_status(answer, Code.OK, trailers_only=False)
    assert all(client.answer_of(stream).order == [] for stream in streams)


def test_no_method_is_called_before_its_message_is_there(client: Connection):
    """A unary handler begins with the message and the end, not with the headers."""
    stream = client.request(CHECK, message(b""), end=False)
    client.settle()
    assert client.answer_of(stream).order == []
    client.send_data(stream, b"", end=True)
    assert client.answer(stream).messages == [SERVING]
