"""An honest client in a process of its own: one call after the other on one connection, each one timed.

In a process of its own, so that nobody else's Python takes its turn. It reads lines from standard input and
answers each with a line of JSON:

    call N      calls N times, and says how it went
    start       begins to call
    stop        ends, and says how it went since `start`

It leaves when its standard input ends.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import sys
import time
from contextlib import suppress

from frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    LARGE_WINDOW,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    grpc_headers,
    message,
    raw_frame,
    settings_payload,
    tls_context,
)
from hpack import Encoder, NeverIndexedHeaderTuple

#: An honest caller gives up after this, and counts the call as failed.
CALL_S = 10.0

SERVING = message(b"\x08\x01")


class HonestClient:
    """`Health/Check`, again and again. An answer without the message is a failure, whatever it says."""

    def __init__(self, address: str, ca: str | None) -> None:
        self._address = address
        self._ca = ca
        self._socket: socket.socket | None = None
        fields = grpc_headers("/grpc.health.v1.Health/Check", authority=address)
        self._block = Encoder().encode([NeverIndexedHeaderTuple(*field) for field in fields])
        self.latencies: list[float] = []
        self.failures: list[str] = []

    def _connect(self) -> socket.socket:
        host, _, port = self._address.rpartition(":")
        sock = socket.create_connection((host, int(port)), timeout=CALL_S)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._ca is not None:
                sock = tls_context(self._ca).wrap_socket(sock, server_hostname="localhost")
            sock.sendall(
                PREFACE
                + raw_frame(SETTINGS, 0, 0, settings_payload([(INITIAL_WINDOW_SIZE, LARGE_WINDOW)]))
                + raw_frame(WINDOW_UPDATE, 0, 0, (LARGE_WINDOW - 65_535).to_bytes(4, "big"))
            )
        except BaseException:
            sock.close()
            raise
        self._next_stream = 1
        self._buffer = bytearray()
        return sock

    def call(self) -> None:
        began = time.perf_counter()
        try:
            if self._socket is None:
                self._socket = self._connect()
            sock, stream = self._socket, self._next_stream
            self._next_stream += 2
            sock.sendall(
                raw_frame(HEADERS, END_HEADERS, stream, self._block)
                + raw_frame(DATA, END_STREAM, stream, message(b""))
            )
            self._read_answer(sock, stream)
        except (OSError, ssl.SSLError, ConnectionError) as error:
            self.failures.append(f"{type(error).__name__}: {error}")
            self.close()
        else:
            self.latencies.append(time.perf_counter() - began)

    def _read_answer(self, sock: socket.socket, stream: int) -> None:
        body = b""
        while True:
            while len(self._buffer) < 9 or len(self._buffer) < 9 + int.from_bytes(self._buffer[:3], "big"):
                data = sock.recv(65_536)
                if not data:
                    raise ConnectionError("the server closed the connection")
                self._buffer += data
            length = int.from_bytes(self._buffer[:3], "big")
            kind, flags = self._buffer[3], self._buffer[4]
            about = int.from_bytes(self._buffer[5:9], "big")
            payload = bytes(self._buffer[9 : 9 + length])
            del self._buffer[: 9 + length]
            if kind == SETTINGS and not flags & ACK:
                sock.sendall(raw_frame(SETTINGS, ACK, 0))
            elif kind == PING and not flags & ACK:
                sock.sendall(raw_frame(PING, ACK, 0, payload))
            elif kind == GOAWAY:
                raise ConnectionError(f"GOAWAY {payload.hex()}")
            elif kind == RST_STREAM and about == stream:
                raise ConnectionError(f"RST_STREAM {payload.hex()}")
            elif kind == DATA and about == stream:
                body += payload
            if kind in (DATA, HEADERS) and about == stream and flags & END_STREAM:
                if body != SERVING:
                    raise ConnectionError(f"not the answer: {body!r}")
                return

    def close(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.close()
            self._socket = None

    def take(self) -> dict[str, object]:
        """What was measured, which is forgotten."""
        times, failures = sorted(self.latencies), self.failures
        self.latencies, self.failures = [], []
        return {
            "calls": len(times) + len(failures),
            "failed": len(failures),
            "failures": failures[:5],
            "p50": times[len(times) // 2] if times else 0.0,
            "p99": times[min(len(times) - 1, len(times) * 99 // 100)] if times else 0.0,
            "max": times[-1] if times else 0.0,
        }


def main() -> None:
    client = HonestClient(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
    commands = select.poll()
    commands.register(sys.stdin, select.POLLIN | select.POLLHUP)
    is_calling = False
    while True:
        if is_calling and not commands.poll(0):
            client.call()
            continue
        words = sys.stdin.readline().split()
        if not words:
            return client.close()
        is_calling = words[0] == "start"
        if words[0] == "call":
            for _ in range(int(words[1])):
                client.call()
        print(json.dumps(client.take()), flush=True)


if __name__ == "__main__":
    main()
