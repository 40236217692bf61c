"""A private Postgres with stock settings, its databases, and sessions that stay open."""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .processes import POSTGRES_USER, Failed, not_root, postgres_program, run

#: The longest that a statement may take; one that fills a table adds half a million rows.
STATEMENT_TIMEOUT_S = 120.0

#: Postgres while tables are filled: what is lost with the power then is only the benchmark's.
FILL_SETTINGS = {
    "autovacuum": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "maintenance_work_mem": "512MB",
    "max_wal_size": "16GB",
    "shared_buffers": "1GB",
}


class Session:
    """One psql that stays open: a statement costs no new process and no new connection."""

    _MARK = "--- done ---"

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [postgres_program("psql"), url, "-AtXq", "-v", "ON_ERROR_STOP=1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
        )

    def query(self, sql: str) -> list[list[str]]:
        """The rows of some statements."""
        assert self._process.stdin and self._process.stdout
        timer = threading.Timer(STATEMENT_TIMEOUT_S, self._process.kill)
        timer.start()
        try:
            self._process.stdin.write(f"{sql};\n\\echo {self._MARK}\n")
            self._process.stdin.flush()
            rows: list[list[str]] = []
            for line in self._process.stdout:
                if line.rstrip("\n") == self._MARK:
                    return rows
                rows.append(line.rstrip("\n").split("|"))
            raise Failed(f"psql has ended: {rows}: {sql[:400]}")
        except BrokenPipeError:
            raise Failed("psql has ended") from None
        finally:
            timer.cancel()

    def value(self, sql: str) -> str:
        return self.query(sql)[0][0]

    def count(self, sql: str) -> int:
        return int(self.value(sql))

    def close(self) -> None:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.close()
            self._process.wait(10)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait(10)
        self._process.stdout.close()


class Database:
    """A database of the cluster."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.name = name
        self.cluster = cluster
        self.url = f"postgresql:///{name}?host={cluster.folder}&user=postgres"
        #: The arguments of pgbench that name the database.
        self.arguments = ["-h", str(cluster.folder), "-U", "postgres", name]

    @contextmanager
    def session(self) -> Iterator[Session]:
        session = Session(self.url)
        try:
            yield session
        finally:
            session.close()

    def script(self, sql: str, timeout_s: float = 60.0) -> None:
        run([postgres_program("psql"), self.url, "-AtXq", "-v", "ON_ERROR_STOP=1", "-f", "-"], timeout_s, input=sql)


class Cluster:
    """A Postgres of our own with stock settings: fsync and synchronous_commit on, 128 MB of shared buffers."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sbx-bench-"))
        self._as = not_root()
        if self._as:
            # No other user may open the folder, because the server trusts every connection.
            shutil.chown(self.folder, POSTGRES_USER)
        self._data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._names = 0
        arguments = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"]
        try:
            run([*self._as, postgres_program("initdb"), "-D", str(self._data), *arguments], 60)
            self._start({})
        except BaseException:
            self.close()
            raise

    def _start(self, settings: dict[str, str]) -> None:
        options = [item for name, value in settings.items() for item in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(*self._as, postgres_program("postgres"), "-D", str(self._data), "-k", str(self.folder)),
                    *("-c", "listen_addresses=", "-c", "lc_messages=C", "-c", "logging_collector=off", *options),
                ],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                run([postgres_program("psql"), self.database_named("postgres").url, "-AtXqc", "SELECT 1"], 10)
                return
            except Failed:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise Failed(f"Postgres does not answer: {self.log()[-2000:]}") from None
                time.sleep(0.05)

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            # It writes what it holds in memory.
            self._process.wait(120)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
        self._process = None

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Other settings while tables are filled; nothing may be connected before or after."""
        self._stop()
        self._start(FILL_SETTINGS)
        try:
            yield
        finally:
            self._stop()
            # The data that was written without fsync is flushed now, and not during a measure.
            run(["sync", "-f", str(self.folder)], 300)
            self._start({})

    def database_named(self, name: str) -> Database:
        return Database(self, name)

    @contextmanager
    def database(self) -> Iterator[Database]:
        """A new, empty one, for as long as it is needed."""
        self._names += 1
        name = f"bench{self._names}"
        self._sql(f"CREATE DATABASE {name}")
        try:
            yield self.database_named(name)
        finally:
            self._sql(f"DROP DATABASE {name} WITH (FORCE)")

    def log_size(self) -> int:
        return (self.folder / "log").stat().st_size

    def log(self, since: int = 0) -> str:
        with (self.folder / "log").open("rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace")

    def version(self) -> str:
        with self.database_named("postgres").session() as session:
            return session.value("SHOW server_version")

    def _sql(self, sql: str) -> None:
        self.database_named("postgres").script(sql)

    def close(self) -> None:
        try:
            self._stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
