"""What one user may have at most, whoever calls for it: RESOURCE_EXHAUSTED, and when to try again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from access import CALL_S, ENQUEUE, LATER, READ, Secured, Somebody, missing, reach
from google.rpc import error_details_pb2
from harness import Cluster, Server, detail_of, unique
from signalbox.v1 import job_pb2, job_service_pb2


class Limited(contextlib.ExitStack):
    """Servers with quotas, on one database."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster
        self.url = cluster.database()

    def start(self, *arguments: str) -> Somebody:
        """Everybody, for a server of its own that asks nobody who he is."""
        server = Server(self.url, arguments=arguments)
        self.callback(server.close)
        channel = grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])
        self.callback(channel.close)
        return Somebody(channel)


@pytest.fixture
def limited(cluster: Cluster) -> Iterator[Limited]:
    with Limited(cluster) as limited:
        yield limited


def batch(caller: Somebody, *specs: job_pb2.JobSpec) -> list[str]:
    request = job_service_pb2.EnqueueBatchRequest(jobs=specs)
    return [job.job_id for job in caller.jobs.EnqueueBatch(request, timeout=CALL_S).jobs]


def spec(user: str, payload: bytes = b"") -> job_pb2.JobSpec:
    return job_pb2.JobSpec(
        kind="test.noop", user_id=user, payload=payload, content_type="text/plain", delay=LATER
    )


def refused(call: Callable[[], object]) -> float | None:
    """How long to wait, in seconds; None: it would be in vain."""
    with pytest.raises(grpc.RpcError) as error:
        call()
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.value.details()
    found = detail_of(error.value, error_details_pb2.RetryInfo)
    if found is None:
        return None
    delay = found.retry_delay.ToTimedelta().total_seconds()
    assert 0 < delay <= 60
    return delay


def taken(call: Callable[[], object]) -> bool:
    """Whether a call that may be over a quota is not."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        return False
    return True


def test_off_unless_set(limited):
    caller, user = limited.start(), unique()
    assert len(batch(caller, *(spec(user, b"x" * 100) for _ in range(5_000)))) == 5_000
    # Of another, of whom there are no snapshots.
    other = unique()
    watches = [caller.watch(user_id=other) for _ in range(50)]
    for watch in watches:
        watch.close()


def test_pending_jobs(limited, cluster):
    caller, user, other = limited.start("--max-pending-per-user", "3"), unique("ada"), unique("bob")
    jobs = [caller.enqueue(user) for _ in range(3)]
    assert refused(lambda: caller.enqueue(user))
    delay = refused(lambda: caller.enqueue(user, queue="another"))
    assert delay
    assert refused(lambda: batch(caller, spec(user)))
    # Others have their own.
    for _ in range(3):
        caller.enqueue(other)
    assert refused(lambda: caller.enqueue(other))
    # One place for one that is gone, by when one was told to come again.
    caller.cancel(jobs[0])
    reach(lambda: taken(lambda: caller.enqueue(user)), delay + 1, "a place")
    assert refused(lambda: caller.enqueue(user))
    assert cluster.query(limited.url, f"SELECT count(*) FROM job WHERE user_id = '{user}'") == "4"


def test_a_batch_is_taken_whole_or_not(limited, cluster):
    caller, user, other = limited.start("--max-pending-per-user", "5"), unique("ada"), unique("bob")
    batch(caller, *(spec(user) for _ in range(3)))
    assert refused(lambda: batch(caller, *(spec(user) for _ in range(3))))
    # Also those of others in it.
    assert refused(lambda: batch(caller, spec(other), *(spec(user) for _ in range(3))))
    assert cluster.query(limited.url, "SELECT count(*) FROM job") == "3"
    batch(caller, spec(other), *(spec(user) for _ in range(2)))
    # More than there could ever be: no waiting helps.
    assert refused(lambda: batch(caller, *(spec("zoe") for _ in range(6)))) is None


def test_running_jobs_do_not_wait(limited):
    caller, user = limited.start("--max-pending-per-user", "2"), unique("ada")
    payload = {"ms": 60_000, "steps": 600}
    running = []
    for _ in range(2):
        job = caller.enqueue(user, "test.sleep", payload, now=True)
        watch = caller.watch(job=job)
        if caller.get(job).state != job_pb2.JOB_STATE_RUNNING:
            watch.until_event("STARTED", job)
        watch.close()
        running.append(job)
    for _ in range(2):
        caller.enqueue(user)
    assert refused(lambda: caller.enqueue(user))
    for job in running:
        caller.cancel(job)


def test_pending_jobs_over_all_nodes(limited):
    """Each node refuses what is over the quota together with the other's jobs, once it has heard of them."""
    first, second = (limited.start("--max-pending-per-user", "4") for _ in range(2))
    user = unique("ada")
    for _ in range(2):
        first.enqueue(user)
        second.enqueue(user)
    # What a node knows of the others is at most a second old; so is the excess that it lets in.
    extra = []

    def is_full(caller: Somebody) -> bool:
        try:
            extra.append(caller.enqueue(user))
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            return True
        return False

    for caller in (first, second):
        reach(lambda caller=caller: is_full(caller), 5, "a refusal")
    assert len(extra) <= 4, "no more than the quota again"
    for job in extra:
        first.cancel(job)
    assert refused(lambda: first.enqueue(user)) and refused(lambda: second.enqueue(user))


