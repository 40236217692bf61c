"""The audit: one row for each change, with who made it, what it was and from where; no row for all else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import pytest
from access import ADMIN, CALL_S, CANCEL, ENQUEUE, LATER, READ, Secured, closing, missing
from authority import Authority
from frames import Connection, message
from google.protobuf.message import Message
from harness import Api, Cluster, Server, unique
from signalbox.v1 import admin_service_pb2, job_pb2, job_service_pb2
from wire import JOBS, Code

ADMINISTRATION = "/signalbox.v1.AdminService/"


@pytest.fixture(scope="module")
def secured(cluster: Cluster) -> Iterator[Secured]:
    yield from closing(Secured(cluster, name="audit"))


@dataclass
class Line:
    caller: str
    action: str
    job: str
    queue: str
    user: str
    address: str


class Actor:
    """Somebody of whom there is nothing in the audit yet, on a connection whose address is known."""

    def __init__(self, secured: Secured, *, is_last: bool = True) -> None:
        """Of several, the last one waits until the server knows all."""
        self._secured = secured
        self.name = unique("actor")
        self.user = unique("ada")
        scopes = (ENQUEUE, READ, CANCEL, ADMIN)
        token = secured.tokens.add(self.name, *scopes, users=[self.user])
        if is_last:
            secured.tokens.write()
            secured.wait_until_known(secured.somebody(token))
        self._field = ("authorization", f"Bearer {token}")
        self._peer = Connection.open(secured.address)
        host, port = self._peer.socket.getsockname()
        self.address = f"{host}:{port}"

    def call(self, path: str, request: Message, code: Code = Code.OK) -> bytes:
        answer = self._peer.call(path, request.SerializeToString(), self._field)
        assert answer.grpc_status == code, f"{answer}"
        return answer.messages[0][1] if answer.messages else b""

    def spec(self, **changes) -> job_pb2.JobSpec:
        return job_pb2.JobSpec(**{"kind": "test.noop", "user_id": self.user, "delay": LATER, **changes})

    def enqueue(self, code: Code = Code.OK, **changes) -> str:
        request = job_service_pb2.EnqueueRequest(job=self.spec(**changes))
        return job_service_pb2.EnqueueResponse.FromString(self.call(JOBS + "Enqueue", request, code)).job.id

    def begin_to_enqueue(self, **changes) -> int:
        """Without waiting for the answer."""
        request = job_service_pb2.EnqueueRequest(job=self.spec(**changes))
        return self._peer.request(JOBS + "Enqueue", message(request.SerializeToString()), self._field)

    def enqueued(self, stream: int) -> str:
        answer = self._peer.answer(stream, settle=False)
        assert answer.grpc_status == Code.OK, f"{answer}"
        return job_service_pb2.EnqueueResponse.FromString(answer.messages[0][1]).job.id

    def batch(self, *specs: job_pb2.JobSpec, code: Code = Code.OK) -> list[str]:
        request = job_service_pb2.EnqueueBatchRequest(jobs=specs)
        answer = self.call(JOBS + "EnqueueBatch", request, code)
        return [job.job_id for job in job_service_pb2.EnqueueBatchResponse.FromString(answer).jobs]

    def cancel(self, job: str, code: Code = Code.OK) -> None:
        self.call(JOBS + "Cancel", job_service_pb2.CancelRequest(job_id=job), code)

    def retry(self, job: str, code: Code = Code.OK) -> None:
        self.call(JOBS + "Retry", job_service_pb2.RetryRequest(job_id=job), code)

    def pause(self, queue: str, code: Code = Code.OK) -> None:
        self.call(ADMINISTRATION + "PauseQueue", admin_service_pb2.PauseQueueRequest(queue=queue), code)

    def resume(self, queue: str, code: Code = Code.OK) -> None:
        self.call(ADMINISTRATION + "ResumeQueue", admin_service_pb2.ResumeQueueRequest(queue=queue), code)

    def limit(self, queue: str, limit: int | None, user: str = "", code: Code = Code.OK) -> None:
        """None removes the user's own limit."""
        change = admin_service_pb2.UserLimit(user_id=user or self.user, queue=queue, max_running=limit)
        mask = {"paths": ["max_running"]}
        request = admin_service_pb2.UpdateUserLimitRequest(limit=change, update_mask=mask)
        self.call(ADMINISTRATION + "UpdateUserLimit", request, code)

    def lines(self) -> list[Line]:
        """Of this caller, oldest first."""
        rows = self._secured.query(
            "SELECT caller, action, coalesce(job::text, ''), coalesce(queue, ''), coalesce(user_id, ''),"
            f" address FROM audit WHERE caller = '{self.name}' ORDER BY at"
        )
        return [Line(*row.split("|")) for row in rows.splitlines()]

    def of_jobs(self, action: str, *jobs: str) -> list[Line]:
        """What there has to be."""
        return [Line(self.name, action, job, "", "", self.address) for job in jobs]

    def close(self) -> None:
        self._peer.close()


