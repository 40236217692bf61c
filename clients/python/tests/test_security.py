"""Tokens and TLS: what is sent, what is refused before anything is sent, and what is never shown."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from authority import LOOPBACK, Authority, Pair
from test_watch import complete, event, snapshot

import signalbox
import signalbox.aio
from signalbox import JobEvent
from signalbox._channel import channel_arguments
from signalbox._security import Security, is_loopback
from signalbox.v1 import job_pb2, job_service_pb2, job_service_pb2_grpc

TOKEN = "sbx_s3cret"
SUCCEEDED = 3

LOCAL = [
    *("127.0.0.1:7600", "127.8.9.10", "localhost", "localhost:7600", "LOCALHOST:1", "[::1]:7600", "::1"),
    *("[::ffff:127.0.0.1]:7600", "dns:localhost:7600", "dns:///localhost:7600", "dns:///127.0.0.1:7600"),
    *("dns:///[::1]:7600", "ipv4:127.0.0.1:1,127.0.0.2:2", "ipv6:[::1]:7600", "ipv6:[::ffff:127.0.0.1]:7600"),
    *("unix:/run/signalbox", "unix:relative", "unix:///run/signalbox", "unix-abstract:signalbox"),
]

#: Also what only a resolver could say to be this machine.
ELSEWHERE = [
    *("box:7600", "box.example.org", "10.0.0.1:7600", "0.0.0.0:7600", "[::]:7600", "[2001:db8::1]:7600", ""),
    *("localhost.example.org:7600", "127.0.0.1.example.org:7600", "localhost.:7600", "127.1:7600"),
    *("[::ffff:10.0.0.1]:7600", "dns:///box:7600", "dns:box", "dns://10.0.0.1/localhost:7600"),
    *("ipv4:127.0.0.1:1,10.0.0.1:2", "ipv4:127.0.0.1:1%2C10.0.0.1:2", "ipv4:localhost:1", "ipv6:[::2]:1"),
    *("xds:///localhost", "vsock:1:2", "localhost@box:7600", "localhost#@box:7600", "localhost/box:7600"),
    *("127.0.0.1 box:7600", "127.0.0.1:7600,10.0.0.1:7600", "dns:///127.0.0.1:7600,10.0.0.1:7600"),
]

KINDS: list[Any] = [signalbox.Client, signalbox.aio.Client]
either = pytest.mark.parametrize("kind", KINDS, ids=["blocking", "asyncio"])
both = pytest.mark.parametrize("how", ["blocking", "asyncio"])


@pytest.mark.parametrize("target", LOCAL)
def test_this_machine(target):
    assert is_loopback(target)
    assert Security(target, TOKEN, False, False, ()).credentials is None


@pytest.mark.parametrize("target", ELSEWHERE)
def test_another_machine(target):
    assert not is_loopback(target)
    for token in (TOKEN, lambda: TOKEN):
        with pytest.raises(ValueError, match="without TLS the token could be read on the network") as failure:
            Security(target, token, False, False, ())
        assert TOKEN not in str(failure.value)


@either
async def test_a_token_for_another_machine_wants_tls_or_insecure(kind):
    # These addresses are for documentation (RFC 5737): nothing is there, and nothing is connected to.
    target = "192.0.2.1:7600"
    with pytest.raises(ValueError, match="give tls=True or tls=TLS"):
        kind(target, token=TOKEN)
    for client in (
        kind(target),
        kind(target, token=TOKEN, tls=True),
        kind(target, token=TOKEN, insecure=True),
        kind(target, insecure=True),
    ):
        closing = client.close()
        if closing is not None:
            await closing


@either
def test_insecure_and_tls_exclude_each_other(kind):
    for tls in (True, signalbox.TLS()):
        with pytest.raises(ValueError, match="remove one of them"):
            kind("localhost:7600", tls=tls, insecure=True)


@either
def test_a_token_has_one_place(kind):
    with pytest.raises(ValueError, match="give token= instead") as failure:
        kind("localhost:7600", metadata=[("Authorization", f"Bearer {TOKEN}")])
    assert TOKEN not in str(failure.value)


@pytest.mark.parametrize(
    "token", ["", " \n", "s3cret\nx: y", "s3cret s3cret", "s3crét", "s3cret\0", "s3cret" * 1500]
)
def test_no_error_shows_a_token_that_is_wrong(token):
    with pytest.raises(ValueError, match="^the token ") as failure:
        Security("localhost:1", token, False, False, ())
    assert "s3cr" not in str(failure.value)
    later = Security("localhost:1", lambda: token, False, False, ())
    with pytest.raises(ValueError, match="^the token ") as failure:
        later.metadata()
    assert "s3cr" not in str(failure.value)


def test_a_token_is_text():
    for token in (TOKEN.encode(), 7):
        with pytest.raises(TypeError, match="must be a str") as failure:
            Security("localhost:1", token, False, False, ())
        assert TOKEN not in str(failure.value)


@either
async def test_nothing_shows_the_token(kind):
    client = kind("localhost:1", token=TOKEN)
    shown = f"{client!r} {client} {client._security!r} {client.watch('a')!r}"
    closing = client.close()
    if closing is not None:
        await closing
    assert TOKEN not in shown


# Against a service in this process that keeps what came with each call.


class Recorder(job_service_pb2_grpc.JobServiceServicer):
    def __init__(self) -> None:
        self.seen: list[str | None] = []
        #: The streams of Watch: their messages, and how each ends.
        self.watches: list = []

    def note(self, context: grpc.ServicerContext) -> None:
        self.seen.append(dict(context.invocation_metadata()).get("authorization"))

    def GetJob(self, request, context):
        self.note(context)
        return job_service_pb2.GetJobResponse(job=job_pb2.Job(id="a", state=SUCCEEDED))

    def Watch(self, request, context):
        self.note(context)
        messages, end = self.watches.pop(0)
        yield from messages
        if end is not None:
            context.abort(end, "as the script says")


@dataclass
class Place:
    service: Recorder
    target: str


def serving(bind: Callable[[grpc.Server], str]) -> Iterator[Place]:
    service = Recorder()
    server = grpc.server(futures.ThreadPoolExecutor(8))
    job_service_pb2_grpc.add_JobServiceServicer_to_server(service, server)
    target = bind(server)
    server.start()
    yield Place(service, target)
    server.stop(None).wait()


@pytest.fixture
def plain() -> Iterator[Place]:
    yield from serving(lambda server: f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    authority = Authority()
    yield authority
    authority.close()


def read(pair: Pair) -> tuple[bytes, bytes]:
    return pair.key.read_bytes(), pair.certificate.read_bytes()


@pytest.fixture
def secured(authority: Authority) -> Iterator[Place]:
    credentials = grpc.ssl_server_credentials([read(authority.issue(*LOOPBACK))])
    yield from serving(lambda server: f"localhost:{server.add_secure_port('127.0.0.1:0', credentials)}")


def use(how: str, target: str, body: str, **options: Any) -> Any:
    """Calls a method of a client, awaited where it has to be: "get", "retry" (which is sent once only), or
    "watch" to its end."""

    async def run() -> Any:
        async with signalbox.aio.Client(target, timeout=20, **options) as client:
            if body != "watch":
                return await getattr(client, body)("a")
            async with client.watch("a", timeout=20) as watch:
                return [item async for item in watch]

    if how == "asyncio":
        return asyncio.run(run())
    with signalbox.Client(target, timeout=20, **options) as client:
        if body != "watch":
            return getattr(client, body)("a")
        with client.watch("a", timeout=20) as watch:
            return list(watch)


ENDED: tuple[list, Any] = ([snapshot("a", 1), complete(), event("a", 2, SUCCEEDED)], None)


@both
@pytest.mark.parametrize("token", [TOKEN, f" {TOKEN}\n", lambda: TOKEN], ids=["text", "line", "function"])
def test_the_token_goes_with_every_call(how, token, plain):
    plain.service.watches = [([snapshot("a", 1)], grpc.StatusCode.UNAVAILABLE), ENDED]
    use(how, plain.target, "get", token=token)
    use(how, plain.target, "watch", token=token, metadata=[("x-more", "1")])
    assert plain.service.seen == [f"Bearer {TOKEN}"] * 3
    use(how, plain.target, "get")
    assert plain.service.seen[3:] == [None]


def counting() -> Callable[[], str]:
    numbers = iter(range(1, 100))
    return lambda: f"t{next(numbers)}"


@both
def test_each_call_asks_for_the_token(how, plain):
    plain.service.watches = [([snapshot("a", 1)], grpc.StatusCode.UNAVAILABLE), ENDED]
    use(how, plain.target, "watch", token=counting())
    assert plain.service.seen == ["Bearer t1", "Bearer t2"]


def test_a_coroutine_function_gives_the_token_for_asyncio(plain):
    give = counting()

    async def token() -> str:
        await asyncio.sleep(0)
        return give()

    plain.service.watches = [([snapshot("a", 1)], grpc.StatusCode.UNAVAILABLE), ENDED]
    use("asyncio", plain.target, "get", token=token)
    use("asyncio", plain.target, "watch", token=token)
    assert plain.service.seen == ["Bearer t1", "Bearer t2", "Bearer t3"]


@both
def test_a_watch_outlives_the_token_that_it_began_with(how, plain):
    expired = grpc.StatusCode.UNAUTHENTICATED
    plain.service.watches = [
        ([snapshot("a", 1), complete()], expired),
        ([event("a", 2, SUCCEEDED)], None),
    ]
    items = use(how, plain.target, "watch", token=counting())
    assert [item.sequence for item in items if isinstance(item, JobEvent)] == [2]
    assert plain.service.seen == ["Bearer t1", "Bearer t2"]


@both
def test_a_token_that_is_refused_at_once_ends_a_watch(how, plain):
    expired = grpc.StatusCode.UNAUTHENTICATED
    plain.service.watches = [([snapshot("a", 1)], expired), ([], expired)]
    with pytest.raises(signalbox.Unauthenticated):
        use(how, plain.target, "watch", token=counting())
    # One that stays the same is not tried again.
    plain.service.watches = [([snapshot("a", 1)], expired)]
    with pytest.raises(signalbox.Unauthenticated):
        use(how, plain.target, "watch", token=TOKEN)
    assert len(plain.service.seen) == 3


class NoToken(Exception):
    pass


@both
@pytest.mark.parametrize("body", ["get", "watch"])
@pytest.mark.parametrize("error", [NoToken, grpc.RpcError])
def test_what_the_function_raises_is_raised(how, body, error, plain):
    def token() -> str:
        raise error("none today")

    with pytest.raises(error, match="none today"):
        use(how, plain.target, body, token=token)
    assert plain.service.seen == []


async def test_a_token_that_does_not_come_has_the_calls_deadline(plain):
    async def token() -> str:
        await asyncio.Event().wait()
        return TOKEN

    async with signalbox.aio.Client(plain.target, token=token) as client:
        with pytest.raises(signalbox.DeadlineExceeded, match="the token was not available in time"):
            await client.get("a", timeout=0.2)
        with pytest.raises(signalbox.DeadlineExceeded):
            async with client.watch("a", timeout=0.2):
                pass
    assert plain.service.seen == []


async def test_close_ends_a_watch_that_waits_for_a_token(plain):
    asked = asyncio.Event()

    async def token() -> str:
        asked.set()
        await asyncio.Event().wait()
        return TOKEN

    async with signalbox.aio.Client(plain.target, token=token) as client:
        watch = client.watch("a", timeout=60)

        async def drain() -> list:
            return [item async for item in watch]

        items = asyncio.create_task(drain())
        await asyncio.wait_for(asked.wait(), 10)
        await watch.close()
        assert await asyncio.wait_for(items, 10) == []


async def test_a_task_that_waits_for_a_token_can_be_cancelled(plain):
    asked = asyncio.Event()

    async def token() -> str:
        asked.set()
        await asyncio.Event().wait()
        return TOKEN

    async with signalbox.aio.Client(plain.target, token=token) as client:
        call = asyncio.create_task(client.get("a"))
        await asyncio.wait_for(asked.wait(), 10)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(call, 10)


#: The ways in which a caller, or the environment, can have grpc ask a proxy for a connection to this machine.
PROXIES = {
    "http_proxy": ({"http_proxy": "http://{}"}, []),
    "http_proxy and an option": ({"http_proxy": "http://{}"}, [("grpc.enable_http_proxy", 1)]),
    "addresses": (
        {"GRPC_ADDRESS_HTTP_PROXY": "{}", "GRPC_ADDRESS_HTTP_PROXY_ENABLED_ADDRESSES": "127.0.0.0/8,::1/128"},
        [],
    ),
    "options": (
        {},
        [
            ("grpc.address_http_proxy", "{}"),
            ("grpc.address_http_proxy_enabled_addresses", "127.0.0.0/8,::1/128"),
        ],
    ),
}


class Proxy:
    """Listens, closes each connection at once and notes that one came."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.came = threading.Event()
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def _accept(self) -> None:
        try:
            while True:
                connection, _ = self.listener.accept()
                self.came.set()
                connection.close()
        except OSError:
            pass

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)


