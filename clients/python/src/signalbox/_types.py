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
    """The state of a job. PENDING and RUNNING are live, the other three are final.

    signalbox.v1 adds no state. Of all other enums, UNSPECIFIED also stands for a value that this version does not
    know.
    """

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
    """The outcome of an attempt."""

    UNSPECIFIED = 0
    RUNNING = 1
    SUCCEEDED = 2
    FAILED = 3
    TIMED_OUT = 4
    INTERRUPTED = 5
    RELEASED = 6
    CANCELLED = 7


class FailureCause(enum.IntEnum):
    """Why an attempt or a job ended without success, in the service's terms."""

    UNSPECIFIED = 0
    HANDLER = 1
    HANDLER_PERMANENT = 2
    TIMEOUT = 3
    INTERRUPTED = 4
    CANCELLED = 5
    RELEASED = 6


class LogLevel(enum.IntEnum):
    """The level of a log line."""

    UNSPECIFIED = 0
    DEBUG = 1
    INFO = 2
    WARNING = 3
    ERROR = 4


class EnqueueDisposition(enum.IntEnum):
    """The effect of a call that enqueues a job: it added the job, or found that the same request had added it before."""

    UNSPECIFIED = 0
    CREATED = 1
    SAME_REQUEST = 2


class JobEventType(enum.IntEnum):
    """The type of a lifecycle event. The event's state and sequence are valid for an UNSPECIFIED one too."""

    UNSPECIFIED = 0
    ENQUEUED = 1
    STARTED = 2
    RETRY_SCHEDULED = 3
    RELEASED = 4
    SUCCEEDED = 5
    FAILED = 6
    CANCELLED = 7
    RETRIED = 8
    CANCEL_REQUESTED = 14


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The wait between attempts. A field that is None has the service's default: 5 s, 2, 1 hour, 0.

    After the n-th failure: initial_delay × factor^(n − 1), at most max_delay, changed at random by up to
    ± jitter of itself.
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
    priority: int | None = None
    run_at: datetime | None = None
    delay: timedelta | None = None
    max_attempts: int | None = None
    retry_policy: RetryPolicy | None = None
    timeout: timedelta | None = None
    soft_timeout: timedelta | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobError:
    """Why an attempt ended without success: the service's `cause`, the handler's `reason` (a word for programs; empty if
    it chose none), and a message for people."""

    reason: str
    message: str
    cause: FailureCause = FailureCause.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a running attempt.

    `fraction` is that of the whole attempt, 0 to 1; None: not known. `done` and `total` count steps, bytes or other
    units; a `total` of 0: they are not counted.
    """

    stage: str
    fraction: float | None
    message: str
    done: int
    total: int
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a handler wrote. `number` counts from 1, over all attempts of the job."""

    number: int
    at: datetime | None
    attempt: int
    level: LogLevel
    message: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One run of a job. No other run of the job has its number.

    `node` is empty unless the caller has the scope admin. `counted`: the attempt uses up one of max_attempts.
    """

    number: int
    node: str
    started_at: datetime | None
    ended_at: datetime | None
    outcome: AttemptOutcome
    error: JobError | None
    counted: bool


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
    """A job as the service described it. Times are aware, in UTC.

    `attempt` counts every start of the job; `attempts_used` those that used up one of `max_attempts`.
    """

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
    attempts_used: int

    @property
    def is_final(self) -> bool:
        return self.state.is_final


@dataclass(frozen=True, slots=True)
class Enqueued:
    """A job, and whether it is new: False if a job with this id or key existed."""

    job: Job
    created: bool
    disposition: EnqueueDisposition

    @property
    def id(self) -> str:
        return self.job.id


@dataclass(frozen=True, slots=True)
class EnqueuedItem:
    """The result of one job of a batch. `sequence` is the number of the job's last event; 1 for a new job."""

    job_id: str
    created: bool
    disposition: EnqueueDisposition
    sequence: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs, and the token of the next page (empty: this is the last page)."""

    jobs: tuple[Job, ...]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The current state of a job, which is the first item of each watched job."""

    job: Job


@dataclass(frozen=True, slots=True)
class SnapshotsComplete:
    """All snapshots of jobs that existed when the watch began have been given. Given once."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """A lifecycle event. `sequence` is one more than that of the job's previous event.

    `node` is empty if there is none, and unless the caller has the scope admin.
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


