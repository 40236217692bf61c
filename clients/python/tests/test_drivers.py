"""Both clients against a scripted service in this process: lost connections, resumption, retries."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from test_watch import complete, event, opened, snapshot

import signalbox
import signalbox.aio
from signalbox import JobEvent, JobState, SnapshotsComplete
from signalbox._backoff import Backoff
from signalbox.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED = 1, 2, 3, 4, 5


class Script(job_service_pb2_grpc.JobServiceServicer):
    """Answers each call of a method with the next entry of its list: messages, then how the stream ends."""

    def __init__(self) -> None:
        self.watches: list = []
        self.gets: list = []
        self.pages: list = []
        self.requests: list = []
        #: Set when the service has seen the end of the last watch's call.
        self.is_over = threading.Event()

    def Watch(self, request, context):
        self.is_over = is_over = threading.Event()
        # Before the first message: of a call that is cancelled after one, grpc may never ask for the next. One that
        # was cancelled before this takes no callback any more.
        if not context.add_callback(is_over.set):
            is_over.set()
        self.requests.append(request)
        messages, end = self.watches.pop(0)
        yield from messages
        if end == "stay":
            is_over.wait(10)
        elif end is not None:
            context.abort(end, "as the script says")

    def GetJob(self, request, context):
        self.requests.append(request)
        answer = self.gets.pop(0)
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "as the script says")
        return job_service_pb2.GetJobResponse(job=answer)

    def Retry(self, request, context):
        return job_service_pb2.RetryResponse(job=self.GetJob(request, context).job)

    def ListAttempts(self, request, context):
        self.requests.append(request)
        return self.pages.pop(0)

    def ListLogLines(self, request, context):
        return self.ListAttempts(request, context)


@pytest.fixture
def script() -> Iterator[tuple[Script, str]]:
    script = Script()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    job_service_pb2_grpc.add_JobServiceServicer_to_server(script, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield script, f"127.0.0.1:{port}"
    server.stop(None).wait()


def collect(how: str, target: str, *ids: str, **options) -> list:
    """Every item of a watch that ends by itself."""
    if how == "blocking":
        with signalbox.Client(target) as client, client.watch(ids or None, timeout=20, **options) as watch:
            return list(watch)

    async def run() -> list:
        async with signalbox.aio.Client(target) as client:
            async with client.watch(ids or None, timeout=20, **options) as watch:
                return [item async for item in watch]

    return asyncio.run(run())


both = pytest.mark.parametrize("how", ["blocking", "asyncio"])


@both
def test_a_watch_survives_lost_connections(how, script):
    service, target = script
    lost = grpc.StatusCode.UNAVAILABLE
    service.watches = [
        (
            [
                *(snapshot("a", 1), snapshot("b", 3, SUCCEEDED)),
                *(event("b", 3, SUCCEEDED), complete(), event("a", 2, RUNNING)),
            ],
            lost,
        ),
        ([], grpc.StatusCode.INTERNAL),
        ([event("a", 3), complete()], None),
        # A gap, which a service never leaves.
        ([complete(), event("a", 5, SUCCEEDED)], "stay"),
        ([event("a", 4, RUNNING), event("a", 5, SUCCEEDED), complete()], None),
    ]
    items = collect(how, target, "a", "b")
    assert [item.sequence for item in items if isinstance(item, JobEvent)] == [3, 2, 3, 4, 5]
    assert sum(isinstance(item, SnapshotsComplete) for item in items) == 1
    after = [{job.job_id: job.after_sequence for job in request.jobs} for request in service.requests]
    assert after == [{"a": 0, "b": 0}] + [{"a": 2}] * 2 + [{"a": 3}] * 2


@both
def test_a_users_watch_fetches_what_it_missed(how, script):
    service, target = script
    service.watches = [
        ([snapshot("a", 1), snapshot("b", 1), complete()], grpc.StatusCode.UNAVAILABLE),
        ([snapshot("a", 2, RUNNING), complete()], grpc.StatusCode.PERMISSION_DENIED),
        # The fill stays open, because a still runs.
        ([event("a", 2, RUNNING), event("b", 2, RUNNING), event("b", 3, SUCCEEDED), complete()], "stay"),
    ]
    with pytest.raises(signalbox.PermissionDenied):
        collect(how, target, user_id="u")
    assert {job.job_id: job.after_sequence for job in service.requests[2].jobs} == {"a": 1, "b": 1}
    assert not service.watches


def test_entering_a_watch_connects_and_iterating_goes_on_with_that_stream(script):
    service, target = script
    service.watches = [([snapshot("a", 1), complete(), event("a", 2, SUCCEEDED)], None)]
    with signalbox.Client(target) as client:
        watch = client.watch("a", timeout=20)
        assert not service.requests
        with watch:
            assert len(service.requests) == 1
            assert [type(item).__name__ for item in watch] == ["Snapshot", "SnapshotsComplete", "JobEvent"]


async def test_entering_a_watch_connects_for_asyncio_too(script):
    service, target = script
    service.watches = [([snapshot("a", 1), complete(), event("a", 2, SUCCEEDED)], None)]
    async with signalbox.aio.Client(target) as client:
        watch = client.watch("a", timeout=20)
        assert not service.requests
        async with watch:
            assert len(service.requests) == 1
            assert [type(item).__name__ async for item in watch] == [
                "Snapshot",
                "SnapshotsComplete",
                "JobEvent",
            ]


@both
def test_an_unknown_job_is_an_error_at_once(how, script):
    service, target = script
    service.watches = [([], grpc.StatusCode.NOT_FOUND)]
    with pytest.raises(signalbox.NotFound):
        collect(how, target, "a")


@both
def test_a_watch_has_a_deadline(how, script):
    service, target = script
    service.watches = [([snapshot("a", 1)], "stay")]
    with pytest.raises(signalbox.DeadlineExceeded):
        if how == "blocking":
            with signalbox.Client(target) as client:
                client.wait("a", timeout=0.3)
        else:

            async def run() -> None:
                async with signalbox.aio.Client(target) as client:
                    await client.wait("a", timeout=0.3)

            asyncio.run(run())


@both
def test_reads_are_repeated_and_retry_only_with_the_expected_sequence(how, script):
    service, target = script
    lost = grpc.StatusCode.UNAVAILABLE
    final, pending = job_pb2.Job(id="a", state=SUCCEEDED), job_pb2.Job(id="a", state=PENDING)
    service.gets = [lost, lost, final, lost, lost, pending, grpc.StatusCode.ABORTED]
    if how == "blocking":
        with signalbox.Client(target) as client:
            assert client.get("a").state is JobState.SUCCEEDED
            with pytest.raises(signalbox.Unavailable):
                client.retry("a")
            assert client.retry("a", expected_sequence=3).state is JobState.PENDING
            with pytest.raises(signalbox.Aborted):
                client.retry("a", expected_sequence=3)
    else:

        async def run() -> None:
            async with signalbox.aio.Client(target) as client:
                assert (await client.get("a")).state is JobState.SUCCEEDED
                with pytest.raises(signalbox.Unavailable):
                    await client.retry("a")
                assert (await client.retry("a", expected_sequence=3)).state is JobState.PENDING
                with pytest.raises(signalbox.Aborted):
                    await client.retry("a", expected_sequence=3)

        asyncio.run(run())
    assert not service.gets
    assert [request.expected_sequence for request in service.requests[3:]] == [0, 3, 3, 3]


def test_close_ends_the_iteration_from_another_thread(script):
    service, target = script
    service.watches = [([snapshot("a", 1)], "stay")]
    with signalbox.Client(target) as client:
        watch = client.watch("a", timeout=20)
        assert next(watch)
        with futures.ThreadPoolExecutor(1) as pool:
            rest = pool.submit(list, watch)
            watch.close()
            assert rest.result(timeout=10) == []
    assert service.is_over.wait(10), "the service sees the end"


async def test_close_ends_the_iteration_of_another_task(script):
    service, target = script
    service.watches = [([snapshot("a", 1)], "stay")]
    async with signalbox.aio.Client(target) as client:
        watch = client.watch("a", timeout=20)
        assert await anext(watch)

        async def drain() -> list:
            return [item async for item in watch]

        rest = asyncio.create_task(drain())
        await asyncio.sleep(0)
        await watch.close()
        assert await asyncio.wait_for(rest, 10) == []


async def test_close_ends_the_iteration_of_another_task_in_python_3_10_too(script):
    """In that version, a task cannot be asked whether it is being cancelled."""

    class OldTask(asyncio.Task):
        cancelling = property()

    asyncio.get_running_loop().set_task_factory(lambda loop, coro, **named: OldTask(coro, loop=loop, **named))
    await test_close_ends_the_iteration_of_another_task(script)


async def test_a_task_that_reads_can_be_cancelled(script):
    service, target = script
    service.watches = [([snapshot("a", 1)], "stay")]
    async with signalbox.aio.Client(target) as client:
        watch = client.watch("a", timeout=20)
        assert await anext(watch)
        reading = asyncio.create_task(watch.__anext__())
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(reading, 10)


@pytest.fixture
def waits(monkeypatch) -> threading.Event:
    """Watches wait for long before they connect again; set when one begins to."""
    begun = threading.Event()

    class LongBackoff(Backoff):
        def next_delay(self, error: signalbox.ServiceError | None = None) -> float:
            begun.set()
            return 20.0

    monkeypatch.setattr("signalbox._watch.Backoff", LongBackoff)
    return begun


whose = pytest.mark.parametrize("whose", ["watch", "client"])


@whose
def test_close_ends_a_watch_that_waits_to_connect_again(whose, script, waits):
    service, target = script
    service.watches = [([snapshot("a", 1)], grpc.StatusCode.UNAVAILABLE)]
    with signalbox.Client(target) as client, futures.ThreadPoolExecutor(1) as pool:
        watch = client.watch("a", timeout=60)
        items = pool.submit(list, watch)
        assert waits.wait(10)
        (watch if whose == "watch" else client).close()
        assert len(items.result(timeout=10)) == 1


@whose
async def test_close_ends_a_watch_that_waits_to_connect_again_for_asyncio_too(whose, script, waits):
    service, target = script
    service.watches = [([snapshot("a", 1)], grpc.StatusCode.UNAVAILABLE)]
    async with signalbox.aio.Client(target) as client:
        watch = client.watch("a", timeout=60)

        async def drain() -> list:
            return [item async for item in watch]

        items = asyncio.create_task(drain())
        assert await asyncio.to_thread(waits.wait, 10)
        await (watch if whose == "watch" else client).close()
        assert len(await asyncio.wait_for(items, 10)) == 1


def test_close_ends_a_watch_that_just_connects(script, monkeypatch):
    _, target = script
    client = signalbox.Client(target)
    connect = signalbox.Watch._open

    def close_and_connect(self, *arguments):
        client.close()
        return connect(self, *arguments)

    monkeypatch.setattr(signalbox.Watch, "_open", close_and_connect)
    assert list(client.watch("a", timeout=20)) == []


#: A user's watch that was cut early, and then has something to fetch as it tells that it has begun.
CUT_EARLY: list = [([snapshot("a", 1)], grpc.StatusCode.UNAVAILABLE), ([complete()], "stay")]


@whose
def test_a_watch_that_is_closed_fetches_nothing_any_more(whose, script):
    service, target = script
    service.watches = list(CUT_EARLY)
    with signalbox.Client(target) as client:
        watch = client.watch(user_id="u", timeout=20)
        for item in watch:
            if isinstance(item, SnapshotsComplete):
                (watch if whose == "watch" else client).close()
    assert len(service.requests) == 2


@whose
async def test_a_watch_that_is_closed_fetches_nothing_any_more_for_asyncio_too(whose, script):
    service, target = script
    service.watches = list(CUT_EARLY)
    async with signalbox.aio.Client(target) as client:
        watch = client.watch(user_id="u", timeout=20)
        async for item in watch:
            if isinstance(item, SnapshotsComplete):
                await (watch if whose == "watch" else client).close()
    assert len(service.requests) == 2


#: A watch whose server sends a heartbeat every 0.1 s, and falls silent; and the watch that goes on from there.
SILENT: list = [
    ([opened(interval_s=0.1), snapshot("a", 1), complete("t")], "stay"),
    ([opened(resumed=True), event("a", 2, SUCCEEDED), complete()], None),
]


def test_silence_is_the_end_of_a_connection(script):
    service, target = script
    service.watches = list(SILENT)
    items = collect("blocking", target, "a")
    assert [type(item).__name__ for item in items] == ["Snapshot", "SnapshotsComplete", "JobEvent"]
    assert [request.resume_token for request in service.requests] == ["", "t"]


async def test_silence_is_the_end_of_a_connection_for_asyncio_too(script):
    service, target = script
    service.watches = list(SILENT)
    async with signalbox.aio.Client(target) as client:
        items = [item async for item in client.watch("a", timeout=20)]
    assert [type(item).__name__ for item in items] == ["Snapshot", "SnapshotsComplete", "JobEvent"]
    assert [request.resume_token for request in service.requests] == ["", "t"]


@both
def test_a_watch_can_go_on_from_the_token_of_another(how, script):
    service, target = script
    service.watches = [([opened(resumed=True), complete("t2"), event("a", 7, SUCCEEDED)], None)]
    items = collect(how, target, "a", resume_token="t1")
    assert [type(item).__name__ for item in items] == ["SnapshotsComplete", "JobEvent"]
    assert [request.resume_token for request in service.requests] == ["t1"]


def test_the_token_of_a_watch(script):
    service, target = script
    service.watches = [([opened(), snapshot("a", 1), complete("t1"), event("a", 2, SUCCEEDED)], None)]
    with signalbox.Client(target) as client, client.watch("a", timeout=20) as watch:
        assert watch.resume_token == ""
        list(watch)
        assert watch.resume_token == "t1"


@both
def test_every_page_of_a_list(how, script):
    service, target = script
    service.pages = [
        job_service_pb2.ListAttemptsResponse(attempts=[{"number": 1}, {"number": 2}], next_page_token="p2"),
        job_service_pb2.ListAttemptsResponse(next_page_token="p3"),
        job_service_pb2.ListAttemptsResponse(attempts=[{"number": 3}]),
        job_service_pb2.ListLogLinesResponse(lines=[{"number": 4}], next_page_token="p2"),
        job_service_pb2.ListLogLinesResponse(lines=[{"number": 5}]),
    ]
    if how == "blocking":
        with signalbox.Client(target) as client:
            numbers = [item.number for item in client.list_attempts("a", page_size=2)]
            lines = client.list_log_lines("a", after_line=3, min_level=signalbox.LogLevel.WARNING)
            numbers += [item.number for item in lines]
    else:

        async def run() -> list[int]:
            async with signalbox.aio.Client(target) as client:
                numbers = [item.number async for item in client.list_attempts("a", page_size=2)]
                lines = client.list_log_lines("a", after_line=3, min_level=signalbox.LogLevel.WARNING)
                return numbers + [item.number async for item in lines]

        numbers = asyncio.run(run())
    assert numbers == [1, 2, 3, 4, 5]
    assert [request.page_token for request in service.requests] == ["", "p2", "p3", "", "p2"]
    assert [request.page_size for request in service.requests[:3]] == [2, 2, 2]
    assert [(request.after_line, request.min_level) for request in service.requests[3:]] == [(3, 3)] * 2


@both
def test_a_list_ends_with_an_error_when_a_page_names_itself_as_the_next(how, script):
    service, target = script
    service.pages = [job_service_pb2.ListAttemptsResponse(next_page_token="p2") for _ in range(3)]
    with pytest.raises(signalbox.ServiceError, match="same page"):
        if how == "blocking":
            with signalbox.Client(target) as client:
                list(client.list_attempts("a"))
        else:

            async def run() -> None:
                async with signalbox.aio.Client(target) as client:
                    async for _ in client.list_attempts("a"):
                        pass

            asyncio.run(run())
    assert [request.page_token for request in service.requests] == ["", "p2"]


def test_what_a_final_job_gives(script):
    service, target = script
    result = job_pb2.JobResult(data=b'{"x":1}', content_type="application/json; charset=utf-8")
    raw = job_pb2.JobResult(data=b"\x00", content_type="audio/mpeg")
    service.watches = [
        ([snapshot("a", 3, state), event("a", 3, state), complete()], None)
        for state in [SUCCEEDED] * 3 + [FAILED, CANCELLED]
    ]
    service.gets = [
        job_pb2.Job(id="a", state=SUCCEEDED, result=result),
        job_pb2.Job(id="a", state=SUCCEEDED, result=raw),
        job_pb2.Job(id="a", state=SUCCEEDED),
        job_pb2.Job(id="a", state=FAILED, error=job_pb2.JobError(cause=job_pb2.FAILURE_CAUSE_TIMEOUT, message="too slow")),
        job_pb2.Job(id="a", state=CANCELLED),
    ]
    with signalbox.Client(target) as client:
        assert client.result("a") == {"x": 1}
        assert client.result("a") == b"\x00"
        assert client.result("a") is None
        with pytest.raises(signalbox.JobFailed, match="timeout: too slow"):
            client.result("a")
        with pytest.raises(signalbox.JobCancelled):
            client.result("a")
