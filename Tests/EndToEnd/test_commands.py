"""Command handlers: any executable, set in the configuration file."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import signalbox
from harness import (
    PATIENCE_S,
    Cluster,
    Server,
    command_config,
    is_complete,
    is_event,
    unique,
    until,
)
from signalbox import (
    AttemptOutcome,
    FailureCause,
    JobEventType,
    JobState,
    LogEvent,
    LogLevel,
    ProgressEvent,
    RetryPolicy,
)

SCRIPTS = {
    # Gives back what it was given, and what it was told.
    "shell.facts": r"""
payload=$(cat)
printf '{"result":{"payload":%s,"id":"%s","attempt":"%s","kind":"%s",' \
    "$payload" "$SIGNALBOX_JOB_ID" "$SIGNALBOX_ATTEMPT" "$SIGNALBOX_KIND"
printf '"user":"%s","queue":"%s","type":"%s"}}\n' \
    "$SIGNALBOX_USER_ID" "$SIGNALBOX_QUEUE" "$SIGNALBOX_CONTENT_TYPE"
""",
    "shell.tell": r"""
echo '{"log":{"level":"info","message":"began"}}'
echo '{"progress":{"stage":"work","fraction":0.5,"message":"half","done":1,"total":2}}'
echo 'this is not JSON'
echo '{"log":{"level":"warning","message":"é"}}'
echo '{"result":[1,2]}'
echo 'to standard error' >&2
""",
    "shell.silent": "exit 0\n",
    "shell.exit": r"""
read -r code
echo "exits with $code" >&2
exit "$code"
""",
    "shell.later": r"""
[ "$SIGNALBOX_ATTEMPT" = 1 ] || exit 0
echo '{"retry_after_ms":250}'
exit 1
""",
    # The first attempt saves and fails, the second gives back what it finds.
    "shell.checkpoint": r"""
if [ -n "${SIGNALBOX_CHECKPOINT:-}" ] && [ -s "$SIGNALBOX_CHECKPOINT" ]; then
    printf '{"result":%s}\n' "$(cat "$SIGNALBOX_CHECKPOINT")"
    exit 0
fi
echo '{"checkpoint":{"done":1}}'
echo '{"checkpoint":{"done":2}}'
exit 1
""",
    # Does not stop when asked to, and has a child that does not either.
    "shell.stubborn": r"""
trap '' TERM
sleep 300 &
child=$!
printf '{"log":{"level":"info","message":"%s %s"}}\n' $$ "$child"
while true; do wait "$child"; done
""",
    # Stops when asked to, and says so.
    "shell.polite": r"""
trap 'echo "{\"log\":{\"level\":\"info\",\"message\":\"asked to stop\"}}"; kill $child; exit 1' TERM
sleep 300 &
child=$!
echo '{"log":{"level":"info","message":"ready"}}'
wait
""",
    # Leaves a child behind that holds its standard output open.
    "shell.orphan": r"""
sleep 300 &
printf '{"log":{"level":"info","message":"%s"}}\n' $!
echo '{"result":"done"}'
""",
    "shell.flood": r"""
i=0
while [ $i -lt 20000 ]; do
    i=$((i + 1))
    printf '{"log":{"level":"debug","message":"line %d"}}\n' $i
done
head -c 3000000 /dev/zero | tr '\0' x
echo
echo '{"result":"survived"}'
""",
    "shell.killed": "kill -KILL $$\n",
    # Writes without end, to both streams.
    "shell.yes": "echo '{\"log\":\"begins\"}'\nyes >&2 &\nexec yes\n",
    "shell.records": "exec yes '{\"progress\":{\"fraction\":0.5}}'\n",
}

MISSING = """
  - kind: missing.command
    command: [/nowhere/secret-tool]
    timeout: 60s
  - kind: missing.folder
    command: [/bin/true]
    working_directory: /nowhere/secret-folder
    timeout: 60s
"""

SOON = RetryPolicy(initial_delay=timedelta(milliseconds=20), factor=1)


@pytest.fixture(scope="module")
def node(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # A server that is root wants to be told.
    missing = MISSING.replace("    timeout", "    user: root\n    timeout") if os.geteuid() == 0 else MISSING
    config = command_config(tmp_path_factory.mktemp("commands"), SCRIPTS) + missing
    node = Server(cluster.database(), name="commands", config=config, arguments=["--grace", "2s"])
    yield node
    node.close()


@pytest.fixture(scope="module")
def shell(node: Server) -> Iterator[signalbox.Client]:
    with node.client(timeout=20) as client:
        yield client


def logged(shell: signalbox.Client, id: str) -> list[str]:
    return [line.message for line in shell.get(id).log]


def ends(pid: int) -> bool:
    """Whether a process ends (a zombie has): what is killed may live a moment longer than its job."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], PATIENCE_S)[0])
    finally:
        os.close(process)


