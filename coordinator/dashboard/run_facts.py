"""What the page of a run shows, gathered from rows and events; nothing here knows about markup."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi import Request

from coordinator.dashboard.charts import Chart
from coordinator.dashboard.round_facts import (
    Attendance,
    Bar,
    bars_before,
    bars_of,
    counts_of,
    deadline_left_s,
    phases_of,
    steps_of,
)
from coordinator.dashboard.run_charts import (
    Window,
    epsilon_chart,
    parts_of_seconds,
    seconds_chart,
    validation_chart,
)
from coordinator.dashboard.run_epsilon import EpsilonBook, bound
from coordinator.dashboard.run_kept import OVER, RunShelf, last_seen, usual_of
from coordinator.dashboard.sessions import Viewer
from coordinator.members.access import room_of
from coordinator.registry.shelf import Shelf, read_catalogue
from coordinator.runs import history
from coordinator.runs.history import RoundLine
from coordinator.runs.proposals import one_proposal
from coordinator.runs.service import RunService
from coordinator.runs.store import RunRow
from shared.domain.clock import from_text
from shared.domain.consortium import Role
from shared.domain.plan import Plan
from shared.domain.release import MANIFEST_FILE
from shared.domain.run import RoundState, RunState
from shared.release import limits
from shared.release.envelope import read_document
from shared.release.manifest import parse_manifest

BOOK, SHELF = EpsilonBook(), RunShelf()
CALM_S = 4.0
"""About how often pictures and lists of a quick run are drawn anew, but for its first rounds."""
FIRST_ROUNDS = 16
"""Shown one by one however quick they are."""
LISTED_ROUNDS = 20
RECENT_ROUNDS = 10
"""What the pace of a run is taken from."""
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
        "asked": asked,
        "window": window,
        "over": run.state not in GOING,
        "waits_for": _waits_for(request, run),
        "spent": spent,
        "spent_together": None if spent is None else bound(spent.together),
        "spent_alone": None if spent is None else bound(spent.alone),
        "charged": len(charged),
        "charts": _charts(engine, run, plan, calm, len(charged), asked),
        "folded": FOLDED_MEMBERS,
        **_current(request, run, plan, lines, mine),
        **_figures(run, plan, calm),
        **_listed(calm, asked),
        **_publishing(request, run, plan),
    }


def _waits_for(request: Request, run: RunRow) -> RunRow | None:
    """The run whose rounds are driven now, where this one is next: the coordinator drives one at a time."""
    driving: str | None = request.app.state.driver.driving
    if run.state is not RunState.RUNNING or driving in (None, run.id):
        return None
    return run_and_plan(request, driving)[0]


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
    """The newest attempt at a round: its phases, and a bar for each member, or for a member its own."""
    if not lines:
        bars = bars_before([m for m in plan.members if mine in (None, m.member_id)])
        return {"current": None, "phases": (), "bars": bars, "counts": counts_of(bars), "deadline_s": None}
    room, current = room_of(request), lines[-1]
    steps = steps_of(history.events_of(room.engine, run.id, current.number, current.attempt))
    contributed, missing = history.outcome_of(room.engine, run.id, current.number, current.attempt)
    over = current.state in OVER
    offline = frozenset(member_id for member_id, why in missing.items() if why == "offline")
    before = next(
        (r for r in reversed(lines) if r.state is RoundState.CLOSED and r.number < current.number), None
    )
    known = Attendance(
        missing=missing,
        contributed=contributed,
        over=over,
        last=last_seen(room.engine, run.id, offline, current.number),
        usual_s={} if before is None else usual_of(room.engine, run.id, before.number, before.attempt),
        running_s=(room.clock.now() - from_text(current.opened_at)).total_seconds(),
    )
    bars = bars_of(plan.members, steps, known, plan.deadline_s)
    summed = current.state in (RoundState.SUMMED, RoundState.CLOSED)
    return {
        "current": current,
        "phases": phases_of(plan, steps, summed),
        "bars": [bar for bar in bars if mine is None or bar.member_id == mine],
        "counts": counts_of([bar for bar in bars if bar.member_id != mine]),
        "deadline_s": None
        if over or run.state is not RunState.RUNNING
        else deadline_left_s(plan, steps, current.opened_at, room.clock.now()),
    }


def _figures(run: RunRow, plan: Plan, lines: list[RoundLine]) -> dict[str, Any]:
    """Seconds and bytes over all rounds, the pace of the newest, and how long the rest will take at it."""
    closed = [line for line in lines if line.state is RoundState.CLOSED]
    totals = [line.total_s for line in closed[-RECENT_ROUNDS:]]
    pace_s = statistics.median(totals) if totals else math.nan
    crossed = sum(line.bytes_up + line.bytes_down for line in closed[-RECENT_ROUNDS:])
    validated = [line for line in closed if line.accuracy is not None]
    left = plan.rounds - run.current_round
    return {
        "closed": len(closed),
        "abandoned": sum(line.state is RoundState.ABANDONED for line in lines),
        "bytes_up": sum(line.bytes_up for line in lines),
        "bytes_down": sum(line.bytes_down for line in lines),
        "pace_s": pace_s if totals else None,
        "bytes_per_s": crossed / max(sum(totals), 1e-9) if totals else None,
        "eta_s": left * pace_s if totals and run.state is RunState.RUNNING else None,
        "validated": validated[-1] if validated else None,
        "total_s": sum(line.total_s for line in lines),
    }


def _listed(lines: list[RoundLine], asked: Asked) -> dict[str, Any]:
    """The newest rounds, or those below the one that the address names; newest first."""
    below = [line for line in lines if asked.before is None or line.number < asked.before]
    listed = below[-LISTED_ROUNDS:][::-1]
    older = listed[-1].number if len(below) > len(listed) else None
    return {"listed": listed, "older": older, "newer": asked.before is not None, "parts_of": parts_of_seconds}


def _publishing(request: Request, run: RunRow, plan: Plan) -> dict[str, Any]:
    """Releases made of this run, and one that is being made."""
    if run.state is RunState.RUNNING:
        return {"job": None, "releases": [], "may_publish": False}
    job = request.app.state.publisher.job(run.id)
    shelf, releases, published = Shelf(request.app.state.home), [], set[str]()
    for entry in read_catalogue(shelf, room_of(request).clock).releases:
        if entry.extractor_name == plan.extractor_name:
            folder = shelf.folder(entry.extractor_name, entry.number)
            of_run, checkpoint = _made_of(folder, entry.manifest_digest)
            if of_run == run.id:
                releases.append(entry)
                published.add(checkpoint)
    making = job is not None and not job.over
    may_publish = run.checkpoint_digest is not None and run.checkpoint_digest not in published and not making
    return {"job": job, "releases": releases, "may_publish": may_publish}


@lru_cache(maxsize=200)
def _made_of(folder: Path, _manifest_digest: str) -> tuple[str, str]:
    """(run, checkpoint) that a release was made of; a manifest is known by its digest, so this never changes."""
    claimed = parse_manifest(read_document(folder / MANIFEST_FILE, limits.MANIFEST_BYTES)).claimed
    return claimed.run_id, claimed.checkpoint_digest


def row_of(bar: Bar) -> str:
    """The id of a member's line on the page."""
    return f"bar-{bar.member_id}"
