"""Plans: which there are, what one says and costs, who consented, how two differ; and the start of a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import Response

from coordinator.dashboard.frame import page, part, then
from coordinator.dashboard.gate import Seeing, gate
from coordinator.dashboard.live import stream
from coordinator.dashboard.plan_lines import (
    Line,
    Pair,
    cost_lines,
    measured_facts,
    member_lines,
    pairs,
    plan_lines,
    unsound_line,
)
from coordinator.dashboard.pulse import Parts
from coordinator.dashboard.sessions import Viewer
from coordinator.members.access import room_of
from coordinator.members.names import Names
from coordinator.runs.measured import measured_before
from coordinator.runs.plan_checks import refused_line
from coordinator.runs.proposals import (
    Proposal,
    Proposed,
    consent_counts,
    consented_by,
    every_plan,
    not_begun,
    one_proposal,
    with_consents,
)
from coordinator.runs.service import RunService
from coordinator.runs.store import RunRow
from shared.domain.consortium import Role
from shared.domain.run import RunState
from shared.domain.strict import to_plain
from shared.release.promise import promise

router = APIRouter(dependencies=[Depends(gate)])
_LOOK = {
    RunState.RUNNING: "good",
    RunState.PAUSED: "warn",
    RunState.STOPPED: "hollow",
    RunState.COMPLETED: "good",
    RunState.FAILED: "bad",
}


@dataclass(frozen=True)
class Choice:
    """A plan to choose."""

    proposal: Proposed

    @property
    def label(self) -> str:
        """To choose it by."""
        plan = self.proposal.plan
        return (
            f"{plan.extractor_name} · target ε {plan.privacy.target_epsilon:g} · {self.proposal.digest[7:15]}"
        )


@dataclass(frozen=True)
class Row(Choice):
    """A plan in the list, as this viewer may see it."""

    given: int
    """How many consents count."""
    missing: Sequence[str]
    """Who did not, where it still matters and this viewer may know."""
    run: RunRow | None
    """Its newest run."""
    mine: bool | None
    """Whether the member that looks consented; None where the plan does not name it."""
    fault: str | None
    """Which check keeps a run from beginning; empty where none does, None while that is not known."""

    @property
    def refused(self) -> str:
        """That and what can be done, in one line; empty where no check keeps a run from beginning."""
        return refused_line(self.fault) if self.fault else ""

    @property
    def word(self) -> str:
        """Where it stands."""
        if self.proposal.withdrawn:
            return "withdrawn"
        if self.run is not None:
            return self.run.state.value
        if self.fault:
            return "fails the check"
        return "ready to start" if self.given >= self.proposal.plan.quorum else "waiting for consents"

    @property
    def look(self) -> str:
        """The colour beside the word."""
        if self.proposal.withdrawn:
            return "hollow"
        if self.run is not None:
            return _LOOK[self.run.state]
        if self.fault:
            return "bad"
        return "good" if self.given >= self.proposal.plan.quorum else "warn"


@router.get("/plans")
def plans(request: Request, viewer: Seeing) -> Response:
    """All of them, newest first."""
    return page(request, "plans/list.html", **_list_facts(request, viewer))


@router.get("/plans/live")
def plans_live(request: Request, viewer: Seeing) -> Response:
    """Their states and consents as they change."""
    return stream(request, viewer, _list_parts)


@router.get("/plans/compare")
def compare(request: Request, viewer: Seeing, a: str = "", b: str = "") -> Response:
    """Two plans side by side."""
    choices = [Choice(one) for one in reversed(every_plan(room_of(request).engine))]
    facts: dict[str, Any] = {"rows": choices, "a": a, "b": b, "groups": [], "first": None}
    if a and b:
        engine = room_of(request).engine
        first, second = one_proposal(engine, a), one_proposal(engine, b)
        groups = _compared(_runs(request), viewer, first, second)
        facts |= {"groups": groups, "first": first, "second": second}
        facts["differing"] = sum(pair.differs for _, every in groups for pair in every)
    return page(request, "plans/compare.html", **facts)


@router.get("/plans/{digest}")
def plan(request: Request, viewer: Seeing, digest: str) -> Response:
    """One plan, whole: what it says, what it costs, who consented."""
    return _plan_page(request, viewer, digest)


def _plan_page(
    request: Request, viewer: Viewer, digest: str, status: int = 200, problem: str = ""
) -> Response:
    every = every_plan(room_of(request).engine)
    facts = _plan_facts(request, viewer, digest)
    one: Proposal = facts["one"]
    former = _former(every, one)
    return page(
        request,
        "plans/plan.html",
        status=status,
        problem=problem,
        **facts,
        **({} if facts["fault"] else _costs(request, viewer, one, every)),
        lines=plan_lines(one.plan),
        former=former,
        changes=[] if former is None else _changes(viewer, facts["names"], former, one),
        others=[Choice(other) for other in reversed(every) if other.digest != digest],
        raw=json.dumps(to_plain(one.plan), indent=2, ensure_ascii=False, sort_keys=True),
    )


@router.get("/plans/{digest}/live")
def plan_live(request: Request, viewer: Seeing, digest: str) -> Response:
    """Its consents as they arrive."""
    one_proposal(room_of(request).engine, digest)
    return stream(request, viewer, _plan_parts)


@router.post("/plans/{digest}/withdraw")
def withdraw(
    request: Request, viewer: Seeing, digest: str, name: Annotated[str, Form(max_length=200)] = ""
) -> Response:
    """Take it back for good, once its extractor's name was typed."""
    expected = _runs(request).plan(digest).extractor_name
    if name.strip() != expected:
        problem = (
            f"To withdraw this plan, type its extractor's name exactly: {expected}. What was typed is another text. "
            "Nothing was changed."
        )
        return _plan_page(request, viewer, digest, 422, problem)
    _runs(request).withdraw(digest, viewer.caller.actor)
    return then(request, f"/plans/{digest}", "The plan was withdrawn. No consent to it counts any more.")


