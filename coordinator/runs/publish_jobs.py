"""Releases that are being made while nobody waits for the answer, and how each ended: the last of each run.

Kept in the database, so that whoever looks after a restart is told what became of what was begun before it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields

import sqlalchemy as sa

from coordinator.storage.database import reading, writing
from coordinator.storage.tables import publish_jobs as table
from shared.domain.clock import Clock, to_text
from shared.domain.errors import IllegalMove


@dataclass(frozen=True)
class PublishJob:
    """A release of a run that is being made, or how that ended."""

    run_id: str
    since: str
    ended_at: str | None
    """Null while it goes on."""
    release: str
    """Its id; empty where there is none, or none yet."""
    problem: str
    """Why there is none; empty otherwise."""

    @property
    def over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.ended_at is not None


_COLUMNS = [table.c[each.name] for each in fields(PublishJob)]


class PublishJobs:
    """One instance per coordinator; every method is one transaction."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._guard = threading.Lock()

    def begin(self, run_id: str, notes: str = "") -> PublishJob:
        """A new job, in the place of the run's last one. Raises IllegalMove while that one goes on."""
        job = PublishJob(run_id, to_text(self._clock.now()), None, "", "")
        with self._guard:
            last = self.last(run_id)
            if last is not None and not last.over:
                raise IllegalMove(
                    f"A release of this run is being made since {last.since}. No second one was begun. Wait for it."
                )
            with writing(self._engine) as db:
                db.execute(table.delete().where(table.c.run_id == run_id))
                db.execute(table.insert().values(vars(job) | {"notes": notes}))
        return job

    def end(self, run_id: str, release: str = "", problem: str = "") -> None:
        """The run's job has come to `release`, or to nothing because of `problem`."""
        ended = {"ended_at": to_text(self._clock.now()), "release": release, "problem": problem}
        with writing(self._engine) as db:
            db.execute(table.update().where(table.c.run_id == run_id).values(ended))

    def last(self, run_id: str) -> PublishJob | None:
        """The run's job that goes on or ended last."""
        return next(iter(self._find(table.c.run_id == run_id)), None)

    def unpublished_notes(self, run_id: str) -> str:
        """What was typed for the run's last job, if that came to nothing: nobody should have to type it again."""
        failed = sa.and_(table.c.run_id == run_id, table.c.problem != "")
        with reading(self._engine) as db:
            return db.execute(sa.select(table.c.notes).where(failed)).scalar() or ""

    def open(self) -> list[PublishJob]:
        """All that have not ended."""
        return self._find(table.c.ended_at.is_(None))

    def _find(self, where: sa.ColumnElement[bool]) -> list[PublishJob]:
        with reading(self._engine) as db:
            return [PublishJob(**row._mapping) for row in db.execute(sa.select(*_COLUMNS).where(where))]
