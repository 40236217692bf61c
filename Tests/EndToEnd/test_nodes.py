"""Several nodes over one database: exact limits, cancelling across, a node that dies."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import grpc
import pytest
import signalbox
from grpc_health.v1 import health_pb2
from harness import (
    PATIENCE_S,
    Api,
    Cluster,
    Server,
    command_config,
    events_of,
    is_complete,
    is_event,
    most_at_once,
    unique,
    until,
)
from signalbox import (
    AttemptOutcome,
    FailureCause,
    JobEvent,
    JobEventType,
    JobState,
    NewJob,
    ProgressEvent,
    Snapshot,
)

#: The first run saves a checkpoint and goes on for long; the next one gives back what it finds.
LONG = r"""
if [ -n "${SIGNALBOX_CHECKPOINT:-}" ] && [ -s "$SIGNALBOX_CHECKPOINT" ]; then
    printf '{"result":{"from":%s,"attempt":%s}}\n' "$(cat "$SIGNALBOX_CHECKPOINT")" "$SIGNALBOX_ATTEMPT"
    exit 0
fi
echo '{"checkpoint":{"done":7}}'
echo '{"progress":{"stage":"saved","fraction":0.5}}'
exec sleep 60
"""


class Nodes:
    """Servers over one new database, and how to start more of them."""

    def __init__(self, cluster: Cluster, stack: ExitStack) -> None:
        self.url = cluster.database()
        self._stack = stack

    def start(self, name: str, **options) -> Server:
        server = Server(self.url, name=name, **options)
        self._stack.callback(server.close)
        return server

    def client(self, *servers: Server) -> signalbox.Client:
        """Talks to the first of them that answers."""
        target = "ipv4:" + ",".join(server.address for server in servers)
        return self._stack.enter_context(signalbox.Client(target, timeout=20))


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[Nodes]:
    with ExitStack() as stack:
        yield Nodes(cluster, stack)


def test_three_of_a_user_at_once_over_two_nodes(nodes: Nodes):
    """1,000 jobs of 50 users; what was at once is told by the jobs' own records."""
    north, south = nodes.start("north", concurrency=40), nodes.start("south", concurrency=40)
    client = nodes.client(north)
    jobs = [NewJob("test.sleep", {"ms": 20 + n % 30}, user_id=f"user-{n % 50}") for n in range(1_000)]
    ids = [item.job_id for item in client.enqueue_batch(jobs, timeout=30)]
    with client.watch(ids, timeout=2 * PATIENCE_S) as watch:
        for _ in watch:
            pass
    with ThreadPoolExecutor(8) as pool:
        final = list(pool.map(client.get, ids))
    assert all(job.state is JobState.SUCCEEDED and len(job.attempts) == 1 for job in final)
    assert {job.attempts[0].node for job in final} == {"north", "south"}
    most = {}
    for user in {job.user_id for job in final}:
        spans = [
            (attempt.started_at, attempt.ended_at)
            for job in final
            if job.user_id == user
            for attempt in job.attempts
        ]
        assert len(spans) == 20
        most[user] = most_at_once(spans)
    assert max(most.values()) == 3, most
    for node in (north, south):
        spans = [
            (j.attempts[0].started_at, j.attempts[0].ended_at)
            for j in final
            if j.attempts[0].node == node.name
        ]
        assert most_at_once(spans) <= 40
    assert south.is_running and north.is_running


def test_cancelling_on_another_node(nodes: Nodes):
    """The node that is asked runs nothing; the one that runs hears of it within 500 ms."""
    door, worker = nodes.start("door", concurrency=0), nodes.start("worker", concurrency=8)
    client, user, took = nodes.client(door), unique(), []
    for _ in range(3):
        with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
            id = client.enqueue("test.sleep", {"ms": 60_000, "steps": 10}, user_id=user).id
            started = until(watch, is_event(JobEventType.STARTED, id))[-1]
            assert started.node == worker.name
            asked = datetime.now(UTC)
            client.cancel(id, note="enough")
            ended = until(watch, is_event(JobEventType.CANCELLED, id))[-1]
        took.append(ended.at - asked)
        job = client.get(id)
        assert job.state is JobState.CANCELLED
        assert [attempt.outcome for attempt in job.attempts] == [AttemptOutcome.CANCELLED]
    # The best of three, because other work of this machine is not measured.
    assert min(took) < timedelta(milliseconds=500), took


