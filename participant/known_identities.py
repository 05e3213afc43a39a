"""Whom this member sums with, kept between rounds (clause 5.1).

Reading the roll costs more than a member's share of a secure round, so it is read and verified again only where
a file that it comes from was changed: a new roll, another approval, one that was taken back. That roll and trust
document are still in date is asked each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from participant.home import Home
from participant.peers import approved_identities
from participant.round_states import Mark, mark_of
from shared.domain.clock import Clock, SystemClock
from shared.domain.files import read_json
from shared.domain.plan import Plan
from shared.release.trust import check_fresh


@dataclass(frozen=True)
class _Known:
    plan_digest: str
    marks: tuple[Mark | None, ...]
    ends: Mapping[str, str]
    """Document → when it expires."""
    identities: Mapping[str, str]


class KnownIdentities:
    """`approved_identities` of one member's folder."""

    def __init__(self, home: Home, clock: Clock | None = None) -> None:
        self._home = home
        self._clock = clock or SystemClock()
        self._known: _Known | None = None

    def of(self, plan: Plan) -> Mapping[str, str]:
        """Member id → identity key of the plan's members that this member sums with. Raises NotFound, Expired."""
        digest, marks = str(plan.digest), self._marks()
        if self._known is None or (self._known.plan_digest, self._known.marks) != (digest, marks):
            identities = approved_identities(self._home, plan, self._clock)
            documents = read_json(self._home.roll)
            ends = {what: str(documents[what]["signed"]["expires_at"]) for what in ("trust", "roll")}
            # The marks from before: what was changed meanwhile is read again the next time.
            self._known = _Known(digest, marks, ends, identities)
        for what, end in self._known.ends.items():
            check_fresh(what, end, self._clock)
        return self._known.identities

    def _marks(self) -> tuple[Mark | None, ...]:
        return mark_of(self._home.roll), mark_of(self._home.peers), mark_of(self._home.identity_key)
