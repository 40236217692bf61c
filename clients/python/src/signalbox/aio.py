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
from ._requests import job_spec, list_request, watch_ids
from ._security import TLS, AsyncToken, Metadata, Security
from ._types import (
    Enqueued,
    EnqueuedItem,
    Job,
    JobState,
    NewJob,
    Node,
    Page,
    QueueStats,
    RetryPolicy,
    ServerInfo,
    UserLimit,
    WatchItem,
    job_from,
    node_from,
    queue_stats_from,
    server_info_from,
    user_limit_from,
)
from ._watch import SILENCE_S, Next, WatchMachine, silence_error


class Client:
    """A connection to the service, for one event loop.

    `target` is a gRPC target: "host:port", or "ipv4:10.0.0.1:8080,10.0.0.2:8080" to name several nodes.
    `tls` is True, for a server whose certificate a public authority has signed, or a `TLS` that says more.
    `token` says who calls: a text, or a function (also a coroutine function) that is asked for one before each
    call and must not block. What it raises ends the call or the watch. `metadata` goes with every call as well.
    `timeout` is what a unary call may take in all, in seconds, retries included; each method takes its own.

    Raises ValueError for a token without TLS to another machine, where it could be read on the network,
    unless `insecure` is True.

    Every method but `retry` may be sent again after UNAVAILABLE, since that changes nothing twice.
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
        priority: int = 0,
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
        # The id is new, so if the service says that the job existed, an earlier try of this call took effect.
        own_id = not job_id and not idempotency_key
        return Enqueued(job_from(answer.job), answer.created or own_id)

    async def enqueue_batch(
        self, jobs: Iterable[NewJob], *, timeout: float | None = None
    ) -> tuple[EnqueuedItem, ...]:
        """Enqueues up to 10,000 jobs, all or none. InvalidArgument names the index and field."""
        jobs = tuple(jobs)
        request = job_service_pb2.EnqueueBatchRequest(jobs=[job_spec(job) for job in jobs])
        answer = await self._call(self._jobs.EnqueueBatch, request, timeout)
        return tuple(
            EnqueuedItem(item.job_id, item.created or not (job.job_id or job.idempotency_key))
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
        kind: str | None = None,
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
            user_id, queue, kind, states, labels, created_from, created_to, page_size, page_token
        )
        answer = await self._call(self._jobs.ListJobs, request, timeout)
        return Page(tuple(job_from(job) for job in answer.jobs), answer.next_page_token)

    async def list(
        self,
        *,
        user_id: str | None = None,
        queue: str | None = None,
        kind: str | None = None,
        states: Iterable[JobState] = (),
        labels: Mapping[str, str] | None = None,
        created_from: datetime | None = None,
        created_to: datetime | None = None,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[Job]:
        """Every job that matches, newest first; pages are fetched as they are needed."""
        states, token = tuple(states), ""
        while True:
            page = await self.list_page(
                user_id=user_id,
                queue=queue,
                kind=kind,
                states=states,
                labels=labels,
                created_from=created_from,
                created_to=created_to,
                page_size=page_size,
                page_token=token,
                timeout=timeout,
            )
            for job in page.jobs:
                yield job
            token = page.next_page_token
            if not token:
                return

    async def cancel(self, job_id: str, *, reason: str = "", timeout: float | None = None) -> Job:
        """Asks for a job's end, and gives it as it is now. One that runs ends later: wait for it."""
        request = job_service_pb2.CancelRequest(job_id=job_id, reason=reason)
        return job_from((await self._call(self._jobs.Cancel, request, timeout)).job)

    async def retry(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Puts a failed or cancelled job back to pending. Raises FailedPrecondition in other states."""
        request = job_service_pb2.RetryRequest(job_id=job_id)
        return job_from((await self._call(self._jobs.Retry, request, timeout, safe=False)).job)

    def watch(
        self,
        job_ids: str | Iterable[str] | None = None,
        *,
        user_id: str = "",
        queue: str = "",
        after: Mapping[str, int] | None = None,
        include_log: bool = False,
        timeout: float | None = None,
        give_up_after: float | None = 300.0,
    ) -> Watch:
        """Watches up to 1,000 jobs until all are final, or everything of a user or queue until closed.

        Gives a Snapshot of each job, then each JobEvent once and in order, and the latest progress. A lost
        connection is made again and the watch resumes. `after` has the sequences (job id to number)
        to resume from. Raises DeadlineExceeded after `timeout` seconds, and the last error when
        there was no message for `give_up_after` seconds. Raises ResourceExhausted at once where the user
        may have no more watches; after a lost connection it waits until it may.
        """
        return Watch(self, job_ids, user_id, queue, after, include_log, timeout, give_up_after)

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

    async def queue_stats(self, queue: str = "", *, timeout: float | None = None) -> tuple[QueueStats, ...]:
        """The counts of one queue, or of every queue."""
        request = admin_service_pb2.GetQueueStatsRequest(queue=queue)
        answer = await self._call(self._admin.GetQueueStats, request, timeout)
        return tuple(queue_stats_from(stats) for stats in answer.queues)

    async def nodes(self, *, timeout: float | None = None) -> tuple[Node, ...]:
        """Every node that is alive, or was in the last hour."""
        answer = await self._call(self._admin.ListNodes, admin_service_pb2.ListNodesRequest(), timeout)
        return tuple(node_from(node) for node in answer.nodes)

    async def pause(self, queue: str, *, timeout: float | None = None) -> None:
        """No job of the queue starts from now on."""
        await self._call(self._admin.PauseQueue, admin_service_pb2.PauseQueueRequest(queue=queue), timeout)

    async def resume(self, queue: str, *, timeout: float | None = None) -> None:
        """Undoes pause."""
        await self._call(self._admin.ResumeQueue, admin_service_pb2.ResumeQueueRequest(queue=queue), timeout)

    async def set_limit(
        self, user_id: str, limit: int | None, *, queue: str = "", timeout: float | None = None
    ) -> UserLimit:
        """Sets how many jobs of a user may run at once in a queue. None removes the user's own limit."""
        request = admin_service_pb2.SetUserLimitRequest(
            user_id=user_id, queue=queue, limit=limit or 0, clear=limit is None
        )
        return user_limit_from((await self._call(self._admin.SetUserLimit, request, timeout)).limit)

    async def get_limit(self, user_id: str, *, queue: str = "", timeout: float | None = None) -> UserLimit:
        """The limit in force."""
        request = admin_service_pb2.GetUserLimitRequest(user_id=user_id, queue=queue)
        return user_limit_from((await self._call(self._admin.GetUserLimit, request, timeout)).limit)

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
            await asyncio.wait_for(self._first.initial_metadata(), SILENCE_S)
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
        """Where each job is; as `after` of a later watch, also in another process, it goes on from here."""
        return self._machine.sequences()

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
                while (message := await _read(call)) is not None:
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
        within = SILENCE_S if self._deadline is None else self._deadline - time.monotonic()
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
                while (message := await _read(call)) is not None:
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


async def _read(call: Any) -> job_service_pb2.WatchResponse | None:
    """The next message; None at an end with OK. Raises ServiceError, also when nothing is heard."""
    # In a task of its own, for grpc tells of a call that was cancelled (by close) as if the task that reads had
    # been; a cancellation of our own task must not be taken for that.
    reading = asyncio.create_task(call.read())
    try:
        await asyncio.wait((reading,), timeout=SILENCE_S)
    finally:
        is_over = reading.done()
        reading.cancel()
    if not is_over:
        raise silence_error()
    if reading.cancelled():
        raise Cancelled(grpc.StatusCode.CANCELLED, "the watch was closed")
    try:
        message = reading.result()
    except grpc.RpcError as failure:
        raise from_rpc_error(failure) from None
    return None if message is grpc.aio.EOF else message
