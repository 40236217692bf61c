"""What the tests of authentication share: tokens, an issuer of JWTs, and a server that asks who calls."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import secrets
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import jwt
from authority import LOOPBACK, Authority, Pair, move_over
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2_grpc
from harness import Cluster, Server
from signalbox.v1 import admin_service_pb2_grpc, job_pb2, job_service_pb2, job_service_pb2_grpc

ENQUEUE, READ, CANCEL, ADMIN = SCOPES = ("jobs.enqueue", "jobs.read", "jobs.cancel", "admin")

ISSUER = "https://login.example.com/"
AUDIENCE = "signalbox"

#: What a call may take: reaching it is a failure.
CALL_S = 20.0

#: How soon a change of a file counts, and how soon a watch ends whose caller may call no longer.
REVOCATION_S = 5.0

#: Such a job waits for as long as any test takes.
LATER = {"seconds": 3_600}


# Waiting


def reach(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Asks again and again, for what another process does and nobody tells of. Gives the seconds it took."""
    began = time.monotonic()
    nobody_sets_it = threading.Event()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        nobody_sets_it.wait(0.02)
    return time.monotonic() - began


# Credentials


def new_token() -> str:
    return "sbx_" + secrets.token_urlsafe(32)


class TokenFile:
    """The file of tokens as docs/authentication.md has it. Changes count once they are written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: dict[str, str] = {}

    def add(
        self,
        name: str,
        *scopes: str,
        users: str | Sequence[str] | None = None,
        expires: datetime.datetime | None = None,
        token: str | None = None,
    ) -> str:
        """A new token, or another entry for one that is there. `users`: "all", a list; none: itself."""
        token = token or new_token()
        lines = [
            f"  - name: {json.dumps(name)}",
            f"    hash: sha256:{hashlib.sha256(token.encode()).hexdigest()}",
            f"    scopes: [{', '.join(scopes)}]",
        ]
        if users is not None:
            lines.append(f"    users: {users if isinstance(users, str) else json.dumps(list(users))}")
        if expires is not None:
            lines.append(f"    expires: {expires:%Y-%m-%dT%H:%M:%SZ}")
        self._entries[token] = "\n".join(lines)
        return token

    def remove(self, token: str) -> None:
        del self._entries[token]

    def text(self) -> str:
        return "\n".join(["tokens:", *self._entries.values()] if self._entries else ["tokens: []"]) + "\n"

    def write(self) -> float:
        """Moves it over the old one, and gives the moment before."""
        before = time.monotonic()
        move_over(self.path, self.text().encode())
        return before


class Issuer:
    """Makes JWTs, with a key of each kind that there is."""

    ALGORITHMS = ("RS256", "ES256", "EdDSA")

    def __init__(self) -> None:
        #: By their `kid`.
        self.keys: dict[str, Any] = {}
        for algorithm in self.ALGORITHMS:
            self.new_key(algorithm, algorithm)

    def new_key(self, kid: str, algorithm: str = "ES256") -> str:
        match algorithm:
            case "RS256":
                key: Any = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
            case "ES256":
                key = ec.generate_private_key(ec.SECP256R1())
            case _:
                key = ed25519.Ed25519PrivateKey.generate()
        self.keys[kid] = key
        return kid

    @staticmethod
    def algorithm_of(key: Any) -> str:
        if isinstance(key, rsa.RSAPrivateKey):
            return "RS256"
        return "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else "EdDSA"

    def key_set(self, *kids: str) -> dict[str, Any]:
        """The public keys, by default all."""
        keys = []
        for kid in kids or self.keys:
            key = self.keys[kid]
            algorithm = self.algorithm_of(key)
            known = jwt.get_algorithm_by_name(algorithm)
            entry = known.to_jwk(key.public_key(), as_dict=True)
            entry.pop("key_ops", None)
            keys.append({**entry, "kid": kid, "alg": algorithm, "use": "sig"})
        return {"keys": keys}

    def claims(self, sub: str | None, *scopes: str, **more: Any) -> dict[str, Any]:
        """Those of a good token for five minutes; None leaves a claim out."""
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": sub,
            "exp": math.ceil(time.time()) + 300,
            "scope": " ".join(scopes),
            **more,
        }
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self,
        sub: str | None,
        *scopes: str,
        kid: str = "ES256",
        headers: dict[str, Any] | None = None,
        **more: Any,
    ) -> str:
        """`users` is short for the claim; None in `headers` leaves one out."""
        if "users" in more:
            more["signalbox_users"] = more.pop("users")
        fields = {"kid": kid, **(headers or {})}
        return jwt.encode(
            self.claims(sub, *scopes, **more),
            self.keys[kid],
            algorithm=self.algorithm_of(self.keys[kid]),
            headers={name: value for name, value in fields.items() if value is not None},
        )


class KeyAddress:
    """An HTTP server on the loopback with a key set, that counts who asks for it, and can be down."""

    def __init__(self, body: bytes) -> None:
        self.status = 200
        self.body = body
        self.headers: dict[str, str] = {}
        #: When each request came.
        self.requests: list[float] = []
        #: Cleared: it does not answer.
        self.answers = threading.Event()
        self.answers.set()
        self._changed = threading.Condition()
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.start()
        self.url = f"http://127.0.0.1:{self._port}/keys"

    def start(self) -> None:
        address = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with address._changed:
                    address.requests.append(time.monotonic())
                    address._changed.notify_all()
                address.answers.wait(CALL_S)
                try:
                    self.send_response(address.status)
                    for field in {"content-length": str(len(address.body)), **address.headers}.items():
                        self.send_header(*field)
                    self.end_headers()
                    self.wfile.write(address.body)
                except OSError:
                    pass  # It was given up.

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Nothing listens there any more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def publish(self, keys: dict[str, Any]) -> None:
        self.status, self.body, self.headers = 200, json.dumps(keys).encode(), {}

    def was_asked(self, times: int, seconds: float) -> bool:
        """Waits until there have been so many requests."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.requests) >= times, seconds)

    def close(self) -> None:
        self.answers.set()
        self.stop()


