"""Signs of life, and how a connection is ended without harm to its calls.

A PING less than ten seconds after the one before is a strike; HEADERS or DATA from the server in between take
all strikes back, for stacks that measure bandwidth send a PING for each burst that they receive. The third
strike ends the connection: GOAWAY, ENHANCE_YOUR_CALM, "too_many_pings".
"""

from __future__ import annotations

import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from frames import (
    ENHANCE_YOUR_CALM,
    GOAWAY,
    NO_ERROR,
    PING,
    Connection,
    message,
)
from harness import PATIENCE_S, Api, Cluster, Server, unique
from signalbox.v1 import job_pb2, job_service_pb2
from wire import CHECK, JOBS, LARGE_QUESTION, REFLECT, SERVING, WATCH_HEALTH, Code, Lock, assert_serves

FIRST_GOAWAY = 2**31 - 1


@pytest.fixture(scope="module")
def url(cluster: Cluster) -> str:
    return cluster.database()


@pytest.fixture
def start(url: str) -> Iterator[Callable[..., Server]]:
    """Starts servers that a test may end."""
    servers: list[Server] = []

    def start(*arguments: str) -> Server:
        servers.append(Server(url, arguments=arguments))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def is_acknowledged(peer: Connection, data: bytes) -> bool:
    return any(frame.type == PING and frame.opaque_data == data for frame in peer.frames)


def ping(peer: Connection, count: int, first: int = 0) -> list[bytes]:
    """PINGs, each after the answer to the one before; what was in them."""
    sent = []
    for n in range(first, first + count):
        data = n.to_bytes(8, "big")
        peer.send_ping(data)
        peer.until(lambda data=data: is_acknowledged(peer, data) or bool(peer.goaways), what="PING")
        sent.append(data)
    return sent


def assert_too_many_pings(peer: Connection) -> None:
    frame = peer.goaway()
    assert frame.error_code == ENHANCE_YOUR_CALM
    assert frame.additional_data == b"too_many_pings"
    peer.until_closed()


# PINGs of the client


def test_the_third_strike_ends_the_connection(peer: Connection):
    """The first PING has none before it, so it takes four."""
    ping(peer, 3)
    assert_serves_nothing_yet(peer)
    peer.send_ping(b"too much")
    assert_too_many_pings(peer)


def assert_serves_nothing_yet(peer: Connection) -> None:
    """No answer is asked for, as that would take strikes back."""
    peer.settle()
    assert not peer.goaways and not peer.is_closed


def test_PINGs_in_one_write(peer: Connection):
    peer.send(*(b"\0\0\x08\x06\0\0\0\0\0" + bytes([n]) * 8 for n in range(4)))
    assert_too_many_pings(peer)


def test_calls_under_way_do_not_excuse_PINGs(peer: Connection):
    """A stream on which nothing comes is no burst of data. Such clients are the ones that the rule is for."""
    stream = peer.request(WATCH_HEALTH, message(b""))
    answer = peer.answer_of(stream)
    peer.until(lambda: bool(answer.body))
    ping(peer, 3)
    peer.send_ping(b"too much")
    assert_too_many_pings(peer)


def test_other_frames_of_the_server_do_not_take_strikes_back(peer: Connection):
    """Neither an acknowledgement nor a reset is HEADERS or DATA."""
    for n in range(3):
        ping(peer, 1, first=n)
        stream = peer.request(CHECK, None, end=False, headers=[(":method", "POST")])
        assert peer.answer(stream).order == ["RST_STREAM"]
    peer.send_ping(b"too much")
    assert_too_many_pings(peer)


def test_a_PING_for_each_answer(peer: Connection):
    """As Go does to measure its bandwidth, here with small answers."""
    for n in range(100):
        assert_serves(peer, settle=False)
        ping(peer, 1, first=n)
    assert_serves(peer)


