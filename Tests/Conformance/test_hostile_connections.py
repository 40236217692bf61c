"""Clients that hold connections and say little: stalled handshakes, idle ones, too many, more than there are
files."""

from __future__ import annotations

import datetime
import ipaddress
import resource
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from attackers import CHECK, REFLECT
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from frames import (
    ACK,
    DATA,
    END_HEADERS,
    HEADERS,
    NO_ERROR,
    PING,
    PREFACE,
    SETTINGS,
    Connection,
    grpc_headers,
    message,
    raw_frame,
    settings_payload,
    tls_context,
)
from harness import PATIENCE_S
from hpack import Encoder
from hostile import Honest, HostileServer, probe

#: From accepting to the client's SETTINGS (docs/architecture.md).
HANDSHAKE_S = 10.0
#: By how much a client's clock may begin after the server's: a TLS handshake takes time.
EARLY_S = 0.5
#: A connection that is silent is asked for a sign of life after the first, and has the second for it.
KEEPALIVE_S = (2.0, 1.0)
KEEPALIVE = [
    *("--keepalive-interval", f"{KEEPALIVE_S[0]:g}s"),
    *("--keepalive-timeout", f"{KEEPALIVE_S[1]:g}s"),
]

#: An attacker's own address: all of 127.0.0.0/8 is the loopback.
ELSEWHERE = "127.0.0.2"


def connect(address: str, source: str = "") -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection(
        (host, int(port)), timeout=PATIENCE_S, source_address=(source, 0) if source else None
    )


def has_ended(sock: socket.socket) -> bool:
    """Reads what there is, and says whether that was all there will be."""
    sock.setblocking(False)
    try:
        while sock.recv(65_536):
            pass
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    return True


class Slow:
    """A client that says what it has to say, or a byte of it now and then, and no more."""

    def __init__(self, sock: socket.socket, at_once: bytes = b"", by_and_by: bytes = b"") -> None:
        self.socket = sock
        self.rest = by_and_by
        self.began = time.monotonic()
        #: Seconds until it was cut off.
        self.borne: float | None = None
        sock.sendall(at_once)

    def go_on(self) -> None:
        """Sends one more byte, unless the end is seen."""
        if self.borne is not None:
            return
        if has_ended(self.socket):
            self.borne = time.monotonic() - self.began
        elif self.rest:
            try:
                self.socket.send(self.rest[:1])
            except OSError:
                self.borne = time.monotonic() - self.began
            self.rest = self.rest[1:]


def watch_them(clients: dict[str, Slow], seconds: float, interval_s: float) -> None:
    """Lets them go on, a byte at each interval, until all are cut off or the seconds are over."""
    end = time.monotonic() + seconds
    next_byte = time.monotonic() + interval_s
    while time.monotonic() < end and any(client.borne is None for client in clients.values()):
        waiting = [client.socket for client in clients.values() if client.borne is None]
        readable, _, _ = select.select(waiting, [], [], max(0.0, min(next_byte, end) - time.monotonic()))
        if not readable:
            next_byte += interval_s
            for client in clients.values():
                client.go_on()
        else:
            for client in clients.values():
                if client.socket in readable and client.borne is None and has_ended(client.socket):
                    client.borne = time.monotonic() - client.began


def judge(figures, clients: dict[str, Slow], limit_s: float) -> None:
    """All of them are to be cut off when the limit is over, and not before."""
    figures.cut_off = max(
        float("inf") if client.borne is None else client.borne - limit_s for client in clients.values()
    )
    figures.notes.append(
        "; ".join(
            f"{name}: " + ("never" if client.borne is None else f"{client.borne:.1f} s")
            for name, client in clients.items()
        )
    )
    for name, client in clients.items():
        if client.borne is not None and client.borne < limit_s - EARLY_S:
            figures.problems.append(f"{name}: cut off after {client.borne:.1f} s already")


# Handshakes


