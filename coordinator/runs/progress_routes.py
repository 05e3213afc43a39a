"""The HTTP face of a run's progress."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request

from coordinator.members.access import Caller, require_anyone, room_of
from coordinator.runs.progress import progress
from coordinator.runs.service import RunService
from shared.domain.consortium import Role
from shared.domain.strict import to_plain

router = APIRouter(prefix="/api/v1/runs/{run_id}")


@router.get("/progress")
def show_progress(
    request: Request,
    who: Annotated[Caller, Depends(require_anyone)],
    run_id: Annotated[str, Path(max_length=40)],
) -> dict[str, Any]:
    """How far a run is: round, pace, what is left, ε that each member spent; of members, a member reads its own row."""
    runs: RunService = request.app.state.runs
    room, mine = room_of(request), who.id if who.role is Role.MEMBER else None
    driving: str | None = request.app.state.driver.driving
    found = progress(runs, room.engine, room.clock, driving, runs.store.run(run_id), mine)
    plain: dict[str, Any] = to_plain(found)
    return plain
