"""What the probes of hostile peers share: a server of their own, an honest client beside the attack, and
figures.

Each probe asks the same three things. Is the attacker cut off, and how soon? How much memory does the server
take for it? Does the honest client notice? The honest client and the attackers that flood are processes of
their own (`honest.py`, `attackers.py`), so that none of them waits for another's Python.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from harness import BINARY, PATIENCE_S, Cluster, Server

MIB = 1 << 20

#: From crossing a limit to the GOAWAY or the end of the connection.
CUT_OFF_S = 1.0
#: What the server's resident memory may grow by, at its highest.
MEMORY_MAX = 32 * MIB
#: The honest client's p99 under attack, to its own p99 without.
P99_RATIO_MAX = 2.0
#: How the server was built: "release" or "debug".
BUILD = os.environ.get("SIGNALBOX_BUILD", "release" if BINARY.resolve().parent.name == "release" else "debug")
#: A p99 below this passes whatever the ratio. Quiet, it is a fraction of a millisecond, and there a scheduler
#: that gives somebody else one turn (about 3 ms) is a ratio of ten: that would measure the machine. Without
#: optimisation what a connection may do before it is cut off takes ten to thirty times as long, and only what
#: is grave is found.
P99_FLOOR_S = {"release": 0.005, "debug": 0.1}[BUILD]

#: Calls of one quiet phase: enough for a p99, and done in a fraction of a second.
QUIET_CALLS = 400

_HERE = Path(__file__).resolve().parent


class HostileServer(Server):
    """A server with one event loop: attackers and the honest share it, and none can be lucky."""

    def __init__(self, cluster: Cluster, *arguments: str, **options: Any) -> None:
        self.database_url = cluster.database()
        super().__init__(self.database_url, arguments=["--event-loops", "1", *arguments], **options)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        # The name, in brackets, may hold spaces.
        text = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(text[11]) + int(text[12])) / os.sysconf("SC_CLK_TCK")

    def calm_down(self) -> None:
        """Waits until it has nothing more to do for those that have left. What they sent may still lie in
        sockets."""
        end = time.monotonic() + PATIENCE_S
        before = self.cpu_seconds()
        while time.monotonic() < end:
            select.select([], [], [], 0.1)
            used = self.cpu_seconds() - before
            if used <= 0.02:
                return
            before += used
        raise AssertionError("the server computes although nobody asks anything")

    def open_files(self) -> int:
        """For root alone: a server lets nobody else look."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def holds(self, client_port: int) -> bool:
        """Whether the program has the connection from this port of ours open still.

        The kernel knows: a connection that its program has closed is no longer ESTABLISHED, even when the
        client reads nothing and so cannot be told.
        """
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            local, remote = (int(word.rpartition(":")[2], 16) for word in words[1:3])
            if (local, remote) == (self.port, client_port):
                return words[3] == "01"
        return False


class Memory:
    """The server's resident memory from now on, to its highest point. For root alone: a server lets nobody else
    begin anew."""

    def __init__(self, server: Server) -> None:
        self._folder = Path(f"/proc/{server.process.pid}")
        (self._folder / "clear_refs").write_text("5")
        self.before = self._status("VmRSS")

    def growth(self) -> int:
        return max(0, self._status("VmHWM") - self.before)

    def _status(self, name: str) -> int:
        text = (self._folder / "status").read_text()
        return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(f"{name}:"))


class Child:
    """A process that is told what to do by lines, and answers each with a line of JSON."""

    def __init__(self, script: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(_HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(_HERE)},
        )

    def tell(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self, patience_s: float = PATIENCE_S) -> Any:
        assert self.process.stdout
        # There is never more than one line on its way.
        ready, _, _ = select.select([self.process.stdout], [], [], patience_s)
        assert ready, f"{self.process.args} says nothing"
        line = self.process.stdout.readline()
        assert line, f"{self.process.args} ended with {self.process.wait(PATIENCE_S)}"
        return json.loads(line)

    def close(self) -> None:
        """Both end when there is nothing more to read."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(PATIENCE_S)
        self.process.stdout.close()


@dataclass
class Calls:
    """How the honest client's calls went, in seconds."""

    calls: int
    failed: int
    failures: list[str]
    p50: float
    p99: float
    max: float


