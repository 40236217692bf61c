"""The state machine of a watch: its reactions to each message and to each end of its stream.

It is pure: messages, ends and times come in, requests and items go out; the drivers in _client.py and aio.py
only connect, read, and wait. It keeps the sequence of the last lifecycle event of each job, so that no
event is given twice and none is left out, however often the connection is lost:

    request() ──► stream ──► receive(message) ──► items for the caller
                    │               └─ Next.READ, RECONNECT (a gap), or FILL
                    └─ ended(error) ──► None: all done, or seconds to wait before the next request()

A watch of named jobs resumes by `after_sequence`. A watch of a user or queue cannot name where it was, so
after a reconnection its snapshots tell which jobs moved on meanwhile, and what they missed is fetched with
watches of those jobs (fill_request) while the new stream waits.
"""

from __future__ import annotations

import enum
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import grpc

from signalbox.v1 import job_pb2, job_service_pb2

from ._backoff import Backoff
from ._errors import NotFound, ResourceExhausted, ServiceError, Unauthenticated, Unavailable, make_error
from ._requests import WATCHED_JOBS_MAX
from ._types import (
    JobState,
    LogEvent,
    ProgressEvent,
    Snapshot,
    SnapshotComplete,
    WatchItem,
    job_event_from,
    job_from,
    log_line_from,
    progress_from,
)

#: Three heartbeats of 15 s missed: the connection is dead, whatever the network says.
SILENCE_S = 45.0
#: How many final jobs of a user or queue are remembered (one may be put back by Retry).
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
    #: None: no message was received about the job, and the caller's `after` does not say.
    is_final: bool | None = None
    log_number: int = 0


