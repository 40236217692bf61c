"""Neither credentials nor payloads reach a log, the audit or an error message.

A canary is a word that is nowhere else. It is put into everything that is secret, goes through calls that
succeed and calls that fail, and is then looked for, in all the spellings that a program could give it.
"""

from __future__ import annotations

import base64
import json
import secrets as random
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from access import (
    CALL_S,
    CANCEL,
    ENQUEUE,
    LATER,
    LIST_SERVICES,
    READ,
    REFLECT,
    REVOCATION_S,
    Issuer,
    Secured,
    Somebody,
    TokenFile,
    closing,
    missing,
    reach,
)
from authority import move_over
from frames import Connection, message
from harness import BINARY, Cluster, clean_environment, command_config, unique
from signalbox.v1 import job_pb2, job_service_pb2
from wire import JOBS


def new_canary() -> str:
    """Letters only: the same in JSON, in YAML and in a URL. Long enough to be in the middle of any base64."""
    return "Canary" + "".join(random.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(18))


def spellings(canary: str) -> dict[str, str]:
    """How a program may write bytes."""
    data = canary.encode()
    found = {
        "as it is": canary,
        "hexadecimal": data.hex(),
        "hexadecimal in upper case": data.hex().upper(),
        "hexadecimal with spaces": data.hex(" "),
        "a list of numbers": ", ".join(map(str, data)),
        "a list of numbers without spaces": ",".join(map(str, data)),
        "backwards": canary[::-1],
    }
    for shift in range(3):
        # What is in front shifts the letters; those at the ends depend on their neighbours.
        text = base64.b64encode(b"\0" * shift + data).decode()
        found[f"base64, {shift}"] = text[4 if shift else 0 : -4]
    return found


def find(canary: str, texts: dict[str, str]) -> list[str]:
    """Where it is, and how."""
    return [
        f"{where}: {how}"
        for where, text in texts.items()
        for how, spelling in spellings(canary).items()
        if spelling in text
    ]


