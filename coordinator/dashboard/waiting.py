"""What does not go on until somebody acts: runs, plans, members, budgets, invitations, in this order.

Consents come last and one line a plan, so that a plan that waits for 199 members hides nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from fastapi import Request

from coordinator.dashboard.members_facts import NEARLY_SPENT, Row, brief, invitations_open
from coordinator.dashboard.rules import may
from coordinator.dashboard.sessions import Viewer
from coordinator.dashboard.words import duration
from coordinator.members.access import room_of
from coordinator.runs.plan_checks import refused_line
from coordinator.runs.proposals import (
    STILL_IN,
    Proposed,
    consent_counts,
    consented_by,
    every_plan,
    still_open,
    with_consents,
)
from coordinator.runs.service import RunService
from coordinator.runs.store import RunRow
from shared.domain.clock import from_text
from shared.domain.consortium import MemberState, Purpose, Role
from shared.domain.run import RunState

NAMED = 3
"""Up to so many members a line names."""
RESUME = "/runs/{run_id}/resume"
_STUCK = (RunState.PAUSED, RunState.FAILED)


@dataclass(frozen=True)
class Waiting:
    """One thing that does not go on until somebody acts."""

    who: str
    what: str
    link: str
    digest: str = ""
    """Of the plan, as several may have one name."""
    names: Sequence[str] = ()
    since: str = ""
    """How long it has waited, in whole minutes, hours or days."""
    private: bool = False


def everything_waiting(
    request: Request, viewer: Viewer, rows: Sequence[Row], runs: Sequence[RunRow]
) -> list[Waiting]:
    """All of it as this viewer may see it; `rows` are the members that it sees."""
    every = every_plan(room_of(request).engine)
    names = {one.digest: one.plan.extractor_name for one in every}
    step = "resume or stop" if may(viewer.caller.role, "POST", RESUME) else "an admin resumes or stops it"
    stuck = [
        Waiting(f"{names[run.plan_digest]}, {run.id}", f"{run.state.value}: {step}", f"/runs/{run.id}")
        for run in runs
        if run.state in _STUCK
    ]
    refused, ready, incomplete = _plans(request, viewer, every, frozenset(run.plan_digest for run in runs))
    return [
        *_differing(request, viewer),
        *stuck,
        *_offline(room_of(request).engine, rows, runs, every),
        *refused,
        *ready,
        *_approvals(rows),
        *_budgets(rows),
        *_invitations(request, viewer),
        *incomplete,
    ]


def waited(since: str, now: datetime) -> str:
    """How long, coarse enough that a page which shows it is not sent again every second; empty below a minute."""
    seconds = (now - from_text(since)).total_seconds()
    if seconds < 60.0:
        return ""
    if seconds < 3600.0:
        return f"{seconds // 60.0:.0f} min"
    return f"{seconds // 3600.0:.0f} h" if seconds < 172_800.0 else duration(seconds // 86_400.0 * 86_400.0)


def _plans(
    request: Request, viewer: Viewer, every: Sequence[Proposed], begun: frozenset[str]
) -> tuple[list[Waiting], list[Waiting], list[Waiting]]:
    """(plans that fail a check, that an admin can start, that lack consents), newest first; to a member its own.

    Whoever was revoked since is not waited for; what somebody signed who is suspended counts once it is resumed.
    """
    room, now = room_of(request), room_of(request).clock.now()
    revoked = frozenset(m.id for m in room.members.every() if m.state is MemberState.REVOKED)
    plans = still_open(reversed(every), begun, revoked)
    own = viewer.caller.id if viewer.caller.role is Role.MEMBER else ""
    signed = consented_by(room.engine, own) if own else frozenset[str]()
    named = [one for one in plans if not own or one.plan.member(own) is not None]
    runs: RunService = request.app.state.runs
    faults = runs.faults(named)
    refused = [
        _plan_line(one, refused_line(fault), now) for one in named if (fault := faults.get(one.digest))
    ]
    plans = [one for one in named if not faults.get(one.digest)]
    given, kept = consent_counts(room.engine), consent_counts(room.engine, of=STILL_IN)
    lacking = {
        one.digest: sum(m.member_id not in revoked for m in one.plan.members) - kept.get(one.digest, 0)
        for one in plans
    }
    few = [] if own else [one for one in plans if 0 < lacking[one.digest] <= NAMED]
    known = runs.names()
    names = {one.digest: [known[i] for i in one.missing] for one in with_consents(room.engine, few)}
    ready: list[Waiting] = []
    incomplete: list[Waiting] = []
    for one in plans:
        mine = bool(own) and one.digest not in signed
        startable = given.get(one.digest, 0) >= one.plan.quorum
        what = _words(startable, lacking[one.digest], mine)
        (ready if startable else incomplete).append(_plan_line(one, what, now, names.get(one.digest, ())))
    return refused, ready, incomplete


def _differing(request: Request, viewer: Viewer) -> list[Waiting]:
    """First, as somebody wrote to the database beside the coordinator. Members are told of others by nobody here."""
    if viewer.caller.role is Role.MEMBER:
        return []
    room = room_of(request)
    there = {member.id for member in room.members.every()}
    return [
        Waiting(
            one.name,
            f"{one.what}: {one.step}",
            f"/members/{one.member_id}" if one.member_id in there else "/members",
        )
        for one in room.roll.differences()
    ]


def _plan_line(one: Proposed, what: str, now: datetime, names: Sequence[str] = ()) -> Waiting:
    since = waited(one.proposed_at, now)
    return Waiting(one.plan.extractor_name, what, f"/plans/{one.digest}", one.digest, names, since)


def _words(startable: bool, lacking: int, mine: bool) -> str:
    consents = f"{lacking} consent{'' if lacking == 1 else 's'} missing"
    said = ["ready to start"] if startable else []
    said += [f"{consents}, yours among them" if mine else consents] if lacking else []
    if not said:
        said = ["all consented, and too few of them are active: resume them"]
    return ", ".join(said)


def _offline(
    engine: sa.Engine, rows: Sequence[Row], runs: Sequence[RunRow], every: Sequence[Proposed]
) -> list[Waiting]:
    """Of runs that are going, who consented and is not there. Rounds go on without them, down to the plan's quorum."""
    gone = {
        row.member.id: row.member.name
        for row in rows
        if not row.online and row.member.state is MemberState.ACTIVE
    }
    going = {run.plan_digest: run.id for run in runs if run.state is RunState.RUNNING}
    found = []
    for one in with_consents(engine, [one for one in every if one.digest in going]):
        run, names = going[one.digest], sorted(gone[member] for member in one.consents if member in gone)
        if names:
            what = f"{len(names)} member{'' if len(names) == 1 else 's'} offline"
            shown = names if len(names) <= NAMED else ()
            found.append(Waiting(f"{one.plan.extractor_name}, {run}", what, f"/runs/{run}", names=shown))
    return found


