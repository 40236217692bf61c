"""Load from other programs: h2load for calls, pgbench for SQL, nghttpd to compare with."""

from __future__ import annotations

import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .database import Database
from .processes import Failed, end, postgres_program, program, run, run_together
from .wire import message

GRPC = ("-H", "content-type: application/grpc", "-H", "te: trailers")


@dataclass(frozen=True)
class Calls:
    """The results that h2load reports."""

    done: int
    #: While it measured, which is without the warm-up.
    per_s: float
    #: Bytes of DATA in the answers: errors have none.
    data_bytes: int

    def __add__(self, other: Calls) -> Calls:
        return Calls(self.done + other.done, self.per_s + other.per_s, self.data_bytes + other.data_bytes)


def _whole(seconds: float) -> str:
    """h2load wants a whole number."""
    return str(max(1, round(seconds)))


def parse_h2load(output: str) -> Calls:
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", output)
    counts = re.search(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored", output)
    data = re.search(r"traffic: .*\((\d+)\) data", output)
    if not rate or not counts or not data:
        raise Failed(f"h2load says: {output[-1000:]}")
    if int(counts[3]) or int(counts[4]):
        raise Failed(f"h2load: {counts[0]}")
    return Calls(int(counts[2]), float(rate[1]), int(data[1]))


def h2load(
    url: str,
    bodies: Sequence[bytes],
    *,
    connections: int,
    streams: int,
    seconds: float,
    rate: float | None = None,
) -> Calls:
    """Calls for some seconds: one process for each body, which share the connections and the rate among them.

    h2load sends one body only, so several users are several processes.
    """
    with tempfile.TemporaryDirectory(prefix="sbx-body-") as folder:
        commands = []
        for index, body in enumerate(bodies):
            path = Path(folder, str(index))
            path.write_bytes(message(body))
            command = [program("h2load"), "-D", _whole(seconds), "-c", str(max(1, connections // len(bodies)))]
            command += ["-m", str(streams), "-d", str(path), *GRPC]
            if rate is not None:
                command += ["--rps", f"{rate / max(len(bodies), connections):g}"]
            commands.append([*command, url])
        results = [parse_h2load(output) for output in run_together(commands, seconds + 30)]
    total = results[0]
    for result in results[1:]:
        total += result
    return total


def h2load_get(url: str, *, connections: int, streams: int, seconds: float) -> Calls:
    """GETs, for a server of files."""
    options = ["-D", _whole(seconds), "-c", str(connections), "-m", str(streams)]
    return parse_h2load(run([program("h2load"), *options, url], seconds + 30))


@contextmanager
def nghttpd() -> Iterator[str]:
    """The URL of a small file, served by nghttp2's own server with one worker."""
    with tempfile.TemporaryDirectory(prefix="sbx-files-") as folder, socket.socket() as held:
        # While the socket is bound, though it does not listen, no other process gets its port. nghttpd asks for
        # the port by its number, and with the same option, so it may have it too.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = int(held.getsockname()[1])
        Path(folder, "small").write_bytes(b"\x00\x00\x00\x00\x02\x08\x01")
        process = subprocess.Popen(
            [program("nghttpd"), "--no-tls", "-n1", "-a", "127.0.0.1", "-d", folder, str(port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait_for_port(process, port)
            yield f"http://127.0.0.1:{port}/small"
        finally:
            end(process)


def _wait_for_port(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        if process.poll() is not None:
            raise Failed(f"the process that should listen on port {port} has ended: exit code {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise Failed(f"nothing listens on port {port}") from None
            time.sleep(0.02)


def pgbench(
    database: Database, script: str, *, clients: int, seconds: float | None = None, transactions: int | None = None
) -> float:
    """Transactions a second, connecting not counted. Prepared statements."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        limit = ["-t", str(transactions)] if transactions else ["-T", f"{seconds:g}"]
        options = ["-n", "-M", "prepared", "-c", str(clients), "-j", str(min(2, clients)), *limit, "-f", file.name]
        output = run([postgres_program("pgbench"), *options, *database.arguments], (seconds or 120) + 60)
    found = re.search(r"tps = ([\d.]+)", output)
    failed = re.search(r"number of failed transactions: (\d+)", output)
    if not found or (failed and int(failed[1])):
        raise Failed(f"pgbench says: {output[-1000:]}")
    return float(found[1])
