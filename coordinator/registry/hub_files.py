"""Files from the hub, whole or from a place on."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response
from starlette.background import BackgroundTask
from starlette.datastructures import Headers

from coordinator.registry.downloads import begins_download
from coordinator.registry.hub_errors import COMMIT, REPO_NOT_FOUND, HubRefusal, HubRoute
from coordinator.registry.hub_room import Hub, One, warnings
from coordinator.registry.routes import may_read
from coordinator.registry.storage_download import download, part_asked
from shared.domain.errors import InvalidMessage, NotFound

router = APIRouter(route_class=HubRoute)
_FILE = "/{space}/{extractor}/resolve/{revision:revision}/{file:path}"


@router.get(_FILE, dependencies=[Depends(may_read)])
def resolve(request: Request, hub: Hub, one: One, file: str) -> Response:
    """One file of a release. Its ETag is the SHA-256 of its bytes, as the manifest promises them."""
    path, promised = hub.shelf.file(one.facts, file)
    etag = f'"{promised.digest.removeprefix("sha256:")}"'
    _check_range(request.headers, etag, promised.size_bytes)
    counts = hub.shelf.releases.downloads
    counted = request.method == "GET" and begins_download(request.headers.get("range"))
    return download(
        request,
        hub.shelf.large,
        path,
        promised,
        background=BackgroundTask(counts.count, one.facts.entry.id, file) if counted else None,
        headers={
            COMMIT: one.facts.commit,
            "Content-Disposition": f'attachment; filename="{path.name}"',
            "Cache-Control": "private, no-cache",
            "X-Content-Type-Options": "nosniff",
            **warnings(hub, one.facts),
        },
    )


@router.get("/{extractor}/resolve/{revision}/{file:path}", dependencies=[Depends(may_read)])
def resolve_without_space(hub: Hub, extractor: str, revision: str, file: str) -> Response:
    """A repository without the first part of its name, which other hubs have and this one has not."""
    raise HubRefusal(
        NotFound(
            f"A repository here is named {hub.shelf.namespace}/EXTRACTOR. Nothing was sent. Name it so."
        ),
        REPO_NOT_FOUND,
    )


def _check_range(headers: Headers, etag: str, size_bytes: int) -> None:
    """Raise HubRefusal for a range outside of the file, unless it is for other bytes than these (If-Range)."""
    part = part_asked(headers, size_bytes, etag)
    if part is not None and part[0] >= part[1]:
        raise HubRefusal(
            InvalidMessage(
                f"The file has {size_bytes} bytes and the range is not inside them. Nothing was sent."
            ),
            outside_of_bytes=size_bytes,
        )
