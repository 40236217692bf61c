"""GetJob and ListJobs: filters, order, pages."""

from __future__ import annotations

from datetime import timedelta

import pytest
import signalbox
from google.protobuf.duration_pb2 import Duration
from harness import unique
from signalbox import JobState, NewJob
from signalbox.v1 import job_pb2, job_service_pb2

FAR = timedelta(hours=1)


@pytest.fixture(scope="module")
def crowd(client) -> tuple[str, list[str], list[str]]:
    """A user, its 30 waiting jobs (two queues, two kinds, labels), its 3 final ones; in order of creation."""
    user = unique("crowd")
    waiting = [
        client.enqueue(
            "test.echo" if n % 3 else "test.noop",
            n,
            user_id=user,
            queue=f"{user}-{n % 2}",
            labels={"parity": str(n % 2), "third": str(n % 3)},
            delay=FAR,
        ).id
        for n in range(30)
    ]
    final = [client.enqueue("test.echo", n, user_id=user).id for n in range(3)]
    for id in final:
        client.wait(id, timeout=30)
    return user, waiting, final


def test_newest_first_over_all_pages(client, crowd):
    user, waiting, final = crowd
    expected = list(reversed(waiting + final))
    assert [job.id for job in client.list(user_id=user)] == expected
    for size in (1, 7, 33, 1_000):
        assert [job.id for job in client.list(user_id=user, page_size=size)] == expected


def test_a_page_is_no_larger_than_asked_for(client, crowd):
    page = client.list_page(user_id=crowd[0], page_size=7)
    assert len(page.jobs) <= 7 and page.next_page_token
    assert len(client.list_page(user_id=crowd[0], page_size=1_000).jobs) == 33


def test_a_page_is_no_larger_than_clients_accept(api, client):
    user = unique("large")
    labels = {f"{n:063}": "v" * 256 for n in range(32)}
    spec = job_pb2.JobSpec(kind="test.noop", user_id=user, labels=labels, delay=Duration(seconds=3600))
    ids = []
    for _ in range(3):
        batch = job_service_pb2.EnqueueBatchRequest(jobs=[spec] * 200)
        ids += [job.job_id for job in api.jobs.EnqueueBatch(batch, timeout=60).jobs]
    # By a channel with gRPC's own limit of 4 MiB; together they have 6.
    request = job_service_pb2.ListJobsRequest(filter={"user_id": user}, page_size=1_000)
    first = api.jobs.ListJobs(request, timeout=20)
    assert first.next_page_token and len(first.jobs) > 200
    assert [job.id for job in client.list(user_id=user, page_size=1_000)] == list(reversed(ids))


def test_each_filter(client, crowd):
    user, waiting, final = crowd
    every = list(reversed(waiting + final))

    def ids(**filters) -> list[str]:
        return [job.id for job in client.list(**filters, page_size=5)]

    def numbers(wanted) -> list[str]:
        return [waiting[n] for n in reversed(range(30)) if wanted(n)]

    assert ids(queue=f"{user}-1") == numbers(lambda n: n % 2 == 1)
    assert ids(user_id=user, queue=f"{user}-0") == numbers(lambda n: n % 2 == 0)
    assert ids(user_id=user, kinds="test.noop") == numbers(lambda n: n % 3 == 0)
    assert ids(user_id=user, labels={"parity": "1", "third": "2"}) == numbers(lambda n: n % 6 == 5)
    assert ids(user_id=user, labels={"parity": "9"}) == []
    assert ids(user_id=user, states=[JobState.SUCCEEDED]) == list(reversed(final))
    assert ids(user_id=user, states=[JobState.PENDING]) == list(reversed(waiting))
    assert ids(user_id=user, states=[JobState.PENDING, JobState.SUCCEEDED]) == every
    assert ids(user_id=user, states=[JobState.FAILED]) == []
    assert ids(user_id=user, queue=f"{user}-1", kinds=["test.echo", "test.other"], labels={"third": "1"}) == numbers(
        lambda n: n % 2 == 1 and n % 3 == 1
    )
    assert ids(user_id=unique()) == [] and ids(queue=unique()) == []


def test_by_time_of_creation(client, crowd):
    user, waiting, _ = crowd
    tenth, twentieth = client.get(waiting[10]), client.get(waiting[20])
    found = client.list(user_id=user, created_from=tenth.created_at, created_to=twentieth.created_at)
    assert [job.id for job in found] == list(reversed(waiting[10:20]))


def test_a_list_leaves_out_what_is_large(client, crowd):
    job = next(client.list(user_id=crowd[0], states=[JobState.SUCCEEDED]))
    assert job.state is JobState.SUCCEEDED and job.sequence == 3 and job.finished_at is not None
    assert job.result is None and job.attempts == () and job.payload == b"" and job.log == ()


def test_a_token_is_for_the_same_filters(client, crowd):
    user = crowd[0]
    token = client.list_page(user_id=user, page_size=5).next_page_token
    with pytest.raises(signalbox.InvalidArgument) as caught:
        client.list_page(user_id=user, kinds="test.echo", page_size=5, page_token=token)
    assert [violation.field for violation in caught.value.violations] == ["page_token"]
    # Another page size is no other filter.
    assert len(client.list_page(user_id=user, page_size=3, page_token=token).jobs) == 3


@pytest.mark.parametrize("at", [0, -1])
def test_a_token_that_was_changed_is_refused(client, crowd, at):
    token = client.list_page(user_id=crowd[0], page_size=5).next_page_token
    changed = list(token)
    changed[at] = "A" if changed[at] != "A" else "B"
    with pytest.raises(signalbox.InvalidArgument):
        client.list_page(user_id=crowd[0], page_size=5, page_token="".join(changed))


def test_jobs_that_are_enqueued_meanwhile_do_not_shift_the_pages(client):
    user = unique()
    client.enqueue_batch([NewJob("test.noop", user_id=user, delay=FAR) for _ in range(10)])
    first = client.list_page(user_id=user, page_size=4)
    client.enqueue_batch([NewJob("test.noop", user_id=user, delay=FAR) for _ in range(10)])
    rest, token = [], first.next_page_token
    while token:
        page = client.list_page(user_id=user, page_size=4, page_token=token)
        rest += page.jobs
        token = page.next_page_token
    assert len({job.id for job in (*first.jobs, *rest)}) == 10


def test_a_page_size_over_the_limit_is_cut(client, crowd):
    page = client.list_page(user_id=crowd[0], page_size=100_000)
    assert len(page.jobs) == 33 and not page.next_page_token


def test_the_payload_comes_only_when_asked_for(client, api, crowd):
    id = crowd[1][0]
    assert client.get(id).payload == b""
    assert client.get(id, include_payload=True).payload == b"0"
    request = job_service_pb2.GetJobRequest(job_id=id.upper())
    assert api.jobs.GetJob(request, timeout=20).job.id == id


def test_without_any_filter_it_lists_everything(api, crowd):
    request = job_service_pb2.ListJobsRequest(page_size=3)
    assert len(api.jobs.ListJobs(request, timeout=20).jobs) == 3
