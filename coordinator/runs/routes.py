"""The HTTP face of plans and runs: parse, call the service, render."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from fastapi.responses import FileResponse, Response

from coordinator.members.access import Caller, require, require_anyone, require_member
from coordinator.runs.draft import PlanDraft
from coordinator.runs.planning import PlanCheck
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
OwnNode = Annotated[Caller, Depends(require_member)]
Signature = Annotated[str, Body(embed=True, max_length=128)]


def _service(request: Request) -> RunService:
    service: RunService = request.app.state.runs
    return service


Service = Annotated[RunService, Depends(_service)]


@router.post("/plans/check")
def check_plan(service: Service, who: Admin, draft: Annotated[Json, Body()]) -> Json:
    """What a plan would cost; stores nothing."""
    return _rendered_check(service.check(build(PlanDraft, draft, "plan")))


@router.post("/plans", status_code=201)
def propose_plan(service: Service, who: Admin, draft: Annotated[Json, Body()]) -> Json:
    """Check the plan and put it before its members."""
    return _rendered_check(service.propose(build(PlanDraft, draft, "plan"), who.actor))


@router.get("/plans")
def list_plans(service: Service, who: Anybody) -> Json:
    """All plans, oldest first, with who consented."""
    return {"plans": [_rendered_plan(service, plan, at) for plan, at in service.store.plans()]}


@router.get("/plans/{digest}")
def show_plan(service: Service, who: Anybody, digest: str) -> Json:
    """One plan, whole."""
    return {"plan": to_plain(service.plan(digest)), "consents": sorted(service.store.consents(digest))}


@router.get("/plans/{digest}/starting-weights")
def starting_weights(service: Service, who: Anybody, digest: str) -> Response:
    """The file whose digest the plan names."""
    return FileResponse(service.starting_weights(digest), media_type="application/octet-stream")


@router.post("/plans/{digest}/consents", status_code=201)
def consent(service: Service, who: OwnNode, digest: str, signature: Signature) -> Json:
    """A member's signed consent."""
    service.consent(digest, who.id, signature)
    return {"consents": sorted(service.store.consents(digest))}


@router.post("/plans/{digest}/runs", status_code=201)
def start_run(service: Service, who: Admin, digest: str) -> Json:
    """Begin a run."""
    return _rendered_run(service, service.start(digest, who.actor))


@router.get("/runs")
def list_runs(service: Service, who: Anybody) -> Json:
    """All runs, oldest first."""
    return {"runs": [_rendered_run(service, run) for run in service.store.runs()]}


@router.get("/runs/{run_id}")
def show_run(service: Service, who: Anybody, run_id: str) -> Json:
    """One run with all its rounds."""
    run = service.store.run(run_id)
    rounds = [_rendered_round(row) for row in service.store.rounds(run_id)]
    return _rendered_run(service, run) | {"rounds": rounds}


@router.post("/runs/{run_id}/pause")
def pause_run(service: Service, who: Admin, run_id: str) -> Json:
    """Leave the open round and wait."""
    return _rendered_run(service, service.move(run_id, RunState.PAUSED, who.actor))


@router.post("/runs/{run_id}/resume")
def resume_run(service: Service, who: Admin, run_id: str) -> Json:
    """Go on from the last closed round."""
    return _rendered_run(service, service.move(run_id, RunState.RUNNING, who.actor))


@router.post("/runs/{run_id}/stop")
def stop_run(service: Service, who: Admin, run_id: str) -> Json:
    """End the run for good."""
    return _rendered_run(service, service.move(run_id, RunState.STOPPED, who.actor))


def _rendered_check(check: PlanCheck) -> Json:
    """All of the check; an ε without a useful bound is null, as JSON has no infinity."""
    plain = to_plain(check)
    costs = [
        {key: None if value == math.inf else value for key, value in cost.items()} for cost in plain["costs"]
    ]
    return {"digest": str(check.plan.digest)} | plain | {"costs": costs}


def _rendered_plan(service: RunService, plan: Plan, proposed_at: str) -> Json:
    consents = service.store.consents(str(plan.digest))
    return {
        "digest": str(plan.digest),
        "extractor_name": plan.extractor_name,
        "proposed_at": proposed_at,
        "members": [to_plain(m) | {"consented": m.member_id in consents} for m in plan.members],
        "rounds": plan.rounds,
        "target_epsilon": plan.privacy.target_epsilon,
    }


def _rendered_run(service: RunService, run: RunRow) -> Json:
    plan = service.plan(run.plan_digest)
    return to_plain(run) | {"planned_rounds": plan.rounds, "extractor_name": plan.extractor_name}


def _rendered_round(row: Json) -> Json:
    """A round as stored, with the error bar of its noised counts (clause 6.2)."""
    counts = {name: row.pop(f"counts_{name}") for name in ("correct", "wrong", "noise_std")}
    return row | {"validation": None if counts["correct"] is None else counts}
