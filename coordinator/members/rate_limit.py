"""A sliding window over failed attempts, in memory: a restart forgets it."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from shared.domain.clock import Clock
from shared.domain.errors import TooManyAttempts

MAXIMUM_KEYS = 10_000
"""Of one kind, that are counted and not blocked; and as many again that are blocked."""


class AttemptLimiter:
    """At most `limit` failures for one key within `window_s` seconds.

    Keys are of kinds, `address:…`, `name:…`: each kind has a memory of its own, so that failures that cost nothing
    but addresses cannot push names out.
    """

    def __init__(self, clock: Clock, limit: int, window_s: float) -> None:
        self._clock = clock
        self._limit = limit
        self._window = timedelta(seconds=window_s)
        self._tables: dict[str, _Table] = {}
        self._lock = threading.Lock()

    @contextmanager
    def attempt(self, *keys: str) -> Iterator[None]:
        """Around one attempt: it counts as failed from its start, and stops counting when it succeeds.

        Counted first, so that many at once cannot all slip under the limit. Raises TooManyAttempts. An attempt that
        raises TooManyAttempts itself was not looked at and does not count.
        """
        moment = self._clock.now()
        with self._lock:
            for key in keys:
                self._check(key, moment)
            for key in keys:
                failures = self._table(key).take(key)
                failures.append(moment)
                self._put(key, failures)
        try:
            yield
        except TooManyAttempts:
            self._uncount(keys, moment)
            raise
        self._uncount(keys, moment)

    def _uncount(self, keys: tuple[str, ...], moment: datetime) -> None:
        with self._lock:
            for key in keys:
                failures = self._table(key).take(key)
                if moment in failures:
                    failures.remove(moment)
                self._put(key, failures)

    def _check(self, key: str, moment: datetime) -> None:
        table = self._table(key)
        table.forget(moment - self._window)
        failures = table.get(key)
        if failures is None:
            return
        if moment - failures[0] >= self._window:
            failures = table.take(key)
            while failures and moment - failures[0] >= self._window:
                failures.popleft()
            self._put(key, failures)
        if len(failures) >= self._limit:
            wait_s = int((failures[0] + self._window - moment).total_seconds()) + 1
            raise TooManyAttempts(
                f"{self._limit} attempts failed in a short time. This one was not looked at. "
                f"Wait {wait_s} seconds."
            )

    def _table(self, key: str) -> _Table:
        kind, colon, _ = key.partition(":")
        return self._tables.setdefault(kind if colon else "", _Table())

    def _put(self, key: str, failures: deque[datetime]) -> None:
        self._table(key).put(key, failures, blocked=len(failures) >= self._limit)


class _Table:
    """The failures of one kind of key, those that failed last at the end; what is blocked is kept apart.

    So room is made at the front in no time, and never by letting off somebody who is blocked.
    """

    def __init__(self) -> None:
        self._counted: OrderedDict[str, deque[datetime]] = OrderedDict()
        self._blocked: OrderedDict[str, deque[datetime]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counted) + len(self._blocked)

    def get(self, key: str) -> deque[datetime] | None:
        return self._blocked.get(key) or self._counted.get(key)

    def take(self, key: str) -> deque[datetime]:
        """Out of the table: `put` gives it back."""
        return self._blocked.pop(key, None) or self._counted.pop(key, None) or deque()

    def put(self, key: str, failures: deque[datetime], blocked: bool) -> None:
        if blocked and len(self._blocked) < MAXIMUM_KEYS:
            self._blocked[key] = failures
            return
        if failures:
            self._counted[key] = failures
        if len(self._counted) > MAXIMUM_KEYS:
            self._counted.popitem(last=False)

    def forget(self, until: datetime) -> None:
        """Drop what failed last at `until` or before."""
        for part in (self._counted, self._blocked):
            while part and next(iter(part.values()))[-1] <= until:
                part.popitem(last=False)
