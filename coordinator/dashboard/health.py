"""One line of health for each part of the coordinator: looked at when the overview is, and cheap enough for that."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from cryptography.x509 import load_pem_x509_certificate
from fastapi import Request

from coordinator.audit.log import read_head
from coordinator.dashboard.words import moment, size, thousands
from coordinator.members.access import room_of
from coordinator.members.authority import AuthorityFiles
from coordinator.members.roll import RollService
from coordinator.registry.library import ShelfState
from coordinator.registry.library_routes import library_of
from coordinator.registry.shelf import Shelf, read_catalogue
from coordinator.storage.database import reading
from shared.domain.clock import to_text
from shared.domain.errors import CommonlensError

LEAST_FREE_BYTES = 1e9
SOON_S = 7 * 86_400.0


@dataclass(frozen=True)
class Health:
    """How one part is."""

    part: str
    tone: str
    """good, warn or bad; the words say the same."""
    words: str


def every_part(request: Request) -> list[Health]:
    """In the order in which a round needs them."""
    home: Path = request.app.state.home
    room = room_of(request)
    return [
        _database(room.engine),
        _driver(request),
        _certificate(AuthorityFiles(home), room.clock.now().timestamp()),
        _roll(room.roll),
        _releases(request, home),
        _library(request),
        _disk(home),
    ]


def _database(engine: sa.Engine) -> Health:
    try:
        with reading(engine) as connection:
            head = read_head(connection)
    except (sa.exc.SQLAlchemyError, CommonlensError):
        return Health("Database", "bad", "does not answer, or its audit log has no head")
    kind = "PostgreSQL" if engine.dialect.name == "postgresql" else "SQLite"
    return Health("Database", "good", f"{kind} answers; the audit log has {thousands(head.seq)} lines")


def _driver(request: Request) -> Health:
    if request.app.state.driver.is_alive():
        run: str | None = request.app.state.driver.driving
        return Health("Rounds", "good", "waits for a run" if run is None else f"drives {run}")
    return Health("Rounds", "bad", "the run driver has stopped; restart the coordinator and read its log")


def _certificate(files: AuthorityFiles, now_s: float) -> Health:
    try:
        ends = load_pem_x509_certificate(files.server.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return Health("Certificate", "bad", "the server's certificate cannot be read")
    until = f"valid until {moment(to_text(ends))}"
    if ends.timestamp() - now_s < SOON_S:
        return Health("Certificate", "warn", f"{until}; a restart renews it")
    return Health("Certificate", "good", until)


def _roll(roll: RollService) -> Health:
    found = roll.differences()
    if not found:
        return Health("Roll", "good", "the database has everybody as on the signed roll")
    names = ", ".join(one.name for one in found[:3]) + (f" and {len(found) - 3} more" if found[3:] else "")
    words = f"not in the database as on the signed roll: {names}; nobody can join until that is right"
    return Health("Roll", "bad", words)


def _releases(request: Request, home: Path) -> Health:
    try:
        catalogue = read_catalogue(Shelf(home), room_of(request).clock)
    except CommonlensError as error:
        return Health("Releases", "bad", error.message)
    if not catalogue.version:
        return Health("Releases", "good", "nothing published yet")
    listed = f"{thousands(len(catalogue.releases))} in the signed catalogue"
    if catalogue.expires_at <= to_text(room_of(request).clock.now()):
        return Health("Releases", "good", f"{listed}; it is signed anew when somebody next asks for it")
    return Health("Releases", "good", f"{listed}, valid until {moment(catalogue.expires_at)}")


def _library(request: Request) -> Health:
    try:
        every = library_of(request).every()
    except CommonlensError:
        return Health("Library", "bad", "the catalogue of releases cannot be read")
    words = f"{sum(bool(one.release) for one in every)} of {len(every)} standard extractors"
    made = [one.name for one in every if one.state is ShelfState.MAKING]
    failed = [one.name for one in every if one.state is ShelfState.FAILED]
    if made:
        return Health("Library", "good", f"{words}; being filled, {made[0]} now")
    if failed:
        return Health("Library", "warn", f"{words}; {', '.join(failed)} could not be made: see Extractors")
    return Health("Library", "good", words)


def _disk(home: Path) -> Health:
    free = shutil.disk_usage(home).free
    # Rounded, so that the line changes when it matters and not with every write.
    words = f"{size(round(free, -8))} free" if free < 1e10 else "more than 10 GB free"
    return Health("Disk", "good" if free > LEAST_FREE_BYTES else "warn", words)
