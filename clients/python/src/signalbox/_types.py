"""The messages of the service as Python types. Nothing here does I/O."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from signalbox.v1 import admin_service_pb2, info_service_pb2, job_pb2, job_service_pb2


class JobState(enum.IntEnum):
    """Where a job is in its life. PENDING and RUNNING are live, the other three final."""

    UNSPECIFIED = 0
    PENDING = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5

    @property
    def is_final(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class AttemptOutcome(enum.IntEnum):
    """How an attempt ended."""

    UNSPECIFIED = 0
    RUNNING = 1
    SUCCEEDED = 2
    FAILED = 3
    TIMED_OUT = 4
    INTERRUPTED = 5
    RELEASED = 6
    CANCELLED = 7


class JobEventType(enum.IntEnum):
    """A change of a job's state."""

    UNSPECIFIED = 0
    ENQUEUED = 1
    STARTED = 2
    RETRY_SCHEDULED = 3
    RELEASED = 4
    SUCCEEDED = 5
    FAILED = 6
    CANCELLED = 7
    RETRIED = 8


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait between attempts. What is None is left to the service.

    After the n-th failure: initial_delay × factor^(n − 1), at most max_delay, moved at random by up to
    ± jitter of itself. Defaults of the service: 5 s, 2, 1 hour, 0.
    """

    initial_delay: timedelta | None = None
    factor: float | None = None
    max_delay: timedelta | None = None
    jitter: float | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be enqueued; see Client.enqueue for each field."""

    kind: str
    payload: Any = None
    user_id: str = ""
    queue: str = ""
    content_type: str | None = None
    job_id: str | None = None
    idempotency_key: str | None = None
    priority: int = 0
    run_at: datetime | None = None
    delay: timedelta | None = None
    max_attempts: int | None = None
    retry_policy: RetryPolicy | None = None
    timeout: timedelta | None = None
    soft_timeout: timedelta | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobError:
    """Why an attempt ended without success: a word for programs, a text for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running attempt is. fraction is 0 to 1; steps is 0 when they are not counted."""

    stage: str
    fraction: float
    message: str
    step: int
    steps: int
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a handler wrote. number counts up from 1 within a job."""

    number: int
    at: datetime | None
    attempt: int
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job. node is empty unless the caller has the scope admin."""

    number: int
    node: str
    started_at: datetime | None
    ended_at: datetime | None
    outcome: AttemptOutcome
    error: JobError | None


@dataclass(frozen=True, slots=True)
class JobResult:
    """The result that a handler returned."""

    data: bytes
    content_type: str

    def json(self) -> Any:
        """The data, decoded; None when it is empty."""
        return json.loads(self.data) if self.data else None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as the service described it. Times are aware, in UTC."""

    id: str
    kind: str
    user_id: str
    queue: str
    priority: int
    state: JobState
    sequence: int
    created_at: datetime | None
    due_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    attempt: int
    max_attempts: int
    labels: Mapping[str, str]
    idempotency_key: str
    cancel_requested: bool
    progress: Progress | None
    result: JobResult | None
    error: JobError | None
    content_type: str
    retry_policy: RetryPolicy | None
    timeout: timedelta | None
    soft_timeout: timedelta | None
    attempts: tuple[Attempt, ...]
    log: tuple[LogLine, ...]
    payload: bytes

    @property
    def is_final(self) -> bool:
        return self.state.is_final


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A job, and whether it is new: False when the same id or key was enqueued before."""

    job: Job
    created: bool

    @property
    def id(self) -> str:
        return self.job.id


@dataclass(frozen=True, slots=True)
class EnqueuedItem:
    """The outcome for one job of a batch."""

    job_id: str
    created: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, and the token of the next page (empty: that was all)."""

    jobs: tuple[Job, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The present state of a job, which is the first item of each watched job."""

    job: Job


