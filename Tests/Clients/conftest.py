"""The fixtures of the tests, which are run for each language: `--language go --language cpp`, or all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from access import SCOPES, TokenFile
from authority import LOOPBACK, Authority
from example import Example
from harness import (  # noqa: F401
    Cluster,
    Server,
    api,
    client,
    cluster,
    command_config,
    proxy,
    pytest_runtest_makereport,
    pytest_runtest_protocol,
    user,
)
from languages import LANGUAGES, ROOT
from results import Results

#: How many watches of one user a server allows: one that was left and is still open is one too many.
WATCHES_MAX = 200

#: A kind that runs on when it is cancelled, until the pipe that its payload names has been opened for writing.
STUBBORN = "test.stubborn"
STUBBORN_SCRIPT = """\
trap '' TERM
read -r pipe || true
exec cat "${pipe//\\"/}"
"""


class Secured:
    """A server with TLS, and what a client needs to call it."""

    def __init__(self, server: Server, ca: str, token: str) -> None:
        self.address = f"localhost:{server.address.rpartition(':')[2]}"
        self.ca = ca
        self.token = token


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--language", action="append", choices=sorted(LANGUAGES), help="default: all of them")
    parser.addoption("--write-results", type=Path, metavar="PAGE", help="the page whose table gets the results")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Results(config.getoption("--write-results")), "client-results")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "language" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--language") or list(LANGUAGES)
        metafunc.parametrize("language", [name for name in LANGUAGES if name in chosen], scope="session")


@pytest.fixture(scope="session")
def built(language: str, request: pytest.FixtureRequest) -> Example:
    """The program of a language, built once."""
    chosen = LANGUAGES[language]
    # The times that are written down are those of whole builds.
    seconds = chosen.make(from_nothing=request.config.getoption("--write-results") is not None)
    request.config.pluginmanager.get_plugin("client-results").built(chosen, seconds)
    return Example(chosen)


@pytest.fixture
def example(built: Example) -> Iterator[Example]:
    yield built
    built.end_programs()


@pytest.fixture(scope="session")
def server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that do not harm it."""
    server = Server(
        cluster.database(),
        name="shared",
        config=command_config(tmp_path_factory.mktemp("shared"), {STUBBORN: STUBBORN_SCRIPT}),
        arguments=["--max-watches-per-user", str(WATCHES_MAX), "--grace", "60s"],
    )
    yield server
    server.close()


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    authority = Authority()
    yield authority
    authority.close()


@pytest.fixture(scope="session")
def secured(cluster: Cluster, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A server with a certificate of `authority`, which serves only callers with a token."""
    tokens = TokenFile(tmp_path_factory.mktemp("secured") / "tokens.yaml")
    token = tokens.add("example", *SCOPES, users="all")
    tokens.write()
    pair = authority.issue(*LOOPBACK)
    server = Server(
        cluster.database(),
        name="secured",
        arguments=[
            *("--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key)),
            *("--auth-tokens", str(tokens.path)),
        ],
    )
    yield Secured(server, str(authority.path), token)
    server.close()


def pytest_sessionstart() -> None:
    """A client without an entry in the table would not be tested."""
    folders = {path.name for path in (ROOT / "clients").iterdir() if path.is_dir()} - {"python"}
    if folders != LANGUAGES.keys():
        differences = ", ".join(sorted(folders ^ LANGUAGES.keys()))
        pytest.exit(f"clients/ and languages.py have not the same languages: {differences}", 2)
