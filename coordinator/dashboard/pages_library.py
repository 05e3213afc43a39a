"""Standard extractors: having one put into the library. What there is of each stands under Extractors."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from coordinator.dashboard.frame import then
from coordinator.dashboard.gate import Seeing, gate
from coordinator.registry.library_routes import library_of

router = APIRouter(dependencies=[Depends(gate)])


@router.post("/library/{name}")
def add(request: Request, viewer: Seeing, name: str) -> Response:
    """Begin to make one; the page shows how far it is."""
    begun = library_of(request).add(name, viewer.caller.actor)
    said = f"{begun.name} is being made. It is offered once it is signed and every proof holds."
    return then(request, "/extractors#standard", said)
