"""A raw HTTP/2 peer on a blocking socket: it sends whatever it is told to, and keeps what it gets.

It has no opinion of what may be sent: `raw_frame` makes any frame at all. `hyperframe` takes frames apart,
`hpack` header lists. Every wait has a timeout; when it is reached `Silence` says what came before. Nothing
here runs in the background, so a peer that should stall simply does not read.

    with Connection.open(server.address) as peer:
        answer = peer.call("/grpc.health.v1.Health/Check", b"")
        assert answer.grpc_status == 0 and answer.messages == [(0, b"\\x08\\x01")]
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: How long a peer is waited for unless a call says otherwise. Reaching it is a failure.
PATIENCE_S = 20.0

# Error codes (RFC 9113, 7).
NO_ERROR = 0x0
PROTOCOL_ERROR = 0x1
INTERNAL_ERROR = 0x2
FLOW_CONTROL_ERROR = 0x3
SETTINGS_TIMEOUT = 0x4
STREAM_CLOSED = 0x5
FRAME_SIZE_ERROR = 0x6
REFUSED_STREAM = 0x7
CANCEL = 0x8
COMPRESSION_ERROR = 0x9
CONNECT_ERROR = 0xA
ENHANCE_YOUR_CALM = 0xB
INADEQUATE_SECURITY = 0xC
HTTP_1_1_REQUIRED = 0xD

# Frame types.
DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9

# Flags.
END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8

# Settings.
HEADER_TABLE_SIZE = 0x1
ENABLE_PUSH = 0x2
MAX_CONCURRENT_STREAMS = 0x3
INITIAL_WINDOW_SIZE = 0x4
MAX_FRAME_SIZE = 0x5
MAX_HEADER_LIST_SIZE = 0x6

#: What windows have here unless a test wants them small: nothing is ever held back.
LARGE_WINDOW = 2**31 - 1

Field = tuple[str, str]


class Silence(AssertionError):
    """What was waited for did not come."""


# Making


def raw_frame(
    type: int, flags: int, stream: int, payload: bytes = b"", *, length: int | None = None
) -> bytes:
    """Any frame at all; `length` lies about the payload."""
    count = len(payload) if length is None else length
    return struct.pack(">I", count)[1:] + bytes([type, flags]) + struct.pack(">I", stream) + payload


def settings_payload(settings: Iterable[tuple[int, int]]) -> bytes:
    return b"".join(struct.pack(">HI", id, value) for id, value in settings)


def message(data: bytes, flag: int = 0, *, length: int | None = None) -> bytes:
    """A length-prefixed message; `length` lies about it."""
    return struct.pack(">BI", flag, len(data) if length is None else length) + data


def messages_in(body: bytes) -> list[tuple[int, bytes]]:
    """The (flag, message) pairs of a body, which must be whole."""
    found = []
    at = 0
    while at < len(body):
        assert len(body) >= at + 5, f"a ragged prefix: {body[at:]!r}"
        flag, length = struct.unpack_from(">BI", body, at)
        at += 5 + length
        assert len(body) >= at, f"a message of {length} bytes lacks {at - len(body)}"
        found.append((flag, body[at - length : at]))
    return found


def grpc_headers(
    path: str,
    *extra: Field,
    replace: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    authority: str = "localhost",
    scheme: str = "http",
) -> list[Field]:
    """The headers of a gRPC request, some replaced or left out, more at their end."""
    fields = [
        (":method", "POST"),
        (":scheme", scheme),
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]
    changes = dict(replace or {})
    kept = [(name, changes.get(name, value)) for name, value in fields if name not in drop]
    return [*kept, *extra]


# What came


@dataclass
class Answer:
    """What a peer has sent on one stream so far."""

    stream: int
    #: The first header list. On an accepted connection, those of the request.
    headers: list[Field] | None = None
    body: bytes = b""
    #: The header list that ended the stream, unless it was the first.
    trailers: list[Field] | None = None
    #: The peer has ended its side.
    is_ended: bool = False
    #: The code of an RST_STREAM.
    reset: int | None = None
    #: The frames in order: "HEADERS", "DATA", "RST_STREAM"; with "+" where END_STREAM was set.
    order: list[str] = field(default_factory=list)

    @property
    def is_over(self) -> bool:
        return self.is_ended or self.reset is not None

    @property
    def is_trailers_only(self) -> bool:
        """One HEADERS frame with END_STREAM; an RST_STREAM may follow."""
        return self.order[:1] == ["HEADERS+"]

    @property
    def messages(self) -> list[tuple[int, bytes]]:
        return messages_in(self.body)

    def header(self, name: str) -> str | None:
        """The first value of this name among the headers."""
        return next((value for key, value in self.headers or [] if key == name), None)

    def trailer(self, name: str) -> str | None:
        """The same among the trailers, or the headers when there are only those."""
        fields = self.trailers if self.trailers is not None else self.headers
        return next((value for key, value in fields or [] if key == name), None)

    def trailer_values(self, name: str) -> list[str]:
        fields = self.trailers if self.trailers is not None else self.headers
        return [value for key, value in fields or [] if key == name]

    @property
    def http_status(self) -> int | None:
        text = self.header(":status")
        return None if text is None else int(text)

    @property
    def grpc_status(self) -> int | None:
        """Of an answer that is over."""
        text = self.trailer("grpc-status") if self.is_ended else None
        return None if text is None else int(text)

    @property
    def grpc_message(self) -> str:
        """Percent-decoded."""
        return unquote_to_bytes(self.trailer("grpc-message") or "").decode()


# The connection


class Connection:
    """One HTTP/2 connection, from either end.

    Everything received goes to `frames`, and by stream to `streams`. SETTINGS and PING are acknowledged as
    they are read, unless `answers_settings` or `answers_pings` is false.
    """

    def __init__(self, sock: socket.socket, *, is_client: bool, timeout: float = PATIENCE_S) -> None:
        self.socket = sock
        self.timeout = timeout
        self.answers_settings = True
        self.answers_pings = True
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        #: Every frame received, header lists as `frame.fields`.
        self.frames: list[Frame] = []
        self.streams: dict[int, Answer] = {}
        #: GOAWAY frames received.
        self.goaways: list[GoAwayFrame] = []
        #: The peer's settings, from all its SETTINGS.
        self.settings: dict[int, int] = {}
        #: The peer has closed the connection; `close_reason` is set when it did so by a reset.
        self.is_closed = False
        self.close_reason: OSError | None = None
        self._next_stream = 1 if is_client else 2
        self._buffer = bytearray()
        self._block: tuple[Any, bytearray] | None = None
        self._settings_sent = 0
        self._settings_acknowledged = 0
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(timeout)

    # Opening

    @classmethod
    def open(
        cls,
        address: str,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str = "localhost",
        preface: bool = True,
        settings: Mapping[int, int] | None = None,
        connection_window: int = LARGE_WINDOW,
        timeout: float = PATIENCE_S,
        receive_buffer: int | None = None,
    ) -> Connection:
        """Connects to "host:port". With `preface`, also says hello and waits until both sides have agreed on
        the settings. `receive_buffer` makes the kernel's small, for readers that stall."""
        host, _, port = address.rpartition(":")
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.settimeout(timeout)
            sock.connect((host.strip("[]"), int(port)))
            if tls is not None:
                sock = tls.wrap_socket(sock, server_hostname=server_name)
        except BaseException:
            sock.close()
            raise
        connection = cls(sock, is_client=True, timeout=timeout)
        if preface:
            try:
                connection.hello(settings, connection_window=connection_window)
                connection.settle()
                connection.until(lambda: bool(connection.settings) or connection.is_closed)
            except BaseException:
                connection.close()
                raise
        return connection

    @classmethod
    def accept(
        cls,
        listener: socket.socket,
        *,
        settings: Mapping[int, int] | None = None,
        connection_window: int = LARGE_WINDOW,
        timeout: float = PATIENCE_S,
    ) -> Connection:
        """The server's end of the next connection: takes the client's preface and sends its own SETTINGS."""
        listener.settimeout(timeout)
        sock, _ = listener.accept()
        connection = cls(sock, is_client=False, timeout=timeout)
        deadline = time.monotonic() + timeout
        while len(connection._buffer) < len(PREFACE):
            assert connection._fill(deadline), "the client closed within its preface"
        assert connection._buffer.startswith(PREFACE), "not HTTP/2 with prior knowledge"
        del connection._buffer[: len(PREFACE)]
        connection.send_settings(settings or {INITIAL_WINDOW_SIZE: LARGE_WINDOW})
        if connection_window > 65_535:
            connection.send_window_update(0, connection_window - 65_535)
        return connection

    def hello(
        self, settings: Mapping[int, int] | None = None, *, connection_window: int = LARGE_WINDOW
    ) -> None:
        """The client's preface, its SETTINGS (large windows unless given) and the connection's window."""
        self.send(PREFACE)
        self.send_settings(settings if settings is not None else {INITIAL_WINDOW_SIZE: LARGE_WINDOW})
        if connection_window > 65_535:
            self.send_window_update(0, connection_window - 65_535)

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Sending

    def send(self, *items: Frame | bytes) -> None:
        """Frames, or bytes as they are, in one write. What a peer that has closed does not take is lost."""
        data = b"".join(item if isinstance(item, bytes) else item.serialize() for item in items)
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            # What it had to say before may still be read.
            self.close_reason = error

    def send_settings(self, settings: Mapping[int, int] | Iterable[tuple[int, int]] = ()) -> None:
        pairs = settings.items() if isinstance(settings, Mapping) else settings
        self._settings_sent += 1
        self.send(raw_frame(SETTINGS, 0, 0, settings_payload(pairs)))

    def send_window_update(self, stream: int, increment: int) -> None:
        self.send(raw_frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment)))

    def send_ping(self, data: bytes = b"12345678") -> None:
        self.send(raw_frame(PING, 0, 0, data))

    def send_reset(self, stream: int, code: int = CANCEL) -> None:
        self.send(raw_frame(RST_STREAM, 0, stream, struct.pack(">I", code)))

    def send_data(
        self, stream: int, data: bytes = b"", *, end: bool = False, frame_bytes: int = 16_384
    ) -> None:
        """DATA in frames of up to `frame_bytes`, all in one write. No window is looked at."""
        parts = [data[at : at + frame_bytes] for at in range(0, len(data), frame_bytes)] or [b""]
        self.send(
            *(
                raw_frame(DATA, END_STREAM if end and at == len(parts) - 1 else 0, stream, part)
                for at, part in enumerate(parts)
            )
        )

    def header_frames(
        self, stream: int, fields: Iterable[Field], *, end: bool = False, frame_bytes: int = 16_384
    ) -> bytes:
        """HEADERS, and CONTINUATION frames for what is over `frame_bytes`."""
        return self.block_frames(stream, self.encode(fields), end=end, frame_bytes=frame_bytes)

    def block_frames(
        self, stream: int, block: bytes, *, end: bool = False, frame_bytes: int = 16_384
    ) -> bytes:
        """The same for a header block that is encoded already."""
        parts = [block[at : at + frame_bytes] for at in range(0, len(block), frame_bytes)] or [b""]
        frames = []
        for at, part in enumerate(parts):
            flags = END_HEADERS if at == len(parts) - 1 else 0
            if at == 0:
                frames.append(raw_frame(HEADERS, flags | (END_STREAM if end else 0), stream, part))
            else:
                frames.append(raw_frame(CONTINUATION, flags, stream, part))
        return b"".join(frames)

    def encode(self, fields: Iterable[Field]) -> bytes:
        """An HPACK block. It must be sent, or the tables of the two sides differ from here on."""
        return self.encoder.encode(
            [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        )

    def send_headers(self, stream: int, fields: Iterable[Field], *, end: bool = False) -> None:
        self.send(self.header_frames(stream, fields, end=end))

    def new_stream(self) -> int:
        """The next stream id of this side."""
        self._next_stream += 2
        return self._next_stream - 2

    def request(
        self,
        path: str,
        body: bytes | None = None,
        *extra: Field,
        end: bool = True,
        headers: Iterable[Field] | None = None,
    ) -> int:
        """Opens a stream with a gRPC request in one write, and gives its id. `body` is DATA as it stands (see
        `message`); none: only HEADERS."""
        stream = self.new_stream()
        fields = list(headers) if headers is not None else grpc_headers(path, *extra)
        if body is None:
            self.send(self.header_frames(stream, fields, end=end))
            return stream
        parts = [body[at : at + 16_384] for at in range(0, len(body), 16_384)] or [b""]
        self.send(
            self.header_frames(stream, fields),
            *(
                raw_frame(DATA, END_STREAM if end and at == len(parts) - 1 else 0, stream, part)
                for at, part in enumerate(parts)
            ),
        )
        return stream

    # Receiving

    def _fill(self, deadline: float) -> bool:
        """More bytes, or False: there are none and there will be none."""
        if self.is_closed:
            return False
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(65_536)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            self.close_reason = error
            data = b""
        finally:
            self.socket.settimeout(self.timeout)
        self.is_closed = not data
        self._buffer += data
        return bool(data)

    def receive(self, timeout: float | None = None) -> Frame | None:
        """The next frame, None at the end of the connection.

        Raises TimeoutError, and then nothing of what has come is lost.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            if len(self._buffer) >= 9:
                length = int.from_bytes(self._buffer[:3], "big")
                if len(self._buffer) >= 9 + length:
                    break
            if not self._fill(deadline):
                return None
        frame, _ = Frame.parse_frame_header(memoryview(bytes(self._buffer[:9])))
        frame.parse_body(memoryview(bytes(self._buffer[9 : 9 + length])))
        del self._buffer[: 9 + length]
        self._take(frame)
        return frame

    def receive_buffered(self) -> None:
        """The frames that have been read from the socket already: who polls it does not see them."""
        try:
            while self.receive(0) is not None:
                pass
        except TimeoutError:
            pass

    def _take(self, frame: Frame) -> None:
        self.frames.append(frame)
        match frame:
            case SettingsFrame() if "ACK" in frame.flags:
                self._settings_acknowledged += 1
            case SettingsFrame():
                self.settings |= frame.settings
                if self.answers_settings:
                    self.send(raw_frame(SETTINGS, ACK, 0))
            case PingFrame() if "ACK" not in frame.flags and self.answers_pings:
                self.send(raw_frame(PING, ACK, 0, frame.opaque_data))
            case GoAwayFrame():
                self.goaways.append(frame)
            case HeadersFrame():
                self._block = (frame, bytearray(frame.data))
                self._take_block(frame)
            case ContinuationFrame() if self._block:
                self._block[1].extend(frame.data)
                self._take_block(frame)
            case DataFrame():
                answer = self.answer_of(frame.stream_id)
                answer.body += frame.data
                answer.is_ended |= "END_STREAM" in frame.flags
                answer.order.append("DATA+" if "END_STREAM" in frame.flags else "DATA")
            case RstStreamFrame():
                answer = self.answer_of(frame.stream_id)
                answer.reset = frame.error_code
                answer.order.append("RST_STREAM")

    def _take_block(self, frame: Frame) -> None:
        if "END_HEADERS" not in frame.flags or self._block is None:
            return
        first, block = self._block
        self._block = None
        fields = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self.decoder.decode(bytes(block), raw=True)
        ]
        first.fields = fields
        is_end = "END_STREAM" in first.flags
        answer = self.answer_of(frame.stream_id)
        if answer.headers is None:
            answer.headers = fields
        else:
            answer.trailers = fields
        answer.is_ended |= is_end
        answer.order.append("HEADERS+" if is_end else "HEADERS")

    def answer_of(self, stream: int) -> Answer:
        """What has come on this stream; nothing is read."""
        return self.streams.setdefault(stream, Answer(stream))

    def until(self, condition: Callable[[], bool], timeout: float | None = None, what: str = "") -> None:
        """Reads frames until the condition holds; at the end of the connection it must."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not condition():
            try:
                frame = self.receive(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                raise Silence(f"no {what or 'such thing'} in time; {self.history()}") from None
            if frame is None and not condition():
                raise Silence(f"the connection ended without {what or 'it'}; {self.history()}")

    def settle(self, timeout: float | None = None) -> None:
        """Until the peer has answered all that it could answer at once: a SETTINGS goes there and back, which
        counts as no PING does. An end of the connection is as good."""
        self.send_settings()
        sent = self._settings_sent
        self.until(
            lambda: self.is_closed or self._settings_acknowledged >= sent, timeout, "acknowledged SETTINGS"
        )

    def answer(self, stream: int, timeout: float | None = None, *, settle: bool = True) -> Answer:
        """Reads until the stream is over, and then (`settle`) until a reset after its end would be here."""
        answer = self.answer_of(stream)
        self.until(lambda: answer.is_over, timeout, f"end of stream {stream}")
        if settle and answer.reset is None and not self.is_closed:
            self.settle(timeout)
        return answer

    def call(
        self,
        path: str,
        request: bytes = b"",
        *extra: Field,
        headers: Iterable[Field] | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """A whole unary call: one message, its answer."""
        return self.answer(self.request(path, message(request), *extra, headers=headers), timeout)

    def goaway(self, timeout: float | None = None) -> GoAwayFrame:
        """Reads until there is a GOAWAY, and gives the last one."""
        self.until(lambda: bool(self.goaways), timeout, "GOAWAY")
        return self.goaways[-1]

    def until_closed(self, timeout: float | None = None) -> None:
        """Reads until the peer has closed the connection."""
        self.until(lambda: self.is_closed, timeout, "end of the connection")

    def is_quiet(self, seconds: float) -> bool:
        """Whether nothing comes for this long. The end of the connection is a failure."""
        try:
            self.receive(seconds)
        except TimeoutError:
            return True
        assert not self.is_closed, f"the connection ended\n{self.history()}"
        return False

    def history(self) -> str:
        """What has come, for a failure's message."""
        lines = []
        for frame in self.frames[-40:]:
            lines.append(f"  {frame!r}" + (f" {frame.fields}" if hasattr(frame, "fields") else ""))
        end = f"\n  closed ({self.close_reason})" if self.is_closed else ""
        return f"{len(self.frames)} frames came:\n" + "\n".join(lines) + end


def tls_context(
    ca: str | None = None,
    *,
    certificate: str | None = None,
    key: str | None = None,
    protocols: Sequence[str] = ("h2",),
) -> ssl.SSLContext:
    """For `Connection.open`. Without `ca` any certificate will do."""
    context = ssl.create_default_context(cafile=ca)
    if ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if certificate is not None:
        context.load_cert_chain(certificate, key)
    return context
