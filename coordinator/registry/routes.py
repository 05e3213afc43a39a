"""HTTP for the registry, under /api/v1: the signed catalogue, and the files of what it lists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse

from coordinator.members.access import caller_of
from coordinator.registry.shelf import current_catalogue, visible
from shared.domain.clock import Clock, SystemClock
from shared.domain.errors import NotFound
from shared.domain.release import EXTRACTOR_NAME, FILE_NAME, HIGHEST_NUMBER, MANIFEST_FILE, TRUST_FILE

router = APIRouter(prefix="/api/v1")


def may_read(request: Request) -> None:
    """Anybody, unless the configuration says that releases are not public. Raises as `caller_of`."""
    config = getattr(request.app.state, "config", None)
    if not getattr(config, "public_releases", True):
        caller_of(request)


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


@router.get("/releases/{extractor}/{number}/files/{name}", dependencies=[Depends(may_read)])
def release_file(
    extractor: str,
    number: int,
    name: str,
    home: Annotated[Path, Depends(_home)],
    clock: Annotated[Clock, Depends(_clock)],
) -> FileResponse:
    """One file of one release: only names that its manifest lists, and only of what the catalogue shows."""
    fits = EXTRACTOR_NAME.match(extractor) and FILE_NAME.match(name) and 1 <= number <= HIGHEST_NUMBER
    if not fits:
        raise NotFound("There is no such file. Nothing was sent. Ask for the catalogue.")
    folder, manifest = visible(home, extractor, number, clock)
    if name not in (*manifest.claimed.files, MANIFEST_FILE, TRUST_FILE):
        raise NotFound("The release has no such file. Nothing was sent. Ask for its manifest.")
    return FileResponse(folder / name, media_type="application/octet-stream")
