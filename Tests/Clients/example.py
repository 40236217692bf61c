"""Runs a language's program `example`, and reads what it prints.

The contract of all languages. Settings come from the environment: SIGNALBOX_ADDRESS (host:port), SIGNALBOX_CA (a PEM
file of the authorities to trust; then the connection uses TLS) and SIGNALBOX_TOKEN (then each call carries
`authorization: Bearer …`). A variable that is empty counts as unset. The program prints one JSON object a line on
standard output and writes out each at once; errors go to standard error. It exits with 0 if it did what it was asked,
also if the job failed or was cancelled, and with 1 otherwise. Unary calls have a deadline of 10 s, and are repeated on
UNAVAILABLE, which is safe because the client chooses the job's id.

    run KIND USER PAYLOAD       enqueues a job and watches it to its end
    watch JOB_ID [AFTER]        watches a job, after the event of that sequence
    cancel JOB_ID [NOTE]        {"state":"CANCELLED"}
    invalid                     enqueues a job with an empty kind and a user_id of 300 bytes:
                                {"code":"INVALID_ARGUMENT","violations":[{"field":"job.kind","description":"…"},…]}
    leave COUNT KIND USER PAYLOAD
                                enqueues a job, opens COUNT watches of it on one connection, cancels each after its
                                first message, prints {"left":COUNT}, cancels the job

A watch prints these lines:

    {"job_id":"…","created":true}                                               only run, and first
    {"event":"snapshot","state":"PENDING","sequence":1}
    {"event":"lifecycle","type":"STARTED","state":"RUNNING","sequence":2}
    {"event":"progress","fraction":0.5,"attempt":1}                             null or left out: not known
    {"event":"reconnect","code":"UNAVAILABLE"}                                  it resumes, with back-off
    {"event":"end","state":"SUCCEEDED","result":"<as text>"}                    last

It resumes by the latest resume_token, or by the sequence of the last event if that token is refused, and prints no event
twice. A value of an enum that it does not know is UNSPECIFIED. Without a message for 30 s while it tries to resume, it
gives up; at once if the service asks it to wait for longer than the rest of that time, or of a unary call's deadline.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from harness import PATIENCE_S, clean_environment
from languages import Language

Line = dict[str, Any]


class Program:
    """One run of the program."""

    def __init__(self, language: Language, address: str, arguments: list[str], environment: dict[str, str]) -> None:
        self.name = f"{language.name}: example {' '.join(arguments)}"
        #: What it has printed, as far as it was read.
        self.lines: list[Line] = []
        self._waiting: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str] = []
        self._process = subprocess.Popen(
            [*language.command, *arguments],
            cwd=language.folder,
            env={**clean_environment(), **language.variables, "SIGNALBOX_ADDRESS": address, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self._waiting.put(line)
        self._waiting.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as errors:
            self._errors.extend(errors)

    def _describe(self) -> str:
        return f"{self.name}\nprinted {self.lines}\nerrors:\n{''.join(self._errors[-50:])}"

    def next(self, patience: float = PATIENCE_S) -> Line | None:
        """The next line, or None at the end of the output."""
        try:
            text = self._waiting.get(timeout=max(0.0, patience))
        except queue.Empty:
            raise AssertionError(f"no line within {patience:.0f} s from {self._describe()}") from None
        if text is None:
            # For the next call.
            self._waiting.put(None)
            return None
        line = json.loads(text)
        assert isinstance(line, dict), text
        self.lines.append(line)
        return line

    def until(self, wanted: Callable[[Line], bool]) -> Line:
        """The next line for which `wanted` holds."""
        deadline = time.monotonic() + PATIENCE_S
        while (line := self.next(deadline - time.monotonic())) is not None:
            if wanted(line):
                return line
        self._process.wait(PATIENCE_S)
        self._readers[1].join(PATIENCE_S)
        raise AssertionError(f"ended with {self._process.returncode} before the wanted line: {self._describe()}")

    def until_event(self, event: str) -> Line:
        return self.until(lambda line: line.get("event") == event)

    def finish(self, code: int = 0) -> list[Line]:
        """Everything that it printed, once it has ended with this exit code."""
        deadline = time.monotonic() + 2 * PATIENCE_S
        while self.next(deadline - time.monotonic()) is not None:
            pass
        self._process.wait(PATIENCE_S)
        self._readers[1].join(PATIENCE_S)
        assert self._process.returncode == code, f"exit code {self._process.returncode} of {self._describe()}"
        return self.lines

    def fail(self, status: str) -> None:
        """Waits for its end, and checks that it has printed nothing, and has failed because of this status of gRPC."""
        assert self.finish(code=1) == []
        # Each language has its own way to write the name.
        assert status.replace("_", "") in "".join(self._errors).upper().replace("_", ""), self._describe()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
                return
            self._process.kill()
            self._process.wait(5)


class Example:
    """The built program of a language."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self._programs: list[Program] = []

    def start(self, *arguments: str, address: str, ca: str = "", token: str = "") -> Program:
        environment = {"SIGNALBOX_CA": ca, "SIGNALBOX_TOKEN": token}
        program = Program(self.language, address, [*arguments], environment)
        self._programs.append(program)
        return program

    def run(self, *arguments: str, address: str, ca: str = "", token: str = "", code: int = 0) -> list[Line]:
        """What the program prints until its end."""
        return self.start(*arguments, address=address, ca=ca, token=token).finish(code)

    def end_programs(self) -> None:
        """Ends those that a test has left running."""
        while self._programs:
            self._programs.pop().close()
