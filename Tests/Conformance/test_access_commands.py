"""The command line with authentication: a token is made, goes into the file, and lets its bearer in."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator

import pytest
from access import CALL_S, READ, Issuer, Secured, closing
from authority import Authority, move_over
from harness import BINARY, Cluster, clean_environment, unique

DONE, NOT_FOUND, UNREACHABLE, REFUSED, USAGE = 0, 3, 4, 5, 64


@pytest.fixture(scope="module")
def secured(cluster: Cluster) -> Iterator[Secured]:
    yield from closing(Secured(cluster, name="commands"))


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    yield from closing(Authority())


def run(*arguments: str, code: int | None = DONE, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(BINARY), *arguments],
        capture_output=True,
        text=True,
        timeout=CALL_S,
        env={**clean_environment(), "USER": "shell", **environment},
        check=False,
    )
    said = f"{done.stdout}{done.stderr}"
    assert code is None or done.returncode == code, f"{arguments}: {done.returncode}\n{said}"
    return done


def create(*arguments: str) -> tuple[str, str]:
    """A new token, and its entry for the file."""
    done = run("token", "create", *arguments)
    text = done.stdout + done.stderr
    (token,) = set(re.findall(r"sbx_[A-Za-z0-9_-]{43}", text))
    entry = re.search(r"^  - name: .*(?:\n    .+)*", text, re.MULTILINE)
    assert entry, text
    return token, entry[0]


def add(secured: Secured, entry: str) -> None:
    """As one would by hand: the lines that were printed, at the end of the file."""
    text = secured.tokens.path.read_text()
    move_over(secured.tokens.path, (text.rstrip("\n") + "\n" + entry + "\n").encode())


def test_from_nothing_to_a_job(secured, tmp_path):
    """As a new user would."""
    user = unique("ada")
    token, entry = create(user, "--scope", "jobs.enqueue", "--scope", "jobs.read", "--scope", "jobs.cancel")
    assert f"sha256:{hashlib.sha256(token.encode()).hexdigest()}" in entry
    assert token not in entry
    add(secured, entry)
    secured.wait_until_known(secured.somebody(token))

    path = tmp_path / "token"
    path.write_text(token + "\n")
    server = ["--server", secured.address]
    by_file = [*server, "--token-file", str(path)]
    (id,) = run("enqueue", "test.noop", "--user", user, *by_file).stdout.split()
    run("watch", id, *by_file)
    run("get", id, *server, SIGNALBOX_TOKEN=token)
    (line,) = run("list", "--json", *server, SIGNALBOX_TOKEN=token).stdout.splitlines()
    job = json.loads(line)
    assert job["id"] == id and job["user_id"] == user
    run("enqueue", "test.noop", "--user", user, "--watch", *by_file)
    waiting = run("enqueue", "test.noop", "--user", user, "--delay", "1h", *by_file).stdout.strip()
    run("cancel", waiting, *by_file)
    run("retry", waiting, *by_file)
    run("health", *server)

    # What it may not.
    done = run("enqueue", "test.noop", "--user", "bob", *by_file, code=REFUSED)
    assert "permission" in done.stderr.lower()
    run("get", secured.root.enqueue(unique("bob")), *by_file, code=NOT_FOUND)
    done = run("stats", *by_file, code=REFUSED)
    assert "admin" in done.stderr
    done = run("list", *server, code=REFUSED)
    assert "credentials" in done.stderr.lower() or "unauthenticated" in done.stderr.lower()
    run("list", *server, code=REFUSED, SIGNALBOX_TOKEN=token + "x")


def test_a_file_without_a_token(secured, tmp_path):
    """It is said to be so, and no call is made without credentials instead."""
    server = ["--server", secured.address]
    for text in (None, "", "\n \n"):
        path = tmp_path / "token"
        if text is not None:
            path.write_text(text)
        done = run("list", *server, "--token-file", str(path), code=USAGE)
        assert str(path) in done.stderr


def test_files_of_TLS_that_are_wrong(secured, authority, tmp_path):
    garbage, none = tmp_path / "garbage.pem", tmp_path / "none.pem"
    garbage.write_text("garbage\n")
    own, other = authority.issue("dns:ada"), authority.issue("dns:bob")
    for path in map(str, (garbage, none)):
        for files in (
            ["--tls-ca", path],
            ["--tls-certificate", path, "--tls-key", str(own.key)],
            ["--tls-certificate", str(own.certificate), "--tls-key", path],
        ):
            done = run("list", "--server", secured.address, *files, code=USAGE)
            assert f"'{path}'" in done.stderr
    files = ["--tls-certificate", str(own.certificate), "--tls-key", str(other.key)]
    assert str(other.key) in run("list", "--server", secured.address, *files, code=USAGE).stderr


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["--scope", "admin"], ["scopes: [admin]"]),
        (["--scope", "jobs.read", "--users", "all"], ["scopes: [jobs.read]", "users: all"]),
        (
            ["--scope", "jobs.read", "--scope", "jobs.enqueue", "--user", "ada", "--user", "bob"],
            ["scopes: [jobs.enqueue, jobs.read]", 'users: ["ada", "bob"]'],
        ),
        (["--scope", "admin", "--expires", "2030-01-31T12:00:00Z"], ["expires: 2030-01-31T12:00:00Z"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_entries(secured, arguments, lines):
    """They say what was asked for, and the server takes them."""
    token, entry = create("somebody", *arguments)
    for line in lines:
        assert f"    {line}" in entry.splitlines()
    known = {line.strip().partition(":")[0] for line in entry.splitlines()}
    assert known <= {"- name", "hash", "scopes", "users", "expires"}
    assert ("users" in known) == any("--user" in item for item in arguments)
    add(secured, entry)
    secured.wait_until_known(secured.somebody(token))


def test_names_of_all_kinds(secured):
    names = ('a "b" \\ c', "Zoë: the importer #1", "x: y", "'", "{}", "yes", "12")
    made = [create(name, "--scope", "jobs.enqueue", "--users", "all") for name in names]
    add(secured, "\n".join(entry for _, entry in made))
    secured.wait_until_known(secured.somebody(made[-1][0]))
    for name, (token, _) in zip(names, made, strict=True):
        job = secured.somebody(token).enqueue("ada")
        assert secured.query(f"SELECT caller FROM audit WHERE job = '{job}'") == name


def test_no_two_tokens_are_the_same():
    assert len({create("x", "--scope", "admin")[0] for _ in range(5)}) == 5


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x"],
        ["--scope", "admin"],
        ["x", "--scope", "everything"],
        ["x", "--scope", "admin", "--expires", "tomorrow"],
        ["x", "--scope", "admin", "--expires", "2030-01-31T12:00:00"],
        ["x", "--scope", "admin", "--users", "some"],
        ["x", "--scope", "admin", "--users", "all", "--user", "ada"],
        ["", "--scope", "admin"],
        ["two\nlines", "--scope", "admin"],
        ["x" * 257, "--scope", "admin"],
    ],
    ids=lambda arguments: " ".join(arguments)[:40].replace("\n", " ") or "nothing",
)
def test_wrong_usage(arguments):
    """No token is made."""
    done = run("token", "create", *arguments, code=USAGE)
    assert not re.search(r"sbx_\w{20}", done.stdout + done.stderr)


def test_a_JWT_and_TLS(cluster, secured, authority):
    """The same options with a certificate, and a JWT in place of a token."""
    rules = "auth:\n  certificates:\n    - {san: dns:ada, name: ada, scopes: [jobs.read], users: all}\n"
    with Secured(cluster, url=secured.url, authority=authority, rules=rules) as tls:
        own = authority.issue("dns:ada")
        client = ["--server", tls.address, "--tls-ca", str(authority.path)]
        client += ["--tls-certificate", str(own.certificate), "--tls-key", str(own.key)]
        run("list", *client)
        run("enqueue", "test.noop", "--user", "ada", *client, code=REFUSED)
        token = tls.issuer.token("ada", "jobs.enqueue", kid=Issuer.ALGORITHMS[0])
        run("enqueue", "test.noop", "--user", "ada", *client, SIGNALBOX_TOKEN=token)
        run("list", *client, code=REFUSED, SIGNALBOX_TOKEN=token)
        stranger = run("list", "--server", tls.address, "--tls", code=UNREACHABLE)
        assert stranger.stderr == (
            "signalbox: unavailable: TLS: the server's certificate is not signed by a trusted authority\n"
        )


def test_a_watch_says_why_it_ended(secured):
    """It is not tried again and again with a token that is no longer good."""
    user = unique("ada")
    token = secured.tokens.add(user, READ)
    secured.tokens.write()
    secured.wait_until_known(secured.somebody(token))
    job = secured.root.enqueue(user)
    with subprocess.Popen(
        [str(BINARY), "watch", job, "--server", secured.address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean_environment(), "SIGNALBOX_TOKEN": token},
    ) as process:
        assert process.stdout
        assert job in process.stdout.readline()
        secured.tokens.remove(token)
        secured.tokens.write()
        try:
            _, said = process.communicate(timeout=CALL_S)
        finally:
            process.kill()
    assert process.returncode == REFUSED, said
    assert said
