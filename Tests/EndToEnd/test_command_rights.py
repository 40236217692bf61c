"""What a command can read and do: of the server, of other users, and with more rights than it was given.

As root these tests run the server as root with commands of another user, and as another user without any such
setting. Anybody else can only run the latter, as himself.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from harness import (
    POSTGRES_USER,
    BINARY,
    PATIENCE_S,
    Cluster,
    Server,
    clean_environment,
    command_config,
    postgres_program,
    unique,
)
from signalbox import RetryPolicy

IS_ROOT = os.geteuid() == 0
USAGE = 64

#: A command that tries what it should not be able to do to the process that has started it.
PROBE = r"""
import ctypes, json, os, sys

server = os.getppid()
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def attempt(what):
    try:
        return "done: " + repr(what())
    except OSError as error:
        return type(error).__name__


def attach():
    # PTRACE_SEIZE: it does not stop the process, and ends with this one.
    if libc.ptrace(0x4206, server, None, None) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def read(name):
    with open(f"/proc/{server}/{name}", "rb") as file:
        return file.read(1 << 20)


def peek():
    with open(f"/proc/{server}/mem", "rb"):
        pass


status = dict(line.split(":\t", 1) for line in open("/proc/self/status") if ":\t" in line)
checkpoint = os.environ.get("SIGNALBOX_CHECKPOINT")
result = {
    "environ": attempt(lambda: read("environ")),
    "memory": attempt(peek),
    "trace": attempt(attach),
    "leads": os.getsid(0) == os.getpid() == os.getpgid(0),
    "terminal": attempt(lambda: open("/dev/tty")),
    "files": attempt(lambda: os.listdir(f"/proc/{server}/fd")),
    "arguments": attempt(lambda: read("cmdline")),
    "environment": dict(os.environ),
    "user": os.getresuid(),
    "group": os.getresgid(),
    "groups": sorted(os.getgroups()),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "capabilities": int(status["CapPrm"], 16),
    "folder": os.getcwd(),
    "checkpoint": checkpoint and {
        "text": open(checkpoint).read(),
        "mode": oct(os.stat(checkpoint).st_mode & 0o7777),
        "user": os.stat(checkpoint).st_uid,
        "path": checkpoint,
    },
}
print(json.dumps({"result": result}), flush=True)
"""

#: The first attempt saves a checkpoint and fails.
PROBE_TWICE = (
    r"""
import os, sys
if "SIGNALBOX_CHECKPOINT" not in os.environ:
    print('{"checkpoint": {"page": 7}}', flush=True)
    sys.exit(1)
