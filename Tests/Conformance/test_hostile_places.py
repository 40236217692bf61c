"""Clients without credentials that hold what others need: places for connections, streams, lines of the log."""

from __future__ import annotations

import base64
import json
import re
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest
from access import CALL_S, LIST_SERVICES, REFLECT, REVOCATION_S, KeyAddress, Secured, new_token, reach
from attackers import CHECK, WATCH_HEALTH
from frames import DATA, Connection, grpc_headers, message, raw_frame
from harness import PATIENCE_S, Cluster
from hostile import MIB, Memory
from wire import Code

#: The least that a connection may be idle before its first admitted call (docs/architecture.md).
IDLE_S = 30.0
#: Open calls without credentials: on a connection, and of an address with many of them.
CALLS = 10
CALLS_PER_ADDRESS = 500
ATTACKERS = ("127.0.0.2", "127.0.0.3")


def connect(address: str, source: str) -> Connection:
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=PATIENCE_S, source_address=(source, 0))
    connection = Connection(sock, is_client=True)
    connection.hello()
    connection.until(lambda: bool(connection.settings) or connection.is_closed)
    return connection


def has_ended(connection: Connection) -> bool:
    """Reads what there is."""
    connection.receive_buffered()
    while not connection.is_closed and select.select([connection.socket], [], [], 0)[0]:
        connection.receive(1)
    return connection.is_closed


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def is_let_in(secured: Secured) -> float:
    """A client with credentials connects and calls. Gives the seconds it took."""
    began = time.monotonic()
    caller = secured.somebody(secured.root_token, is_new=True)
    caller.call(REFLECT, LIST_SERVICES, timeout=5)
    return time.monotonic() - began


def do_nothing(peer: Connection) -> None:
    pass


def check_health(peer: Connection) -> None:
    peer.request(CHECK, message(b""))


def be_refused(peer: Connection) -> None:
    peer.request(REFLECT, message(LIST_SERVICES), ("authorization", f"Bearer {new_token()}"))


def ask_for_nothing_known(peer: Connection) -> None:
    peer.request("/no.such.Service/Method", message(b""))


@pytest.mark.parametrize("do", [do_nothing, check_health, be_refused, ask_for_nothing_known])
def test_all_places(cluster: Cluster, stack: ExitStack, record_property, do) -> None:
    """Two addresses open as many connections as there may be, and come back whenever one is closed. A client with
    credentials that is there stays, and one that comes is let in at once."""
    arguments = ["--max-connections", "100", "--max-connections-per-address", "50", "--event-loops", "1"]
    secured = stack.enter_context(Secured(cluster, arguments=arguments))
    early = secured.somebody(secured.root_token, is_new=True)
    early.call(REFLECT, LIST_SERVICES)
    held: list[Connection] = []
    longest = 0.0
    for number in range(150):
        peer = stack.enter_context(connect(secured.address, ATTACKERS[number % 2]))
        do(peer)
        held.append(peer)
        if number % 25 == 24:
            longest = max(longest, is_let_in(secured))
    early.call(REFLECT, LIST_SERVICES)
    reach(lambda: sum(not has_ended(peer) for peer in held) <= 50, 5, "half of the places for the unadmitted")
    record_property("figures", f"let in within {longest:.3f} s")
    assert longest < 1.0


def test_few_addresses_with_many_connections(cluster: Cluster, stack: ExitStack) -> None:
    """Two addresses open connections faster than a client sends its first call: it is theirs that are closed."""
    arguments = ["--max-connections", "100", "--max-connections-per-address", "50", "--event-loops", "1"]
    secured = stack.enter_context(Secured(cluster, arguments=arguments))
    slow = stack.enter_context(connect(secured.address, "127.0.0.1"))
    for number in range(150):
        stack.enter_context(connect(secured.address, ATTACKERS[number % 2]))
    token = ("authorization", f"Bearer {secured.root_token}")
    stream = slow.request(REFLECT, message(LIST_SERVICES), token)
    assert slow.answer(stream).grpc_status == Code.OK


