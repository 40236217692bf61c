"""The parts of channels and calls that both clients share. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Seconds that a unary call may take in all, unless said otherwise.
DEFAULT_TIMEOUT_S = 10.0

#: Channel arguments, unless a caller has its own.
CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    # A connection whose peer vanished is noticed within 40 s, also while nothing is sent.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A node that restarts is found again soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A page of 1,000 jobs with all their labels.
    ("grpc.max_receive_message_length", 32 << 20),
)


def channel_arguments(
    own: Sequence[tuple[str, Any]], security: Sequence[tuple[str, Any]]
) -> list[tuple[str, Any]]:
    """Each argument once, for grpc takes the first of several: those of security before a caller's own before ours."""
    return list({**dict(CHANNEL_OPTIONS), **dict(own), **dict(security)}.items())
