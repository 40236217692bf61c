"""What tests of the real service need: a throwaway Postgres, servers, a connection that can be cut.

A conftest imports the fixtures from here. The binary is SIGNALBOX_BIN, by default .build/debug/signalbox.
Everything started is ended by its process id.
"""

from __future__ import annotations

import os
import pwd
import queue
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import signalbox
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2_grpc
from signalbox._errors import decode_details
from signalbox.v1 import admin_service_pb2_grpc, job_service_pb2_grpc

ROOT = Path(__file__).resolve().parent.parent.parent
BINARY = Path(os.environ.get("SIGNALBOX_BIN", ROOT / ".build/debug/signalbox"))

#: Far longer than anything should take: reaching it is a failure, never a way to wait.
PATIENCE_S = 30.0

#: Servers that a failed test may be about.
_servers: list[Server] = []

# By itself it would end this process at once, and leave behind what fixtures have started.
signal.signal(signal.SIGTERM, signal.default_int_handler)


def clean_environment() -> dict[str, str]:
    """This process's, without settings of Signalbox that whoever runs the tests may have exported."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SIGNALBOX_")}


# Postgres


def postgres_program(name: str) -> str:
    """A program of Postgres: where pg_config says, or in the usual places."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr/pgsql").glob("*/bin")]
    if config := shutil.which("pg_config"):
        output = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True).stdout
        folders.insert(0, Path(output.strip()))
    for folder in folders:
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name)
    assert found, f"Postgres's {name} was not found"
    return found


#: Whom Postgres runs as when we are root. Its packages make it.
POSTGRES_USER = "postgres"


def _not_root() -> list[str]:
    """What a program of Postgres, which refuses to run as root, is started with.

    A program that changes the user, and not `Popen(user=…)`: for that Python forks without exec at once, and
    gRPC's threads do not survive a fork.
    """
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={POSTGRES_USER}", f"--regid={pwd.getpwnam(POSTGRES_USER).pw_gid}", "--clear-groups"]