"""
    + PROBE
)

#: What the server is given, and commands are not.
SECRETS = {
    "DATABASE_URL": "postgresql://app:wordA@db/app",
    "AWS_SECRET_ACCESS_KEY": "wordB",
    "SIGNALBOX_TOKEN": "sbx_wordC",
    "PGPASSWORD": "wordD",
    "KUBERNETES_TOKEN": "wordE",
}


@dataclass
class Scene:
    server: Server
    #: Whom its commands run as.
    user: pwd.struct_passwd
    url: str

    def probe(self, kind: str = "probe") -> Any:
        with self.server.client(timeout=20) as client:
            job = client.enqueue(
                kind,
                user_id=unique(),
                retry_policy=RetryPolicy(initial_delay=timedelta(milliseconds=20), factor=1),
            )
            return client.result(job.id, timeout=PATIENCE_S)


def other_user() -> pwd.struct_passwd:
    return pwd.getpwnam("nobody")


def as_user(user: pwd.struct_passwd) -> list[str]:
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups"]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One that other users can enter."""
    with tempfile.TemporaryDirectory(prefix="sbx-rights-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def start(cluster: Cluster, folder: Path, url: str, prefix: list[str], **options: str) -> Server:
    scripts = {"probe": PROBE, "probe.twice": PROBE_TWICE}
    options = {"environment_from": "[GIVEN, NOT_THERE]", "environment": "{SET: red}", **options}
    config = command_config(folder, scripts, program="python3", **options)
    environment = {
        **SECRETS,
        "SIGNALBOX_DATABASE_URL": url,
        "GIVEN": "given",
        "LC_TIME": "C",
        "TZ": "UTC",
        # Where the interpreter is, which may be that of a virtual environment.
        "PATH": os.environ["PATH"],
    }
    return Server(None, config=config, environment=environment, prefix=prefix)


@pytest.fixture(scope="module", params=[*(["another user"] if IS_ROOT else []), "the server's user"])
def scene(request, cluster: Cluster, folder: Path) -> Iterator[Scene]:
    if not IS_ROOT:
        user, prefix, options = pwd.getpwuid(os.geteuid()), [], {}
    elif request.param == "another user":
        # With a group of its own, which commands must not have.
        user, prefix, options = other_user(), ["setpriv", "--groups=0,4242"], {"user": other_user().pw_name}
    else:
        # The one other than root that can enter the folder of the cluster's socket.
        user = pwd.getpwnam(POSTGRES_USER)
        prefix, options = as_user(user), {"user": str(user.pw_uid)}
    url = cluster.database()
    server = start(cluster, folder, url, prefix, **options)
    yield Scene(server, user, url)
    server.close()


def test_the_server_cannot_be_read_or_traced(scene):
    found = scene.probe()
    assert {name: found[name] for name in ("environ", "memory", "trace", "files")} == {
        "environ": "PermissionError",
        "memory": "PermissionError",
        "trace": "PermissionError",
        "files": "PermissionError",
    }
    # Which everybody can read, and which therefore has no secrets.
    assert "serve" in found["arguments"] and scene.url not in found["arguments"]


def test_it_has_no_part_in_the_servers_terminal(scene):
    """In a session of its own there is none to write to, and none to type into."""
    found = scene.probe()
    assert found["leads"] is True and found["terminal"] == "OSError"


def test_the_environment_is_what_it_is_allowed(scene):
    found = scene.probe()["environment"]
    facts = {name for name in found if name.startswith("SIGNALBOX_")}
    assert facts == {
        f"SIGNALBOX_{name}"
        for name in ("JOB_ID", "ATTEMPT", "ATTEMPTS_USED", "MAX_ATTEMPTS", "KIND", "USER_ID", "QUEUE", "CONTENT_TYPE")
    }
    # Python sets LC_CTYPE for itself where no language is set.
    usual = {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LC_CTYPE", "LC_TIME"}
    assert set(found) - facts - usual - {name for name in found if name.startswith("LC_")} == {"GIVEN", "SET"}
    assert (found["GIVEN"], found["SET"], found["TZ"], found["LC_TIME"]) == ("given", "red", "UTC", "C")
    text = json.dumps(found)
    assert not [name for name, value in SECRETS.items() if name in found or value in text]
    if IS_ROOT:
        assert found["HOME"] == scene.user.pw_dir
        assert found["USER"] == found["LOGNAME"] == scene.user.pw_name


def test_it_has_the_rights_of_its_user_and_no_more(scene):
    found = scene.probe()
    assert found["user"] == [scene.user.pw_uid] * 3
    assert found["group"] == [scene.user.pw_gid] * 3
    assert found["groups"] == sorted(os.getgrouplist(scene.user.pw_name, scene.user.pw_gid))
    assert found["no_new_privileges"] == "1"
    assert found["capabilities"] == 0


def test_the_checkpoint_is_its_users_alone_and_removed(scene):
    found = scene.probe("probe.twice")["checkpoint"]
    assert json.loads(found["text"]) == {"page": 7}
    assert (found["mode"], found["user"]) == ("0o600", scene.user.pw_uid)
    assert not Path(found["path"]).exists()


@pytest.mark.skipif(not IS_ROOT, reason="only root changes users")
def test_a_group_of_its_own(cluster, folder):
    group = next(entry for entry in grp.getgrall() if entry.gr_gid not in (0, other_user().pw_gid))
    for name in (group.gr_name, str(group.gr_gid)):
        url = cluster.database()
        server = start(cluster, folder, url, [], user=other_user().pw_name, group=name)
        try:
            found = Scene(server, other_user(), url).probe()
        finally:
            server.close()
        assert found["group"] == [group.gr_gid] * 3
        assert found["groups"] == sorted(os.getgrouplist(other_user().pw_name, group.gr_gid))
        assert group.gr_gid in found["groups"] and 0 not in found["groups"]


@pytest.mark.skipif(not IS_ROOT, reason="only root changes users")
def test_root_where_it_is_said(cluster, folder):
    url = cluster.database()
    server = start(cluster, folder, url, [], user="root")
    try:
        found = Scene(server, pwd.getpwuid(0), url).probe()
    finally:
        server.close()
    assert found["user"] == [0, 0, 0] and found["no_new_privileges"] == "1"
    assert found["environment"]["HOME"] == pwd.getpwuid(0).pw_dir


def refusal(folder: Path, config: str, *arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> str:
    """What the server says, which must not start."""
    path = folder / f"{unique('refused')}.yaml"
    path.write_text(config)
    done = subprocess.run(
        [*prefix, str(BINARY), "serve", "--listen", "127.0.0.1:0", "--config", str(path), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**clean_environment(), **environment},
        check=False,
    )
    assert done.returncode == USAGE, done.stdout + done.stderr
    return done.stderr


COMMAND = "commands: [{{kind: trial, command: [x], timeout: 1s{more}}}]\n"
#: Nothing is there: whoever gets as far as this does not start either, but with another exit code.
NOWHERE = ["--database-url", "postgresql:///x?host=/nowhere"]


@pytest.mark.skipif(not IS_ROOT, reason="only root is asked")
def test_root_without_a_user_is_refused(folder):
    said = refusal(folder, COMMAND.format(more=""), *NOWHERE)
    assert "'trial'" in said and "user: NAME" in said and "user: root" in said


def test_users_that_cannot_be_are_refused(folder):
    assert "'trial'" in (said := refusal(folder, COMMAND.format(more=", user: no-such-user"), *NOWHERE))
    assert "no user 'no-such-user'" in said
    me = pwd.getpwuid(os.geteuid()).pw_name
    said = refusal(folder, COMMAND.format(more=f", user: {me}, group: no-such-group"), *NOWHERE)
    assert "no group 'no-such-group'" in said
    said = refusal(folder, COMMAND.format(more=", user: 4294967295"), *NOWHERE)
    assert "no user '4294967295'" in said
    said = refusal(folder, COMMAND.format(more=", user: 54321"), *NOWHERE)
    assert "give its group too" in said


def test_only_root_gives_a_command_another_user(folder):
    prefix = tuple(as_user(other_user())) if IS_ROOT else ()
    said = refusal(folder, COMMAND.format(more=", user: root"), *NOWHERE, prefix=prefix)
    assert "'trial'" in said and "only a server that runs as root" in said


def test_a_password_among_the_arguments_is_refused(folder):
    more = ", user: root" if IS_ROOT else ""
    for url in ("postgresql://ada:wordF@db/x", "postgresql://db/x?password=wordF", "host=db password=wordF"):
        for arguments in (["--database-url", url], [f"--database-url={url}"]):
            said = refusal(folder, COMMAND.format(more=more), *arguments)
            assert "--database-url" in said and "SIGNALBOX_DATABASE_URL" in said and "wordF" not in said


@pytest.fixture
def locked() -> Iterator[tuple[Cluster, str]]:
    """A Postgres that asks for a password, and that password."""
    cluster = Cluster()
    try:
        password = unique("word")
        admin = cluster.database()
        cluster.query(admin, f"CREATE ROLE ada SUPERUSER LOGIN PASSWORD '{password}'")
        rules = Path(cluster.query(admin, "SHOW hba_file"))
        rules.write_text("local all ada scram-sha-256\n" + rules.read_text())
        cluster.query(admin, "SELECT pg_reload_conf()")
        yield cluster, password
    finally:
        cluster.close()


def test_the_password_of_the_environment_is_used_and_not_passed_on(locked, folder):
    """Also for connections that are made later, when it is no longer in the environment."""
    cluster, password = locked
    admin = cluster.database()
    url = admin.replace("user=postgres", "user=ada")
    asked = subprocess.run([postgres_program("psql"), url, "-w", "-c", ""], capture_output=True, text=True, timeout=30)
    assert "no password supplied" in asked.stderr
    config = command_config(folder, {"probe": PROBE}, program="python3")
    server = Server(url, config=config, environment={"PGPASSWORD": password})
    try:
        scene = Scene(server, pwd.getpwuid(os.geteuid()), url)
        assert password not in json.dumps(scene.probe()["environment"])
        ended = cluster.query(
            admin, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'ada'"
        )
        assert int(ended) > 0
        assert scene.probe()["no_new_privileges"] == "1"
    finally:
        server.close()
