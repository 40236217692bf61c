"""The command line as a client: what it prints, its JSON, and its exit codes."""

from __future__ import annotations

import base64
import json
import os
import pty
import select
import subprocess
import uuid
from contextlib import suppress
from typing import Any

import pytest
from harness import BINARY, PATIENCE_S, Proxy, Server, clean_environment, unique

DONE, FAILED, NOT_FOUND, UNAVAILABLE, REFUSED, USAGE = 0, 1, 3, 4, 5, 64

#: A port on which nothing listens (1 is tcpmux: never in a container or on a developer's machine).
NOWHERE = "127.0.0.1:1"


class Shell:
    """Runs `signalbox` with a server's address in the environment."""

    def __init__(self, address: str) -> None:
        own = {"SIGNALBOX_SERVER": address, "USER": "shell", "LC_ALL": "C.UTF-8"}
        self.environment = {**clean_environment(), **own}

    def run(self, *arguments: str, code: int = DONE, input: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(BINARY), *arguments],
            input=input,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=self.environment,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def lines(self, *arguments: str, **options: Any) -> list[str]:
        return self.run(*arguments, **options).stdout.splitlines()

    def json(self, *arguments: str, **options: Any) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines(*arguments, "--json", **options)]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(BINARY), *arguments], stdout=subprocess.PIPE, text=True, env=self.environment, **options
        )


@pytest.fixture
def shell(server: Server) -> Shell:
    return Shell(server.address)


def test_enqueue_prints_the_id_and_get_shows_the_job(shell, user):
    (id,) = shell.lines("enqueue", "test.echo", "--user", user, "--payload", '{"a": [1, "ü"]}')
    assert str(uuid.UUID(id)) == id
    shell.run("watch", id)
    (job,) = shell.json("get", id, "--payload")
    assert job["id"] == id and job["kind"] == "test.echo" and job["user_id"] == user
    assert job["state"] == "JOB_STATE_SUCCEEDED" and job["attempt"] == 1 and job["max_attempts"] == 3
    assert json.loads(base64.b64decode(job["payload"])) == {"a": [1, "ü"]}
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["ATTEMPT_OUTCOME_SUCCEEDED"]
    text = shell.run("get", id).stdout
    assert id in text and "SUCCEEDED" in text


def test_every_option_of_enqueue_arrives(shell, user):
    id, queue = str(uuid.uuid4()), unique("queue")
    (answer,) = shell.json(
        *("enqueue", "test.noop", "--user", user, "--queue", queue, "--id", id, "--key", "k1"),
        *("--priority", "-7", "--delay", "1h", "--max-attempts", "9", "--job-timeout", "2m"),
        *("--soft-timeout", "90s", "--retry-initial", "1s", "--retry-factor", "3", "--retry-max", "1m"),
        *("--retry-jitter", "0.5", "--label", "a=b=c", "--label", "d=", "--content-type", "text/plain"),
        *("--payload-file", "-"),
        input="not JSON",
    )
    job = answer["job"]
    assert answer["created"] and job["id"] == id and job["queue"] == queue and job["priority"] == -7
    assert job["idempotency_key"] == "k1" and job["max_attempts"] == 9
    assert job["timeout"] == "120s" and job["soft_timeout"] == "90s"
    assert job["retry_policy"] == {
        "initial_delay": "1s",
        "factor": 3,
        "max_delay": "60s",
        "jitter": 0.5,
    }
    assert job["labels"] == {"a": "b=c", "d": ""} and job["content_type"] == "text/plain"
    assert job["state"] == "JOB_STATE_PENDING" and job["due_at"] > job["created_at"]
    (job,) = shell.json("get", id, "--payload")
    assert base64.b64decode(job["payload"]) == b"not JSON"


def test_the_user_is_ones_own_unless_given(shell):
    (answer,) = shell.json("enqueue", "test.noop")
    assert answer["job"]["user_id"] == "shell"


def test_the_same_id_again(shell, user):
    id = str(uuid.uuid4())
    arguments = ("enqueue", "test.noop", "--user", user, "--id", id)
    assert shell.lines(*arguments) == [id]
    again = shell.run(*arguments)
    assert again.stdout == f"{id}\n" and "already" in again.stderr
    (answer,) = shell.json(*arguments)
    assert "created" not in answer and answer["disposition"] == "ENQUEUE_DISPOSITION_SAME_REQUEST"
    shell.run(*arguments, "--priority", "1", code=REFUSED)


