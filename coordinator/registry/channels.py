"""HTTP for the channels of an extractor's line: where each points, and moving one by signing the catalogue anew."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends
from fastapi import Path as InPath

from coordinator.members.access import Caller, require
from coordinator.registry.release_routes import Service
from coordinator.registry.routes import may_read
from shared.domain.consortium import Role
from shared.domain.errors import NotFound

router = APIRouter(prefix="/api/v1")
Extractor = Annotated[str, InPath(max_length=64)]
Channel = Annotated[str, InPath(max_length=64)]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]
Json = dict[str, Any]


@router.get("/extractors/{extractor}/channels", dependencies=[Depends(may_read)])
def channels(service: Service, extractor: Extractor) -> Json:
    """Channel → release; `latest` is the highest number that is offered."""
    catalogue = service.catalogue()
    if not any(entry.extractor_name == extractor for entry in catalogue.releases):
        raise NotFound("There is no extractor of that name. Nothing was done. Look for it in the catalogue.")
    return {"channels": {name: entry.id for name, entry in catalogue.channels_of(extractor).items()}}


@router.post("/extractors/{extractor}/channels/{channel}")
def move(
    service: Service,
    who: Admin,
    extractor: Extractor,
    channel: Channel,
    release: Annotated[str, Body(embed=True, max_length=80)],
) -> Json:
    """Let a channel such as `stable` point to a release; to none where that is empty."""
    service.point(extractor, channel, release, who.actor)
    return {"channel": channel, "release": release}
