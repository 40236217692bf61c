"""The watch machine alone: no I/O, no clock."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from signalbox import (
    JobEvent,
    JobRemoved,
    LogEvent,
    NotFound,
    ProgressEvent,
    ResourceExhausted,
    ServiceError,
    Snapshot,
    SnapshotsComplete,
    Unavailable,
)
from signalbox._backoff import Backoff
from signalbox._errors import make_error
from signalbox._watch import DEFAULT_SILENCE_S, FINAL_KEPT, Next, WatchMachine
from signalbox.v1 import job_pb2, job_service_pb2

PENDING, RUNNING, SUCCEEDED = 1, 2, 3
LOST = make_error(grpc.StatusCode.UNAVAILABLE, "lost")


def machine(*ids: str, **options) -> WatchMachine:
    return WatchMachine(ids, backoff=Backoff(rand=lambda: 1.0), **options)


def snapshot(id: str, sequence: int, state: int = PENDING, **fields) -> job_service_pb2.WatchResponse:
    job = job_pb2.Job(id=id, sequence=sequence, state=state, **fields)
    return job_service_pb2.WatchResponse(snapshot=job_service_pb2.JobSnapshot(job=job))


def event(id: str, sequence: int, state: int = PENDING) -> job_service_pb2.WatchResponse:
    return job_service_pb2.WatchResponse(
        lifecycle=job_service_pb2.JobEvent(job_id=id, sequence=sequence, state=state)
    )


def heartbeat(token: str = "") -> job_service_pb2.WatchResponse:
    return job_service_pb2.WatchResponse(heartbeat=job_service_pb2.Heartbeat(), resume_token=token)


def complete(token: str = "") -> job_service_pb2.WatchResponse:
    return job_service_pb2.WatchResponse(
        snapshots_complete=job_service_pb2.SnapshotsComplete(), resume_token=token
    )


def opened(resumed: bool = False, interval_s: float = 15.0) -> job_service_pb2.WatchResponse:
    interval = Duration()
    interval.FromMicroseconds(int(interval_s * 1e6))
    return job_service_pb2.WatchResponse(
        opened=job_service_pb2.WatchOpened(resumed=resumed, heartbeat_interval=interval)
    )


def removed(id: str) -> job_service_pb2.WatchResponse:
    return job_service_pb2.WatchResponse(removed=job_service_pb2.JobRemoved(job_id=id))


def log(id: str, *numbers: int) -> job_service_pb2.WatchResponse:
    lines = [job_pb2.LogLine(number=number) for number in numbers]
    return job_service_pb2.WatchResponse(log=job_service_pb2.LogEvent(job_id=id, lines=lines))


def progress(id: str, fraction: float) -> job_service_pb2.WatchResponse:
    report = job_pb2.Progress(stage="s", fraction=fraction)
    return job_service_pb2.WatchResponse(
        progress=job_service_pb2.ProgressEvent(job_id=id, attempt=1, progress=report)
    )


def feed(watch: WatchMachine, *messages: job_service_pb2.WatchResponse) -> list:
    """The items of some messages after which the stream is read on."""
    items = []
    for message in messages:
        step = watch.receive(message)
        assert step.next is Next.READ
        items += step.items
    return items


def sequences(items: list) -> list[int]:
    return [item.sequence for item in items if isinstance(item, JobEvent)]


def cursors(request: job_service_pb2.WatchRequest | None) -> dict[str, int]:
    """The jobs that a request names."""
    assert request is not None
    return {job.job_id: job.after_sequence for job in request.jobs}


def test_a_job_from_snapshot_to_its_end():
    watch = machine("a")
    assert cursors(watch.request()) == {"a": 0}
    items = feed(
        watch, snapshot("a", 1), complete(), event("a", 2, RUNNING), event("a", 3, SUCCEEDED)
    )
    assert [type(item) for item in items] == [Snapshot, SnapshotsComplete, JobEvent, JobEvent]
    assert watch.ended(None, 0) is None
    assert watch.sequences() == {"a": 3}


def test_a_job_that_was_final_already():
    watch = machine("a")
    watch.request()
    items = feed(watch, snapshot("a", 3, SUCCEEDED), event("a", 3, SUCCEEDED), complete())
    assert [type(item) for item in items] == [Snapshot, JobEvent, SnapshotsComplete]
    assert watch.ended(None, 0) is None
    assert watch.sequences() == {"a": 3}


def test_a_cut_between_the_snapshot_of_a_final_job_and_its_last_event():
    watch = machine("a")
    watch.request()
    feed(watch, snapshot("a", 3, SUCCEEDED))
    assert watch.ended(LOST, 0) is not None
    assert cursors(watch.request()) == {"a": 2}
    assert sequences(feed(watch, event("a", 3, SUCCEEDED), complete())) == [3]
    assert watch.ended(None, 0) is None


def test_a_cut_connection_is_resumed_without_gap_or_repeat():
    watch = machine("a", "b")
    watch.request()
    feed(watch, snapshot("a", 1), snapshot("b", 1), complete(), event("a", 2, RUNNING))
    assert watch.ended(LOST, 0) == pytest.approx(0.1)
    assert cursors(watch.request()) == {"a": 2, "b": 1}
    items = feed(watch, event("a", 3), event("a", 4, RUNNING), complete(), event("a", 5))
    assert sequences(items) == [3, 4, 5] and len(items) == 3


def test_what_comes_twice_is_given_once():
    watch = machine("a")
    watch.request()
    assert sequences(feed(watch, snapshot("a", 2, RUNNING), event("a", 2, RUNNING), event("a", 3))) == [3]
    assert sequences(feed(watch, event("a", 2, RUNNING), event("a", 3))) == []


def test_an_end_with_ok_before_the_last_event_is_not_the_end():
    watch = machine("a")
    watch.request()
    feed(watch, snapshot("a", 1))
    assert watch.ended(None, 0) is not None


def test_a_cut_after_the_last_event_is_the_end():
    watch = machine("a")
    watch.request()
    feed(watch, snapshot("a", 1), event("a", 2, SUCCEEDED))
    assert watch.ended(LOST, 0) is None


def test_a_gap_makes_it_resume():
    watch = machine("a")
    watch.request()
    feed(watch, snapshot("a", 1))
    step = watch.receive(event("a", 3))
    assert step.next is Next.RECONNECT and not step.items
    watch.ended(None, 0)
    assert watch.request().jobs[0].after_sequence == 1


def test_after_goes_on_where_another_watch_was():
    watch = machine("a", after={"a": 4})
    assert cursors(watch.request()) == {"a": 4}
    assert sequences(feed(watch, event("a", 5), event("a", 6, SUCCEEDED), complete())) == [5, 6]
    assert watch.ended(None, 0) is None


def test_after_the_last_event_of_a_job_there_is_nothing_left():
    watch = machine("a", "b", after={"a": 3, "b": 1})
    watch.request()
    assert not sequences(feed(watch, complete()))
    # Only the service can tell that a has no more events: it ends the stream.
    assert watch.ended(LOST, 0) is not None
    watch.request()
    feed(watch, event("b", 2, SUCCEEDED), complete())
    assert watch.ended(None, 0) is None


def test_a_gap_right_after_where_another_watch_was():
    watch = machine("a", after={"a": 3})
    watch.request()
    assert watch.receive(event("a", 5)).next is Next.RECONNECT
    assert watch.ended(None, 0) is not None and cursors(watch.request()) == {"a": 3}


def test_a_job_retried_is_no_longer_final():
    watch = machine("a")
    watch.request()
    feed(watch, snapshot("a", 3, SUCCEEDED), event("a", 3, SUCCEEDED), event("a", 4, PENDING))
    assert watch.ended(LOST, 0) is not None


def test_delays_grow_to_a_bound_and_start_anew_after_progress():
    watch = machine("a")
    watch.request()
    delays = [watch.ended(LOST, 0) for _ in range(8)]
    assert delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])
    # A snapshot alone is no progress: a server that dies after each would be called without end.
    feed(watch, snapshot("a", 1))
    assert watch.ended(LOST, 0) == pytest.approx(5.0)
    feed(watch, event("a", 2))
    assert watch.ended(LOST, 0) == pytest.approx(0.1)


def test_it_gives_up_after_a_time_without_any_message():
    watch = machine("a", give_up_s=60.0)
    watch.request()
    assert watch.ended(LOST, 1_000) is not None
    assert watch.ended(LOST, 1_059) is not None
    feed(watch, heartbeat())
    assert watch.ended(LOST, 1_061) is not None
    with pytest.raises(Unavailable):
        watch.ended(LOST, 1_121)


def test_what_cannot_be_helped_is_raised():
    watch = machine("a")
    watch.request()
    with pytest.raises(NotFound):
        watch.ended(no_job(), 0)


def test_one_watch_too_many_is_told_at_once_and_waited_out_later():
    full = make_error(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "the user's watch quota is exceeded",
        [error_details_pb2.RetryInfo(retry_delay={"seconds": 1})],
    )
    watch = machine("a", give_up_s=60.0)
    watch.request()
    with pytest.raises(ResourceExhausted):
        watch.ended(full, 0)
    # Nor is a failure to connect a sign that there is room.
    watch = machine("a", give_up_s=60.0)
    watch.request()
    assert watch.ended(LOST, 0) is not None
    with pytest.raises(ResourceExhausted):
        watch.ended(full, 1)
    # The place of one that was open may still be held by its lost connection.
    watch = machine("a", give_up_s=60.0)
    watch.request()
    feed(watch, snapshot("a", 1))
    assert watch.ended(LOST, 0) is not None
    assert watch.ended(full, 1) == pytest.approx(1.0)
    with pytest.raises(ResourceExhausted):
        watch.ended(full, 60)


def no_job(id: str = "") -> ServiceError:
    """NOT_FOUND, as the service names the job."""
    info = error_details_pb2.ResourceInfo(resource_type="job", resource_name=id)
    return make_error(grpc.StatusCode.NOT_FOUND, "no such job", [info] if id else [])


def test_a_job_whose_end_was_told_is_not_asked_for_again():
    watch = machine("a", "b")
    watch.request()
    feed(watch, snapshot("a", 1), snapshot("b", 1), complete(), event("a", 2, SUCCEEDED))
    watch.ended(LOST, 0)
    assert cursors(watch.request()) == {"b": 1}
    feed(watch, event("b", 2, SUCCEEDED), complete())
    assert watch.ended(None, 0) is None
    assert watch.sequences() == {"a": 2, "b": 2}


def test_a_job_that_is_removed_does_not_end_the_watch_of_the_others():
    watch = machine("a", "b")
    watch.request()
    items = feed(watch, snapshot("a", 1), snapshot("b", 1), complete(), removed("a"), removed("a"), removed("c"))
    assert [item.job_id for item in items if isinstance(item, JobRemoved)] == ["a"]
    watch.ended(LOST, 0)
    assert cursors(watch.request()) == {"b": 1}
    assert sequences(feed(watch, complete(), event("b", 2, SUCCEEDED))) == [2]
    assert watch.ended(None, 0) is None


def test_a_job_that_never_was_does_not_end_the_watch_of_the_others():
    watch = machine("a", "b")
    watch.request()
    items = feed(watch, removed("b"), snapshot("a", 1), complete(), event("a", 2, SUCCEEDED))
    assert [type(item) for item in items] == [JobRemoved, Snapshot, SnapshotsComplete, JobEvent]
    assert watch.ended(None, 0) is None


def test_the_watch_of_one_job_that_was_removed_raises():
    watch = machine("a", after={"a": 1})
    watch.request()
    with pytest.raises(NotFound):
        watch.ended(no_job("a"), 0)


def test_a_message_that_is_not_known_is_ignored():
    watch = machine("a")
    watch.request()
    assert feed(watch, job_service_pb2.WatchResponse(), snapshot("a", 1)) != []
    feed(watch, job_service_pb2.WatchResponse(resume_token="t"))
    assert watch.resume_token == "t"


def test_the_server_says_how_long_it_may_be_silent():
    watch = machine("a")
    watch.request()
    assert watch.silence_s == DEFAULT_SILENCE_S
    assert feed(watch, opened(interval_s=2.5)) == [] and watch.silence_s == 7.5
    # Another node may have another interval.
    watch.ended(LOST, 0)
    watch.request()
    assert watch.silence_s == DEFAULT_SILENCE_S
    feed(watch, opened(interval_s=0))
    assert watch.silence_s == DEFAULT_SILENCE_S


# Resuming by token.


def test_the_latest_token_is_sent_and_events_that_come_again_are_dropped():
    watch = machine("a", "b")
    assert watch.request().resume_token == ""
    feed(watch, opened(), snapshot("a", 1), snapshot("b", 1), complete("t1"), event("a", 2, RUNNING))
    feed(watch, heartbeat("t2"), event("a", 3), event("b", 2, SUCCEEDED))
    watch.ended(LOST, 0)
    request = watch.request()
    # The same jobs as before, because the token belongs to them.
    assert request.resume_token == "t2" and cursors(request) == {"a": 3, "b": 2}
    items = feed(watch, opened(resumed=True), event("a", 3), event("b", 2, SUCCEEDED), complete("t3"), event("a", 4))
    assert sequences(items) == [4] and watch.resume_token == "t3"


def test_a_token_that_is_too_old_for_named_jobs_is_given_up_for_the_sequences():
    watch = machine("a", "b")
    watch.request()
    feed(watch, opened(), snapshot("a", 1), snapshot("b", 1), complete("t1"), event("b", 2, SUCCEEDED))
    watch.ended(LOST, 0)
    assert watch.request().resume_token == "t1"
    assert watch.receive(opened(resumed=False)).next is Next.RECONNECT
    assert watch.ended(None, 0) is not None
    request = watch.request()
    assert request.resume_token == "" and cursors(request) == {"a": 1}
    # The tokens of this stream belong to the jobs that it names.
    feed(watch, opened(), complete("t2"))
    watch.ended(LOST, 0)
    request = watch.request()
    assert request.resume_token == "t2" and cursors(request) == {"a": 1}


def test_a_token_that_is_too_old_does_not_end_a_watch_that_goes_on_after_another():
    watch = machine("a", after={"a": 3}, resume_token="old")
    watch.request()
    assert watch.receive(opened(resumed=False)).next is Next.RECONNECT
    assert watch.ended(None, 0) is not None and cursors(watch.request()) == {"a": 3}


def test_the_token_of_a_message_after_a_gap_is_not_kept():
    watch = machine("a")
    watch.request()
    feed(watch, opened(), snapshot("a", 1), complete("t1"))
    gap = event("a", 3)
    gap.resume_token = "t2"
    assert watch.receive(gap).next is Next.RECONNECT
    watch.ended(None, 0)
    request = watch.request()
    assert request.resume_token == "" and cursors(request) == {"a": 1}


def test_a_token_of_another_process_is_enough():
    watch = machine("a", resume_token="t")
    assert watch.request().resume_token == "t"
    assert sequences(feed(watch, opened(resumed=True), complete(), event("a", 7, SUCCEEDED))) == [7]
    assert watch.ended(None, 0) is None
    # The job was final when the token was sent.
    watch = machine("a", resume_token="t")
    watch.request()
    feed(watch, opened(resumed=True), complete())
    assert watch.ended(None, 0) is None
    # The token is too old, and there are no sequences: the watch begins anew.
    watch = machine("a", resume_token="t")
    watch.request()
    assert len(feed(watch, opened(resumed=False), snapshot("a", 4), complete())) == 2


def test_a_users_watch_that_resumes_by_token_fetches_nothing():
    watch = machine(user_id="u")
    watch.request()
    feed(watch, opened(), snapshot("a", 1), snapshot("b", 1), complete("t1"), event("a", 2))
    watch.ended(LOST, 0)
    request = watch.request()
    assert (request.resume_token, request.filter.user_id) == ("t1", "u")
    # Jobs that are new, and jobs that became final meanwhile, are not lost.
    items = feed(
        watch,
        *(opened(resumed=True), complete("t2"), event("a", 2), event("c", 1), event("c", 2, SUCCEEDED)),
    )
    assert [(item.job_id, item.sequence) for item in items] == [("c", 1), ("c", 2)]
    assert watch.fill_request() is None


def test_a_users_watch_whose_token_is_too_old_fetches_what_it_missed():
    watch = machine(user_id="u")
    watch.request()
    feed(watch, opened(), snapshot("a", 1), snapshot("b", 1), complete("t1"))
    watch.ended(LOST, 0)
    watch.request()
    feed(watch, opened(resumed=False), snapshot("a", 3, RUNNING))
    assert watch.receive(complete("t2")).next is Next.FILL
    assert cursors(watch.fill_request()) == {"a": 1, "b": 1}
    # If the connection is lost before these are fetched, the token is beyond them.
    watch.fill_ended(LOST)
    watch.ended(LOST, 0)
    assert watch.request().resume_token == ""
    feed(watch, opened(), snapshot("a", 3, RUNNING))
    assert watch.receive(complete("t3")).next is Next.FILL
    assert cursors(watch.fill_request()) == {"a": 1, "b": 1}
    fill(watch, opened(), event("a", 2), event("a", 3), event("b", 2, SUCCEEDED))
    assert watch.fill_request() is None
    watch.ended(LOST, 0)
    assert watch.request().resume_token == "t3"


def test_progress_and_log_lines():
    watch = machine("a", include_log=True)
    assert watch.request().include_log
    feed(watch, snapshot("a", 2, RUNNING))
    assert [line.number for line in feed(watch, log("a", 1, 2))[0].lines] == [1, 2]
    assert watch.request().jobs[0].after_log_line == 2
    # Lines that come again are dropped; then the latest progress.
    items = feed(watch, log("a", 1, 2, 3), progress("a", 0.5), complete(), log("a", 3))
    assert isinstance(items[0], LogEvent) and [line.number for line in items[0].lines] == [3]
    assert isinstance(items[1], ProgressEvent) and items[1].progress.fraction == 0.5
    assert [type(item) for item in items[2:]] == [SnapshotsComplete]


def test_the_snapshot_of_a_users_job_that_is_known_gives_its_progress():
    watch = machine(user_id="u")
    watch.request()
    feed(watch, snapshot("a", 2, RUNNING), complete())
    watch.request()
    latest = job_pb2.Progress(stage="s", fraction=0.5)
    items = feed(watch, snapshot("a", 2, RUNNING, attempt=1, progress=latest), complete())
    assert [type(item) for item in items] == [ProgressEvent] and items[0].progress.fraction == 0.5


def test_a_users_watch_never_ends_by_itself():
    watch = machine(user_id="u")
    assert watch.request().filter.user_id == "u"
    items = feed(watch, complete(), event("a", 1), event("a", 2, SUCCEEDED))
    assert sequences(items) == [1, 2]
    assert watch.ended(None, 0) is not None


def cut_and_resume(watch: WatchMachine, *snapshots: job_service_pb2.WatchResponse) -> list:
    """The items of a user's or queue's watch whose connection is lost, up to the point where it fills."""
    watch.ended(LOST, 0)
    watch.request()
    items = feed(watch, *snapshots)
    assert watch.receive(complete()).next is Next.FILL
    return items


def fill(watch: WatchMachine, *messages: job_service_pb2.WatchResponse) -> list:
    """The items of a fill, which ends with the heartbeat that follows what was missed."""
    items = []
    for message in messages:
        step = watch.receive_fill(message)
        assert step.next is Next.READ
        items += step.items
    assert watch.receive_fill(complete()).next is Next.FILL
    return items


def test_a_users_watch_fetches_what_it_missed():
    watch = machine(user_id="u")
    watch.request()
    feed(watch, snapshot("a", 1), snapshot("b", 1), snapshot("c", 1), complete(), event("c", 2))
    # a moved on and still runs, b became final and is not told of any more, c stayed, d is new.
    items = cut_and_resume(watch, snapshot("a", 3, RUNNING), snapshot("c", 2), snapshot("d", 2))
    assert [item.job.id for item in items] == ["d"]
    assert cursors(watch.fill_request()) == {"a": 1, "b": 1}
    items = fill(watch, event("a", 2), event("a", 3), event("b", 2), event("b", 3, SUCCEEDED))
    assert sequences(items) == [2, 3, 2, 3]
    assert watch.fill_request() is None
    # Events that the new stream sends again are dropped.
    assert sequences(feed(watch, event("a", 3), event("a", 4))) == [4]


def test_a_job_that_was_removed_is_not_asked_for_again():
    watch = machine(user_id="u")
    watch.request()
    feed(watch, snapshot("a", 1), snapshot("b", 1), snapshot("c", 1), complete())
    cut_and_resume(watch)
    assert cursors(watch.fill_request()) == {"a": 1, "b": 1, "c": 1}
    items = fill(watch, removed("a"), event("b", 2, SUCCEEDED), removed("c"))
    assert [type(item) for item in items] == [JobRemoved, JobEvent, JobRemoved]
    assert watch.fill_request() is None and not watch._known


def test_a_fill_whose_only_job_was_removed():
    watch = machine(user_id="u")
    watch.request()
    feed(watch, snapshot("a", 1), complete())
    cut_and_resume(watch)
    assert cursors(watch.fill_request()) == {"a": 1}
    assert watch.fill_ended(no_job("a"))
    assert watch.fill_request() is None and not watch._known


def test_a_fill_that_is_cut_begins_again_with_the_connection():
    watch = machine(queue="q")
    watch.request()
    feed(watch, snapshot("a", 1), complete())
    watch.request()
    watch.receive(complete())
    assert watch.fill_request() is not None
    assert not watch.fill_ended(LOST)
    assert watch.ended(LOST, 0) is not None
    watch.request()
    assert watch.receive(complete()).next is Next.FILL


def without_a_fill(error: ServiceError, give_up_s: float | None = 300.0) -> WatchMachine:
    """A watch of a user whose fill has just ended with an error."""
    watch = machine(user_id="u", give_up_s=give_up_s)
    watch.request()
    feed(watch, snapshot("a", 1), complete())
    refuse_fill(watch, error)
    return watch


def refuse_fill(watch: WatchMachine, error: ServiceError) -> None:
    watch.request()
    assert watch.receive(complete()).next is Next.FILL
    assert cursors(watch.fill_request()) == {"a": 1}
    assert not watch.fill_ended(error)


def test_an_error_of_a_fill_that_another_try_would_not_help_ends_the_watch():
    denied = make_error(grpc.StatusCode.PERMISSION_DENIED, "no")
    with pytest.raises(ServiceError) as raised:
        without_a_fill(denied).ended(None, 0)
    assert raised.value is denied


def test_a_watch_whose_fills_are_refused_gives_up_in_its_time():
    full = make_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watches")
    watch = without_a_fill(full, give_up_s=10)
    assert watch.ended(None, 0) is not None
    refuse_fill(watch, full)
    assert watch.ended(None, 9) is not None
    refuse_fill(watch, full)
    with pytest.raises(ServiceError) as raised:
        watch.ended(None, 10)
    assert raised.value is full


def test_a_fill_that_succeeds_ends_the_time_of_its_errors():
    watch = without_a_fill(LOST, give_up_s=10)
    assert watch.ended(None, 0) is not None
    watch.request()
    assert watch.receive(complete()).next is Next.FILL
    assert watch.fill_request() is not None
    assert watch.receive_fill(complete()).next is Next.FILL
    assert watch.fill_request() is None
    assert watch.ended(None, 20) is not None


def test_a_gap_in_a_queues_watch_is_filled():
    watch = machine(queue="q")
    watch.request()
    feed(watch, complete(), event("a", 1))
    assert watch.receive(event("a", 3)).next is Next.FILL
    assert watch.fill_request() is not None
    assert sequences(fill(watch, event("a", 2), event("a", 3))) == [2, 3]


def test_the_memory_of_final_jobs_is_bounded():
    watch = machine(queue="q")
    watch.request()
    feed(watch, snapshot("a", 1), complete())
    for number in range(FINAL_KEPT + 5):
        watch.receive(event(f"job-{number}", 1, SUCCEEDED))
    assert len(watch._final) == FINAL_KEPT and watch._known.keys() == {"a"} and not watch._seen


def refused(*fields: str) -> ServiceError:
    violations = [error_details_pb2.BadRequest.FieldViolation(field=field) for field in fields]
    details = [error_details_pb2.BadRequest(field_violations=violations)]
    return make_error(grpc.StatusCode.INVALID_ARGUMENT, "refused", details)


def test_a_watch_of_jobs_resumes_by_sequence_when_its_token_is_refused():
    watch = machine("a", after={"a": 3}, resume_token="of another request")
    watch.request()
    assert watch.ended(refused("resume_token"), now=0.0) is not None
    request = watch.request()
    assert request.resume_token == "" and cursors(request) == {"a": 3}


def test_a_watch_of_a_user_begins_again_when_its_token_is_refused():
    watch = machine(user_id="u", resume_token="of another request")
    watch.request()
    assert watch.ended(refused("resume_token"), now=0.0) is not None
    request = watch.request()
    assert (request.resume_token, request.filter.user_id) == ("", "u")
    with pytest.raises(ServiceError):
        watch.ended(refused("resume_token"), now=0.0)


@pytest.mark.parametrize("fields", [(), ("filter.kinds",), ("resume_token", "jobs[0].job_id")])
def test_a_refusal_of_more_than_the_token_ends_the_watch(fields):
    watch = machine("a", resume_token="t")
    watch.request()
    with pytest.raises(ServiceError):
        watch.ended(refused(*fields), now=0.0)
