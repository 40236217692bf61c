"""Times from a call to its job's start and to the end that a watcher sees, and from a cancel to its effect.

The client is a bare socket with frames encoded beforehand (wire.py): Python's grpcio takes a good part of such a time
itself.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack

from signalbox.v1 import job_pb2
from signalbox.v1 import job_service_pb2 as service

from . import peer
from .processes import Failed
from .registry import Environment, Figures, measure, most
from .server import JOBS, Server, batch_request, enqueue_batch, enqueue_request, serving, users
from .statistics_of import percentile
from .wire import Connection

#: The first calls of a connection find nothing warm.
WARM_UP = 50


def watch_request(job_id: str) -> bytes:
    return bytes(service.WatchRequest(jobs=[service.WatchedJob(job_id=job_id)]).SerializeToString())


def wait_for_event(connection: Connection, stream: int, wanted: int) -> service.JobEvent:
    """Reads a watch until this event."""
    while True:
        at, body = connection.read()
        if at != stream:
            continue
        if body is None:
            raise Failed("a watch ended before its job")
        response = service.WatchResponse.FromString(body)
        if response.lifecycle.type == wanted:
            event: service.JobEvent = response.lifecycle
            return event


def spread(name: str, seconds: list[float]) -> Figures:
    return {f"{name}_p{percent}_ms": percentile(seconds, percent) * 1e3 for percent in (50, 99)}


@measure(
    "pickup",
    "Idle pick-up",
    most("start_p50_ms", 1, "ms"),
    most("start_p99_ms", 3, "ms"),
    most("end_p50_ms", 2, "ms"),
    most("end_p99_ms", 5, "ms"),
)
def pickup(env: Environment) -> Figures:
    """One job at a time: from the call to the handler's start, and to the terminal event at a watcher."""
    samples = env.size(2000, 100)
    calls, starts, ends = [], [], []
    with env.database() as database, serving(database, concurrency=16) as server, server.connection() as connection:
        request = enqueue_request("bench", kind="test.sleep", payload=b'{"ms":0}')
        for index in range(samples + WARM_UP):
            wall, begin = time.time(), time.perf_counter()
            answer = connection.call(f"{JOBS}/Enqueue", request)
            answered = time.perf_counter()
            job = service.EnqueueResponse.FromString(answer).job
            stream = connection.send(f"{JOBS}/Watch", watch_request(job.id))
            event = wait_for_event(connection, stream, service.JOB_EVENT_TYPE_SUCCEEDED)
            if index >= WARM_UP:
                ends.append(time.perf_counter() - begin)
                calls.append(answered - begin)
                starts.append(json.loads(event.result.data)["started_at_us"] / 1e6 - wall)
    figures = spread("call", calls) | spread("start", starts) | spread("end", ends)
    with ExitStack() as stack:
        other = peer.peer_or_reason(env, stack)
        if isinstance(other, str):
            return figures | {"pgqueuer": other}
        theirs = other.pickup(env.size(500, 20))
    return figures | {f"pgqueuer_start_{name}": value for name, value in theirs.items()}


@measure(
    "cancel",
    "Cancel to the handler's end",
    most("same_node_p99_ms", 20, "ms"),
    most("other_node_p99_ms", 200, "ms"),
)
def cancel(env: Environment) -> Figures:
    """From the call to the CANCELLED event at a watcher on the node that runs the job.

    The handler hears of it before that, and then its end is committed: what is measured is no less.
    """
    samples = env.size(400, 20)
    with ExitStack() as stack:
        database = stack.enter_context(env.database())
        worker = stack.enter_context(serving(database, name="worker"))
        same = _cancels(worker, worker, samples)
        other = stack.enter_context(serving(database, name="other", concurrency=0))
        figures = spread("same_node", same) | spread("other_node", _cancels(worker, other, env.size(250, 20)))
    return figures


def _cancels(worker: Server, called: Server, samples: int) -> list[float]:
    """Seconds of each; one at a time, while the other jobs run."""
    delays = []
    with worker.connection() as watching, called.connection() as calling:
        body = batch_request(users(samples), kind="test.sleep", payload=b'{"ms":3600000}')
        ids = enqueue_batch(watching, body)
        streams = {job_id: watching.send(f"{JOBS}/Watch", watch_request(job_id)) for job_id in ids}
        _wait_for_starts(watching, set(streams.values()))
        for job_id, stream in streams.items():
            begin = time.perf_counter()
            calling.call(f"{JOBS}/Cancel", bytes(service.CancelRequest(job_id=job_id).SerializeToString()))
            wait_for_event(watching, stream, service.JOB_EVENT_TYPE_CANCELLED)
            delays.append(time.perf_counter() - begin)
    return delays


def _wait_for_starts(connection: Connection, streams: set[int]) -> None:
    """Until each job has been seen running: in its snapshot, or by its event."""
    waiting = set(streams)
    while waiting:
        stream, body = connection.read()
        if body is None:
            raise Failed("a watch ended before its job")
        response = service.WatchResponse.FromString(body)
        states = (response.snapshot.job.state, response.lifecycle.state)
        if job_pb2.JOB_STATE_RUNNING in states:
            waiting.discard(stream)