# Calls


class _Adding(
    grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor, grpc.StreamStreamClientInterceptor
):
    """Adds metadata to each call."""

    def __init__(self, metadata: Sequence[tuple[str, str]]) -> None:
        self._metadata = tuple(metadata)

    def _add(self, proceed: Any, details: Any, request: Any) -> Any:
        metadata = (*(details.metadata or ()), *self._metadata)
        return proceed(details._replace(metadata=metadata), request)

    intercept_unary_unary = intercept_unary_stream = intercept_stream_stream = _add


class Somebody:
    """The stubs on a channel, with credentials in each call."""

    def __init__(self, channel: grpc.Channel, authorization: str | None = None) -> None:
        metadata = [] if authorization is None else [("authorization", authorization)]
        self.channel = grpc.intercept_channel(channel, _Adding(metadata))
        self.jobs = job_service_pb2_grpc.JobServiceStub(self.channel)
        self.admin = admin_service_pb2_grpc.AdminServiceStub(self.channel)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def call(self, path: str, request: Message | bytes, *, timeout: float = CALL_S) -> bytes:
        """Any method: its first message. A stream is given up after that."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        if path.endswith("ServerReflectionInfo"):
            stream = self.channel.stream_stream(path)(iter([data]), timeout=timeout)
        elif path.endswith("/Watch"):
            stream = self.channel.unary_stream(path)(data, timeout=timeout)
        else:
            return self.channel.unary_unary(path)(data, timeout=timeout)
        try:
            return next(stream)
        finally:
            stream.cancel()

    def code(self, path: str, request: Message | bytes = b"") -> grpc.StatusCode:
        """How such a call ends; a stream that says something is fine."""
        try:
            self.call(path, request)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def enqueue(
        self,
        user: str,
        kind: str = "test.noop",
        payload: Any = None,
        *,
        now: bool = False,
        **spec: Any,
    ) -> str:
        """A job that waits, unless it is to run now. Gives its id."""
        if not now:
            spec.setdefault("delay", LATER)
        data = b"" if payload is None else json.dumps(payload).encode()
        job = job_pb2.JobSpec(kind=kind, user_id=user, payload=data, **spec)
        return self.jobs.Enqueue(job_service_pb2.EnqueueRequest(job=job), timeout=CALL_S).job.id

    def cancel(self, job: str) -> job_pb2.Job:
        return self.jobs.Cancel(job_service_pb2.CancelRequest(job_id=job), timeout=CALL_S).job

    def get(self, job: str) -> job_pb2.Job:
        return self.jobs.GetJob(job_service_pb2.GetJobRequest(job_id=job), timeout=CALL_S).job

    def watch(self, timeout: float = 60.0, *, job: str = "", include_log: bool = False, **filters: str) -> Watch:
        """A watch that has begun, of a job or by a filter."""
        request = job_service_pb2.WatchRequest(include_log=include_log)
        if job:
            request.jobs.add(job_id=job)
        else:
            request.filter.CopyFrom(job_pb2.JobFilter(**filters))
        return Watch(self.jobs.Watch(request, timeout=timeout))


class Watch:
    """The messages of a stream, and how it ended. To be read by one thread."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        #: The messages about jobs.
        self.said: list[job_service_pb2.WatchResponse] = []
        for response in stream:
            if response.HasField("snapshots_complete"):
                return
            self._keep(response)
        raise AssertionError("the watch ended before it began")

    def _keep(self, response: job_service_pb2.WatchResponse) -> None:
        if response.WhichOneof("event") not in ("opened", "snapshots_complete", "heartbeat"):
            self.said.append(response)

    def until(self, wanted: Callable[[job_service_pb2.WatchResponse], bool]) -> None:
        for response in self.stream:
            self._keep(response)
            if wanted(response):
                return
        raise AssertionError("the watch ended without it")

    def until_event(self, kind: str, job: str) -> None:
        """"ENQUEUED", "SUCCEEDED", …"""
        wanted = job_service_pb2.JobEventType.Value(f"JOB_EVENT_TYPE_{kind}")
        self.until(lambda response: response.lifecycle.job_id == job and response.lifecycle.type == wanted)

    def end(self) -> tuple[grpc.StatusCode, float]:
        """Reads until it is over: its status, and when that was."""
        try:
            for response in self.stream:
                self._keep(response)
        except grpc.RpcError as error:
            return error.code(), time.monotonic()
        return grpc.StatusCode.OK, time.monotonic()

    @property
    def users(self) -> set[str]:
        """Of whom it has spoken; progress is of jobs that were named before."""
        found = {item.snapshot.job.user_id for item in self.said if item.HasField("snapshot")}
        return found | {item.lifecycle.user_id for item in self.said if item.HasField("lifecycle")}

    @property
    def jobs(self) -> set[str]:
        found = set()
        for item in self.said:
            match item.WhichOneof("event"):
                case "snapshot":
                    found.add(item.snapshot.job.id)
                case "lifecycle":
                    found.add(item.lifecycle.job_id)
                case "progress":
                    found.add(item.progress.job_id)
                case "log":
                    found.add(item.log.job_id)
        return found

    def close(self) -> None:
        self.stream.cancel()