@pytest.fixture
def proxies():
    """Two: a channel of the first call may still try its proxy again while the second call is made."""
    made = Proxy(), Proxy()
    yield made
    for proxy in made:
        proxy.close()


@both
@pytest.mark.parametrize("way", PROXIES)
def test_a_proxy_does_not_see_the_token_for_this_machine(how, way, plain, proxies, monkeypatch):
    """By itself grpc asks a proxy for a connection to this machine too, and talks through it in the clear."""
    for name in ("no_grpc_proxy", "no_proxy", "grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)

    def go_through(proxy: Proxy) -> list[tuple[str, object]]:
        variables, options = PROXIES[way]
        for name, value in variables.items():
            monkeypatch.setenv(name, value.format(proxy.address))
        return [(name, value.format(proxy.address) if isinstance(value, str) else value) for name, value in options]

    used, unused = proxies
    # Without a token there is nothing to keep from it.
    with pytest.raises(signalbox.SignalboxError):
        use_briefly(plain.target, go_through(used))
    assert used.came.is_set(), "grpc does not use the proxy"
    use(how, plain.target, "get", token=TOKEN, options=go_through(unused))
    assert plain.service.seen == [f"Bearer {TOKEN}"]
    assert not unused.came.is_set()


def test_a_caller_changes_our_arguments_of_the_channel_and_not_those_of_security():
    own = [("grpc.keepalive_time_ms", 5), ("grpc.enable_http_proxy", 1), ("mine", "x")]
    found = channel_arguments(own, [("grpc.enable_http_proxy", 0)])
    assert len(found) == len(dict(found))
    assert dict(found)["grpc.keepalive_time_ms"] == 5 and dict(found)["mine"] == "x"
    assert dict(found)["grpc.enable_http_proxy"] == 0
    assert dict(found)["grpc.keepalive_timeout_ms"] == 10_000


def use_briefly(target: str, options: list[tuple[str, Any]]) -> None:
    with signalbox.Client(target, timeout=1, options=options) as client:
        client.get("a")


# TLS.


@both
def test_tls_with_an_authority_of_ones_own(how, secured, authority):
    for ca in (authority.path, str(authority.path), authority.path.read_bytes()):
        use(how, secured.target, "get", token=TOKEN, tls=signalbox.TLS(ca=ca))
    assert secured.service.seen == [f"Bearer {TOKEN}"] * 3


@both
def test_a_certificate_that_nobody_has_signed_gets_no_token(how, secured):
    for tls in (True, signalbox.TLS()):
        with pytest.raises(signalbox.Unavailable):
            use(how, secured.target, "retry", token=TOKEN, tls=tls)
    assert secured.service.seen == []


@both
def test_a_certificate_of_the_clients_own(how, authority):
    pair = read(authority.issue(*LOOPBACK))
    asking = grpc.ssl_server_credentials([pair], authority.path.read_bytes(), require_client_auth=True)
    own = authority.issue("dns:importer")

    def bind(server: grpc.Server) -> str:
        return f"localhost:{server.add_secure_port('127.0.0.1:0', asking)}"

    for place in serving(bind):
        tls = signalbox.TLS(ca=authority.path, certificate=own.certificate, key=own.key)
        use(how, place.target, "get", tls=tls)
        tls = signalbox.TLS(authority.path, own.certificate.read_bytes(), own.key.read_bytes())
        use(how, place.target, "get", tls=tls)
        with pytest.raises(signalbox.Unavailable):
            use(how, place.target, "retry", tls=signalbox.TLS(ca=authority.path))
        assert place.service.seen == [None, None]


@either
def test_tls_that_is_wrong(kind, authority, tmp_path):
    for half in ({"certificate": b"c"}, {"key": b"k"}):
        with pytest.raises(ValueError, match="needed together"):
            signalbox.TLS(**half)
    with pytest.raises(FileNotFoundError):
        kind("localhost:1", tls=signalbox.TLS(ca=tmp_path / "none"))
    with pytest.raises(ValueError, match="^ca: the bytes given: has no certificate in PEM"):
        kind("localhost:1", tls=signalbox.TLS(ca=b"no PEM"))
    pair = authority.issue("dns:a")
    with pytest.raises(ValueError, match="^key: .*: has no private key in PEM"):
        kind("localhost:1", tls=signalbox.TLS(certificate=pair.certificate, key=pair.certificate))
    (tmp_path / "large").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(ValueError, match="is larger than 1048576 bytes"):
        kind("localhost:1", tls=signalbox.TLS(ca=os.fspath(tmp_path / "large")))
    with pytest.raises(TypeError, match="tls must be True, False or a signalbox.TLS"):
        kind("localhost:1", tls="yes")


def test_no_text_of_tls_shows_the_key():
    assert "s3cret" not in repr(signalbox.TLS(certificate=b"c", key=b"s3cret"))
