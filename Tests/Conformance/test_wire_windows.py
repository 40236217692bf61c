"""Flow control, both ways (RFC 9113, 5.2 and 6.9)."""

from __future__ import annotations

from contextlib import closing

import pytest
from frames import (
    FLOW_CONTROL_ERROR,
    INITIAL_WINDOW_SIZE,
    LARGE_WINDOW,
    MAX_FRAME_SIZE,
    NO_ERROR,
    PROTOCOL_ERROR,
    Connection,
    message,
)
from grpc_reflection.v1alpha import reflection_pb2
from harness import PATIENCE_S, Cluster, Server, command_config, unique
from signalbox.v1 import job_pb2, job_service_pb2
from wire import (
    CHECK,
    JOBS,
    LARGE_QUESTION,
    REFLECT,
    SERVING,
    WATCH_HEALTH,
    Code,
    assert_connection_error,
    assert_serves,
)

#: Between two frames of a server that has something to say.
LULL_S = 1.0

PAYLOAD = b'"%s"' % (b"a" * 200_000)


@pytest.fixture
def large_job(server: Server) -> bytes:
    """A request whose answer has a little more than `PAYLOAD`."""
    spec = job_pb2.JobSpec(kind="test.echo", user_id=unique(), payload=PAYLOAD, delay={"seconds": 3_600})
    request = job_service_pb2.EnqueueRequest(job=spec).SerializeToString()
    with Connection.open(server.address) as peer:
        answer = peer.call(JOBS + "Enqueue", request)
    id = job_service_pb2.EnqueueResponse.FromString(answer.messages[0][1]).job.id
    return job_service_pb2.GetJobRequest(job_id=id, include_payload=True).SerializeToString()


def assert_large(answer) -> None:
    assert answer.grpc_status == Code.OK, f"{answer}"
    ((_, data),) = answer.messages
    assert job_service_pb2.GetJobResponse.FromString(data).job.payload == PAYLOAD


# The client's windows


def test_the_window_of_a_stream_holds(server: Server, large_job):
    with Connection.open(server.address, settings={INITIAL_WINDOW_SIZE: 10}) as peer:
        stream = peer.request(JOBS + "GetJob", message(large_job))
        answer = peer.answer_of(stream)
        peer.until(lambda: len(answer.body) >= 10)
        # Streams do not share it: another one's answer comes, as far as its own window goes.
        assert_serves(peer)
        assert len(answer.body) == 10
        peer.send_window_update(stream, 90)
        peer.until(lambda: len(answer.body) >= 100)
        peer.settle()
        assert len(answer.body) == 100
        peer.send_window_update(stream, 1_000_000)
        assert_large(peer.answer(stream))


def test_the_window_of_the_connection_holds(server: Server, large_job):
    with Connection.open(server.address, connection_window=0) as peer:
        stream = peer.request(JOBS + "GetJob", message(large_job))
        answer = peer.answer_of(stream)
        peer.until(lambda: len(answer.body) >= 65_535)
        peer.settle()
        assert len(answer.body) == 65_535
        peer.send_window_update(0, 1_000_000)
        assert_large(peer.answer(stream))


#: 200 lines of 4,000 bytes.
LONG_LOG = r"""
line=$(head -c 4000 /dev/zero | tr '\0' x)
for _ in $(seq 200); do echo "$line"; done
"""


def test_many_long_answers_wait_for_the_window_of_the_connection(cluster: Cluster, tmp_path):
    """40 watches that begin with a log of 800 KB each: who reads them one after the other gets them all."""
    config = command_config(tmp_path, {"shell.log": LONG_LOG})
    with closing(Server(cluster.database(), config=config)) as server:
        with server.client(timeout=PATIENCE_S) as client:
            id = client.enqueue("shell.log", {}, user_id=unique()).job.id
            with client.watch(id, timeout=PATIENCE_S) as events:
                list(events)
        request = job_service_pb2.WatchRequest(jobs=[{"job_id": id}], include_log=True)
        body = message(request.SerializeToString())
        with Connection.open(server.address, connection_window=65_535) as peer:
            streams = [peer.request(JOBS + "Watch", body) for _ in range(40)]
            while not peer.is_quiet(LULL_S):
                pass
            peer.send_window_update(0, LARGE_WINDOW - 65_535)
            for stream in streams:
                answer = peer.answer(stream)
                assert answer.grpc_status == Code.OK, answer.grpc_message
                assert len(answer.body) > 800_000


