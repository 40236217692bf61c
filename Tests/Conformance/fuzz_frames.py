#!/usr/bin/env python3
"""Random frame sequences against a server that runs.

    fuzz_frames.py --address HOST:PORT --sequences 1000000 --seed 7

A sequence is a few frames: valid ones, valid ones with a few bytes changed, and noise. A connection carries
up to 50, each followed by a SETTINGS, whose acknowledgement says that the server has got so far; then the
client ends its side, and the server must end its own. What the server says meanwhile must be frames that it
may send. After each batch an honest call must be answered. Only sequences that are known to have been looked
at are counted.

A connection's bytes follow from the seed and its number alone. A finding names the connections that were
under way; `--begin NUMBER --sequences 1` sends those of one again. Ends with 0 when there was no finding.

    fuzz_frames.py --write FOLDER --sequences 1000 --seed 7

writes sequences into files instead, for Tests/Fuzz/Fuzz/Frames.swift to begin with.
"""

from __future__ import annotations

import argparse
import random
import socket
import struct
import sys
import time
from bisect import bisect_right
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hpack
from attackers import CHECK, REFLECT, WATCH_HEALTH, block, settings, window_update
from frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGE_WINDOW,
    MAX_FRAME_SIZE,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Connection,
    Field,
    grpc_headers,
    message,
    raw_frame,
)

SEQUENCES_PER_CONNECTION = 50
#: With windows that have room to grow.
GREETING = PREFACE + settings((INITIAL_WINDOW_SIZE, 1 << 20)) + window_update(0, 1 << 20)
#: Connections at once: the server works on some while the next one's bytes are made.
CONNECTIONS = 16
#: Connections between two honest calls.
BATCH = 200
#: A server that has not answered, or not closed, by then never will.
PATIENCE_S = 30.0

#: What a server may send at all, and how long a frame may be for a client that allowed no more.
SERVER_FRAMES = {DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION}
FRAME_BYTES_MAX = 16_384
#: Every so many connections the header lists are decoded as well, which takes longer than all the rest.
DECODED = 32

JOBS = "/signalbox.v1.JobService/"
PATHS = [
    *(CHECK, WATCH_HEALTH, REFLECT),
    *(JOBS + name for name in ("Enqueue", "EnqueueBatch", "GetJob", "ListJobs", "Watch", "Cancel", "Retry")),
    *("/signalbox.v1.AdminService/ListNodes", "/no.such.Service/Method", "/", ""),
]

#: Protobuf by hand: texts, numbers and messages in messages under the lowest field numbers, right and wrong.
BODIES = [
    b"",
    b"\x0a\x00",
    b"\x0a\x04user",
    b"\x0a\x0e\x0a\x09test.noop\x12\x01u",
    b"\x0a\x2401234567-89ab-7def-8123-456789abcdef",
    b"\x1a\x1bsignalbox.v1.JobService.Foo",
    b"\x3a\x00",
    b"\x08\x96\x01",
    b"\x0a\x7f",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\x0b" * 50,
]

TIMEOUTS = ["1S", "50m", "99999999H", "0n", "1", "S", "-1S", "123456789S", "1Sx", " 1S", "1u"]


class Finding(Exception):
    """The server did what it must not do."""


@dataclass
class Summary:
    connections: int = 0
    sequences: int = 0
    seconds: float = 0.0
    #: How connections ended: GOAWAY's codes; "end" is what the client asked for, "cut" an end without a word.
    ends: Counter[str] = field(default_factory=Counter)
    #: Frames that the server sent, by type.
    answers: Counter[int] = field(default_factory=Counter)

    def __str__(self) -> str:
        ends = ", ".join(f"{name}: {count}" for name, count in self.ends.most_common())
        return (
            f"{self.sequences} sequences on {self.connections} connections in {self.seconds:.1f} s "
            f"({self.sequences / max(self.seconds, 0.001):.0f} a second); ended by {ends}"
        )


