"""HTTP for the registry, under /api/v1: the signed catalogue, and the files of what it lists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi import Path as InPath
from fastapi.responses import Response
from starlette.background import BackgroundTask

from coordinator.members.access import GUARDS, caller_of
from coordinator.registry.downloads import DownloadCounts, begins_download
from coordinator.registry.shelf import Shelf, current_catalogue, visible
from coordinator.registry.storage_download import download
from shared.domain.clock import Clock, SystemClock
from shared.domain.consortium import Role
from shared.domain.errors import NotFound
from shared.domain.release import BESIDE_THE_PROMISE, EXTRACTOR_NAME, FILE_NAME, HIGHEST_NUMBER

router = APIRouter(prefix="/api/v1")


def may_read(request: Request) -> None:
    """Anybody, unless the configuration says that releases are not public. Raises as `caller_of`."""
    config = getattr(request.app.state, "config", None)
    if not getattr(config, "public_releases", True):
        caller_of(request)


GUARDS[may_read] = frozenset(Role)


def _home(request: Request) -> Path:
    home: Path = request.app.state.home
    return home


def _clock(request: Request) -> Clock:
    clock: Clock = getattr(request.app.state, "clock", SystemClock())
    return clock


@router.get("/releases", dependencies=[Depends(may_read)])
def catalogue(
    home: Annotated[Path, Depends(_home)], clock: Annotated[Clock, Depends(_clock)]
) -> dict[str, Any]:
    """The signed catalogue of all releases."""
    return current_catalogue(home, clock)


@router.get("/releases/{extractor}/{number}/files/{name:path}", dependencies=[Depends(may_read)])
def release_file(
    extractor: Annotated[str, InPath(max_length=64)],
    number: Annotated[int, InPath(json_schema_extra={"minimum": 1, "maximum": HIGHEST_NUMBER})],
    name: Annotated[str, InPath(max_length=129)],
    home: Annotated[Path, Depends(_home)],
    clock: Annotated[Clock, Depends(_clock)],
    request: Request,
) -> Response:
    """One file of one release: only names that its manifest lists, and only of what the catalogue shows."""
    return send_file(request, home, clock, (extractor, number), name)


def send_file(request: Request, home: Path, clock: Clock, release: tuple[str, int], name: str) -> Response:
    """The file, counted once it was sent; a later part of an earlier download is not counted again.

    Raises NotFound for a name that the manifest does not list, and for a release that the catalogue does not show;
    StoreUnreachable for a large file whose store does not answer.
    """
    extractor, number = release
    if not (EXTRACTOR_NAME.match(extractor) and FILE_NAME.match(name)):
        raise NotFound("There is no such file. Nothing was sent. Ask for the catalogue.")
    folder, manifest = visible(home, extractor, number, clock)
    beside = [file for file in BESIDE_THE_PROMISE if (folder / file).is_file()]
    if name not in (*manifest.claimed.files, *beside):
        raise NotFound("The release has no such file. Nothing was sent. Ask for its manifest.")
    counts: DownloadCounts | None = getattr(request.app.state, "downloads", None)
    begins = request.method == "GET" and begins_download(request.headers.get("range"))
    counted = BackgroundTask(counts.count, manifest.claimed.release, name) if counts and begins else None
    promised = manifest.claimed.files.get(name)
    return download(request, Shelf(home).large, folder / name, promised, background=counted)
