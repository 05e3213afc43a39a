"""What the page of one round shows: its attempts, its cohort with digests and signatures, its events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request

from coordinator.dashboard.run_facts import run_and_plan
from coordinator.dashboard.sessions import Viewer
from coordinator.members.access import room_of
from coordinator.members.names import Names
from coordinator.runs import history
from coordinator.runs.events import ASKED, RoundEvent
from coordinator.runs.progress import parts_of_seconds
from shared.domain.consortium import Role
from shared.domain.errors import NotFound


@dataclass(frozen=True)
class Place:
    """One member of the plan in an attempt."""

    member_id: str
    name: str
    asked: bool
    contributed: bool
    why: str
    """Why it is not in the sum."""
    payload_digest: str = ""
    signature: str = ""
    size_bytes: int = 0


def round_facts(
    request: Request, viewer: Viewer, run_id: str, number: int, attempt: int | None
) -> dict[str, Any]:
    """One attempt of the round, the newest unless another is named. Raises NotFound."""
    (run, plan), engine = run_and_plan(request, run_id), room_of(request).engine
    lines = history.round_lines(engine, run.id, number)
    attempts = [line for line in lines if line.number == number]
    chosen = [line for line in attempts if attempt in (None, line.attempt)]
    if not chosen:
        what = f"round {number}" if attempt is None else f"attempt {attempt} at round {number}"
        raise NotFound(f"This run has no {what} so far. Open the run to see which rounds there are.")
    line = chosen[-1]
    stored = history.attempts_of(engine, run.id, number)[line.attempt - 1]
    mine = viewer.caller.id if viewer.caller.role is Role.MEMBER else None
    names: Names = request.app.state.runs.names()
    places = [
        _place(m.member_id, names[m.member_id], stored) for m in plan.members if mine in (None, m.member_id)
    ]
    events = history.events_of(engine, run.id, number, line.attempt)
    if mine is not None:
        seen = (event.seen_by_member(mine) for event in events)
        events = [event for event in seen if event is not None]
    return {
        "run": run,
        "plan": plan,
        "mine": mine,
        "line": line,
        "attempts": attempts,
        "has_next": lines[-1].number > number,
        "places": places,
        "events": [(event, names[event.member_id or ""], _detail(event)) for event in events],
        "seconds": dict(zip(("train", "protocol", "waiting"), parts_of_seconds(line.seconds), strict=True)),
        "note": "" if mine is not None else line.note,
    }


def _place(member_id: str, name: str, stored: dict[str, Any]) -> Place:
    row, asked = stored["contributions"].get(member_id, {}), member_id in stored["cohort"]
    contributed = member_id in stored["contributors"]
    return Place(
        member_id,
        name,
        asked,
        contributed,
        stored["missing"].get(member_id, "" if contributed or asked else "was not asked"),
        row.get("payload_digest", ""),
        row.get("signature", ""),
        row.get("bytes", 0),
    )


def _detail(event: RoundEvent) -> str:
    """Of a list of ids its length: they are in the cohort above."""
    if event.kind.endswith(f".{ASKED}"):
        count = len(event.detail.split())
        return f"{count} {'member' if count == 1 else 'members'}"
    return event.detail