def test_enqueue_watch_tells_success_and_failure(shell, user):
    id, *lines = shell.lines("enqueue", "test.sleep", "--user", user, "--payload", '{"ms":50}', "--watch")
    assert lines[-1] == f"{id} SUCCEEDED attempt 1"
    _, *lines = shell.lines(
        *("enqueue", "test.fail", "--user", user, "--payload", '{"permanent":true,"times":1}', "--watch"),
        code=FAILED,
    )
    assert " FAILED " in lines[-1]


def test_watch_gives_every_event_as_json(shell, client, user):
    job = client.enqueue("test.sleep", {"ms": 100, "steps": 4}, user_id=user)
    client.wait(job.id, timeout=PATIENCE_S)
    messages = shell.json("watch", job.id, "--after", "1")
    assert [message["lifecycle"]["type"] for message in messages if "lifecycle" in message] == [
        "JOB_EVENT_TYPE_STARTED",
        "JOB_EVENT_TYPE_SUCCEEDED",
    ]
    assert all(len(message.keys() - {"resume_token"}) == 1 for message in messages)
    first = shell.json("watch", job.id)[0]
    assert first["snapshot"]["job"]["state"] == "JOB_STATE_SUCCEEDED"
    echo = client.enqueue("test.echo", {"text": "hello"}, user_id=user)
    client.wait(echo.id, timeout=PATIENCE_S)
    last = [message["lifecycle"] for message in shell.json("watch", echo.id) if "lifecycle" in message]
    assert [json.loads(base64.b64decode(event["result"]["data"])) for event in last] == [{"text": "hello"}]
    # Nothing is left to tell, but the exit code still says how it went.
    assert [m for m in shell.json("watch", job.id, "--after", "3") if "lifecycle" in m] == []


def test_watch_goes_on_when_the_connection_is_cut(client, proxy: Proxy, user):
    queue = unique("cut")
    client.pause(queue)
    id = client.enqueue("test.sleep", {"ms": 50}, user_id=user, queue=queue).id
    watch = Shell(proxy.address).start("watch", id, "--json", stderr=subprocess.DEVNULL)
    try:
        assert watch.stdout
        assert "snapshot" in json.loads(watch.stdout.readline())
        proxy.cut()
        client.resume(queue)
        rest = [json.loads(line) for line in watch.stdout]
        assert watch.wait(PATIENCE_S) == DONE
    finally:
        watch.kill()
        watch.wait(30)
    sequences = [message["lifecycle"]["sequence"] for message in rest if "lifecycle" in message]
    assert sequences == ["2", "3"]


def test_watch_of_a_user_goes_on(shell, client, user):
    watch = shell.start("watch", "--user", user, "--json")
    try:
        assert watch.stdout
        while "snapshots_complete" not in json.loads(watch.stdout.readline()):
            pass
        id = client.enqueue("test.noop", user_id=user).id
        types = []
        while not types or types[-1] != "JOB_EVENT_TYPE_SUCCEEDED":
            message = json.loads(watch.stdout.readline())
            if "lifecycle" in message:
                assert message["lifecycle"]["job_id"] == id
                types.append(message["lifecycle"]["type"])
        assert types == [f"JOB_EVENT_TYPE_{type}" for type in ("ENQUEUED", "STARTED", "SUCCEEDED")]
        assert watch.poll() is None
    finally:
        watch.kill()
        watch.wait(30)


def test_bars_on_a_terminal(shell, client, user):
    queue = unique("held")
    client.pause(queue)
    id = client.enqueue("test.sleep", {"ms": 1_500, "steps": 6}, user_id=user, queue=queue).id
    near, far = pty.openpty()
    watch = subprocess.Popen([str(BINARY), "watch", id], stdout=far, env=shell.environment)
    os.close(far)
    output = b""
    try:
        assert select.select([near], [], [], PATIENCE_S)[0], "nothing is drawn"
        client.resume(queue)
        # An error is how Linux says that the other side is closed.
        with suppress(OSError):
            while select.select([near], [], [], PATIENCE_S)[0] and (chunk := os.read(near, 65536)):
                output += chunk
        assert watch.wait(PATIENCE_S) == DONE
    finally:
        os.close(near)
        watch.kill()
        watch.wait(30)
    text = output.decode()
    assert "\x1b[1A" in text and "[" + "█" in text
    last_frame = text.split("\x1b[1A")[-1]
    assert f"{id} SUCCEEDED test.sleep" in last_frame and "█" not in last_frame


