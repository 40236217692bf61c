"""Many watches: what an idle one takes, how many events a second are delivered, and how late beside many others."""

from __future__ import annotations

import json
import selectors
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from signalbox.v1 import job_service_pb2 as service

from .latency import watch_request
from .processes import (
    Failed,
    cpu_seconds,
    end,
    forget_resident_max,
    program,
    resident_bytes,
    resident_bytes_max,
    run,
)
from .registry import Environment, Figures, least, measure, most
from .server import JOBS, Server, batch_request, enqueue_batch, serving, users, wait_until
from .statistics_of import percentile, ratio_of
from .wire import Connection

QUEUE = "watched"
MIB = 2**20


class IdleWatches:
    """Connections with many watches each, which a thread reads: nothing piles up in the server.

    `first_messages`: how many each watch gets before it is idle.
    """

    def __init__(self, server: Server, first_messages: int) -> None:
        self._server = server
        self._first_messages = first_messages
        self._selector = selectors.DefaultSelector()
        self._connections: list[Connection] = []
        self._stop = threading.Event()
        #: The first messages of all watches that have come (later ones are heartbeats), and the streams that have ended.
        self.messages = 0
        self.ended = 0
        self._thread = threading.Thread(target=self._read, daemon=True)

    def open(self, requests: list[bytes], per_connection: int) -> None:
        """Opens a watch for each request. Returns when all are idle."""
        self._thread.start()
        for start in range(0, len(requests), per_connection):
            connection = Connection(self._server.address)
            calls = [connection.request(f"{JOBS}/Watch", body) for body in requests[start:][:per_connection]]
            connection.socket.sendall(b"".join(data for _, data in calls))
            self._connections.append(connection)
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
            # A node queues 1,024 statements and refuses more, which would have to be tried again.
            self._wait_for(self._first_messages * (start - 300))
        self._wait_for(self._first_messages * len(requests))
        self.check()

    def check(self) -> None:
        """Fails when a watch has ended."""
        if self.ended:
            raise Failed(f"{self.ended} watches have ended")

    def _wait_for(self, messages: int) -> None:
        wait_until(lambda: self.ended > 0 or self.messages >= messages, 60, "watches do not begin", 0.001)

    def _read(self) -> None:
        counts: dict[tuple[int, int], int] = {}
        while not self._stop.is_set():
            for key, _ in self._selector.select(0.2):
                connection: Connection = key.data
                data = connection.socket.recv(262_144)
                if not data:
                    self.ended += 1
                    self._selector.unregister(connection.socket)
                    continue
                connection.feed(data)
                for stream, body in connection.take_ready():
                    count = counts.setdefault((key.fd, stream), 0)
                    if body is None:
                        self.ended += 1
                    elif count < self._first_messages:
                        counts[key.fd, stream] = count + 1
                        self.messages += 1

    def close(self) -> None:
        self._stop.set()
        if self._thread.ident:
            self._thread.join()
        for connection in self._connections:
            connection.close()
        self._selector.close()


@measure(
    "watches",
    "100,000 idle watches",
    most("kib_per_watch", 2, "KiB"),
    most("cpu_s_in_10_s", 0.5, "s CPU"),
)
def watches(env: Environment) -> Figures:
    """1,000 connections with 100 watches each, of a waiting job each. The CPU time includes their heartbeats."""
    connections, per_connection = env.size(1000, 20), env.size(100, 10)
    count = connections * per_connection
    seconds = env.seconds(10)
    with env.database() as database, serving(database, concurrency=16) as server:
        server.pause(QUEUE)
        ids: list[str] = []
        with server.connection() as connection:
            for start in range(0, count, 1000):
                body = batch_request(users(min(1000, count - start)), queue=QUEUE)
                ids += enqueue_batch(connection, body)
        time.sleep(env.seconds(2))
        before = resident_bytes(server.pid)
        # The first messages are `opened`, the snapshot, and `snapshots_complete`.
        idle = IdleWatches(server, first_messages=3)
        try:
            idle.open([watch_request(job) for job in ids], per_connection)
            time.sleep(env.seconds(2))
            after = resident_bytes(server.pid)
            cpu = cpu_seconds(server.pid)
            time.sleep(seconds)
            cpu = cpu_seconds(server.pid) - cpu
            idle.check()
        finally:
            idle.close()
    return {
        "kib_per_watch": (after - before) / count / 1024,
        "cpu_s_in_10_s": cpu * 10 / seconds,
        "mib_before": before / MIB,
        "mib_after": after / MIB,
    }


BUSY_USER = "busy"
#: 50 reports a second.
BUSY_JOB = b'{"ms":400,"steps":20}'
BUSY_JOBS_AT_ONCE = 10


def user_watch_request(user: str) -> bytes:
    return bytes(service.WatchRequest(filter={"user_id": user}).SerializeToString())


