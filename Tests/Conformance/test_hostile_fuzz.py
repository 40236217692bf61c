"""A few thousand random frame sequences. `fuzz_frames.py` makes as many as one wants, with other seeds."""

from __future__ import annotations

import os

from frames import DATA, HEADERS, RST_STREAM
from fuzz_frames import fuzz
from hostile import HostileServer


def test_random_frames(cluster, record_property):
    server = HostileServer(cluster)
    try:
        seed = int(os.environ.get("FUZZ_SEED", "1"))
        summary = fuzz(server.address, 5_000, seed)
        record_property("figures", str(summary))
        print(summary, dict(summary.answers))
        assert server.is_running
        # They go where there is something to find: calls are answered, streams and connections are refused.
        assert summary.answers[HEADERS] > 1_000 and summary.answers[DATA] > 100
        assert summary.answers[RST_STREAM] > 100 and len(summary.ends) >= 4
    finally:
        server.close()