@pytest.fixture
def actor(secured: Secured) -> Iterator[Actor]:
    yield from closing(Actor(secured))


def test_one_row_for_each_change(actor):
    queue = unique("queue")
    job = actor.enqueue()
    wanted = actor.of_jobs("enqueue", job)
    assert actor.lines() == wanted
    actor.cancel(job)
    wanted += actor.of_jobs("cancel", job)
    assert actor.lines() == wanted
    actor.retry(job)
    wanted += actor.of_jobs("retry", job)
    assert actor.lines() == wanted
    for action, change in (("pause_queue", actor.pause), ("resume_queue", actor.resume)):
        change(queue)
        wanted.append(Line(actor.name, action, "", queue, "", actor.address))
        assert actor.lines() == wanted
    for limit in (7, None):
        actor.limit(queue, limit)
        wanted.append(Line(actor.name, "set_user_limit", "", queue, actor.user, actor.address))
        assert actor.lines() == wanted


def test_a_batch_has_a_row_for_each_job(actor):
    jobs = actor.batch(*(actor.spec() for _ in range(50)))
    found = actor.lines()
    assert sorted(line.job for line in found) == sorted(jobs)
    assert {(line.caller, line.action, line.address) for line in found} == {
        (actor.name, "enqueue", actor.address)
    }


def test_a_running_job_is_cancelled_once(secured, actor):
    job = actor.enqueue(kind="test.sleep", payload=b'{"ms": 60000, "steps": 600}', delay={})
    watch = secured.root.watch(job=job)
    if secured.root.get(job).state != job_pb2.JOB_STATE_RUNNING:
        watch.until_event("STARTED", job)
    actor.cancel(job)
    actor.cancel(job)
    assert watch.end()[0] is grpc.StatusCode.OK
    actor.cancel(job)
    assert actor.lines() == [*actor.of_jobs("enqueue", job), *actor.of_jobs("cancel", job)]


def test_what_the_service_does_by_itself_is_nobodys_change(secured, actor):
    """A run, its failures, its retries by the policy."""
    before = int(secured.query("SELECT count(*) FROM audit"))
    policy = {"initial_delay": {"nanos": 1_000_000}}
    job = actor.enqueue(kind="test.fail", payload=b'{"times": 2}', delay={}, retry_policy=policy)
    assert secured.root.watch(job=job).end()[0] is grpc.StatusCode.OK
    assert secured.root.get(job).state == job_pb2.JOB_STATE_SUCCEEDED
    assert actor.lines() == actor.of_jobs("enqueue", job)
    assert int(secured.query("SELECT count(*) FROM audit")) == before + 1


def test_what_was_there_before_is_no_change(actor):
    key, id = unique("key"), missing()
    first, second = actor.enqueue(idempotency_key=key), actor.enqueue(job_id=id)
    wanted = [*actor.of_jobs("enqueue", first), *actor.of_jobs("enqueue", second)]
    assert actor.lines() == wanted
    assert actor.enqueue(idempotency_key=key) == first
    assert actor.enqueue(job_id=id) == second
    assert actor.batch(actor.spec(idempotency_key=key), actor.spec(job_id=id)) == [first, second]
    assert actor.lines() == wanted
    # Of a batch, what is new.
    *_, new = actor.batch(actor.spec(idempotency_key=key), actor.spec(job_id=id), actor.spec())
    wanted += actor.of_jobs("enqueue", new)
    assert actor.lines() == wanted
    # And of two that are the same in one batch, one.
    twin = actor.spec(idempotency_key=unique("twin"))
    first_twin, second_twin = actor.batch(twin, twin)
    assert first_twin == second_twin
    wanted += actor.of_jobs("enqueue", first_twin)
    assert actor.lines() == wanted
    actor.cancel(first)
    actor.cancel(first)
    wanted += actor.of_jobs("cancel", first)
    assert actor.lines() == wanted


def test_repeated_change_is_not_audited(actor):
    queue = unique("queue")
    for _ in range(2):
        actor.pause(queue)
        actor.limit(queue, 2)
    for _ in range(2):
        actor.resume(queue)
        actor.limit(queue, None)
    actions = [line.action for line in actor.lines()]
    assert actions == ["pause_queue", "set_user_limit", "resume_queue", "set_user_limit"]