def missing() -> str:
    """The id of a job that there is not."""
    return str(uuid.uuid4())


# The server


class Secured:
    """A server that asks who calls: tokens and JWTs over plaintext, or those and certificates over TLS.

    `root` may do everything for everybody.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        url: str | None = None,
        authority: Authority | None = None,
        rules: str = "",
        issuer: Issuer | None = None,
        keys: str | None = None,
        tokens: TokenFile | None = None,
        arguments: Sequence[str] = (),
        **options: Any,
    ) -> None:
        """`rules`: for certificates, as in the file of settings. `keys`: where they are, if not in a file."""
        self.folder = Path(tempfile.mkdtemp(prefix="sbx-auth-"))
        self.folder.chmod(0o755)
        self._cluster = cluster
        self.url = url or cluster.database()
        self.issuer = issuer or Issuer()
        self.key_file = self.folder / "keys.json"
        self.write_keys(self.issuer.key_set())
        self.tokens = tokens or TokenFile(self.folder / "tokens.yaml")
        self.root_token = self.tokens.add("root", *SCOPES, users="all")
        self.tokens.write()
        arguments = [
            *("--auth-tokens", str(self.tokens.path), "--auth-jwks", keys or str(self.key_file)),
            *("--auth-jwt-issuer", ISSUER, "--auth-jwt-audience", AUDIENCE),
            *arguments,
        ]
        self.authority = authority
        if authority is not None:
            own = authority.issue(*LOOPBACK)
            arguments += ["--tls-certificate", str(own.certificate), "--tls-key", str(own.key)]
            arguments += ["--tls-client-ca", str(authority.path)]
        self._channels: list[grpc.Channel] = []
        self._by_certificate: dict[Pair | None, grpc.Channel] = {}
        try:
            self.server = Server(self.url, config=rules or None, arguments=arguments, **options)
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    @property
    def address(self) -> str:
        return self.server.address

    def write_keys(self, keys: dict[str, Any]) -> float:
        before = time.monotonic()
        move_over(self.key_file, json.dumps(keys).encode())
        return before

    def channel(self, certificate: Pair | None = None) -> grpc.Channel:
        """A new connection."""
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        if self.authority is None:
            channel = grpc.insecure_channel(self.address, options)
        else:
            credentials = grpc.ssl_channel_credentials(
                self.authority.path.read_bytes(),
                certificate and certificate.key.read_bytes(),
                certificate and certificate.certificate.read_bytes(),
            )
            channel = grpc.secure_channel(self.address, credentials, options)
        self._channels.append(channel)
        return channel

    def somebody(
        self,
        token: str | None = None,
        *,
        authorization: str | None = None,
        certificate: Pair | None = None,
        is_new: bool = False,
    ) -> Somebody:
        """On the connection that all share who show this certificate, or on a new one."""
        if is_new or certificate not in self._by_certificate:
            channel = self.channel(certificate)
            self._by_certificate.setdefault(certificate, channel)
        else:
            channel = self._by_certificate[certificate]
        if token is not None:
            authorization = f"Bearer {token}"
        return Somebody(channel, authorization)

    @property
    def root(self) -> Somebody:
        return self.somebody(self.root_token)

    def caller(self, name: str, *scopes: str, users: str | Sequence[str] | None = None) -> Somebody:
        """Somebody with a new token, which the server knows by now."""
        token = self.tokens.add(name, *scopes, users=users)
        self.tokens.write()
        somebody = self.somebody(token)
        self.wait_until_known(somebody)
        return somebody

    def wait_until_known(self, somebody: Somebody) -> float:
        """Reflection takes credentials and nothing else."""
        return reach(
            lambda: somebody.code(REFLECT, LIST_SERVICES) is grpc.StatusCode.OK, REVOCATION_S, "a known token"
        )

    def query(self, sql: str) -> str:
        return self._cluster.query(self.url, sql)

    def close(self) -> None:
        for channel in self._channels:
            channel.close()
        self.server.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Secured:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
#: A ServerReflectionRequest with list_services.
LIST_SERVICES = b"\x3a\x01*"


def closing(thing: Any) -> Iterator[Any]:
    """For fixtures."""
    try:
        yield thing
    finally:
        thing.close()