def made_up_jwt() -> str:
    """One that names a key that there is not."""
    parts = ({"alg": "ES256", "kid": new_token()}, {"sub": "x"}, {})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)


def test_calls_that_wait_for_keys(cluster: Cluster, stack: ExitStack) -> None:
    """The address of the keys does not answer, and two addresses have a call that waits for it on each connection."""
    keys = KeyAddress(b"")
    stack.callback(keys.close)
    keys.answers.clear()
    arguments = ["--max-connections", "100", "--max-connections-per-address", "50", "--event-loops", "1"]
    secured = stack.enter_context(Secured(cluster, keys=keys.url, arguments=arguments))
    # The server begins with a fetch, and gives up each after 5 s. The next one is begun 10 s after the one before.
    assert keys.was_asked(len(keys.requests) + 1, CALL_S)
    held = [connect(secured.address, ATTACKERS[number % 2]) for number in range(50)]
    for peer in held:
        stack.enter_context(peer)
        peer.request(REFLECT, message(LIST_SERVICES), ("authorization", f"Bearer {made_up_jwt()}"))
    # What was asked of the system before the places were taken may let in one more. It is not the only one.
    assert max(is_let_in(secured) for _ in range(3)) < 1.0
    # They were let in while most of the others waited.
    assert sum(not has_ended(peer) and not peer.answer_of(1).is_over for peer in held) > 40


@pytest.mark.parametrize(("places", "of_address"), [(1, 1), (2, 2), (3, 3), (4, 4), (100, 2)])
def test_a_watch_where_there_are_few_places(
    cluster: Cluster, stack: ExitStack, places: int, of_address: int
) -> None:
    arguments = ["--max-connections", str(places), "--max-connections-per-address", str(of_address)]
    secured = stack.enter_context(Secured(cluster, arguments=arguments))
    peer = stack.enter_context(connect(secured.address, "127.0.0.1"))
    stream = peer.request(WATCH_HEALTH, message(b""))
    peer.until(lambda: peer.answer_of(stream).is_over or bool(peer.answer_of(stream).body))
    # With one or two places it would keep the only one of those who show no credentials.
    assert peer.answer_of(stream).is_over == (of_address <= 2)
    is_let_in(secured)


@pytest.mark.long
def test_idle_until_admitted(cluster: Cluster, stack: ExitStack, record_property) -> None:
    """Who does nothing, or is refused again and again, is asked to go soon; who asks for the health, or has
    credentials, is not."""
    secured = stack.enter_context(Secured(cluster))

    def opened() -> Connection:
        return stack.enter_context(connect(secured.address, ATTACKERS[0]))

    silent, refused, unknown, probing, watching, admitted = (opened() for _ in range(6))
    began = time.monotonic()
    watching.request(WATCH_HEALTH, message(b""))
    token = ("authorization", f"Bearer {secured.root_token}")
    stream = admitted.request(REFLECT, message(LIST_SERVICES), token)
    assert admitted.answer(stream).grpc_status == Code.OK
    told: dict[str, float] = {}
    while time.monotonic() < began + IDLE_S + 15 and len(told) < 3:
        for name, peer in (("silent", silent), ("refused", refused), ("unknown", unknown)):
            if name in told:
                continue
            if has_ended(peer) or peer.goaways:
                told[name] = time.monotonic() - began
            elif peer is refused:
                be_refused(peer)
            elif peer is unknown:
                ask_for_nothing_known(peer)
        assert probing.call(CHECK).grpc_status == Code.OK
        probing.is_quiet(0.5)
    record_property("figures", ", ".join(f"{name}: {seconds:.1f} s" for name, seconds in told.items()))
    assert set(told) == {"silent", "refused", "unknown"}
    assert all(IDLE_S - 1 <= seconds <= IDLE_S + 10 for seconds in told.values()), told
    for peer in (probing, watching, admitted):
        assert not has_ended(peer) and not peer.goaways