@router.post("/plans/{digest}/runs")
def start_run(request: Request, viewer: Seeing, digest: str) -> Response:
    """Begin a run of it."""
    run = _runs(request).start(digest, viewer.caller.actor)
    return then(
        request, f"/runs/{run.id}", "The run has begun. Members are asked as soon as a quorum is online."
    )


def _runs(request: Request) -> RunService:
    runs: RunService = request.app.state.runs
    return runs


def _own(viewer: Viewer) -> str:
    """Id of the member that looks; empty for people, who see everybody."""
    return viewer.caller.id if viewer.caller.role is Role.MEMBER else ""


def _rows(request: Request, viewer: Viewer) -> list[Row]:
    """Newest first. Who is missing is read only for plans that still lack somebody, and for people only."""
    engine, own = room_of(request).engine, _own(viewer)
    newest = {run.plan_digest: run for run in _runs(request).store.runs()}
    every, given = every_plan(engine)[::-1], consent_counts(engine)
    waiting = not_begun(every, newest)
    faults = _runs(request).faults(waiting)
    fault_of = {one.digest: faults.get(one.digest) for one in waiting}
    lacking = [
        one
        for one in waiting
        if not own and not fault_of[one.digest] and given.get(one.digest, 0) < len(one.plan.members)
    ]
    names = _runs(request).names()
    missing = {one.digest: [names[i] for i in one.missing] for one in with_consents(engine, lacking)}
    signed = consented_by(engine, own) if own else frozenset[str]()
    return [
        Row(
            one,
            given.get(one.digest, 0),
            missing.get(one.digest, ()),
            newest.get(one.digest),
            one.digest in signed if own and one.plan.member(own) is not None else None,
            fault_of.get(one.digest, ""),
        )
        for one in every
    ]


def _list_facts(request: Request, viewer: Viewer) -> dict[str, Any]:
    return {"rows": _rows(request, viewer), "as_member": bool(_own(viewer))}


def _list_parts(request: Request, viewer: Viewer) -> Parts:
    return {"plans": part(request, viewer, "plans/rows.html", **_list_facts(request, viewer))}


def _plan_facts(request: Request, viewer: Viewer, digest: str) -> dict[str, Any]:
    one = one_proposal(room_of(request).engine, digest)
    going = [run for run in _runs(request).store.runs() if run.plan_digest == digest]
    own = _own(viewer)
    mine = own in one.consents if own and one.plan.member(own) is not None else None
    fault = _runs(request).fault(digest)
    names = _runs(request).names()
    missing = () if own else [names[member_id] for member_id in one.missing]
    return {
        "one": one,
        "row": Row(one, one.given, missing, going[-1] if going else None, mine, fault),
        "runs": going[::-1],
        "fault": fault,
        "under_way": any(run.state in (RunState.RUNNING, RunState.PAUSED) for run in going),
        "names": names,
        "members": [m for m in one.plan.members if own in ("", m.member_id)],
        "online": request.app.state.online(),
        "as_member": bool(own),
    }


def _plan_parts(request: Request, viewer: Viewer) -> Parts:
    facts = _plan_facts(request, viewer, request.path_params["digest"])
    return {name: part(request, viewer, f"plans/{name}.html", **facts) for name in ("standing", "consents")}


def _costs(request: Request, viewer: Viewer, one: Proposal, every: Sequence[Proposed]) -> dict[str, Any]:
    """What can be said only of a plan whose privacy argument holds."""
    check, measured = (
        _runs(request).cost(one.digest),
        measured_before(room_of(request).engine, every, one.plan),
    )
    return {
        "check": check,
        "costs": [cost for cost in check.costs if _own(viewer) in ("", cost.member_id)],
        **measured_facts(measured, one.plan),
        "promise": promise(one.plan),
    }


def _former(every: Sequence[Proposed], one: Proposed) -> Proposed | None:
    """The plan before it under the same name, or else simply the plan before it."""
    before = every[: next(place for place, p in enumerate(every) if p.digest == one.digest)]
    same = [p for p in before if p.plan.extractor_name == one.plan.extractor_name]
    found = same or before
    return found[-1] if found else None


def _changes(viewer: Viewer, names: Names, former: Proposed, one: Proposed) -> list[Pair]:
    before, now = (plan_lines(p.plan) + member_lines(p.plan, names, _own(viewer)) for p in (former, one))
    return [pair for pair in pairs(before, now) if pair.differs]


def _compared(
    runs: RunService, viewer: Viewer, first: Proposal, second: Proposal
) -> list[tuple[str, list[Pair]]]:
    own, names = _own(viewer), runs.names()
    made: list[tuple[str, Callable[[Proposal], list[Line]]]] = [
        ("What it costs", lambda one: _cost_lines(runs, one.digest)),
        ("What it says", lambda one: plan_lines(one.plan)),
        ("Members and declared sizes", lambda one: member_lines(one.plan, names, own)),
    ]
    return [(title, pairs(lines(first), lines(second))) for title, lines in made]


def _cost_lines(runs: RunService, digest: str) -> list[Line]:
    fault = runs.fault(digest)
    return [unsound_line(fault)] if fault else cost_lines(runs.cost(digest))
