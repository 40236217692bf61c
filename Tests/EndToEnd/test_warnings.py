"""What the server says at its start about settings that are unsafe, and what it refuses to start with."""

from __future__ import annotations

import json
import subprocess
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import Any

import pytest
from harness import BINARY, PATIENCE_S, ROOT, Server, clean_environment

USAGE = 64


@pytest.fixture(scope="module")
def check_dockerfile() -> Any:
    path = ROOT / "scripts/check-dockerfile"
    loader = SourceFileLoader("check_dockerfile", str(path))
    module = module_from_spec(spec_from_loader("check_dockerfile", loader))
    loader.exec_module(module)
    return module


def test_the_image_does_not_start_until_it_is_told_how(check_dockerfile):
    _, stage = check_dockerfile.last_stage((ROOT / "Dockerfile").read_text())
    command, environment = check_dockerfile.start(stage)
    assert command[0] == "signalbox"
    done = subprocess.run(
        [str(BINARY), *command[1:]],
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    check_dockerfile.check_refusal(done)


def test_a_refusal_that_says_too_little_is_found(check_dockerfile):
    for code, text in ((0, ""), (1, "--tls-certificate --auth-tokens --insecure"), (USAGE, "--insecure")):
        with pytest.raises(SystemExit):
            check_dockerfile.check_refusal(subprocess.CompletedProcess([], code, "", text))


def warnings(server: Server) -> list[str]:
    lines = (json.loads(line) for line in server.log().splitlines())
    return [line["message"] for line in lines if line["level"] == "warning"]


def test_insecure_warns_at_every_start(cluster):
    arguments = ["--insecure", "--log-format", "json"]
    server = Server(cluster.database(), listen="0.0.0.0:0", arguments=arguments, log_level="warning")
    try:
        expected = "everyone who reaches 0.0.0.0:0 may enqueue, read and cancel the jobs of all users"
        assert sum(expected in text for text in warnings(server)) == 1
        server.terminate()
        server.start()
        assert sum(expected in text for text in warnings(server)) == 2
    finally:
        server.close()


PASSWORD = "s3cret-canary"


def test_a_password_in_a_flag_warns(cluster, tmp_path):
    url = f"{cluster.database()}&password={PASSWORD}"
    json_log = ["--log-format", "json"]

    def said(server: Server) -> list[str]:
        try:
            assert PASSWORD not in server.log() + "".join(server.output)
            return [text for text in warnings(server) if "password" in text]
        finally:
            server.close()

    (warning,) = said(Server(url, arguments=json_log))
    assert warning.startswith("--database-url has a password in it")
    assert "SIGNALBOX_DATABASE_URL" in warning and "--config" in warning and "passfile" in warning
    assert said(Server(None, arguments=json_log, environment={"SIGNALBOX_DATABASE_URL": url})) == []
    assert said(Server(None, arguments=json_log, config=f"database_url: {url}\n")) == []


def test_a_password_in_a_flag_of_migrate_warns(cluster):
    url = f"{cluster.database()}&password={PASSWORD}"

    def said(*arguments: str, **environment: str) -> str:
        done = subprocess.run(
            [str(BINARY), "migrate", *arguments],
            env={**clean_environment(), **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done.stderr

    assert "--database-url has a password in it" in said("--database-url", url)
    assert "password" not in said(SIGNALBOX_DATABASE_URL=url)
