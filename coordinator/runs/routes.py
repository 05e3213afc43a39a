"""The HTTP face of plans and runs: parse, call the service, render."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Request
from fastapi.responses import FileResponse, Response

from coordinator.members.access import (
    GUARDS,
    Caller,
    only,
    require,
    require_anyone,
    require_member,
    room_of,
    written_down,
)
from coordinator.members.allowance import CONSENTS
from coordinator.members.names import Names
from coordinator.runs.draft import PlanDraft
from coordinator.runs.measured import expected_band, measured_before
from coordinator.runs.planning import PlanCheck
from coordinator.runs.proposals import Proposal, every_plan, every_proposal, not_begun, one_proposal
from coordinator.runs.round_routes import rendered_round
from coordinator.runs.service import RunService
from coordinator.runs.store import RunRow
from shared.domain.consortium import Role
from shared.domain.plan import Plan
from shared.domain.run import RunState
from shared.domain.strict import build, to_plain

router = APIRouter(prefix="/api/v1")

Json = dict[str, Any]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]
Anybody = Annotated[Caller, Depends(require_anyone)]
Digest = Annotated[str, Path(max_length=80)]
Id = Annotated[str, Path(max_length=40)]
Signature = Annotated[str, Body(embed=True, max_length=128)]


def _consenting(request: Request) -> Caller:
    """A member's own node, so often in an hour: each time leaves two lines of the audit log, refused or not."""
    who = require_member(request)
    CONSENTS.take(room_of(request).clock, who.id)
    return who


GUARDS[_consenting] = GUARDS[require_member]
Consenting = Annotated[Caller, Depends(written_down(_consenting))]


def _service(request: Request) -> RunService:
    service: RunService = request.app.state.runs
    return service


Service = Annotated[RunService, Depends(_service)]


@router.post("/plans/check")
def check_plan(
    request: Request,
    service: Service,
    who: Annotated[Caller, Depends(only(Role.ADMIN))],
    draft: Annotated[Json, Body()],
) -> Json:
    """What a plan would cost, and what earlier runs of its extractor measured; stores nothing."""
    check = service.check(build(PlanDraft, draft, "plan"))
    return _rendered_check(check) | _measured(request, check.plan)


@router.post("/plans", status_code=201)
def propose_plan(service: Service, who: Admin, draft: Annotated[Json, Body()]) -> Json:
    """Check the plan and put it before its members."""
    return _rendered_check(service.propose(build(PlanDraft, draft, "plan"), who.actor))


@router.get("/plans")
def list_plans(request: Request, service: Service, who: Anybody) -> Json:
    """All plans, oldest first, with who consented, and which of those that wait no longer pass the check."""
    every = every_proposal(room_of(request).engine)
    waiting = not_begun(every, {run.plan_digest for run in service.store.runs()})
    faults = service.faults(waiting)
    fault_of = {one.digest: faults.get(one.digest) for one in waiting}
    names = service.names()
    return {"plans": [_rendered_plan(one, names) | {"fault": fault_of.get(one.digest, "")} for one in every]}


@router.get("/plans/{digest}")
def show_plan(request: Request, service: Service, who: Anybody, digest: Digest) -> Json:
    """One plan, whole, with who proposed it, who consented when, and whether it still passes the check."""
    return _rendered_whole(service, one_proposal(room_of(request).engine, digest))


@router.get("/plans/{digest}/cost")
def plan_cost(service: Service, who: Anybody, digest: Digest) -> Json:
    """What a proposed plan costs each member, as `check` said; without seconds where the extractor was not timed."""
    return _rendered_check(service.cost(digest))


@router.get("/plans/{digest}/measured")
def measured_runs(request: Request, who: Anybody, digest: Digest) -> Json:
    """What earlier runs under the plan's extractor name measured, by ε: how accurate a run of it may become."""
    return _measured(request, one_proposal(room_of(request).engine, digest).plan)


@router.get("/plans/{digest}/starting-weights")
def starting_weights(service: Service, who: Anybody, digest: Digest) -> Response:
    """The file whose digest the plan names."""
    return FileResponse(service.starting_weights(digest), media_type="application/octet-stream")


@router.post("/plans/{digest}/consents", status_code=201)
def consent(service: Service, who: Consenting, digest: Digest, signature: Signature) -> Json:
    """A member's signed consent."""
    service.consent(digest, who.id, signature)
    return {"consents": sorted(service.store.consents(digest))}


@router.post("/plans/{digest}/withdraw")
def withdraw_plan(service: Service, who: Admin, digest: Digest) -> Json:
    """Take a plan back that no run began from, for good; no consent to it counts any more."""
    service.withdraw(digest, who.actor)
    return _rendered_whole(service, service.store.proposal(digest))


