"""How often each release was fetched: one number a file, and nothing of who fetched it.

Two files are counted: the manifest, which every pull begins with, and the weights, which nobody fetches who does not
want the extractor.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from coordinator.storage.database import reading, writing
from coordinator.storage.tables import release_downloads as table
from shared.domain.errors import CommonlensError
from shared.domain.release import MANIFEST_FILE, WEIGHTS_FILE

log = logging.getLogger("commonlens.coordinator")
COUNTED: Final = (MANIFEST_FILE, WEIGHTS_FILE)


def begins_download(range_header: str | None) -> bool:
    """Whether an answer to a request with this Range header is a download from its beginning to its end.

    A later part belongs to one that was counted; a few first bytes are a look at a file's header.
    """
    return range_header is None or range_header == "bytes=0-"


@dataclass(frozen=True)
class Downloads:
    """Of one release, since this coordinator counts."""

    weights: int = 0
    manifest: int = 0


class DownloadCounts:
    """The counts in the coordinator's database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def count(self, release: str, file: str) -> None:
        """One more of `file`; other files than those of COUNTED are not counted.

        The file has left already, so an error here is written to the log and goes no further.
        """
        if file not in COUNTED:
            return
        try:
            self._add(release, file)
        except (CommonlensError, sa.exc.SQLAlchemyError) as error:
            log.warning("a download of %s was not counted: %s", release, type(error).__name__)

    def of(self, release: str) -> Downloads:
        """The counts of one release."""
        return self.every().get(release, Downloads())

    def every(self) -> dict[str, Downloads]:
        """Release id → its counts; a release that nobody fetched is not in it."""
        with reading(self._engine) as db:
            rows = db.execute(sa.select(table)).all()
        found: dict[str, dict[str, int]] = {}
        for row in rows:
            found.setdefault(row.release, {})[row.file] = row.fetched
        return {
            release: Downloads(counts.get(WEIGHTS_FILE, 0), counts.get(MANIFEST_FILE, 0))
            for release, counts in found.items()
        }

    def _add(self, release: str, file: str) -> None:
        this = (table.c.release == release) & (table.c.file == file)
        more = table.update().where(this).values(fetched=table.c.fetched + 1)
        with writing(self._engine) as db:
            if db.execute(more).rowcount:
                return
        try:
            with writing(self._engine) as db:
                db.execute(table.insert().values(release=release, file=file, fetched=1))
        except sa.exc.IntegrityError:  # another download was the first one meanwhile
            with writing(self._engine) as db:
                db.execute(more)