def test_a_status_needs_no_window(server: Server):
    """Trailers are not DATA: an error is told to a client that takes no bytes."""
    with Connection.open(server.address, settings={INITIAL_WINDOW_SIZE: 0}) as peer:
        assert peer.call("/no/method").grpc_status == Code.UNIMPLEMENTED


def test_a_window_that_grows_for_all_streams(server: Server):
    """By a SETTINGS, which changes the windows of streams that are open."""
    with Connection.open(server.address, settings={INITIAL_WINDOW_SIZE: 0}) as peer:
        stream = peer.request(CHECK, message(b""))
        peer.settle()
        answer = peer.answer_of(stream)
        assert answer.body == b"" and not answer.is_over
        peer.send_settings({INITIAL_WINDOW_SIZE: 6})
        peer.until(lambda: len(answer.body) >= 6)
        peer.settle()
        assert len(answer.body) == 6 and not answer.is_over
        peer.send_settings({INITIAL_WINDOW_SIZE: 65_535})
        assert peer.answer(stream).messages == [SERVING]


def test_a_window_that_shrinks_below_zero(server: Server, large_job):
    """What was sent is counted against the smaller one (RFC 9113, 6.9.2)."""
    with Connection.open(server.address, settings={INITIAL_WINDOW_SIZE: 1_000}) as peer:
        stream = peer.request(JOBS + "GetJob", message(large_job))
        answer = peer.answer_of(stream)
        peer.until(lambda: len(answer.body) >= 1_000)
        peer.send_settings({INITIAL_WINDOW_SIZE: 100})
        peer.send_window_update(stream, 900)
        peer.settle()
        assert len(answer.body) == 1_000
        peer.send_window_update(stream, 1)
        peer.until(lambda: len(answer.body) >= 1_001)
        peer.settle()
        assert len(answer.body) == 1_001


@pytest.mark.parametrize("size", [16_384, 50_000, 2**24 - 1])
def test_frames_are_no_larger_than_the_client_takes(server: Server, large_job, size):
    settings = {INITIAL_WINDOW_SIZE: LARGE_WINDOW, MAX_FRAME_SIZE: size}
    with Connection.open(server.address, settings=settings) as peer:
        assert_large(peer.answer(peer.request(JOBS + "GetJob", message(large_job))))
        assert max(frame.body_len for frame in peer.frames) <= size


def test_a_client_that_goes_while_it_has_no_window(server: Server, large_job):
    """What it did not take is dropped with its stream."""
    with Connection.open(server.address, settings={INITIAL_WINDOW_SIZE: 0}) as peer:
        for _ in range(50):
            stream = peer.request(JOBS + "GetJob", message(large_job))
            answer = peer.answer_of(stream)
            peer.until(lambda answer=answer: answer.headers is not None)
            peer.send_reset(stream)
        peer.send_settings({INITIAL_WINDOW_SIZE: 65_535})
        assert_serves(peer)


# WINDOW_UPDATE


def test_an_increment_of_zero_on_a_stream(peer: Connection):
    stream = peer.request(CHECK, None, end=False)
    peer.send_window_update(stream, 0)
    answer = peer.answer_of(stream)
    peer.until(lambda: answer.reset is not None or bool(peer.goaways))
    assert PROTOCOL_ERROR in (answer.reset, *(frame.error_code for frame in peer.goaways))