def test_a_watch_sees_what_happens_on_another_node(nodes: Nodes):
    door, _ = nodes.start("door", concurrency=0), nodes.start("worker", concurrency=8)
    client, user = nodes.client(door), unique()
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        until(watch, is_complete)
        id = client.enqueue("test.sleep", {"ms": 1_500, "steps": 5}, user_id=user).id
        items = until(watch, is_event(JobEventType.SUCCEEDED, id))
    assert [event.sequence for event in events_of(items)] == [1, 2, 3]
    steps = [item.progress.done for item in items if isinstance(item, ProgressEvent)]
    assert steps and steps == sorted(steps)


def test_a_node_claims_only_kinds_that_it_handles(nodes: Nodes, tmp_path):
    config = command_config(tmp_path, {"shell.only": "echo '{\"result\":1}'\n"})
    plain = nodes.start("plain", concurrency=8)
    client = nodes.client(plain)
    with pytest.raises(signalbox.FailedPrecondition):
        client.enqueue("shell.only", user_id="u")
    special = nodes.start("special", concurrency=8, config=config)
    # A kind is known while any live node handles it; the other one may hear of it a moment later.
    other = nodes.client(special)
    ids = [other.enqueue("shell.only", user_id=f"u{n}").id for n in range(20)]
    assert [other.result(id, timeout=30) for id in ids] == [1] * 20
    assert {other.get(id).attempts[0].node for id in ids} == {"special"}


def test_paused_on_one_node_is_paused_on_all(nodes: Nodes):
    north, south = nodes.start("north", concurrency=4), nodes.start("south", concurrency=4)
    one, two, queue = nodes.client(north), nodes.client(south), unique("queue")
    one.pause(queue)
    ids = [client.enqueue("test.noop", user_id=unique(), queue=queue).id for client in (one, two)]
    two.wait(two.enqueue("test.noop", user_id=unique()).id, timeout=30)
    assert all(two.get(id).state is JobState.PENDING for id in ids)
    two.resume(queue)
    assert all(one.wait(id, timeout=30).state is JobState.SUCCEEDED for id in ids)