def refusals(actor: Actor, secured: Secured) -> dict[str, Callable[[], object]]:
    """Calls that are refused, for every reason there is."""
    theirs = secured.root.enqueue(unique("other"))
    mine = secured.root.enqueue(actor.user)
    taken = missing()
    secured.root.enqueue(unique("other"), job_id=taken)
    stranger = unique("other")
    return {
        "another's job": lambda: actor.cancel(theirs, Code.NOT_FOUND),
        "another's job, again": lambda: actor.retry(theirs, Code.NOT_FOUND),
        "no job": lambda: actor.cancel(missing(), Code.NOT_FOUND),
        "no job, again": lambda: actor.retry(missing(), Code.NOT_FOUND),
        "another user": lambda: actor.enqueue(Code.PERMISSION_DENIED, user_id=stranger),
        "another user in a batch": lambda: actor.batch(
            actor.spec(), actor.spec(user_id=stranger), code=Code.PERMISSION_DENIED
        ),
        "another user's limit": lambda: actor.limit("q", 1, stranger, Code.PERMISSION_DENIED),
        "a wrong field": lambda: actor.enqueue(Code.INVALID_ARGUMENT, priority=1_000),
        "a wrong item": lambda: actor.batch(actor.spec(), actor.spec(kind="?"), code=Code.INVALID_ARGUMENT),
        "an unknown kind": lambda: actor.enqueue(Code.FAILED_PRECONDITION, kind="unknown"),
        "no name of a queue": lambda: actor.pause("", Code.INVALID_ARGUMENT),
        "a wrong limit": lambda: actor.limit("q", 1_000_000, code=Code.INVALID_ARGUMENT),
        "a state that does not allow it": lambda: actor.retry(mine, Code.FAILED_PRECONDITION),
        "an id that is taken": lambda: actor.enqueue(Code.ALREADY_EXISTS, job_id=taken),
        "an id that is taken, in a batch": lambda: actor.batch(
            actor.spec(), actor.spec(job_id=taken), code=Code.ALREADY_EXISTS
        ),
    }


def test_what_is_refused_is_no_change(secured, actor):
    calls = refusals(actor, secured)
    before = secured.query("SELECT count(*) FROM audit")
    for name, call in calls.items():
        call()
        assert actor.lines() == [], name
    assert secured.query("SELECT count(*) FROM audit") == before


def test_what_is_refused_for_want_of_a_scope_is_no_change(secured):
    reader = secured.caller("reader", READ, users="all")
    job = secured.root.enqueue("ada")
    before = secured.query("SELECT count(*) FROM audit")
    for caller in (reader, secured.somebody(), secured.somebody("unknown")):
        for call in (lambda caller=caller: caller.enqueue("ada"), lambda caller=caller: caller.cancel(job)):
            with pytest.raises(grpc.RpcError) as error:
                call()
            assert error.value.code() in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
    # Nor is reading.
    reader.get(job)
    list(reader.jobs.ListJobs(job_service_pb2.ListJobsRequest(), timeout=CALL_S).jobs)
    reader.watch(user_id="ada").close()
    assert secured.query("SELECT count(*) FROM audit") == before


def test_no_change_without_its_row(secured, actor):
    """The same transaction: while the audit takes nothing, nothing changes."""
    job, over = actor.enqueue(), actor.enqueue()
    actor.cancel(over)
    queue, paused = unique("queue"), unique("queue")
    actor.pause(paused)
    table = secured.query(
        "SELECT DISTINCT table_name FROM information_schema.view_table_usage"
        " WHERE view_name = 'audit' AND table_schema = 'public'"
    )
    before = actor.lines()
    state = "SELECT count(*), sum(sequence) FROM live UNION ALL SELECT count(*), sum(sequence) FROM finished"
    state += " UNION ALL SELECT count(*), 0 FROM job UNION ALL SELECT count(*), 0 FROM queue WHERE paused"
    state += " UNION ALL SELECT count(user_limit), 0 FROM lane"
    was = secured.query(state)
    assert table
    secured.query(f"ALTER TABLE {table} ADD CONSTRAINT full_up CHECK (false) NOT VALID")
    try:
        actor.enqueue(Code.INTERNAL)
        actor.batch(actor.spec(), actor.spec(), code=Code.INTERNAL)
        actor.cancel(job, Code.INTERNAL)
        actor.retry(over, Code.INTERNAL)
        actor.pause(queue, Code.INTERNAL)
        actor.resume(paused, Code.INTERNAL)
        actor.limit(queue, 9, code=Code.INTERNAL)
    finally:
        secured.query(f"ALTER TABLE {table} DROP CONSTRAINT full_up")
    assert secured.query(state) == was
    assert actor.lines() == before
    actor.cancel(job)
    assert actor.lines() == [*before, *actor.of_jobs("cancel", job)]