@measure(
    "watch-crowd",
    "A busy user's watch beside 5,000 idle ones",
    most("ratio", 1.2, "× its lag alone"),
)
def watch_crowd(env: Environment) -> Figures:
    """The lag of the lifecycle events of a user who runs 10 jobs at once, each of which reports 50 times a second.

    Measured in turns: with no other watch, and with idle watches of other users on the same node.
    """
    count, per_connection = env.size(5000, 50), env.size(100, 10)
    jobs = env.size(150, 10)
    requests = [user_watch_request(user) for user in users(count)]
    lags: dict[str, list[list[float]]] = {"alone": [], "crowd": []}
    limit = str(BUSY_JOBS_AT_ONCE)
    with env.database() as database, serving(database, "--user-limit", limit, concurrency=16) as server:
        _busy_lags(server, env.size(50, 5))  # The first jobs find nothing warm.
        for _ in range(env.rounds):
            lags["alone"].append(_busy_lags(server, jobs))
            # The users have no jobs: their first messages are `opened` and `snapshots_complete`.
            idle = IdleWatches(server, first_messages=2)
            try:
                idle.open(requests, per_connection)
                lags["crowd"].append(_busy_lags(server, jobs))
                idle.check()
            finally:
                idle.close()
    figures: Figures = {}
    for name, rounds in lags.items():
        together = [lag for lags_of_round in rounds for lag in lags_of_round]
        figures |= {f"{name}_p{percent}_ms": percentile(together, percent) * 1e3 for percent in (50, 99)}
    medians = {name: [percentile(lags_of_round, 50) for lags_of_round in rounds] for name, rounds in lags.items()}
    return {"ratio": ratio_of(medians["crowd"], medians["alone"])} | figures


def _busy_lags(server: Server, jobs: int) -> list[float]:
    """Runs jobs of the busy user. Seconds from each start and end to the reading of its event by the user's watch."""
    with server.connection() as watching, server.connection() as calling:
        stream = watching.send(f"{JOBS}/Watch", user_watch_request(BUSY_USER))
        while not _next_of(watching, stream).HasField("snapshots_complete"):
            pass
        enqueue_batch(calling, batch_request([BUSY_USER] * jobs, kind="test.sleep", payload=BUSY_JOB))
        lags: list[float] = []
        ends = 0
        while ends < jobs:
            response = _next_of(watching, stream)
            event, now = response.lifecycle, time.time()
            # All are enqueued at once: their events wait for one another in the socket.
            if not event.job_id or event.type == service.JOB_EVENT_TYPE_ENQUEUED:
                continue
            lags.append(now - event.at.ToNanoseconds() / 1e9)
            ends += event.type == service.JOB_EVENT_TYPE_SUCCEEDED
        return lags


def _next_of(connection: Connection, stream: int) -> service.WatchResponse:
    """The next message of a watch."""
    while True:
        at, body = connection.read()
        if at != stream:
            continue
        if body is None:
            raise Failed("the busy user's watch has ended")
        return service.WatchResponse.FromString(body)


@contextmanager
def counter() -> Iterator[str]:
    """The program that counts, compiled."""
    compiler = program("cc")
    with tempfile.TemporaryDirectory(prefix="sbx-count-") as folder:
        path = str(Path(folder, "count_events"))
        run([compiler, "-O2", "-o", path, str(Path(__file__).parent / "count_events.c")], 60)
        yield path


@measure(
    "events",
    "Progress of 1,000 jobs, 100 watches each",
    least("events_per_s", 200_000, "events/s"),
    most("lag_p99_ms", 100, "ms"),
    most("memory_mib", 1024, "MiB"),
)
def events(env: Environment) -> Figures:
    """Each job reports some 2.2 times a second. Lag: from the server's hearing of it to the client's reading it."""
    jobs, connections, streams = env.size(1000, 20), env.size(200, 2), env.size(500, 50)
    warm_up, seconds = env.seconds(3, 0.5), env.seconds(8, 1)
    # 227,000 a second at most: more than the goal, since a step takes its checkpoint's time too.
    payload = b'{"ms":880000,"steps":2000}'
    with (
        counter() as count,
        env.database() as database,
        serving(database, concurrency=jobs + 10) as server,
        server.connection() as connection,
    ):
        # They begin when all watch: while watches are opened the server has nothing else to do.
        server.pause(QUEUE)
        ids = enqueue_batch(connection, batch_request(users(jobs), kind="test.sleep", queue=QUEUE, payload=payload))
        forget_resident_max(server.pid)
        port = server.address.rpartition(":")[2]
        command = [count, port, str(connections), str(streams), f"{warm_up:g}", f"{seconds:g}"]
        found = _count(command, ids, lambda: server.resume(QUEUE), warm_up + seconds + 60)
        memory = resident_bytes_max(server.pid)
    if found["ended"]:
        raise Failed(f"{found['ended']:g} watches have ended")
    return {
        "events_per_s": (found["events"] + found["cut"]) / found["seconds"],
        "lag_p50_ms": found["lag_p50_ms"],
        "lag_p99_ms": found["lag_p99_ms"],
        "lag_max_ms": found["lag_max_ms"],
        "memory_mib": memory / MIB,
        "client_cores": found["cpu_s"] / found["seconds"],
    }


def _count(command: list[str], ids: list[str], begin: Callable[[], None], timeout_s: float) -> dict[str, float]:
    """Calls `begin` when every watch is open; what the program has counted after that."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    # So that neither of the two reads below can wait for ever.
    timer = threading.Timer(timeout_s, process.kill)
    timer.start()
    try:
        assert process.stdin and process.stdout
        process.stdin.write("\n".join(ids) + "\n")
        process.stdin.close()
        if process.stdout.readline() != "watching\n":
            raise Failed("the watches could not be opened")
        begin()
        line = process.stdout.readline()
        if not line:
            raise Failed("the events were not counted")
        return dict(json.loads(line))
    finally:
        timer.cancel()
        end(process)
