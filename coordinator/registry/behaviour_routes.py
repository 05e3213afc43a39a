"""HTTP for the difference of two releases in behaviour, under /api/v1: asked for once, then read by everybody."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request
from fastapi.responses import JSONResponse

from coordinator.members.access import Caller, only
from coordinator.registry.behaviour import Comparison, Comparisons
from coordinator.registry.differences import before as release_before
from coordinator.registry.release_routes import CHECKING, Anybody, Entry, Service
from coordinator.registry.service import ReleaseService
from shared.domain.consortium import Role
from shared.domain.errors import NotFound
from shared.domain.release import CatalogueEntry
from shared.domain.strict import to_plain

router = APIRouter(prefix="/api/v1")
Json = dict[str, Any]
MOST_ID_CHARACTERS = 80
Before = Annotated[str, Query(max_length=MOST_ID_CHARACTERS)]
Measurer = Annotated[Caller, Depends(only(*Role))]
"""No line in the audit log: what is measured is the same for everybody, and changes nothing."""
LATER: dict[int | str, Json] = {
    CHECKING: {"description": "The same, while it waits or is being measured: ask again."}
}


def comparisons_of(request: Request) -> Comparisons:
    """The service, from where the application keeps it."""
    comparisons: Comparisons = request.app.state.comparisons
    return comparisons


Compared = Annotated[Comparisons, Depends(comparisons_of)]


@router.get("/releases/{extractor}/{number}/diff", responses=LATER)
def diff(
    service: Service, comparisons: Compared, who: Anybody, entry: Entry, before: Before = ""
) -> JSONResponse:
    """What it does differently from the release `before` (left out: the one before it), if that was measured."""
    return _answer(comparisons.standing(_other(service, entry, before), entry))


@router.post("/releases/{extractor}/{number}/diff", responses=LATER)
def measure_diff(
    service: Service,
    comparisons: Compared,
    who: Measurer,
    entry: Entry,
    before: Annotated[str, Body(embed=True, max_length=MOST_ID_CHARACTERS)] = "",
) -> JSONResponse:
    """Have that measured by a process of its own, unless it is known, and answer at once; GET says how it goes."""
    return _answer(comparisons.begin(_other(service, entry, before), entry, who.id))


def release_of(service: ReleaseService, release: str) -> CatalogueEntry:
    """The release with this id. Raises NotFound."""
    name, _, number = release.rpartition("-")
    return service.find(name, number)


def _other(service: ReleaseService, entry: CatalogueEntry, before: str) -> CatalogueEntry:
    if before:
        return release_of(service, before)
    found = release_before(service, service.claimed_extractor(entry).manifest)
    if found is None:
        raise NotFound(
            f"No release before {entry.id} is in this catalogue. Nothing was measured. Name another one in `before`."
        )
    return found


def _answer(found: Comparison) -> JSONResponse:
    shown: Json = to_plain(found)
    return JSONResponse(shown, CHECKING if found.going else 200)