def test_payload_and_facts(shell):
    user = unique("ué ")
    job = shell.enqueue("shell.facts", {"a": [1]}, user_id=user, queue="shells")
    assert shell.result(job.id, timeout=30) == {
        "payload": {"a": [1]},
        "id": job.id,
        "attempt": "1",
        "kind": "shell.facts",
        "user": user,
        "queue": "shells",
        "type": "application/json",
    }


def test_a_payload_of_a_mebibyte_on_standard_input(shell):
    payload = "x" * ((1 << 20) - 2)
    job = shell.enqueue("shell.silent", payload, user_id=unique())
    # It does not read any of it, and that is no failure.
    assert shell.result(job.id, timeout=30) is None


def test_progress_log_and_result(shell):
    user = unique()
    job = shell.enqueue("shell.tell", user_id=user)
    final = shell.wait(job.id, timeout=30)
    assert final.state is JobState.SUCCEEDED and final.result is not None and final.result.json() == [1, 2]
    assert final.progress is not None and final.progress.stage == "work" and final.progress.done == 1
    lines = [(line.level, line.message) for line in final.log]
    assert (LogLevel.INFO, "began") in lines and (LogLevel.WARNING, "é") in lines
    numbers = [line.number for line in final.log]
    assert numbers == list(range(1, len(numbers) + 1)) and {line.attempt for line in final.log} == {1}
    assert list(shell.list_log_lines(job.id, page_size=1)) == list(final.log)
    loud = [line for line in final.log if line.level >= LogLevel.WARNING]
    assert list(shell.list_log_lines(job.id, min_level=LogLevel.WARNING)) == loud
    assert [line.number for line in shell.list_log_lines(job.id, after_line=1)] == numbers[1:]


def test_log_lines_are_watched(shell):
    user = unique()
    id = shell.enqueue("shell.polite", user_id=user).id
    with shell.watch(id, include_log=True, timeout=PATIENCE_S) as watch:
        seen = until(watch, lambda item: isinstance(item, (LogEvent, ProgressEvent)))[-1]
        assert isinstance(seen, LogEvent) and seen.lines[0].message == "ready"
        shell.cancel(id)
        for _ in watch:
            pass


def test_no_result_is_no_failure(shell):
    job = shell.wait(shell.enqueue("shell.silent", user_id=unique()).id, timeout=30)
    assert job.state is JobState.SUCCEEDED


@pytest.mark.parametrize(("code", "attempts"), [(65, 1), (1, 2), (127, 2)])
def test_exit_codes(shell, code, attempts):
    id = shell.enqueue(
        "shell.exit", f"{code}\n".encode(), user_id=unique(), max_attempts=2, retry_policy=SOON
    ).id
    job = shell.wait(id, timeout=30)
    assert job.state is JobState.FAILED and len(job.attempts) == attempts and job.error is not None
    if code == 65:
        assert job.error.cause is FailureCause.HANDLER_PERMANENT
    else:
        assert job.error.cause is FailureCause.HANDLER and str(code) in job.error.message


@pytest.mark.parametrize("what", ["command", "folder"])
def test_a_command_that_does_not_start_tells_no_paths(node, shell, what):
    """They are in the server's log, with the job's id."""
    job = shell.wait(
        shell.enqueue(f"missing.{what}", user_id=unique(), max_attempts=1).id, timeout=PATIENCE_S
    )
    assert job.state is JobState.FAILED and job.error is not None and job.error.cause is FailureCause.HANDLER
    assert "command" in job.error.message and "/" not in job.error.message
    assert all("/" not in attempt.error.message for attempt in job.attempts)
    lines = [line for line in node.log().splitlines() if job.id in line]
    assert any("/nowhere/secret" in line for line in lines)


def test_a_command_that_is_killed_has_failed(shell):
    id = shell.enqueue("shell.killed", user_id=unique(), max_attempts=1).id
    job = shell.wait(id, timeout=30)
    assert job.state is JobState.FAILED and job.error is not None and job.error.cause is FailureCause.HANDLER


def test_it_says_when_to_try_again(shell):
    user = unique()
    with shell.watch(user_id=user, timeout=PATIENCE_S) as watch:
        id = shell.enqueue("shell.later", user_id=user).id
        event = until(watch, is_event(JobEventType.RETRY_SCHEDULED, id))[-1]
    assert (event.due_at - event.at).total_seconds() == pytest.approx(0.25, abs=0.01)
    assert shell.wait(id, timeout=30).state is JobState.SUCCEEDED