@dataclass(frozen=True, slots=True)
class SnapshotComplete:
    """Sent once, after the snapshots of all jobs that existed when the watch began."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """A lifecycle change. sequence is one more than that of the job's event before.

    node is empty where there is none, and unless the caller has the scope admin.
    """

    job_id: str
    sequence: int
    type: JobEventType
    state: JobState
    at: datetime | None
    attempt: int
    node: str
    error: JobError | None
    due_at: datetime | None
    result: JobResult | None
    kind: str
    user_id: str
    queue: str


@dataclass(frozen=True, slots=True)
class ProgressEvent:
    """The latest progress of a running job."""

    job_id: str
    attempt: int
    progress: Progress


@dataclass(frozen=True, slots=True)
class LogEvent:
    """Lines that a handler wrote, in order."""

    job_id: str
    lines: tuple[LogLine, ...]


WatchItem = Snapshot | SnapshotComplete | JobEvent | ProgressEvent | LogEvent


@dataclass(frozen=True, slots=True)
class QueueStats:
    """One queue: how many jobs by state, and how fast it moves (per second, over the last minute)."""

    queue: str
    pending: int
    scheduled: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    oldest_pending_age: timedelta | None
    enqueued_per_second: float
    finished_per_second: float
    paused: bool


@dataclass(frozen=True, slots=True)
class Node:
    """One server process."""

    id: str
    name: str
    version: str
    started_at: datetime | None
    last_heartbeat_at: datetime | None
    alive: bool
    concurrency: int
    kinds: tuple[str, ...]
    running: int
    running_job_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UserLimit:
    """How many jobs of a user may run at once in a queue, and how many do."""

    user_id: str
    queue: str
    limit: int
    is_override: bool
    running: int


class Stability(enum.IntEnum):
    """How much clients can rely on a feature. UNSPECIFIED stands for a value that this version does not know."""

    UNSPECIFIED = 0
    EXPERIMENTAL = 1
    STABLE = 2
    DEPRECATED = 3


@dataclass(frozen=True, slots=True)
class Feature:
    """A part of the API that not every server has, and whether the server's settings allow its use."""

    name: str
    stability: Stability
    enabled: bool


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """The limits of a server. A limit is 0 or None if the server has no such limit, or does not say it."""

    max_payload_bytes: int
    max_result_bytes: int
    max_batch_jobs: int
    max_batch_bytes: int
    max_watched_jobs: int
    max_page_size: int
    max_checkpoint_bytes: int
    kept_log_lines: int
    max_labels: int
    heartbeat_interval: timedelta | None
    retention: timedelta | None
    max_wait: timedelta | None
    max_event_result_bytes: int


@dataclass(frozen=True, slots=True)
class CallerInfo:
    """The client as the server knows it. `users` has the first 100, and is empty with `all_users`."""

    name: str
    source: str
    scopes: tuple[str, ...]
    all_users: bool
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """The description of a server. `node` is empty for callers without the scope admin."""

    version: str
    api_packages: tuple[str, ...]
    features: tuple[Feature, ...]
    limits: ServerLimits
    at: datetime | None
    node: str
    caller: CallerInfo


# From messages.


def _time(message: Message, name: str) -> datetime | None:
    if not message.HasField(name):
        return None
    value: Timestamp = getattr(message, name)
    return value.ToDatetime(tzinfo=timezone.utc)


def _span(message: Message, name: str) -> timedelta | None:
    if not message.HasField(name):
        return None
    value: Duration = getattr(message, name)
    return value.ToTimedelta()


def _error(message: Any) -> JobError | None:
    return JobError(message.error.reason, message.error.message) if message.HasField("error") else None


def _result(message: Any) -> JobResult | None:
    return JobResult(message.result.data, message.result.content_type) if message.HasField("result") else None


def progress_from(message: job_pb2.Progress) -> Progress:
    return Progress(
        message.stage,
        message.fraction,
        message.message,
        message.step,
        message.steps,
        _time(message, "updated_at"),
    )


def log_line_from(message: job_pb2.LogLine) -> LogLine:
    return LogLine(message.number, _time(message, "at"), message.attempt, message.level, message.message)


def attempt_from(message: job_pb2.Attempt) -> Attempt:
    return Attempt(
        message.number,
        message.node,
        _time(message, "started_at"),
        _time(message, "ended_at"),
        _known(AttemptOutcome, message.outcome),
        _error(message),
    )


