"""The fixtures of the end-to-end tests, for those tests here that need a real server, and certificates."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

for folder in ("Tests/EndToEnd", "Tests/Conformance"):
    # At the end, for both have a conftest of their own.
    sys.path.append(str(Path(__file__).resolve().parents[3] / folder))

from harness import (  # noqa: E402, F401
    client,
    cluster,
    proxy,
    pytest_runtest_makereport,
    pytest_runtest_protocol,
    server,
    user,
)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "server: needs the server's binary and Postgres")