class Stage:
    """A server that logs all it can, and what else there is to look through."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster = cluster
        secrets = ("token", "JWT", "header", "payload", "row", "file", "key")
        self.canary = {what: new_canary() for what in secrets}
        #: A name that is meant to be seen: of a file, and of a caller.
        self.marker = new_canary()
        issuer = Issuer()
        script = "cat > /dev/null; echo something went wrong >&2; exit 1\n"
        self.secured = Secured(
            cluster,
            issuer=issuer,
            tokens=TokenFile(folder / f"{self.marker}.yaml"),
            rules=command_config(folder, {"failing.command": script}),
            log_level="trace",
            arguments=["--max-pending-payload-per-user", str(4 << 20)],
        )
        #: What callers were told.
        self.errors: list[str] = []
        self.postgres_log_size = self._postgres_log.stat().st_size

    @property
    def _postgres_log(self) -> Path:
        return self.cluster.folder / "log"

    def note(self, error: grpc.RpcError) -> None:
        self.errors.append(f"{error.details()} {error.debug_error_string()}")
        for _, value in error.trailing_metadata() or ():
            self.errors.append(value if isinstance(value, str) else value.decode("latin-1"))

    def fail(self, caller: Somebody, method: str, request) -> grpc.StatusCode:
        """A call that is to be refused, for one reason or another."""
        with pytest.raises(grpc.RpcError) as error:
            caller.call(JOBS + method, request)
        self.note(error.value)
        return error.value.code()

    def log_of_postgres(self) -> str:
        """With all that Postgres has said by now, which a thread copies to the file, and an error after it."""
        last = new_canary()
        with suppress(subprocess.CalledProcessError):
            self.secured.query(f"SELECT '{last}'::int")
        log = ""

        def has_all() -> bool:
            nonlocal log
            log = self._postgres_log.read_bytes()[self.postgres_log_size :].decode(errors="replace")
            return last in log

        reach(has_all, CALL_S, "the last words of Postgres")
        return log

    def texts(self) -> dict[str, str]:
        return {
            "the log": self.secured.server.log(),
            "standard output": "".join(self.secured.server.output),
            "the log of Postgres": self.log_of_postgres(),
            "the audit": self.secured.query("SELECT audit::text FROM audit"),
            "errors": "\n".join(self.errors),
        }

    def close(self) -> None:
        self.secured.close()


@pytest.fixture(scope="module")
def stage(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    yield from closing(Stage(cluster, tmp_path_factory.mktemp("commands")))


def assert_nowhere(stage: Stage, *whats: str) -> None:
    texts = stage.texts()
    assert texts["the log"] and texts["standard output"]
    for what in whats:
        assert not find(stage.canary[what], texts), what


def bearers(stage: Stage) -> Iterable[tuple[str, str]]:
    """Values of `authorization`, good and bad, with a canary in each."""
    token, jwt, header = (stage.canary[what] for what in ("token", "JWT", "header"))
    secured = stage.secured
    good = secured.tokens.add("canary's token", READ, ENQUEUE, users="all", token=f"sbx_{token}")
    scopeless = secured.tokens.add("no scope for it", CANCEL, token=f"sbx_{token}2")
    secured.tokens.write()
    secured.wait_until_known(secured.somebody(good))
    yield "a good token", f"Bearer {good}"
    yield "a token without the scope", f"Bearer {scopeless}"
    yield "an unknown token", f"Bearer sbx_{header}"
    yield "another scheme", f"Basic {header}"
    yield "no scheme", header
    yield "an unknown scheme", f"{header} x"
    yield "with a comma", f"Bearer {header},{header}"
    yield "too long", f"Bearer {header * 250}"
    yield "nearly a JWT", f"Bearer {header}.{header}.{header}"
    for kid in Issuer.ALGORITHMS:
        yield f"JWT of {kid}", f"Bearer {secured.issuer.token('s', READ, users='*', kid=kid, secret=jwt)}"
    bad = {
        "an old JWT": {"exp": 1},
        "a JWT of another issuer": {"iss": jwt},
        "a JWT for another": {"aud": jwt},
        "a JWT with an unknown key": {"headers": {"kid": jwt}},
        "a JWT with a wrong subject": {"sub": jwt + "\n"},
        "a JWT with wrong users": {"users": jwt},
        "a JWT with a wrong end": {"exp": jwt},
    }
    for name, changes in bad.items():
        claims = {"sub": "s", "secret": jwt, **changes}
        yield name, f"Bearer {secured.issuer.token(claims.pop('sub'), READ, **claims)}"


def test_what_is_looked_for_would_be_found():
    canary = new_canary()
    for how, spelling in spellings(canary).items():
        assert find(canary, {"here": f"before{spelling}after"}) == [f"here: {how}"]
    for before in ("", "a", "ab", "abc", "abcd"):
        text = base64.b64encode(f"{before}{canary}and more".encode()).decode()
        assert find(canary, {"here": text}), before
    assert not find(canary, {"here": new_canary()})


def test_what_is_no_secret_is_found(stage):
    """The same search, of the same places, for what is meant to be there."""
    caller = stage.secured.caller(stage.marker, ENQUEUE, READ, users="all")
    caller.enqueue("ada")
    id = missing()
    stage.fail(caller, "GetJob", job_service_pb2.GetJobRequest(job_id=id))
    assert "the audit: as it is" in find(stage.marker, stage.texts())
    # That a file was read is logged when its tokens are good already.
    reach(lambda: "the log: as it is" in find(stage.marker, stage.texts()), CALL_S, "the name of the file")
    assert id in stage.texts()["errors"]
    # Postgres says what it was given when that is wrong.
    with suppress(subprocess.CalledProcessError):
        stage.secured.query(f"SELECT '{stage.marker}'::int")
    assert "the log of Postgres: as it is" in find(stage.marker, stage.texts())


def test_credentials(stage):
    codes = {}
    for name, value in bearers(stage):
        caller = stage.secured.somebody(authorization=value)
        try:
            caller.jobs.ListJobs(job_service_pb2.ListJobsRequest(filter={"user_id": "ada"}), timeout=CALL_S)
            caller.watch(user_id="ada").close()
            caller.call(REFLECT, LIST_SERVICES)
            codes[name] = grpc.StatusCode.OK
        except grpc.RpcError as error:
            stage.note(error)
            codes[name] = error.code()
    good = {"a good token", *(f"JWT of {kid}" for kid in Issuer.ALGORITHMS)}
    assert {name for name, code in codes.items() if code is grpc.StatusCode.OK} == good
    assert codes["a token without the scope"] is grpc.StatusCode.PERMISSION_DENIED
    assert_nowhere(stage, "token", "JWT", "header")


def test_credentials_of_hand_made_requests(stage):
    """What is wrong with the request besides is logged, maybe with its headers."""
    header = stage.canary["header"]
    field = ("authorization", f"Bearer {header}")
    with Connection.open(stage.secured.address) as peer:
        for headers in (
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "x"), field],
            [(":method", "POST"), (":scheme", "http"), (":path", JOBS + "GetJob"), field],
            [(":method", "POST"), field],
            [(":method", "POST"), (":scheme", "http"), (":path", "/x"), (":authority", "x"), field, field],
        ):
            peer.answer(peer.request("", None, headers=headers))
    for broken in (
        # A name in upper case, a value with a line's end, far too much, an unknown pseudo-header.
        [("Authorization", f"Bearer {header}")],
        [("authorization", f"Bearer {header}\r\nx: y")],
        [("authorization", f"Bearer {header * 600}")],
        [(f":{header.lower()}", header), field],
    ):
        with Connection.open(stage.secured.address) as peer:
            stream = peer.request(JOBS + "GetJob", message(b""), *broken)
            peer.until(lambda stream=stream, peer=peer: peer.is_closed or peer.answer_of(stream).is_over)
            answer = peer.answer_of(stream)
            stage.errors.append(f"{answer.headers} {answer.trailers} {peer.goaways}")
    # In the middle of its header block, and of its TLS that is none.
    with Connection.open(stage.secured.address) as peer:
        block = peer.header_frames(1, [(":method", "POST"), field])
        peer.send(block[:-3])
    assert_nowhere(stage, "header")


def test_payloads(stage):
    """Through jobs that succeed, fail, are too large, malformed, refused, or not the caller's."""
    canary, secured = stage.canary["payload"], stage.secured
    user = unique("ada")
    ada = secured.caller(user, ENQUEUE, READ, CANCEL)
    bob = secured.caller(unique("bob"), ENQUEUE, READ, CANCEL)
    watch = ada.watch(user_id=user)

    # Success: as a result too.
    echo = ada.enqueue(user, "test.echo", {"secret": canary}, now=True)
    watch.until_event("SUCCEEDED", echo)
    assert canary.encode() in ada.get(echo).result.data
    # Failure of the handler: by what it was given, and after it was given it.
    for kind, payload in (
        ("test.sleep", canary),
        ("test.sleep", {"ms": canary}),
        ("test.sleep", {"ms": -1, canary: canary}),
        ("test.fail", {"permanent": True, "secret": canary}),
        ("test.fail", {"times": canary}),
        ("failing.command", {"secret": canary}),
    ):
        job = ada.enqueue(user, kind, payload, now=True, max_attempts=1)
        watch.until_event("FAILED", job)
    watch.close()

    # Refusals.
    def spec(**changes) -> job_pb2.JobSpec:
        fields = {
            "kind": "test.echo",
            "user_id": user,
            "payload": json.dumps(canary).encode(),
            "delay": LATER,
            **changes,
        }
        return job_pb2.JobSpec(**fields)

    def enqueue(**changes) -> job_service_pb2.EnqueueRequest:
        return job_service_pb2.EnqueueRequest(job=spec(**changes))

    codes = grpc.StatusCode
    taken = enqueue(job_id=missing())
    ada.call(JOBS + "Enqueue", taken)
    other = job_pb2.JobSpec()
    other.CopyFrom(taken.job)
    other.payload = json.dumps(canary * 2).encode()
    large = canary.encode() * 50_000
    wanted = [
        (ada, enqueue(payload=f"{{{canary}".encode()), codes.INVALID_ARGUMENT),
        (ada, enqueue(payload=canary.encode() + b"\xff"), codes.INVALID_ARGUMENT),
        (ada, enqueue(kind="unknown"), codes.FAILED_PRECONDITION),
        (ada, enqueue(kind="no name", priority=1_000), codes.INVALID_ARGUMENT),
        (ada, enqueue(payload=large, content_type="text/plain"), codes.RESOURCE_EXHAUSTED),
        (ada, enqueue(payload=large[: 900 << 10], content_type=canary[:4] + "\0"), codes.INVALID_ARGUMENT),
        (ada, job_service_pb2.EnqueueRequest(job=other), codes.ALREADY_EXISTS),
        (bob, enqueue(), codes.PERMISSION_DENIED),
        (secured.somebody(), enqueue(), codes.UNAUTHENTICATED),
        (ada, b"\x0a\xff\x01" + canary.encode(), codes.INVALID_ARGUMENT),
        (ada, enqueue().SerializeToString()[:-9], codes.INVALID_ARGUMENT),
    ]
    for caller, request, code in wanted:
        assert stage.fail(caller, "Enqueue", request) is code
    batch = job_service_pb2.EnqueueBatchRequest(jobs=[spec(), spec(kind="unknown")])
    assert stage.fail(ada, "EnqueueBatch", batch) is codes.FAILED_PRECONDITION
    batch = job_service_pb2.EnqueueBatchRequest(jobs=[spec(), other])
    assert stage.fail(ada, "EnqueueBatch", batch) is codes.ALREADY_EXISTS
    # Too much waits already.
    quarter = job_pb2.JobSpec(
        kind="test.echo", user_id=user, payload=large[: 1000 << 10], content_type="text/plain", delay=LATER
    )
    for _ in range(4):
        ada.call(JOBS + "Enqueue", job_service_pb2.EnqueueRequest(job=quarter))
    quarter_more = job_service_pb2.EnqueueRequest(job=quarter)
    assert stage.fail(ada, "Enqueue", quarter_more) is codes.RESOURCE_EXHAUSTED
    assert_nowhere(stage, "payload")