def test_many_callers_in_one_commit(secured):
    """Jobs that go to the database together have each its own caller."""
    actors = [Actor(secured, is_last=n == 7) for n in range(8)]
    try:
        streams = []
        for n in range(25):
            for actor in actors:
                streams.append((actor, actor.begin_to_enqueue(labels={"n": str(n)})))
        jobs: dict[str, list[str]] = {actor.name: [] for actor in actors}
        for actor, stream in streams:
            jobs[actor.name].append(actor.enqueued(stream))
        for actor in actors:
            found = actor.lines()
            assert sorted(line.job for line in found) == sorted(jobs[actor.name])
            assert {line.address for line in found} == {actor.address}
    finally:
        for actor in actors:
            actor.close()


RULES = """\
auth:
  certificates:
    - san: dns:importer.example.com
      name: the importer
      scopes: [jobs.enqueue]
      users: all
    - san: uri:spiffe://example.org/sa/*
      scopes: [jobs.enqueue]
      users: all
"""


def test_the_caller_is_named_as_its_credential_names_it(cluster, secured):
    """By a token's entry, the subject of a JWT, the rule of a certificate, or the certificate's own name."""
    authority = Authority()
    try:
        with Secured(cluster, url=secured.url, authority=authority, rules=RULES) as tls:
            jwt, other = unique("jwt"), authority.issue("dns:unknown")
            spiffe = f"spiffe://example.org/sa/{unique('s')}"
            callers = {
                "root": tls.somebody(tls.root_token, certificate=other),
                jwt: tls.somebody(tls.issuer.token(jwt, ENQUEUE, users="*"), certificate=other),
                "the importer": tls.somebody(certificate=authority.issue("dns:importer.example.com")),
                spiffe: tls.somebody(certificate=authority.issue("uri:" + spiffe)),
            }
            for name, caller in callers.items():
                job = caller.enqueue("ada")
                found = tls.query(f"SELECT caller, address FROM audit WHERE job = '{job}'").split("|")
                assert found[0] == name
                assert found[1].startswith("127.0.0.1:")
    finally:
        authority.close()


def test_the_same_name_by_different_credentials(cluster, secured):
    """Each row says by which of them its caller came, so none is taken for another, nor for the settings."""
    authority, name = Authority(), "settings"
    rules = RULES.replace("the importer", name)
    try:
        with Secured(cluster, url=secured.url, authority=authority, rules=rules) as tls:
            token, other = tls.tokens.add(name, ENQUEUE, users="all"), authority.issue("dns:unknown")
            tls.tokens.write()
            callers = {
                "token": tls.somebody(token, certificate=other),
                "jwt": tls.somebody(tls.issuer.token(name, ENQUEUE, users="*"), certificate=other),
                "certificate": tls.somebody(certificate=authority.issue("dns:importer.example.com")),
            }
            tls.wait_until_known(callers["token"])
            for source, caller in callers.items():
                job = caller.enqueue("ada")
                row = tls.query(f"SELECT caller, source FROM audit WHERE job = '{job}'")
                assert row == f"{name}|{source}"
    finally:
        authority.close()


def test_a_name_that_is_not_plain(secured):
    """It is kept as it is: letters of all kinds, quotes, and what looks like SQL."""
    names = ("Zoë 'the importer'", 'a "b" \\', "'; DROP TABLE job; --", "日本", "x" * 256)
    callers = {name: secured.somebody(secured.tokens.add(name, ENQUEUE, users="all")) for name in names}
    secured.tokens.write()
    secured.wait_until_known(callers[names[-1]])
    for name, caller in callers.items():
        job = caller.enqueue("ada")
        assert secured.query(f"SELECT caller FROM audit WHERE job = '{job}'") == name


def test_without_authentication(cluster):
    """Nobody was asked; from where is known all the same."""
    url = cluster.database()
    server = Server(url, name="open")
    api = Api(server.address)
    try:
        spec = job_pb2.JobSpec(kind="test.noop", user_id="ada", delay=LATER)
        job = api.jobs.Enqueue(job_service_pb2.EnqueueRequest(job=spec), timeout=CALL_S).job.id
        row = cluster.query(url, "SELECT caller, source, action, job, address FROM audit").split("|")
        assert row[:4] == ["", "none", "enqueue", job] and row[4].startswith("127.0.0.1:")
    finally:
        api.close()
        server.close()
