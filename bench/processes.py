"""Other programs: run for a bounded time, ended by their process id, and asked how much of the machine they took."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: The time that a process has to end by itself before it is killed.
GRACE_S = 20.0


class Unavailable(Exception):
    """Raised when something is missing that a measure needs: it is skipped, with this reason."""


class Failed(Exception):
    """A measure went wrong: its figures would mean nothing."""


def program(name: str) -> str:
    """A program in PATH, or where Debian has servers' programs."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if not found:
        raise Unavailable(f"{name} is not installed")
    return found


def postgres_program(name: str) -> str:
    """A program of Postgres: where pg_config says, or in the usual places."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr/pgsql").glob("*/bin")]
    if config := shutil.which("pg_config"):
        output = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True, timeout=10).stdout
        folders.insert(0, Path(output.strip()))
    for folder in folders:
        if (folder / name).exists():
            return str(folder / name)
    return program(name)


#: The user that runs Postgres when this program runs as root. Debian's packages of Postgres create it.
POSTGRES_USER = "postgres"


def not_root() -> list[str]:
    """The prefix of commands that start a program of Postgres, which refuses to run as root."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam(POSTGRES_USER)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def run(command: Sequence[str], timeout_s: float, *, input: str | None = None) -> str:
    """Runs a command and returns its standard output. Raises if it fails, and ends it after the timeout."""
    try:
        # Nothing that is run here may take the terminal's input.
        source: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=timeout_s, cwd="/", **source
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{Path(command[0]).name} took longer than {timeout_s:g} s") from error
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)[:400]}: exit code {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    return str(done.stdout)


def run_together(commands: Sequence[Sequence[str]], timeout_s: float) -> list[str]:
    """Runs commands at the same time and returns the output of each."""
    processes = [
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/"
        )
        for command in commands
    ]
    deadline = time.monotonic() + timeout_s
    try:
        outputs = [process.communicate(timeout=max(0.1, deadline - time.monotonic()))[0] for process in processes]
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{Path(commands[0][0]).name} took longer than {timeout_s:g} s") from error
    finally:
        for process in processes:
            end(process)
    for process, output in zip(processes, outputs, strict=True):
        if process.returncode != 0:
            raise Failed(f"{Path(commands[0][0]).name}: exit code {process.returncode}: {output[-2000:]}")
    return outputs


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> None:
    """Asks it to end, and kills it if it does not."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(GRACE_S)


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has taken."""
    # The name, in brackets, may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Memory that a process has now."""
    return _status(pid, "VmRSS")


def resident_bytes_max(pid: int) -> int:
    """The most memory that a process has had since `forget_resident_max`, or ever."""
    return _status(pid, "VmHWM")


def forget_resident_max(pid: int) -> None:
    try:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    except PermissionError as error:
        raise Failed("only root can measure the highest memory of a server: run this as root") from error


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise Failed(f"process {pid} has ended")