class Cluster:
    """A Postgres of our own: in a temporary folder, on a Unix socket, without fsync."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sbx-"))
        self._as = _not_root()
        if self._as:
            # Nobody else may enter: it trusts whoever connects.
            shutil.chown(self.folder, POSTGRES_USER)
        self._data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        arguments = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "-N"]
        try:
            self._run("initdb", "-D", str(self._data), *arguments)
            self.start()
        except BaseException:
            self.close()
            raise

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as, postgres_program(name), *arguments],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *self._as,
                postgres_program("postgres"),
                *("-D", str(self._data), "-k", str(self.folder)),
                *("-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=200"),
                *("-c", "lc_messages=C", "-c", "log_destination=stderr", "-c", "logging_collector=off"),
            ],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        is_ready = threading.Event()
        threading.Thread(target=self._keep_log, args=(self._process, is_ready), daemon=True).start()
        assert is_ready.wait(PATIENCE_S), "Postgres does not answer"
        code = self._process.poll()
        assert code is None, f"Postgres ended with {code}: {(self.folder / 'log').read_text()}"

    def _keep_log(self, process: subprocess.Popen[bytes], is_ready: threading.Event) -> None:
        """Copies what Postgres says to the log file, and signals that it accepts connections, or ended."""
        assert process.stderr is not None
        with process.stderr, (self.folder / "log").open("ab", buffering=0) as log:
            for line in process.stderr:
                log.write(line)
                if b"ready to accept connections" in line:
                    is_ready.set()
        process.wait()
        is_ready.set()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: at once, but in order. SIGQUIT: as in a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self._run("createdb", "-h", str(self.folder), "-U", "postgres", name)
        return f"postgresql:///{name}?host={self.folder}&user=postgres"

    def query(self, url: str, sql: str) -> str:
        """What psql prints for a statement, unaligned, without headings."""
        done = subprocess.run(
            [postgres_program("psql"), url, "-AtXq", "-v", "ON_ERROR_STOP=1", "-c", sql],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout.strip()

    def close(self) -> None:
        try:
            for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                with suppress(subprocess.TimeoutExpired):
                    self.stop(how)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


# Servers


class Server:
    """A `signalbox serve` on a port of its own."""

    def __init__(
        self,
        database_url: str | None,
        *,
        name: str | None = None,
        concurrency: int = 16,
        config: str | None = None,
        arguments: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        listen: str = "127.0.0.1:0",
        log_level: str = "debug",
        binary: Path = BINARY,
        prefix: Sequence[str] = (),
    ) -> None:
        """With a prefix: by a program that executes what comes after it, such as setpriv."""
        assert binary.exists(), f"{binary} is not there: build it, or set SIGNALBOX_BIN"
        self.folder = Path(tempfile.mkdtemp(prefix="sbx-node-"))
        self.folder.chmod(0o755)
        self.name = name or f"node-{uuid.uuid4().hex[:6]}"
        self._command = [
            *(*prefix, str(binary), "serve", "--test-kinds", "--listen", listen, "--node-name", self.name),
            *("--concurrency", str(concurrency), "--log-level", log_level),
        ]
        self.database_url = database_url
        if database_url is not None:
            self._command += ["--database-url", database_url]
        if config is not None:
            path = self.folder / "signalbox.yaml"
            path.write_text(config)
            self._command += ["--config", str(path)]
        self._command += arguments
        self._environment = {**clean_environment(), **(environment or {})}
        self._log = self.folder / "log"
        #: What it has said on standard output, over all its starts.
        self.output: list[str] = []
        self.address = ""
        self.process: subprocess.Popen[str] | None = None
        _servers.append(self)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=subprocess.PIPE, stderr=log, env=self._environment, text=True
            )
        lines: queue.Queue[str | None] = queue.Queue()

        def read() -> None:
            assert self.process.stdout
            for line in self.process.stdout:
                self.output.append(line)
                lines.put(line)
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                line = lines.get(timeout=max(0.1, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            assert line is not None, f"{' '.join(self._command)}\nis not serving:\n{self.log()}"
            if found := re.match(r"signalbox: serving on (\S+)", line):
                self.address = found[1]
                return

    def log(self, since: int = 0) -> str:
        return self._log.read_bytes()[since:].decode(errors="replace")

    def log_size(self) -> int:
        return self._log.stat().st_size if self._log.exists() else 0

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """As if the machine had lost power."""
        self.process.kill()
        self.process.wait(30)

    def terminate(self) -> int:
        """Asks it to stop, and gives its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        try:
            if self.is_running:
                self.process.terminate()
                try:
                    self.process.wait(20)
                except subprocess.TimeoutExpired:
                    self.kill()
        finally:
            if self in _servers:
                _servers.remove(self)
            shutil.rmtree(self.folder, ignore_errors=True)

    def client(self, **options: Any) -> signalbox.Client:
        return signalbox.Client(self.address, **options)


