"""What cannot change any more, kept between two looks at a run: closed rounds, and what is drawn from them.

A live page is drawn twice a second while rounds close. Without this, every look would read and draw all of them.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import sqlalchemy as sa

from coordinator.runs import history
from coordinator.runs.current_round import OVER
from coordinator.runs.history import RoundLine

Kept = TypeVar("Kept")
MOST_RUNS = 16
MOST_DRAWN = 200


class RunShelf:
    """The finished rounds of runs that somebody looked at lately, and pictures of them."""

    def __init__(self) -> None:
        self._lines: OrderedDict[tuple[sa.Engine, str], tuple[RoundLine, ...]] = OrderedDict()
        self._drawn: OrderedDict[Hashable, Any] = OrderedDict()
        self._guard = threading.Lock()

    def lines(self, engine: sa.Engine, run_id: str) -> list[RoundLine]:
        """All attempts of all rounds, in order; only those are read that were not over at the last look."""
        with self._guard:
            known = self._lines.get((engine, run_id), ())
        # The last number is read again: it may have been tried once more since.
        since = known[-1].number if known else 0
        before = [line for line in known if line.number < since]
        lines = before + history.round_lines(engine, run_id, since)
        over = next((n for n, line in enumerate(lines) if line.state not in OVER), len(lines))
        self._keep(self._lines, (engine, run_id), tuple(lines[:over]), MOST_RUNS)
        return lines

    def drawn(self, key: Hashable, draw: Callable[[], Kept]) -> Kept:
        """What `draw` gives; it is asked once for a key, which names everything that it depends on."""
        with self._guard:
            if key in self._drawn:
                found: Kept = self._drawn[key]
                return found
        made = draw()
        self._keep(self._drawn, key, made, MOST_DRAWN)
        return made

    def _keep(self, shelf: OrderedDict[Any, Any], key: Hashable, value: object, most: int) -> None:
        with self._guard:
            shelf[key] = value
            shelf.move_to_end(key)
            while len(shelf) > most:
                shelf.popitem(last=False)