def test_a_node_that_dies(nodes: Nodes, tmp_path):
    """kill -9: its jobs run again elsewhere within 17 s, as attempt 2, from their checkpoint."""
    config = command_config(tmp_path, {"shell.long": LONG})
    doomed = nodes.start("doomed", concurrency=8, config=config)
    # The other one takes nothing until the first is gone: what it runs then is what was rescued.
    client = nodes.client(doomed)
    ids = [client.enqueue("shell.long", user_id=unique()).id for _ in range(3)]
    sleeper = client.enqueue("test.sleep", {"ms": 40_000, "steps": 40}, user_id=unique()).id
    saved: set[str] = set()
    with client.watch([*ids, sleeper], timeout=PATIENCE_S) as watch:
        while len(saved) < 4:
            item = next(watch)
            if isinstance(item, Snapshot):
                id, progress = item.job.id, item.job.progress
            elif isinstance(item, ProgressEvent):
                id, progress = item.job_id, item.progress
            else:
                continue
            if progress is not None and (id != sleeper or progress.done >= 2):
                saved.add(id)
        before = watch.sequences
    heir = nodes.start("heir", concurrency=8, config=config)
    survivor = nodes.client(heir)
    with survivor.watch([*ids, sleeper], after=before, timeout=2 * PATIENCE_S) as watch:
        until(watch, is_complete)
        killed = datetime.now(UTC)
        doomed.kill()
        started: dict[str, JobEvent] = {}
        events: list[JobEvent] = []
        resumed_at: int | None = None
        while len(started) < 4 or resumed_at is None:
            item = next(watch)
            if isinstance(item, JobEvent):
                events.append(item)
                if item.type is JobEventType.STARTED:
                    started[item.job_id] = item
            elif isinstance(item, ProgressEvent) and item.job_id == sleeper and item.attempt == 2:
                resumed_at = resumed_at or item.progress.done
    for event in started.values():
        assert event.at - killed < timedelta(seconds=17) and event.attempt == 2 and event.node == "heir"
    interrupted = [event for event in events if event.type is JobEventType.RETRY_SCHEDULED]
    assert len(interrupted) == 4
    assert all(event.error is not None and event.error.cause is FailureCause.INTERRUPTED for event in interrupted)
    for id in ids:
        assert survivor.result(id, timeout=30) == {"from": {"done": 7}, "attempt": 2}
        outcomes = [(a.number, a.node, a.outcome.name) for a in survivor.get(id).attempts]
        assert outcomes == [(1, "doomed", "INTERRUPTED"), (2, "heir", "SUCCEEDED")]
    assert resumed_at > 2, "the sleeper goes on after its checkpoint"
    survivor.cancel(sleeper)
    alive = {node.name: node.alive for node in survivor.list_nodes()}
    assert alive == {"doomed": False, "heir": True}


def test_a_kind_that_must_not_run_twice(nodes: Nodes, tmp_path):
    config = command_config(tmp_path, {"shell.once": LONG}, on_interruption="fail")
    doomed = nodes.start("doomed", concurrency=8, config=config)
    client = nodes.client(doomed)
    user = unique()
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        id = client.enqueue("shell.once", user_id=user).id
        until(watch, is_event(JobEventType.STARTED, id))
    heir = nodes.start("heir", concurrency=8, config=config)
    doomed.kill()
    job = nodes.client(heir).wait(id, timeout=2 * PATIENCE_S)
    assert job.state is JobState.FAILED and job.error is not None and job.error.cause is FailureCause.INTERRUPTED
    assert [attempt.outcome for attempt in job.attempts] == [AttemptOutcome.INTERRUPTED]


def test_a_node_that_is_frozen_writes_nothing_when_it_wakes(nodes: Nodes):
    """SIGSTOP for longer than a lease: the job is rescued, and the first run's end touches nothing."""
    frozen = nodes.start("frozen", concurrency=8)
    client = nodes.client(frozen)
    user = unique()
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        id = client.enqueue("test.sleep", {"ms": 5_000, "steps": 5}, user_id=user).id
        until(watch, is_event(JobEventType.STARTED, id))
    # Before the other one starts, which may take as long as the job.
    frozen.process.send_signal(signal.SIGSTOP)
    try:
        heir = nodes.start("heir", concurrency=8)
        job = nodes.client(heir).wait(id, timeout=2 * PATIENCE_S)
    finally:
        frozen.process.send_signal(signal.SIGCONT)
    assert job.state is JobState.SUCCEEDED
    outcomes = [(a.node, a.outcome.name) for a in job.attempts]
    assert outcomes == [("frozen", "INTERRUPTED"), ("heir", "SUCCEEDED")]
    # It is back, and works again.
    again = nodes.client(frozen)
    assert again.result(again.enqueue("test.echo", 1, user_id=user).id, timeout=30) == 1
    assert again.get(id) == job


def test_stopping_an_idle_node(nodes: Nodes):
    assert nodes.start("idle").terminate() == 0
    # SIGINT is the same, from a terminal.
    node = nodes.start("interrupted")
    node.process.send_signal(signal.SIGINT)
    assert node.process.wait(PATIENCE_S) == 0


