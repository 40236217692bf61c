"""The example program of each language against the real server."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from access import closing, reach
from authority import LOOPBACK, Authority
from conftest import STUBBORN, WATCHES_MAX, Secured
from example import Example, Line
from google.rpc import error_details_pb2, status_pb2
from harness import PATIENCE_S, Api, Cluster, Proxy, Server
from signalbox import Client, JobState
from signalbox.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

SLEEP = "test.sleep"
#: The longest response of the service.
RESPONSE_BYTES_MAX = 4 << 20
#: How soon the server notices that a client has left a watch.
LEFT_S = 10.0


def sleep_for(ms: int, steps: int) -> str:
    return json.dumps({"ms": ms, "steps": steps})


def events(lines: list[Line], kind: str) -> list[Line]:
    return [line for line in lines if line.get("event") == kind]


def check_watch(lines: list[Line], *, steps: int, types: list[str] | None = None) -> None:
    """A snapshot, every lifecycle event after it once and in order, progress that grows, the end with the result."""
    first, *rest = lines
    assert first["created"] is True and len(first["job_id"]) == 36
    assert rest[0]["event"] == "snapshot" and rest[-1]["event"] == "end"
    assert len(events(rest, "snapshot")) == 1, "it did not resume, but began again"
    lifecycle = events(rest, "lifecycle")
    begin = rest[0]["sequence"]
    assert rest[0]["state"] == {1: "PENDING", 2: "RUNNING"}[begin]
    assert [line["sequence"] for line in lifecycle] == [*range(begin + 1, begin + 1 + len(lifecycle))]
    expected = types or ["ENQUEUED", "STARTED", "SUCCEEDED"]
    assert [line["type"] for line in lifecycle] == expected[begin:]
    assert all(line["state"] == "RUNNING" for line in lifecycle if line["type"] == "STARTED")
    progress = [(line["attempt"], line["fraction"]) for line in events(rest, "progress")]
    assert progress and progress == sorted(progress)
    # Only the latest is promised, and a fraction is a whole number of steps.
    assert all(0 < fraction <= 1 and abs(fraction * steps - round(fraction * steps)) < 1e-6 for _, fraction in progress)
    assert rest[-1]["state"] == "SUCCEEDED" and "slept_ms" in json.loads(rest[-1]["result"])


def test_a_job_is_watched_to_its_end(example: Example, server: Server, user: str):
    lines = example.run("run", SLEEP, user, sleep_for(900, 3), address=server.address)
    check_watch(lines, steps=3)
    assert not events(lines, "reconnect")
    assert len({line["fraction"] for line in events(lines, "progress")}) > 1
    # From its first event on, without a snapshot; and one that is final ends at once.
    again = example.run("watch", lines[0]["job_id"], "1", address=server.address)
    assert [(line["type"], line["sequence"]) for line in events(again, "lifecycle")] == [
        ("STARTED", 2),
        ("SUCCEEDED", 3),
    ]
    assert not events(again, "snapshot") and again[-1] == lines[-1]


def test_a_job_is_cancelled(example: Example, server: Server, client: Client, user: str):
    running = example.start("run", SLEEP, user, sleep_for(60_000, 600), address=server.address)
    running.until_event("progress")
    job_id = running.lines[0]["job_id"]
    asked = example.run("cancel", job_id, "no longer needed", address=server.address)
    assert asked == [{"state": "RUNNING"}] or asked == [{"state": "CANCELLED"}]
    lines = running.finish()
    assert events(lines, "lifecycle")[-1]["type"] == "CANCELLED"
    assert lines[-1]["event"] == "end" and lines[-1]["state"] == "CANCELLED"
    error = client.get(job_id).error
    assert error is not None and "no longer needed" in error.message


def test_an_invalid_request_names_its_fields(example: Example, server: Server):
    (line,) = example.run("invalid", address=server.address)
    assert line["code"] == "INVALID_ARGUMENT"
    assert {item["field"] for item in line["violations"]} == {"job.kind", "job.user_id"}
    assert all(item["description"] for item in line["violations"])


def test_a_watch_resumes_when_its_connection_is_cut(example: Example, proxy: Proxy, client: Client, user: str):
    running = example.start("run", SLEEP, user, sleep_for(3_000, 30), address=proxy.address)
    running.until_event("progress")
    proxy.cut()
    running.until_event("reconnect")
    running.until_event("progress")
    # What happens meanwhile is delivered afterwards.
    proxy.refuse()
    assert client.wait(running.lines[0]["job_id"], timeout=PATIENCE_S).sequence == 3
    proxy.accept()
    lines = running.finish()
    check_watch(lines, steps=30)
    assert len(events(lines, "reconnect")) >= 2
    assert all(hasattr(grpc.StatusCode, line["code"]) for line in events(lines, "reconnect"))


class BrokenWatches(grpc.GenericRpcHandler):
    """A server that passes calls on to another one, but ends its first watch after the first snapshot."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(target)
        self._has_broken_a_watch = False
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        if call.method == "/signalbox.v1.JobService/Watch":
            return grpc.unary_stream_rpc_method_handler(self._watch)
        method = self._channel.unary_unary(call.method)
        return grpc.unary_unary_rpc_method_handler(lambda request, _: method(request, timeout=PATIENCE_S))

    def _watch(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for message in self._channel.unary_stream("/signalbox.v1.JobService/Watch")(request, timeout=PATIENCE_S):
            yield message
            event = job_service_pb2.WatchResponse.FromString(message).WhichOneof("event")
            if event == "snapshot" and not self._has_broken_a_watch:
                self._has_broken_a_watch = True
                context.abort(grpc.StatusCode.UNAVAILABLE, "the watch is broken by the test")

    def close(self) -> None:
        self._server.stop(None).wait(PATIENCE_S)
        self._channel.close()


@pytest.fixture
def broken_watches(server: Server) -> Iterator[BrokenWatches]:
    yield from closing(BrokenWatches(server.address))


def test_a_watch_of_a_final_job_resumes_after_its_snapshot(
    example: Example, broken_watches: BrokenWatches, client: Client, user: str
):
    job_id = client.enqueue("test.noop", user_id=user).id
    assert client.wait(job_id, timeout=PATIENCE_S).sequence == 3
    snapshot, reconnect, last, end = example.run("watch", job_id, address=broken_watches.address)
    assert snapshot == {"event": "snapshot", "state": "SUCCEEDED", "sequence": 3}
    assert reconnect == {"event": "reconnect", "code": "UNAVAILABLE"}
    assert last == {"event": "lifecycle", "type": "SUCCEEDED", "state": "SUCCEEDED", "sequence": 3}
    assert end["event"] == "end" and end["state"] == "SUCCEEDED"


class TokenWatches(job_service_pb2_grpc.JobServiceServicer):
    """A server with one job. Its first watch breaks after a token, and the second one goes on from the token before."""

    #: A type of events that a newer service has added.
    NEW_TYPE = 77

    def __init__(self) -> None:
        self.job_id = str(uuid.uuid4())
        self.requests: list[job_service_pb2.WatchRequest] = []
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4))
        job_service_pb2_grpc.add_JobServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Watch(
        self, request: job_service_pb2.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[job_service_pb2.WatchResponse]:
        self.requests.append(request)
        if len(self.requests) == 1:
            yield from self._broken_watch(context)
        yield from self._later_watch(request, context)

    def _later_watch(
        self, request: job_service_pb2.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[job_service_pb2.WatchResponse]:
        """A watch after the first one. It goes on from the token."""
        yield self._opened(resumed=True)
        yield self._event(2, job_service_pb2.JOB_EVENT_TYPE_STARTED, job_pb2.JOB_STATE_RUNNING)
        yield from self._rest()

    @staticmethod
    def _opened(*, resumed: bool) -> job_service_pb2.WatchResponse:
        opened = job_service_pb2.WatchOpened(resumed=resumed, heartbeat_interval={"seconds": 15})
        return job_service_pb2.WatchResponse(opened=opened)

    def _snapshot(self, sequence: int, state: int) -> job_service_pb2.WatchResponse:
        job = job_pb2.Job(id=self.job_id, state=state, sequence=sequence)
        return job_service_pb2.WatchResponse(snapshot=job_service_pb2.JobSnapshot(job=job))

    def _event(self, sequence: int, kind: int, state: int) -> job_service_pb2.WatchResponse:
        event = job_service_pb2.JobEvent(job_id=self.job_id, sequence=sequence, type=kind, state=state)
        return job_service_pb2.WatchResponse(lifecycle=event)

    def _broken_watch(self, context: grpc.ServicerContext) -> Iterator[job_service_pb2.WatchResponse]:
        """The first watch. It ends the call with UNAVAILABLE."""
        yield self._opened(resumed=False)
        yield self._snapshot(1, job_pb2.JOB_STATE_PENDING)
        complete = job_service_pb2.SnapshotsComplete()
        yield job_service_pb2.WatchResponse(snapshots_complete=complete, resume_token="a token")
        yield self._event(2, job_service_pb2.JOB_EVENT_TYPE_STARTED, job_pb2.JOB_STATE_RUNNING)
        # A fraction that is not known, and a message of a newer service.
        progress = job_service_pb2.ProgressEvent(job_id=self.job_id, attempt=1, progress=job_pb2.Progress())
        yield job_service_pb2.WatchResponse(progress=progress)
        yield job_service_pb2.WatchResponse()
        context.abort(grpc.StatusCode.UNAVAILABLE, "the watch is broken by the test")

    def _rest(self) -> Iterator[job_service_pb2.WatchResponse]:
        """The events after the one that the broken watch ended with."""
        yield self._event(3, self.NEW_TYPE, job_pb2.JOB_STATE_RUNNING)
        yield self._event(4, job_service_pb2.JOB_EVENT_TYPE_SUCCEEDED, job_pb2.JOB_STATE_SUCCEEDED)

    def GetJob(
        self, request: job_service_pb2.GetJobRequest, _: grpc.ServicerContext
    ) -> job_service_pb2.GetJobResponse:
        return job_service_pb2.GetJobResponse(job=job_pb2.Job(id=request.job_id, state=job_pb2.JOB_STATE_SUCCEEDED))

    def close(self) -> None:
        self._server.stop(None).wait(PATIENCE_S)


@pytest.fixture
def token_watches() -> Iterator[TokenWatches]:
    yield from closing(TokenWatches())


def test_a_watch_resumes_by_the_latest_token(example: Example, token_watches: TokenWatches):
    """A token is valid until the next one, so the events since then come again, and are printed once."""
    lines = example.run("watch", token_watches.job_id, address=token_watches.address)
    assert [request.resume_token for request in token_watches.requests] == ["", "a token"]
    assert {request.jobs[0].job_id for request in token_watches.requests} == {token_watches.job_id}
    check_token_watch(lines)


def check_token_watch(lines: list[Line]) -> None:
    """Every event is printed once, also one of a type that the program does not know."""
    kinds = ["snapshot", "lifecycle", "progress", "reconnect", "lifecycle", "lifecycle", "end"]
    assert [line["event"] for line in lines] == kinds
    found = [(line["sequence"], line["type"], line["state"]) for line in events(lines, "lifecycle")]
    assert found == [(2, "STARTED", "RUNNING"), (3, "UNSPECIFIED", "RUNNING"), (4, "SUCCEEDED", "SUCCEEDED")]
    (progress,) = events(lines, "progress")
    assert progress.get("fraction") is None


class RefusedToken(TokenWatches):
    """It cannot go on from the token, and begins the second watch with a snapshot, which the third one does not need."""

    def __init__(self) -> None:
        super().__init__()
        self._second_ended = threading.Event()
        #: Whether the client has left the second watch by the time that it begins the third one.
        self.was_left = False

    def _later_watch(
        self, request: job_service_pb2.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[job_service_pb2.WatchResponse]:
        if request.resume_token:
            # Before the first message, because a client may leave as soon as it has that.
            if not context.add_callback(self._second_ended.set):
                self._second_ended.set()
            yield self._opened(resumed=False)
            yield self._snapshot(3, job_pb2.JOB_STATE_RUNNING)
            self._second_ended.wait(2 * PATIENCE_S)
            return
        self.was_left = self._second_ended.wait(PATIENCE_S)
        yield self._opened(resumed=False)
        yield from self._rest()


@pytest.fixture
def refused_token() -> Iterator[RefusedToken]:
    yield from closing(RefusedToken())


def test_a_watch_resumes_after_the_last_event_if_its_token_is_refused(example: Example, refused_token: RefusedToken):
    """The snapshot would hide the events that came meanwhile. The watch that has it is cancelled."""
    lines = example.run("watch", refused_token.job_id, address=refused_token.address)
    found = [(request.resume_token, request.jobs[0].after_sequence) for request in refused_token.requests]
    assert found == [("", 0), ("a token", 2), ("", 2)]
    check_token_watch(lines)
    assert refused_token.was_left


class FinalJob(grpc.GenericRpcHandler):
    """A server with one job, which is final: watches of it end at once. `job` is what GetJob returns."""

    #: How long the first call of this method asks to be left alone.
    wait_s = 0
    refusing = "GetJob"

    def __init__(self) -> None:
        self.job = job_pb2.Job(id=str(uuid.uuid4()), state=job_pb2.JOB_STATE_SUCCEEDED)
        self.calls_at: list[float] = []
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4), handlers=[self])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        if call.method.endswith("/Watch"):
            return grpc.unary_stream_rpc_method_handler(self._watch)
        return grpc.unary_unary_rpc_method_handler(self._get_job)

    def _watch(self, _: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        self._refuse_first("Watch", context)
        yield from ()

    def _get_job(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        self._refuse_first("GetJob", context)
        return job_service_pb2.GetJobResponse(job=self.job).SerializeToString()

    def _refuse_first(self, method: str, context: grpc.ServicerContext) -> None:
        if method != self.refusing:
            return
        self.calls_at.append(time.monotonic())
        if self.wait_s and len(self.calls_at) == 1:
            status = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="not yet")
            info = error_details_pb2.RetryInfo()
            info.retry_delay.FromTimedelta(timedelta(seconds=self.wait_s))
            status.details.add().Pack(info)
            context.set_trailing_metadata([("grpc-status-details-bin", status.SerializeToString())])
            context.abort(grpc.StatusCode.UNAVAILABLE, status.message)

    def close(self) -> None:
        self._server.stop(None).wait(PATIENCE_S)


@pytest.fixture
def final_job() -> Iterator[FinalJob]:
    yield from closing(FinalJob())


def test_a_large_job_is_read(example: Example, final_job: FinalJob):
    """No response has more than 4 MiB, and no client needs to be configured for one of that size."""
    final_job.job.result.data = b"done"
    response = job_service_pb2.GetJobResponse(job=final_job.job)
    response.job.payload = bytes(RESPONSE_BYTES_MAX)
    response.job.payload = bytes(2 * RESPONSE_BYTES_MAX - response.ByteSize())
    assert response.ByteSize() == RESPONSE_BYTES_MAX
    final_job.job.CopyFrom(response.job)
    (end,) = example.run("watch", final_job.job.id, address=final_job.address)
    assert end == {"event": "end", "state": "SUCCEEDED", "result": "done"}


def test_a_call_is_repeated_when_the_service_asks_for_it(example: Example, final_job: FinalJob):
    # The delays that the clients choose are shorter.
    final_job.wait_s = 3
    (end,) = example.run("watch", final_job.job.id, address=final_job.address)
    assert end["event"] == "end"
    first, second = final_job.calls_at
    assert second - first >= final_job.wait_s


def test_a_call_is_not_repeated_after_its_deadline(example: Example, final_job: FinalJob):
    final_job.wait_s = 3_600
    for method in "GetJob", "Watch":
        final_job.refusing = method
        final_job.calls_at.clear()
        program = example.start("watch", final_job.job.id, address=final_job.address)
        program.fail("UNAVAILABLE")
        assert len(final_job.calls_at) == 1


def test_a_result_need_not_be_text(example: Example, final_job: FinalJob):
    final_job.job.result.data = b"\xff!"
    (end,) = example.run("watch", final_job.job.id, address=final_job.address)
    assert end["state"] == "SUCCEEDED" and end["result"].endswith("!")


def test_tls_and_a_token(example: Example, secured: Secured, user: str):
    lines = example.run(
        "run", SLEEP, user, sleep_for(300, 3), address=secured.address, ca=secured.ca, token=secured.token
    )
    check_watch(lines, steps=3)


def test_a_wrong_token_is_refused(example: Example, secured: Secured, user: str):
    for arguments in ["run", SLEEP, user, sleep_for(1, 1)], ["invalid"]:
        program = example.start(*arguments, address=secured.address, ca=secured.ca, token="sbx_" + 43 * "x")
        program.fail("UNAUTHENTICATED")


class Impostor:
    """A server with a certificate that another authority has signed. Keeps what clients send it after the handshake."""

    def __init__(self, authority: Authority) -> None:
        pair = authority.issue(*LOOPBACK)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.certificate, pair.key)
        self._context.set_alpn_protocols(["h2"])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"localhost:{self._listener.getsockname()[1]}"
        self.received = b""
        self.was_called = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            plain.settimeout(PATIENCE_S)
            with plain, suppress(OSError), self._context.wrap_socket(plain, server_side=True) as secure:
                while data := secure.recv(65_536):
                    self.received += data
            self.was_called.set()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def impostor() -> Iterator[Impostor]:
    with ExitStack() as stack:
        authority = Authority("Another authority")
        stack.callback(authority.close)
        impostor = Impostor(authority)
        stack.callback(impostor.close)
        yield impostor


def test_another_authority_is_not_trusted(example: Example, impostor: Impostor, secured: Secured, user: str):
    program = example.start(
        "run", SLEEP, user, sleep_for(1, 1), address=impostor.address, ca=secured.ca, token=secured.token
    )
    assert impostor.was_called.wait(PATIENCE_S)
    program.close()
    assert impostor.received == b"", "the token may have been sent to an impostor"
    assert program.next() is None, "it printed something"


def test_a_watch_survives_a_rolling_restart(example: Example, cluster: Cluster, user: str):
    """Two nodes are replaced, one after the other. Each sends GOAWAY and ends its watches, and releases its runs."""
    url = cluster.database()
    with ExitStack() as stack:

        def start(name: str) -> Server:
            # A run that has not ended within the grace time is released.
            server = Server(url, name=name, arguments=["--grace", "200ms"])
            stack.callback(server.close)
            return server

        north = start("north")
        proxy = Proxy(north.address)
        stack.callback(proxy.close)
        south = start("south")
        running = example.start("run", SLEEP, user, sleep_for(4_000, 40), address=proxy.address)
        running.until_event("progress")
        proxy.point_at(south.address)
        assert north.terminate() == 0
        running.until_event("reconnect")
        running.until_event("progress")
        proxy.point_at(start("north again").address)
        assert south.terminate() == 0
        lines = running.finish()
    reconnects = events(lines, "reconnect")
    assert len(reconnects) >= 2 and reconnects[0]["code"] == "UNAVAILABLE"
    lifecycle = [line["type"] for line in events(lines, "lifecycle")]
    # By each node that was replaced while it ran the job, which may have begun on either.
    released = lifecycle.count("RELEASED")
    assert released in (1, 2)
    types = ["ENQUEUED", *released * ["STARTED", "RELEASED"], "STARTED", "SUCCEEDED"]
    check_watch(lines, steps=40, types=types)


class HoldingProxy(Proxy):
    """Keeps the connection to the server open when its client has gone."""

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                with suppress(OSError):
                    sink.sendall(data)


@pytest.fixture
def holding(server: Server) -> Iterator[HoldingProxy]:
    yield from closing(HoldingProxy(server.address))


@pytest.fixture
def all_watches(api: Api, client: Client) -> Callable[[str], bool]:
    """Whether a user may open as many watches as the quota allows: that none of another connection is open."""

    def try_all(user: str) -> bool:
        # A watch of a job that is final would end by itself.
        job_id = client.enqueue("test.noop", user_id=user, delay=timedelta(hours=1)).id
        request = job_service_pb2.WatchRequest(jobs=[job_service_pb2.WatchedJob(job_id=job_id)])
        calls = [api.jobs.Watch(request, timeout=PATIENCE_S) for _ in range(WATCHES_MAX)]
        try:
            for call in calls:
                next(call)
            return True
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, error
            return False
        finally:
            for call in calls:
                call.cancel()
            client.cancel(job_id)

    return try_all


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """What a job of the kind STUBBORN waits for."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    yield path
    with suppress(OSError):
        end_stubborn(path)


def end_stubborn(pipe: Path) -> None:
    """Ends the job that waits for a pipe. Fails if there is none."""
    os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))


def test_watches_that_are_left_end_on_the_server(
    example: Example,
    holding: HoldingProxy,
    client: Client,
    all_watches: Callable[[str], bool],
    user: str,
    pipe: Path,
):
    """The connection stays open and the job runs on, so only the client's RST_STREAM has ended them."""
    payload = json.dumps(str(pipe))
    lines = example.run("leave", str(WATCHES_MAX), STUBBORN, user, payload, address=holding.address)
    assert lines[-1] == {"left": WATCHES_MAX}
    reach(lambda: all_watches(user), LEFT_S, "every watch that was left has ended")
    (job,) = client.list(user_id=user, kinds=STUBBORN)
    assert job.state is JobState.RUNNING and job.cancel_requested
    end_stubborn(pipe)
    assert client.wait(job.id, timeout=PATIENCE_S).state is JobState.CANCELLED


def test_a_watch_that_is_not_left_would_be_found(
    holding: HoldingProxy, client: Client, all_watches: Callable[[str], bool], user: str
):
    job_id = client.enqueue(SLEEP, {"ms": 60_000}, user_id=user).id
    left = Api(holding.address)
    call = left.jobs.Watch(job_service_pb2.WatchRequest(jobs=[job_service_pb2.WatchedJob(job_id=job_id)]))
    next(call)
    assert not all_watches(user)
    call.cancel()
    left.close()
    reach(lambda: all_watches(user), LEFT_S, "the watch that was cancelled has ended")
    client.cancel(job_id)