@dataclass(frozen=True, slots=True)
class JobRemoved:
    """A job of the watch does not exist, or was removed after its retention. No more events of it follow."""

    job_id: str


WatchItem = Snapshot | SnapshotsComplete | JobEvent | ProgressEvent | LogEvent | JobRemoved


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The jobs of a queue by state, and its rates per second, over the last minute.

    `pending` includes `not_due`. `capped`: the jobs were not all counted, and each number of 10,000 or more may be less
    than the truth.
    """

    pending: int
    not_due: int
    running: int
    succeeded: int
    failed: int
    cancelled: int
    oldest_pending_age: timedelta | None
    enqueued_per_second: float
    finished_per_second: float
    capped: bool


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue. `stats` is None unless it was asked for."""

    name: str
    paused: bool
    stats: QueueStats | None


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
    """The number of jobs of a user that may run at once in a queue, and of those that do.

    `overridden`: the limit was set for this user; otherwise it is the queue's. `max_running` is None if the service did
    not say.
    """

    user_id: str
    queue: str
    max_running: int | None
    overridden: bool
    running: int


class Stability(enum.IntEnum):
    """The degree to which clients can rely on a feature."""

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
    if not message.HasField("error"):
        return None
    error: job_pb2.JobError = message.error
    return JobError(error.reason, error.message, _known(FailureCause, error.cause))


def _result(message: Any) -> JobResult | None:
    return JobResult(message.result.data, message.result.content_type) if message.HasField("result") else None


def progress_from(message: job_pb2.Progress) -> Progress:
    return Progress(
        message.stage,
        message.fraction if message.HasField("fraction") else None,
        message.message,
        message.done,
        message.total,
        _time(message, "updated_at"),
    )


def log_line_from(message: job_pb2.LogLine) -> LogLine:
    level = _known(LogLevel, message.level)
    return LogLine(message.number, _time(message, "at"), message.attempt, level, message.message)


def attempt_from(message: job_pb2.Attempt) -> Attempt:
    return Attempt(
        message.number,
        message.node,
        _time(message, "started_at"),
        _time(message, "ended_at"),
        _known(AttemptOutcome, message.outcome),
        _error(message),
        message.counted,
    )


def retry_policy_from(message: job_pb2.RetryPolicy) -> RetryPolicy:
    return RetryPolicy(
        _span(message, "initial_delay"),
        message.factor if message.HasField("factor") else None,
        _span(message, "max_delay"),
        message.jitter if message.HasField("jitter") else None,
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
        attempts_used=message.attempts_used,
    )


def enqueued_from(message: job_service_pb2.EnqueueResponse, is_own_id: bool) -> Enqueued:
    """`is_own_id`: the client made the job's id, which is new; so if the service says that the job existed, an earlier try
    of the same call added it."""
    if is_own_id:
        return Enqueued(job_from(message.job), True, EnqueueDisposition.CREATED)
    return Enqueued(job_from(message.job), message.created, _known(EnqueueDisposition, message.disposition))


def enqueued_item_from(message: job_service_pb2.EnqueuedJob, is_own_id: bool) -> EnqueuedItem:
    """`is_own_id`: as for enqueued_from."""
    disposition = EnqueueDisposition.CREATED if is_own_id else _known(EnqueueDisposition, message.disposition)
    return EnqueuedItem(message.job_id, message.created or is_own_id, disposition, message.sequence)


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
        message.pending,
        message.not_due,
        message.running,
        message.succeeded,
        message.failed,
        message.cancelled,
        _span(message, "oldest_pending_age"),
        message.enqueued_per_second,
        message.finished_per_second,
        message.capped,
    )


def queue_from(message: admin_service_pb2.Queue) -> Queue:
    stats = queue_stats_from(message.stats) if message.HasField("stats") else None
    return Queue(message.name, message.paused, stats)


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
    max_running = message.max_running if message.HasField("max_running") else None
    return UserLimit(message.user_id, message.queue, max_running, message.overridden, message.running)


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
    """The value as this enum; UNSPECIFIED if it is one that a newer server has added."""
    try:
        return kind(value)
    except ValueError:
        return kind.UNSPECIFIED
