"""gRPC over a bare socket: requests encoded beforehand, TCP_NODELAY, and no library's time in the figures.

It knows as much of HTTP/2 as a client of one's own server needs. Headers of answers are not decoded: an answer
without a message is an error, and what kind of error does not matter to a measure.
"""

from __future__ import annotations

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
WINDOW_MAX = 2**31 - 1


class WireError(Exception):
    """The server refused a call, or closed the connection."""


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def _text(value: bytes) -> bytes:
    assert len(value) < 127
    return bytes([len(value)]) + value


def header_block(path: str, authority: str) -> bytes:
    """Literals that are not indexed: the same bytes for every call, whatever went before."""
    return b"".join(
        [
            b"\x83\x86",  # :method POST, :scheme http
            b"\x04" + _text(path.encode()),
            b"\x01" + _text(authority.encode()),
            b"\x0f\x10" + _text(b"application/grpc"),  # content-type
            b"\x00" + _text(b"te") + _text(b"trailers"),
        ]
    )


def message(body: bytes) -> bytes:
    """A gRPC message with its prefix."""
    return struct.pack(">BI", 0, len(body)) + body


class Connection:
    """One connection, for one thread."""

    def __init__(self, address: str, timeout_s: float = 30.0) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._authority = address
        self._next_stream = 1
        self._received = bytearray()
        self._partial: dict[int, bytearray] = {}
        self._ready: list[tuple[int, bytes | None]] = []
        self._blocks: dict[str, bytes] = {}
        # SETTINGS_INITIAL_WINDOW_SIZE, and the connection's window: no measure sends updates.
        settings = frame(SETTINGS, 0, 0, struct.pack(">HI", 4, WINDOW_MAX))
        self.socket.sendall(PREFACE + settings + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW_MAX - 65_535)))

    def request(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The stream of a call and the bytes that make it."""
        if path not in self._blocks:
            self._blocks[path] = header_block(path, self._authority)
        stream = self._next_stream
        self._next_stream += 2
        data = message(body)
        pieces = [frame(HEADERS, END_HEADERS, stream, self._blocks[path])]
        # 16 KiB is the largest frame that a peer takes without having said more.
        for start in range(0, len(data), 16_384):
            is_last = start + 16_384 >= len(data)
            pieces.append(frame(DATA, END_STREAM if is_last else 0, stream, data[start : start + 16_384]))
        return stream, b"".join(pieces)

    def send(self, path: str, body: bytes) -> int:
        stream, data = self.request(path, body)
        self.socket.sendall(data)
        return stream

    def call(self, path: str, body: bytes) -> bytes:
        """A unary call's answer."""
        stream = self.send(path, body)
        answer = None
        while True:
            item = self.read()
            if item[0] != stream:
                continue
            if item[1] is None:
                break
            answer = item[1]
        if answer is None:
            raise WireError(f"{path} was refused")
        return answer

    def read(self) -> tuple[int, bytes | None]:
        """The next message of any stream; None: the stream has ended."""
        while not self._ready:
            data = self.socket.recv(262_144)
            if not data:
                raise WireError("the server closed the connection")
            self.feed(data)
        return self._ready.pop(0)

    def take_ready(self) -> list[tuple[int, bytes | None]]:
        """The messages that `feed` has decoded."""
        ready, self._ready = self._ready, []
        return ready

    def feed(self, data: bytes) -> None:
        self._received += data
        received, at = self._received, 0
        while len(received) - at >= 9:
            length = int.from_bytes(received[at : at + 3], "big")
            if len(received) - at < 9 + length:
                break
            stream = int.from_bytes(received[at + 5 : at + 9], "big") & WINDOW_MAX
            self._frame(received[at + 3], received[at + 4], stream, bytes(received[at + 9 : at + 9 + length]))
            at += 9 + length
        del received[:at]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self.socket.sendall(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.socket.sendall(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            raise WireError("the server sent GOAWAY")
        elif kind == DATA:
            self._data(stream, payload)
        if (kind in (DATA, HEADERS) and flags & END_STREAM) or kind == RST_STREAM:
            self._partial.pop(stream, None)
            self._ready.append((stream, None))

    def _data(self, stream: int, payload: bytes) -> None:
        partial = self._partial.setdefault(stream, bytearray())
        partial += payload
        while len(partial) >= 5:
            length = int.from_bytes(partial[1:5], "big")
            if len(partial) < 5 + length:
                break
            self._ready.append((stream, bytes(partial[5 : 5 + length])))
            del partial[: 5 + length]

    def close(self) -> None:
        self.socket.close()
