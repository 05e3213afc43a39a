"""The overview: what runs, what waits for whom, who is there, the last release, and whether each part is well."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from coordinator.dashboard.frame import page, part
from coordinator.dashboard.gate import Seeing, gate
from coordinator.dashboard.health import every_part
from coordinator.dashboard.live import stream
from coordinator.dashboard.members_facts import brief, counts_of, visible_rows
from coordinator.dashboard.pulse import Parts
from coordinator.dashboard.run_facts import GOING, Asked, run_facts
from coordinator.dashboard.sessions import Viewer
from coordinator.dashboard.waiting import everything_waiting
from coordinator.members.access import room_of
from coordinator.registry.claims import Claimed
from coordinator.registry.release_routes import releases_of
from coordinator.registry.service import ReleaseService
from coordinator.runs.proposals import every_plan
from coordinator.runs.service import RunService
from shared.domain.consortium import MemberState, Purpose, Role
from shared.domain.errors import CommonlensError
from shared.domain.plan import Plan
from shared.domain.release import CatalogueEntry

router = APIRouter(dependencies=[Depends(gate)])
PARTS = ("now", "waiting", "members", "release", "health")


@router.get("/")
def overview(request: Request, viewer: Seeing) -> Response:
    """Everything at a glance."""
    return page(request, "overview.html", **_facts(request, viewer))


@router.get("/live")
def overview_live(request: Request, viewer: Seeing) -> Response:
    """Its parts as they change."""
    return stream(request, viewer, _parts)


def _parts(request: Request, viewer: Viewer) -> Parts:
    facts = _facts(request, viewer)
    return {name: part(request, viewer, f"overview/{name}.html", **facts) for name in PARTS}


def _facts(request: Request, viewer: Viewer) -> dict[str, Any]:
    runs: RunService = request.app.state.runs
    every, rows, now = runs.store.runs(), visible_rows(request, viewer), room_of(request).clock.now()
    contributing = [
        row
        for row in rows
        if row.member.state is MemberState.ACTIVE and row.member.purpose is Purpose.CONTRIBUTE
    ]
    # Whoever went last stands first: its admin may still be at work.
    offline = sorted(
        (row for row in contributing if not row.online),
        key=lambda row: row.status.last_seen_at or "",
        reverse=True,
    )
    last = _last_trained(releases_of(request))
    return {
        "runs_now": [run_facts(request, viewer, run.id, Asked()) for run in every if run.state in GOING],
        "waiting": everything_waiting(request, viewer, rows, every),
        "members": rows,
        "counts": counts_of(rows),
        "alone": viewer.caller.role is Role.MEMBER,
        "own_plan": _own_plan(room_of(request).engine, viewer),
        "online": len(contributing) - len(offline),
        "offline": offline,
        "brief": lambda text: brief(text, now),
        "last_release": last,
        "downloads": None if last is None else request.app.state.downloads.of(last.id),
        "health": [] if viewer.caller.role is Role.MEMBER else every_part(request),
    }


def _own_plan(engine: sa.Engine, viewer: Viewer) -> Plan | None:
    """The newest plan that names this member. Its page tells it how many members the plan has, and not who they are."""
    if viewer.caller.role is not Role.MEMBER:
        return None
    open_ones = (one.plan for one in reversed(every_plan(engine)) if not one.withdrawn)
    return next((plan for plan in open_ones if plan.member(viewer.caller.id) is not None), None)


def _last_trained(service: ReleaseService) -> CatalogueEntry | None:
    """The last release of a run, not what the library was filled with; one that cannot be read is shown too."""
    for entry in reversed(service.catalogue().releases):
        try:
            if isinstance(service.claimed_extractor(entry), Claimed):
                return entry
        except CommonlensError:
            return entry
    return None
