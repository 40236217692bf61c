"""Who may do what: every method, with every kind of credential, on every kind of object.

What is expected is computed from the few rules below (`expected`), and that function is tested itself, by
cases that are written out.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import jwt
import pytest
from access import (
    ADMIN,
    CANCEL,
    ENQUEUE,
    ISSUER,
    LATER,
    LIST_SERVICES,
    READ,
    REFLECT,
    SCOPES,
    Issuer,
    Secured,
    Somebody,
    missing,
    new_token,
)
from authority import Authority, Pair
from cryptography.hazmat.primitives import serialization
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from harness import Cluster, unique
from signalbox.v1 import admin_service_pb2 as admin
from signalbox.v1 import info_service_pb2 as info
from signalbox.v1 import job_pb2
from signalbox.v1 import job_service_pb2 as jobs

OK = grpc.StatusCode.OK
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
PERMISSION_DENIED = grpc.StatusCode.PERMISSION_DENIED
NOT_FOUND = grpc.StatusCode.NOT_FOUND

#: What a method asks for that is no scope.
NOTHING, CREDENTIALS = "nothing", "credentials"

JOBS, ADMINISTRATION = "/signalbox.v1.JobService/", "/signalbox.v1.AdminService/"
INFO = "/signalbox.v1.InfoService/"

#: Every method that there is. A new one has to be added here, or `test_every_method_has_a_rule` fails.
RULES = {
    JOBS + "Enqueue": ENQUEUE,
    JOBS + "EnqueueBatch": ENQUEUE,
    JOBS + "GetJob": READ,
    JOBS + "ListJobs": READ,
    JOBS + "ListAttempts": READ,
    JOBS + "ListLogLines": READ,
    JOBS + "Watch": READ,
    JOBS + "Cancel": CANCEL,
    JOBS + "Retry": ENQUEUE,
    ADMINISTRATION + "GetQueue": ADMIN,
    ADMINISTRATION + "ListQueues": ADMIN,
    ADMINISTRATION + "ListNodes": ADMIN,
    ADMINISTRATION + "PauseQueue": ADMIN,
    ADMINISTRATION + "ResumeQueue": ADMIN,
    ADMINISTRATION + "UpdateUserLimit": ADMIN,
    ADMINISTRATION + "GetUserLimit": ADMIN,
    ADMINISTRATION + "ListUserLimits": ADMIN,
    INFO + "GetServerInfo": CREDENTIALS,
    "/grpc.health.v1.Health/Check": NOTHING,
    "/grpc.health.v1.Health/Watch": NOTHING,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": CREDENTIALS,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": CREDENTIALS,
}

#: Answered under this older name too, which is not listed.
UNLISTED = {"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"}

ADA, BOB, ZOE = "ada", "bob", "zoë"
#: Jobs go to the first one, which is paused: what is retried does not run. Administrators have the others.
QUEUE, OTHER_QUEUE, THIRD_QUEUE = "matrix", "matrix/other", "matrix/third"


# Who


@dataclass(frozen=True)
class Identity:
    name: str
    #: None: it is nobody, whatever it says.
    scopes: frozenset[str] | None
    #: None: all.
    users: frozenset[str] | None = None
    authorization: str | None = None
    certificate: Pair | None = None

    def acts_for(self, user: str) -> bool:
        return self.users is None or user in self.users


def somebody(name: str, authorization: str, scopes: set[str], users: set[str] | None) -> Identity:
    return Identity(name, frozenset(scopes), None if users is None else frozenset(users), authorization)


def nobodies(secured: Secured) -> Iterator[Identity]:
    """Those without credentials, or with bad ones."""
    good = secured.root_token
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    expired = secured.tokens.add("expired", *SCOPES, users="all", expires=past)
    removed = secured.tokens.add("removed", *SCOPES, users="all")
    secured.tokens.remove(removed)
    headers = {
        "no header": None,
        "empty header": "",
        "no token": "Bearer",
        "another scheme": f"Basic {base64.b64encode(f'root:{good}'.encode()).decode()}",
        "an unknown scheme": f"Token {good}",
        "no scheme": good,
        "a colon": f"Bearer: {good}",
        "two tokens": f"Bearer {good} {good}",
        "two tokens with a comma": f"Bearer {good}, Bearer {good}",
        "a quoted token": f'Bearer "{good}"',
        "an unknown token": f"Bearer {new_token()}",
        "another case": f"Bearer {good.swapcase()}",
        "the beginning of a token": f"Bearer {good[:-1]}",
        "more than a token": f"Bearer {good}A",
        "the hash of a token": f"Bearer {hashlib.sha256(good.encode()).hexdigest()}",
        "a token of 7 KB": f"Bearer sbx_{'A' * 7_000}",
        "an expired token": f"Bearer {expired}",
        "a removed token": f"Bearer {removed}",
    }
    for name, authorization in headers.items():
        yield Identity(name, None, authorization=authorization)
    for name, token in bad_tokens(secured.issuer).items():
        yield Identity(f"JWT: {name}", None, authorization=f"Bearer {token}")


def bad_tokens(issuer: Issuer) -> dict[str, str]:
    """JWTs that would allow all, were they good."""
    now = int(time.time())
    everything = issuer.claims("root", *SCOPES, signalbox_users="*")

    def made(**changes) -> str:
        return issuer.token("root", *SCOPES, users="*", **changes)

    def parts(token: str) -> list[str]:
        return token.split(".")

    def encoded(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    def shared_secret(kid: str, form: serialization.Encoding) -> str:
        """Signed with HMAC, and the public key taken for its secret."""
        secret = issuer.keys[kid].public_key().public_bytes(
            form, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        text = f"{encoded({'alg': 'HS256', 'kid': kid, 'typ': 'JWT'})}.{encoded(everything)}"
        mac = hmac.digest(secret, text.encode(), "sha256")
        return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    stranger = Issuer()
    limited = issuer.token("root", READ, users=[])
    good = made()
    return {
        "expired": made(exp=now - 120),
        "not valid yet": made(nbf=now + 3_600),
        "no end": made(exp=None),
        "an end that is text": made(exp=str(now + 300)),
        "another issuer": made(iss=ISSUER + "x"),
        "no issuer": made(iss=None),
        "another audience": made(aud="another"),
        "a list of other audiences": made(aud=["another", "signalbox2"]),
        "no audience": made(aud=None),
        "no subject": issuer.token(None, *SCOPES, users="*"),
        "an empty subject": issuer.token("", *SCOPES, users="*"),
        "users that are one text": issuer.token("root", *SCOPES, users="ada"),
        "users that are numbers": issuer.token("root", *SCOPES, users=[1]),
        "another issuer's key": stranger.token("root", *SCOPES, users="*"),
        "an unknown key": made(headers={"kid": "unknown"}),
        "no key's name, of several": made(headers={"kid": None}),
        "another key's name": jwt.encode(
            everything, issuer.keys["ES256"], algorithm="ES256", headers={"kid": "RS256"}
        ),
        "another algorithm": jwt.encode(
            everything, issuer.keys["RS256"], algorithm="RS384", headers={"kid": "RS256"}
        ),
        "RSA with other padding": jwt.encode(
            everything, issuer.keys["RS256"], algorithm="PS256", headers={"kid": "RS256"}
        ),
        "no algorithm": jwt.encode(everything, None, algorithm="none", headers={"kid": "ES256"}),
        "a shared secret (PEM)": shared_secret("RS256", serialization.Encoding.PEM),
        "a shared secret (DER)": shared_secret("ES256", serialization.Encoding.DER),
        "a key that it brings along": jwt.encode(
            everything,
            stranger.keys["ES256"],
            algorithm="ES256",
            headers={"kid": "ES256", "jwk": stranger.key_set("ES256")["keys"][0]},
        ),
        "critical extensions": made(headers={"crit": ["exp"]}),
        "no signature": good.rpartition(".")[0] + ".",
        "another's signature": ".".join([*parts(good)[:2], parts(limited)[2]]),
        "another's claims": ".".join([parts(limited)[0], parts(good)[1], parts(limited)[2]]),
        "four parts": good + ".e30",
    }


def somebodies(secured: Secured) -> Iterator[Identity]:
    """Those with good tokens, and JWTs that say the same."""
    everything = set(SCOPES)

    def token(what: str, name: str, scopes: set[str], given: str | list[str] | None, users) -> Identity:
        added = secured.tokens.add(name, *sorted(scopes), users=given)
        return somebody(f"token: {what}", f"Bearer {added}", scopes, users)

    for scope in SCOPES:
        yield token(f"only {scope}", "one", {scope}, "all", None)
        yield token(f"all but {scope}", "three", everything - {scope}, "all", None)
    yield token("everything", "everything", everything, "all", None)
    yield token("itself", ADA, everything, None, {ADA})
    yield token("itself, who is bob", BOB, everything, None, {BOB})
    yield token("one user", "service", everything, [ADA], {ADA})
    yield token("two users", "service", everything, [ADA, BOB], {ADA, BOB})
    yield token("no user", ADA, everything, [], set())
    yield token("a user called all", "service", everything, ["all"], {"all"})
    yield token("a user with another case", "service", everything, ["ADA"], {"ADA"})
    yield token("itself, an administrator", ADA, {ADMIN}, None, {ADA})
    yield token("a reader of one user", "reader", {READ}, [BOB], {BOB})

    good = secured.root_token
    yield somebody("a scheme in lower case", f"bearer {good}", everything, None)
    yield somebody("a scheme in upper case", f"BEARER  {good}", everything, None)

    issuer = secured.issuer

    def web(what: str, scopes: set[str], users: set[str] | None, text: str) -> Identity:
        return somebody(f"JWT: {what}", f"Bearer {text}", scopes, users)

    for kid in issuer.ALGORITHMS:
        yield web(f"{kid}, everything", everything, None, issuer.token("root", *SCOPES, users="*", kid=kid))
        yield web(f"{kid}, itself", everything, {ADA}, issuer.token(ADA, *SCOPES, kid=kid))
        listed = issuer.token("s", READ, CANCEL, users=[BOB], kid=kid)
        yield web(f"{kid}, a list", {READ, CANCEL}, {BOB}, listed)
    for scope in SCOPES:
        yield web(f"only {scope}", {scope}, None, issuer.token("one", scope, users="*"))
    yield web("no scope", set(), None, issuer.token("none", users="*", scope=None))
    yield web("others' scopes", set(), None, issuer.token("none", "openid", "jobs", "ADMIN", users="*"))
    yield web("a list of scopes", {READ}, None, issuer.token("s", users="*", scope=[READ, "openid"]))
    yield web("scp", {ENQUEUE}, None, issuer.token("s", users="*", scope=None, scp=[ENQUEUE]))
    yield web("no users", everything, set(), issuer.token(ADA, *SCOPES, users=[]))
    yield web("several audiences", {READ}, None, issuer.token("s", READ, users="*", aud=["x", "signalbox"]))
    now = int(time.time())
    yield web("within the leeway", everything, None, issuer.token("s", *SCOPES, users="*", nbf=now + 5))
    yield web("an end far away", everything, None, issuer.token("s", *SCOPES, users="*", exp=1e300))
    yield web("an end within a second", {READ}, None, issuer.token("s", READ, users="*", exp=now + 300.5))


#: For the certificates below.
CERTIFICATE_RULES = """\
auth:
  certificates:
    - san: dns:importer.example.com
      name: importer
      scopes: [jobs.enqueue, jobs.read, jobs.cancel, admin]
      users: all
    - san: uri:spiffe://example.org/ns/prod/sa/*
      scopes: [jobs.read]
      users: [ada, bob]
    - san: email:ada@example.com
      name: ada
      scopes: [jobs.enqueue, jobs.read, jobs.cancel, admin]
    - san: dns:bob
      scopes: [jobs.read, admin]