class Blocks:
    """Header blocks, made once: encoding them takes longer than everything else together."""

    def __init__(self, rng: random.Random) -> None:
        self.good = [block(grpc_headers(path)) for path in PATHS]
        self.good += [block(grpc_headers(rng.choice(PATHS), ("grpc-timeout", text))) for text in TIMEOUTS]
        self.trailers = block([("x-trailer", "1")])
        #: Wrong in a way that ends the stream at most.
        self.odd: list[bytes] = []
        for _ in range(400):
            fields = grpc_headers(rng.choice(PATHS))
            for _ in range(rng.randrange(3)):
                rng.choice([self._drop, self._twice, self._change, self._add, self._shuffle])(rng, fields)
            # With the dynamic table, too: what one block adds the next may name.
            self.odd.append(block(fields) if rng.random() < 0.7 else bytes(hpack.Encoder().encode(fields)))
        self.all = self.good + self.odd
        self.all += [rng.randbytes(rng.randrange(60)) for _ in range(60)]
        # Sizes of the dynamic table, and indices that are not there.
        self.all += [
            b"\x3f\xe1\x1f" + self.good[0],
            b"\x20" + self.good[0],
            b"\xbe" * 20,
            b"\xff\xff\xff\xff\x7f",
        ]

    @staticmethod
    def _drop(rng: random.Random, fields: list[Field]) -> None:
        del fields[rng.randrange(len(fields))]

    @staticmethod
    def _twice(rng: random.Random, fields: list[Field]) -> None:
        fields.append(rng.choice(fields))

    @staticmethod
    def _change(rng: random.Random, fields: list[Field]) -> None:
        at = rng.randrange(len(fields))
        fields[at] = (fields[at][0], rng.choice(["", "PUT", "application/json", "x" * 300, "\0", "é", " "]))

    @staticmethod
    def _add(rng: random.Random, fields: list[Field]) -> None:
        fields.append(
            rng.choice(
                [
                    *(
                        ("grpc-encoding", "gzip"),
                        ("grpc-encoding", "snappy"),
                        ("grpc-accept-encoding", "deflate,x"),
                    ),
                    *(
                        ("content-length", "5"),
                        ("content-length", "-1"),
                        ("connection", "close"),
                        ("te", "x"),
                    ),
                    *(
                        ("trace-bin", "AAEC"),
                        ("trace-bin", "A"),
                        ("trace-bin", "!,AA"),
                        ("Upper", "1"),
                        ("", "1"),
                    ),
                    *(
                        ("x" * 200, "y" * 4_000),
                        (":authority", "twice"),
                        (":unknown", "1"),
                        ("authorization", "x"),
                    ),
                    ("grpc-timeout", rng.choice(TIMEOUTS)),
                ]
            )
        )

    @staticmethod
    def _shuffle(rng: random.Random, fields: list[Field]) -> None:
        rng.shuffle(fields)


