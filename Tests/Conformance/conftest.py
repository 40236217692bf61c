"""The fixtures of the end-to-end tests, for every test here."""

import os

import pytest
from harness import (  # noqa: F401
    api,
    client,
    cluster,
    proxy,
    pytest_runtest_makereport,
    pytest_runtest_protocol,
    server,
    user,
)
from wire import peer  # noqa: F401


@pytest.fixture(scope="session")
def interop_server() -> str:
    """The address of a running interop server."""
    address = os.environ.get("INTEROP_SERVER_ADDRESS")
    assert address, "INTEROP_SERVER_ADDRESS is not set"
    return address