def test_a_PING_for_each_burst_of_a_stream(peer: Connection):
    """The same where one call lasts."""
    stream = peer.request(REFLECT, None, end=False)
    answer = peer.answer_of(stream)
    for n in range(100):
        before = len(answer.body)
        peer.send_data(stream, message(LARGE_QUESTION))
        peer.until(lambda before=before: len(answer.body) > before + 1_000)
        ping(peer, 1, first=n)
    assert not answer.is_over and not peer.goaways


def test_a_PING_for_each_event_of_a_watch(peer: Connection, api: Api):
    user = unique()
    request = job_service_pb2.WatchRequest(filter={"user_id": user}).SerializeToString()
    stream = peer.request(JOBS + "Watch", message(request))
    answer = peer.answer_of(stream)
    peer.until(lambda: bool(answer.body))
    for n in range(10):
        before = len(answer.body)
        spec = job_pb2.JobSpec(kind="test.noop", user_id=user, delay={"seconds": 3_600})
        api.jobs.Enqueue(job_service_pb2.EnqueueRequest(job=spec), timeout=20)
        peer.until(lambda before=before: len(answer.body) > before)
        ping(peer, 1, first=n)
    assert not answer.is_over and not peer.goaways


def test_an_answer_takes_strikes_back(peer: Connection):
    for n in range(3):
        ping(peer, 3, first=3 * n)
        assert_serves(peer)
    ping(peer, 3, first=9)
    peer.send_ping(b"too much")
    assert_too_many_pings(peer)


@pytest.mark.long
def test_PINGs_every_ten_seconds(peer: Connection):
    """What a client's keepalive may do, on a connection without calls."""
    for n in range(3):
        ping(peer, 1, first=n)
        assert peer.is_quiet(10.3)
    # This one would be the third strike.
    ping(peer, 1, first=3)
    assert_serves(peer)


# PINGs of the server

QUICK = ("--keepalive-interval", "1s", "--keepalive-timeout", "1s")


def test_a_dead_peer_is_found(start):
    """It has opened a call and does not answer any more; the connection is closed."""
    server = start(*QUICK)
    with Connection.open(server.address) as peer:
        peer.answers_pings = False
        stream = peer.request(WATCH_HEALTH, message(b""))
        begun = time.monotonic()
        peer.until(lambda: any(frame.type == PING for frame in peer.frames), what="PING")
        peer.until_closed()
        assert 1 < time.monotonic() - begun < 10
        assert not peer.answer_of(stream).is_over or peer.answer_of(stream).grpc_status is not None


def test_a_peer_that_answers_is_kept(start):
    server = start(*QUICK)
    with Connection.open(server.address) as peer:
        peer.until(lambda: sum(frame.type == PING for frame in peer.frames) >= 4, what="fourth PING")
        assert_serves(peer)


def test_a_busy_peer_is_not_asked(start):
    """Every byte is a sign of life."""
    server = start("--keepalive-interval", "2s", "--keepalive-timeout", "1s")
    with Connection.open(server.address) as peer:
        peer.answers_pings = False
        end = time.monotonic() + 6
        while time.monotonic() < end:
            assert_serves(peer, settle=False)
            peer.is_quiet(0.2)
        assert not any(frame.type == PING for frame in peer.frames)


def test_a_dead_peers_job_watch_is_over(start, api):
    """Its handler ends, and the server can stop at once: nothing of the connection is left."""
    server = start(*QUICK)
    with Connection.open(server.address) as peer:
        peer.answers_pings = False
        request = job_service_pb2.WatchRequest(filter={"user_id": unique()}).SerializeToString()
        peer.request(JOBS + "Watch", message(request))
        peer.until_closed(10)
        begun = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - begun < 8


# The end of a server


def assert_shutdown_begins(peer: Connection) -> bytes:
    """GOAWAY that lets the client's streams on their way in, and a PING to learn when there are no more."""
    frame = peer.goaway()
    assert (frame.last_stream_id, frame.error_code) == (FIRST_GOAWAY, NO_ERROR)
    peer.until(
        lambda: any(item.type == PING and "ACK" not in item.flags for item in peer.frames), what="PING"
    )
    (asked,) = (item for item in peer.frames if item.type == PING and "ACK" not in item.flags)
    return asked.opaque_data


