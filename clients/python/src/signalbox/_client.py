"""The blocking client."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

import grpc
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
from ._errors import DeadlineExceeded, JobCancelled, JobFailed, ServiceError, from_rpc_error
from ._requests import job_spec, list_request, watch_ids
from ._security import TLS, Metadata, Security, Token
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
    """A connection to the service; safe to share among threads.

    `target` is a gRPC target: "host:port", or "ipv4:10.0.0.1:8080,10.0.0.2:8080" to name several nodes.
    `tls` is True, for a server whose certificate a public authority has signed, or a `TLS` that says more.
    `token` says who calls: a text, or a function that is asked for one before each call, and may be called by
    several threads at once. What it raises ends the call or the watch. `metadata` goes with every call as
    well. `timeout` is what a unary call may take in all, in seconds, retries included; each method takes its
    own.

    Raises ValueError for a token without TLS to another machine, where it could be read on the network,
    unless `insecure` is True.

    Every method but `retry` may be sent again after UNAVAILABLE, since that changes nothing twice.
    """

    def __init__(
        self,
        target: str,
        *,
        token: Token | None = None,
        tls: bool | TLS = False,
        insecure: bool = False,
        metadata: Sequence[tuple[str, str | bytes]] = (),
        timeout: float = DEFAULT_TIMEOUT_S,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self._security = security = Security(target, token, tls, insecure, metadata)
        arguments = channel_arguments(options, security.options)
        if security.credentials is None:
            self.channel = grpc.insecure_channel(target, options=arguments)
        else:
            self.channel = grpc.secure_channel(target, security.credentials, options=arguments)
        self._timeout = timeout
        self._is_closed = threading.Event()
        # Weak references: a watch that the caller has dropped is removed.
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._watches_lock = threading.Lock()
        self._jobs = job_service_pb2_grpc.JobServiceStub(self.channel)
        self._admin = admin_service_pb2_grpc.AdminServiceStub(self.channel)
        self._info = info_service_pb2_grpc.InfoServiceStub(self.channel)
        self._health = health_pb2_grpc.HealthStub(self.channel)

    def close(self) -> None:
        """Ends every call and watch, too."""
        with self._watches_lock:
            watches = list(self._watches)
        # First, for a watch that waits to connect again must not find the channel closed.
        for watch in watches:
            watch.close()
        self.channel.close()
        self._is_closed.set()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Any, request: Any, timeout: float | None, safe: bool = True) -> Any:
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        retry = UnaryRetry(deadline, safe)
        while True:
            metadata = self._security.metadata()
            try:
                left = max(0.001, deadline - time.monotonic())
                return method(request, timeout=left, metadata=metadata)
            except grpc.RpcError as failure:
                error = from_rpc_error(failure)
            delay = retry.delay_after(error, time.monotonic())
            if delay is None:
                raise error
            # Until the next try, or `close`.
            if self._is_closed.wait(delay):
                raise error

    # Jobs

    def enqueue(
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
        answer = self._call(self._jobs.Enqueue, request, timeout)
        # The id is new, so if the service says that the job existed, an earlier try of this call took effect.
        own_id = not job_id and not idempotency_key
        return Enqueued(job_from(answer.job), answer.created or own_id)

    def enqueue_batch(
        self, jobs: Iterable[NewJob], *, timeout: float | None = None
    ) -> tuple[EnqueuedItem, ...]:
        """Enqueues up to 10,000 jobs, all or none. InvalidArgument names the index and field."""
        jobs = tuple(jobs)
        request = job_service_pb2.EnqueueBatchRequest(jobs=[job_spec(job) for job in jobs])
        answer = self._call(self._jobs.EnqueueBatch, request, timeout)
        return tuple(
            EnqueuedItem(item.job_id, item.created or not (job.job_id or job.idempotency_key))
            for item, job in zip(answer.jobs, jobs, strict=True)
        )

    def get(self, job_id: str, *, include_payload: bool = False, timeout: float | None = None) -> Job:
        """A job with its attempts, log, progress and result. Raises NotFound."""
        request = job_service_pb2.GetJobRequest(job_id=job_id, include_payload=include_payload)
        return job_from(self._call(self._jobs.GetJob, request, timeout).job)

    def list_page(
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
        answer = self._call(self._jobs.ListJobs, request, timeout)
        return Page(tuple(job_from(job) for job in answer.jobs), answer.next_page_token)

    def list(
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
    ) -> Iterator[Job]:
        """Every job that matches, newest first; pages are fetched as they are needed."""
        states, token = tuple(states), ""
        while True:
            page = self.list_page(
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
            yield from page.jobs
            token = page.next_page_token
            if not token:
                return

    def cancel(self, job_id: str, *, reason: str = "", timeout: float | None = None) -> Job:
        """Asks for a job's end, and gives it as it is now. One that runs ends later: wait for it."""
        request = job_service_pb2.CancelRequest(job_id=job_id, reason=reason)
        return job_from(self._call(self._jobs.Cancel, request, timeout).job)

    def retry(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Puts a failed or cancelled job back to pending. Raises FailedPrecondition in other states."""
        request = job_service_pb2.RetryRequest(job_id=job_id)
        return job_from(self._call(self._jobs.Retry, request, timeout, safe=False).job)

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

    def wait(self, job_id: str, *, timeout: float | None = None) -> Job:
        """Waits until a job is final, and returns it, however it ended. Raises DeadlineExceeded."""
        with self.watch(job_id, timeout=timeout) as items:
            for _ in items:
                pass
        return self.get(job_id)

    def result(self, job_id: str, *, timeout: float | None = None) -> Any:
        """Waits for a job's result: decoded if it is JSON, else bytes; None if there is none.

        Raises JobFailed, JobCancelled, DeadlineExceeded.
        """
        return result_of(self.wait(job_id, timeout=timeout))

    # Administration

    def queue_stats(self, queue: str = "", *, timeout: float | None = None) -> tuple[QueueStats, ...]:
        """The counts of one queue, or of every queue."""
        request = admin_service_pb2.GetQueueStatsRequest(queue=queue)
        answer = self._call(self._admin.GetQueueStats, request, timeout)
        return tuple(queue_stats_from(stats) for stats in answer.queues)

    def nodes(self, *, timeout: float | None = None) -> tuple[Node, ...]:
        """Every node that is alive, or was in the last hour."""
        answer = self._call(self._admin.ListNodes, admin_service_pb2.ListNodesRequest(), timeout)
        return tuple(node_from(node) for node in answer.nodes)

    def pause(self, queue: str, *, timeout: float | None = None) -> None:
        """No job of the queue starts from now on."""
        self._call(self._admin.PauseQueue, admin_service_pb2.PauseQueueRequest(queue=queue), timeout)

    def resume(self, queue: str, *, timeout: float | None = None) -> None:
        """Undoes pause."""
        self._call(self._admin.ResumeQueue, admin_service_pb2.ResumeQueueRequest(queue=queue), timeout)

    def set_limit(
        self, user_id: str, limit: int | None, *, queue: str = "", timeout: float | None = None
    ) -> UserLimit:
        """Sets how many jobs of a user may run at once in a queue. None removes the user's own limit."""
        request = admin_service_pb2.SetUserLimitRequest(
            user_id=user_id, queue=queue, limit=limit or 0, clear=limit is None
        )
        return user_limit_from(self._call(self._admin.SetUserLimit, request, timeout).limit)

    def get_limit(self, user_id: str, *, queue: str = "", timeout: float | None = None) -> UserLimit:
        """The limit in force."""
        request = admin_service_pb2.GetUserLimitRequest(user_id=user_id, queue=queue)
        return user_limit_from(self._call(self._admin.GetUserLimit, request, timeout).limit)

    def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """The server's version, features and limits, and who this client is to it. Needs no scope.

        Raises Unimplemented if the server is older than this method.
        """
        request = info_service_pb2.GetServerInfoRequest()
        return server_info_from(self._call(self._info.GetServerInfo, request, timeout))

    def health(self, service: str = "", *, timeout: float | None = None) -> bool:
        """Whether the server (or one of its services) takes calls. Raises NotFound, Unavailable."""
        request = health_pb2.HealthCheckRequest(service=service)
        answer = self._call(self._health.Check, request, timeout)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def result_of(job: Job) -> Any:
    """The result of a final job. Raises if the job did not succeed."""
    if job.state is JobState.FAILED:
        raise JobFailed(job)
    if job.state is JobState.CANCELLED:
        raise JobCancelled(job)
    if job.result is None:
        return None
    is_json = job.result.content_type.partition(";")[0].strip() == "application/json"
    return job.result.json() if is_json else job.result.data


class Watch(Iterator[WatchItem]):
    """A watch: iterate it, and close it (or use it in a `with`). close() may come from any thread.

    Entering the `with` connects, and returns once the service has the watch: nothing that happens after that
    is missed. Without it, the first iteration connects.
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
        self._closed = threading.Event()
        self._call: Any = None
        # Opened by `with`, not yet read.
        self._first: _Stream | None = None
        self._items = self._run()
        with client._watches_lock:
            client._watches.add(self)

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> WatchItem:
        return next(self._items)

    def __enter__(self) -> Watch:
        self._first = _Stream(self, self._machine.request(), self._client._security.metadata())
        self._first.wait_for_headers()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self._first is not None:
            self._first.end()

    @property
    def sequences(self) -> dict[str, int]:
        """Where each job is; as `after` of a later watch, also in another process, it goes on from here."""
        return self._machine.sequences()

    def close(self) -> None:
        """The iteration ends."""
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    def _run(self) -> Iterator[WatchItem]:
        machine = self._machine
        while not self._closed.is_set():
            error = None
            first, self._first = self._first, None
            # Here, for what a token's function raises is no failure of the stream.
            metadata = () if first else self._client._security.metadata()
            try:
                with first or _Stream(self, machine.request(), metadata) as stream:
                    for message in stream:
                        step = machine.receive(message)
                        yield from step.items
                        if step.next is Next.RECONNECT:
                            break
                        if step.next is Next.FILL and not (yield from self._fill()):
                            break
                error = stream.silence_error
            except grpc.RpcError as failure:
                error = stream.silence_error or from_rpc_error(failure)
            except ValueError:
                # So grpc tells of a channel that another thread has closed just before we connect.
                if not self._closed.is_set():
                    raise
            if self._closed.is_set():
                return
            self._check_deadline()
            delay = machine.ended(error, time.monotonic())
            if delay is None:
                return
            if self._deadline is not None:
                delay = min(delay, max(0.0, self._deadline - time.monotonic()))
            if self._closed.wait(delay):
                return
            self._check_deadline()

    def _fill(self) -> Generator[WatchItem, None, bool]:
        """Fetches what the jobs of a user or queue missed; False: the connection is lost."""
        machine = self._machine
        while (request := machine.fill_request()) is not None:
            error, ended = None, True
            if self._closed.is_set():
                return False
            metadata = self._client._security.metadata()
            try:
                with _Stream(self, request, metadata) as stream:
                    for message in stream:
                        step = machine.receive_fill(message)
                        yield from step.items
                        if step.next is Next.RECONNECT:
                            return False
                        if step.next is Next.FILL:
                            ended = False
                            break
                error = stream.silence_error
            except grpc.RpcError as failure:
                error = stream.silence_error or from_rpc_error(failure)
            if ended and not machine.fill_ended(error):
                return False
        return True

    def _check_deadline(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise DeadlineExceeded(grpc.StatusCode.DEADLINE_EXCEEDED, "the watch did not end in time")

    def _open(self, request: job_service_pb2.WatchRequest, metadata: Metadata) -> Any:
        left = None if self._deadline is None else max(0.001, self._deadline - time.monotonic())
        # grpc's stubs have no types.
        stub: Callable[..., Any] = self._client._jobs.Watch
        return stub(request, timeout=left, metadata=metadata)


class _Stream:
    """One connection of a watch. A thread cancels the call when nothing is heard for too long."""

    def __init__(self, watch: Watch, request: job_service_pb2.WatchRequest, metadata: Metadata) -> None:
        self._watch = watch
        self._call = watch._open(request, metadata)
        self._outer = watch._call
        watch._call = self._call
        if watch._closed.is_set():
            self._call.cancel()
        self._over = threading.Event()
        # Until when the read under way may take; None: the caller holds us up, not the service.
        self._read_until: float | None = None
        self.silence_error: ServiceError | None = None
        threading.Thread(target=self._listen, name="signalbox-watch-silence", daemon=True).start()

    def _listen(self) -> None:
        wait = SILENCE_S
        while not self._over.wait(wait):
            until = self._read_until
            wait = SILENCE_S if until is None else until - time.monotonic()
            if wait <= 0:
                self.silence_error = silence_error()
                self._call.cancel()
                return

    def wait_for_headers(self) -> None:
        """Waits for the headers, which the service sends once the watch is open.

        A failure is raised when the stream is read.
        """
        self._read_until = time.monotonic() + SILENCE_S
        self._call.initial_metadata()
        self._read_until = None

    def __iter__(self) -> Iterator[job_service_pb2.WatchResponse]:
        while True:
            self._read_until = time.monotonic() + SILENCE_S
            try:
                message = next(self._call)
            except StopIteration:
                return
            finally:
                self._read_until = None
            yield message

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self._over.set()
        self._call.cancel()
        self._watch._call = self._outer