@router.post("/plans/{digest}/runs", status_code=201)
def start_run(service: Service, who: Admin, digest: Digest) -> Json:
    """Begin a run."""
    return _rendered_run(service, service.start(digest, who.actor))


@router.get("/runs")
def list_runs(service: Service, who: Anybody) -> Json:
    """All runs, oldest first."""
    return {"runs": [_seen_by(who, _rendered_run(service, run)) for run in service.store.runs()]}


@router.get("/runs/{run_id}")
def show_run(service: Service, who: Anybody, run_id: Id) -> Json:
    """One run with all its rounds; a member reads its own reasons for not contributing, not the others'."""
    run = service.store.run(run_id)
    rounds = [rendered_round(who, row) for row in service.store.rounds(run_id)]
    return _seen_by(who, _rendered_run(service, run)) | {"rounds": rounds}


@router.post("/runs/{run_id}/pause")
def pause_run(service: Service, who: Admin, run_id: Id) -> Json:
    """Leave the open round and wait."""
    return _rendered_run(service, service.move(run_id, RunState.PAUSED, who.actor))


@router.post("/runs/{run_id}/resume")
def resume_run(service: Service, who: Admin, run_id: Id) -> Json:
    """Go on from the last closed round."""
    return _rendered_run(service, service.move(run_id, RunState.RUNNING, who.actor))


@router.post("/runs/{run_id}/stop")
def stop_run(service: Service, who: Admin, run_id: Id) -> Json:
    """End the run for good."""
    return _rendered_run(service, service.move(run_id, RunState.STOPPED, who.actor))


def _seen_by(who: Caller, run: Json) -> Json:
    """Why a run ended may name a member or an admin: members read that it did."""
    return run | {"reason": ""} if who.role is Role.MEMBER else run


def _rendered_check(check: PlanCheck) -> Json:
    """All of the check; an ε without a useful bound is null, as JSON has no infinity."""
    plain = to_plain(check)
    costs = [_bounded(cost) for cost in plain["costs"]]
    with_start = plain["with_start"] and _bounded(plain["with_start"])
    return {"digest": str(check.plan.digest)} | plain | {"costs": costs, "with_start": with_start}


def _bounded(cost: Json) -> Json:
    return {key: None if value == math.inf else value for key, value in cost.items()}


def _measured(request: Request, like: Plan) -> Json:
    """The plans of those runs have routes of their own: of each its digest and ε stand here."""
    engine = room_of(request).engine
    found = measured_before(engine, every_plan(engine), like)
    told = [
        {
            "run_id": one.run_id,
            "plan_digest": str(one.plan.digest),
            "target_epsilon": one.plan.privacy.target_epsilon,
            "round_number": one.round_number,
            "accuracy": one.accuracy,
            "spread": one.spread,
            "same_extractor": one.same_extractor,
        }
        for one in found
    ]
    band = expected_band(found, like.privacy.target_epsilon)
    return {"measured": told, "expected": band and to_plain(band)}


def _rendered_plan(one: Proposal, names: Names) -> Json:
    plan = one.plan
    return {
        "digest": one.digest,
        "extractor_name": plan.extractor_name,
        "proposed_by": one.proposed_by,
        "proposed_at": one.proposed_at,
        "withdrawn": one.withdrawn,
        "members": [
            {
                "member_id": m.member_id,
                "name": names[m.member_id],
                "declared_size": m.declared_size,
                "consented": m.member_id in one.consents,
                "counts": m.member_id in one.consents and m.member_id not in one.uncounted,
            }
            for m in plan.members
        ],
        "quorum": plan.quorum,
        "rounds": plan.rounds,
        "target_epsilon": plan.privacy.target_epsilon,
    }


def _rendered_whole(service: RunService, one: Proposal) -> Json:
    names = service.names()
    return {
        "plan": to_plain(one.plan),
        "proposed_by": one.proposed_by,
        "proposed_at": one.proposed_at,
        "withdrawn": one.withdrawn,
        "names": {m.member_id: names[m.member_id] for m in one.plan.members},
        "consents": sorted(one.consents),
        "consented_at": dict(one.consents),
        "uncounted": dict(one.uncounted),
        "fault": service.fault(one.digest),
    }


def _rendered_run(service: RunService, run: RunRow) -> Json:
    plan = service.plan(run.plan_digest)
    return to_plain(run) | {"planned_rounds": plan.rounds, "extractor_name": plan.extractor_name}
