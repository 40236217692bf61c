"""Many who watch: what an idle watch takes, and how many events a second are delivered."""

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
from .wire import Connection

QUEUE = "watched"
MIB = 2**20


class IdleWatches:
    """Connections with many watches each, which a thread reads: nothing piles up in the server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._selector = selectors.DefaultSelector()
        self._connections: list[Connection] = []
        self._stop = threading.Event()
        #: Answers that have come, of each watch the first two: what comes later are heartbeats; and streams that have ended.
        self.messages = 0
        self.ended = 0
        self._thread = threading.Thread(target=self._read, daemon=True)

    def open(self, ids: list[str], per_connection: int) -> None:
        self._thread.start()
        for start in range(0, len(ids), per_connection):
            connection = Connection(self._server.address)
            requests = [connection.request(f"{JOBS}/Watch", watch_request(job)) for job in ids[start:][:per_connection]]
            connection.socket.sendall(b"".join(data for _, data in requests))
            self._connections.append(connection)
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
            # A node lets 1,024 statements wait; what comes beyond that is refused, and would have to try again.
            # Each has two messages before it is idle.
            self._wait_for(2 * (start - 300))
            if self.ended:
                raise Failed(f"{self.ended} of {start + per_connection} watches have ended")

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
                    elif count < 2:
                        counts[key.fd, stream] = count + 1
                        self.messages += 1

    def close(self) -> None:
        self._stop.set()
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
        idle = IdleWatches(server)
        try:
            idle.open(ids, per_connection)
            # The snapshot, and a heartbeat that says that there are no more.
            wait_until(lambda: idle.ended > 0 or idle.messages >= 2 * count, 60, "snapshots are missing")
            time.sleep(env.seconds(2))
            after = resident_bytes(server.pid)
            cpu = cpu_seconds(server.pid)
            time.sleep(seconds)
            cpu = cpu_seconds(server.pid) - cpu
            if idle.ended:
                raise Failed(f"{idle.ended} watches have ended")
        finally:
            idle.close()
    return {
        "kib_per_watch": (after - before) / count / 1024,
        "cpu_s_in_10_s": cpu * 10 / seconds,
        "mib_before": before / MIB,
        "mib_after": after / MIB,
    }


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
