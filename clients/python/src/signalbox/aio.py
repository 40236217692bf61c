"""The client for asyncio: what signalbox.Client does, awaited."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from signalbox.v1 import (
    admin_service_pb2,
    admin_service_pb2_grpc,
    info_service_pb2,
    info_service_pb2_grpc,
    job_service_pb2,
    job_service_pb2_grpc,
)

from ._backoff import UnaryRetry
from ._channel import DEFAULT_TIMEOUT_S, channel_arguments
from ._client import result_of
from ._errors import Cancelled, DeadlineExceeded, ServiceError, from_rpc_error
from ._requests import check_page_token, job_spec, limit_request, list_request, watch_ids
from ._security import TLS, AsyncToken, Metadata, Security
from ._types import (
    Attempt,
    Enqueued,
    EnqueuedItem,
    Job,
    JobState,
    LogLevel,
    LogLine,
    NewJob,
    Node,
    Page,
    Queue,
    RetryPolicy,
    ServerInfo,
    UserLimit,
    WatchItem,
    attempt_from,
    enqueued_from,
    enqueued_item_from,
    job_from,
    log_line_from,
    node_from,
    queue_from,
    server_info_from,
    user_limit_from,
)
from ._watch import Next, WatchMachine, silence_error


class Client:
    """A connection to the service, for one event loop.

    `target` is a gRPC target: "host:port", or "ipv4:10.0.0.1:8080,10.0.0.2:8080" to name several nodes.
    `tls` is True, for a server whose certificate a public authority has signed, or a `TLS` that says more.
    `token` says who calls: a text, or a function (also a coroutine function) that is asked for one before each
    call and must not block. What it raises ends the call or the watch. `metadata` goes with every call as well.
    `timeout` is what a unary call may take in all, in seconds, retries included; each method takes its own.

    Raises ValueError for a token without TLS to another machine, where it could be read on the network,
    unless `insecure` is True.

    Calls are repeated after UNAVAILABLE, because that changes nothing twice; `retry` only with `expected_sequence`.
    """

    def __init__(
        self,
        target: str,
        *,
        token: AsyncToken | None = None,
        tls: bool | TLS = False,
        insecure: bool = False,
        metadata: Sequence[tuple[str, str | bytes]] = (),
        timeout: float = DEFAULT_TIMEOUT_S,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self._security = security = Security(target, token, tls, insecure, metadata)
        arguments = channel_arguments(options, security.options)
        if security.credentials is None:
            self.channel = grpc.aio.insecure_channel(target, options=arguments)
        else:
            self.channel = grpc.aio.secure_channel(target, security.credentials, options=arguments)
        self._timeout = timeout
        # Weak references: a watch that the caller has dropped is removed.
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._jobs = job_service_pb2_grpc.JobServiceStub(self.channel)
        self._admin = admin_service_pb2_grpc.AdminServiceStub(self.channel)
        self._info = info_service_pb2_grpc.InfoServiceStub(self.channel)
        self._health = health_pb2_grpc.HealthStub(self.channel)

    async def close(self) -> None:
        """Ends every call and watch, too."""
        # First, for a watch that waits to connect again must not find the channel closed.
        for watch in list(self._watches):
            await watch.close()
        await self.channel.close()

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _show(self, within: float, pending: set[Any]) -> Metadata:
        """The metadata of the next call. A token must be available within these seconds; its task is in `pending`
        meanwhile, and cancelling it there raises Cancelled here."""
        if not self._security.renews:
            return self._security.metadata()
        # In a task of its own, so that its cancellation is not mistaken for that of this task.
        asking = asyncio.create_task(self._security.async_metadata())
        pending.add(asking)
        try:
            await asyncio.wait((asking,), timeout=max(0.001, within))
        finally:
            is_over = asking.done()
            asking.cancel()
            pending.discard(asking)
        if not is_over:
            raise DeadlineExceeded(grpc.StatusCode.DEADLINE_EXCEEDED, "the token was not available in time")
        if asking.cancelled():
            raise Cancelled(grpc.StatusCode.CANCELLED, "no call waits for the token any more")
        return asking.result()

    async def _call(self, method: Any, request: Any, timeout: float | None, safe: bool = True) -> Any:
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        retry = UnaryRetry(deadline, safe)
        while True:
            metadata = await self._show(deadline - time.monotonic(), set())
            try:
                left = max(0.001, deadline - time.monotonic())
                return await method(request, timeout=left, metadata=metadata)
            except grpc.RpcError as failure:
                error = from_rpc_error(failure)
            delay = retry.delay_after(error, time.monotonic())
            if delay is None:
                raise error
            await asyncio.sleep(delay)

    async def _pages(self, method: Any, request: Any, timeout: float | None) -> AsyncIterator[Any]:
        """Every page of a list; `timeout` is that of each call."""
        while True:
            answer = await self._call(method, request, timeout)
            yield answer
            if not answer.next_page_token:
                return
            check_page_token(request.page_token, answer.next_page_token)
            request.page_token = answer.next_page_token

    # Jobs

    async def enqueue(
        self,
        kind: str,
        payload: Any = None,
        *,
        user_id: str,
        queue: str = "",
        content_type: str | None = None,
        job_id: str | None = None,
        idempotency_key: str | None = None,
        priority: int | None = None,
        run_at: datetime | None = None,
        delay: timedelta | None = None,
        max_attempts: int | None = None,
        retry_policy: RetryPolicy | None = None,
        job_timeout: timedelta | None = None,
        soft_timeout: timedelta | None = None,
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Enqueued:
        """Enqueues one job; when this returns, it is committed.

        `payload`: bytes go as they are, None is empty, anything else becomes JSON. `job_timeout` and
        `soft_timeout` limit an attempt of the job, `timeout` (seconds) this call. What is left out has the
        service's default. Without `job_id` and `idempotency_key` a job id is made here, so that the call
        can be sent again.

        Raises InvalidArgument, AlreadyExists (same id or key, other content), ResourceExhausted (payload
        over 1 MiB), Unavailable.
        """
        job = NewJob(
            kind,
            payload,
            user_id=user_id,
            queue=queue,
            content_type=content_type,
            job_id=job_id,
            idempotency_key=idempotency_key,
            priority=priority,
            run_at=run_at,
            delay=delay,
            max_attempts=max_attempts,
            retry_policy=retry_policy,
            timeout=job_timeout,
            soft_timeout=soft_timeout,
            labels=labels or {},
        )
        request = job_service_pb2.EnqueueRequest(job=job_spec(job))
        answer = await self._call(self._jobs.Enqueue, request, timeout)
        return enqueued_from(answer, is_own_id=not job_id and not idempotency_key)

    async def enqueue_batch(
        self, jobs: Iterable[NewJob], *, timeout: float | None = None
    ) -> tuple[EnqueuedItem, ...]:
        """Enqueues up to 10,000 jobs, all or none. InvalidArgument names the index and field."""
        jobs = tuple(jobs)
        request = job_service_pb2.EnqueueBatchRequest(jobs=[job_spec(job) for job in jobs])
        answer = await self._call(self._jobs.EnqueueBatch, request, timeout)
        return tuple(
            enqueued_item_from(item, is_own_id=not (job.job_id or job.idempotency_key))
            for item, job in zip(answer.jobs, jobs, strict=True)
        )

    async def get(self, job_id: str, *, include_payload: bool = False, timeout: float | None = None) -> Job:
        """A job with its attempts, log, progress and result. Raises NotFound."""
        request = job_service_pb2.GetJobRequest(job_id=job_id, include_payload=include_payload)
        return job_from((await self._call(self._jobs.GetJob, request, timeout)).job)

    async def list_page(
        self,
        *,
        user_id: str | None = None,
        queue: str | None = None,
        kinds: str | Iterable[str] = (),
        states: Iterable[JobState] = (),
        labels: Mapping[str, str] | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
    ) -> Page:
        """One page of the jobs that match every filter, newest first. It may be short, even empty."""
        request = list_request(
            user_id, queue, kinds, states, labels, created_from, created_to, page_size, page_token
        )
        answer = await self._call(self._jobs.ListJobs, request, timeout)
        return Page(tuple(job_from(job) for job in answer.jobs), answer.next_page_token)

    async def list(
        self,
        *,
        user_id: str | None = None,
        queue: str | None = None,
        kinds: str | Iterable[str] = (),
        states: Iterable[JobState] = (),
        labels: Mapping[str, str] | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[Job]:
        """Every job that matches, newest first; pages are fetched as they are needed."""
        request = list_request(user_id, queue, kinds, states, labels, created_from, created_to, page_size, "")
        async for answer in self._pages(self._jobs.ListJobs, request, timeout):
            for item in answer.jobs:
                yield job_from(item)

    async def list_attempts(
        self, job_id: str, *, page_size: int = 0, timeout: float | None = None
    ) -> AsyncIterator[Attempt]:
        """Every attempt of a job, oldest first; pages are fetched as they are needed. Raises NotFound."""
        request = job_service_pb2.ListAttemptsRequest(job_id=job_id, page_size=page_size)
        async for answer in self._pages(self._jobs.ListAttempts, request, timeout):
            for item in answer.attempts:
                yield attempt_from(item)

    async def list_log_lines(
        self,
        job_id: str,
        *,
        after_line: int = 0,
        min_level: LogLevel = LogLevel.UNSPECIFIED,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[LogLine]:
        """The log lines of a job that are kept (the last 200), oldest first; pages are fetched as they are needed.

        `after_line`: only lines after the one with this number. `min_level`: only lines of this level or a higher
        one. Raises NotFound.
        """
        # The stubs know only their own enum.
        level: Any = int(min_level)
        request = job_service_pb2.ListLogLinesRequest(
            job_id=job_id, after_line=after_line, page_size=page_size, min_level=level
        )
        async for answer in self._pages(self._jobs.ListLogLines, request, timeout):
            for item in answer.lines:
                yield log_line_from(item)

    async def cancel(
        self, job_id: str, *, note: str = "", expected_sequence: int = 0, timeout: float | None = None
    ) -> Job:
        """Cancels a job, and returns it as it is now. A running job ends later: wait for it.

        `note` is for people, and becomes the message of the job's error. `expected_sequence`: the sequence that the
        job must have. Raises Aborted if it has another one, which may be because an earlier try of this call
        cancelled it.
        """
        request = job_service_pb2.CancelRequest(
            job_id=job_id, note=note, expected_sequence=expected_sequence
        )
        return job_from((await self._call(self._jobs.Cancel, request, timeout)).job)

    async def retry(self, job_id: str, *, expected_sequence: int = 0, timeout: float | None = None) -> Job:
        """Returns a failed or cancelled job to pending. Raises FailedPrecondition in other states.

        With `expected_sequence`, the sequence that the job must have, the call is repeated after UNAVAILABLE. Raises
        Aborted if the job has another one, which may be because an earlier try of this call took effect.
        """
        request = job_service_pb2.RetryRequest(job_id=job_id, expected_sequence=expected_sequence)
        answer = await self._call(self._jobs.Retry, request, timeout, safe=expected_sequence != 0)
        return job_from(answer.job)

    def watch(
        self,
        job_ids: str | Iterable[str] | None = None,
        *,
        user_id: str = "",
        queue: str = "",
        after: Mapping[str, int] | None = None,
        resume_token: str = "",
        include_log: bool = False,
        timeout: float | None = None,
        give_up_after: float | None = 300.0,
    ) -> Watch:
        """Watches up to 1,000 jobs until all are final, or everything of a user or queue until closed.

        Gives a Snapshot of each job, then each JobEvent once and in order, and the latest progress. After a lost
        connection the watch connects again and resumes. `resume_token` and `after` (sequences by job id) are where an
        earlier watch of the same jobs, user or queue was: its `resume_token` and `sequences`. If the server refuses the
        token, the watch begins without it. Raises DeadlineExceeded
        after `timeout` seconds, and the last error when there was no message for `give_up_after` seconds. If the
        user's quota allows no more watches, raises ResourceExhausted at once, but waits for room after a lost
        connection.
        """
        return Watch(
            self, job_ids, user_id, queue, after, resume_token, include_log, timeout, give_up_after
        )

    async def wait(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Waits until a job is final, and returns it, however it ended. Raises DeadlineExceeded."""
        async with self.watch(job_id, timeout=timeout) as items:
            async for _ in items:
                pass
        return await self.get(job_id)

    async def result(self, job_id: str, *, timeout: float | None = None) -> Any:
        """Waits for a job's result: decoded if it is JSON, else bytes; None if there is none.

        Raises JobFailed, JobCancelled, DeadlineExceeded.
        """
        return result_of(await self.wait(job_id, timeout=timeout))

    # Administration

    async def get_queue(self, queue: str, *, include_stats: bool = False, timeout: float | None = None) -> Queue:
        """One queue, with its jobs counted if `include_stats`. Raises NotFound."""
        request = admin_service_pb2.GetQueueRequest(queue=queue, include_stats=include_stats)
        return queue_from((await self._call(self._admin.GetQueue, request, timeout)).queue)

    async def list_queues(
        self, *, include_stats: bool = False, page_size: int = 0, timeout: float | None = None
    ) -> AsyncIterator[Queue]:
        """Every queue, in the order of the names; pages are fetched as they are needed."""
        request = admin_service_pb2.ListQueuesRequest(include_stats=include_stats, page_size=page_size)
        async for answer in self._pages(self._admin.ListQueues, request, timeout):
            for item in answer.queues:
                yield queue_from(item)

    async def list_nodes(self, *, page_size: int = 0, timeout: float | None = None) -> AsyncIterator[Node]:
        """Every node that is alive, or was in the last hour, newest first; pages are fetched as they are needed."""
        request = admin_service_pb2.ListNodesRequest(page_size=page_size)
        async for answer in self._pages(self._admin.ListNodes, request, timeout):
            for item in answer.nodes:
                yield node_from(item)

    async def pause(self, queue: str, *, timeout: float | None = None) -> Queue:
        """Stops the jobs of the queue from starting. Running jobs continue."""
        request = admin_service_pb2.PauseQueueRequest(queue=queue)
        return queue_from((await self._call(self._admin.PauseQueue, request, timeout)).queue)

    async def resume(self, queue: str, *, timeout: float | None = None) -> Queue:
        """Undoes pause."""
        request = admin_service_pb2.ResumeQueueRequest(queue=queue)
        return queue_from((await self._call(self._admin.ResumeQueue, request, timeout)).queue)

    async def update_limit(
        self, user_id: str, max_running: int | None, *, queue: str = "", timeout: float | None = None
    ) -> UserLimit:
        """Sets how many jobs of a user may run at once in a queue. None removes the user's own limit."""
        request = limit_request(user_id, max_running, queue)
        return user_limit_from((await self._call(self._admin.UpdateUserLimit, request, timeout)).limit)

    async def get_limit(self, user_id: str, *, queue: str = "", timeout: float | None = None) -> UserLimit:
        """The limit that applies to a user in a queue."""
        request = admin_service_pb2.GetUserLimitRequest(user_id=user_id, queue=queue)
        return user_limit_from((await self._call(self._admin.GetUserLimit, request, timeout)).limit)

    async def list_limits(
        self, *, user_id: str = "", queue: str = "", page_size: int = 0, timeout: float | None = None
    ) -> AsyncIterator[UserLimit]:
        """The limits that were set for users, in the order of user and queue; pages are fetched as they are needed."""
        request = admin_service_pb2.ListUserLimitsRequest(user_id=user_id, queue=queue, page_size=page_size)
        async for answer in self._pages(self._admin.ListUserLimits, request, timeout):
            for item in answer.limits:
                yield user_limit_from(item)

    async def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """The server's version, features and limits, and who this client is to it. Needs no scope.

        Raises Unimplemented if the server is older than this method.
        """
        request = info_service_pb2.GetServerInfoRequest()
        return server_info_from(await self._call(self._info.GetServerInfo, request, timeout))

    async def health(self, service: str = "", *, timeout: float | None = None) -> bool:
        """Whether the server (or one of its services) takes calls. Raises NotFound, Unavailable."""
        request = health_pb2.HealthCheckRequest(service=service)
        answer = await self._call(self._health.Check, request, timeout)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


