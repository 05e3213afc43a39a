"""What the pages about members show, gathered from the rooms: rows, next steps, consents, rounds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from fastapi import Request

from coordinator.dashboard.rules import may
from coordinator.dashboard.sessions import Viewer
from coordinator.members import views
from coordinator.members.access import room_of
from coordinator.members.invitations import InvitationLine
from coordinator.members.status import MemberStatus
from coordinator.runs.proposals import consented_by, every_plan, not_begun, still_open, with_consents
from coordinator.runs.service import RunService
from coordinator.runs.store import RunRow
from shared.domain.clock import from_text
from shared.domain.consortium import BudgetLeft, Member, MemberState, Purpose, Role
from shared.domain.plan import Plan

NEARLY_SPENT = 0.1
"""Of its budget left, a member is about to have to stop."""
_ORDER = (MemberState.PENDING, MemberState.ACTIVE, MemberState.SUSPENDED, MemberState.REVOKED)
_ACTIONS: Mapping[str, str] = {
    "member.enrolled": "joined",
    "member.enrolled-again": "joined again, with the same keys",
    "member.approved": "approved",
    "member.suspended": "suspended",
    "member.resumed": "resumed",
    "member.revoked": "revoked",
    "member.software-changed": "reported another software version",
    "sign-in-link.made": "asked for a link to sign in",
    "plan.consent": "consented to plan",
    "session.opened": "signed in",
    "session.ended": "signed out",
    "api.refused": "was refused a request",
    "form.refused": "was refused a form",
}


@dataclass(frozen=True)
class NextStep:
    """What this member, or an admin for it, does next; nothing where `text` is empty."""

    text: str = ""
    link: str = ""
    pressing: bool = False


@dataclass(frozen=True)
class Row:
    """One member as the table shows it."""

    member: Member
    status: MemberStatus
    online: bool
    step: NextStep


@dataclass(frozen=True)
class PlanLine:
    """A plan that names the member."""

    plan: Plan
    consented: bool
    withdrawn: bool
    run: RunRow | None
    fault: str
    """Which check keeps a run from beginning, as far as is known; empty where none does."""

    @property
    def waits(self) -> bool:
        """Whether a consent is still of use."""
        return not (self.withdrawn or self.run or self.fault)

    @property
    def stands(self) -> str:
        """What there is in place of a run."""
        return "plan withdrawn" if self.withdrawn else "plan fails the check" if self.fault else "not begun"


@dataclass(frozen=True)
class RunLine:
    """What the member did in a run: rounds in which it was asked, and in whose sums it is."""

    run: RunRow
    plan: Plan
    asked: int
    summed: int
    left_out: Sequence[tuple[str, int]]
    """Why it was left out, and how often."""


def visible_rows(
    request: Request, viewer: Viewer, waiting: Mapping[str, Sequence[Plan]] = MappingProxyType({})
) -> list[Row]:
    """Everybody whom the viewer may see, in the order in which they need attention.

    `waiting`: member id → plans that wait for its consent, where next steps shall name them.
    """
    room, online = room_of(request), request.app.state.online()
    status, differs, rows = room.status.every(), views.differing(room), []
    for member in views.visible_members(room, viewer.caller):
        known, here = status.get(member.id, MemberStatus()), member.id in online
        step = _step(
            member, known, here, waiting.get(member.id, ()), differs.get(member.id, ""), viewer.caller.role
        )
        rows.append(Row(member, known, here, step))
    return sorted(rows, key=lambda row: (_ORDER.index(row.member.state), row.member.name.casefold()))


def counts_of(rows: Sequence[Row]) -> dict[str, int]:
    """How many stand how."""
    active = [row for row in rows if row.member.state is MemberState.ACTIVE]
    return {
        "online": sum(row.online for row in active),
        "offline": sum(not row.online for row in active),
        "pending": sum(row.member.state is MemberState.PENDING for row in rows),
        "suspended": sum(row.member.state is MemberState.SUSPENDED for row in rows),
        "revoked": sum(row.member.state is MemberState.REVOKED for row in rows),
    }


def table_facts(request: Request, viewer: Viewer) -> dict[str, Any]:
    """Everybody whom the viewer may see, with what each does next."""
    rows = visible_rows(request, viewer, _consents_waiting(request))
    declared = [row.status.budget_left for row in rows if row.status.budget_left is not None]
    return {
        "rows": rows,
        "alone": viewer.caller.role is Role.MEMBER,
        "counts": counts_of(rows),
        "most_left": max(declared, key=lambda left: left.epsilon, default=None),
        "nearly_spent": NEARLY_SPENT,
        "since": lambda text: _since(text, room_of(request).clock.now()),
    }


def brief(text: str, now: datetime) -> str:
    """A moment in a few characters, in UTC: the time of day alone where that is today."""
    seen = from_text(text)
    return seen.strftime("%H:%M") if seen.date() == now.date() else _since(text, now)


def _since(text: str, now: datetime) -> str:
    """Short enough for a column: the year only where it is another one. Does not change as time passes, so that
    a page that shows it is sent again only when something happened."""
    seen = from_text(text)
    return seen.strftime("%-d %b, %H:%M" if seen.year == now.year else "%-d %b %Y")


def invitations_open(request: Request, viewer: Viewer) -> list[InvitationLine] | None:
    """Those that somebody can still join with; None for a member, who does not see them."""
    if viewer.caller.role is Role.MEMBER:
        return None
    return room_of(request).invitations.open()


def lifetimes(default_s: float) -> list[tuple[str, str]]:
    """(value, words) for the form; the first is what the coordinator's settings say."""
    every = {3600.0: "1 hour", 86_400.0: "1 day", 604_800.0: "7 days", 2_592_000.0: "30 days"}
    every.setdefault(default_s, f"{default_s / 3600.0:g} hours")
    ordered = sorted(every, key=lambda seconds: (seconds != default_s, seconds))
    return [(f"{seconds:.0f}", every[seconds]) for seconds in ordered]


