"""The plan's form: one dial, what it costs at once, and everything else behind "All settings"."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from coordinator.dashboard.frame import page, then
from coordinator.dashboard.gate import Seeing, gate
from coordinator.dashboard.plan_fields import (
    DIAL,
    GROUPS,
    LEAST_DIAL,
    MOST_DIAL,
    NAME,
    PURPOSE,
)
from coordinator.dashboard.plan_form import (
    Typed,
    draft_of,
    first_typed,
    label_of,
    named_in,
    typed_from,
    typed_of,
)
from coordinator.dashboard.plan_lines import measured_facts
from coordinator.dashboard.plan_options import ARCHITECTURES, COMMON_OPTIONS, option_key
from coordinator.members.access import room_of
from coordinator.registry.shelf import Shelf, read_catalogue
from coordinator.runs.measured import measured_before
from coordinator.runs.planning import PlanCheck
from coordinator.runs.proposals import every_plan, one_proposal
from coordinator.runs.service import RunService
from coordinator.workers.probe import PUBLIC_STARTS
from shared.domain.consortium import MemberState, Purpose
from shared.domain.errors import CommonlensError, Invalid, NotTrusted, Refused

router = APIRouter(dependencies=[Depends(gate)])
DIAL_STEPS = 100
REFUSED_STATUS = 422


async def typed_here(request: Request) -> Typed:
    """What the form sent; its proof and origin were checked before."""
    return typed_from((await request.form()).multi_items())


Sent = Annotated[Typed, Depends(typed_here)]


@router.get("/plans/new")
def new_plan(request: Request, viewer: Seeing, former: Annotated[str, Query(alias="from")] = "") -> Response:
    """The form, filled in with the defaults or as a former plan has it. Nothing is checked yet."""
    typed = first_typed()
    if former:
        plan = one_proposal(room_of(request).engine, former).plan
        typed = typed_of(plan, _runs(request).names(), _contributors(request))
    elif earlier := every_plan(room_of(request).engine):
        typed.texts[NAME.key] = [earlier[-1].plan.extractor_name]
    return _form(request, typed, former=former)


@router.post("/plans/check")
def check_plan(request: Request, viewer: Seeing, typed: Sent) -> Response:
    """What such a plan would cost, or why it is refused. Nothing is stored."""
    try:
        check = _runs(request).check(draft_of(typed))
    except (Refused, Invalid, NotTrusted) as error:
        return _form(request, typed, error=error)
    return _form(request, typed, check=check)


@router.post("/plans")
def propose_plan(request: Request, viewer: Seeing, typed: Sent) -> Response:
    """Put it before its members."""
    try:
        check = _runs(request).propose(draft_of(typed), viewer.caller.actor)
    except (Refused, Invalid, NotTrusted) as error:
        return _form(request, typed, error=error)
    plan = check.plan
    return then(
        request,
        f"/plans/{plan.digest}",
        f"Proposed to {len(plan.members)} members. Each reviews it on its own machine and signs its digest.",
    )


def _runs(request: Request) -> RunService:
    runs: RunService = request.app.state.runs
    return runs


def _form(
    request: Request,
    typed: Typed,
    *,
    former: str = "",
    check: PlanCheck | None = None,
    error: CommonlensError | None = None,
) -> Response:
    return page(
        request,
        "plans/new.html",
        status=200 if error is None else REFUSED_STATUS,
        typed=typed,
        former=former,
        check=check,
        problem="" if error is None else error.message,
        named=[] if error is None else named_in(error.message),
        short=_short(request, check),
        **_measured(request, check),
        contributors=_contributors(request),
        starts=_starts(request),
        position=dial_position(typed[DIAL.key]),
        **_TABLES,
    )


_TABLES: dict[str, Any] = {
    "dial": DIAL,
    "name": NAME,
    "purpose": PURPOSE,
    "least": LEAST_DIAL,
    "most": MOST_DIAL,
    "steps": DIAL_STEPS,
    "setting_groups": GROUPS,
    "architectures": ARCHITECTURES,
    "common_options": COMMON_OPTIONS,
    "option_key": option_key,
    "label_of": label_of,
}


def dial_position(text: str) -> int:
    """Where the dial stands for a typed ε: equal ways are equal factors."""
    try:
        epsilon = float(text)
    except ValueError:
        epsilon = MOST_DIAL
    if not LEAST_DIAL < epsilon < MOST_DIAL:
        return 0 if epsilon <= LEAST_DIAL else DIAL_STEPS
    return round(DIAL_STEPS * math.log(epsilon / LEAST_DIAL) / math.log(MOST_DIAL / LEAST_DIAL))


def _contributors(request: Request) -> list[str]:
    return [
        m.name
        for m in room_of(request).members.every()
        if m.purpose is Purpose.CONTRIBUTE and m.state is MemberState.ACTIVE and m.declared_size > 0
    ]


def _starts(request: Request) -> list[str]:
    """What `starting_from` can name without a path."""
    entries = read_catalogue(Shelf(request.app.state.home), room_of(request).clock).releases
    return [*PUBLIC_STARTS, *(str(entry.id) for entry in entries if not entry.yanked)]


def _short(request: Request, check: PlanCheck | None) -> list[tuple[str, float]]:
    """(member, ε left) of those whose nodes declare less than the plan may cost them: they may refuse its rounds."""
    if check is None:
        return []
    declared = room_of(request).status.every()
    left = {member_id: status.budget_left for member_id, status in declared.items()}
    found = [(cost, left.get(m.member_id)) for m, cost in zip(check.plan.members, check.costs, strict=True)]
    return [(cost.name, one.epsilon) for cost, one in found if one is not None and one.epsilon < cost.epsilon]


def _measured(request: Request, check: PlanCheck | None) -> dict[str, Any]:
    if check is None:
        return {"measured": []}
    engine = room_of(request).engine
    return measured_facts(measured_before(engine, every_plan(engine), check.plan), check.plan)
