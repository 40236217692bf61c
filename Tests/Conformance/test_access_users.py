"""The jobs of other users do not exist: no error, list or watch tells of them, not even by a byte."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from access import ADMIN, CALL_S, CANCEL, ENQUEUE, LATER, READ, Secured, Somebody, closing, missing
from frames import Connection, message
from google.protobuf.message import Message
from harness import Cluster, unique
from signalbox.v1 import admin_service_pb2, job_pb2, job_service_pb2
from wire import JOBS, Code, decode_bin


@pytest.fixture(scope="module")
def secured(cluster: Cluster) -> Iterator[Secured]:
    yield from closing(Secured(cluster, name="users"))


@pytest.fixture
def bob() -> str:
    """The one who may see little."""
    return unique("bob")


@pytest.fixture
def token(secured: Secured, bob: str) -> str:
    token = secured.tokens.add(bob, ENQUEUE, READ, CANCEL)
    secured.tokens.write()
    secured.wait_until_known(secured.somebody(token))
    return token


@pytest.fixture
def limited(secured: Secured, token: str) -> Somebody:
    return secured.somebody(token)


# The same bytes


def get(id: str) -> Message:
    return job_service_pb2.GetJobRequest(job_id=id)


def get_all(id: str) -> Message:
    return job_service_pb2.GetJobRequest(job_id=id, include_payload=True)


def cancel(id: str) -> Message:
    return job_service_pb2.CancelRequest(job_id=id, note="curious")


def retry(id: str) -> Message:
    return job_service_pb2.RetryRequest(job_id=id)


def list_attempts(id: str) -> Message:
    return job_service_pb2.ListAttemptsRequest(job_id=id)


def list_log_lines(id: str) -> Message:
    return job_service_pb2.ListLogLinesRequest(job_id=id)


def cancel_expecting(id: str) -> Message:
    """With a sequence that no job has: the caller of the job's user gets ABORTED for it."""
    return job_service_pb2.CancelRequest(job_id=id, expected_sequence=99)


def retry_expecting(id: str) -> Message:
    return job_service_pb2.RetryRequest(job_id=id, expected_sequence=99)


def watch(id: str) -> Message:
    return job_service_pb2.WatchRequest(jobs=[{"job_id": id}])


def watch_log(id: str) -> Message:
    return job_service_pb2.WatchRequest(jobs=[{"job_id": id}], include_log=True)


def watch_from(id: str) -> Message:
    """After a sequence that no job has: the caller of the job's user gets OUT_OF_RANGE for it."""
    return job_service_pb2.WatchRequest(jobs=[{"job_id": id, "after_sequence": 99}])


ABOUT_A_JOB: dict[str, tuple[str, Callable[[str], Message]]] = {
    "GetJob": ("GetJob", get),
    "GetJob with the payload": ("GetJob", get_all),
    "Cancel": ("Cancel", cancel),
    "Retry": ("Retry", retry),
    "ListAttempts": ("ListAttempts", list_attempts),
    "ListLogLines": ("ListLogLines", list_log_lines),
    "Cancel with a sequence": ("Cancel", cancel_expecting),
    "Retry with a sequence": ("Retry", retry_expecting),
    "Watch": ("Watch", watch),
    "Watch with the log": ("Watch", watch_log),
    "Watch from an event on": ("Watch", watch_from),
}

cases = pytest.mark.parametrize(("method", "make"), ABOUT_A_JOB.values(), ids=list(ABOUT_A_JOB))


def answer(secured: Secured, token: str, method: str, request: Message) -> list[tuple[int, int, bytes]]:
    """The frames of the answer on a connection of its own, as they are: type, flags and payload.

    The header compression begins anew with the connection, so the same headers are the same bytes.
    """
    with Connection.open(secured.address) as peer:
        field = ("authorization", f"Bearer {token}")
        stream = peer.request(JOBS + method, message(request.SerializeToString()), field)
        got = peer.answer(stream)
        assert got.grpc_status == Code.NOT_FOUND, f"{got}"
        frames = [frame for frame in peer.frames if frame.stream_id == stream]
        return [(frame.type, sorted(frame.flags), bytes(frame.serialize()[9:])) for frame in frames]