def test_what_is_refused_counts_for_nothing(limited):
    """Neither what is over the quota nor what is wrong for other reasons takes a place."""
    caller, user = limited.start("--max-pending-per-user", "3"), unique("ada")
    own = missing()
    caller.enqueue(user, job_id=own)
    for _ in range(5):
        with pytest.raises(grpc.RpcError) as error:
            caller.enqueue(user, priority=1_000)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caller.enqueue(user, job_id=own) == own
    caller.enqueue(user)
    caller.enqueue(user)
    for _ in range(5):
        assert refused(lambda: caller.enqueue(user))


def test_a_retry_puts_a_job_back(limited, cluster):
    """Among those that wait, so it needs a place too, and leaves the job as it was where there is none."""
    caller, user = limited.start("--max-pending-per-user", "1"), unique("ada")
    job = caller.enqueue(user)
    caller.cancel(job)
    reach(lambda: taken(lambda: caller.enqueue(user)), 5, "a place")
    retry = job_service_pb2.RetryRequest(job_id=job)
    assert refused(lambda: caller.jobs.Retry(retry, timeout=CALL_S))
    assert caller.get(job).state == job_pb2.JOB_STATE_CANCELLED
    assert cluster.query(limited.url, "SELECT count(*) FROM audit WHERE action = 'retry'") == "0"


def test_payload_bytes(limited):
    caller, user = limited.start("--max-pending-payload-per-user", "1000"), unique("ada")
    first = batch(caller, spec(user, b"x" * 600))[0]
    assert refused(lambda: batch(caller, spec(user, b"x" * 401)))
    batch(caller, spec(user, b"x" * 400))
    assert refused(lambda: batch(caller, spec(user, b"x")))
    # What has no payload costs nothing, and others have their own.
    batch(caller, spec(user))
    batch(caller, spec(unique("bob"), b"x" * 1_000))
    caller.cancel(first)
    reach(lambda: taken(lambda: batch(caller, spec(user, b"x" * 600))), 5, "room")
    assert refused(lambda: batch(caller, spec(user, b"x")))
    assert refused(lambda: batch(caller, spec(user, b"x" * 1_001))) is None


def test_the_rate_of_enqueueing(limited):
    """So many a second; who waits as long as he was told is let in."""
    caller, user = limited.start("--enqueue-rate-per-user", "2"), unique("ada")
    # Alone, so that nothing is held up between the two.
    caller.enqueue(unique("first"))
    began = time.monotonic()
    batch(caller, spec(user), spec(user))
    delay = refused(lambda: caller.enqueue(user))
    assert delay is not None and delay <= 0.5 + 0.01
    caller.enqueue(unique("bob"))
    took = reach(lambda: taken(lambda: caller.enqueue(user)), 5, "a place")
    assert time.monotonic() - began >= 0.5 - 0.01
    assert took <= delay + 1
    assert refused(lambda: batch(caller, *(spec("zoe") for _ in range(3)))) is None


def test_watches(limited):
    caller, user = limited.start("--max-watches-per-user", "2"), unique("ada")
    job = caller.enqueue(user)
    watches = [caller.watch(user_id=user), caller.watch(job=job)]
    assert refused(lambda: caller.watch(user_id=user))
    assert refused(lambda: caller.watch(user_id=user, queue="default"))
    assert refused(lambda: caller.watch(job=job))
    caller.watch(user_id=unique("bob")).close()
    # What is refused disturbs nobody.
    watches[0].until_event("ENQUEUED", caller.enqueue(user))

    def another() -> bool:
        return taken(lambda: watches.append(caller.watch(user_id=user)))

    # A place for one that is closed, and no more than that.
    watches.pop(0).close()
    reach(another, 5, "a place")
    assert refused(lambda: caller.watch(user_id=user))
    # One that ends by itself gives its place back too.
    watches.pop().close()
    for _ in range(5):
        over = caller.enqueue(user, now=True)
        reach(lambda over=over: taken(lambda: caller.watch(job=over).end()), 5, "a place")
    reach(another, 5, "a place")
    for watch in watches:
        watch.close()


def test_whoever_calls(cluster):
    """The quota is the user's: several callers share it, and one caller has that of each of its users."""
    quotas = ["--max-pending-per-user", "2", "--max-watches-per-user", "2"]
    with Secured(cluster, arguments=quotas) as secured:
        ada, bob = unique("ada"), unique("bob")
        itself = secured.caller(ada, ENQUEUE, READ)
        service = secured.caller("service", ENQUEUE, READ, users=[ada, bob])
        itself.enqueue(ada)
        service.enqueue(ada)
        for caller in (itself, service, secured.root):
            assert refused(lambda caller=caller: caller.enqueue(ada))
        service.enqueue(bob)

        watches = [itself.watch(user_id=ada), secured.root.watch(user_id=ada)]
        assert refused(lambda: itself.watch(user_id=ada))
        # A queue's watch of a limited caller is one of its users.
        assert refused(lambda: itself.watch(queue="default"))
        assert refused(lambda: service.watch(queue="default"))
        for watch in watches:
            watch.close()
        reach(lambda: taken(lambda: watches.append(service.watch(queue="default"))), 5, "a place")
        for watch in watches:
            watch.close()

        # Who may not act for a user learns nothing of its quota.
        stranger = secured.caller(unique("zoe"), ENQUEUE, READ)
        with pytest.raises(grpc.RpcError) as error:
            stranger.enqueue(ada)
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