def test_list_filters_and_pages(shell, user):
    ids = [shell.lines("enqueue", "test.noop", "--user", user, "--label", f"n={n}")[0] for n in range(3)]
    assert [job["id"] for job in shell.json("list", "--user", user)] == ids[::-1]
    assert [job["id"] for job in shell.json("list", "--user", user, "--limit", "2")] == ids[:0:-1]
    assert [job["id"] for job in shell.json("list", "--user", user, "--label", "n=1")] == [ids[1]]
    shell.run("watch", *ids)
    assert len(shell.json("list", "--user", user, "--state", "succeeded")) == 3
    assert shell.json("list", "--user", user, "--state", "failed", "--state", "running") == []
    title, *rows = shell.lines("list", "--user", user)
    assert title.split()[:2] == ["ID", "KIND"] and [row.split()[0] for row in rows] == ids[::-1]
    assert shell.lines("list", "--user", user, "--queue", unique()) == []


def test_cancel_and_retry(shell, user):
    (id,) = shell.lines("enqueue", "test.noop", "--user", user, "--delay", "1h")
    (job,) = shell.json("cancel", id, "--note", "not needed")
    assert job["state"] == "JOB_STATE_CANCELLED" and job["error"]["message"] == "not needed"
    shell.run("watch", id, code=FAILED)
    shell.run("retry", id, "--expect-sequence", "1", code=REFUSED)
    (job,) = shell.json("retry", id, "--expect-sequence", job["sequence"])
    assert job["state"] == "JOB_STATE_PENDING"
    shell.run("retry", id, code=REFUSED)


def test_one_job_that_is_not_there_keeps_no_other_from_being_cancelled(shell, user):
    (id,) = shell.lines("enqueue", "test.noop", "--user", user, "--delay", "1h")
    missing = str(uuid.uuid4())
    done = shell.run("cancel", missing, id, code=NOT_FOUND)
    assert missing in done.stderr and f"{id} CANCELLED" in done.stdout


def test_result_to_a_file(shell, user, tmp_path):
    (id,) = shell.lines("enqueue", "test.echo", "--user", user, "--payload", '{"a":1.50}')
    shell.run("watch", id)
    shell.run("get", id, "--result-to", str(tmp_path / "result"))
    exact = (tmp_path / "result").read_text()
    assert json.loads(exact) == {"a": 1.5}
    assert shell.run("get", id, "--result-to", "-").stdout == exact
    (waiting,) = shell.lines("enqueue", "test.echo", "--user", user, "--delay", "1h")
    shell.run("get", waiting, "--result-to", str(tmp_path / "none"), code=NOT_FOUND)
    shell.run("get", id, "--result-to", str(tmp_path / "no" / "folder"), code=USAGE)


def test_stats_nodes_and_queues(shell, server, user):
    queue = unique("queue")
    shell.run("queue", "pause", queue)
    shell.run("enqueue", "test.noop", "--user", user, "--queue", queue)
    (stats,) = shell.json("stats", "--queue", queue)
    assert stats["name"] == queue and stats["stats"]["pending"] == "1" and stats["paused"]
    assert queue in shell.run("stats").stdout
    assert shell.json("queue", "resume", queue) == [{"name": queue}]
    node = next(node for node in shell.json("nodes") if node["name"] == server.name)
    assert node["alive"] and "test.noop" in node["kinds"]
    assert server.name in shell.run("nodes").stdout


def test_limits(shell, user):
    assert shell.json("limits", "get", "--user", user)[0]["max_running"] == 3
    (limit,) = shell.json("limits", "set", "--user", user, "--max-running", "7")
    assert limit["max_running"] == 7 and limit["overridden"] and limit["user_id"] == user
    assert " 7 at once" in shell.run("limits", "get", "--user", user).stdout
    (limit,) = shell.json("limits", "set", "--user", user, "--clear")
    assert limit["max_running"] == 3 and "overridden" not in limit