@cases
def test_before_and_after_there_is_such_a_job(secured, bob, token, method, make):
    """The answer about the very same id: while there is no such job, and in each state of somebody else's."""
    id = missing()
    request = make(id)
    before = answer(secured, token, method, request)
    assert before

    user = unique("ada")
    secured.root.enqueue(user, "test.sleep", {"ms": 60_000, "steps": 600}, job_id=id, delay=LATER)
    assert answer(secured, token, method, request) == before, "it waits"
    secured.root.cancel(id)
    assert answer(secured, token, method, request) == before, "it was cancelled"
    with_events = secured.root.watch(job=id) if method == "Watch" else None
    secured.root.jobs.Retry(retry(id), timeout=CALL_S)
    running = secured.root.watch(job=id)
    if secured.root.get(id).state != job_pb2.JOB_STATE_RUNNING:
        running.until_event("STARTED", id)
    assert answer(secured, token, method, request) == before, "it runs"
    secured.root.cancel(id)
    assert running.end()[0] is grpc.StatusCode.OK
    assert answer(secured, token, method, request) == before, "it is over"
    assert secured.root.get(id).user_id == user
    if with_events:
        with_events.close()


@cases
def test_one_of_another_and_none(secured, token, method, make):
    """The same of two ids, with the id taken out of where it is cited."""
    theirs = secured.root.enqueue(unique("ada"))
    texts = []
    for id in (theirs, missing()):
        with Connection.open(secured.address) as peer:
            field = ("authorization", f"Bearer {token}")
            got = peer.call(JOBS + method, make(id).SerializeToString(), field)
            assert got.grpc_status == Code.NOT_FOUND, f"{got}"
            assert got.headers is not None and id in got.grpc_message
            fields = {name: value for name, value in got.headers if name != "grpc-status-details-bin"}
            details = decode_bin(got.trailer("grpc-status-details-bin") or "")
            assert id.encode() in details
            placeholder = "0" * len(id)
            texts.append(
                (
                    got.order,
                    got.body,
                    got.trailers,
                    {name: value.replace(id, placeholder) for name, value in fields.items()},
                    details.replace(id.encode(), placeholder.encode()),
                )
            )
    assert texts[0] == texts[1]


@cases
def test_one_who_may_see_all_is_told_the_same_of_none(secured, token, method, make):
    id = missing()
    assert answer(secured, token, method, make(id)) == answer(secured, secured.root_token, method, make(id))


def test_among_own_jobs_in_a_watch(secured, limited, bob):
    """Another user's job is removed from the watch, as one that does not exist; the watch of the own job goes on."""
    own = limited.enqueue(bob)
    theirs, none = secured.root.enqueue(unique("ada")), missing()
    request = job_service_pb2.WatchRequest(jobs=[{"job_id": id} for id in (theirs, own, none)])
    messages = []
    for message in limited.jobs.Watch(request, timeout=CALL_S):
        messages.append(message)
        if message.HasField("snapshots_complete"):
            secured.root.cancel(own)
    assert {item.removed.job_id for item in messages if item.HasField("removed")} == {theirs, none}
    assert [item.snapshot.job.id for item in messages if item.HasField("snapshot")] == [own]
    assert messages[-1].lifecycle.type == job_service_pb2.JOB_EVENT_TYPE_CANCELLED


def test_cancel_and_retry_of_anothers_job_do_nothing(secured, limited, bob):
    waiting, over = secured.root.enqueue(unique("ada")), secured.root.enqueue(unique("ada"))
    secured.root.cancel(over)
    before = [secured.root.get(id) for id in (waiting, over)]
    for id in (waiting, over):
        for call, request in ((limited.jobs.Cancel, cancel(id)), (limited.jobs.Retry, retry(id))):
            with pytest.raises(grpc.RpcError) as error:
                call(request, timeout=CALL_S)
            assert error.value.code() is grpc.StatusCode.NOT_FOUND
    assert [secured.root.get(id) for id in (waiting, over)] == before


