"""HTTP for the standard extractors of the library, under /api/v1: what there is of each, and asking for one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi import Path as InPath

from coordinator.members.access import Caller, require, require_anyone
from coordinator.registry.library import StandardLibrary
from shared.domain.consortium import Role
from shared.domain.strict import to_plain

router = APIRouter(prefix="/api/v1")
Json = dict[str, Any]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]
Anybody = Annotated[Caller, Depends(require_anyone)]
Name = Annotated[str, InPath(max_length=64)]


def library_of(request: Request) -> StandardLibrary:
    """The service, from where the application keeps it."""
    library: StandardLibrary = request.app.state.library
    return library


Library = Annotated[StandardLibrary, Depends(library_of)]


@router.get("/library")
def standard_extractors(library: Library, who: Anybody) -> Json:
    """The standard extractors that this software knows, and what the library has of each."""
    return {"extractors": [to_plain(one) for one in library.every()]}


@router.post("/library/{name}", status_code=202)
def add_standard(library: Library, who: Admin, name: Name) -> Json:
    """Have one made by a process of its own, and answer at once; GET says how it goes."""
    begun: Json = to_plain(library.add(name, who.actor))
    return begun
