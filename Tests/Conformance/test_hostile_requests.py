"""Clients that send much and never finish: half messages, requests ahead of their reader, calls without
end."""

from __future__ import annotations

import gzip
import struct
import time
import uuid
from collections import Counter
from contextlib import ExitStack

import pytest
from attackers import CHECK, REFLECT, WATCH_HEALTH
from frames import (
    DATA,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    INITIAL_WINDOW_SIZE,
    REFUSED_STREAM,
    Connection,
    grpc_headers,
    message,
    raw_frame,
)
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from harness import unique
from hostile import MIB, probe
from hyperframe.frame import WindowUpdateFrame
from signalbox.v1 import job_pb2, job_service_pb2
from wire import Lock

ENQUEUE = "/signalbox.v1.JobService/Enqueue"
BATCH = "/signalbox.v1.JobService/EnqueueBatch"
INVALID_ARGUMENT = 3
RESOURCE_EXHAUSTED = 8
UNAVAILABLE = 14

#: A request of which less than 16 KiB comes for this long is reset (docs/architecture.md).
STALL_S = 20.0

#: Between two frames of a server that has something to say.
LULL_S = 1.0


class Uploader:
    """Sends on many streams as much as the server's windows allow, in turn: on each the beginning of a message
    that is announced to have so many bytes."""

    def __init__(self, peer: Connection, message_bytes: int = 4 * MIB) -> None:
        self._peer = peer
        self._prefix = struct.pack(">BI", 0, message_bytes)
        self._connection_window = 65_535
        self._stream_windows: dict[int, int] = {}
        self._frames_seen = 0
        self.sent: dict[int, int] = {}

    def open(self, path: str) -> int:
        stream = self._peer.request(path, None, end=False)
        self._stream_windows[stream] = self._peer.settings.get(INITIAL_WINDOW_SIZE, 65_535)
        self.sent[stream] = 0
        return stream

    def _take_windows(self) -> None:
        for frame in self._peer.frames[self._frames_seen :]:
            if isinstance(frame, WindowUpdateFrame):
                if frame.stream_id == 0:
                    self._connection_window += frame.window_increment
                elif frame.stream_id in self._stream_windows:
                    self._stream_windows[frame.stream_id] += frame.window_increment
        self._frames_seen = len(self._peer.frames)

    def send(self, bytes_each: int) -> None:
        """Until each stream has as many more bytes, or is over, or the server gives no window for a while."""
        wanted = {stream: self.sent[stream] + bytes_each for stream in self.sent}
        while not self._peer.is_closed:
            self._take_windows()
            moved = 0
            for stream, goal in wanted.items():
                count = min(
                    16_384, goal - self.sent[stream], self._stream_windows[stream], self._connection_window
                )
                if count <= 0 or self._peer.answer_of(stream).is_over:
                    continue
                # The prefix comes first, and then whatever fills the message.
                data = self._prefix[self.sent[stream] :][:count]
                data += bytes(count - len(data))
                self._peer.send(raw_frame(DATA, 0, stream, data))
                self.sent[stream] += count
                self._stream_windows[stream] -= count
                self._connection_window -= count
                moved += count
            if all(
                self.sent[stream] >= goal or self._peer.answer_of(stream).is_over
                for stream, goal in wanted.items()
            ):
                return
            # Whatever has come already, and more only if it is needed to go on.
            while not self._peer.is_closed and not self._peer.is_quiet(0.0 if moved else LULL_S):
                moved += 1
            if not moved:
                return


def test_half_messages(cluster, record_property):
    """100 streams with half of a 4 MiB message each: 200 MiB, if somebody kept it."""
    with probe("half messages", cluster) as attacked:
        with attacked.attack(), Connection.open(attacked.server.address) as peer:
            uploader = Uploader(peer)
            for _ in range(100):
                uploader.open(BATCH)
            uploader.send(2 * MIB)
            over = [stream for stream in uploader.sent if peer.answer_of(stream).is_over]
            held = sum(sent for stream, sent in uploader.sent.items() if stream not in over)
            attacked.figures.notes.append(
                f"{sum(uploader.sent.values()) / MIB:.0f} MiB taken, {len(over)} calls ended, "
                f"{held / MIB:.0f} MiB of the others held"
            )
            # A call ends because of the limit of its connection, or of all connections.
            for stream in over:
                answer = peer.answer_of(stream)
                assert answer.grpc_status in (RESOURCE_EXHAUSTED, UNAVAILABLE), answer
            # What was held is let go with the connection.
            assert held <= 32 * MIB
        attacked.check(record_property)