def test_an_increment_of_zero_on_the_connection(peer: Connection):
    peer.send_window_update(0, 0)
    assert_connection_error(peer, PROTOCOL_ERROR)


def test_a_window_of_a_stream_that_overflows(peer: Connection):
    """The stream is reset, the connection goes on."""
    stream = peer.request(REFLECT, None, end=False)
    peer.send_window_update(stream, 2**31 - 1)
    answer = peer.answer(stream)
    assert answer.order == ["RST_STREAM"] and answer.reset == FLOW_CONTROL_ERROR
    assert_serves(peer)


def test_a_window_of_the_connection_that_overflows(peer: Connection):
    peer.send_window_update(0, 2**31 - 1)
    assert_connection_error(peer, FLOW_CONTROL_ERROR)


def test_a_setting_that_makes_a_window_overflow(server: Server):
    with Connection.open(server.address, settings={INITIAL_WINDOW_SIZE: 65_535}) as peer:
        stream = peer.request(WATCH_HEALTH, message(b""))
        peer.send_window_update(stream, 2**30)
        peer.settle()
        peer.send_settings({INITIAL_WINDOW_SIZE: 2**31 - 1})
        answer = peer.answer_of(stream)
        peer.until(lambda: answer.reset is not None or bool(peer.goaways))
        # RFC 9113, 6.9.2 asks for the latter; that the stream alone ends for it does no harm.
        assert FLOW_CONTROL_ERROR in (answer.reset, *(frame.error_code for frame in peer.goaways))


# The server's windows


def test_more_than_the_window_of_a_stream(server: Server):
    """A handler that cannot answer takes no more requests, so their window is not given back; who sends on
    all the same breaks a rule, and ends at least its stream."""
    with Connection.open(server.address, settings={INITIAL_WINDOW_SIZE: 0}) as peer:
        stream = peer.request(REFLECT, None, end=False)
        question = message(LARGE_QUESTION)
        room = peer.settings[INITIAL_WINDOW_SIZE]
        sent = 0
        # Twice what the server can take before it must hold the client back.
        while sent < 2 * room + (1 << 20) and not peer.answer_of(stream).is_over and not peer.goaways:
            part = question * (16_000 // len(question))
            peer.send_data(stream, part)
            sent += len(part)
            if sent % (1 << 18) < len(part):
                peer.settle()
        answer = peer.answer_of(stream)
        peer.until(lambda: answer.reset is not None or bool(peer.goaways))
        assert FLOW_CONTROL_ERROR in (answer.reset, *(frame.error_code for frame in peer.goaways))
        if not peer.goaways:
            peer.send_settings({INITIAL_WINDOW_SIZE: 65_535})
            assert_serves(peer)


def test_a_client_that_keeps_to_the_window_is_never_at_fault(peer: Connection):
    """A megabyte of questions, each read and answered: the windows come back, of the stream and of all."""
    stream = peer.request(REFLECT, None, end=False)
    answer = peer.answer_of(stream)
    # Each is answered by about as much as it has itself.
    request = reflection_pb2.ServerReflectionRequest(host="h" * 400, list_services="*")
    question = message(request.SerializeToString())
    left = {stream: peer.settings[INITIAL_WINDOW_SIZE], 0: 65_535}
    seen = 0
    sent = 0
    part = question * 20
    while sent < 1 << 20:
        while peer.frames[seen:]:
            frame = peer.frames[seen]
            if frame.type == 0x8 and frame.stream_id in left:
                left[frame.stream_id] += frame.window_increment
            seen += 1
        if min(left.values()) < len(part):
            peer.receive()
            continue
        peer.send_data(stream, part)
        sent += len(part)
        left = {id: room - len(part) for id, room in left.items()}
        assert not answer.is_over, f"{answer.reset} {answer.trailers}"
    peer.send_data(stream, b"", end=True)
    assert peer.answer(stream).grpc_status == Code.OK
    assert len(answer.messages) == sent // len(question)
    assert answer.reset in (None, NO_ERROR)
