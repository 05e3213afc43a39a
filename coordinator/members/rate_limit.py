"""A sliding window over failed attempts, in memory: a restart forgets it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from shared.domain.clock import Clock
from shared.domain.errors import TooManyAttempts

MAXIMUM_KEYS = 10_000


class AttemptLimiter:
    """At most `limit` failures for one key within `window_s` seconds."""

    def __init__(self, clock: Clock, limit: int, window_s: float) -> None:
        self._clock = clock
        self._limit = limit
        self._window = timedelta(seconds=window_s)
        self._failures: dict[str, deque[datetime]] = {}
        self._lock = threading.Lock()

    @contextmanager
    def attempt(self, *keys: str) -> Iterator[None]:
        """Around one attempt: it counts as failed from its start, and stops counting when it succeeds.

        Counted first, so that many at once cannot all slip under the limit. Raises TooManyAttempts.
        """
        moment = self._clock.now()
        with self._lock:
            for key in keys:
                self._check(key, moment)
            for key in keys:
                self._failures.setdefault(key, deque()).append(moment)
        yield
        with self._lock:
            for key in keys:
                if moment in self._failures.get(key, ()):
                    self._failures[key].remove(moment)

    def _check(self, key: str, moment: datetime) -> None:
        if len(self._failures) >= MAXIMUM_KEYS:
            self._forget(moment)
        failures = self._failures.get(key)
        if failures is None:
            return
        while failures and moment - failures[0] >= self._window:
            failures.popleft()
        if len(failures) >= self._limit:
            wait_s = int((failures[0] + self._window - moment).total_seconds()) + 1
            raise TooManyAttempts(
                f"{self._limit} attempts failed in a short time. This one was not looked at. "
                f"Wait {wait_s} seconds."
            )

    def _forget(self, moment: datetime) -> None:
        """Drop keys whose failures are all over; then the oldest ones, so that memory stays bounded."""
        over = [
            key for key, times in self._failures.items() if not times or moment - times[-1] >= self._window
        ]
        for key in over:
            del self._failures[key]
        while len(self._failures) >= MAXIMUM_KEYS:
            del self._failures[next(iter(self._failures))]
