"""Something may have changed: counted at every commit to the database, and whoever waits is woken.

One mechanism for all live pages. What changed is found out by drawing the page's parts again and comparing,
which nobody can forget to announce.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

Parts = Mapping[str, str]
"""Element id → what is in it now, as HTML."""
ACCESS_TABLES = frozenset({"tokens", "accounts", "members"})
"""A change or deletion in one of these may end a session."""


class Pulse:
    """Counts commits, from any thread; wakes waiters on the event loop."""

    def __init__(self, engine: sa.Engine) -> None:
        self.count = 0
        self.access = 0
        """How often a session may have ended, counted before the commit that ends it is announced."""
        self._lock = threading.Lock()
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        event.listen(engine, "after_cursor_execute", self._executed)
        event.listen(engine, "commit", self._committed)

    def _executed(self, connection: sa.Connection, _cursor: Any, statement: str, *_rest: Any) -> None:
        verb, *names = statement.split(None, 3)[:3]
        if verb in ("UPDATE", "DELETE") and not ACCESS_TABLES.isdisjoint(name.strip('"') for name in names):
            connection.info["access"] = True

    def _committed(self, connection: sa.Connection) -> None:
        if connection.info.pop("access", False):
            self.access += 1
        self.beat()

    def beat(self) -> None:
        """Something may have changed."""
        with self._lock:
            self.count += 1
            waiting, self._waiting = self._waiting, set()
        for loop, woken in waiting:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
                loop.call_soon_threadsafe(woken.set)

    async def wait(self, seen: int, patience_s: float) -> int:
        """The count as soon as it is above `seen`, or after `patience_s`."""
        woken = asyncio.Event()
        mine = (asyncio.get_running_loop(), woken)
        with self._lock:
            if self.count > seen:
                return self.count
            self._waiting.add(mine)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), patience_s)
        finally:
            with self._lock:
                self._waiting.discard(mine)
        return self.count
