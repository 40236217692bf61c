"""Nodes of the service, and the few calls that measures make of them."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from signalbox.v1 import admin_service_pb2 as admin
from signalbox.v1 import job_pb2, job_service_pb2

from .database import Database
from .processes import Failed, Unavailable, end
from .wire import Connection

ROOT = Path(__file__).resolve().parent.parent
BINARY = Path(os.environ.get("SIGNALBOX_BIN", ROOT / ".build/release/signalbox"))

JOBS = "/signalbox.v1.JobService"
ADMIN = "/signalbox.v1.AdminService"

#: Jobs at once on a node, where a measure does not say otherwise.
CONCURRENCY = 2000


class Server:
    """A `signalbox serve` on a port of its own."""

    def __init__(self, database: Database, *arguments: str, name: str = "node") -> None:
        if not BINARY.exists():
            raise Failed(f"{BINARY} does not exist: build it, or set SIGNALBOX_BIN")
        self.folder = Path(tempfile.mkdtemp(prefix="sbx-node-"))
        command = [
            *(str(BINARY), "serve", "--test-kinds", "--listen", "127.0.0.1:0", "--node-name", name),
            *("--database-url", database.url, "--log-level", "warning"),
            # Jobs that still run when a measure is over do not matter.
            *("--grace", "100ms", *arguments),
        ]
        # Its settings are those above: none that are meant for another server, or for a client.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SIGNALBOX_")}
        # Warnings go to a file, because a full pipe would block the server.
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
        try:
            self.address = self._wait_for_address()
        except BaseException:
            self.close()
            raise
        self.url = f"http://{self.address}"

    def _wait_for_address(self) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline() if select.select([self.process.stdout], [], [], 30)[0] else ""
        if found := re.match(r"signalbox: serving on (\S+)", line):
            return found[1]
        raise Failed(f"the server did not start: {self.log()[-2000:]}")

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def close(self) -> None:
        end(self.process)
        if self.process.stdout:
            self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        connection = Connection(self.address)
        try:
            yield connection
        finally:
            connection.close()

    def pause(self, queue: str) -> None:
        with self.connection() as connection:
            connection.call(f"{ADMIN}/PauseQueue", admin.PauseQueueRequest(queue=queue).SerializeToString())

    def resume(self, queue: str) -> None:
        with self.connection() as connection:
            connection.call(f"{ADMIN}/ResumeQueue", admin.ResumeQueueRequest(queue=queue).SerializeToString())


@contextmanager
def serving(
    database: Database, *arguments: str, concurrency: int = CONCURRENCY, name: str = "node"
) -> Iterator[Server]:
    server = Server(database, "--concurrency", str(concurrency), *arguments, name=name)
    try:
        yield server
    except Unavailable:
        raise
    except Exception:
        print(f"log of {name}:\n{server.log()[-4000:]}", file=sys.stderr)
        raise
    finally:
        server.close()


def spec(user: str, *, kind: str = "test.noop", queue: str = "bench", payload: bytes = b'{"n":12345678}') -> bytes:
    """A job as most measures enqueue it: small, without an id or a key of its own."""
    job = job_pb2.JobSpec(kind=kind, user_id=user, queue=queue, payload=payload)
    return bytes(job.SerializeToString())


def enqueue_request(user: str, **options: str | bytes) -> bytes:
    job = job_pb2.JobSpec.FromString(spec(user, **options))  # type: ignore[arg-type]
    return bytes(job_service_pb2.EnqueueRequest(job=job).SerializeToString())


def batch_request(users: Sequence[str], **options: str | bytes) -> bytes:
    jobs = [job_pb2.JobSpec.FromString(spec(user, **options)) for user in users]  # type: ignore[arg-type]
    return bytes(job_service_pb2.EnqueueBatchRequest(jobs=jobs).SerializeToString())


def enqueue_batch(connection: Connection, body: bytes) -> list[str]:
    """The ids of the jobs."""
    answer = connection.call(f"{JOBS}/EnqueueBatch", body)
    return [job.job_id for job in job_service_pb2.EnqueueBatchResponse.FromString(answer).jobs]


def users(count: int) -> list[str]:
    return [f"user-{number:06}" for number in range(count)]


def wait_until(condition: Callable[[], bool], timeout_s: float, what: str, interval_s: float = 0.1) -> None:
    """Looks again and again; fails when it takes too long."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise Failed(f"after {timeout_s:g} s: {what}")
        time.sleep(interval_s)


@contextmanager
def looking(look: Callable[[], float], interval_s: float) -> Iterator[list[float]]:
    """Samples a figure while the body runs. A sample that fails fails the measure."""
    seen: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(interval_s):
            seen.append(look())

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(watch)
        try:
            yield seen
        finally:
            stop.set()
        watcher.result()
