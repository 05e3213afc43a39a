"""The object store as the operator sees it: tried out at every start, and releases moved into it or back."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from coordinator.registry.objects import Objects
from coordinator.registry.shelf import Shelf, read_catalogue
from shared.domain.clock import Clock
from shared.domain.errors import InvalidConfig, StoreUnreachable

log = logging.getLogger("commonlens.coordinator")


def preflight(home: Path) -> None:
    """Before the server starts: clear what a crash left, and try the store out, where there is one.

    Raises InvalidConfig where the store answers and refuses: that does not pass by itself. One that does not answer
    is only written to the log, because training, pages and small files do without it.
    """
    large = Shelf(home).large
    large.tidy()
    if large.objects is not None:
        try:
            large.objects.try_out()
        except StoreUnreachable as error:
            log.error("%s", error.message)


def require_objects(home: Path) -> Objects:
    """The configured store. Raises InvalidConfig where there is none."""
    objects = Shelf(home).large.objects
    if objects is None:
        raise InvalidConfig(
            "coordinator.toml names no object store, so large files are in the folders of their releases. Nothing was "
            "moved. Set storage.url there."
        )
    return objects


def move(home: Path, clock: Clock, *, back: bool) -> Iterator[tuple[str, int]]:
    """(release, files moved) of every release in the catalogue, into the store or back to this machine's disk.

    May be cut off anywhere and run again. Objects stay in the store. Raises what `LargeFiles.put_away` and `bring_back`
    raise; what was moved before stays moved.
    """
    require_objects(home).try_out()
    shelf = Shelf(home)
    with shelf.alone():
        for entry in read_catalogue(shelf, clock).releases:
            folder = shelf.folder(entry.extractor_name, entry.number)
            yield entry.id, shelf.large.bring_back(folder) if back else shelf.large.put_away(folder)