def retry_policy_from(message: job_pb2.RetryPolicy) -> RetryPolicy:
    return RetryPolicy(
        _span(message, "initial_delay"),
        message.factor or None,
        _span(message, "max_delay"),
        message.jitter or None,
    )


def job_from(message: job_pb2.Job) -> Job:
    return Job(
        id=message.id,
        kind=message.kind,
        user_id=message.user_id,
        queue=message.queue,
        priority=message.priority,
        state=_known(JobState, message.state),
        sequence=message.sequence,
        created_at=_time(message, "created_at"),
        due_at=_time(message, "due_at"),
        started_at=_time(message, "started_at"),
        finished_at=_time(message, "finished_at"),
        attempt=message.attempt,
        max_attempts=message.max_attempts,
        labels=dict(message.labels),
        idempotency_key=message.idempotency_key,
        cancel_requested=message.cancel_requested,
        progress=progress_from(message.progress) if message.HasField("progress") else None,
        result=_result(message),
        error=_error(message),
        content_type=message.content_type,
        retry_policy=retry_policy_from(message.retry_policy) if message.HasField("retry_policy") else None,
        timeout=_span(message, "timeout"),
        soft_timeout=_span(message, "soft_timeout"),
        attempts=tuple(attempt_from(item) for item in message.attempts),
        log=tuple(log_line_from(line) for line in message.log),
        payload=message.payload,
    )


def job_event_from(message: job_service_pb2.JobEvent) -> JobEvent:
    return JobEvent(
        job_id=message.job_id,
        sequence=message.sequence,
        type=_known(JobEventType, message.type),
        state=_known(JobState, message.state),
        at=_time(message, "at"),
        attempt=message.attempt,
        node=message.node,
        error=_error(message),
        due_at=_time(message, "due_at"),
        result=_result(message),
        kind=message.kind,
        user_id=message.user_id,
        queue=message.queue,
    )


def queue_stats_from(message: admin_service_pb2.QueueStats) -> QueueStats:
    return QueueStats(
        message.queue,
        message.pending,
        message.scheduled,
        message.running,
        message.succeeded,
        message.failed,
        message.cancelled,
        _span(message, "oldest_pending_age"),
        message.enqueued_per_second,
        message.finished_per_second,
        message.paused,
    )


def node_from(message: admin_service_pb2.Node) -> Node:
    return Node(
        message.id,
        message.name,
        message.version,
        _time(message, "started_at"),
        _time(message, "last_heartbeat_at"),
        message.alive,
        message.concurrency,
        tuple(message.kinds),
        message.running,
        tuple(message.running_job_ids),
    )


def user_limit_from(message: admin_service_pb2.UserLimit) -> UserLimit:
    return UserLimit(message.user_id, message.queue, message.limit, message.is_override, message.running)


def server_info_from(message: info_service_pb2.GetServerInfoResponse) -> ServerInfo:
    limits, caller = message.limits, message.caller
    return ServerInfo(
        message.version,
        tuple(message.api_packages),
        tuple(Feature(item.name, _known(Stability, item.stability), item.enabled) for item in message.features),
        ServerLimits(
            limits.max_payload_bytes,
            limits.max_result_bytes,
            limits.max_batch_jobs,
            limits.max_batch_bytes,
            limits.max_watched_jobs,
            limits.max_page_size,
            limits.max_checkpoint_bytes,
            limits.kept_log_lines,
            limits.max_labels,
            _span(limits, "heartbeat_interval"),
            _span(limits, "retention"),
            _span(limits, "max_wait"),
            limits.max_event_result_bytes,
        ),
        _time(message, "at"),
        message.node,
        CallerInfo(caller.name, caller.source, tuple(caller.scopes), caller.all_users, tuple(caller.users)),
    )


def _known(kind: Any, value: int) -> Any:
    """A newer server may know more values than we do."""
    try:
        return kind(value)
    except ValueError:
        return kind.UNSPECIFIED