class WatchMachine:
    """One watch, over all its connections.

    `give_up_s`: how long without any message until the last error is raised; None: never. `renews`: each
    connection has a new token, so that the end of one that was good is not the end of the watch.
    """

    def __init__(
        self,
        job_ids: Sequence[str] = (),
        user_id: str = "",
        queue: str = "",
        after: Mapping[str, int] | None = None,
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
        # The error of the last named job that was removed before its end was received.
        self._removed: NotFound | None = None
        # The final jobs of a watch of a user or queue, oldest first, apart from the live ones.
        self._final: OrderedDict[str, _Known] = OrderedDict()
        self._told_complete = False
        # The jobs of this connection's snapshots, until these are complete.
        self._seen: set[str] = set()
        # Jobs that moved on unseen, in the order in which that was found, and those of them now asked for.
        self._behind: dict[str, None] = {}
        self._filling: list[str] = []
        #: The most jobs that one fill requests.
        self._fill_max = WATCHED_JOBS_MAX

    def sequences(self) -> dict[str, int]:
        """Where each job is; given as `after` to a later watch it goes on from here."""
        return {id: known.sequence for id, known in self._known.items() if known.sequence}

    def request(self) -> job_service_pb2.WatchRequest:
        """Asks for a (new) stream, from where we are."""
        self._heard = False
        self._seen.clear()
        self._behind.clear()
        self._filling.clear()
        self._fill_max = WATCHED_JOBS_MAX
        request = job_service_pb2.WatchRequest(
            user_id=self._user_id, queue=self._queue, include_log=self._include_log
        )
        if self._by_job:
            for id, known in self._known.items():
                # A job whose end was received may have been removed since, and would fail the watch of the others.
                if not known.is_final:
                    request.jobs.add(job_id=id, after_sequence=known.sequence)
        return request

    def receive(self, message: job_service_pb2.WatchResponse) -> Step:
        """A message of the stream."""
        self._was_open = self._heard = True
        self._failing_since = None
        step = Step()
        which = message.WhichOneof("event")
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
            self._heartbeat(message.heartbeat, step)
        return step

    def ended(self, error: ServiceError | None, now: float) -> float | None:
        """The stream ended: with OK (None) or an error. Gives None when the watch is done, else the seconds
        to wait before the next request; raises what cannot be helped."""
        was_removed = isinstance(error, NotFound) and self._remove(error)
        has_expired = isinstance(error, Unauthenticated) and self._renews and self._heard
        if error is not None and error.code in _HOPELESS and not was_removed and not has_expired:
            raise error
        if isinstance(error, ResourceExhausted) and not self._was_open:
            # The first connection fails at once, as any other call. A later one retries, because the connection
            # that was lost may still count as a watch.
            raise error
        if self._by_job and all(self._is_over(known, error) for known in self._known.values()):
            if self._removed is not None:
                raise self._removed
            return None
        if was_removed:
            return 0.0
        if self._failing_since is None:
            self._failing_since = now
        if self._give_up_s is not None and now - self._failing_since >= self._give_up_s:
            raise error or Unavailable(grpc.StatusCode.UNAVAILABLE, "the watch ended too many times in a row")
        return self._backoff.next_delay(error)

    def _remove(self, error: NotFound) -> bool:
        """Removes the job that an error names. Returns whether that job existed before: the others are then watched
        without it, and the error is raised after their end. The error for an unknown job is raised at once."""
        known = self._known.get(error.resource_name)
        if not self._by_job or known is None or known.sequence == 0:
            return False
        del self._known[error.resource_name]
        self._removed = error
        return True

    @staticmethod
    def _is_over(known: _Known, error: ServiceError | None) -> bool:
        if known.is_final is None:
            # `after` was its last event: the service had nothing to tell, and ended the stream.
            return known.sequence > 0 and error is None
        return known.is_final

    # Jobs that moved on while a watch of a user or queue was cut.

    def fill_request(self) -> job_service_pb2.WatchRequest | None:
        """Asks for what the next jobs missed; None: nothing (more) is missing."""
        self._filling = list(self._behind)[: self._fill_max]
        if not self._filling:
            return None
        request = job_service_pb2.WatchRequest()
        for id in self._filling:
            request.jobs.add(job_id=id, after_sequence=self._get(id).sequence)
        return request

    def receive_fill(self, message: job_service_pb2.WatchResponse) -> Step:
        """A message of a fill's stream. FILL: it has given all we need; go on with the next fill_request."""
        self._failing_since = None
        step = Step()
        which = message.WhichOneof("event")
        if which == "lifecycle":
            self._lifecycle(message.lifecycle, step)
        elif which == "heartbeat" and message.heartbeat.snapshot_complete:
            # All that was missed came before it. What happens from here on is on the watch's own stream, which
            # must not wait until these jobs are final.
            self._filled()
            step.next = Next.FILL
        return step

    def fill_ended(self, error: ServiceError | None) -> bool:
        """A fill's stream ended by itself. True: go on with the next fill_request; False: reconnect."""
        if isinstance(error, NotFound):
            gone = error.resource_name if len(self._filling) > 1 else self._filling[0]
            if gone in self._filling:
                # Removed since. There is nothing left to tell about it, but about the others.
                self._behind.pop(gone, None)
                self._known.pop(gone, None)
                self._final.pop(gone, None)
            else:
                # The service does not say which: fewer at once, down to that one.
                self._fill_max = len(self._filling) // 2
            return True
        if error is None:
            self._filled()
            return True
        return False

    def _filled(self) -> None:
        for id in self._filling:
            self._behind.pop(id, None)
        self._filling = []
        self._fill_max = min(2 * self._fill_max, WATCHED_JOBS_MAX)

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
        # From here on: a user or queue again after a reconnection.
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
            # Never expected. There is more of it than we know; what is missing is asked for again.
            known.is_final = False
            if self._by_job or self._filling:
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

    def _heartbeat(self, heartbeat: job_service_pb2.Heartbeat, step: Step) -> None:
        if not heartbeat.snapshot_complete:
            # The stream has lived for a while.
            self._backoff.reset()
            return
        if not self._by_job:
            for id in self._known:
                # It was live when we last heard, and is not among the live ones any more.
                if id not in self._seen:
                    self._behind[id] = None
            self._seen.clear()
            if self._behind:
                step.next = Next.FILL
        if not self._told_complete:
            self._told_complete = True
            step.items.append(SnapshotComplete())


def silence_error() -> ServiceError:
    """The error of a connection that received no message for SILENCE_S."""
    return make_error(grpc.StatusCode.UNAVAILABLE, f"no message from the server for {SILENCE_S:g} s")