def test_health_streams(cluster: Cluster, stack: ExitStack, record_property) -> None:
    """Watches of the health have a bound on each connection and for each address, and what is over it says so. Checks
    are answered all the same, and so is another address."""
    secured = stack.enter_context(Secured(cluster))
    memory = Memory(secured.server)
    open_watches = refused = 0
    for _ in range(CALLS_PER_ADDRESS // CALLS + 10):
        peer = stack.enter_context(connect(secured.address, ATTACKERS[0]))
        streams = [peer.request(WATCH_HEALTH, message(b"")) for _ in range(100)]
        # Answered in order.
        assert peer.call(CHECK).grpc_status == Code.OK
        answers = [peer.answer_of(stream) for stream in streams]
        over = [answer for answer in answers if answer.is_over]
        assert {answer.grpc_status for answer in over} == {Code.RESOURCE_EXHAUSTED}
        assert all("without credentials" in answer.grpc_message for answer in over)
        assert len(answers) - len(over) <= CALLS
        open_watches += len(answers) - len(over)
        refused += len(over)
    assert open_watches == CALLS_PER_ADDRESS
    other = stack.enter_context(connect(secured.address, ATTACKERS[1]))
    stream = other.request(WATCH_HEALTH, message(b""))
    other.until(lambda: bool(other.answer_of(stream).body))
    growth = memory.growth()
    record_property(
        "figures", f"{open_watches} open, {refused} refused, memory +{growth / MIB:.1f} MiB"
    )
    assert growth < 16 * MIB


def test_health_checks_without_their_message(cluster: Cluster, stack: ExitStack) -> None:
    """A call that never gets its message, or whose answer is never taken, holds as much as a watch. One more is
    always allowed: it may be a check in two parts."""
    secured = stack.enter_context(Secured(cluster))
    unsent = stack.enter_context(connect(secured.address, ATTACKERS[0]))
    streams = [unsent.request(CHECK, end=False) for _ in range(100)]
    refused = unsent.request("/no.such.Service/Method")
    assert unsent.answer(refused).grpc_status == Code.UNIMPLEMENTED
    assert sum(not unsent.answer_of(stream).is_over for stream in streams) == CALLS + 1
    # Those that are open may still go on.
    first = next(stream for stream in streams if not unsent.answer_of(stream).is_over)
    unsent.send_data(first, message(b""), end=True)
    assert unsent.answer(first).grpc_status == Code.OK
    host, _, port = secured.address.rpartition(":")
    sock = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
    unread = stack.enter_context(Connection(sock, is_client=True))
    unread.hello({4: 0})
    streams = [unread.request(CHECK, message(b"")) for _ in range(100)]
    refused = unread.request("/no.such.Service/Method")
    assert unread.answer(refused).grpc_status == Code.UNIMPLEMENTED
    assert sum(not unread.answer_of(stream).is_over for stream in streams) == CALLS + 1


def test_a_flood_of_bad_tokens_is_one_line(cluster: Cluster, stack: ExitStack) -> None:
    """For each address and reason. Neither the token nor what the client has made up is in it."""
    secured = stack.enter_context(Secured(cluster))
    peer = stack.enter_context(connect(secured.address, ATTACKERS[0]))
    tokens = [new_token() for _ in range(300)]
    size = secured.server.log_size()
    for token in tokens:
        field = ("authorization", f"Bearer {token}")
        answer = peer.answer(peer.request(REFLECT, message(LIST_SERVICES), field), settle=False)
        assert answer.grpc_status == Code.UNAUTHENTICATED
    for number in range(100):
        answer = peer.answer(peer.request(f"/made.up.Service{number}/Method", message(b"")), settle=False)
        assert answer.grpc_status == Code.UNIMPLEMENTED
    # The server has said all of it, for it answers another.
    reach(lambda: "unimplemented" in secured.server.log(size), REVOCATION_S, "the line of unknown methods")
    log = secured.server.log(size)
    lines = [line for line in log.splitlines() if "call refused" in line]
    assert sorted(re.findall(r"reason=(\w+)", "\n".join(lines))) == ["unimplemented", "unknownToken"], lines
    for line in lines:
        assert f"address={ATTACKERS[0]}" in line and "caller=-" in line and "count=1" in line, line
    assert not any(token in log or token.removeprefix("sbx_") in log for token in tokens)
    assert "made.up" not in log
