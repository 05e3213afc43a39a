"""How far a run is: its pace and what is left at it, what crossed the wire, and the ε that each member spent so far."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from coordinator.members.names import Names
from coordinator.runs import history
from coordinator.runs.current_round import CurrentRound, current_round
from coordinator.runs.epsilon_book import BOOK, Spent, bound
from coordinator.runs.history import RoundLine
from coordinator.runs.round_facts import Bar, Phase
from coordinator.runs.service import RunService
from coordinator.runs.store import RunRow, RunStore
from shared.domain.clock import Clock
from shared.domain.plan import Plan
from shared.domain.privacy import Unit
from shared.domain.run import RoundState, RunState

RECENT_ROUNDS = 10
"""What the pace of a run is taken from."""


@dataclass(frozen=True)
class Figures:
    """Of all rounds so far."""

    closed: int
    abandoned: int
    """Attempts."""
    bytes_up: int
    """Received from members."""
    bytes_down: int
    total_s: float
    """In rounds, of every attempt."""
    pace_s: float | None
    """What a round takes: the median of the newest closed ones; None before the first."""
    bytes_per_s: float | None
    """In those rounds, both ways."""
    eta_s: float | None
    """What the rounds that are left will take at this pace; None for a run that does not go on."""
    validated: RoundLine | None
    """The last closed round with counts."""


@dataclass(frozen=True)
class PartsOfSeconds:
    """Where the time in rounds went."""

    training: float
    """Until half of the members had answered."""
    protocol: float
    """Everything else."""
    waiting: float
    """For the other half."""


@dataclass(frozen=True)
class EpsilonPoint:
    """Both numbers of clause 3.7 after so many charged rounds, at the plan's δ; null without a useful bound."""

    rounds: int
    epsilon: float | None
    epsilon_alone: float | None


@dataclass(frozen=True)
class MemberSpent:
    """What one member spent in this run so far."""

    member_id: str
    name: str
    charged_rounds: int
    """In which it was asked: they are charged whatever came of them (clause 5.5)."""
    spent: EpsilonPoint | None
    """Null while it is being computed; its `rounds` may be behind `charged_rounds`. Ask again in some seconds."""


@dataclass(frozen=True)
class LastValidation:
    """The newest validation, from noised counts."""

    number: int
    """Of the round."""
    accuracy: float
    spread: float
    """One standard deviation of the noise that was added to the counts (clause 6.2), not of anything else."""


@dataclass(frozen=True)
class RoundNow:
    """The newest attempt at a round."""

    number: int
    attempt: int
    state: RoundState
    phases: tuple[Phase, ...]
    members: tuple[Bar, ...]
    """What each does now; for a member, what itself does."""
    counts: Mapping[str, int]
    """How many do so; for a member, of the others."""
    deadline_s: float | None
    """Until the open exchange goes on without whoever has not answered."""


@dataclass(frozen=True)
class Progress:
    """How far a run is, as whoever asked may see it."""

    run_id: str
    state: RunState
    current_round: int
    """The last closed round; 0 before the first."""
    planned_rounds: int
    waits_for: str | None
    """The run that is driven first: the coordinator drives one at a time."""
    closed: int
    abandoned: int
    bytes_up: int
    bytes_down: int
    seconds: PartsOfSeconds
    pace_s: float | None
    bytes_per_s: float | None
    eta_s: float | None
    validated: LastValidation | None
    round: RoundNow | None
    unit: Unit
    delta: float
    target_epsilon: float
    members: tuple[MemberSpent, ...]
    """One for each member of the plan; for a member, its own."""
    planned_epsilon: tuple[EpsilonPoint, ...]
    """Over the planned rounds, for a member that is asked in each; empty until it is computed."""


