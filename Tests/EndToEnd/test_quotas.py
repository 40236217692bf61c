"""Quotas of a user: what is over them is refused whole, and told when to come again."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta

import grpc
import pytest
from google.rpc import error_details_pb2
from harness import PATIENCE_S, Server, unique
from signalbox import NewJob, ResourceExhausted
from signalbox._errors import from_rpc_error
from signalbox.v1.job_service_pb2 import WatchedJob, WatchRequest
from signalbox.v1.job_service_pb2_grpc import JobServiceStub

QUEUE = "held"


@pytest.fixture
def start(cluster):
    """Starts servers of one database, whose queue `held` is paused."""
    url = cluster.database()
    with ExitStack() as stack:

        def start(*arguments: str, **options) -> object:
            server = Server(url, arguments=arguments, **options)
            stack.callback(server.close)
            client = stack.enter_context(server.client(timeout=20))
            client.pause(QUEUE)
            return client

        yield start


def enqueue(client, user, payload=None, **options):
    return client.enqueue("test.noop", payload, user_id=user, queue=QUEUE, **options)


def refusal(setting: str, user: str, body, *, ever: bool = True) -> ResourceExhausted:
    with pytest.raises(ResourceExhausted) as caught:
        body()
    error = caught.value
    assert setting in error.message
    quota = next(item for item in error.details if isinstance(item, error_details_pb2.QuotaFailure))
    assert [item.subject for item in quota.violations] == [f"user:{user}"]
    assert (error.retry_after is not None) == ever
    if ever:
        assert timedelta() < error.retry_after <= timedelta(seconds=1)
    return error


def test_jobs_that_wait_are_counted_over_all_nodes(start, user):
    setting = "max-pending-per-user"
    first, second = start(f"--{setting}", "5"), start(f"--{setting}", "5")
    for _ in range(3):
        enqueue(first, user)
    jobs = [NewJob("test.noop", user_id=user, queue=QUEUE)] * 2
    second.enqueue_batch(jobs)
    refusal(setting, user, lambda: enqueue(second, user))
    # What this one let in within a second the first may not know of: no more than that.
    with pytest.raises(ResourceExhausted):
        for _ in range(3):
            enqueue(first, user)
    waiting = len(list(first.list(user_id=user)))
    assert 5 <= waiting <= 7
    for client in (first, second):
        refusal(setting, user, lambda client=client: enqueue(client, user))
    assert len(list(first.list(user_id=user))) == waiting


def test_a_batch_is_all_or_nothing(start, user):
    setting = "max-pending-per-user"
    client = start(f"--{setting}", "5")
    other = unique()
    for _ in range(4):
        enqueue(client, user)
    batch = [NewJob("test.noop", user_id=name, queue=QUEUE) for name in (other, user, user)]
    refusal(setting, user, lambda: client.enqueue_batch(batch))
    assert list(client.list(user_id=other)) == []
    refusal(setting, other, lambda: client.enqueue_batch(batch[:1] * 6), ever=False)
    client.enqueue_batch(batch[:1] * 5)
    client.enqueue_batch(batch[1:2])
    assert len(list(client.list(user_id=other))) == len(list(client.list(user_id=user))) == 5


def test_room_is_given_back(start, user):
    client = start("--max-pending-per-user", "2")
    for _ in range(20):
        batch = client.enqueue_batch([NewJob("test.noop", user_id=user)] * 2)
        for item in batch:
            client.result(item.job_id, timeout=30)


def test_many_calls_at_once(start, user):
    client = start("--max-pending-per-user", "20")

    def try_to(_: int) -> bool:
        try:
            enqueue(client, user)
        except ResourceExhausted:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(try_to, range(100))) == 20
    assert len(list(client.list(user_id=user))) == 20


def test_bytes_of_payload(start, user):
    setting = "max-pending-payload-per-user"
    client = start(f"--{setting}", "100000")
    enqueue(client, user, bytes(60_000))
    refusal(setting, user, lambda: enqueue(client, user, bytes(60_000)))
    enqueue(client, user, bytes(40_000))
    refusal(setting, user, lambda: enqueue(client, user, b"x"))
    refusal(setting, user, lambda: enqueue(client, user, bytes(100_001)), ever=False)
    enqueue(client, unique(), bytes(60_000))


def test_jobs_a_second(start, user):
    setting = "enqueue-rate-per-user"
    client = start(f"--{setting}", "2", environment={"SIGNALBOX_MAX_PENDING_PER_USER": "1000"})
    job = NewJob("test.noop", user_id=user, queue=QUEUE)
    began, taken = time.monotonic(), 0

    def enqueue_on_and_on() -> None:
        """Two calls may be further apart than a second, but not all of them."""
        nonlocal taken
        while time.monotonic() < began + PATIENCE_S:
            client.enqueue_batch([job] * 2)
            taken += 2

    refusal(setting, user, enqueue_on_and_on)
    assert 2 <= taken <= 2 * (1 + time.monotonic() - began)
    refusal(setting, user, lambda: client.enqueue_batch([job] * 3), ever=False)
    enqueue(client, unique())


def test_open_watches(start, user):
    setting = "max-watches-per-user"
    client = start(f"--{setting}", "2")
    job = enqueue(client, user)

    def watch(**fields):
        """Waits for the first message."""
        stream = JobServiceStub(client.channel).Watch(WatchRequest(**fields), timeout=30)
        try:
            next(stream)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        return stream

    named = [WatchedJob(job_id=job.id)]
    open = [watch(filter={"user_id": user}), watch(jobs=named)]
    for fields in ({"filter": {"user_id": user}}, {"filter": {"user_id": user, "queue": QUEUE}}, {"jobs": named}):
        refusal(setting, user, lambda fields=fields: watch(**fields))
    # The watches of the client raise it too, and do not wait.
    refusal(setting, user, lambda: next(client.watch(user_id=user, timeout=30)))
    # A watch of a queue counts for no user, because the caller may act for all of them.
    for fields in ({"queue": QUEUE}, {"user_id": unique()}):
        for _ in range(2):
            open.append(watch(filter=fields))
    for stream in open:
        stream.cancel()


def test_off_unless_set(client, user):
    client.pause(QUEUE)
    client.enqueue_batch([NewJob("test.noop", user_id=user, queue=QUEUE)] * 10_000)
    for _ in range(20):
        enqueue(client, user)
    assert len(client.list_page(user_id=user, page_size=1000).jobs) == 1000
