"""When to try again. Pure: the random number and the time come in from outside."""

from __future__ import annotations

import random
from collections.abc import Callable

import grpc

from ._errors import ServiceError


class Backoff:
    """Delays that double up to a bound, each between half and all of its nominal length, in seconds."""

    def __init__(
        self, initial: float = 0.1, longest: float = 5.0, rand: Callable[[], float] = random.random
    ) -> None:
        self._initial = initial
        self._longest = longest
        self._rand = rand
        self._next = initial

    def reset(self) -> None:
        self._next = self._initial

    def next_delay(self, error: ServiceError | None = None) -> float:
        """Never less than what the service asks for in `error`, but for its own bound of 60 s."""
        nominal = self._next
        self._next = min(self._longest, nominal * 2)
        delay = nominal * (0.5 + self._rand() / 2)
        if error is not None and error.retry_after is not None:
            delay = max(delay, min(error.retry_after.total_seconds(), 60.0))
        return delay


class UnaryRetry:
    """Whether and when one unary call is made again. Only UNAVAILABLE is, and only if that is safe."""

    def __init__(self, deadline: float, safe: bool, backoff: Backoff | None = None) -> None:
        self._deadline = deadline
        self._safe = safe
        self._backoff = backoff or Backoff(longest=2.0)

    def delay_after(self, error: ServiceError, now: float) -> float | None:
        """Seconds to wait, or None: give up with this error. Never reaches past the deadline."""
        if not self._safe or error.code is not grpc.StatusCode.UNAVAILABLE:
            return None
        delay = self._backoff.next_delay(error)
        return delay if now + delay < self._deadline else None
