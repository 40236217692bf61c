"""Clients that ask and do not read: with no window, or with a socket that nobody empties."""

from __future__ import annotations

import datetime
import select
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack

import pytest
from frames import INITIAL_WINDOW_SIZE, Connection, message
from harness import PATIENCE_S, unique
from hostile import MIB, QUIET_CALLS, HostileServer, Probe, probe
from signalbox import NewJob
from signalbox.v1 import job_service_pb2

GET = "/signalbox.v1.JobService/GetJob"
WATCH = "/signalbox.v1.JobService/Watch"

#: Who takes nothing of what waits for it for this long has been let go, without a second more.
STALL_S = 30.0

#: Honest calls beside answers that nobody reads: they take a second or more, in which those are made.
STALLING_CALLS = 20 * QUIET_CALLS


def large_job(server: HostileServer) -> bytes:
    """A request whose answer has a mebibyte."""
    with server.client(timeout=PATIENCE_S) as client:
        payload = b'"%s"' % (b"a" * (MIB - 2))
        delay = datetime.timedelta(hours=1)
        job = client.enqueue("test.noop", payload, user_id=unique(), delay=delay).job
    return message(job_service_pb2.GetJobRequest(job_id=job.id, include_payload=True).SerializeToString())


def many_jobs(server: HostileServer, count: int, running: int) -> bytes:
    """A request for a watch that begins with hundreds of KiB, and goes on with the progress of what runs."""
    user = unique()
    with server.client(timeout=PATIENCE_S) as client:
        client.update_limit(user, max(1, running))
        client.enqueue_batch(
            [NewJob("test.sleep", {"ms": 3_600_000, "steps": 10_000}, user_id=user) for _ in range(running)]
        )
        client.enqueue_batch(
            [
                NewJob(
                    "test.noop",
                    user_id=user,
                    delay=datetime.timedelta(hours=1),
                    labels={f"label-{n}": "x" * 100 for n in range(4)},
                )
                for _ in range(count)
            ]
        )
    return message(job_service_pb2.WatchRequest(filter={"user_id": user}).SerializeToString())


def until_dropped(peer: Connection, streams: Sequence[int], deadline: float) -> bool:
    """Reads until the connection has ended or every stream has been reset. True: that came in time.

    What these connections are sent is HEADERS and no DATA, so to read is not to take anything.
    """
    try:
        while not peer.is_closed and not peer.goaways:
            if all(peer.answer_of(stream).is_over for stream in streams):
                break
            peer.receive(max(0.001, deadline - time.monotonic()))
    except TimeoutError:
        return False
    return True


def judge(attacked: Probe, seconds: float | None) -> None:
    """They were dropped after so long; None: never."""
    attacked.figures.cut_off = float("inf") if seconds is None else max(0.0, seconds - STALL_S)
    attacked.figures.cut_off_max = 0.0


def until_begun(peer: Connection, streams: Sequence[int]) -> None:
    """The headers of an answer come with its first message, and that one is made then."""
    answers = [peer.answer_of(stream) for stream in streams]
    peer.until(lambda: peer.is_closed or all(item.headers is not None or item.is_over for item in answers))


@pytest.mark.slow
def test_answers_without_a_window(cluster, record_property):
    """200 answers of 1 MiB each, of which the client's window takes none."""
    with probe("answers without a window", cluster) as attacked:
        request = large_job(attacked.server)
        quiet = attacked.honest.call()
        with Connection.open(attacked.server.address, settings={INITIAL_WINDOW_SIZE: 0}) as peer:
            began = time.monotonic()
            streams = [peer.request(GET, request) for _ in range(200)]
            with attacked.honest.calling() as results:
                peer.settle()
                until_dropped(peer, streams, time.monotonic() + 3)
            attacked.figures.take(results[0], quiet)
            refused = sum(peer.answer_of(stream).is_over for stream in streams)
            attacked.figures.notes.append(f"{refused} of 200 refused at once")
            dropped = until_dropped(peer, streams, began + STALL_S + 10)
        seconds = time.monotonic() - began
        judge(attacked, seconds if dropped else None)
        attacked.figures.notes.append(f"dropped after {seconds:.1f} s" if dropped else "never dropped")
        attacked.check(record_property)


def drain_requests(attacked: Probe, socks: list[socket.socket], began: float) -> None:
    """Waits for the server to close connections that read nothing, and so cannot be told."""
    ports = [sock.getsockname()[1] for sock in socks]
    end = began + STALL_S + 10
    while any(attacked.server.holds(port) for port in ports) and time.monotonic() < end:
        # The sockets say nothing of what they do not read: the kernel's list does.
        select.select([], [], [], 0.25)
    held = sum(attacked.server.holds(port) for port in ports)
    seconds = time.monotonic() - began
    judge(attacked, None if held else seconds)
    attacked.figures.notes.append(
        f"{held} of {len(ports)} connections never dropped" if held else f"dropped after {seconds:.1f} s"
    )