def progress(
    runs: RunService, engine: sa.Engine, clock: Clock, driving: str | None, run: RunRow, mine: str | None
) -> Progress:
    """Of this run, while the run with the id `driving` is driven. `mine` is the member that asks, None for a person."""
    names, store = runs.names(), runs.store
    plan, lines = store.plan(run.plan_digest), history.round_lines(engine, run.id)
    found = figures(run, plan, lines)
    first = waits_for(store, driving, run)
    return Progress(
        run_id=run.id,
        state=run.state,
        current_round=run.current_round,
        planned_rounds=plan.rounds,
        waits_for=None if first is None else first.id,
        closed=found.closed,
        abandoned=found.abandoned,
        bytes_up=found.bytes_up,
        bytes_down=found.bytes_down,
        seconds=_sum_of_parts(lines),
        pace_s=found.pace_s,
        bytes_per_s=found.bytes_per_s,
        eta_s=found.eta_s,
        validated=_last_validation(found.validated),
        round=_round_now(current_round(engine, clock.now(), run, plan, names, lines, mine)),
        unit=plan.privacy.unit,
        delta=plan.privacy.delta,
        target_epsilon=plan.privacy.target_epsilon,
        members=spent_by_member(engine, run.id, plan, names, mine),
        planned_epsilon=tuple(_point(spent) for spent in BOOK.curve(plan)),
    )


def figures(run: RunRow, plan: Plan, lines: Sequence[RoundLine]) -> Figures:
    """Seconds and bytes over all rounds, the pace of the newest, and how long the rest will take at it."""
    closed = [line for line in lines if line.state is RoundState.CLOSED]
    totals = [line.total_s for line in closed[-RECENT_ROUNDS:]]
    pace_s = statistics.median(totals) if totals else None
    crossed = sum(line.bytes_up + line.bytes_down for line in closed[-RECENT_ROUNDS:])
    left = plan.rounds - run.current_round
    return Figures(
        closed=len(closed),
        abandoned=sum(line.state is RoundState.ABANDONED for line in lines),
        bytes_up=sum(line.bytes_up for line in lines),
        bytes_down=sum(line.bytes_down for line in lines),
        total_s=sum(line.total_s for line in lines),
        pace_s=pace_s,
        bytes_per_s=crossed / max(sum(totals), 1e-9) if totals else None,
        eta_s=left * pace_s if pace_s is not None and run.state is RunState.RUNNING else None,
        validated=next((line for line in reversed(closed) if line.correct is not None), None),
    )


def parts_of_seconds(seconds: Mapping[str, float]) -> tuple[float, float, float]:
    """(training, protocol, waiting): until half of the members answered; everything else; for the other half."""
    training, waiting = seconds.get("training", 0.0), seconds.get("waiting", 0.0)
    return training, sum(seconds.values()) - training - waiting, waiting


def waits_for(store: RunStore, driving: str | None, run: RunRow) -> RunRow | None:
    """The run whose rounds are driven now, where this one is next: the coordinator drives one at a time."""
    if run.state is not RunState.RUNNING or driving in (None, run.id):
        return None
    return store.run(str(driving))


def spent_by_member(
    engine: sa.Engine, run_id: str, plan: Plan, names: Names, mine: str | None
) -> tuple[MemberSpent, ...]:
    """What each member of the plan, or `mine` alone, spent so far."""
    members = [m.member_id for m in plan.members if mine in (None, m.member_id)]
    charged = history.charged_by_member(engine, run_id)
    each = [charged.get(member_id, []) for member_id in members]
    return tuple(
        MemberSpent(member_id, names[member_id], len(numbers), None if spent is None else _point(spent))
        for member_id, numbers, spent in zip(members, each, BOOK.spent_each(plan, each), strict=True)
    )


def _point(spent: Spent) -> EpsilonPoint:
    return EpsilonPoint(spent.rounds, bound(spent.together), bound(spent.alone))


def _sum_of_parts(lines: Sequence[RoundLine]) -> PartsOfSeconds:
    summed: dict[str, float] = {}
    for line in lines:
        for name, seconds in line.seconds.items():
            summed[name] = summed.get(name, 0.0) + seconds
    return PartsOfSeconds(*parts_of_seconds(summed))


def _last_validation(line: RoundLine | None) -> LastValidation | None:
    if line is None or line.accuracy is None:
        return None
    return LastValidation(line.number, *line.accuracy)


def _round_now(found: CurrentRound) -> RoundNow | None:
    if found.line is None:
        return None
    return RoundNow(
        number=found.line.number,
        attempt=found.line.attempt,
        state=found.line.state,
        phases=found.phases,
        members=found.bars,
        counts={word: count for word, _, count in found.counts},
        deadline_s=found.deadline_s,
    )
