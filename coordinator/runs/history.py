"""What pages and programs read of rounds without their long lists: lines of rounds, one round whole, events.

A run of 500 rounds among 200 members holds 200,000 names; nothing here reads more of them than it was asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from coordinator.runs import noised_counts
from coordinator.runs.events import RoundEvent
from coordinator.storage import tables as t
from coordinator.storage.database import reading
from shared.domain.run import RoundState

MOST_EVENTS = 1000
"""In one answer; whoever wants more asks again after the last id."""


@dataclass(frozen=True)
class RoundLine:
    """One attempt at a round, its lists counted."""

    number: int
    attempt: int
    state: RoundState
    opened_at: str
    closed_at: str | None
    asked: int
    contributed: int
    seconds: Mapping[str, float]
    bytes_up: int
    bytes_down: int
    correct: float | None
    wrong: float | None
    noise_std: float | None
    checkpoint_digest: str | None
    note: str

    @property
    def total_s(self) -> float:
        """From its first instruction to its last number."""
        return sum(self.seconds.values())

    @property
    def accuracy(self) -> tuple[float, float] | None:
        """From noised counts, with one standard error of their noise; None without useful counts."""
        if self.correct is None or self.wrong is None:
            return None
        return noised_counts.accuracy(self.correct, self.wrong, self.noise_std)


@dataclass(frozen=True)
class StoredEvent:
    """An event with its place in the order of all events."""

    id: int
    number: int
    attempt: int
    event: RoundEvent


_LINE = (
    *(column for column in t.rounds.c if column.name not in ("cohort", "contributors", "missing", "run_id")),
    sa.func.json_array_length(t.rounds.c.cohort).label("asked"),
    sa.func.json_array_length(t.rounds.c.contributors).label("contributed"),
)


def round_lines(engine: sa.Engine, run_id: str, since: int = 0) -> list[RoundLine]:
    """All attempts of all rounds of a run from number `since` on, in order."""
    c = t.rounds.c
    query = sa.select(*_LINE).where((c.run_id == run_id) & (c.number >= since)).order_by(c.number, c.attempt)
    with reading(engine) as db:
        return [_line(row) for row in db.execute(query)]


def _line(row: sa.Row[Any]) -> RoundLine:
    return RoundLine(
        row.number,
        row.attempt,
        RoundState(row.state),
        row.opened_at,
        row.closed_at,
        row.asked,
        row.contributed,
        row.seconds,
        row.bytes_up,
        row.bytes_down,
        row.counts_correct,
        row.counts_wrong,
        row.counts_noise_std,
        row.checkpoint_digest,
        row.note,
    )


def attempts_of(engine: sa.Engine, run_id: str, number: int) -> list[dict[str, Any]]:
    """Every attempt at one round as stored, with its lists and its contributions by member id, in order."""
    rounds, given = t.rounds.c, t.contributions.c
    with reading(engine) as db:
        of_round = (rounds.run_id == run_id) & (rounds.number == number)
        rows = db.execute(sa.select(t.rounds).where(of_round).order_by(rounds.attempt))
        attempts = [dict(row._mapping) | {"contributions": {}} for row in rows]
        of_number = (given.run_id == run_id) & (given.round_number == number)
        for row in db.execute(sa.select(t.contributions).where(of_number)):
            line = {"payload_digest": row.payload_digest, "signature": row.signature, "bytes": row.bytes}
            attempts[row.attempt - 1]["contributions"][row.member_id] = line
    return attempts


def last_validated(engine: sa.Engine, run_ids: Collection[str]) -> dict[str, RoundLine]:
    """Run id → its newest closed round with noised counts; without runs that have none."""
    c = t.rounds.c
    counted = c.run_id.in_(run_ids) & (c.state == RoundState.CLOSED.value) & c.counts_correct.is_not(None)
    newest = (
        sa.select(c.run_id, sa.func.max(c.number).label("last")).where(counted).group_by(c.run_id).subquery()
    )
    query = (
        sa.select(c.run_id, *_LINE)
        .join(newest, (c.run_id == newest.c.run_id) & (c.number == newest.c.last))
        .where(counted)
    )
    with reading(engine) as db:
        return {row.run_id: _line(row) for row in db.execute(query)}


def outcome_of(
    engine: sa.Engine, run_id: str, number: int, attempt: int
) -> tuple[frozenset[str], dict[str, str]]:
    """Who is in an attempt's sum, and member id → why it is not, or not any more."""
    c = t.rounds.c
    where = (c.run_id == run_id) & (c.number == number) & (c.attempt == attempt)
    with reading(engine) as db:
        row = db.execute(sa.select(c.contributors, c.missing).where(where)).one()
    return frozenset(row.contributors), dict(row.missing)


def last_contributed(engine: sa.Engine, run_id: str, members: Collection[str], before: int) -> dict[str, int]:
    """Member id → the last round below `before` that it contributed to; without those that never did."""
    c = t.contributions.c
    query = (
        sa.select(c.member_id, sa.func.max(c.round_number).label("last"))
        .where((c.run_id == run_id) & (c.round_number < before) & c.member_id.in_(members))
        .group_by(c.member_id)
    )
    if not members:
        return {}
    with reading(engine) as db:
        return {row.member_id: row.last for row in db.execute(query)}


def charged_rounds(engine: sa.Engine, run_id: str, member_id: str | None = None) -> list[int]:
    """Rounds in which somebody was asked, or this member: they are charged whatever came of them (clause 5.5)."""
    c = t.rounds.c
    asked = sa.func.json_array_length(c.cohort) > 0
    if member_id is not None:
        asked = sa.cast(c.cohort, sa.Text).contains(f'"{member_id}"', autoescape=True)
    query = sa.select(c.number).where((c.run_id == run_id) & asked).distinct().order_by(c.number)
    with reading(engine) as db:
        return list(db.execute(query).scalars())


def charged_by_member(engine: sa.Engine, run_id: str) -> dict[str, list[int]]:
    """The same for every member at once: id → rounds, without those that were never asked. Reads every cohort."""
    c = t.rounds.c
    query = sa.select(c.number, c.cohort).where(c.run_id == run_id).order_by(c.number)
    found: dict[str, dict[int, None]] = {}
    with reading(engine) as db:
        for row in db.execute(query):
            for member_id in row.cohort:
                found.setdefault(member_id, {})[row.number] = None
    return {member_id: list(numbers) for member_id, numbers in found.items()}


def events_of(engine: sa.Engine, run_id: str, number: int, attempt: int) -> list[RoundEvent]:
    """All events of one attempt at a round, in order."""
    c = t.round_events.c
    where = (c.run_id == run_id) & (c.number == number) & (c.attempt == attempt)
    with reading(engine) as db:
        rows = db.execute(sa.select(t.round_events).where(where).order_by(c.id))
        return [_event(row) for row in rows]


def _event(row: sa.Row[Any]) -> RoundEvent:
    return RoundEvent(row.kind, row.member_id, row.detail, row.at, row.seconds)


def events(engine: sa.Engine, run_id: str, after: int = 0, limit: int = MOST_EVENTS) -> list[StoredEvent]:
    """Events of a run with an id above `after`, oldest first."""
    c = t.round_events.c
    where = (c.run_id == run_id) & (c.id > after)
    query = sa.select(t.round_events).where(where).order_by(c.id).limit(min(limit, MOST_EVENTS))
    with reading(engine) as db:
        return [StoredEvent(row.id, row.number, row.attempt, _event(row)) for row in db.execute(query)]
