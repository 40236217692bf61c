"""The state machine of a watch: its reactions to each message and to each end of its stream.

It is pure: messages, ends and times come in, requests and items go out; the drivers in _client.py and aio.py
only connect, read, and wait. It keeps the sequence of the last lifecycle event of each job, so that no
event is given twice and none is left out, however often the connection is lost:

    request() ──► stream ──► receive(message) ──► items for the caller
                    │               └─ Next.READ, RECONNECT (a gap), or FILL
                    └─ ended(error) ──► None: all done, or seconds to wait before the next request()

A watch resumes by the latest `resume_token`; events that come again are dropped by their sequence. If there is no
token yet, or the server cannot go on from it, a watch of named jobs resumes by `after_sequence`. A watch of a user
or queue then begins with snapshots, which show the jobs that moved on meanwhile; the events that these jobs missed
are fetched with watches of those jobs (fill_request) while the new stream waits.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import grpc

from signalbox.v1 import job_pb2, job_service_pb2

from ._backoff import Backoff
from ._errors import InvalidArgument, NotFound, ResourceExhausted, ServiceError, Unauthenticated, Unavailable, make_error
from ._requests import WATCHED_JOBS_MAX
from ._types import (
    JobRemoved,
    JobState,
    LogEvent,
    ProgressEvent,
    Snapshot,
    SnapshotsComplete,
    WatchItem,
    job_event_from,
    job_from,
    log_line_from,
    progress_from,
)

#: The time for which a connection may be silent, in seconds, before the server has said how often it sends
#: heartbeats.
DEFAULT_SILENCE_S = 45.0
#: A connection is dead after this many missed heartbeats, whatever the network says.
HEARTBEATS_MISSED = 3
#: The number of final jobs of a user or queue that are remembered (Retry may return one to PENDING).
FINAL_KEPT = 10_000

_FINAL = frozenset((int(JobState.SUCCEEDED), int(JobState.FAILED), int(JobState.CANCELLED)))

#: Another try would end the same way.
_HOPELESS = frozenset(
    (
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.UNIMPLEMENTED,
    )
)


class Next(enum.Enum):
    """The next action of the driver after a message."""

    READ = "read"
    RECONNECT = "reconnect"
    FILL = "fill"


@dataclass(slots=True)
class Step:
    """The items of one message, and the next action."""

    items: list[WatchItem] = field(default_factory=list)
    next: Next = Next.READ


@dataclass(slots=True)
class _Known:
    """The state of one job as far as the caller has received it."""

    #: The sequence of the last lifecycle event given, or of the first snapshot; 0: nothing was given yet.
    sequence: int = 0
    #: None: no message was received about the job.
    is_final: bool | None = None
    #: The service said that the job does not exist any more.
    is_removed: bool = False
    log_number: int = 0

    @property
    def is_over(self) -> bool:
        """Nothing more is expected of the job."""
        return bool(self.is_final) or self.is_removed


class WatchMachine:
    """One watch, over all its connections.

    `after` and `resume_token` are where an earlier watch was. `give_up_s`: how long without any message until the last
    error is raised; None: never. `renews`: each connection has a new token, so that the watch survives the end of a
    token that was good.
    """

    def __init__(
        self,
        job_ids: Sequence[str] = (),
        user_id: str = "",
        queue: str = "",
        after: Mapping[str, int] | None = None,
        resume_token: str = "",
        include_log: bool = False,
        give_up_s: float | None = 300.0,
        backoff: Backoff | None = None,
        renews: bool = False,
    ) -> None:
        self._by_job = bool(job_ids)
        self._user_id = user_id
        self._queue = queue
        self._include_log = include_log
        self._give_up_s = give_up_s
        # When the first of the failures in a row was; None: the last connection gave a message.
        self._failing_since: float | None = None
        # Whether the service ever had this watch.
        self._was_open = False
        self._renews = renews
        # Whether this connection gave a message: its token was good.
        self._heard = False
        self._backoff = backoff or Backoff()
        self._known: dict[str, _Known] = {id: _Known((after or {}).get(id, 0)) for id in job_ids}
        # The final jobs of a watch of a user or queue, oldest first, apart from the live ones.
        self._final: OrderedDict[str, _Known] = OrderedDict()
        self._told_complete = False
        #: The latest token of the service; empty: none yet, or the last one is no longer of use.
        self.resume_token = resume_token
        # The jobs of the requests that the token belongs to; a request with the token must name the same ones.
        self._asked: tuple[str, ...] = tuple(job_ids)
        # Whether this connection goes on where the token was sent.
        self._resumed = False
        # Whether we end this connection ourselves, so that its end says nothing about the jobs.
        self._reconnects = False
        #: The time for which this connection may be silent, in seconds.
        self.silence_s = DEFAULT_SILENCE_S
        # The jobs of this connection's snapshots, until these are complete.
        self._seen: set[str] = set()
        # Jobs that moved on unseen, in the order in which that was found, and those of them that a fill asks for.
        self._behind: dict[str, None] = {}
        self._filling: list[str] = []
        # The error of the last fill, until one is complete or none is needed.
        self._fill_error: ServiceError | None = None

    def sequences(self) -> dict[str, int]:
        """The sequence of each job; given as `after` to a later watch it goes on from here."""
        return {id: known.sequence for id, known in self._known.items() if known.sequence}

    def request(self) -> job_service_pb2.WatchRequest:
        """The request of a (new) stream that goes on from here."""
        if self._behind:
            # The token is beyond events that a fill should have fetched.
            self.resume_token = ""
        self._heard = self._resumed = self._reconnects = False
        self.silence_s = DEFAULT_SILENCE_S
        self._seen.clear()
        self._behind.clear()
        self._filling.clear()
        request = job_service_pb2.WatchRequest(include_log=self._include_log, resume_token=self.resume_token)
        if not self._by_job:
            request.filter.user_id = self._user_id
            request.filter.queue = self._queue
            return request
        if not self.resume_token:
            self._asked = tuple(id for id, known in self._known.items() if not known.is_over)
        for id in self._asked:
            self._ask(request, id)
        return request

    def _ask(self, request: job_service_pb2.WatchRequest, id: str) -> None:
        known = self._get(id)
        line = known.log_number if self._include_log else 0
        request.jobs.add(job_id=id, after_sequence=known.sequence, after_log_line=line)

    def receive(self, message: job_service_pb2.WatchResponse) -> Step:
        """A message of the stream. One without a known event has no items."""
        self._was_open = self._heard = True
        step = Step()
        which = message.WhichOneof("event")
        if which == "opened":
            # It does not show that the watch works: each watch begins with it, also one that fails at once.
            self._opened(message.opened, step)
            self._reconnects = step.next is Next.RECONNECT
            return step
        if self._fill_error is None:
            self._failing_since = None
        if which == "snapshot":
            self._snapshot(message.snapshot, step)
        elif which == "lifecycle":
            self._lifecycle(message.lifecycle, step)
        elif which == "progress":
            event = message.progress
            if self._wants(event.job_id):
                step.items.append(ProgressEvent(event.job_id, event.attempt, progress_from(event.progress)))
        elif which == "log":
            self._log(message.log, step)
        elif which == "heartbeat":
            # The stream has lived for a while.
            self._backoff.reset()
        elif which == "removed":
            self._remove(message.removed.job_id, step)
        elif which == "snapshots_complete":
            self._snapshots_complete(step)
        if step.next is Next.RECONNECT:
            self._reconnects = True
        elif message.resume_token:
            self.resume_token = message.resume_token
        return step

    def ended(self, error: ServiceError | None, now: float) -> float | None:
        """The stream ended: with OK (None) or an error. Returns None when the watch is done, else the seconds
        to wait before the next request; raises an error that another try would not help. OK after a failed fill
        stands for the fill's error."""
        error = error or self._fill_error
        has_expired = isinstance(error, Unauthenticated) and self._renews and self._heard
        if self.resume_token and _refuses_token(error):
            # The watch begins again without the token: after the sequences, or with snapshots.
            self.resume_token = ""
        elif error is not None and error.code in _HOPELESS and not has_expired:
            raise error
        if isinstance(error, ResourceExhausted) and not self._was_open:
            # The first connection fails at once, as any other call. A later one retries, because the connection
            # that was lost may still count as a watch.
            raise error
        is_over = self._by_job and all(self._is_over(known, error) for known in self._known.values())
        if is_over and not self._reconnects:
            return None
        if self._failing_since is None:
            self._failing_since = now
        if self._give_up_s is not None and now - self._failing_since >= self._give_up_s:
            raise error or Unavailable(grpc.StatusCode.UNAVAILABLE, "the watch ended too many times in a row")
        return self._backoff.next_delay(error)

    def _is_over(self, known: _Known, error: ServiceError | None) -> bool:
        if known.is_final is None and not known.is_removed:
            # The watch went on after the job's last event: the service had nothing to send, and ended the stream.
            return error is None and (known.sequence > 0 or self._resumed)
        return known.is_over

    # Jobs that moved on while a watch of a user or queue was cut.

    def fill_request(self) -> job_service_pb2.WatchRequest | None:
        """A request for what the next jobs missed; None: nothing (more) is missing."""
        self._filling = list(self._behind)[:WATCHED_JOBS_MAX]
        if not self._filling:
            return None
        request = job_service_pb2.WatchRequest()
        for id in self._filling:
            self._ask(request, id)
        return request

    def receive_fill(self, message: job_service_pb2.WatchResponse) -> Step:
        """A message of a fill's stream. FILL: the fill is complete; go on with the next fill_request."""
        step = Step()
        which = message.WhichOneof("event")
        if which == "lifecycle":
            self._lifecycle(message.lifecycle, step)
        elif which == "removed":
            self._remove(message.removed.job_id, step)
        if step.items:
            self._failing_since = None
        if which == "snapshots_complete":
            # All that was missed came before it. Later events come on the watch's own stream, which must not wait
            # until these jobs are final.
            self._filled()
            step.next = Next.FILL
        return step

    def fill_ended(self, error: ServiceError | None) -> bool:
        """A fill's stream ended by itself. True: go on with the next fill_request; False: reconnect."""
        if isinstance(error, NotFound) and len(self._filling) == 1:
            # The only job of the fill was removed.
            self._forget(self._filling[0])
            error = None
        if error is None:
            self._filled()
            return True
        self._fill_error = error
        return False

    def _filled(self) -> None:
        self._failing_since = self._fill_error = None
        for id in self._filling:
            self._behind.pop(id, None)
        self._filling = []

    # Each kind of message.

    def _get(self, id: str) -> _Known:
        return self._known.get(id) or self._final.get(id) or _Known()

    def _wants(self, id: str) -> bool:
        return not self._by_job or id in self._known

    def _set(self, id: str, sequence: int, is_final: bool) -> None:
        known = self._get(id)
        known.sequence = sequence
        known.is_final = is_final
        if self._by_job:
            return
        self._known.pop(id, None)
        self._final.pop(id, None)
        (self._final if known.is_final else self._known)[id] = known
        if len(self._final) > FINAL_KEPT:
            self._final.popitem(last=False)

    def _forget(self, id: str) -> None:
        self._behind.pop(id, None)
        if self._by_job:
            self._known[id].is_removed = True
        else:
            self._known.pop(id, None)
            self._final.pop(id, None)

    def _opened(self, opened: job_service_pb2.WatchOpened, step: Step) -> None:
        interval = opened.heartbeat_interval.ToTimedelta().total_seconds()
        self.silence_s = HEARTBEATS_MISSED * interval if interval > 0 else DEFAULT_SILENCE_S
        self._resumed = opened.resumed
        if self.resume_token and not opened.resumed:
            # The server cannot go on from the token.
            self.resume_token = ""
            if self._by_job and any(known.sequence for known in self._known.values()):
                # It can from the sequences, which it ignored.
                step.next = Next.RECONNECT

    def _snapshot(self, snapshot: job_service_pb2.JobSnapshot, step: Step) -> None:
        job = snapshot.job
        if not self._wants(job.id):
            return
        self._seen.add(job.id)
        known = self._get(job.id)
        if known.sequence == 0:
            # If the job is final already, its last event follows, which has the result and ends the job's part.
            self._set(job.id, job.sequence - (job.state in _FINAL), is_final=False)
            step.items.append(Snapshot(job_from(job)))
        # Otherwise a user or queue is watched again after a reconnection.
        elif job.sequence == known.sequence:
            if job.HasField("progress") and job.state == job_pb2.JOB_STATE_RUNNING:
                step.items.append(ProgressEvent(job.id, job.attempt, progress_from(job.progress)))
        elif job.sequence > known.sequence:
            self._behind[job.id] = None

    def _lifecycle(self, event: job_service_pb2.JobEvent, step: Step) -> None:
        if not self._wants(event.job_id):
            return
        known = self._get(event.job_id)
        if event.sequence <= known.sequence:
            return
        if known.sequence != 0 and event.sequence != known.sequence + 1:
            # The service never leaves a gap; if there is one, the missing events are asked for again.
            known.is_final = False
            if self._by_job or self._filling:
                self.resume_token = ""
                step.next = Next.RECONNECT
            else:
                self._behind[event.job_id] = None
                step.next = Next.FILL
            return
        self._set(event.job_id, event.sequence, event.state in _FINAL)
        self._backoff.reset()
        step.items.append(job_event_from(event))

    def _log(self, event: job_service_pb2.LogEvent, step: Step) -> None:
        if not self._wants(event.job_id):
            return
        known = self._get(event.job_id)
        lines = tuple(log_line_from(line) for line in event.lines if line.number > known.log_number)
        if lines:
            known.log_number = lines[-1].number
            step.items.append(LogEvent(event.job_id, lines))

    def _remove(self, id: str, step: Step) -> None:
        if not self._wants(id) or self._get(id).is_removed:
            return
        self._forget(id)
        step.items.append(JobRemoved(id))

    def _snapshots_complete(self, step: Step) -> None:
        if not self._by_job and not self._resumed:
            for id in self._known:
                # It was live when the last message of it came, and is not among the live ones any more.
                if id not in self._seen:
                    self._behind[id] = None
        self._seen.clear()
        if self._behind:
            step.next = Next.FILL
        else:
            self._fill_error = None
        if not self._told_complete:
            self._told_complete = True
            step.items.append(SnapshotsComplete())


def _refuses_token(error: ServiceError | None) -> bool:
    """Whether the service refused the resume token, and nothing else of the request."""
    if not isinstance(error, InvalidArgument) or not error.violations:
        return False
    return all(violation.field == "resume_token" for violation in error.violations)


def silence_error(seconds: float) -> ServiceError:
    """The error of a connection that received no message for so long."""
    return make_error(grpc.StatusCode.UNAVAILABLE, f"no message from the server for {seconds:g} s")