def test_an_id_that_another_has_taken(secured, limited, bob):
    """That it is taken has to be said; what it is taken for is not, whatever is guessed."""
    id, user = missing(), unique("ada")
    secured.root.enqueue(user, "test.echo", "secret", job_id=id)
    seen = []
    for kind, payload in (("test.echo", "secret"), ("test.echo", "wrong"), ("test.noop", None)):
        with pytest.raises(grpc.RpcError) as error:
            limited.enqueue(bob, kind, payload, job_id=id)
        assert error.value.code() is grpc.StatusCode.ALREADY_EXISTS
        seen.append((error.value.details(), error.value.trailing_metadata()))
    assert seen[0] == seen[1] == seen[2]
    assert secured.root.get(id).user_id == user


def test_a_key_is_ones_own(secured, limited, bob):
    """An idempotency key of another user is as good as new."""
    ada, key = unique("ada"), unique("key")
    theirs = secured.root.enqueue(ada, "test.echo", 1, idempotency_key=key)
    own = limited.enqueue(bob, "test.echo", 1, idempotency_key=key)
    assert own != theirs
    assert limited.enqueue(bob, "test.echo", 1, idempotency_key=key) == own


# Lists


def pages(caller: Somebody, page_size: int = 0, **filters: Any) -> Iterator[list[job_pb2.Job]]:
    token = ""
    while True:
        page = caller.jobs.ListJobs(
            job_service_pb2.ListJobsRequest(filter=filters, page_size=page_size, page_token=token), timeout=CALL_S
        )
        yield list(page.jobs)
        if not (token := page.next_page_token):
            return


class Traffic:
    """Somebody who enqueues for many users until it is told to stop."""

    def __init__(self, caller: Somebody, users: list[str], queue: str, kind: str, payload: object) -> None:
        self._is_over = threading.Event()
        self.count = 0
        self._lock = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=(caller, users, queue, kind, payload))
        self._thread.start()

    def _run(self, caller: Somebody, users: list[str], queue: str, kind: str, payload: object) -> None:
        while not self._is_over.is_set():
            for user in users:
                caller.enqueue(user, kind, payload, queue=queue, now=True)
            with self._lock:
                self.count += 1
                self._lock.notify_all()

    def go_on(self, rounds: int = 1) -> None:
        """Waits until it has gone on by so much."""
        with self._lock:
            wanted = self.count + rounds
            assert self._lock.wait_for(lambda: self.count >= wanted, CALL_S)

    def __enter__(self) -> Traffic:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(CALL_S)
        assert not self._thread.is_alive()


def test_pages_with_others_in_between(secured, limited, bob):
    """Others' jobs lie between one's own, and more come while the pages are read."""
    queue, others = unique("queue"), [unique("other") for _ in range(3)]
    own = []
    for n in range(60):
        for user in (*others, bob):
            id = secured.root.enqueue(user, "test.noop", queue=queue, now=n % 2 == 0)
            if user == bob:
                own.append(id)
    for size, filters in ((7, {}), (7, {"queue": queue}), (100, {"queue": queue}), (1, {"user_id": bob})):
        with Traffic(secured.root, others, queue, "test.noop", None) as traffic:
            found = []
            for page in pages(limited, page_size=size, **filters):
                assert len(page) <= size
                found += page
                traffic.go_on()
        assert [job.id for job in found] == own[::-1], filters
        assert {job.user_id for job in found} == {bob}
    everything = {job.user_id for page in pages(secured.root, queue=queue, page_size=1_000) for job in page}
    assert everything == {bob, *others}


