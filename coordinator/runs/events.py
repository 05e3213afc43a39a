"""What happens in a round, while it happens: who was asked for what, and who answered. For whoever watches.

Nothing depends on these lines. They are written in batches, so that a round never waits for them one by one; a
crash loses those of its last half second, and nothing else.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from shared.domain.clock import Clock, SystemClock, to_text
from shared.domain.errors import CommonlensError

LONGEST_UNWRITTEN_S = 0.5
"""How long a line may wait for others to be written with it."""

OPENED, SUMMED, CLOSED, ABANDONED = (
    "round.opened",
    "round.summed",
    "round.closed",
    "round.abandoned",
)
ASKED, ANSWERED, REFUSED, LOST, ENDED = "asked", "answered", "refused", "lost", "ended"
"""What can happen in a step: its kind of event is `contribute.asked`, `unmask.answered` and so on."""
CONTRIBUTE = "contribute"
"""The step that every round has; the others are named by `shared.wire.rounds.Step`."""

log = logging.getLogger("commonlens.runs")


@dataclass(frozen=True)
class RoundEvent:
    """One thing that happened in an attempt at a round."""

    kind: str
    member_id: str | None
    detail: str
    """Of `asked` the ids of whom; of `refused` and `lost` the reason; of `ended` how many answered."""
    at: str
    seconds: float
    """Since the attempt was opened."""

    def seen_by_member(self, member_id: str) -> RoundEvent | None:
        """As a member sees it: what is about the round or about itself, and of those who were asked itself.

        Why a round was abandoned may name a member, and is for those who run the consortium.
        """
        if self.kind == ABANDONED:
            return replace(self, detail="")
        if self.kind.endswith(f".{ASKED}"):
            return replace(self, detail=member_id) if member_id in self.detail.split() else None
        return self if self.member_id in (None, member_id) else None


Write = Callable[[Sequence[RoundEvent]], None]


class Journal:
    """The events of one attempt at a round, in order; kept here until they are written together."""

    def __init__(self, write: Write | None = None, clock: Clock | None = None) -> None:
        self._write = write
        self._clock = clock or SystemClock()
        self._started = time.monotonic()
        self._unwritten: list[RoundEvent] = []

    def note(self, kind: str, member_id: str | None = None, detail: str = "") -> None:
        """Something happened now."""
        seconds = round(time.monotonic() - self._started, 3)
        self._unwritten.append(RoundEvent(kind, member_id, detail, to_text(self._clock.now()), seconds))

    def write_if_due(self) -> None:
        """Write what is there once the oldest of it is old enough. What cannot be written is lost, not the round."""
        if self._write is None or not self._unwritten:
            return
        if time.monotonic() - self._started - self._unwritten[0].seconds < LONGEST_UNWRITTEN_S:
            return
        events = self.take()
        try:
            self._write(events)
        except (CommonlensError, sa.exc.SQLAlchemyError) as error:
            log.warning("%d events of a round were not written: %s", len(events), type(error).__name__)

    def take(self) -> list[RoundEvent]:
        """What was not written yet, for whoever writes it together with something else."""
        events, self._unwritten = self._unwritten, []
        return events