def test_half_messages_on_eight_connections(cluster, record_property):
    """One connection's share is not each attacker's to have eight times."""
    with probe("half messages on eight connections", cluster) as attacked:
        peers = [Connection.open(attacked.server.address) for _ in range(8)]
        try:
            with attacked.attack():
                taken = 0
                for peer in peers:
                    uploader = Uploader(peer)
                    for _ in range(8):
                        uploader.open(BATCH)
                    uploader.send(4 * MIB - 16_384)
                    taken += sum(uploader.sent.values())
                attacked.figures.notes.append(f"{taken / MIB:.0f} MiB taken")
        finally:
            for peer in peers:
                peer.close()
        attacked.check(record_property)


def test_parts_of_small_messages(cluster, record_property):
    """1,000 streams on each of eight connections, with 15 KiB of a message of 16 KiB: 120 MiB, if each of them
    were too little to be counted."""
    with probe("parts of small messages", cluster) as attacked, ExitStack() as stack:
        peers = [stack.enter_context(Connection.open(attacked.server.address)) for _ in range(8)]
        taken = refused = 0
        with attacked.attack():
            for peer in peers:
                uploader = Uploader(peer, 16 * 1024)
                for _ in range(1_000):
                    uploader.open(BATCH)
                uploader.send(15 * 1024)
                peer.settle()
                taken += sum(uploader.sent.values())
                over = [answer for stream in uploader.sent if (answer := peer.answer_of(stream)).is_over]
                refused += len(over)
                # Those that the first have left no room for.
                assert {answer.grpc_status for answer in over} <= {UNAVAILABLE}, over[0]
        attacked.figures.notes.append(f"{taken / MIB:.0f} MiB taken, {refused} calls refused")
        attacked.check(record_property)


def test_small_messages_that_become_large(cluster, record_property):
    """20 calls of 4 KiB, each of which is 4 MiB when it is decompressed: 80 MiB, if nobody counted them as what
    they have become. A watch of the health keeps its question, and anybody may ask."""
    job = job_pb2.JobSpec(kind="k", user_id="u", content_type="x/y", payload=bytes(4 * MIB - 96))
    batch = job_service_pb2.EnqueueBatchRequest(jobs=[job]).SerializeToString()
    question = health_pb2.HealthCheckRequest(service="s" * (4 * MIB - 64)).SerializeToString()
    bombs = [(BATCH, gzip.compress(batch)), (WATCH_HEALTH, gzip.compress(question))]
    with probe("small messages that become large", cluster) as attacked:
        with attacked.attack(), Connection.open(attacked.server.address) as peer:
            # Whole, but for their ends, which come all at once.
            streams = [
                peer.request(
                    path, struct.pack(">BI", 1, len(bomb)) + bomb, ("grpc-encoding", "gzip"), end=False
                )
                for path, bomb in 10 * bombs
            ]
            peer.settle()
            peer.send(b"".join(raw_frame(DATA, END_STREAM, stream, b"") for stream in streams))
            codes = {peer.answer(stream).grpc_status for stream in streams}
            assert codes == {RESOURCE_EXHAUSTED}, codes
            # They are over in no time: the others' calls are looked at for a while longer.
            for _ in range(1_000):
                peer.answer(peer.request(CHECK, message(b"")), settle=False)
        attacked.check(record_property)


#: Fillers in one write. Half of the connection's window, a MiB, may not have been given back yet.
FILLERS = 8


