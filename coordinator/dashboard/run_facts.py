"""What the page of a run shows, gathered from rows and events; nothing here knows about markup."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from fastapi import Request

from coordinator.dashboard.charts import Chart
from coordinator.dashboard.run_charts import Window, epsilon_chart, seconds_chart, validation_chart
from coordinator.dashboard.run_kept import RunShelf
from coordinator.dashboard.sessions import Viewer
from coordinator.members.access import room_of
from coordinator.runs import history
from coordinator.runs.current_round import current_round
from coordinator.runs.epsilon_book import BOOK, bound
from coordinator.runs.history import RoundLine
from coordinator.runs.progress import figures, parts_of_seconds, waits_for
from coordinator.runs.proposals import one_proposal
from coordinator.runs.publishing import Publisher, Standing, last_validation
from coordinator.runs.round_facts import Bar
from coordinator.runs.service import RunService
from coordinator.runs.store import RunRow
from shared.domain.consortium import Role
from shared.domain.plan import Plan
from shared.domain.run import RoundState, RunState
from shared.release.about import MOST_NOTE_CHARACTERS, MOST_NOTES, MOST_TEXT_CHARACTERS

SHELF = RunShelf()
CALM_S = 4.0
"""About how often pictures and lists of a quick run are drawn anew, but for its first rounds."""
FIRST_ROUNDS = 16
"""Shown one by one however quick they are."""
LISTED_ROUNDS = 20
FOLDED_MEMBERS = 24
"""Above so many members their lines are folded up, and only counts stand open."""
GOING = (RunState.RUNNING, RunState.PAUSED, RunState.FAILED)


@dataclass(frozen=True)
class Asked:
    """What of the run the page's address asks for."""

    first: int | None = None
    last: int | None = None
    before: int | None = None
    """Rounds below this number are listed; None lists the newest."""

    @property
    def query(self) -> str:
        """The same as the end of an address."""
        named = {"from": self.first, "to": self.last, "before": self.before}
        found = "&".join(f"{name}={value}" for name, value in named.items() if value is not None)
        return f"?{found}" if found else ""


def run_and_plan(request: Request, run_id: str) -> tuple[RunRow, Plan]:
    """Raises NotFound."""
    runs: RunService = request.app.state.runs
    run = runs.store.run(run_id)
    return run, one_proposal(room_of(request).engine, run.plan_digest).plan


def run_facts(request: Request, viewer: Viewer, run_id: str, asked: Asked) -> dict[str, Any]:
    """Everything of the page of a run, for this viewer."""
    (run, plan), engine = run_and_plan(request, run_id), room_of(request).engine
    lines = SHELF.lines(engine, run.id)
    calm = _calm(run, lines)
    mine = viewer.caller.id if viewer.caller.role is Role.MEMBER else None
    charged = history.charged_rounds(engine, run_id, mine)
    if len(calm) < len(lines):
        charged = [number for number in charged if calm and number <= calm[-1].number]
    window, spent = _window(plan, calm, asked), BOOK.spent(plan, charged)
    return {
        "run": run,
        "plan": plan,
        "mine": mine,
        "named": mine is None or plan.member(mine) is not None,
        "asked": asked,
        "window": window,
        "over": run.state not in GOING,
        "waits_for": waits_for(request.app.state.runs.store, request.app.state.driver.driving, run),
        "spent": spent,
        "spent_together": None if spent is None else bound(spent.together),
        "spent_alone": None if spent is None else bound(spent.alone),
        "charged": len(charged),
        "charts": _charts(engine, run, plan, calm, len(charged), asked),
        "folded": FOLDED_MEMBERS,
        **_current(request, run, plan, lines, mine),
        **vars(figures(run, plan, calm)),
        **_listed(calm, asked),
        **_publishing(request, run),
    }


