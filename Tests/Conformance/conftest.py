"""The fixtures of harness.py and interop.py, for every test here."""

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
from interop import interop_certificates, interop_server  # noqa: F401