class Honest:
    """The honest client. It calls one after the other, so it makes no load worth the name."""

    def __init__(self, address: str, ca: str | None = None) -> None:
        self._child = Child("honest.py", address, *([] if ca is None else [ca]))

    def call(self, count: int = QUIET_CALLS) -> Calls:
        self._child.tell(f"call {count}")
        return Calls(**self._child.answer())

    @contextmanager
    def calling(self) -> Iterator[list[Calls]]:
        """Calls while the body runs; the result is in the list after that."""
        results: list[Calls] = []
        self._child.tell("start")
        self._child.answer()
        yield results
        self._child.tell("stop")
        results.append(Calls(**self._child.answer()))

    def close(self) -> None:
        self._child.close()


@dataclass
class Figures:
    """What a probe has found, and what of it is not as it has to be."""

    name: str
    #: Of each phase with an attack: the honest client's p99 then, and before.
    p99: list[tuple[float, float]] = field(default_factory=list)
    calls: int = 0
    failures: list[str] = field(default_factory=list)
    memory: int = 0
    memory_max: int = MEMORY_MAX
    #: The longest that an attacker was borne, None when this probe is not about that.
    cut_off: float | None = None
    cut_off_max: float = CUT_OFF_S
    notes: list[str] = field(default_factory=list)
    #: Whatever else is wrong.
    problems: list[str] = field(default_factory=list)

    def take(self, attacked: Calls, quiet: Calls) -> None:
        self.p99.append((attacked.p99, quiet.p99))
        self.calls += attacked.calls + quiet.calls
        self.failures += quiet.failures + attacked.failures
        if not attacked.calls:
            self.problems.append("no honest call was made during the attack")

    @property
    def p99_ratio(self) -> float:
        """The middle one of the phases': a machine that was busy once does not decide."""
        return median(attacked / quiet for attacked, quiet in self.p99) if self.p99 else 0.0

    def wrong(self) -> list[str]:
        problems = list(self.problems)
        if self.cut_off is not None and self.cut_off > self.cut_off_max:
            problems.append(f"not cut off within {self.cut_off_max:g} s")
        if self.memory > self.memory_max:
            problems.append(f"memory grew by more than {self.memory_max / MIB:.0f} MiB")
        if self.failures:
            problems.append(f"honest calls failed: {self.failures[:3]}")
        if self.p99 and self.p99_ratio > P99_RATIO_MAX:
            if median(attacked for attacked, _ in self.p99) > P99_FLOOR_S:
                problems.append(f"the honest client's p99 is more than {P99_RATIO_MAX:g} times its quiet one")
        return problems

    def __str__(self) -> str:
        parts = []
        if self.cut_off is not None:
            parts.append(
                "never cut off" if self.cut_off == float("inf") else f"cut off within {self.cut_off:.3f} s"
            )
        parts.append(f"memory +{self.memory / MIB:.1f} MiB")
        if self.p99:
            attacked, quiet = (median(column) * 1_000 for column in zip(*self.p99))
            parts.append(
                f"{self.calls} honest calls, p99 {quiet:.2f} ms quiet, {attacked:.2f} ms attacked "
                f"({self.p99_ratio:.1f} times)"
            )
        return ", ".join([*parts, *self.notes])

    def check(self, record_property: Any) -> None:
        """Leaves the figures in the report of the tests, and fails if one of them is wrong."""
        record_property("figures", str(self))
        print(f"{self.name}: {self}")
        wrong = self.wrong()
        assert not wrong, f"{self.name}: {'; '.join(wrong)} [{self}]"


