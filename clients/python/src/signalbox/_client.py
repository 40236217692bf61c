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
from ._requests import check_page_token, job_spec, limit_request, list_request, watch_ids
from ._security import TLS, Metadata, Security, Token
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
    """A connection to the service; safe to share among threads.

    `target` is a gRPC target: "host:port", or "ipv4:10.0.0.1:8080,10.0.0.2:8080" to name several nodes.
    `tls` is True, for a server whose certificate a public authority has signed, or a `TLS` that says more.
    `token` says who calls: a text, or a function that is asked for one before each call, and may be called by
    several threads at once. What it raises ends the call or the watch. `metadata` goes with every call as
    well. `timeout` is what a unary call may take in all, in seconds, retries included; each method takes its
    own.

    Raises ValueError for a token without TLS to another machine, where it could be read on the network,
    unless `insecure` is True.

    Calls are repeated after UNAVAILABLE, because that changes nothing twice; `retry` only with `expected_sequence`.
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

    def _pages(self, method: Any, request: Any, timeout: float | None) -> Iterator[Any]:
        """Every page of a list; `timeout` is that of each call."""
        while True:
            answer = self._call(method, request, timeout)
            yield answer
            if not answer.next_page_token:
                return
            check_page_token(request.page_token, answer.next_page_token)
            request.page_token = answer.next_page_token

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
        answer = self._call(self._jobs.Enqueue, request, timeout)
        return enqueued_from(answer, is_own_id=not job_id and not idempotency_key)

    def enqueue_batch(
        self, jobs: Iterable[NewJob], *, timeout: float | None = None
    ) -> tuple[EnqueuedItem, ...]:
        """Enqueues up to 10,000 jobs, all or none. InvalidArgument names the index and field."""
        jobs = tuple(jobs)
        request = job_service_pb2.EnqueueBatchRequest(jobs=[job_spec(job) for job in jobs])
        answer = self._call(self._jobs.EnqueueBatch, request, timeout)
        return tuple(
            enqueued_item_from(item, is_own_id=not (job.job_id or job.idempotency_key))
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
        answer = self._call(self._jobs.ListJobs, request, timeout)
        return Page(tuple(job_from(job) for job in answer.jobs), answer.next_page_token)

    def list(
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
    ) -> Iterator[Job]:
        """Every job that matches, newest first; pages are fetched as they are needed."""
        request = list_request(user_id, queue, kinds, states, labels, created_from, created_to, page_size, "")
        for answer in self._pages(self._jobs.ListJobs, request, timeout):
            yield from map(job_from, answer.jobs)

    def list_attempts(
        self, job_id: str, *, page_size: int = 0, timeout: float | None = None
    ) -> Iterator[Attempt]:
        """Every attempt of a job, oldest first; pages are fetched as they are needed. Raises NotFound."""
        request = job_service_pb2.ListAttemptsRequest(job_id=job_id, page_size=page_size)
        for answer in self._pages(self._jobs.ListAttempts, request, timeout):
            yield from map(attempt_from, answer.attempts)

    def list_log_lines(
        self,
        job_id: str,
        *,
        after_line: int = 0,
        min_level: LogLevel = LogLevel.UNSPECIFIED,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> Iterator[LogLine]:
        """The log lines of a job that are kept (the last 200), oldest first; pages are fetched as they are needed.

        `after_line`: only lines after the one with this number. `min_level`: only lines of this level or a higher
        one. Raises NotFound.
        """
        # The stubs know only their own enum.
        level: Any = int(min_level)
        request = job_service_pb2.ListLogLinesRequest(
            job_id=job_id, after_line=after_line, page_size=page_size, min_level=level
        )
        for answer in self._pages(self._jobs.ListLogLines, request, timeout):
            yield from map(log_line_from, answer.lines)

    def cancel(
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
        return job_from(self._call(self._jobs.Cancel, request, timeout).job)

    def retry(self, job_id: str, *, expected_sequence: int = 0, timeout: float | None = None) -> Job:
        """Returns a failed or cancelled job to pending. Raises FailedPrecondition in other states.

        With `expected_sequence`, the sequence that the job must have, the call is repeated after UNAVAILABLE. Raises
        Aborted if the job has another one, which may be because an earlier try of this call took effect.
        """
        request = job_service_pb2.RetryRequest(job_id=job_id, expected_sequence=expected_sequence)
        answer = self._call(self._jobs.Retry, request, timeout, safe=expected_sequence != 0)
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

    def get_queue(self, queue: str, *, include_stats: bool = False, timeout: float | None = None) -> Queue:
        """One queue, with its jobs counted if `include_stats`. Raises NotFound."""
        request = admin_service_pb2.GetQueueRequest(queue=queue, include_stats=include_stats)
        return queue_from(self._call(self._admin.GetQueue, request, timeout).queue)

    def list_queues(
        self, *, include_stats: bool = False, page_size: int = 0, timeout: float | None = None
    ) -> Iterator[Queue]:
        """Every queue, in the order of the names; pages are fetched as they are needed."""
        request = admin_service_pb2.ListQueuesRequest(include_stats=include_stats, page_size=page_size)
        for answer in self._pages(self._admin.ListQueues, request, timeout):
            yield from map(queue_from, answer.queues)

    def list_nodes(self, *, page_size: int = 0, timeout: float | None = None) -> Iterator[Node]:
        """Every node that is alive, or was in the last hour, newest first; pages are fetched as they are needed."""
        request = admin_service_pb2.ListNodesRequest(page_size=page_size)
        for answer in self._pages(self._admin.ListNodes, request, timeout):
            yield from map(node_from, answer.nodes)

    def pause(self, queue: str, *, timeout: float | None = None) -> Queue:
        """Stops the jobs of the queue from starting. Running jobs continue."""
        request = admin_service_pb2.PauseQueueRequest(queue=queue)
        return queue_from(self._call(self._admin.PauseQueue, request, timeout).queue)

    def resume(self, queue: str, *, timeout: float | None = None) -> Queue:
        """Undoes pause."""
        request = admin_service_pb2.ResumeQueueRequest(queue=queue)
        return queue_from(self._call(self._admin.ResumeQueue, request, timeout).queue)

    def update_limit(
        self, user_id: str, max_running: int | None, *, queue: str = "", timeout: float | None = None
    ) -> UserLimit:
        """Sets how many jobs of a user may run at once in a queue. None removes the user's own limit."""
        request = limit_request(user_id, max_running, queue)
        return user_limit_from(self._call(self._admin.UpdateUserLimit, request, timeout).limit)

    def get_limit(self, user_id: str, *, queue: str = "", timeout: float | None = None) -> UserLimit:
        """The limit that applies to a user in a queue."""
        request = admin_service_pb2.GetUserLimitRequest(user_id=user_id, queue=queue)
        return user_limit_from(self._call(self._admin.GetUserLimit, request, timeout).limit)

    def list_limits(
        self, *, user_id: str = "", queue: str = "", page_size: int = 0, timeout: float | None = None
    ) -> Iterator[UserLimit]:
        """The limits that were set for users, in the order of user and queue; pages are fetched as they are needed."""
        request = admin_service_pb2.ListUserLimitsRequest(user_id=user_id, queue=queue, page_size=page_size)
        for answer in self._pages(self._admin.ListUserLimits, request, timeout):
            yield from map(user_limit_from, answer.limits)

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
        """The sequence of each job; as `after` of a later watch, also in another process, it goes on from here."""
        return self._machine.sequences()

    @property
    def resume_token(self) -> str:
        """The latest token of the service; given to a later watch of the same jobs, user or queue, also in another
        process, it goes on from here, and may repeat the latest items. Empty before the first one."""
        return self._machine.resume_token

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
        self._is_over = False
        # Until when the read under way may take; None: the caller holds us up, not the service.
        self._read_until: float | None = None
        # Set when the stream is over, or must be looked at earlier than the thread thought.
        self._changed = threading.Event()
        self.silence_error: ServiceError | None = None
        threading.Thread(target=self._listen, name="signalbox-watch-silence", daemon=True).start()

    def _listen(self) -> None:
        while not self._is_over:
            silence_s, until = self._watch._machine.silence_s, self._read_until
            wait = silence_s if until is None else until - time.monotonic()
            if wait <= 0:
                self.silence_error = silence_error(silence_s)
                self._call.cancel()
                return
            self._changed.wait(wait)
            self._changed.clear()

    def wait_for_headers(self) -> None:
        """Waits for the headers, which the service sends once the watch is open.

        A failure is raised when the stream is read.
        """
        self._read_until = time.monotonic() + self._watch._machine.silence_s
        self._call.initial_metadata()
        self._read_until = None

    def __iter__(self) -> Iterator[job_service_pb2.WatchResponse]:
        silence_s = self._watch._machine.silence_s
        while True:
            before, silence_s = silence_s, self._watch._machine.silence_s
            self._read_until = time.monotonic() + silence_s
            if silence_s < before:
                self._changed.set()
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
        self._is_over = True
        self._changed.set()
        self._call.cancel()
        self._watch._call = self._outer
