"""How a right to call ends: a watch within five seconds of its token, withdrawn keys, files that go wrong.

A watch is the longest call, so it shows best whether anybody looks again. Next to each that has to end is one
that has to go on.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import jwt
import pytest
from access import (
    CALL_S,
    CANCEL,
    ENQUEUE,
    LIST_SERVICES,
    READ,
    REFLECT,
    REVOCATION_S,
    SCOPES,
    Issuer,
    KeyAddress,
    Secured,
    Somebody,
    Watch,
    closing,
    reach,
)
from authority import Authority, move_over
from grpc_health.v1 import health_pb2
from harness import Cluster, unique
from signalbox.v1 import job_service_pb2

OK, UNAUTHENTICATED, UNAVAILABLE = (
    grpc.StatusCode.OK,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNAVAILABLE,
)

#: The least between two fetches of keys, and what a clock may be wrong about.
FETCH_PAUSE_S, CLOCK_S = 10.0, 0.5
#: For as long as several fetches take.
WATCH_S = 180.0


@pytest.fixture(scope="module")
def secured(cluster: Cluster) -> Iterator[Secured]:
    yield from closing(Secured(cluster, name="expiry"))


@pytest.fixture
def control(secured: Secured) -> Iterator[Watch]:
    """The watch of somebody whose right stays; it is looked at at the end."""
    user = unique("control")
    watch = secured.root.watch(user_id=user)
    yield watch
    watch.until_event("ENQUEUED", secured.root.enqueue(user))
    watch.close()


def known(secured: Secured, token: str) -> Somebody:
    """On a connection of its own."""
    somebody = secured.somebody(token, is_new=True)
    secured.wait_until_known(somebody)
    return somebody


def code(somebody: Somebody) -> grpc.StatusCode:
    return somebody.code(REFLECT, LIST_SERVICES)


def assert_ends(watch: Watch, since: float) -> None:
    """UNAUTHENTICATED, at most five seconds after this moment and not before it."""
    status, at = watch.end()
    assert status is UNAUTHENTICATED
    assert -CLOCK_S <= at - since <= REVOCATION_S, f"after {at - since:.1f} s"


def assert_refused(secured: Secured, old: Somebody, token: str) -> None:
    """On the connection that it had, and on a new one."""
    assert code(old) is UNAUTHENTICATED
    assert code(secured.somebody(token, is_new=True)) is UNAUTHENTICATED


def seconds_from_now(seconds: float) -> tuple[datetime.datetime, float]:
    """A whole second at least so far away: by the calendar, and by the clock of the tests."""
    moment = math.ceil(time.time() + seconds)
    calendar = datetime.datetime.fromtimestamp(moment, datetime.timezone.utc)
    return calendar, time.monotonic() + moment - time.time()


# Tokens


WATCHED = {
    "of a user": lambda user, job: {"user_id": user},
    "of a queue": lambda user, job: {"queue": user},
    "of a job": lambda user, job: {"job": job},
    "of a job with its log": lambda user, job: {"job": job, "include_log": True},
}


def test_a_token_that_is_removed(secured, control):
    """All kinds of watches at once, of users that are quiet."""
    user = unique("ada")
    token = secured.tokens.add(user, ENQUEUE, READ)
    secured.tokens.write()
    caller = known(secured, token)
    job = caller.enqueue(user)
    watches = [caller.watch(**request(user, job)) for request in WATCHED.values()]
    secured.tokens.remove(token)
    removed = secured.tokens.write()
    with ThreadPoolExecutor(len(watches)) as pool:
        list(pool.map(lambda watch: assert_ends(watch, removed), watches))
    assert_refused(secured, caller, token)


def test_a_watch_that_has_much_to_say(secured, control):
    """It ends all the same, in the middle of its events."""
    user = unique("busy")
    token = secured.tokens.add(user, ENQUEUE, READ)
    secured.tokens.write()
    caller = known(secured, token)
    watch = caller.watch(user_id=user)
    is_over = threading.Event()

    def work() -> None:
        while not is_over.is_set():
            secured.root.enqueue(user, now=True)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        secured.tokens.remove(token)
        assert_ends(watch, secured.tokens.write())
        assert watch.said
    finally:
        is_over.set()
        worker.join(CALL_S)


def test_other_streams_end_too(secured, control):
    """Reflection takes credentials as well; health takes none, and goes on."""
    token = secured.tokens.add("reflecting", READ)
    secured.tokens.write()
    caller = known(secured, token)
    is_over = threading.Event()

    def questions() -> Iterator[bytes]:
        yield LIST_SERVICES
        is_over.wait(CALL_S)

    reflection = caller.channel.stream_stream(REFLECT)(questions(), timeout=CALL_S)
    next(reflection)
    health = caller.health.Watch(health_pb2.HealthCheckRequest(), timeout=CALL_S)
    next(health)
    secured.tokens.remove(token)
    removed = secured.tokens.write()
    with pytest.raises(grpc.RpcError) as error:
        next(reflection)
    took = time.monotonic() - removed
    is_over.set()
    assert error.value.code() is UNAUTHENTICATED
    assert took <= REVOCATION_S, f"after {took:.1f} s"
    assert health.is_active()
    health.cancel()


@pytest.mark.parametrize("change", ["scopes", "users", "expires", "name"])
def test_an_entry_that_is_changed(secured, control, change):
    """What a watch was allowed by is not what is allowed now. A new call goes by the new entry."""
    user = unique("ada")
    entry = {"users": [user]}
    token = secured.tokens.add("changing", READ, CANCEL, **entry)
    secured.tokens.write()
    caller = known(secured, token)
    watch = caller.watch(user_id=user)
    name, scopes = "changing", [READ, CANCEL]
    match change:
        case "scopes":
            scopes = [READ]
        case "users":
            entry = {"users": [user, "bob"]}
        case "expires":
            entry |= {"expires": seconds_from_now(3_600)[0]}
        case "name":
            name = "changed"
    secured.tokens.add(name, *scopes, **entry, token=token)
    assert_ends(watch, secured.tokens.write())
    assert code(caller) is OK
    caller.watch(user_id=user).close()


def test_a_token_at_its_time(secured, control):
    user = unique("ada")
    moment, ends = seconds_from_now(6)
    token = secured.tokens.add(user, READ, expires=moment)
    secured.tokens.write()
    caller = known(secured, token)
    watch = caller.watch(user_id=user)
    assert_ends(watch, ends)
    assert_refused(secured, caller, token)


def test_a_new_token_next_to_the_old_one(secured, control):
    """Replacing one without a gap: both are good for a while, and the old one's end is not the new one's."""
    user = unique("ada")
    old = secured.tokens.add(user, READ)
    secured.tokens.write()
    first = known(secured, old).watch(user_id=user)
    new = secured.tokens.add(user, READ)
    secured.tokens.write()
    second = known(secured, new).watch(user_id=user)
    assert code(secured.somebody(old)) is OK
    secured.tokens.remove(old)
    assert_ends(first, secured.tokens.write())
    second.until_event("ENQUEUED", secured.root.enqueue(user))
    second.close()


BROKEN = {
    "half of it": lambda text: text[: len(text) // 2].rstrip("\n") + "\n  - name",
    "empty": lambda text: "",
    "no YAML": lambda text: "tokens: [",
    "another file": lambda text: "keys: []\n",
    "an unknown scope": lambda text: text.replace("jobs.read", "jobs.everything", 1),
    "a token in place of its hash": lambda text: text.replace("hash: sha256:", "hash: sbx_", 1),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_file_that_is_wrong_changes_nothing(secured, control, how):
    """Nobody loses a right by a mistake, and nobody gets one; what is right again counts again."""
    user = unique("ada")
    token = secured.tokens.add(user, READ)
    secured.tokens.write()
    caller = known(secured, token)
    watch = caller.watch(user_id=user)
    newer = secured.tokens.add(unique("newer"), READ)
    size = secured.server.log_size()
    move_over(secured.tokens.path, BROKEN[how](secured.tokens.text()).encode())
    reach(lambda: str(secured.tokens.path) in secured.server.log(size), REVOCATION_S, "a line in the log")
    assert code(caller) is OK and code(secured.root) is OK
    assert code(secured.somebody(newer)) is UNAUTHENTICATED
    watch.until_event("ENQUEUED", secured.root.enqueue(user))
    secured.tokens.write()
    known(secured, newer)
    watch.until_event("ENQUEUED", secured.root.enqueue(user))
    watch.close()


def test_a_file_that_is_gone_changes_nothing(secured, control):
    size = secured.server.log_size()
    secured.tokens.path.unlink()
    reach(lambda: str(secured.tokens.path) in secured.server.log(size), REVOCATION_S, "a line in the log")
    assert code(secured.root) is OK
    newer = secured.tokens.add(unique("newer"), READ)
    secured.tokens.write()
    known(secured, newer)


def test_the_last_token(cluster):
    """An empty list is a good file: it revokes everything."""
    with Secured(cluster) as secured:
        watch = secured.root.watch(queue="default")
        move_over(secured.tokens.path, b"tokens: []\n")
        assert_ends(watch, time.monotonic())
        assert_refused(secured, secured.root, secured.root_token)


# JWTs


@pytest.mark.parametrize("kid", Issuer.ALGORITHMS)
def test_a_watch_ends_with_its_JWT(secured, control, kid):
    """At its `exp`, although a new call is let in for the leeway."""
    user = unique("ada")
    moment, ends = seconds_from_now(3)
    token = secured.issuer.token(user, READ, kid=kid, exp=int(moment.timestamp()))
    caller = secured.somebody(token, is_new=True)
    watch = caller.watch(user_id=user)
    assert_ends(watch, ends)
    assert code(caller) is OK, "within the leeway"


def test_without_leeway(cluster):
    with Secured(cluster, arguments=["--auth-jwt-leeway", "0s"]) as secured:
        user = unique("ada")
        moment, ends = seconds_from_now(2)
        token = secured.issuer.token(user, READ, exp=int(moment.timestamp()))
        caller = secured.somebody(token, is_new=True)
        assert_ends(caller.watch(user_id=user), ends)
        assert_refused(secured, caller, token)


def test_another_claim_for_users(cluster):
    with Secured(cluster, arguments=["--auth-jwt-users-claim", "https://example.com/users"]) as secured:
        token = secured.issuer.token("service", READ, users="*", **{"https://example.com/users": ["ada"]})
        caller = secured.somebody(token)
        caller.watch(user_id="ada").close()
        with pytest.raises(grpc.RpcError) as error:
            caller.watch(user_id="bob")
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_keys_of_a_file(cluster):
    """A key that is added, one that is withdrawn, a file that is wrong or gone."""
    with Secured(cluster) as secured:
        user, issuer = unique("ada"), secured.issuer
        old = secured.somebody(issuer.token(user, READ, kid="RS256"), is_new=True)
        other = secured.somebody(issuer.token(user, READ, kid="ES256"), is_new=True)
        watches = [caller.watch(user_id=user) for caller in (old, other)]

        issuer.new_key("next")
        new_token = issuer.token(user, READ, kid="next")
        new = secured.somebody(new_token, is_new=True)
        assert code(new) is UNAUTHENTICATED
        secured.write_keys(issuer.key_set())
        secured.wait_until_known(new)
        watches.append(new.watch(user_id=user))

        for wrong in (b"", b"{", b'{"keys": {}}', b"[]", None):
            size = secured.server.log_size()
            if wrong is None:
                secured.key_file.unlink()
            else:
                move_over(secured.key_file, wrong)
            named = str(secured.key_file)
            # What is wrong in the same way is said once.
            if wrong in (b"", None):
                reach(lambda size=size: named in secured.server.log(size), REVOCATION_S, "a line in the log")
            assert [code(caller) for caller in (old, other, new)] == [OK] * 3

        withdrawn = secured.write_keys(issuer.key_set("ES256", "next"))
        assert_ends(watches[0], withdrawn)
        assert code(old) is UNAUTHENTICATED
        assert code(secured.somebody(issuer.token(user, READ, kid="RS256"), is_new=True)) is UNAUTHENTICATED
        job = secured.root.enqueue(user)
        for watch in watches[1:]:
            watch.until_event("ENQUEUED", job)

        # Another key under a name that was there before.
        issuer.new_key("next")
        replaced = secured.write_keys(issuer.key_set("ES256", "next"))
        assert_ends(watches[2], replaced)
        assert_refused(secured, new, new_token)
        assert code(secured.somebody(issuer.token(user, READ, kid="next"))) is OK

        # None at all: the last one is withdrawn.
        emptied = secured.write_keys({"keys": []})
        assert_ends(watches[1], emptied)
        assert code(secured.root) is OK, "tokens are as good as before"


def test_keys_that_cannot_be_used_are_left_out(cluster):
    """A private key, one for encryption, short ones: tokens signed with them are no good, the others are."""
    issuer = Issuer()
    with Secured(cluster, issuer=issuer) as secured:
        issuer.new_key("private", "EdDSA")
        issuer.new_key("encryption")
        keys = issuer.key_set()
        by_id = {key["kid"]: key for key in keys["keys"]}
        by_id["private"] |= jwt.algorithms.OKPAlgorithm.to_jwk(issuer.keys["private"], as_dict=True)
        by_id["encryption"]["use"] = "enc"
        shared = "a secret that issuer and service share"
        encoded = base64.urlsafe_b64encode(shared.encode()).rstrip(b"=").decode()
        secret = {"kty": "oct", "k": encoded, "kid": "shared", "alg": "HS256"}
        size = secured.server.log_size()
        secured.write_keys({"keys": [secret, *keys["keys"]]})
        reach(lambda: "keys[0]" in secured.server.log(size), REVOCATION_S, "a line in the log")
        found = {kid: code(secured.somebody(issuer.token("s", READ, kid=kid))) for kid in issuer.keys}
        bad = {"private", "encryption"}
        assert found == {kid: UNAUTHENTICATED if kid in bad else OK for kid in found}
        hmac = jwt.encode(
            issuer.claims("s", READ), shared, algorithm="HS256", headers={"kid": "shared"}
        )
        assert code(secured.somebody(hmac)) is UNAUTHENTICATED


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def address(issuer: Issuer) -> Iterator[KeyAddress]:
    yield from closing(KeyAddress(json.dumps(issuer.key_set()).encode()))


def stranger(issuer: Issuer, secured: Secured) -> Somebody:
    """With a token whose key nobody has heard of."""
    return secured.somebody(issuer.token("s", *SCOPES, headers={"kid": unique("kid")}))


def test_keys_of_an_address(cluster, issuer, address):
    """They are fetched once for many tokens."""
    with Secured(cluster, issuer=issuer, keys=address.url) as secured:
        tokens = [issuer.token("ada", READ, kid=kid, n=n) for n in range(20) for kid in issuer.ALGORITHMS]
        with ThreadPoolExecutor(8) as pool:
            codes = set(pool.map(lambda token: code(secured.somebody(token)), tokens))
        assert codes == {OK}
        assert len(address.requests) == 1
        # Among others that cost nothing: those that are no JWTs, or name no key.
        for bad in ("a.b.c", "sbx_unknown", issuer.token("s", READ, headers={"kid": None})):
            assert code(secured.somebody(bad)) is UNAUTHENTICATED
        assert len(address.requests) == 1


def test_an_address_that_is_down_at_the_start(cluster, issuer, address):
    """The server starts; who comes with a JWT is asked to come again, all others are served."""
    address.stop()
    with Secured(cluster, issuer=issuer, keys=address.url) as secured:
        caller = secured.somebody(issuer.token("ada", READ))
        assert code(caller) is UNAVAILABLE
        assert code(secured.root) is OK
        assert secured.root.health.Check(health_pb2.HealthCheckRequest(), timeout=CALL_S).status == 1


def test_a_redirection_is_not_followed(cluster, issuer, address):
    other = KeyAddress(address.body)
    try:
        address.status, address.headers = 302, {"location": other.url}
        with Secured(cluster, issuer=issuer, keys=address.url) as secured:
            assert code(secured.somebody(issuer.token("ada", READ))) is UNAVAILABLE
            assert address.requests and not other.requests
    finally:
        other.close()


def test_a_fetch_that_hangs_holds_up_nobody(cluster, issuer, address):
    """But those who need its keys; and those no longer than they have time, and not for ever."""
    address.answers.clear()
    with Secured(cluster, issuer=issuer, keys=address.url) as secured:
        waiting = secured.somebody(issuer.token("ada", READ))
        with ThreadPoolExecutor(1) as pool:
            began = time.monotonic()
            call = pool.submit(code, waiting)
            assert address.was_asked(1, CALL_S)
            for _ in range(20):
                assert code(secured.root) is OK
            with pytest.raises(grpc.RpcError) as error:
                waiting.call(REFLECT, LIST_SERVICES, timeout=0.5)
            assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert call.result(CALL_S) is UNAVAILABLE
            assert time.monotonic() - began < 10, "longer than anything may take"


@pytest.mark.long
def test_rotation_at_an_address(cluster, issuer, address):
    """Unknown keys are looked up, but seldom; while there are no new keys the last good ones hold."""
    with Secured(cluster, issuer=issuer, keys=address.url) as secured:
        user = unique("ada")
        first = secured.somebody(issuer.token(user, READ, kid="ES256"), is_new=True)
        assert code(first) is OK
        old_watch = first.watch(timeout=WATCH_S, user_id=user)

        # Invented keys: each call is refused, or told to come again, and the issuer has its peace.
        began = time.monotonic()
        for _ in range(100):
            assert code(stranger(issuer, secured)) in {UNAUTHENTICATED, UNAVAILABLE}
        assert len(address.requests) <= 2 + (time.monotonic() - began) / FETCH_PAUSE_S
        # One that was looked up is nobody's.
        nobody = stranger(issuer, secured)
        reach(lambda: code(nobody) is UNAUTHENTICATED, FETCH_PAUSE_S + REVOCATION_S, "a key that was looked up")

        # A key that is new is good as soon as it may be looked up, without anybody's doing.
        issuer.new_key("next")
        address.publish(issuer.key_set())
        second = secured.somebody(issuer.token(user, READ, kid="next"), is_new=True)
        reach(lambda: code(second) is OK, FETCH_PAUSE_S + REVOCATION_S, "the new key")
        new_watch = second.watch(timeout=WATCH_S, user_id=user)

        # The address is down, in several ways.
        def fetched() -> None:
            """Until it was looked at once more."""
            count = len(address.requests)
            reach(
                lambda: code(stranger(issuer, secured)) and len(address.requests) > count,
                FETCH_PAUSE_S + REVOCATION_S,
                "another fetch",
            )

        for status, body in ((500, address.body), (200, b"<html>"), (200, b'{"keys": 1}')):
            address.status, address.body = status, body
            fetched()
            assert [code(first), code(second)] == [OK, OK]
            assert code(stranger(issuer, secured)) is UNAVAILABLE, "it could not be looked up"
        address.stop()
        reach(
            lambda: code(stranger(issuer, secured)) is UNAVAILABLE, FETCH_PAUSE_S + REVOCATION_S, "a failure"
        )
        assert [code(first), code(second)] == [OK, OK]

        # Up again, with one key less.
        address.publish(issuer.key_set("next"))
        address.start()
        count = len(address.requests)
        reach(
            lambda: code(stranger(issuer, secured)) and len(address.requests) > count,
            FETCH_PAUSE_S + REVOCATION_S,
            "another fetch",
        )
        assert_ends(old_watch, address.requests[-1])
        assert code(first) is UNAUTHENTICATED
        assert code(second) is OK
        new_watch.until_event("ENQUEUED", secured.root.enqueue(user))
        new_watch.close()

        pauses = [after - before for before, after in zip(address.requests, address.requests[1:])]
        assert len(pauses) >= 5
        assert min(pauses) >= FETCH_PAUSE_S - CLOCK_S


# Certificates

RULES = """\
auth:
  certificates:
    - san: dns:ada
      scopes: [jobs.read]
    - san: dns:root
      scopes: [jobs.enqueue, jobs.read, jobs.cancel, admin]
      users: all
"""


def test_a_watch_ends_with_its_certificate(cluster):
    """A connection may outlive it; its calls do not."""
    authority = Authority()
    try:
        with Secured(cluster, authority=authority, rules=RULES) as secured:
            lasting = secured.somebody(certificate=authority.issue("dns:root"))
            moment, ends = seconds_from_now(4)
            ada = secured.somebody(certificate=authority.issue("dns:ada", ends=moment))
            watch, other = ada.watch(user_id="ada"), lasting.watch(user_id="ada")
            assert_ends(watch, ends)
            # The same connection: a new one would not be had with this certificate.
            with pytest.raises(grpc.RpcError) as error:
                ada.jobs.ListJobs(job_service_pb2.ListJobsRequest(), timeout=CALL_S)
            assert error.value.code() is UNAUTHENTICATED
            other.until_event("ENQUEUED", lasting.enqueue("ada"))
            other.close()
    finally:
        authority.close()