class Probe:
    """A server, an honest client that is warm, and the figures so far."""

    def __init__(self, name: str, server: HostileServer, ca: str | None = None) -> None:
        self.figures = Figures(name)
        self.server = server
        self.honest = Honest(server.address, ca)
        try:
            # What a server takes once, whoever calls, is not the attacker's.
            warm = self.honest.call(2 * QUIET_CALLS)
            assert not warm.failures, warm.failures
            self.memory = Memory(server)
        except BaseException:
            self.honest.close()
            raise

    @contextmanager
    def attack(self) -> Iterator[None]:
        """One phase: quiet calls first, then calls beside what the body does."""
        self.server.calm_down()
        quiet = self.honest.call()
        with self.honest.calling() as results:
            yield
        self.figures.take(results[0], quiet)
        self.figures.memory = self.memory.growth()

    def check(self, record_property: Any) -> None:
        self.figures.memory = max(self.figures.memory, self.memory.growth())
        assert self.server.is_running, f"the server ended with {self.server.process.returncode}"
        self.figures.check(record_property)

    def close(self) -> None:
        self.honest.close()


@contextmanager
def probe(
    name: str,
    cluster: Cluster,
    *arguments: str,
    ca: str | None = None,
) -> Iterator[Probe]:
    """A server of this probe's own with these arguments, ended with the body."""
    server = HostileServer(cluster, *arguments)
    try:
        probe = Probe(name, server, ca)
        try:
            yield probe
        finally:
            probe.close()
    finally:
        server.close()


#: Seconds of each phase of a flood. The first is longer than an attacker may live, so that one that is never
#: cut off is told from one that is cut off late.
#: One is enough where the honest client's times prove little anyway.
PHASES_S = (1.5,) if BUILD == "debug" else (1.5, 0.6, 0.6)


@dataclass
class Ends:
    """How a flood's connections ended."""

    connections: int
    #: As in `attackers.Attack`. The last connection of a phase may have none.
    codes: dict[str, int]
    resets_seen: int


def flood(probe: Probe, name: str, phases_s: Sequence[float] = PHASES_S) -> Ends:
    """Lets an attacker flood, in phases with quiet between them."""
    attacker = Child("attackers.py", name, probe.server.address)
    cut_off: list[float] = []
    codes: dict[str, int] = {}
    connections = not_closed = resets = sent = 0
    try:
        attacker.answer()
        for seconds in phases_s:
            with probe.attack():
                attacker.tell(f"{seconds}")
                found = attacker.answer(seconds + PATIENCE_S)
            cut_off += found["cut_off"]
            # Who was let flood for as long as is allowed and was not cut off then never is. Who began later
            # than that before the phase's end proves nothing.
            cut_off += [float("inf") for borne in found["not_cut_off"] if borne > CUT_OFF_S]
            for code, count in found["codes"].items():
                codes[code] = codes.get(code, 0) + count
            connections += found["connections"]
            not_closed += found["not_closed"]
            resets += found["resets_seen"]
            sent += found["bytes_sent"]
    finally:
        attacker.close()
    figures = probe.figures
    if not found["is_borne"]:
        figures.cut_off = max(cut_off, default=float("inf"))
    ends = ", ".join(f"{count} × {ERROR_NAMES.get(code, code)}" for code, count in sorted(codes.items()))
    figures.notes.append(
        f"{connections} connections, {sent / MIB:.1f} MiB sent" + (f", ended by {ends}" if ends else "")
    )
    if resets:
        figures.notes.append(f"{resets} RST_STREAM seen")
    if not_closed:
        figures.problems.append(f"{not_closed} connections were told to go and not closed")
    return Ends(connections, codes, resets)


#: RFC 9113, section 7, by number as in JSON.
ERROR_NAMES = {
    "0": "NO_ERROR",
    "1": "PROTOCOL_ERROR",
    "2": "INTERNAL_ERROR",
    "3": "FLOW_CONTROL_ERROR",
    "4": "SETTINGS_TIMEOUT",
    "5": "STREAM_CLOSED",
    "6": "FRAME_SIZE_ERROR",
    "7": "REFUSED_STREAM",
    "8": "CANCEL",
    "9": "COMPRESSION_ERROR",
    "11": "ENHANCE_YOUR_CALM",
    "end": "the end alone",
}