def test_payloads_that_the_database_refuses(stage):
    """It says which row it does not take, and what is in it; that is not passed on."""
    canary, secured = stage.canary["row"], stage.secured
    user = unique("refused")
    caller = secured.caller(user, ENQUEUE, READ)
    secured.query(f"ALTER TABLE job ADD CONSTRAINT probe CHECK (user_id <> '{user}') NOT VALID")
    size = secured.server.log_size()
    postgres = stage._postgres_log.stat().st_size
    try:
        request = job_service_pb2.EnqueueRequest(
            job={"kind": "test.echo", "user_id": user, "payload": json.dumps(canary).encode()}
        )
        assert stage.fail(caller, "Enqueue", request) is grpc.StatusCode.INTERNAL
        batch = job_service_pb2.EnqueueBatchRequest(jobs=[request.job])
        assert stage.fail(caller, "EnqueueBatch", batch) is grpc.StatusCode.INTERNAL
    finally:
        secured.query("ALTER TABLE job DROP CONSTRAINT probe")
    assert "probe" in secured.server.log(size), "that something was wrong is logged"
    texts = stage.texts()
    # What Postgres itself logs is its own affair, and its administrator's.
    said = stage._postgres_log.read_bytes()[postgres:].decode(errors="replace")
    assert "probe" in said
    del texts["the log of Postgres"]
    assert not find(canary, texts)