def member_facts(request: Request, viewer: Viewer, member_id: str) -> dict[str, Any]:
    """Everything about one member. Raises NotFound, also for a member that is not the viewer's to see."""
    room = room_of(request)
    member = views.visible_member(room, viewer.caller, member_id)
    online, status = member.id in request.app.state.online(), room.status.of(member_id)
    plans = _plans_of(request, member)
    missing = _consents_waiting(request).get(member.id, [])
    differs = next((one for one in room.roll.differences() if one.member_id == member.id), None)
    what = "" if differs is None else differs.what
    return {
        "member": member,
        "differs": differs,
        "online": online,
        "known": status,
        "view": views.member_view(member, status, online, what),
        "step": _step(member, status, online, missing, what, viewer.caller.role),
        "plans": plans,
        "runs": [
            _run_line(request, line.plan, line.run, member.id) for line in plans if line.run is not None
        ],
        "history": views.history(room.engine, member.id),
        "most_history": views.MOST_HISTORY,
        "actions": _ACTIONS,
        "nearly_spent": NEARLY_SPENT,
    }


def _step(
    member: Member, status: MemberStatus, online: bool, missing: Sequence[Plan], differs: str, role: Role
) -> NextStep:
    page = f"/members/{member.id}"
    if differs:
        return NextStep(f"{differs}: look at it", page, pressing=True)
    if member.state is MemberState.PENDING:
        return NextStep("approve", page, pressing=True)
    if member.state is MemberState.SUSPENDED:
        return NextStep("resume or revoke", page)
    if member.state is MemberState.REVOKED:
        return NextStep()
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        return NextStep(
            f"consent to plan {missing[0].extractor_name}{more}", f"/plans/{missing[0].digest}", True
        )
    if member.purpose is Purpose.USE:
        return NextStep()
    left = status.budget_left
    if left is not None and left.share < NEARLY_SPENT:
        return _nearly_spent(left, page, role)
    if not online:
        return NextStep("start its node")
    return NextStep()


def _nearly_spent(left: BudgetLeft, page: str, role: Role) -> NextStep:
    """An admin chooses what the next plan asks for; the ceiling is the member's own to raise."""
    if role is Role.MEMBER:
        return NextStep("raise your ceiling, or skip further plans", page, pressing=True)
    within = f"plan with at most ε {left.epsilon:g}, or without it" if left.epsilon else "plan without it"
    return NextStep(within, "/plans/new" if may(role, "GET", "/plans/new") else page, pressing=True)


def _consents_waiting(request: Request) -> dict[str, list[Plan]]:
    """Member id → plans that wait for its consent, of those that are still open."""
    runs: RunService = request.app.state.runs
    room = room_of(request)
    revoked = frozenset(m.id for m in room.members.every() if m.state is MemberState.REVOKED)
    begun = {run.plan_digest for run in runs.store.runs()}
    waiting: dict[str, list[Plan]] = {}
    plans = still_open(every_plan(room.engine), begun, revoked)
    faults = runs.faults(plans)
    for one in with_consents(room.engine, [one for one in plans if not faults.get(one.digest)]):
        for member_id in one.missing:
            waiting.setdefault(member_id, []).append(one.plan)
    return waiting


def _plans_of(request: Request, member: Member) -> list[PlanLine]:
    """Newest first; a plan that several runs began from stands once a run."""
    runs: RunService = request.app.state.runs
    engine, begun = room_of(request).engine, dict[str, list[RunRow]]()
    for run in runs.store.runs():
        begun.setdefault(run.plan_digest, []).insert(0, run)
    consented, found = consented_by(engine, member.id), []
    named = [one for one in reversed(every_plan(engine)) if one.plan.member(member.id) is not None]
    faults = runs.faults(not_begun(named, begun))
    for one in named:
        of_plan: Sequence[RunRow | None] = begun.get(one.digest) or [None]
        mine, fault = one.digest in consented, faults.get(one.digest, "")
        found += [PlanLine(one.plan, mine, one.withdrawn, run, fault) for run in of_plan]
    return found


def _run_line(request: Request, plan: Plan, run: RunRow, member_id: str) -> RunLine:
    runs: RunService = request.app.state.runs
    rounds = runs.store.rounds(run.id)
    asked = {line["number"] for line in rounds if member_id in line["cohort"]}
    summed = {line["number"] for line in rounds if member_id in line["contributors"]}
    reasons: Counter[str] = Counter(
        line["missing"][member_id] for line in rounds if member_id in line["missing"]
    )
    return RunLine(run, plan, len(asked), len(summed), reasons.most_common(3))
