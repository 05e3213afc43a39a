"""HTTP for what people ask of releases, under /api/v1: proofs, downloads, the red team's report; and withdrawing."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from fastapi import Path as InPath
from fastapi.responses import Response

from coordinator.members.access import Caller, require, require_anyone
from coordinator.registry.gate_report import read_picture, read_report
from coordinator.registry.routes import may_read
from coordinator.registry.service import MOST_REASON_CHARACTERS, ReleaseService
from shared.domain.consortium import Role
from shared.domain.release import HIGHEST_NUMBER, CatalogueEntry
from shared.domain.strict import to_plain

router = APIRouter(prefix="/api/v1")
Json = dict[str, Any]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]
Anybody = Annotated[Caller, Depends(require_anyone)]
Extractor = Annotated[str, InPath(max_length=64)]
Number = Annotated[int, InPath(ge=1, le=HIGHEST_NUMBER)]
Reason = Annotated[str, Body(embed=True, max_length=MOST_REASON_CHARACTERS)]


def releases_of(request: Request) -> ReleaseService:
    """The service, from where the application keeps it."""
    service: ReleaseService = request.app.state.releases
    return service


Service = Annotated[ReleaseService, Depends(releases_of)]


def _entry(service: Service, extractor: Extractor, number: Number) -> CatalogueEntry:
    return service.find(extractor, str(number))


Entry = Annotated[CatalogueEntry, Depends(_entry)]


@router.get("/releases/downloads", dependencies=[Depends(may_read)])
def downloads(service: Service) -> Json:
    """How often each release was fetched; one that nobody fetched is not listed."""
    return {"downloads": to_plain(service.downloads.every())}


@router.get("/releases/{extractor}/{number}")
def release(service: Service, who: Anybody, entry: Entry) -> Json:
    """One release: what was proven of it here and when, how often it was fetched, why it was withdrawn."""
    return {
        "release": entry.id,
        "yanked": entry.yanked,
        "withdrawal": to_plain(service.withdrawal(entry)),
        "downloads": to_plain(service.downloads.of(entry.id)),
        "checked": to_plain(service.check(entry)),
    }


@router.get("/releases/{extractor}/{number}/redteam")
def redteam(service: Service, who: Anybody, entry: Entry) -> Json:
    """What the red team found for the release's plan before it was published."""
    plain: Json = to_plain(read_report(service.home, service.claimed(entry).manifest.plan_digest))
    return plain


@router.get("/releases/{extractor}/{number}/redteam/{picture}")
def redteam_picture(
    service: Service, who: Anybody, entry: Entry, picture: Annotated[str, InPath(max_length=64)]
) -> Response:
    """A picture of that report (PNG)."""
    data = read_picture(service.home, service.claimed(entry).manifest.plan_digest, picture)
    return Response(data, media_type="image/png")


@router.post("/releases/{extractor}/{number}/yank")
def yank(service: Service, who: Admin, entry: Entry, reason: Reason) -> Json:
    """Withdraw a release: it stays listed with the reason, and is not offered any more."""
    service.withdraw(entry.id, who.actor, reason)
    return {"release": entry.id, "yanked": True}
