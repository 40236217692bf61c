"""Between a client and the interop server: passes everything on, and knows what was said.

Whether a message is compressed is a bit before it that grpcio does not show. This reads it off the wire,
and ends TLS and begins it anew, so that it can.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import threading
from dataclasses import dataclass, field

import hpack
from hyperframe.frame import ContinuationFrame, DataFrame, Frame, HeadersFrame
from interop import PATIENCE_S, InteropServer

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass
class Message:
    is_compressed: bool
    body: bytes


@dataclass
class Half:
    """What one of the two said in a call."""

    #: Header blocks in order: of the server, headers and then trailers.
    blocks: list[dict[str, str]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    @property
    def headers(self) -> dict[str, str]:
        return self.blocks[0]

    @property
    def messages(self) -> list[Message]:
        found, rest = [], bytes(self.data)
        while rest:
            assert rest[0] in (0, 1), f"the first byte of a message is {rest[0]}"
            length = int.from_bytes(rest[1:5], "big")
            assert len(rest) >= 5 + length, "a message is cut short"
            found.append(Message(rest[0] == 1, rest[5 : 5 + length]))
            rest = rest[5 + length :]
        return found

    @property
    def flags(self) -> list[int]:
        """Of each message: 1 if it is compressed."""
        return [int(message.is_compressed) for message in self.messages]


@dataclass
class Call:
    request: Half
    response: Half


def halves(said: bytes) -> dict[int, Half]:
    """What one side of a connection said, by stream. What is not complete yet is left out."""
    found: dict[int, Half] = {}
    decoder = hpack.Decoder()
    block = b""
    rest = memoryview(said.removeprefix(PREFACE))
    while len(rest) >= 9:
        frame, length = Frame.parse_frame_header(rest[:9])
        if len(rest) < 9 + length:
            break
        frame.parse_body(rest[9 : 9 + length])
        rest = rest[9 + length :]
        if isinstance(frame, DataFrame):
            found.setdefault(frame.stream_id, Half()).data += frame.data
        elif isinstance(frame, (HeadersFrame, ContinuationFrame)):
            block += frame.data
            if "END_HEADERS" in frame.flags:
                fields = {str(name): str(value) for name, value in decoder.decode(block)}
                found.setdefault(frame.stream_id, Half()).blocks.append(fields)
                block = b""
    return found


class _Connection:
    """One connection, in a thread of its own: nothing of TLS in Python may be used by two."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far
        #: Written by the thread, whole chunks before they are passed on; read by the test after its call.
        self.said = {near: bytearray(), far: bytearray()}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self.near, selectors.EVENT_READ, self.far)
                selector.register(self.far, selectors.EVENT_READ, self.near)
                while True:
                    for key, _ in selector.select():
                        self._pass_on(key.fileobj, key.data)
        except OSError:
            # One of them has closed it, or the test has.
            pass
        for item in (self.near, self.far):
            item.close()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        source.setblocking(False)
        while True:
            try:
                data = source.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError):
                return
            if not data:
                raise OSError("closed")
            self.said[source] += data
            sink.settimeout(PATIENCE_S)
            sink.sendall(data)
            # A selector knows what is in the socket, not what TLS has taken out of it already.
            if not isinstance(source, ssl.SSLSocket) or source.pending() == 0:
                return

    def close(self) -> None:
        for item in (self.near, self.far):
            try:
                item.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._thread.join(PATIENCE_S)


class Tap:
    def __init__(self, server: InteropServer) -> None:
        self._server = server
        self._connections: list[_Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                near, far = self._join(near)
            except OSError:
                near.close()
                continue
            self._connections.append(_Connection(near, far))

    def _join(self, near: socket.socket) -> tuple[socket.socket, socket.socket]:
        address = (self._server.host, self._server.port)
        far = socket.create_connection(address, timeout=PATIENCE_S)
        near.settimeout(PATIENCE_S)
        if certificates := self._server.certificates:
            as_client = ssl.create_default_context(cafile=str(certificates.authority))
            as_client.set_alpn_protocols(["h2"])
            far = as_client.wrap_socket(far, server_hostname="localhost")
            as_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            as_server.load_cert_chain(certificates.certificate, certificates.key)
            as_server.set_alpn_protocols(["h2"])
            near = as_server.wrap_socket(near, server_side=True)
        return near, far

    @property
    def calls(self) -> list[Call]:
        """Every call so far, in the order of their streams. A call that has ended is all there."""
        found = []
        for connection in self._connections:
            requests = halves(bytes(connection.said[connection.near]))
            responses = halves(bytes(connection.said[connection.far]))
            found += [
                Call(request, responses.get(stream, Half()))
                for stream, request in sorted(requests.items())
                if stream != 0
            ]
        return found

    def close(self) -> None:
        # A thread that waits in accept is woken by shutdown, not by close.
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        self._thread.join(PATIENCE_S)
        for connection in self._connections:
            connection.close()