class Watch(AsyncIterator[WatchItem]):
    """A watch: iterate it, and close it (or use it in an `async with`).

    Entering the `async with` connects, and returns once the service has the watch: nothing that happens after
    that is missed. Without it, the first iteration connects.
    """

    def __init__(
        self,
        client: Client,
        job_ids: str | Iterable[str] | None,
        user_id: str,
        queue: str,
        after: Mapping[str, int] | None,
        resume_token: str,
        include_log: bool,
        timeout: float | None,
        give_up_after: float | None,
    ) -> None:
        self._client = client
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._machine = WatchMachine(
            watch_ids(job_ids),
            user_id,
            queue,
            after,
            resume_token,
            include_log,
            give_up_after,
            renews=client._security.renews,
        )
        self._items = self._run()
        self._calls: set[Any] = set()
        # Opened by `async with`, not yet read.
        self._first: Any = None
        self._closed = asyncio.Event()
        client._watches.add(self)

    def __aiter__(self) -> Watch:
        return self

    async def __anext__(self) -> WatchItem:
        return await anext(self._items)

    async def __aenter__(self) -> Watch:
        self._first = await self._open(self._machine.request())
        if self._first is None:
            return self
        try:
            # The service sends its headers once the watch is open. A failure is raised when the stream is read.
            await asyncio.wait_for(self._first.initial_metadata(), self._machine.silence_s)
        except (TimeoutError, asyncio.TimeoutError):
            self._first.cancel()
        except BaseException:
            self._first.cancel()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def sequences(self) -> dict[str, int]:
        """The sequence of each job; as `after` of a later watch, also in another process, it goes on from here."""
        return self._machine.sequences()

    @property
    def resume_token(self) -> str:
        """The latest token of the service; given to a later watch of the same jobs, user or queue, also in another
        process, it goes on from here, and may repeat the latest items. Empty before the first one."""
        return self._machine.resume_token

    async def close(self) -> None:
        """The iteration ends, also one that another task waits in."""
        self._closed.set()
        for call in self._calls:
            call.cancel()

    async def _run(self) -> AsyncIterator[WatchItem]:
        machine = self._machine
        while not self._closed.is_set():
            error: ServiceError | None = None
            call, self._first = self._first or await self._open(machine.request()), None
            if call is None:
                return
            try:
                while (message := await _read(call, machine.silence_s)) is not None:
                    step = machine.receive(message)
                    for item in step.items:
                        yield item
                    if step.next is Next.RECONNECT:
                        break
                    if step.next is Next.FILL:
                        missed = _Fill(self)
                        async for item in missed:
                            yield item
                        if missed.is_lost:
                            break
            except ServiceError as failure:
                error = failure
            finally:
                self._end(call)
            if self._closed.is_set():
                return
            self._check_deadline()
            delay = machine.ended(error, time.monotonic())
            if delay is None:
                return
            if self._deadline is not None:
                delay = min(delay, max(0.0, self._deadline - time.monotonic()))
            try:
                await asyncio.wait_for(self._closed.wait(), delay)
            except (TimeoutError, asyncio.TimeoutError):
                self._check_deadline()

    def _check_deadline(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise DeadlineExceeded(grpc.StatusCode.DEADLINE_EXCEEDED, "the watch did not end in time")

    async def _open(self, request: job_service_pb2.WatchRequest) -> Any:
        """A new stream; None: the watch was closed while a token was awaited."""
        within = self._machine.silence_s if self._deadline is None else self._deadline - time.monotonic()
        try:
            metadata = await self._client._show(within, self._calls)
        except Cancelled:
            if self._closed.is_set():
                return None
            raise
        if self._closed.is_set():
            return None
        left = None if self._deadline is None else max(0.001, self._deadline - time.monotonic())
        # grpc's stubs have no types.
        stub: Callable[..., Any] = self._client._jobs.Watch
        call = stub(request, timeout=left, metadata=metadata)
        self._calls.add(call)
        return call

    def _end(self, call: Any) -> None:
        self._calls.discard(call)
        call.cancel()


class _Fill:
    """Fetches what the jobs of a user or queue missed."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        #: The connection was lost: begin again.
        self.is_lost = False

    async def __aiter__(self) -> AsyncIterator[WatchItem]:
        machine = self._watch._machine
        while (request := machine.fill_request()) is not None:
            error: ServiceError | None = None
            ended = True
            if self._watch._closed.is_set():
                self.is_lost = True
                return
            call = await self._watch._open(request)
            if call is None:
                self.is_lost = True
                return
            try:
                while (message := await _read(call, machine.silence_s)) is not None:
                    step = machine.receive_fill(message)
                    for item in step.items:
                        yield item
                    if step.next is Next.RECONNECT:
                        self.is_lost = True
                        return
                    if step.next is Next.FILL:
                        ended = False
                        break
            except ServiceError as failure:
                error = failure
            finally:
                self._watch._end(call)
            if ended and not machine.fill_ended(error):
                self.is_lost = True
                return


async def _read(call: Any, silence_s: float) -> job_service_pb2.WatchResponse | None:
    """The next message; None at an end with OK. Raises ServiceError, also when nothing is heard."""
    # In a task of its own, for grpc tells of a call that was cancelled (by close) as if the task that reads had
    # been; a cancellation of our own task must not be taken for that.
    reading = asyncio.create_task(call.read())
    try:
        await asyncio.wait((reading,), timeout=silence_s)
    finally:
        is_over = reading.done()
        reading.cancel()
    if not is_over:
        raise silence_error(silence_s)
    if reading.cancelled():
        raise Cancelled(grpc.StatusCode.CANCELLED, "the watch was closed")
    try:
        message = reading.result()
    except grpc.RpcError as failure:
        raise from_rpc_error(failure) from None
    return None if message is grpc.aio.EOF else message
