"""The overview: what runs, what waits for whom, who is there, the last release, and whether each part is well."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from coordinator.dashboard.frame import page, part
from coordinator.dashboard.gate import Seeing, gate
from coordinator.dashboard.health import every_part
from coordinator.dashboard.live import stream
from coordinator.dashboard.members_facts import Row, invitations_open, table_facts
from coordinator.dashboard.pulse import Parts
from coordinator.dashboard.run_facts import GOING, Asked, run_facts
from coordinator.dashboard.sessions import Viewer
from coordinator.members.access import room_of
from coordinator.registry.shelf import Shelf, read_catalogue
from coordinator.runs.service import RunService
from coordinator.runs.store import RunRow
from shared.domain.consortium import MemberState, Purpose, Role
from shared.domain.run import RunState

router = APIRouter(dependencies=[Depends(gate)])
PARTS = ("now", "waiting", "members", "release", "health")


@dataclass(frozen=True)
class Waiting:
    """One thing that does not go on until somebody acts."""

    who: str
    what: str
    link: str


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
    table = table_facts(request, viewer)
    contributing: list[Row] = [
        row
        for row in table["rows"]
        if row.member.state is MemberState.ACTIVE and row.member.purpose is Purpose.CONTRIBUTE
    ]
    going = [run for run in runs.store.runs() if run.state in GOING]
    releases = read_catalogue(Shelf(request.app.state.home), room_of(request).clock).releases
    return {
        "runs_now": [run_facts(request, viewer, run.id, Asked()) for run in going],
        "waiting": _waiting(request, viewer, table["rows"], going),
        "members": table["rows"],
        "counts": table["counts"],
        "online": sum(row.online for row in contributing),
        "offline": [row for row in contributing if not row.online],
        "last_release": releases[-1] if releases else None,
        "downloads": request.app.state.downloads.of(str(releases[-1].id)) if releases else None,
        "health": [] if viewer.caller.role is Role.MEMBER else every_part(request),
    }


def _waiting(request: Request, viewer: Viewer, rows: list[Row], going: list[RunRow]) -> list[Waiting]:
    found = [
        Waiting(run.id, f"{run.state.value}: resume or stop", f"/runs/{run.id}")
        for run in going
        if run.state is not RunState.RUNNING
    ]
    found += [Waiting(row.member.name, row.step.text, row.step.link) for row in rows if row.step.pressing]
    found += [
        Waiting(line.invitation.member_name, "invitation not used yet", "/members")
        for line in invitations_open(request, viewer) or []
    ]
    return found