def test_stopping_lets_runs_finish(nodes: Nodes):
    node = nodes.start("leaving", arguments=["--grace", "30s"])
    client, user = nodes.client(node), unique()
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        id = client.enqueue("test.sleep", {"ms": 6_000, "steps": 3}, user_id=user).id
        until(watch, is_event(JobEventType.STARTED, id))
        late = client.enqueue("test.noop", user_id=user, delay=timedelta(seconds=3)).id
    assert node.terminate() == 0
    other = nodes.client(nodes.start("other"))
    job = other.get(id)
    assert job.state is JobState.SUCCEEDED and [a.node for a in job.attempts] == ["leaving"]
    # What became due meanwhile was not begun.
    assert [a.node for a in other.wait(late, timeout=30).attempts] == ["other"]


def test_stopping_gives_back_what_does_not_finish(nodes: Nodes, tmp_path):
    """A watch through the node that leaves goes on through the other one, without gap or repeat."""
    config = command_config(tmp_path, {"shell.long": LONG})
    leaving = nodes.start("leaving", config=config, arguments=["--grace", "1s"])
    user = unique()
    alone = nodes.client(leaving)
    with alone.watch(user_id=user, timeout=PATIENCE_S) as watch:
        until(watch, is_complete)
        id = alone.enqueue("shell.long", user_id=user).id
        # By then it has saved its checkpoint.
        until(watch, lambda item: isinstance(item, ProgressEvent))
    staying = nodes.start("staying", config=config)
    client = nodes.client(leaving, staying)
    with client.watch(id, after={id: 1}, timeout=PATIENCE_S) as watch:
        first = until(watch, is_event(JobEventType.STARTED, id))
        leaving.process.terminate()
        events = events_of([*first, *watch])
    assert leaving.process.wait(PATIENCE_S) == 0
    assert [(event.sequence, event.type.name, event.node) for event in events] == [
        (2, "STARTED", "leaving"),
        (3, "RELEASED", "leaving"),
        (4, "STARTED", "staying"),
        (5, "SUCCEEDED", "staying"),
    ]
    job = client.get(id)
    outcomes = [(a.number, a.outcome.name, a.counted) for a in job.attempts]
    assert outcomes == [(1, "RELEASED", False), (2, "SUCCEEDED", True)]
    # Each start has a number, but a release uses up no attempt of the budget.
    assert (job.attempt, job.attempts_used) == (2, 1)
    assert client.result(id, timeout=30) == {"from": {"done": 7}, "attempt": 2}
    # Released at once, not when the lease ended.
    assert job.attempts[1].started_at - job.attempts[0].ended_at < timedelta(seconds=5)


def test_stopping_is_told_to_those_who_ask_for_health(nodes: Nodes):
    node = nodes.start("leaving", arguments=["--grace", "10s"])
    client, user = nodes.client(node), unique()
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        id = client.enqueue("test.sleep", {"ms": 1_500}, user_id=user).id
        until(watch, is_event(JobEventType.STARTED, id))
    api = Api(node.address)
    call = api.health.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
    assert next(call).status == health_pb2.HealthCheckResponse.SERVING
    node.process.terminate()
    assert next(call).status == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert node.process.wait(PATIENCE_S) == 0
    api.close()


def test_a_second_signal_does_not_wait(nodes: Nodes):
    node = nodes.start("leaving", arguments=["--grace", "120s"])
    client, user = nodes.client(node), unique()
    with client.watch(user_id=user, timeout=PATIENCE_S) as watch:
        id = client.enqueue("test.sleep", {"ms": 100_000}, user_id=user).id
        until(watch, is_event(JobEventType.STARTED, id))
    began = time.monotonic()
    node.process.terminate()
    # A second one while the first is being obeyed: it must not be lost, and must not crash it.
    while node.is_running and time.monotonic() - began < PATIENCE_S:
        node.process.terminate()
        try:
            node.process.wait(0.5)
        except subprocess.TimeoutExpired:
            continue
    assert node.process.poll() == 1, "neither an end in order nor a crash"
