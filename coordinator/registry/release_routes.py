"""HTTP for what people ask of releases, under /api/v1; and withdrawing.

Proofs, who can learn what, what changed, downloads, the red team's report.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request
from fastapi import Path as InPath
from fastapi.responses import JSONResponse, Response

from coordinator.members.access import Caller, require, require_anyone
from coordinator.registry.audiences import audiences
from coordinator.registry.differences import before, changes
from coordinator.registry.gate_report import read_picture, read_report
from coordinator.registry.routes import may_read
from coordinator.registry.service import ReleaseService
from shared.domain.consortium import Role
from shared.domain.release import HIGHEST_NUMBER, MOST_REASON_CHARACTERS, CatalogueEntry
from shared.domain.strict import to_plain
from shared.release.promise import believed, not_promised, promise

router = APIRouter(prefix="/api/v1")
PATIENCE_S = 1.0
"""How long a page or an answer waits for a verification before it says that one is going on."""
CHECKING = 202
"""The status of an answer that was not waited for."""
Json = dict[str, Any]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]
Anybody = Annotated[Caller, Depends(require_anyone)]
Extractor = Annotated[str, InPath(max_length=64)]
Number = Annotated[int, InPath(ge=1, le=HIGHEST_NUMBER)]
Since = Annotated[int | None, Query(ge=1, le=HIGHEST_NUMBER)]
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


@router.get(
    "/releases/{extractor}/{number}",
    responses={CHECKING: {"description": "The same, while its proofs are being checked: ask again."}},
)
def release(service: Service, who: Anybody, entry: Entry) -> JSONResponse:
    """One release: what was proven of it here and when, how often it was fetched, why it was withdrawn."""
    checked = service.check_within(entry, PATIENCE_S)
    shown = {
        "release": entry.id,
        "yanked": entry.yanked,
        "withdrawal": to_plain(service.withdrawal(entry)),
        "downloads": to_plain(service.downloads.of(entry.id)),
        "checking": checked is None,
        "checked": to_plain(checked),
    }
    return JSONResponse(shown, CHECKING if checked is None else 200)


@router.get("/releases/{extractor}/{number}/privacy")
def privacy(service: Service, who: Anybody, entry: Entry) -> Json:
    """Who can learn what from a release, what is promised to each member, and what nobody can prove; as it claims."""
    claimed = service.claimed(entry)
    plan = claimed.plan
    return {
        "release": entry.id,
        "unit": plan.privacy.unit.value,
        "delta": plan.privacy.delta,
        "audiences": [
            to_plain(one) | {"epsilon": one.limit(claimed.epsilon, claimed.epsilon_alone)}
            for one in audiences(plan)
        ],
        "promise": promise(plan),
        "not_promised": list(not_promised(plan)),
        "believed": list(believed(plan, pinned=True)),
    }


@router.get("/releases/{extractor}/{number}/changes")
def differences(service: Service, who: Anybody, entry: Entry, since: Since = None) -> Json:
    """Its notes, and what is not as in the release before it or in number `since` of the same extractor; as claimed."""
    claimed = service.claimed(entry)
    if since is None:
        earlier = before(service, claimed.manifest)
    else:
        earlier = service.find(entry.extractor_name, str(since))
    found = () if earlier is None else changes(service.claimed(earlier), claimed)
    return {
        "release": entry.id,
        "before": None if earlier is None else earlier.id,
        "notes": list(claimed.about.notes),
        "changes": [to_plain(change) for change in found],
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
