"""Without a database URL: the server's own Postgres."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import PATIENCE_S, Server, unique
from signalbox import JobState


@pytest.fixture
def state() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sbx-state-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def lock_file(state: Path) -> list[str]:
    """What the Postgres whose data is below a folder says of itself: one thing a line."""
    (path,) = state.rglob("postmaster.pid")
    return path.read_text().splitlines()


def postmaster(state: Path) -> int:
    """Its process id."""
    return int(lock_file(state)[0])


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_its_own_postgres_through_restarts_and_kills(state):
    server = Server(None, arguments=["--state-dir", str(state)])
    pids: set[int] = set()
    try:
        user = unique()
        with server.client() as client:
            kept = client.enqueue("test.echo", "kept", user_id=user).id
            client.wait(kept, timeout=30)
        pids.add(pid := postmaster(state))
        assert os.stat(f"/proc/{pid}").st_uid != 0, "Postgres never runs as root"
        assert lock_file(state)[5] == "", "it listens on no TCP port"

        # In order, and again.
        assert server.terminate() == 0
        assert not is_running(pid)
        server.start()
        pids.add(postmaster(state))
        with server.client(timeout=PATIENCE_S) as client:
            assert client.get(kept).state is JobState.SUCCEEDED

        # The server is killed; the next start finds what it left.
        server.kill()
        server.start()
        pids.add(pid := postmaster(state))
        with server.client(timeout=PATIENCE_S) as client:
            assert client.result(client.enqueue("test.echo", 1, user_id=user).id, timeout=30) == 1

            # Postgres is killed; the server starts it again.
            os.kill(pid, signal.SIGKILL)
            assert client.result(client.enqueue("test.echo", 2, user_id=user).id, timeout=PATIENCE_S) == 2
            assert client.get(kept).state is JobState.SUCCEEDED
        pids.add(postmaster(state))
        assert server.terminate() == 0
        assert not any(is_running(pid) for pid in pids)
    finally:
        server.close()
        for pid in pids:
            if is_running(pid):
                os.kill(pid, signal.SIGQUIT)
