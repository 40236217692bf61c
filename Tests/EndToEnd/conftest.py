"""The fixtures of harness.py, for every test here."""

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