def _approvals(rows: Sequence[Row]) -> list[Waiting]:
    return [
        Waiting(row.member.name, "approve", f"/members/{row.member.id}")
        for row in rows
        if row.member.state is MemberState.PENDING
    ]


def _budgets(rows: Sequence[Row]) -> list[Waiting]:
    """Of active contributors, the most spent first."""
    found = [
        (left.share, row)
        for row in rows
        if row.member.state is MemberState.ACTIVE
        and row.member.purpose is Purpose.CONTRIBUTE
        and (left := row.status.budget_left) is not None
        and left.share < NEARLY_SPENT
    ]
    found.sort(key=lambda one: (one[0], one[1].member.name.casefold()))
    # Rounded down: a budget of which something is left is not 100 % used.
    return [
        Waiting(
            row.member.name,
            f"budget {math.floor(100.0 * (1.0 - share) + 1e-9)} % used",
            f"/members/{row.member.id}",
            private=True,
        )
        for share, row in found
    ]


def _invitations(request: Request, viewer: Viewer) -> list[Waiting]:
    now = room_of(request).clock.now()
    return [
        Waiting(
            line.invitation.member_name,
            f"invitation not used yet, ends {brief(line.invitation.expires_at, now)} UTC",
            "/members",
        )
        for line in invitations_open(request, viewer) or []
    ]
