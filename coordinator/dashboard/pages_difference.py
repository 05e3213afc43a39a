"""How the behaviour of two releases differs: choose two, have it measured, read it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Request
from starlette.responses import Response

from coordinator.dashboard.difference_view import view_of
from coordinator.dashboard.frame import page, then
from coordinator.dashboard.gate import Passing, Seeing, gate
from coordinator.dashboard.snippets import diff_line
from coordinator.registry.behaviour_routes import comparisons_of, release_of
from coordinator.registry.differences import before as release_before
from coordinator.registry.release_routes import releases_of
from coordinator.registry.service import ReleaseService
from coordinator.registry.shelf import Shelf
from shared.domain.errors import CommonlensError, Invalid
from shared.domain.release import CatalogueEntry

router = APIRouter(dependencies=[Depends(gate)])
AGAIN_S = 4
"""A page that waits loads itself again after so many seconds."""


@router.get("/extractors/diff")
def diff(request: Request, viewer: Passing, before: str = "", after: str = "") -> Response:
    """Two releases side by side, where that was measured; begins nothing."""
    service = releases_of(request)
    choices = _choices(service)
    second = release_of(service, after) if after else next(iter(choices), None)
    first = release_of(service, before) if before else _beside(service, second, choices)
    chosen: dict[str, Any] = {"first": first, "second": second, "choices": choices, "problem": ""}
    if first is None or second is None or not (before and after):
        return page(request, "extractors/diff_choose.html", **chosen)
    try:
        found = comparisons_of(request).standing(first, second)
    except Invalid as error:
        chosen["problem"] = error.message
        return page(request, "extractors/diff_choose.html", status=422, **chosen)
    view = None if found.difference is None else view_of(found.difference)
    line = diff_line(first, second, Shelf(service.home).trust())
    answer = page(request, "extractors/diff.html", found=found, view=view, line=line, **chosen)
    if found.going:
        answer.headers["Refresh"] = str(AGAIN_S)
    return answer


@router.post("/extractors/diff")
def measure(
    request: Request,
    viewer: Seeing,
    before: Annotated[str, Form()] = "",
    after: Annotated[str, Form()] = "",
) -> Response:
    """Have it measured, unless that is known or under way; then to its page."""
    service = releases_of(request)
    first, second = release_of(service, before), release_of(service, after)
    if first.id != second.id:  # else the page says so, with the form
        comparisons_of(request).begin(first, second, viewer.caller.id)
    return then(request, f"/extractors/diff?{urlencode({'before': first.id, 'after': second.id})}")


def _beside(
    service: ReleaseService, entry: CatalogueEntry | None, choices: list[CatalogueEntry]
) -> CatalogueEntry | None:
    """What somebody most likely wants to compare it with: the one before it, or else any."""
    if entry is None:
        return None
    try:
        found = release_before(service, service.claimed_extractor(entry).manifest)
    except CommonlensError:  # its own page says what is wrong with it
        found = None
    return found or next((other for other in choices if other.id != entry.id), None)


def _choices(service: ReleaseService) -> list[CatalogueEntry]:
    """Every release, by extractor, the newest first."""
    return sorted(service.catalogue().releases, key=lambda e: (e.extractor_name, -e.number))