def acknowledge(peer: Connection, data: bytes) -> None:
    peer.send(b"\0\0\x08\x06\x01\0\0\0\0" + data)


def test_a_shutdown_without_calls(start):
    server = start()
    with Connection.open(server.address) as peer:
        assert_serves(peer)
        server.process.send_signal(signal.SIGTERM)
        peer.until_closed()
        first, last = peer.goaways
        assert (first.last_stream_id, first.error_code) == (FIRST_GOAWAY, NO_ERROR)
        assert (last.last_stream_id, last.error_code) == (1, NO_ERROR)
        # In this order: the answer to the PING says that the GOAWAY before it was seen.
        frames = peer.frames[peer.frames.index(first) :]
        assert [frame.type for frame in frames if frame.type in (PING, GOAWAY)] == [GOAWAY, PING, GOAWAY]
        assert server.process.wait(PATIENCE_S) == 0


def test_a_shutdown_of_a_connection_that_was_never_used(start):
    server = start()
    with Connection.open(server.address) as peer:
        server.process.send_signal(signal.SIGTERM)
        peer.until_closed()
        assert [frame.last_stream_id for frame in peer.goaways] == [FIRST_GOAWAY, 0]
        assert server.process.wait(PATIENCE_S) == 0


def test_streams_on_their_way_are_served_and_later_ones_are_not(start, url):
    """Until the client has answered the PING it may not have seen the first GOAWAY."""
    server = start()
    with Connection.open(server.address) as peer:
        peer.answers_pings = False
        spec = job_pb2.JobSpec(kind="test.echo", user_id=unique(), delay={"seconds": 3_600})
        answer = peer.call(JOBS + "Enqueue", job_service_pb2.EnqueueRequest(job=spec).SerializeToString())
        id = job_service_pb2.EnqueueResponse.FromString(answer.messages[0][1]).job.id
        read = message(job_service_pb2.GetJobRequest(job_id=id).SerializeToString())
        with Lock(url, "log_line") as lock:
            before = peer.request(JOBS + "GetJob", read)
            peer.settle()
            server.process.send_signal(signal.SIGTERM)
            asked = assert_shutdown_begins(peer)
            # On its way when the server decided to stop.
            assert peer.call(CHECK).grpc_status == Code.OK
            during = peer.request(JOBS + "GetJob", read)
            peer.settle()
            assert len(peer.goaways) == 1
            acknowledge(peer, asked)
            peer.until(lambda: len(peer.goaways) == 2, what="second GOAWAY")
            assert (peer.goaways[1].last_stream_id, peer.goaways[1].error_code) == (during, NO_ERROR)
            # The client knows by now: what it opens all the same is not answered.
            after = peer.request(CHECK, message(b""))
            peer.settle()
            assert peer.answer_of(after).order in ([], ["RST_STREAM"])
            assert not peer.answer_of(before).is_over and not peer.answer_of(during).is_over
            lock.release()
        assert peer.answer(before, settle=False).grpc_status == Code.OK
        assert peer.answer(during, settle=False).grpc_status == Code.OK
        peer.until_closed()
        assert peer.answer_of(after).headers is None
        assert len(peer.goaways) == 2
        assert server.process.wait(PATIENCE_S) == 0


def test_a_shutdown_ends_watches(start):
    """With a status that says: try elsewhere."""
    server = start()
    with Connection.open(server.address) as peer:
        request = job_service_pb2.WatchRequest(filter={"user_id": unique()}).SerializeToString()
        watches = [peer.request(JOBS + "Watch", message(request)), peer.request(WATCH_HEALTH, message(b""))]
        peer.until(lambda: all(peer.answer_of(stream).body for stream in watches))
        server.process.send_signal(signal.SIGTERM)
        for stream in watches:
            assert peer.answer(stream, settle=False).grpc_status == Code.UNAVAILABLE
        peer.until_closed()
        assert server.process.wait(PATIENCE_S) == 0