"""


def certified(secured: Secured) -> Iterator[Identity]:
    """Those who show a certificate."""
    authority = secured.authority
    assert authority is not None
    everything = frozenset(SCOPES)

    def shown(what: str, scopes, users, *names: str, authorization: str | None = None, **options) -> Identity:
        pair = authority.issue(*names, **options)
        return Identity(f"certificate: {what}", scopes, users, authorization, pair)

    bob = frozenset({BOB})
    yield shown("dns", everything, None, "dns:importer.example.com")
    yield shown("dns in another case", everything, None, "dns:IMPORTER.example.com")
    yield shown("uri", frozenset({READ}), frozenset({ADA, BOB}), "uri:spiffe://example.org/ns/prod/sa/x")
    yield shown("email", everything, frozenset({ADA}), "email:ada@example.com")
    yield shown("its own name", frozenset({READ, ADMIN}), bob, "dns:bob")
    yield shown("the second name is known", frozenset({READ, ADMIN}), bob, "dns:unknown", "dns:bob")
    # Nobody:
    yield shown("an unknown name", None, None, "dns:exporter.example.com")
    yield shown("no name but the subject's", None, None, common_name="importer.example.com")
    yield shown("a name below", None, None, "dns:x.importer.example.com")
    yield shown("the same as a URI", None, None, "uri:dns:importer.example.com")
    yield shown("a longer path", None, None, "uri:spiffe://example.org/ns/prod/sa/a/b")
    yield shown("a wildcard of its own", None, None, "dns:*.example.com")
    # The token counts, be it good or bad.
    reader = secured.tokens.add("reader", READ, users=[BOB])
    bearer = f"Bearer {reader}"
    name = "dns:importer.example.com"
    yield shown("and a token", frozenset({READ}), bob, name, authorization=bearer)
    yield shown("unknown, and a token", frozenset({READ}), bob, "dns:unknown", authorization=bearer)
    yield shown("and an unknown token", None, None, name, authorization=f"Bearer {new_token()}")
    yield shown("and a malformed header", None, None, name, authorization="Basic x")
    token = secured.issuer.token("s", CANCEL, users="*")
    yield shown("and a JWT", frozenset({CANCEL}), None, name, authorization=f"Bearer {token}")


# What


@dataclass(frozen=True)
class Target:
    """An object of a call."""

    name: str
    #: Makes a request; called anew for each call.
    request: Callable[[Prepared], Message | bytes]
    #: The users that the request names.
    users: tuple[str, ...] = ()
    #: Whose jobs it names; None: no such job.
    jobs: tuple[str | None, ...] = ()
    #: For whoever may.
    success: grpc.StatusCode = OK


class Prepared:
    """Makes jobs that wait, or are cancelled, many at a time."""

    def __init__(self, root: Somebody) -> None:
        self._root = root
        self._waiting: dict[str, list[str]] = {}

    def waiting(self, user: str) -> str:
        ready = self._waiting.setdefault(user, [])
        if not ready:
            batch = jobs.EnqueueBatchRequest(jobs=[spec(user) for _ in range(200)])
            ready += [job.job_id for job in self._root.jobs.EnqueueBatch(batch, timeout=20).jobs]
        return ready.pop()

    def cancelled(self, user: str) -> str:
        job = self.waiting(user)
        self._root.cancel(job)
        return job


def spec(user: str, queue: str = QUEUE) -> job_pb2.JobSpec:
    return job_pb2.JobSpec(kind="test.noop", user_id=user, queue=queue, delay=LATER)


def enqueue(user: str, queue: str = QUEUE) -> Target:
    return Target(
        f"for {user} in {queue}", lambda _: jobs.EnqueueRequest(job=spec(user, queue)), users=(user,)
    )


def batch(*users: str) -> Target:
    return Target(
        f"for {' and '.join(users)}",
        lambda _: jobs.EnqueueBatchRequest(jobs=[spec(user) for user in users]),
        users=users,
    )


def job(make: Callable[[str], Message], user: str | None, state: str = "waiting", **options) -> Target:
    """Of a user, or none."""
    return Target(
        f"{state} job of {user}",
        lambda prepared: make(missing() if user is None else getattr(prepared, state)(user)),
        jobs=(user,),
        **options,
    )


def watched(*users: str | None) -> Target:
    """A watch of jobs. One job that does not exist for the caller is an error; among others it is named in the stream."""
    return Target(
        f"jobs of {', '.join(map(str, users))}",
        lambda prepared: jobs.WatchRequest(
            jobs=[{"job_id": missing() if user is None else prepared.waiting(user)} for user in users]
        ),
        jobs=users if len(users) == 1 else (),
    )


def limit(user: str, **change: int) -> Message:
    """Without a change: removes the limit."""
    return admin.UpdateUserLimitRequest(
        limit=admin.UserLimit(user_id=user, queue=QUEUE, **change), update_mask={"paths": ["max_running"]}
    )


def list_attempts(id: str) -> Message:
    return jobs.ListAttemptsRequest(job_id=id)


def list_log_lines(id: str) -> Message:
    return jobs.ListLogLinesRequest(job_id=id)


def plain(name: str, request: Message | bytes, *users: str, success: grpc.StatusCode = OK) -> Target:
    return Target(name, lambda _: request, users=users, success=success)


def each(make: Callable[[str], Message]) -> list[Target]:
    """Of three users."""
    return [plain(f"user {user}", make(user), user) for user in (ADA, BOB, ZOE)]


def in_queues(make: type[Message]) -> list[Target]:
    return [plain(f"queue {queue}", make(queue=queue)) for queue in (OTHER_QUEUE, THIRD_QUEUE, "unknown")]


def get(id: str) -> Message:
    return jobs.GetJobRequest(job_id=id, include_payload=True)


def cancel(id: str) -> Message:
    return jobs.CancelRequest(job_id=id)


def retry(id: str) -> Message:
    return jobs.RetryRequest(job_id=id)


TARGETS: dict[str, list[Target]] = {
    JOBS + "Enqueue": [enqueue(ADA), enqueue(BOB), enqueue(ZOE), enqueue(ADA, OTHER_QUEUE)],
    JOBS + "EnqueueBatch": [batch(ADA), batch(BOB), batch(ADA, BOB), batch(ADA, ADA, ZOE)],
    JOBS + "GetJob": [*(job(get, user) for user in (ADA, BOB, ZOE, None)), job(get, BOB, "cancelled")],
    JOBS + "ListJobs": [
        plain("everything", jobs.ListJobsRequest()),
        plain("a queue", jobs.ListJobsRequest(filter={"queue": QUEUE})),
        *each(lambda user: jobs.ListJobsRequest(filter={"user_id": user}, page_size=2)),
        plain("a user in a queue", jobs.ListJobsRequest(filter={"user_id": BOB, "queue": OTHER_QUEUE}), BOB),
    ],
    JOBS + "ListAttempts": [job(list_attempts, user) for user in (ADA, BOB, ZOE, None)],
    JOBS + "ListLogLines": [job(list_log_lines, user) for user in (ADA, BOB, ZOE, None)],
    JOBS + "Watch": [
        *(watched(user) for user in (ADA, BOB, ZOE, None)),
        watched(ADA, BOB),
        watched(ADA, None),
        *each(lambda user: jobs.WatchRequest(filter={"user_id": user})),
        plain("a queue", jobs.WatchRequest(filter={"queue": QUEUE})),
        plain("an unknown queue", jobs.WatchRequest(filter={"queue": "unknown"})),
        plain("a user in a queue", jobs.WatchRequest(filter={"user_id": BOB, "queue": OTHER_QUEUE}), BOB),
    ],
    JOBS + "Cancel": [*(job(cancel, user) for user in (ADA, BOB, ZOE, None)), job(cancel, BOB, "cancelled")],
    JOBS + "Retry": [
        *(job(retry, user, "cancelled") for user in (ADA, BOB, ZOE, None)),
        # Its state is not for everybody either.
        job(retry, BOB, "waiting", success=grpc.StatusCode.FAILED_PRECONDITION),
    ],
    ADMINISTRATION + "GetQueue": [
        plain(f"queue {QUEUE}", admin.GetQueueRequest(queue=QUEUE, include_stats=True)),
        plain("an unknown queue", admin.GetQueueRequest(queue="unknown"), success=NOT_FOUND),
    ],
    ADMINISTRATION + "ListQueues": [plain("every queue", admin.ListQueuesRequest(include_stats=True))],
    ADMINISTRATION + "ListNodes": [plain("nodes", admin.ListNodesRequest())],
    ADMINISTRATION + "PauseQueue": in_queues(admin.PauseQueueRequest),
    ADMINISTRATION + "ResumeQueue": in_queues(admin.ResumeQueueRequest),
    ADMINISTRATION + "UpdateUserLimit": [
        *each(lambda user: limit(user, max_running=2)),
        plain("remove", limit(BOB), BOB),
    ],
    ADMINISTRATION + "GetUserLimit": each(lambda user: admin.GetUserLimitRequest(user_id=user, queue=QUEUE)),
    ADMINISTRATION + "ListUserLimits": [
        plain("every limit", admin.ListUserLimitsRequest()),
        *each(lambda user: admin.ListUserLimitsRequest(user_id=user)),
    ],
    INFO + "GetServerInfo": [plain("the server", info.GetServerInfoRequest())],
    "/grpc.health.v1.Health/Check": [plain("all of it", b"")],
    "/grpc.health.v1.Health/Watch": [plain("all of it", b"")],
    REFLECT: [plain("services", LIST_SERVICES)],
    REFLECT.replace("v1", "v1alpha"): [plain("services", LIST_SERVICES)],
}


# The rules


def expected(who: Identity, method: str, target: Target) -> grpc.StatusCode:
    needs = RULES[method]
    if needs == NOTHING:
        return target.success
    if who.scopes is None:
        return UNAUTHENTICATED
    if needs != CREDENTIALS and needs not in who.scopes:
        return PERMISSION_DENIED
    if not all(who.acts_for(user) for user in target.users):
        return PERMISSION_DENIED
    # Another user's job is treated as one that does not exist.
    if not all(user is not None and who.acts_for(user) for user in target.jobs):
        return NOT_FOUND
    return target.success


# The servers


class Scene:
    """Two servers with one database, and everybody: over plaintext, and over TLS with certificates."""

    def __init__(self, cluster: Cluster, authority: Authority) -> None:
        self.plain = Secured(cluster, name="plain")
        try:
            self.tls = Secured(
                cluster,
                url=self.plain.url,
                authority=authority,
                rules=CERTIFICATE_RULES,
                issuer=self.plain.issuer,
                tokens=self.plain.tokens,
                name="tls",
            )
        except BaseException:
            self.plain.close()
            raise
        self.identities = [*nobodies(self.plain), *somebodies(self.plain), *certified(self.tls)]
        last = self.plain.tokens.add("the last one", READ)
        self.plain.tokens.write()
        for secured in (self.plain, self.tls):
            certificate = self.identities[-1].certificate if secured is self.tls else None
            secured.wait_until_known(secured.somebody(last, certificate=certificate))
        self.plain.root.admin.PauseQueue(admin.PauseQueueRequest(queue=QUEUE), timeout=20)
        self.prepared = Prepared(self.plain.root)

    def as_(self, who: Identity) -> Somebody:
        secured = self.tls if who.certificate else self.plain
        return secured.somebody(authorization=who.authorization, certificate=who.certificate)

    def identity(self, name: str) -> Identity:
        return next(item for item in self.identities if item.name == name)

    def fingerprint(self) -> str:
        """Of everything in the database that a call may change."""
        names = "'job','live','finished','history','lane','queue','audit_entry','progress','checkpoint'"
        tables = self.plain.query(
            f"SELECT relname FROM pg_class WHERE relkind = 'r' AND relname IN ({names}) ORDER BY 1"
        ).split()
        rows = " UNION ALL ".join(f"SELECT '{name}' || t::text AS row FROM {name} t" for name in tables)
        return self.plain.query(f"SELECT count(*) || md5(string_agg(row, '|' ORDER BY row)) FROM ({rows}) r")

    def close(self) -> None:
        self.tls.close()
        self.plain.close()


@pytest.fixture(scope="module")
def scene(cluster: Cluster) -> Iterator[Scene]:
    authority = Authority()
    try:
        scene = Scene(cluster, authority)
        yield scene
        scene.close()
    finally:
        authority.close()


# The tests


def test_every_method_has_a_rule(scene: Scene):
    """What the server says that it has, and what is tested here, are the same."""
    database = ProtoReflectionDescriptorDatabase(scene.plain.root.channel)
    pool = DescriptorPool(database)
    found = {
        f"/{service}/{method.name}"
        for service in database.get_services()
        for method in pool.FindServiceByName(service).methods
    }
    assert found == set(RULES) - UNLISTED
    assert set(TARGETS) == set(RULES)
    assert all(TARGETS.values())


def test_everybody_is_there(scene: Scene):
    names = [who.name for who in scene.identities]
    assert len(names) == len(set(names)) > 90
    nobody = [who for who in scene.identities if who.scopes is None]
    assert len(nobody) > 50


def table(wrong: list[str]) -> str:
    return f"{len(wrong)} wrong:\n" + "\n".join(wrong[:60])


@pytest.mark.parametrize("method", RULES, ids=lambda path: path.removeprefix("/"))
def test_matrix(scene: Scene, method: str):
    calls = [
        (who, target, expected(who, method, target), target.request(scene.prepared))
        for target in TARGETS[method]
        for who in scene.identities
    ]
    is_refused = {UNAUTHENTICATED, PERMISSION_DENIED, NOT_FOUND}
    wrong = []

    def make(chosen: list) -> None:
        for who, target, wanted, request in chosen:
            code = scene.as_(who).code(method, request)
            if code is not wanted:
                wrong.append(f"{who.name}, {target.name}: {code.name}, not {wanted.name}")

    before = scene.fingerprint()
    refused = [call for call in calls if call[2] in is_refused]
    make(refused)
    assert not wrong, table(wrong)
    assert scene.fingerprint() == before, "something that was refused has happened"
    make([call for call in calls if call[2] not in is_refused])
    assert not wrong, table(wrong)
    assert len(refused) < len(calls)


#: Written out, to test `expected` as well as the server.
BY_HAND = [
    ("no header", "JobService/GetJob", "waiting job of ada", UNAUTHENTICATED),
    ("no header", "JobService/GetJob", "waiting job of None", UNAUTHENTICATED),
    ("no header", "Health/Check", "all of it", OK),
    ("an expired token", "Health/Watch", "all of it", OK),
    ("an expired token", "ServerReflectionInfo", "services", UNAUTHENTICATED),
    ("JWT: no scope", "ServerReflectionInfo", "services", OK),
    ("JWT: no scope", "JobService/ListJobs", "everything", PERMISSION_DENIED),
    ("JWT: no scope", "InfoService/GetServerInfo", "the server", OK),
    ("no header", "InfoService/GetServerInfo", "the server", UNAUTHENTICATED),
    ("an expired token", "InfoService/GetServerInfo", "the server", UNAUTHENTICATED),
    ("token: no user", "InfoService/GetServerInfo", "the server", OK),
    ("token: only jobs.read", "JobService/GetJob", "waiting job of zoë", OK),
    ("token: only jobs.read", "JobService/Cancel", "waiting job of zoë", PERMISSION_DENIED),
    ("token: only jobs.read", "JobService/Cancel", "waiting job of None", PERMISSION_DENIED),
    ("token: only jobs.enqueue", "JobService/Retry", "cancelled job of ada", OK),
    ("token: only jobs.enqueue", "JobService/Watch", "a queue", PERMISSION_DENIED),
    ("token: only jobs.cancel", "JobService/Cancel", "waiting job of ada", OK),
    ("token: only jobs.cancel", "JobService/Retry", "cancelled job of ada", PERMISSION_DENIED),
    ("token: only admin", "AdminService/PauseQueue", f"queue {OTHER_QUEUE}", OK),
    ("token: only admin", "JobService/GetJob", "waiting job of ada", PERMISSION_DENIED),
    ("token: all but admin", "AdminService/ListNodes", "nodes", PERMISSION_DENIED),
    ("token: itself", "JobService/GetJob", "waiting job of ada", OK),
    ("token: itself", "JobService/GetJob", "waiting job of bob", NOT_FOUND),
    ("token: itself", "JobService/GetJob", "waiting job of None", NOT_FOUND),
    ("token: itself", "JobService/Cancel", "waiting job of bob", NOT_FOUND),
    ("token: itself", "JobService/Retry", "cancelled job of bob", NOT_FOUND),
    ("token: itself", "JobService/Retry", "waiting job of bob", NOT_FOUND),
    ("token: itself", "JobService/Watch", "jobs of bob", NOT_FOUND),
    ("token: itself", "JobService/Watch", "jobs of ada, bob", OK),
    ("token: itself", "JobService/ListAttempts", "waiting job of ada", OK),
    ("token: itself", "JobService/ListAttempts", "waiting job of bob", NOT_FOUND),
    ("token: itself", "JobService/ListLogLines", "waiting job of bob", NOT_FOUND),
    ("token: itself", "JobService/Watch", "user ada", OK),
    ("token: itself", "JobService/Watch", "user bob", PERMISSION_DENIED),
    ("token: itself", "JobService/Watch", "a queue", OK),
    ("token: itself", "JobService/Enqueue", f"for bob in {QUEUE}", PERMISSION_DENIED),
    ("token: itself", "JobService/EnqueueBatch", "for ada and bob", PERMISSION_DENIED),
    ("token: itself", "JobService/ListJobs", "everything", OK),
    ("token: itself", "JobService/ListJobs", "user bob", PERMISSION_DENIED),
    ("token: itself", "AdminService/UpdateUserLimit", "user ada", OK),
    ("token: itself", "AdminService/UpdateUserLimit", "user bob", PERMISSION_DENIED),
    ("token: itself", "AdminService/ListUserLimits", "every limit", OK),
    ("token: itself", "AdminService/ListUserLimits", "user bob", PERMISSION_DENIED),
    ("token: itself", "AdminService/ListQueues", "every queue", OK),
    ("token: two users", "JobService/EnqueueBatch", "for ada and bob", OK),
    ("token: two users", "JobService/EnqueueBatch", "for ada and ada and zoë", PERMISSION_DENIED),
    ("token: two users", "JobService/Watch", "jobs of ada, bob", OK),
    ("token: no user", "JobService/GetJob", "waiting job of ada", NOT_FOUND),
    ("token: no user", "JobService/ListJobs", "everything", OK),
    ("token: a user called all", "JobService/ListJobs", "user ada", PERMISSION_DENIED),
    ("token: everything", "JobService/Retry", "waiting job of bob", grpc.StatusCode.FAILED_PRECONDITION),
    ("JWT: RS256, a list", "JobService/Cancel", "waiting job of bob", OK),
    ("JWT: ES256, a list", "JobService/Cancel", "waiting job of ada", NOT_FOUND),
    ("JWT: EdDSA, a list", "JobService/Enqueue", f"for bob in {QUEUE}", PERMISSION_DENIED),
    ("JWT: no algorithm", "JobService/GetJob", "waiting job of ada", UNAUTHENTICATED),
    ("certificate: dns", "AdminService/ResumeQueue", f"queue {OTHER_QUEUE}", OK),
    ("certificate: uri", "JobService/Watch", "jobs of ada, bob", OK),
    ("certificate: uri", "JobService/Enqueue", f"for ada in {QUEUE}", PERMISSION_DENIED),
    ("certificate: email", "JobService/Watch", "user bob", PERMISSION_DENIED),
    ("certificate: an unknown name", "JobService/ListJobs", "everything", UNAUTHENTICATED),
    ("certificate: an unknown name", "Health/Check", "all of it", OK),
    ("certificate: and a token", "JobService/GetJob", "waiting job of ada", NOT_FOUND),
    ("certificate: and an unknown token", "JobService/GetJob", "waiting job of ada", UNAUTHENTICATED),
]


@pytest.mark.parametrize(
    ("name", "method", "what", "code"),
    BY_HAND,
    ids=[f"{name}; {method}, {what}: {code.name}" for name, method, what, code in BY_HAND],
)
def test_by_hand(scene: Scene, name: str, method: str, what: str, code: grpc.StatusCode):
    who = scene.identity(name)
    path = next(path for path in RULES if path.endswith(method))
    target = next(target for target in TARGETS[path] if target.name == what)
    assert expected(who, path, target) is code
    assert scene.as_(who).code(path, target.request(scene.prepared)) is code


# In which order things are looked at


@pytest.mark.parametrize("method", [path for path, rule in RULES.items() if rule in SCOPES])
def test_credentials_are_looked_at_before_the_request(scene: Scene, method: str):
    """Nobody learns from an error what a request has to look like, or whether it was read at all."""
    malformed = b"\xff\xff\xff"
    assert scene.as_(scene.identity("no header")).code(method, malformed) is UNAUTHENTICATED
    assert scene.as_(scene.identity("JWT: no scope")).code(method, malformed) is PERMISSION_DENIED
    everything = scene.as_(scene.identity("token: everything"))
    assert everything.code(method, malformed) is grpc.StatusCode.INVALID_ARGUMENT


def test_an_unknown_method(scene: Scene):
    for path in (JOBS + "Unknown", "/signalbox.v1.UnknownService/Call"):
        assert scene.plain.root.code(path) is grpc.StatusCode.UNIMPLEMENTED
        assert scene.plain.somebody().code(path) in {grpc.StatusCode.UNIMPLEMENTED, UNAUTHENTICATED}


def test_one_connection_for_everybody(scene: Scene):
    """What one call was let in with is nothing for the next one, whatever comes before it."""
    own = scene.prepared.waiting(ADA)
    for _ in range(3):
        for name, code in (
            ("token: everything", OK),
            ("no header", UNAUTHENTICATED),
            ("token: itself", OK),
            ("token: itself, who is bob", NOT_FOUND),
            ("an unknown token", UNAUTHENTICATED),
            ("token: only admin", PERMISSION_DENIED),
            ("JWT: RS256, itself", OK),
            ("JWT: expired", UNAUTHENTICATED),
        ):
            assert scene.as_(scene.identity(name)).code(JOBS + "GetJob", get(own)) is code, name


def test_errors_say_what_is_wrong(scene: Scene):
    """For people; and nothing of the credential."""
    for who in scene.identities:
        if who.scopes is not None:
            continue
        with pytest.raises(grpc.RpcError) as error:
            scene.as_(who).call(JOBS + "ListJobs", b"")
        text = error.value.details()
        assert text, who.name
        for part in (who.authorization or "").removeprefix("Bearer ").replace(",", " ").split():
            assert len(part) < 12 or part not in text, who.name
    with pytest.raises(grpc.RpcError, match="jobs.cancel"):
        scene.as_(scene.identity("token: only jobs.read")).cancel(missing())


def test_call_credentials_of_a_stack(scene: Scene):
    """Those of gRPC itself, which insist on TLS: the header as a stack writes it."""
    pair = scene.identity("certificate: an unknown name").certificate
    assert pair is not None and scene.tls.authority is not None
    channel = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(
            scene.tls.authority.path.read_bytes(), pair.key.read_bytes(), pair.certificate.read_bytes()
        ),
        grpc.access_token_call_credentials(scene.plain.root_token),
    )
    with grpc.secure_channel(scene.tls.address, channel) as secure:
        user = unique()
        job = Somebody(secure).enqueue(user)
        assert scene.plain.root.get(job).user_id == user