class Speaker:
    """What one connection says.

    Most say nothing that should end the connection, only the wild ones do: what is said after that is said to
    nobody, and what was said just before it is answered by the end alone.
    """

    WILD = 0.4
    #: More of them at once are too many.
    PINGS = 2

    def __init__(self, seed: int, number: int, blocks: Blocks) -> None:
        self._rng = random.Random(seed << 32 | number)
        self._random = self._rng.random
        self._blocks = blocks
        self._next_stream = 1
        self._is_wild = self._is(self.WILD)
        #: Those whose end was not said. The server may have ended them all the same.
        self._open: list[int] = []
        self._settings = 0
        self._pings = 0
        #: How many SETTINGS are acknowledged once a sequence has been looked at, for each sequence.
        self.marks: list[int] = []

    def _below(self, count: int) -> int:
        # Several times as fast as randrange.
        return int(self._random() * count)

    def _is(self, share: float) -> bool:
        return self._random() < share

    def _used_stream(self) -> int:
        """One that there is or was; now and then any number."""
        if self._is_wild and self._is(0.01):
            return self._rng.getrandbits(31)
        if self._next_stream == 1:
            return 1
        return self._next_stream - 2 - 2 * self._below(min(6, self._next_stream // 2))

    def _open_stream(self) -> int | None:
        if not self._open:
            return None
        return self._open[self._below(len(self._open))]

    def _body(self) -> bytes:
        data = BODIES[self._below(len(BODIES))]
        kind = self._random()
        if kind < 0.1:
            data = self._changed(data) if data else b"\x00"
        if kind > 0.95:
            data = self._rng.randbytes(self._below(200))
        flag = 0 if self._is(0.95) else self._below(256)
        length = len(data) if self._is(0.95) else self._rng.getrandbits(self._below(33))
        return message(data, flag, length=length)

    def _call(self) -> bytes:
        """A call that is as it should be, or nearly."""
        stream = self._next_stream
        self._next_stream += 2
        blocks = self._blocks.all if self._is_wild else self._blocks.odd
        if self._is(0.7):
            blocks = self._blocks.good
        header_block = blocks[self._below(len(blocks))]
        if self._is(0.1):
            cut = self._below(len(header_block) + 1)
            opening = raw_frame(HEADERS, 0, stream, header_block[:cut]) + raw_frame(
                CONTINUATION, END_HEADERS, stream, header_block[cut:]
            )
        elif self._is(0.05):
            # No message at all.
            return raw_frame(HEADERS, END_HEADERS | END_STREAM, stream, header_block)
        else:
            opening = raw_frame(HEADERS, END_HEADERS, stream, header_block)
        body = self._body()
        if self._is(0.2):
            cut = self._below(len(body) + 1)
            return (
                opening
                + raw_frame(DATA, 0, stream, body[:cut])
                + raw_frame(DATA, END_STREAM, stream, body[cut:])
            )
        if self._is(0.8):
            return opening + raw_frame(DATA, END_STREAM, stream, body)
        self._open.append(stream)
        return opening + raw_frame(DATA, 0, stream, body)

    def _more(self) -> bytes:
        """More on a call that was left open."""
        stream = self._open_stream()
        if stream is None:
            return self._call()
        kind = self._below(5)
        if kind == 0:
            return raw_frame(DATA, 0, stream, self._body())
        if kind == 1:
            padding = self._below(20)
            return raw_frame(DATA, PADDED, stream, bytes([padding]) + self._body() + bytes(padding))
        if kind == 2:
            self._open.remove(stream)
            return raw_frame(DATA, END_STREAM, stream, self._body() if self._is(0.5) else b"")
        if kind == 3:
            # Trailers, which end it, or should.
            flags = END_HEADERS | (END_STREAM if self._is(0.9) else 0)
            self._open.remove(stream)
            return raw_frame(HEADERS, flags, stream, self._blocks.trailers)
        self._open.remove(stream)
        return raw_frame(RST_STREAM, 0, stream, struct.pack(">I", self._below(16)))

    def _control(self) -> bytes:
        kind = self._below(6)
        if self._next_stream == 1 and not self._is_wild:
            # About streams there is nothing to say yet.
            kind = 2
        if kind == 0:
            return raw_frame(RST_STREAM, 0, self._used_stream(), struct.pack(">I", self._below(16)))
        if kind == 1:
            increment = 1 + self._below(70_000)
            if self._is_wild and self._is(0.05):
                increment = LARGE_WINDOW if self._is(0.5) else 0
            return window_update(0 if self._is(0.3) else self._used_stream(), increment)
        if kind == 2:
            self._settings += 1
            return settings(*(self._setting() for _ in range(self._below(3))))
        if kind == 3 and (self._pings < self.PINGS or self._is_wild):
            self._pings += 1
            return raw_frame(PING, 0, 0, bytes(8))
        if kind == 4:
            return raw_frame(
                PRIORITY,
                0,
                self._used_stream(),
                struct.pack(">IB", 1_001 + self._below(40), self._below(256)),
            )
        return raw_frame(
            0x0A + self._below(200), self._below(256), self._used_stream(), bytes(self._below(40))
        )

    def _setting(self) -> tuple[int, int]:
        if self._is_wild and self._is(0.05):
            return self._below(10), self._rng.getrandbits(32)
        name = (1, 2, 3, 4, 5, 6, 8, 0x4242)[self._below(8)]
        if name in (2, 8):
            return name, self._below(2)
        return name, self._below(70_000) + (FRAME_BYTES_MAX if name == MAX_FRAME_SIZE else 0)

    def _noise(self) -> bytes:
        """A frame whose length is right, and nothing else need be."""
        kind = self._below(12)
        if kind in (PUSH_PROMISE, GOAWAY) and self._is(0.9):
            kind = DATA
        return raw_frame(kind, self._below(256), self._used_stream(), self._rng.randbytes(self._below(60)))

    def _changed(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(1 + self._below(3)):
            changed[self._below(len(changed))] = self._below(256)
        return bytes(changed)

    def _changed_within(self, data: bytes) -> bytes:
        """Changes anything but the frame's length, which would make the rest of the connection one frame."""
        return data[:3] + self._changed(data[3:])

    def sequence(self) -> bytes:
        parts = []
        for _ in range(1 + self._below(4)):
            kind = self._random()
            if kind < 0.5:
                parts.append(self._call())
            elif kind < 0.7:
                parts.append(self._more())
            elif kind < 0.97 or not self._is_wild:
                parts.append(self._control())
            elif kind < 0.99:
                parts.append(self._changed_within(self._call() if self._is(0.7) else self._control()))
            elif kind < 0.999:
                parts.append(self._noise())
            else:
                # What is no frame at all, or half of one.
                parts.append(self._rng.randbytes(1 + self._below(40)))
        return b"".join(parts)

    def bytes(self) -> bytes:
        """Everything that this connection says. Some do not even greet."""
        parts = [self._changed(GREETING) if self._is_wild and self._is(0.05) else GREETING]
        self._settings += 1
        for _ in range(SEQUENCES_PER_CONNECTION):
            parts.append(self.sequence())
            parts.append(settings())
            self._settings += 1
            self.marks.append(self._settings)
        return b"".join(parts)


class Peer:
    """One connection: everything is sent, then everything is read."""

    def __init__(self, address: tuple[str, int], number: int, speaker: Speaker) -> None:
        self.number = number
        data = speaker.bytes()
        self._marks = speaker.marks
        self._received = bytearray()
        self._socket = socket.create_connection(address, timeout=PATIENCE_S)
        self._was_cut = False
        try:
            self._socket.sendall(data)
            # "No more will come": the server then ends its side as well.
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise Finding(f"connection {number}: nobody reads") from error
            self._was_cut = True

    def finish(self, summary: Summary) -> None:
        try:
            while data := self._socket.recv(262_144):
                self._received += data
        except TimeoutError:
            raise Finding(f"connection {self.number}: the server does not close") from None
        except OSError:
            self._was_cut = True
        finally:
            self._socket.close()
        summary.connections += 1
        self._judge(summary)

    def _judge(self, summary: Summary) -> None:
        acknowledged = 0
        code: int | None = None
        decoder = hpack.Decoder() if self.number % DECODED == 0 else None
        header_block = b""
        buffer, at = self._received, 0
        while len(buffer) - at >= 9:
            length = buffer[at] << 16 | buffer[at + 1] << 8 | buffer[at + 2]
            kind, flags = buffer[at + 3], buffer[at + 4]
            if kind not in SERVER_FRAMES or length > FRAME_BYTES_MAX:
                raise Finding(f"connection {self.number}: a frame of type {kind} and {length} bytes")
            if len(buffer) < at + 9 + length:
                break
            payload = bytes(buffer[at + 9 : at + 9 + length])
            at += 9 + length
            summary.answers[kind] += 1
            if kind == SETTINGS and flags & ACK:
                acknowledged += 1
            elif kind == GOAWAY:
                code = int.from_bytes(payload[4:8], "big")
            elif kind in (HEADERS, CONTINUATION) and decoder is not None:
                header_block += payload
                if flags & END_HEADERS:
                    self._judge_headers(decoder, header_block)
                    header_block = b""
        # The one that ended the connection was looked at as well.
        summary.sequences += min(bisect_right(self._marks, acknowledged) + 1, SEQUENCES_PER_CONNECTION)
        if code is not None:
            summary.ends[f"GOAWAY {code}"] += 1
        else:
            summary.ends["end" if acknowledged and not self._was_cut else "cut"] += 1

    def _judge_headers(self, decoder: hpack.Decoder, header_block: bytes) -> None:
        try:
            fields = decoder.decode(header_block, raw=True)
        except hpack.HPACKError as error:
            raise Finding(f"connection {self.number}: header list: {error!r}") from error
        for name, value in fields:
            # Visible ASCII and spaces (PROTOCOL-HTTP2.md, ASCII-Value), whatever was asked.
            if not all(0x20 <= byte <= 0x7E for byte in bytes(name) + bytes(value)):
                raise Finding(f"connection {self.number}: header {name!r}: {value!r}")


def is_honest_call_answered(address: str) -> None:
    try:
        with Connection.open(address, timeout=PATIENCE_S) as peer:
            answer = peer.call(CHECK)
    except (OSError, AssertionError) as error:
        raise Finding(f"an honest call fails: {error!r}") from error
    if answer.grpc_status != 0 or answer.messages != [(0, b"\x08\x01")]:
        raise Finding(f"an honest call is answered {answer}")


def fuzz(address: str, sequences: int, seed: int, begin: int = 0, progress: Any = None) -> Summary:
    """Until so many sequences have been looked at. Raises `Finding`."""
    host, _, port = address.rpartition(":")
    target = (host, int(port))
    blocks = Blocks(random.Random(seed))
    summary = Summary()
    began = time.monotonic()
    number = checked = begin
    under_way: deque[Peer] = deque()
    try:
        is_honest_call_answered(address)
        while summary.sequences < sequences:
            while len(under_way) < CONNECTIONS and (not under_way or sequences > SEQUENCES_PER_CONNECTION):
                try:
                    under_way.append(Peer(target, number, Speaker(seed, number, blocks)))
                except ConnectionError as error:
                    raise Finding(f"no connection: {error}") from error
                number += 1
            under_way.popleft().finish(summary)
            if number - checked >= BATCH:
                is_honest_call_answered(address)
                summary.seconds = time.monotonic() - began
                if progress:
                    progress(summary)
                # Those still under way may be what a later check finds.
                checked = number - len(under_way)
        while under_way:
            under_way.popleft().finish(summary)
        is_honest_call_answered(address)
    except Finding as finding:
        raise Finding(f"{finding} (seed {seed}, connections {checked} to {number})") from finding
    summary.seconds = time.monotonic() - began
    return summary


def write(folder: Path, sequences: int, seed: int) -> None:
    """Each file is what a client says from the first byte on, after the byte that the frames fuzzer of Tests/Fuzz
    takes its choices from."""
    blocks = Blocks(random.Random(seed))
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(sequences):
        data = GREETING + Speaker(seed, number, blocks).sequence()
        # 1: the preface is in the input, and all of it comes at once.
        (folder / f"{number:06}").write_bytes(b"\x01" + data)


def main() -> int:
    parser = argparse.ArgumentParser(description="Random frame sequences against a server that runs.")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--address", metavar="HOST:PORT")
    target.add_argument("--write", type=Path, metavar="FOLDER")
    parser.add_argument("--sequences", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--begin", type=int, default=0, metavar="NUMBER", help="the first connection's number"
    )
    parser.add_argument("--quiet", action="store_true", help="say only how it ended")
    options = parser.parse_args()
    if options.write:
        write(options.write, options.sequences, options.seed)
        return 0

    def progress(summary: Summary) -> None:
        if summary.connections % (10 * BATCH) < BATCH:
            print(summary, flush=True)

    try:
        summary = fuzz(
            options.address,
            options.sequences,
            options.seed,
            options.begin,
            None if options.quiet else progress,
        )
    except Finding as finding:
        print(f"FINDING: {finding}", file=sys.stderr)
        return 1
    print(f"{summary}; no finding")
    return 0


if __name__ == "__main__":
    sys.exit(main())