def _calm(run: RunRow, lines: list[RoundLine]) -> list[RoundLine]:
    """While rounds close faster than anybody reads, pictures and lists move on every few rounds only.

    So a page that is watched costs the same however short the rounds are. What is over is shown to its end.
    """
    closed = [line.total_s for line in lines if line.state is RoundState.CLOSED]
    if run.state is not RunState.RUNNING or run.current_round <= FIRST_ROUNDS or not closed:
        return lines
    pace_s = max(sum(closed) / len(closed), 1e-3)
    step = 2 ** max(0, math.floor(math.log2(CALM_S / pace_s)))
    last = max(FIRST_ROUNDS, run.current_round // step * step)
    return [line for line in lines if line.number <= last] if step > 1 else lines


def _charts(
    engine: sa.Engine, run: RunRow, plan: Plan, lines: list[RoundLine], charged: int, asked: Asked
) -> dict[str, Chart | None]:
    """Closed rounds stay as they are, so that as many of them give the same pictures."""
    window, whole, curve = _window(plan, lines, asked), _whole(plan, asked), BOOK.curve(plan)
    closed = sum(line.state is RoundState.CLOSED for line in lines)
    key = (engine, run.id, closed, window)
    return {
        "validation": SHELF.drawn(("validation", *key), lambda: validation_chart(lines, window)),
        "epsilon": SHELF.drawn(
            ("epsilon", *key, whole, charged, bool(curve)),
            lambda: epsilon_chart(plan, curve, charged, whole),
        ),
        "seconds": SHELF.drawn(("seconds", *key), lambda: seconds_chart(lines, window)),
    }


def _window(plan: Plan, lines: list[RoundLine], asked: Asked) -> Window:
    """The rounds asked for, or from the first to the last that there is."""
    most = max((line.number for line in lines), default=1)
    first = min(max(1, asked.first or 1), plan.rounds)
    return Window(first, max(first, min(asked.last or most, plan.rounds)))


def _whole(plan: Plan, asked: Asked) -> Window:
    """ε is shown up to the last planned round where nothing else is asked for."""
    first = min(max(0, asked.first or 0), plan.rounds)
    return Window(first, max(first, min(asked.last or plan.rounds, plan.rounds)))


def _current(
    request: Request, run: RunRow, plan: Plan, lines: list[RoundLine], mine: str | None
) -> dict[str, Any]:
    room, runs = room_of(request), request.app.state.runs
    found = current_round(room.engine, room.clock.now(), run, plan, runs.names(), lines, mine)
    return {"current": found.line} | {name: value for name, value in vars(found).items() if name != "line"}


def _listed(lines: list[RoundLine], asked: Asked) -> dict[str, Any]:
    """The newest rounds, or those below the one that the address names; newest first."""
    below = [line for line in lines if asked.before is None or line.number < asked.before]
    listed = below[-LISTED_ROUNDS:][::-1]
    older = listed[-1].number if len(below) > len(listed) else None
    return {"listed": listed, "older": older, "newer": asked.before is not None, "parts_of": parts_of_seconds}


def _publishing(request: Request, run: RunRow) -> dict[str, Any]:
    """Releases made of this run, and one that is being made. While rounds close, a page is drawn without them."""
    publisher: Publisher = request.app.state.publisher
    return vars(Standing() if run.state is RunState.RUNNING else publisher.standing(run))


def publish_facts(request: Request, run_id: str) -> dict[str, Any]:
    """What the page says before a release is made. Raises NotFound."""
    (run, plan), licence = run_and_plan(request, run_id), room_of(request).config.licence
    return _publishing(request, run) | {
        "run": run,
        "plan": plan,
        "validated": last_validation(request.app.state.runs.store.rounds(run.id)),
        "licence": licence.name or licence.id,
        "problem": "",
        "notes": request.app.state.publisher.unpublished_notes(run.id),
        "most_notes": MOST_NOTES,
        "most_characters": MOST_NOTE_CHARACTERS,
        "most_typed": MOST_TEXT_CHARACTERS,
    }


def row_of(bar: Bar) -> str:
    """The id of a member's line on the page."""
    return f"bar-{bar.member_id}"
