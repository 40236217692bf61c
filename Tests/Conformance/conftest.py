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
from interop import (  # noqa: F401
    interop,
    interop_certificates,
    interop_server,
    plaintext_interop_server,
    tls_interop_server,
)
from wire import peer  # noqa: F401
