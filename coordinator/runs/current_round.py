"""The newest attempt at a round of a run: its phases, and what each member does in it now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

import sqlalchemy as sa

from coordinator.members.names import Names
from coordinator.runs import history
from coordinator.runs.history import RoundLine
from coordinator.runs.round_facts import (
    Attendance,
    Bar,
    Phase,
    bars_before,
    bars_of,
    counts_of,
    deadline_left_s,
    phases_of,
    steps_of,
    usual_seconds,
)
from coordinator.runs.store import RunRow
from shared.domain.clock import from_text
from shared.domain.plan import Plan
from shared.domain.run import RoundState, RunState

OVER = (RoundState.CLOSED, RoundState.ABANDONED)


@dataclass(frozen=True)
class CurrentRound:
    """How far it is, as whoever asked may see it."""

    line: RoundLine | None
    """None before the first."""
    phases: tuple[Phase, ...]
    bars: tuple[Bar, ...]
    """One for each member of the plan; for a member, its own."""
    counts: tuple[tuple[str, str, int], ...]
    """(word, tone, how many); for a member, of the others."""
    deadline_s: float | None


def current_round(
    engine: sa.Engine,
    now: datetime,
    run: RunRow,
    plan: Plan,
    names: Names,
    lines: Sequence[RoundLine],
    mine: str | None,
) -> CurrentRound:
    """From all attempts of the run so far; `mine` is the member that asks, and sees no other's line."""
    listed = sorted(
        ((m.member_id, names[m.member_id]) for m in plan.members), key=lambda line: line[1].casefold()
    )
    if not lines:
        bars = bars_before([line for line in listed if mine in (None, line[0])])
        return CurrentRound(None, (), tuple(bars), tuple(counts_of(bars)), None)
    current = lines[-1]
    steps = steps_of(history.events_of(engine, run.id, current.number, current.attempt))
    bars = bars_of(listed, steps, _attendance(engine, now, run.id, lines), plan.deadline_s)
    timed = current.state not in OVER and run.state is RunState.RUNNING
    return CurrentRound(
        line=current,
        phases=phases_of(plan, steps, current.state in (RoundState.SUMMED, RoundState.CLOSED)),
        bars=tuple(bar for bar in bars if mine is None or bar.member_id == mine),
        counts=tuple(counts_of([bar for bar in bars if bar.member_id != mine])),
        deadline_s=deadline_left_s(plan, steps, current.opened_at, now) if timed else None,
    )


def _attendance(engine: sa.Engine, now: datetime, run_id: str, lines: Sequence[RoundLine]) -> Attendance:
    current = lines[-1]
    contributed, missing = history.outcome_of(engine, run_id, current.number, current.attempt)
    offline = frozenset(member_id for member_id, why in missing.items() if why == "offline")
    before = next(
        (r for r in reversed(lines) if r.state is RoundState.CLOSED and r.number < current.number), None
    )
    return Attendance(
        missing=missing,
        contributed=contributed,
        over=current.state in OVER,
        last=_last_seen(engine, run_id, offline, current.number),
        usual_s={} if before is None else _usual_of(engine, run_id, before.number, before.attempt),
        running_s=(now - from_text(current.opened_at)).total_seconds(),
    )


@lru_cache(maxsize=8)
def _usual_of(engine: sa.Engine, run_id: str, number: int, attempt: int) -> dict[str, float]:
    """How long each member's contribution took in a round that is over."""
    return usual_seconds(steps_of(history.events_of(engine, run_id, number, attempt)))


@lru_cache(maxsize=32)
def _last_seen(engine: sa.Engine, run_id: str, members: frozenset[str], before: int) -> dict[str, int]:
    """The last round before this one that each contributed to; rounds below the newest are over."""
    return history.last_contributed(engine, run_id, members, before)