def test_server_info(shell, server):
    (info,) = shell.json("server-info")
    assert info["node"] == server.name and info["api_packages"] == ["signalbox.v1"]
    assert info["caller"] == {
        "source": "none",
        "scopes": ["admin", "jobs.cancel", "jobs.enqueue", "jobs.read"],
        "all_users": True,
    }
    assert info["limits"]["max_batch_jobs"] == 10_000 and "max_wait" not in info["limits"]
    assert f"version:  {info['version']}" in shell.lines("server-info")


def test_health(shell):
    assert shell.lines("health") == ["SERVING"]
    assert shell.json("health", "--service", "signalbox.v1.JobService") == [{"status": "SERVING"}]
    shell.run("health", "--service", "no.such.Service", code=NOT_FOUND)


def test_nobody_there():
    shell = Shell(NOWHERE)
    id = str(uuid.uuid4())
    for arguments in (["health"], ["list"], ["get", id], ["watch", id], ["enqueue", "test.noop"]):
        done = shell.run(*arguments, code=UNAVAILABLE)
        assert done.stdout == "" and NOWHERE in done.stderr


TOKEN = "sbx_s3cret"


@pytest.fixture
def elsewhere(server) -> str:
    """The shared server by an address that is not loopback, though Linux takes it there."""
    return f"0.0.0.0:{server.address.rpartition(':')[2]}"


def test_a_token_goes_to_another_machine_with_tls_or_insecure_only(elsewhere, user, tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    by_variable, by_file = Shell(elsewhere), Shell(elsewhere)
    by_variable.environment["SIGNALBOX_TOKEN"] = TOKEN
    by_file.environment["SIGNALBOX_TOKEN_FILE"] = str(file)
    id = str(uuid.uuid4())
    for shell in (by_variable, by_file):
        # What is exported for a server says nothing about its clients.
        shell.environment["SIGNALBOX_INSECURE"] = "true"
        for arguments in (["health"], ["list"], ["get", id], ["watch", id], ["cancel", id], ["stats"]):
            done = shell.run(*arguments, code=USAGE)
            assert f"{elsewhere} is not on this machine" in done.stderr and "--tls-ca FILE" in done.stderr
            assert "--insecure" in done.stderr and "s3cret" not in done.stdout + done.stderr
        assert shell.lines("health", "--insecure") == ["SERVING"]
        (id,) = shell.lines("enqueue", "test.noop", "--user", user, "--insecure")
        shell.run("watch", id, "--insecure")
    # The server speaks no TLS, and gets nothing.
    by_file.run("health", "--tls", code=UNAVAILABLE)
    assert "remove one of them" in by_file.run("health", "--tls", "--insecure", code=USAGE).stderr


def test_a_token_for_this_machine_needs_no_tls(shell, server):
    shell.environment["SIGNALBOX_TOKEN"] = TOKEN
    port = server.address.rpartition(":")[2]
    for host in ("127.0.0.1", "[::ffff:127.0.0.1]", "localhost"):
        assert shell.lines("health", "--server", f"{host}:{port}") == ["SERVING"]


def test_a_job_that_is_not_there(shell):
    id = str(uuid.uuid4())
    for command in ("get", "watch", "cancel", "retry"):
        assert shell.run(command, id, code=NOT_FOUND).stdout == ""


def test_the_fields_of_a_bad_request_are_listed(shell, user):
    done = shell.run(
        *("enqueue", "no.such.kind", "--user", user, "--priority", "101", "--payload", "{"), code=REFUSED
    )
    fields = {line.split(":")[0].strip() for line in done.stderr.splitlines()[1:]}
    assert fields >= {"job.priority", "job.payload"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["enqueue"],
        ["enqueue", "test.noop", "--delay", "soon"],
        ["enqueue", "test.noop", "--payload-file", "/no/such/file"],
        ["watch"],
        ["watch", "not-an-id"],
        ["list", "--state", "done"],
        ["limits", "set", "--user", "u"],
        ["list", "--server", "nowhere"],
        ["list", "--timeout", "0s"],
        ["nonsense"],
    ],
)
def test_wrong_usage(shell, arguments):
    done = shell.run(*arguments, code=USAGE)
    assert done.stdout == "" and done.stderr


def test_a_payload_that_is_too_long(shell, user, tmp_path):
    (tmp_path / "payload").write_bytes(b" " * (1024 * 1024 + 1))
    arguments = ("enqueue", "test.noop", "--user", user, "--payload-file", str(tmp_path / "payload"))
    assert "longer" in shell.run(*arguments, code=USAGE).stderr