def test_a_shutdown_does_not_wait_for_ever_for_a_PING(start):
    """Nor for a client that keeps a stream open and says nothing."""
    server = start("--grace", "2s")
    with Connection.open(server.address) as peer:
        peer.answers_pings = False
        stream = peer.request(REFLECT, None, end=False)
        peer.settle()
        server.process.send_signal(signal.SIGTERM)
        assert_shutdown_begins(peer)
        answer = peer.answer(stream, settle=False)
        assert answer.grpc_status == Code.UNAVAILABLE, f"{answer}"
        peer.until_closed()
        assert server.process.wait(PATIENCE_S) == 0


def test_no_connection_is_taken_by_a_server_that_stops(start):
    server = start("--grace", "5s")
    with Connection.open(server.address) as peer:
        stream = peer.request(REFLECT, None, end=False)
        peer.settle()
        server.process.send_signal(signal.SIGTERM)
        assert peer.goaway().error_code == NO_ERROR
        with pytest.raises((ConnectionError, AssertionError)), Connection.open(server.address) as other:
            assert_serves(other)
        # The call that there was goes on as if nothing had happened.
        peer.send_data(stream, message(LARGE_QUESTION), end=True)
        assert peer.answer(stream, settle=False).grpc_status == Code.OK
        peer.until_closed()


# The age of a connection

AGE_S = 2.0


def goaway_times(peers: list[Connection], since: float, timeout: float) -> list[float]:
    """When each of them is told to go, after `since`."""
    times: dict[int, float] = {}
    deadline = time.monotonic() + timeout
    while len(times) < len(peers):
        assert time.monotonic() < deadline, f"{len(times)} of {len(peers)} were told to go"
        waiting = [peer for peer in peers if id(peer) not in times]
        ready, _, _ = select.select([peer.socket for peer in waiting], [], [], 1)
        now = time.monotonic()
        for peer in waiting:
            if peer.socket in ready:
                peer.receive(5)
                peer.receive_buffered()
                if peer.goaways:
                    times[id(peer)] = now - since
    return list(times.values())


def test_a_connection_is_told_to_go_at_its_age(start):
    """As at a shutdown, and up to ten per cent sooner or later: what came together goes apart."""
    server = start("--max-connection-age", "2s", "--max-connection-age-grace", "20s")
    begun = time.monotonic()
    peers = [Connection.open(server.address) for _ in range(24)]
    opened = time.monotonic()
    try:
        times = goaway_times(peers, begun, 20)
        assert min(times) >= 0.9 * AGE_S - 0.01
        assert max(times) <= 1.1 * AGE_S + (opened - begun) + 5
        assert max(times) - min(times) > 0.05 * AGE_S, "they all go at once"
        for peer in peers:
            peer.until_closed()
            assert [frame.last_stream_id for frame in peer.goaways] == [FIRST_GOAWAY, 0]
            assert all(frame.error_code == NO_ERROR for frame in peer.goaways)
    finally:
        for peer in peers:
            peer.close()
    with Connection.open(server.address) as peer:
        assert_serves(peer)


def test_a_call_goes_on_beyond_the_age_of_its_connection(start):
    server = start("--max-connection-age", "1s", "--max-connection-age-grace", "60s")
    with Connection.open(server.address) as peer:
        stream = peer.request(REFLECT, None, end=False)
        answer = peer.answer_of(stream)
        peer.until(lambda: len(peer.goaways) == 2, what="second GOAWAY")
        assert (peer.goaways[0].last_stream_id, peer.goaways[1].last_stream_id) == (FIRST_GOAWAY, stream)
        for count in range(1, 4):
            peer.send_data(stream, message(LARGE_QUESTION))
            peer.until(lambda count=count: answer.body.count(b"signalbox/v1/job_service.proto") >= count)
            assert not answer.is_over
        peer.send_data(stream, b"", end=True)
        assert peer.answer(stream, settle=False).grpc_status == Code.OK
        peer.until_closed()