def test_the_next_attempt_gets_the_last_checkpoint(shell):
    id = shell.enqueue("shell.checkpoint", user_id=unique(), retry_policy=SOON).id
    assert shell.result(id, timeout=30) == {"done": 2}
    assert shell.get(id).attempt == 2


def test_cancel_asks_first(shell):
    user = unique()
    id = shell.enqueue("shell.polite", user_id=user).id
    with shell.watch(id, include_log=True, timeout=PATIENCE_S) as watch:
        until(watch, lambda item: isinstance(item, LogEvent))
        shell.cancel(id)
        for _ in watch:
            pass
    job = shell.get(id)
    assert job.state is JobState.CANCELLED and "asked to stop" in [line.message for line in job.log]


@pytest.mark.parametrize("by", ["cancel", "timeout"])
def test_what_does_not_stop_is_killed_with_its_children(shell, by):
    user = unique()
    # Enough for it to start and to log a line.
    timeout = timedelta(seconds=5) if by == "timeout" else None
    id = shell.enqueue("shell.stubborn", user_id=user, max_attempts=1, job_timeout=timeout).id
    with shell.watch(id, include_log=True, timeout=PATIENCE_S) as watch:
        line = until(watch, lambda item: isinstance(item, LogEvent))[-1].lines[0].message
        if by == "cancel":
            shell.cancel(id)
        for _ in watch:
            pass
    job = shell.get(id)
    wanted = AttemptOutcome.CANCELLED if by == "cancel" else AttemptOutcome.TIMED_OUT
    assert [attempt.outcome for attempt in job.attempts] == [wanted]
    assert all(ends(int(pid)) for pid in line.split())


def test_nothing_is_left_running(shell):
    user = unique()
    id = shell.enqueue("shell.orphan", user_id=user).id
    assert shell.wait(id, timeout=30).state is JobState.SUCCEEDED
    assert ends(int(logged(shell, id)[0]))


def test_output_without_end_is_bounded(shell, node):
    id = shell.enqueue("shell.flood", user_id=unique(), max_attempts=1).id
    assert shell.result(id, timeout=60) == "survived"
    *_, last, cut = logged(shell, id)
    assert last == "line 20000" and cut == "x" * 4_096
    resident = int(Path(f"/proc/{node.process.pid}/statm").read_text().split()[1]) * os.sysconf(
        "SC_PAGE_SIZE"
    )
    assert resident < 512 << 20


@pytest.mark.parametrize("kind", ["shell.yes", "shell.records"])
def test_commands_that_never_stop_writing_hold_up_nobody(shell, kind):
    """More of them than the server has threads. Their timeouts and cancels are kept, and other jobs run."""
    floods = [
        shell.enqueue(kind, user_id=unique(), max_attempts=1, job_timeout=timedelta(seconds=4)).id for _ in range(3)
    ]
    cancelled = shell.enqueue(kind, user_id=unique(), max_attempts=1).id
    with shell.watch(cancelled, timeout=PATIENCE_S) as watch:
        until(watch, lambda item: is_event(item, JobEventType.STARTED))
        waits = []
        for _ in range(20):
            began = time.monotonic()
            shell.result(shell.enqueue("shell.silent", user_id=unique()).id, timeout=30)
            waits.append(time.monotonic() - began)
        shell.cancel(cancelled)
        began = time.monotonic()
        for _ in watch:
            pass
        assert time.monotonic() - began < 4, "the cancel was not heard within the grace of 2 s"
    assert shell.get(cancelled).state is JobState.CANCELLED
    assert sorted(waits)[-2] < 2, waits
    for id in floods:
        job = shell.wait(id, timeout=30)
        assert [attempt.outcome for attempt in job.attempts] == [AttemptOutcome.TIMED_OUT]
        assert (job.attempts[0].ended_at - job.attempts[0].started_at).total_seconds() < 8
    assert all(node.alive for node in shell.list_nodes())


def test_the_limit_of_log_lines_counts_on(shell):
    """The last 200 lines are kept, with the numbers that they have among all 20,001."""
    user = unique()
    with shell.watch(user_id=user, timeout=PATIENCE_S) as watch:
        until(watch, is_complete)
        id = shell.enqueue("shell.flood", user_id=user, max_attempts=1).id
        until(watch, lambda item: isinstance(item, signalbox.JobEvent) and item.state.is_final)
    expected = list(range(19_802, 20_002))
    assert [line.number for line in shell.get(id).log] == expected
    assert [line.number for line in shell.list_log_lines(id)] == expected