@pytest.mark.slow
def test_stalled_prefaces(cluster, record_property):
    """Whoever has not said its SETTINGS within 10 s is let go, however busy it looks."""
    whole = PREFACE + raw_frame(SETTINGS, 0, 0, settings_payload([(3, 100)]))
    with probe("stalled prefaces", cluster) as attacked, ExitStack() as stack:

        def slow(at_once: bytes = b"", by_and_by: bytes = b"") -> Slow:
            return Slow(stack.enter_context(closing(connect(attacked.server.address))), at_once, by_and_by)

        with attacked.attack():
            clients = {
                "nothing": slow(),
                "half a preface": slow(PREFACE[:12]),
                "a preface without SETTINGS": slow(PREFACE),
                "half of its SETTINGS": slow(whole[:-3]),
                "a preface byte by byte": slow(by_and_by=whole),
                "SETTINGS byte by byte": slow(PREFACE, raw_frame(SETTINGS, 0, 0, bytes(36))),
            }
            watch_them(clients, HANDSHAKE_S + 6, 0.5)
        judge(attacked.figures, clients, HANDSHAKE_S)
        attacked.check(record_property)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory) -> tuple[Path, Path, Path]:
    """An authority of an hour, and a certificate for localhost with its key."""
    folder = tmp_path_factory.mktemp("certificates")
    now = datetime.datetime.now(datetime.timezone.utc)

    def certificate(name: str, key, issuer: str, issuer_key, is_authority: bool) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if is_authority:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        else:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    paths = tuple(folder / name for name in ("authority.pem", "server.pem", "key.pem"))
    paths[0].write_bytes(certificate("throwaway", authority_key, "throwaway", authority_key, True))
    paths[1].write_bytes(certificate("localhost", key, "throwaway", authority_key, False))
    paths[2].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    # The server may run as another user.
    folder.chmod(0o755)
    return paths


def client_hello() -> bytes:
    """What a client of TLS says first."""
    outgoing = ssl.MemoryBIO()
    session = tls_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return outgoing.read()
    raise AssertionError("a handshake with nobody")