def test_a_call_ends_with_the_grace_of_its_connection(start):
    server = start("--max-connection-age", "1s", "--max-connection-age-grace", "1s")
    begun = time.monotonic()
    with Connection.open(server.address) as peer:
        stream = peer.request(WATCH_HEALTH, message(b""))
        answer = peer.answer(stream, settle=False)
        assert answer.messages == [SERVING] and answer.grpc_status == Code.UNAVAILABLE, f"{answer}"
        assert time.monotonic() - begun >= 1.8
        peer.until_closed()
    with Connection.open(server.address) as peer:
        assert_serves(peer)


def test_the_age_does_not_need_a_silent_connection(start):
    """A client that calls all the time is told as well, and none of its calls is lost."""
    server = start("--max-connection-age", "1s", "--max-connection-age-grace", "20s")
    with Connection.open(server.address) as peer:
        end = time.monotonic() + 15
        while not peer.goaways:
            assert time.monotonic() < end
            assert_serves(peer, settle=False)
        peer.until_closed()
        assert [frame.error_code for frame in peer.goaways] == [NO_ERROR, NO_ERROR]
        last = max(peer.streams)
        assert peer.goaways[-1].last_stream_id == last
        assert all(answer.grpc_status == Code.OK for answer in peer.streams.values())


# A rolling restart


def connections_to(address: str) -> int:
    """How many TCP connections to this address are open, seen from the server's end."""
    host, _, port = address.rpartition(":")
    assert host == "127.0.0.1"
    wanted = f"0100007F:{int(port):04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(1 for line in lines if line.split()[1] == wanted and line.split()[3] == "01")


class Load:
    """Unary calls, on one channel of the official stack, without a policy for retries."""

    def __init__(self, addresses: list[str], threads: int = 4) -> None:
        self.errors: list[str] = []
        self.calls = 0
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._progress = threading.Condition()
        self._channel = grpc.insecure_channel(
            "ipv4:" + ",".join(addresses),
            options=[
                ("grpc.lb_policy_name", "round_robin"),
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 500),
            ],
        )
        grpc.channel_ready_future(self._channel).result(PATIENCE_S)
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        check = self._channel.unary_unary(CHECK)
        enqueue = self._channel.unary_unary(JOBS + "Enqueue")
        while not self._is_over.is_set():
            spec = job_pb2.JobSpec(kind="test.noop", user_id=unique())
            request = job_service_pb2.EnqueueRequest(job=spec).SerializeToString()
            try:
                check(b"", timeout=PATIENCE_S)
                enqueue(request, timeout=PATIENCE_S)
            except grpc.RpcError as error:
                with self._lock:
                    self.errors.append(f"{error.code()}: {error.details()}")
            with self._progress:
                self.calls += 2
                self._progress.notify_all()

    def more(self, calls: int) -> None:
        """Waits until so many more have ended."""
        with self._progress:
            wanted = self.calls + calls
            assert self._progress.wait_for(lambda: self.calls >= wanted, PATIENCE_S), "the calls hang"

    def stop(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
        self._channel.close()


class RestartableServer(Server):
    """Comes back at the same address."""

    def start(self) -> None:
        if self.address:
            self._command[self._command.index("--listen") + 1] = self.address
        super().start()


@pytest.mark.slow
def test_a_rolling_restart_under_load(cluster: Cluster):
    """Each of two nodes is stopped and started again, three times over, while a client calls all the time.
    The next one is stopped when the client has found the one before. No call fails."""
    url = cluster.database()
    servers = [RestartableServer(url, name=f"rolling-{n}") for n in range(2)]
    load = None
    try:
        load = Load([server.address for server in servers])
        for _ in range(3):
            for server in servers:
                deadline = time.monotonic() + PATIENCE_S
                while not all(connections_to(item.address) for item in servers):
                    assert time.monotonic() < deadline, "the client does not come back"
                    load.more(10)
                load.more(200)
                assert server.terminate() == 0
                load.more(50)
                server.start()
        load.more(200)
    finally:
        if load:
            load.stop()
        for server in servers:
            server.close()
    assert not load.errors, f"{len(load.errors)} of {load.calls} calls failed: {load.errors[:5]}"
    assert load.calls > 1_000