def test_files_with_secrets_where_they_do_not_belong(stage):
    """A token in place of its hash, and a private key among the public ones."""
    canary, secured = stage.canary["file"], stage.secured
    size = secured.server.log_size()
    good = secured.tokens.text()
    for wrong in (
        good + f"  - name: x\n    hash: sbx_{canary}\n    scopes: [admin]\n",
        good + f"  - name: x\n    token: sbx_{canary}\n    scopes: [admin]\n",
        good + f"  - name: x\n    {canary}: 1\n",
        good + f"  - {canary}: [\n",
        f"{canary}\n",
    ):
        move_over(secured.tokens.path, wrong.encode())
        reach(lambda: str(secured.tokens.path) in secured.server.log(size), REVOCATION_S, "a line in the log")
        size = secured.server.log_size()
        done = subprocess.run(
            [str(BINARY), "serve", "--listen", "127.0.0.1:0", "--database-url", secured.url]
            + ["--auth-tokens", str(secured.tokens.path)],
            capture_output=True,
            text=True,
            timeout=CALL_S,
            env=clean_environment(),
            check=False,
        )
        assert done.returncode != 0
        assert str(secured.tokens.path) in done.stdout + done.stderr
        assert not find(canary, {"the start": done.stdout + done.stderr})
        # Between two that are wrong in the same way nothing would be said.
        known = secured.tokens.add(unique("between"), READ)
        secured.tokens.write()
        secured.wait_until_known(secured.somebody(known))
        good = secured.tokens.text()
        size = secured.server.log_size()

    key = stage.canary["key"]
    keys = secured.issuer.key_set()
    keys["keys"][1]["d"] = base64.urlsafe_b64encode(key.encode() + b"xxxxxxxx").rstrip(b"=").decode()
    keys["keys"].append({"kty": "oct", "k": base64.b64encode(key.encode()).decode(), "kid": key})
    secured.write_keys(keys)
    reach(lambda: "keys[1]" in secured.server.log(size), REVOCATION_S, "a line in the log")
    secured.write_keys(secured.issuer.key_set())
    assert_nowhere(stage, "file", "key")


def test_the_command_line_does_not_say_its_token(stage, tmp_path):
    """It is in a file or the environment, and in no error."""
    canary = stage.canary["token"]
    path = tmp_path / "token"
    path.write_text(f"sbx_{canary}3\n")
    for arguments in (
        ["list", "--server", stage.secured.address, "--token-file", str(path)],
        ["list", "--server", "127.0.0.1:1", "--token-file", str(path)],
        ["list", "--server", stage.secured.address, "--token-file", str(tmp_path / "none")],
        ["list", "--help"],
    ):
        done = subprocess.run(
            [str(BINARY), *arguments],
            capture_output=True,
            text=True,
            timeout=CALL_S,
            env=clean_environment(),
            check=False,
        )
        assert not find(canary, {" ".join(arguments[:1]): done.stdout + done.stderr})
    assert_nowhere(stage, "token")