@pytest.mark.slow
def test_stalled_tls_handshakes(cluster, record_property, certificates):
    authority, certificate, key = certificates
    hello = client_hello()
    arguments = ["--tls-certificate", str(certificate), "--tls-key", str(key)]
    with (
        probe("stalled TLS handshakes", cluster, *arguments, ca=str(authority)) as attacked,
        ExitStack() as stack,
    ):

        def slow(at_once: bytes = b"", by_and_by: bytes = b"") -> Slow:
            return Slow(stack.enter_context(closing(connect(attacked.server.address))), at_once, by_and_by)

        def through_tls(at_once: bytes) -> Slow:
            plain = connect(attacked.server.address)
            secure = tls_context(str(authority)).wrap_socket(plain, server_hostname="localhost")
            return Slow(stack.enter_context(closing(secure)), at_once)

        with attacked.attack():
            clients = {
                "nothing": slow(),
                "half a ClientHello": slow(hello[: len(hello) // 2]),
                "a ClientHello, and no more": slow(hello),
                "a ClientHello byte by byte": slow(by_and_by=hello),
                "TLS, and no preface": through_tls(b""),
                "TLS, and half a preface": through_tls(PREFACE[:12]),
            }
            watch_them(clients, HANDSHAKE_S + 6, 0.5)
        judge(attacked.figures, clients, HANDSHAKE_S)
        attacked.check(record_property)


# Connections that do nothing, or nothing useful


IDLE_S = 2.0


def test_idle_connections(cluster, record_property):
    """A connection without calls is asked to go, one with a stream open is not."""
    with (
        probe("idle connections", cluster, "--idle-timeout", f"{IDLE_S:g}s") as attacked,
        ExitStack() as stack,
    ):

        def connection() -> Connection:
            return stack.enter_context(Connection.open(attacked.server.address))

        with attacked.attack():
            busy, silent, chatty = connection(), connection(), connection()
            busy.request(REFLECT, end=False)
            assert silent.call(CHECK).grpc_status == 0
            began = time.monotonic()
            # What is no call does not count as use.
            while not chatty.goaways and time.monotonic() < began + IDLE_S + 3:
                chatty.settle()
                chatty.is_quiet(0.2)
            told = time.monotonic() - began
            gone = silent.goaway(5)
            silent.until_closed(5)
            closed = time.monotonic() - began
            chatty.until_closed(5)
            # Settled: what the server had to say before, it has said.
            busy.settle()
        attacked.figures.cut_off = max(0.0, told - IDLE_S) if chatty.goaways else float("inf")
        attacked.figures.notes.append(f"told to go after {told:.1f} s, closed by {closed:.1f} s")
        assert gone.error_code == NO_ERROR
        assert not busy.goaways and not busy.is_closed
        attacked.check(record_property)


def test_idle_connections_that_do_not_go(cluster, record_property):
    """Who is told to go and does not, nor acknowledges anything, is closed."""
    arguments = ["--idle-timeout", f"{IDLE_S:g}s", *KEEPALIVE]
    with probe("idle connections that stay", cluster, *arguments) as attacked:
        with attacked.attack(), Connection.open(attacked.server.address) as silent:
            silent.answers_pings = False
            began = time.monotonic()
            silent.goaway(IDLE_S + 3)
            told = time.monotonic()
            silent.until_closed(10)
            borne = time.monotonic() - told
            attacked.figures.notes.append(
                f"told to go after {told - began:.1f} s, closed {borne:.1f} s later"
            )
        attacked.figures.cut_off = borne - KEEPALIVE_S[1]
        attacked.check(record_property)


def test_calls_that_never_get_their_message(cluster, record_property):
    """A call may wait for its message for as long as its client lives, for the client knows why. That the
    client lives is asked of the connection: who sends nothing for a while, and does not answer, is cut
    off."""
    with probe("calls without their message", cluster, *KEEPALIVE) as attacked, ExitStack() as stack:

        def slow(tail: Callable[[Connection, int], bytes]) -> Slow:
            peer = stack.enter_context(Connection.open(attacked.server.address))
            stream = peer.new_stream()
            peer.send_headers(stream, grpc_headers(CHECK))
            return Slow(peer.socket, tail(peer, stream))

        clients = {
            "no message": slow(lambda peer, stream: b""),
            "half a message": slow(lambda peer, stream: raw_frame(DATA, 0, stream, message(b"", length=100))),
            "a frame announced": slow(lambda peer, stream: raw_frame(DATA, 0, stream, length=16_000)),
            "half a frame": slow(lambda peer, stream: raw_frame(DATA, 0, stream, bytes(100), length=200)),
            "half of a frame's header": slow(lambda peer, stream: raw_frame(DATA, 0, stream, length=5)[:5]),
        }
        with attacked.attack():
            watch_them(clients, sum(KEEPALIVE_S) + 5, 0.5)
        judge(attacked.figures, clients, sum(KEEPALIVE_S))
        attacked.check(record_property)


def test_a_deadline_ends_a_call_without_its_message(cluster, record_property):
    with probe("deadlines without messages", cluster) as attacked:
        with attacked.attack(), Connection.open(attacked.server.address) as peer:
            streams = [peer.request(CHECK, None, ("grpc-timeout", "500m"), end=False) for _ in range(100)]
            # One of them holds the frame reader: the others' ends come all the same.
            peer.send(raw_frame(DATA, 0, streams[0], length=16_000))
            began = time.monotonic()
            for stream in streams:
                assert peer.answer(stream, 5, settle=False).grpc_status == 4
            attacked.figures.cut_off = time.monotonic() - began - 0.5
        attacked.check(record_property)


# Too many of them


def test_connections_per_address(cluster, record_property):
    """One address may have its share of connections with calls and no more. Others are not touched."""
    share = 8
    with (
        probe("connections per address", cluster, "--max-connections-per-address", f"{share}") as attacked,
        ExitStack() as stack,
    ):

        def is_let_in() -> bool:
            sock = stack.enter_context(closing(connect(attacked.server.address, ELSEWHERE)))
            peer = Connection(sock, is_client=True)
            peer.hello()
            peer.until(lambda: peer.is_closed or bool(peer.settings))
            let_in.append(peer)
            return not peer.is_closed and peer.call(CHECK).grpc_status == 0

        let_in: list[Connection] = []
        with attacked.attack():
            assert [is_let_in() for _ in range(share)] == [True] * share
            began = time.monotonic()
            assert [is_let_in() for _ in range(20)] == [False] * 20
            attacked.figures.cut_off = (time.monotonic() - began) / 20
            # From another address, and on those that are open. All of it is over in no time: the honest client's calls
            # are looked at for a while longer.
            with Connection.open(attacked.server.address) as other:
                for _ in range(1_000):
                    assert other.answer(other.request(CHECK, message(b"")), settle=False).grpc_status == 0
            assert let_in[0].call(CHECK).grpc_status == 0
            # Its place is free once the server has seen the end, which its own side of the port tells.
            port = let_in[0].socket.getsockname()[1]
            let_in[0].close()
            until(lambda: not attacked.server.holds(port))
            until(is_let_in)
        attacked.check(record_property)


def until(condition: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
    """Asks again and again, for there is nothing to wait on."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        select.select([], [], [], 0.02)


@contextmanager
def many_connections(server: HostileServer, count: int) -> Iterator[list[socket.socket]]:
    """Connections with an open call, which the kernel has made, whether or not the server has taken them. They come one
    after the other: of those that have not called yet each could have the place of the one before."""
    call = raw_frame(HEADERS, END_HEADERS, 1, Encoder().encode(grpc_headers(REFLECT)))
    ping = raw_frame(PING, 0, 0, bytes(8))
    with ExitStack() as stack:
        sockets = []
        for _ in range(count):
            sock = stack.enter_context(closing(connect(server.address)))
            sock.sendall(PREFACE + raw_frame(SETTINGS, 0, 0) + call + ping)
            if not sockets or is_served(sockets[-1]):
                has_called(sock)
            sockets.append(sock)
        yield sockets


def has_called(sock: socket.socket) -> bool:
    """The server has answered the PING after the call, which is left to be read. False: not within a second."""
    end = time.monotonic() + 1
    while time.monotonic() < end:
        if select.select([sock], [], [], 0.01)[0]:
            if raw_frame(PING, ACK, 0, bytes(8)) in sock.recv(65_536, socket.MSG_PEEK):
                return True
    return False


def is_served(sock: socket.socket) -> bool:
    """The server has said its SETTINGS."""
    return bool(select.select([sock], [], [], 0)[0])


#: How long the server is watched while it can take no more connections.
EXHAUSTED_S = 2.0
#: And what it may compute meanwhile: a program with nothing to do takes less than a tenth of it.
EXHAUSTED_CPU_S = 0.3


def watch_exhausted(attacked, sockets: list[socket.socket]) -> None:
    """The first sockets are served, the rest wait; the server does not run in circles over that."""
    until(lambda: is_served(sockets[0]))
    before = attacked.server.cpu_seconds()
    waiting = [sock for sock in sockets if not is_served(sock)]
    served = len(sockets) - len(waiting)
    assert waiting, "the server has taken all of them"
    # The time passes in a wait for what should not come.
    select.select(waiting[-1:], [], [], EXHAUSTED_S)
    used = attacked.server.cpu_seconds() - before
    attacked.figures.notes.append(
        f"{served} of {len(sockets)} served, {used:.2f} s of CPU in {EXHAUSTED_S:g} s"
    )
    if used > EXHAUSTED_CPU_S:
        attacked.figures.problems.append(
            f"the server takes {used / EXHAUSTED_S:.0%} of a core while it waits"
        )


def leave_and_call(attacked, sockets: list[socket.socket]) -> None:
    """Those that were served go: those that wait are served, and so is one that is new."""
    waiting = [sock for sock in sockets if not is_served(sock)]
    for sock in sockets:
        if sock not in waiting:
            sock.close()
    began = time.monotonic()
    until(lambda: is_served(waiting[0]), 10)
    attacked.figures.notes.append(f"the next was served {time.monotonic() - began:.2f} s after they left")
    for sock in waiting:
        sock.close()
    honest = Honest(attacked.server.address)
    try:
        after = honest.call(10)
    finally:
        honest.close()
    attacked.figures.failures += after.failures


def test_no_more_connections(cluster, record_property):
    """At the limit of connections the rest wait in the kernel."""
    with probe("connection exhaustion", cluster, "--max-connections", "16") as attacked:
        quiet = attacked.honest.call()
        with many_connections(attacked.server, 40) as sockets:
            watch_exhausted(attacked, sockets)
            attacked.figures.take(attacked.honest.call(), quiet)
            leave_and_call(attacked, sockets)
        attacked.check(record_property)


def test_no_more_files(cluster, record_property):
    """The same where the system's limit comes first."""
    with probe("file descriptor exhaustion", cluster) as attacked:
        quiet = attacked.honest.call()
        files = attacked.server.open_files() + 20
        resource.prlimit(attacked.server.process.pid, resource.RLIMIT_NOFILE, (files, files))
        with many_connections(attacked.server, 60) as sockets:
            watch_exhausted(attacked, sockets)
            attacked.figures.take(attacked.honest.call(), quiet)
            leave_and_call(attacked, sockets)
        attacked.check(record_property)
