"""The HTTP face of publishing: make a release and wait for it, or begin one and ask how it goes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Request

from coordinator.members.access import Caller, require, require_anyone
from coordinator.runs.publishing import Publisher
from coordinator.runs.service import RunService
from shared.domain.consortium import Role
from shared.domain.strict import to_plain
from shared.release.about import MOST_TEXT_CHARACTERS

router = APIRouter(prefix="/api/v1/runs/{run_id}")
Json = dict[str, Any]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]
Anybody = Annotated[Caller, Depends(require_anyone)]
Id = Annotated[str, Path(max_length=40)]
Notes = Annotated[str, Body(embed=True, max_length=MOST_TEXT_CHARACTERS)]


def publisher_of(request: Request) -> Publisher:
    """The service, from where the application keeps it."""
    publisher: Publisher = request.app.state.publisher
    return publisher


Service = Annotated[Publisher, Depends(publisher_of)]


@router.post("/releases", status_code=201)
def publish_run(publisher: Service, who: Admin, run_id: Id, notes: Notes = "") -> Json:
    """Make a signed release of a run that has ended or is paused, and wait for it. Notes: what is new, one a line."""
    return publisher.publish(run_id, who.actor, notes)


@router.post("/publishing", status_code=202)
def begin_publishing(publisher: Service, who: Admin, run_id: Id, notes: Notes = "") -> Json:
    """Begin to make a release of a run, and answer at once; GET says how it goes, also after a restart."""
    begun: Json = to_plain(publisher.begin(run_id, who.actor, notes))
    return begun


@router.get("/publishing")
def show_publishing(request: Request, publisher: Service, who: Anybody, run_id: Id) -> Json:
    """The releases of a run, which of them are its weights of now, the last begun, and whether one can be begun."""
    runs: RunService = request.app.state.runs
    found = publisher.standing(runs.store.run(run_id))
    return {
        "job": to_plain(found.job),
        "releases": [entry.id for entry in found.releases],
        "released_as": list(found.released_as),
        "may_publish": found.may_publish,
    }