def test_pages_of_a_caller_for_several_users(secured):
    queue, users, other = unique("queue"), [unique("one"), unique("two")], unique("other")
    caller = secured.caller("both", READ, users=users)
    ids = [secured.root.enqueue(user, queue=queue) for _ in range(20) for user in (*users, other)]
    wanted = [id for n, id in enumerate(ids) if n % 3 != 2]
    for filters in ({}, {"queue": queue}):
        found = [job.id for page in pages(caller, page_size=6, **filters) for job in page]
        assert found == wanted[::-1]
    one = [job for page in pages(caller, user_id=users[0]) for job in page]
    assert [job.id for job in one] == ids[::3][::-1]


def test_a_page_token_of_somebody_else(secured, limited, bob):
    """A page token is valid only for the caller that received it."""
    queue = unique("queue")
    own = []
    for user in (bob, unique("ada"), bob, unique("ada"), bob, unique("ada")):
        id = secured.root.enqueue(user, queue=queue)
        if user == bob:
            own.append(id)
    request = job_service_pb2.ListJobsRequest(filter={"queue": queue}, page_size=2)
    request.page_token = secured.root.jobs.ListJobs(request, timeout=CALL_S).next_page_token
    assert request.page_token
    with pytest.raises(grpc.RpcError) as caught:
        limited.jobs.ListJobs(request, timeout=CALL_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith("page_token ")
    request.page_token = ""
    page = limited.jobs.ListJobs(request, timeout=CALL_S)
    assert [job.id for job in page.jobs] == own[:0:-1]
    request.page_token = page.next_page_token
    page = limited.jobs.ListJobs(request, timeout=CALL_S)
    assert [job.id for job in page.jobs] == own[:1] and not page.next_page_token


def test_a_caller_for_nobody(secured):
    caller = secured.caller(unique("nobody"), READ, ADMIN, users=[])
    queue = unique("queue")
    secured.root.enqueue(unique("ada"), queue=queue)
    for filters in ({}, {"queue": queue}):
        assert not [job for page in pages(caller, page_size=1_000, **filters) for job in page]
    watched = caller.watch(queue=queue)
    assert not watched.said
    watched.close()


# Watches


@pytest.mark.parametrize("is_running_already", [False, True], ids=["before", "while"])
def test_a_watch_of_a_queue(secured, is_running_already):
    """Of the caller's users, from the first snapshot to the last event; all of it, and nothing else."""
    queue, users = unique("queue"), [unique("one"), unique("two")]
    others = [unique("other") for _ in range(3)]
    caller = secured.caller("both", READ, users=users)
    before = {secured.root.enqueue(user, queue=queue): user for user in (*users, *others)}
    own = {id for id, user in before.items() if user in users}
    payload = {"ms": 30, "steps": 3}

    def observe() -> None:
        watched = caller.watch(queue=queue)
        if not is_running_already:
            assert watched.jobs == own
        for _ in range(10):
            for user in users:
                secured.root.enqueue(user, "test.sleep", payload, queue=queue, now=True)
        last = secured.root.enqueue(users[0], "test.sleep", payload, queue=queue, now=True, priority=-100)
        watched.until_event("SUCCEEDED", last)
        watched.close()
        assert watched.users == set(users)
        everything = [job for page in pages(secured.root, queue=queue, page_size=1_000) for job in page]
        assert own <= watched.jobs == {job.id for job in everything if job.user_id in users}
        kinds = {item.WhichOneof("event") for item in watched.said}
        assert kinds >= {"snapshot", "lifecycle", "progress"}

    if is_running_already:
        with Traffic(secured.root, others, queue, "test.sleep", payload) as traffic:
            traffic.go_on(3)
            observe()
            traffic.go_on()
    else:
        with ThreadPoolExecutor(1) as pool:
            noise = pool.submit(
                lambda: [
                    secured.root.enqueue(user, "test.sleep", payload, queue=queue, now=True)
                    for _ in range(20)
                    for user in others
                ]
            )
            observe()
            noise.result(CALL_S)
    # There was something to be told of.
    seen = secured.root.watch(queue=queue)
    seen.close()
    assert seen.users >= {*others}


def test_a_watch_of_a_queue_by_itself(secured, limited, bob):
    queue = unique("queue")
    watched = limited.watch(queue=queue)
    for _ in range(5):
        secured.root.enqueue(unique("ada"), queue=queue)
        own = secured.root.enqueue(bob, queue=queue)
        watched.until_event("ENQUEUED", own)
    assert [item.lifecycle.user_id for item in watched.said] == [bob] * 5
    watched.close()


# Nodes


def test_nodes_name_the_jobs_that_one_may_see(secured, bob):
    """How many run is no secret of an administrator; which ones is, but one's own."""
    ada = unique("ada")
    payload = {"ms": 60_000, "steps": 600}
    ids = [secured.root.enqueue(user, "test.sleep", payload, now=True) for user in (ada, bob)]
    for id in ids:
        watched = secured.root.watch(job=id)
        if secured.root.get(id).state != job_pb2.JOB_STATE_RUNNING:
            watched.until_event("STARTED", id)
        watched.close()
    named = {}
    for name, caller in (("root", secured.root), ("bob", secured.caller(bob, ADMIN))):
        nodes = caller.admin.ListNodes(admin_service_pb2.ListNodesRequest(), timeout=CALL_S).nodes
        named[name] = {id for node in nodes for id in node.running_job_ids}
        assert sum(node.running for node in nodes) >= 2
    assert named["root"] >= set(ids)
    assert named["bob"] == {ids[1]}
    for id in ids:
        secured.root.cancel(id)


@pytest.mark.parametrize("is_admin", [False, True])
def test_which_node_runs_a_job_is_for_administrators(secured, is_admin):
    """Its name may tell of machines and processes."""
    user = unique("ada")
    caller = secured.caller(user, READ, *([ADMIN] if is_admin else []))
    node = secured.server.name if is_admin else ""
    watched = caller.watch(user_id=user)
    id = secured.root.enqueue(user, "test.noop", now=True)
    watched.until_event("SUCCEEDED", id)
    watched.close()
    again = caller.jobs.Watch(
        job_service_pb2.WatchRequest(jobs=[{"job_id": id, "after_sequence": 1}]), timeout=CALL_S
    )
    for events in (watched.said, list(again)):
        told = {item.lifecycle.type: item.lifecycle.node for item in events if item.HasField("lifecycle")}
        assert told.pop(job_service_pb2.JOB_EVENT_TYPE_ENQUEUED, "") == ""
        assert set(told.values()) == {node} and len(told) == 2
    assert [attempt.node for attempt in caller.get(id).attempts] == [node]


# What is told of a user's own jobs


def test_results_are_for_those_who_may_read(secured, bob, limited):
    """A job that is there, or over, is the answer to calls that need another scope; its result is not."""
    token = secured.tokens.add(unique("writer"), ENQUEUE, CANCEL, users=[bob])
    secured.tokens.write()
    writer = secured.somebody(token)
    secured.wait_until_known(writer)
    echo = {"kind": "test.echo", "payload": {"said": "secret"}, "idempotency_key": "once", "now": True}
    job = limited.enqueue(bob, **echo)
    limited.watch(job=job).end()
    assert b"secret" in limited.get(job).result.data

    assert writer.cancel(job).id == writer.enqueue(bob, **echo) == job
    spec = job_pb2.JobSpec(
        kind="test.echo", user_id=bob, payload=b'{"said": "secret"}', idempotency_key="once"
    )
    for caller, sees in [(limited, True), (writer, False)]:
        again = caller.jobs.Enqueue(job_service_pb2.EnqueueRequest(job=spec), timeout=CALL_S)
        assert not again.created and again.job.id == job
        for answer in again.job, caller.cancel(job):
            assert answer.HasField("result") == sees
            assert (b"secret" in answer.SerializeToString()) == sees