class Api:
    """The generated stubs on one channel of the official grpcio."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        )
        self.jobs = job_service_pb2_grpc.JobServiceStub(self.channel)
        self.admin = admin_service_pb2_grpc.AdminServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def raw(self, method: str, request: bytes, timeout: float = 20.0) -> bytes:
        """Calls with bytes that need not be a message."""
        return self.channel.unary_unary(method)(request, timeout=timeout)

    def close(self) -> None:
        self.channel.close()


class Proxy:
    """A TCP connection to a server that can be cut, and refused for a while."""

    def __init__(self, target: str) -> None:
        self.point_at(target)
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._is_open = True
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                if not self._is_open:
                    raise OSError("cut")
                far = socket.create_connection(self._target, timeout=5)
                far.settimeout(None)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._sockets |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        self._drop([source, sink])

    def _drop(self, sockets: Iterable[socket.socket]) -> None:
        for item in sockets:
            with self._lock:
                self._sockets.discard(item)
            try:
                item.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            item.close()

    def cut(self) -> None:
        """Ends every connection; new ones are taken."""
        with self._lock:
            sockets = list(self._sockets)
        self._drop(sockets)

    def point_at(self, target: str) -> None:
        """Takes new connections to another server; those that are open stay where they are."""
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))

    def refuse(self) -> None:
        """Ends every connection, and takes no new one until `accept`."""
        self._is_open = False
        self.cut()

    def accept(self) -> None:
        self._is_open = True

    def close(self) -> None:
        # A thread that waits in accept is woken by shutdown, not by close.
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        self.cut()


# Small helpers


def unique(what: str = "user") -> str:
    """A name that no other test uses."""
    return f"{what}-{uuid.uuid4().hex[:10]}"


def violations(error: grpc.RpcError) -> dict[str, str]:
    """The google.rpc.BadRequest of an error: field to description."""
    for detail in decode_details(error.trailing_metadata()):
        if isinstance(detail, error_details_pb2.BadRequest):
            return {item.field: item.description for item in detail.field_violations}
    return {}


def detail_of(error: grpc.RpcError, kind: Any) -> Any:
    """The detail of this type, or None."""
    return next((item for item in decode_details(error.trailing_metadata()) if isinstance(item, kind)), None)


def events_of(items: Iterable[Any]) -> list[signalbox.JobEvent]:
    """The lifecycle events among the items of a watch."""
    return [item for item in items if isinstance(item, signalbox.JobEvent)]


def until(watch: Iterator[Any], wanted: Any) -> list[Any]:
    """The items of a watch up to the first for which `wanted(item)` holds, that one included."""
    items = []
    for item in watch:
        items.append(item)
        if wanted(item):
            return items
    raise AssertionError(f"the watch ended without it: {items}")


def is_event(kind: signalbox.JobEventType, job_id: str | None = None) -> Any:
    """For `until`."""
    return lambda item: (
        isinstance(item, signalbox.JobEvent)
        and item.type is kind
        and (job_id is None or item.job_id == job_id)
    )


def is_complete(item: Any) -> bool:
    """For `until`: the watch has begun."""
    return isinstance(item, signalbox.SnapshotsComplete)


def most_at_once(spans: Iterable[tuple[Any, Any]]) -> int:
    """How many of some half-open spans of time overlap at most."""
    changes = sorted(change for start, end in spans for change in ((start, 1), (end, -1)))
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


# Fixtures

COMMAND = """\
  - kind: {kind}
    command: [{command}]
"""


def command_config(folder: Path, scripts: dict[str, str], program: str = "bash", **options: str) -> str:
    """A configuration file with a command handler for each script (by kind), which the program runs."""
    settings = {"timeout": "60s", "on_interruption": "retry", **options}
    if os.geteuid() == 0:
        # A server that is root wants to be told.
        settings.setdefault("user", "root")
    entries = []
    for kind, script in scripts.items():
        path = folder / f"{kind}.script"
        path.write_text(script)
        entries.append(COMMAND.format(kind=kind, command=f'"/usr/bin/env", "{program}", "{path}"'))
        entries += [f"    {key}: {value}\n" for key, value in settings.items()]
    return "commands:\n" + "".join(entries)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One Postgres for all tests that do not harm it."""
    cluster = Cluster()
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def server(cluster: Cluster) -> Iterator[Server]:
    """One server for all tests that do not harm it."""
    server = Server(cluster.database(), name="shared", concurrency=32)
    yield server
    server.close()


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[Api]:
    """The official stubs of the shared server."""
    api = Api(server.address)
    yield api
    api.close()


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[signalbox.Client]:
    """The Python client of the shared server."""
    with server.client(timeout=20) as client:
        yield client


@pytest.fixture
def user() -> str:
    return unique("user")


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    """A connection to the shared server that can be cut."""
    proxy = Proxy(server.address)
    yield proxy
    proxy.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Remembers how long each server's log is when a test begins."""
    item.stash[_log_sizes] = {id(server): server.log_size() for server in _servers}
    return (yield)


_log_sizes: pytest.StashKey[dict[int, int]] = pytest.StashKey()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Shows with a failure what the servers logged meanwhile (the last 20,000 characters)."""
    report = yield
    if report.failed:
        sizes = item.stash.get(_log_sizes, {})
        for server in _servers:
            text = server.log(sizes.get(id(server), 0))[-20_000:]
            status = "" if server.is_running else f" (ended with {server.process.returncode})"
            report.sections.append((f"log of {server.name}{status}", text))
    return report