def test_prefixes_between_large_requests(cluster, record_property):
    """A message's first 5 bytes come with 60 KiB of another call, 960 times: whoever kept them where they were
    read would keep 56 MiB."""
    large = job_service_pb2.EnqueueRequest(job=job_pb2.JobSpec(user_id="u", payload=bytes(60_000)))
    # No kind: answered as soon as it is there.
    large_body = message(large.SerializeToString())
    prefix = struct.pack(">BI", 0, 4 * MIB)

    with probe("prefixes between large requests", cluster) as attacked:
        with attacked.attack(), Connection.open(attacked.server.address) as peer:

            def frames(path: str, body: bytes, *, end: bool) -> tuple[int, bytes]:
                stream = peer.new_stream()
                parts = [body[at : at + 16_384] for at in range(0, len(body), 16_384)]
                data = b"".join(raw_frame(DATA, 0, stream, part) for part in parts[:-1])
                last = raw_frame(DATA, END_STREAM if end else 0, stream, parts[-1])
                return stream, peer.header_frames(stream, grpc_headers(path)) + data + last

            for _ in range(960 // FILLERS):
                fillers, batch = [], b""
                for _ in range(FILLERS):
                    filler, filling = frames(ENQUEUE, large_body, end=True)
                    _, begun = frames(BATCH, prefix, end=False)
                    fillers.append(filler)
                    batch += filling + begun
                peer.send(batch)
                for filler in fillers:
                    answer = peer.answer(filler, settle=False)
                    assert answer.grpc_status == INVALID_ARGUMENT, answer
        attacked.check(record_property)


def until_reset(peer: Connection, streams: list[int], slow: Connection, line: int) -> bool:
    """Reads until all streams have been reset for what does not come, False when that was not in time. On a bad
    line a few KiB a second come meanwhile."""
    end = next_part = time.monotonic()
    end += STALL_S + 5
    while not peer.is_closed and not all(peer.answer_of(stream).is_over for stream in streams):
        now = time.monotonic()
        if now >= end:
            break
        if now >= next_part:
            slow.send(raw_frame(DATA, 0, line, bytes(4_096)))
            next_part += 1
        peer.is_quiet(max(0.001, next_part - now))
    return all(peer.answer_of(stream).reset == ENHANCE_YOUR_CALM for stream in streams)


@pytest.mark.slow
def test_announced_messages(cluster, record_property):
    """5 bytes announce a message of 4 MiB: nothing is set aside for it before it comes. Who sends too little of
    a message loses the stream, a bad line does not."""
    prefix = struct.pack(">BI", 0, 4 * MIB)
    # A method with one message, and one that waits for any number of them.
    parts = [(BATCH, prefix), (BATCH, prefix[:3]), (BATCH, prefix + bytes(1_000))]
    parts.append((REFLECT, message(b"", length=500)))
    with probe("announced messages", cluster) as attacked:
        with (
            attacked.attack(),
            Connection.open(attacked.server.address) as peer,
            Connection.open(attacked.server.address) as slow,
        ):
            streams = [peer.request(path, part, end=False) for path, part in 225 * parts]
            line = slow.request(BATCH, prefix, end=False)
            began = time.monotonic()
            peer.settle()
            assert not any(peer.answer_of(stream).is_over for stream in streams)
            is_reset = until_reset(peer, streams, slow, line)
            seconds = time.monotonic() - began
            slow.settle()
            assert not slow.answer_of(line).is_over
        attacked.figures.cut_off = max(0.0, seconds - STALL_S) if is_reset else float("inf")
        attacked.figures.notes.append(f"reset after {seconds:.1f} s" if is_reset else "not reset")
        attacked.check(record_property)


def test_requests_ahead_of_their_reader(cluster, record_property):
    """Reflection answers one question after the other. Who takes no answer may send what the window of a
    stream holds, and not a byte more: what is not read is not given back."""
    question = reflection_pb2.ServerReflectionRequest(file_containing_symbol="signalbox.v1.JobService")
    request = message(question.SerializeToString())
    with probe("requests ahead of their reader", cluster) as attacked:
        with attacked.attack():
            with Connection.open(attacked.server.address, settings={INITIAL_WINDOW_SIZE: 0}) as peer:
                window = peer.settings[INITIAL_WINDOW_SIZE]
                stream = peer.request(REFLECT, None, end=False)
                sent = 0
                answered = 0
                while sent < 8 * MIB:
                    batch = request * (16_384 // len(request))
                    given = sum(
                        frame.window_increment
                        for frame in peer.frames
                        if isinstance(frame, WindowUpdateFrame) and frame.stream_id == stream
                    )
                    if window + given - sent < len(batch):
                        if peer.is_quiet(LULL_S):
                            break
                        continue
                    peer.send(raw_frame(DATA, 0, stream, batch))
                    sent += len(batch)
                answered = given
        attacked.figures.notes.append(
            f"{sent / 1024:.0f} KiB sent in all, of which {answered / 1024:.0f} KiB were given back"
        )
        # What it did read is less than the answers to it, of which 16 KiB may wait on a stream, and one more.
        assert sent <= window + 16 * 1024
        attacked.check(record_property)


def enqueue_request() -> bytes:
    job = job_pb2.JobSpec(kind="test.noop", user_id=unique())
    return message(job_service_pb2.EnqueueRequest(job=job).SerializeToString())


def test_calls_that_run_on_after_their_reset(cluster, record_property):
    """A commit cannot be taken back: an Enqueue runs on when its client has reset it. So the limit of streams
    is one of handlers, or a client could have any number of them by resetting its calls."""
    with probe("calls that run on after their reset", cluster) as attacked:
        with Lock(attacked.server.database_url, "job"), attacked.attack():
            with Connection.open(attacked.server.address) as peer:
                limit = 1_000
                # Under the limit of what a client may reset at once, which is another one.
                first = [peer.request(ENQUEUE, enqueue_request()) for _ in range(limit)]
                peer.settle()
                assert not any(peer.answer_of(stream).is_over for stream in first), "all of them wait"
                for stream in first[:200]:
                    peer.send_reset(stream)
                began = time.monotonic()
                # Not so many that these resets were too many.
                more = [peer.request(ENQUEUE, enqueue_request()) for _ in range(50)]
                for stream in more:
                    assert peer.answer(stream, settle=False).reset == REFUSED_STREAM
                attacked.figures.cut_off = time.monotonic() - began
                # No more than that: what needs no handler's time is refused as well.
                assert peer.answer(peer.request(CHECK, message(b"")), settle=False).reset == REFUSED_STREAM
        # Those that were not reset go on when they can.
        with Connection.open(attacked.server.address) as peer:
            assert peer.answer(peer.request(ENQUEUE, enqueue_request())).grpc_status == 0
        attacked.check(record_property)


#: The longest that another caller waits for a commit of his own meanwhile.
NEIGHBOUR_S = 1.0
ALREADY_EXISTS = 6


@pytest.mark.parametrize("is_equal", [True, False], ids=["equal", "different"])
def test_one_id_again_and_again(cluster, record_property, is_equal):
    """3,000 Enqueues of one id, which cannot all be told apart in one statement: others' commits wait for theirs,
    and must not wait for 3,000."""
    user, id = unique(), str(uuid.uuid4())

    def repeat(number: int) -> bytes:
        labels = {} if is_equal else {"number": str(number)}
        job = job_pb2.JobSpec(kind="test.noop", user_id=user, job_id=id, labels=labels)
        return message(job_service_pb2.EnqueueRequest(job=job).SerializeToString())

    with probe("one id again and again", cluster) as attacked, ExitStack() as stack:
        address = attacked.server.address
        peers = [stack.enter_context(Connection.open(address)) for _ in range(3)]
        neighbour = stack.enter_context(Connection.open(address))
        answers = []
        with attacked.attack():
            streams = [
                (peer, peer.request(ENQUEUE, repeat(1_000 * place + number)))
                for place, peer in enumerate(peers)
                for number in range(1_000)
            ]
            waits = []
            for _ in range(20):
                began = time.monotonic()
                answer = neighbour.answer(neighbour.request(ENQUEUE, enqueue_request()), settle=False)
                waits.append(time.monotonic() - began)
                assert answer.grpc_status == 0, answer
            answers = [peer.answer(stream, settle=False) for peer, stream in streams]
        attacked.figures.notes.append(f"another's Enqueue took {1_000 * max(waits):.0f} ms at most")
        codes = Counter(answer.grpc_status for answer in answers)
        replies = [
            job_service_pb2.EnqueueResponse.FromString(answer.messages[0][1])
            for answer in answers
            if answer.grpc_status == 0
        ]
        assert codes == ({0: 3_000} if is_equal else {0: 1, ALREADY_EXISTS: 2_999}), codes
        assert sum(reply.created for reply in replies) == 1
        assert {reply.job.id for reply in replies} == {id}
        assert max(waits) <= NEIGHBOUR_S
        attacked.check(record_property)