@pytest.mark.slow
def test_answers_that_nobody_reads(cluster, record_property):
    """The same with windows without end, and a socket that is not read."""
    with probe("answers that nobody reads", cluster) as attacked:
        request = large_job(attacked.server)
        quiet = attacked.honest.call()
        with Connection.open(attacked.server.address, receive_buffer=4_096) as peer:
            for _ in range(200):
                peer.request(GET, request)
            attacked.figures.take(attacked.honest.call(STALLING_CALLS), quiet)
            drain_requests(attacked, [peer.socket], time.monotonic())
        attacked.check(record_property)


@pytest.mark.slow
def test_stalled_watches(cluster, record_property):
    """1,000 watches on four connections, each with more to say than 64 KiB, and no window for a byte of
    it."""
    with probe("1,000 stalled watches", cluster) as attacked, ExitStack() as stack:
        # Jobs of about 700 bytes.
        request = many_jobs(attacked.server, 150, running=4)
        # What the first watch of a server takes once is no watch's own.
        with Connection.open(attacked.server.address) as peer:
            stream = peer.request(WATCH, request)
            peer.until(lambda: len(peer.answer_of(stream).body) > 80_000)
        quiet = attacked.honest.call()
        attacked.memory = type(attacked.memory)(attacked.server)
        attacked.figures.memory_max = 1_000 * 64 * 1024
        peers = [
            stack.enter_context(Connection.open(attacked.server.address, settings={INITIAL_WINDOW_SIZE: 0}))
            for _ in range(4)
        ]
        began = time.monotonic()
        streams: list[list[int]] = [[] for _ in peers]
        with attacked.honest.calling() as results:
            # A few at a time, or those that wait for the database for longer than it lets them are refused.
            for _ in range(10):
                for peer, mine in zip(peers, streams):
                    mine += [peer.request(WATCH, request) for _ in range(25)]
                    until_begun(peer, mine)
            all_wait = time.monotonic()
            dropped = [
                until_dropped(peer, mine, all_wait + STALL_S + 5) for peer, mine in zip(peers, streams)
            ]
            seconds = time.monotonic() - all_wait
        attacked.figures.take(results[0], quiet)
        answers = [peer.answer_of(stream) for peer, mine in zip(peers, streams) for stream in mine]
        # Whoever stalled first may have been dropped already. That is no error of the watch.
        refused = [answer for answer in answers if answer.grpc_status is not None]
        assert not refused, refused[0]
        attacked.figures.notes.append(f"all began to speak within {all_wait - began:.1f} s")
        growth = attacked.memory.growth()
        attacked.figures.notes.append(
            f"{growth / 1_000 / 1024:.1f} KiB for each watch, "
            + (
                f"dropped after {seconds:.1f} s"
                if all(dropped)
                else f"{dropped.count(False)} of 4 never dropped"
            )
        )
        judge(attacked, seconds if all(dropped) else None)
        attacked.check(record_property)


@pytest.mark.slow
def test_watches_that_nobody_reads(cluster, record_property):
    """50 watches that begin with 300 KiB each and go on with progress, on two sockets that are not read."""
    with probe("watches that nobody reads", cluster) as attacked, ExitStack() as stack:
        request = many_jobs(attacked.server, 400, running=16)
        quiet = attacked.honest.call()
        peers = [
            stack.enter_context(Connection.open(attacked.server.address, receive_buffer=4_096))
            for _ in range(2)
        ]
        for peer in peers:
            for _ in range(25):
                peer.request(WATCH, request)
        attacked.figures.take(attacked.honest.call(STALLING_CALLS), quiet)
        drain_requests(attacked, [peer.socket for peer in peers], time.monotonic())
        attacked.check(record_property)


def read_slowly(attacked: Probe, bytes_each: dict[Connection, int], seconds: float) -> list[Connection]:
    """Reads so much of each every second; gives those whose connections the server still holds at the end."""
    ports = {peer: peer.socket.getsockname()[1] for peer in bytes_each}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for peer, count in bytes_each.items():
            if attacked.server.holds(ports[peer]):
                peer.socket.recv(count)
        # The clients' own pace.
        select.select([], [], [], 1)
    return [peer for peer, port in ports.items() if attacked.server.holds(port)]


@pytest.mark.long
def test_answers_that_are_read_slowly(cluster, record_property):
    """A bad line takes a few KiB a second, and is not taken for a dead one; a few bytes a second are no line."""
    with probe("answers that are read slowly", cluster) as attacked, ExitStack() as stack:
        request = large_job(attacked.server)
        quiet = attacked.honest.call()
        slow, dripping = (
            stack.enter_context(Connection.open(attacked.server.address, receive_buffer=4_096))
            for _ in range(2)
        )
        with attacked.honest.calling() as results:
            # More than what lies in the system's buffers.
            for _ in range(4):
                slow.request(GET, request)
                dripping.request(GET, request)
            assert read_slowly(attacked, {slow: 4_096, dripping: 16}, STALL_S) == [slow]
        attacked.figures.take(results[0], quiet)
        drain_requests(attacked, [slow.socket], time.monotonic())
        attacked.check(record_property)
