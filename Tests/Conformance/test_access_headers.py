"""The header `authorization`, as only hand-made frames can send it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from access import READ, REVOCATION_S, SCOPES, Secured, closing, new_token, reach
from frames import Connection, Field, grpc_headers, message
from harness import Cluster
from wire import CHECK, JOBS, SERVING, Answer, Code

LIST = JOBS + "ListJobs"


@pytest.fixture(scope="module")
def secured(cluster: Cluster) -> Iterator[Secured]:
    yield from closing(Secured(cluster, name="headers"))


@pytest.fixture
def peer(secured: Secured) -> Iterator[Connection]:
    with Connection.open(secured.address) as peer:
        yield peer


def call(peer: Connection, *fields: Field, path: str = LIST) -> Answer:
    return peer.call(path, b"", *fields)


def bearer(token: str) -> Field:
    return ("authorization", f"Bearer {token}")


def test_a_good_one(peer, secured):
    assert call(peer, bearer(secured.root_token)).grpc_status == Code.OK


def test_a_refusal_is_an_answer_of_trailers_only(peer):
    """Whatever is wrong, no message of the request is waited for, and the status is HTTP's 200."""
    stream = peer.request(LIST, None, end=False)
    answer = peer.answer(stream)
    assert answer.is_trailers_only and answer.http_status == 200
    assert answer.grpc_status == Code.UNAUTHENTICATED
    assert (answer.header("content-type") or "").startswith("application/grpc")


@pytest.mark.parametrize("is_good_first", [True, False])
@pytest.mark.parametrize("other", ["unknown", "malformed", "empty", "the same"])
def test_two_headers(peer, secured, is_good_first, other):
    """Whoever passes one on may have looked at the other: neither is believed."""
    good = bearer(secured.root_token)
    bad = {
        "unknown": bearer(new_token()),
        "malformed": ("authorization", "Basic x"),
        "empty": ("authorization", ""),
        "the same": good,
    }[other]
    fields = (good, bad) if is_good_first else (bad, good)
    assert call(peer, *fields).grpc_status == Code.UNAUTHENTICATED


@pytest.mark.parametrize(
    "value",
    [
        "Bearer ",
        "Bearer  ",
        " ",
        "Bearer\tsbx_0123",
        "Bearer sbx_\xff\xfe",
        "Bearer sbx_ü",
        "Bearer%20sbx",
        "Bearer ,",
        "Bearer =",
        "Bearer ....",
        "Bearer .",
        "Bearer ..",
        "Bearer a.b.c",
        "Bearer e30.e30.e30",
        "Bearer " + "." * 3_000,
        "Bearer " + "A" * 5_000,
    ],
    ids=repr,
)
def test_malformed_authorization_is_unauthenticated(peer, value):
    """HTTP/2 itself may refuse what is no text; the connection goes on in any case."""
    stream = peer.request(LIST, message(b""), ("authorization", value))
    answer = peer.answer(stream)
    assert answer.reset is not None or answer.grpc_status == Code.UNAUTHENTICATED, f"{answer}"
    health = peer.call(CHECK)
    assert health.grpc_status == Code.OK and health.messages == [SERVING]


def test_health_takes_any_header(peer):
    """A balancer's probe has none, and one that adds a bad one is answered all the same."""
    for fields in ([], [("authorization", "Basic x")], [bearer(new_token())]):
        assert call(peer, *fields, path=CHECK).grpc_status == Code.OK


def test_other_names_are_other_fields(peer, secured):
    """Nor is a credential looked for in what proxies use, or in the target."""
    value = f"Bearer {secured.root_token}"
    for name in ("proxy-authorization", "x-authorization", "authorization-bin", "cookie", "x-forwarded-user"):
        assert call(peer, (name, value)).grpc_status == Code.UNAUTHENTICATED, name
    headers = grpc_headers(LIST, authority=f"root:{secured.root_token}@localhost")
    assert peer.call(LIST, b"", headers=headers).grpc_status == Code.UNAUTHENTICATED


def test_trailers_of_a_request_are_no_headers(peer, secured):
    """What comes after the message is too late."""
    stream = peer.request(LIST, message(b""), end=False)
    peer.send_headers(stream, [bearer(secured.root_token)], end=True)
    answer = peer.answer(stream)
    assert answer.grpc_status == Code.UNAUTHENTICATED or answer.reset is not None, f"{answer}"


def test_the_same_headers_on_another_connection(secured):
    """What is remembered for a connection is so for that one alone."""
    with Connection.open(secured.address) as first, Connection.open(secured.address) as second:
        for _ in range(3):
            assert call(first, bearer(secured.root_token)).grpc_status == Code.OK
            assert call(second).grpc_status == Code.UNAUTHENTICATED
            assert call(first).grpc_status == Code.UNAUTHENTICATED


def test_one_header_block_before_and_after_its_revocation(secured):
    """The server keeps the last header block of a connection; the caller's right it does not keep."""
    token = secured.tokens.add("short", READ, users="all")
    secured.tokens.write()
    secured.wait_until_known(secured.somebody(token))
    with Connection.open(secured.address) as peer:
        assert call(peer, bearer(token)).grpc_status == Code.OK
        secured.tokens.remove(token)
        secured.tokens.write()
        # Asked again and again with the same block, as a client does.
        reach(
            lambda: call(peer, bearer(token)).grpc_status == Code.UNAUTHENTICATED,
            REVOCATION_S,
            "the end of the token",
        )
        assert call(peer, bearer(token)).grpc_status == Code.UNAUTHENTICATED


def test_a_token_that_is_a_method_away(secured):
    """A caller without a scope is refused also on a connection on which another call of it was let in."""
    token = secured.tokens.add("reader", READ, users="all")
    secured.tokens.write()
    secured.wait_until_known(secured.somebody(token))
    with Connection.open(secured.address) as peer:
        for _ in range(2):
            assert call(peer, bearer(token)).grpc_status == Code.OK
            for method in ("Cancel", "Enqueue", "Retry"):
                answer = call(peer, bearer(token), path=JOBS + method)
                assert answer.grpc_status == Code.PERMISSION_DENIED
                assert any(scope in answer.grpc_message for scope in SCOPES)
