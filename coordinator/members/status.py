"""What changes often about a member: when its node was last connected, and the budget it declares to be left.

The carrier's memory knows who is connected now, the database when each was seen last, so that it survives a restart.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from coordinator.audit.log import append
from coordinator.members import store
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import member_status
from shared.domain.clock import Clock, from_text, to_text
from shared.domain.consortium import BudgetLeft

log = logging.getLogger("commonlens.coordinator")
LOOK_EVERY_S = 5.0
WRITE_EVERY_S = 60.0
"""Of a node that stays connected; one that goes is written at once."""


@dataclass(frozen=True)
class MemberStatus:
    """Of one member; nothing is known of one that never connected."""

    last_seen_at: str | None = None
    budget_left: BudgetLeft | None = None
    budget_at: str | None = None
    """When the member declared it."""


class StatusService:
    """Keeps it and reads it."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def every(self) -> dict[str, MemberStatus]:
        """Member id → status, for those of whom something is known."""
        with reading(self._engine) as connection:
            return {row.member_id: _status(row) for row in connection.execute(sa.select(member_status))}

    def of(self, member_id: str) -> MemberStatus:
        """One member's."""
        query = sa.select(member_status).where(member_status.c.member_id == member_id)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return MemberStatus() if row is None else _status(row)

    def seen(self, member_ids: Iterable[str], moment: str) -> None:
        """These nodes were connected at `moment`; an earlier moment changes nothing."""
        column = member_status.c.last_seen_at
        mine = member_status.c.member_id.in_(list(member_ids)) & (column.is_(None) | (column < moment))
        with writing(self._engine) as connection:
            connection.execute(member_status.update().where(mine).values(last_seen_at=moment))

    def report(self, member_id: str, software_version: str, budget: BudgetLeft | None) -> None:
        """What a node says of itself. Only a new version leaves an audit line: a budget changes with every run."""
        values = {
            "budget_share": budget.share if budget else None,
            "budget_epsilon": budget.epsilon if budget else None,
            "budget_delta": budget.delta if budget else None,
            "budget_at": to_text(self._clock.now()) if budget else None,
        }
        with writing(self._engine) as connection:
            mine = member_status.c.member_id == member_id
            connection.execute(member_status.update().where(mine).values(values))
            node = store.get_member(connection, member_id).node
            if node.software_version != software_version:
                store.set_node(connection, member_id, node.device, software_version)
                detail = {"was": node.software_version, "is": software_version}
                actor = f"member:{member_id}"
                append(connection, self._clock, actor, "member.software-changed", member_id, detail)


class PresenceWatch:
    """Looks now and then who is connected, and writes it down seldom enough to cost nothing."""

    def __init__(self, status: StatusService, clock: Clock, online: Callable[[], frozenset[str]]) -> None:
        self._status = status
        self._clock = clock
        self._online = online
        self._seen: dict[str, str] = {}
        """Who was connected at the last look → the moment that is written down for it."""
        self._last_look = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="presence")

    def look(self) -> None:
        """One look: writes down who is new, who has gone since, and whose moment is a minute old."""
        moment, online = to_text(self._clock.now()), self._online()
        gone = [member for member in self._seen if member not in online]
        due = [member for member in online if self._age(member, moment) >= WRITE_EVERY_S]
        if gone:
            self._status.seen(gone, self._last_look)
        if due:
            self._status.seen(due, moment)
        self._seen = {member: self._seen[member] for member in online if member not in due} | dict.fromkeys(
            due, moment
        )
        self._last_look = moment

    def start(self) -> None:
        """Look until `stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more; who is connected now is written down."""
        self._stop.set()
        self._thread.join(timeout=LOOK_EVERY_S)
        with _logged():
            self._status.seen(self._seen, self._last_look)

    def _age(self, member_id: str, moment: str) -> float:
        written = self._seen.get(member_id)
        return WRITE_EVERY_S if written is None else (from_text(moment) - from_text(written)).total_seconds()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            with _logged():
                self.look()


@contextmanager
def _logged() -> Iterator[None]:
    """A disk that is full or a database that restarts must not end the watch: the next look may work."""
    try:
        yield
    except Exception:
        log.exception("who is connected could not be written down")


def _status(row: sa.Row[Any]) -> MemberStatus:
    budget = None
    if row.budget_share is not None:
        budget = BudgetLeft(row.budget_share, row.budget_epsilon, row.budget_delta)
    return MemberStatus(row.last_seen_at, budget, row.budget_at)
