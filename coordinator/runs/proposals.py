"""Plans as they stand before their members: who proposed each and when, who consented and when. Reads only.

Live pages look at all plans again and again, and 200 plans of 200 members have 40,000 consents: plans are built once,
and consents are read only for the plans that somebody asks about.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from coordinator.storage import tables as t
from coordinator.storage.database import reading
from shared.domain.consortium import MemberState
from shared.domain.errors import NotFound
from shared.domain.plan import Plan, PlanMember
from shared.domain.strict import build

MOST_KEPT = 1000
"""Built plans; of 200 members each they take about 100 MB."""
_AT_ONCE = 500
"""Digests in one query: databases limit how many values a statement may hold."""
_BUILT: dict[str, Plan] = {}


@dataclass(frozen=True)
class Proposed:
    """One plan and where it came from."""

    plan: Plan
    proposed_by: str
    proposed_at: str

    @property
    def digest(self) -> str:
        """Of the plan."""
        return str(self.plan.digest)


@dataclass(frozen=True)
class Proposal(Proposed):
    """One plan and what its members said to it."""

    consents: Mapping[str, str]
    """Member id → when it consented."""

    @property
    def missing(self) -> tuple[PlanMember, ...]:
        """Members of the plan that have not consented."""
        return tuple(m for m in self.plan.members if m.member_id not in self.consents)

    @property
    def given(self) -> int:
        """How many of its members consented."""
        return len(self.plan.members) - len(self.missing)

    @property
    def may_start(self) -> bool:
        """Whether a quorum of its members consented."""
        return self.given >= self.plan.quorum


def every_plan(engine: sa.Engine) -> list[Proposed]:
    """All plans, oldest first, without their consents."""
    c = t.plans.c
    query = sa.select(c.digest, c.proposed_by, c.proposed_at).order_by(c.proposed_at, c.digest)
    with reading(engine) as db:
        lines = db.execute(query).all()
        plans = _plans(db, [digest for digest, _, _ in lines])
    return [Proposed(plans[digest], by, at) for digest, by, at in lines]


def with_consents(engine: sa.Engine, plans: Sequence[Proposed]) -> list[Proposal]:
    """The same plans, each with who consented and when."""
    c = t.consents.c
    consents: dict[str, dict[str, str]] = {one.digest: {} for one in plans}
    with reading(engine) as db:
        for digests in _parts(list(consents)):
            query = sa.select(c.plan_digest, c.member_id, c.at).where(c.plan_digest.in_(digests))
            for digest, member_id, at in db.execute(query):
                consents[digest][member_id] = at
    return [Proposal(one.plan, one.proposed_by, one.proposed_at, consents[one.digest]) for one in plans]


def every_proposal(engine: sa.Engine) -> list[Proposal]:
    """All plans with all consents, oldest first. For whoever needs less there is `every_plan`."""
    return with_consents(engine, every_plan(engine))


def one_proposal(engine: sa.Engine, digest: str) -> Proposal:
    """The plan with this digest. Raises NotFound."""
    c = t.plans.c
    with reading(engine) as db:
        row = db.execute(sa.select(c.proposed_by, c.proposed_at).where(c.digest == digest)).first()
        if row is None:
            raise NotFound(f"There is no plan {digest[:80]}. Nothing was done. List the plans there are.")
        one = Proposed(_plans(db, [digest])[digest], row.proposed_by, row.proposed_at)
    return with_consents(engine, [one])[0]


def consent_counts(engine: sa.Engine, but_revoked: bool = False) -> dict[str, int]:
    """Plan digest → how many consented, or how many of those who are still in; without plans that nobody did."""
    c = t.consents.c
    query = sa.select(c.plan_digest, sa.func.count()).group_by(c.plan_digest)
    if but_revoked:
        revoked = sa.select(t.members.c.id).where(t.members.c.state == MemberState.REVOKED.value)
        query = query.where(c.member_id.not_in(revoked))
    with reading(engine) as db:
        return {digest: count for digest, count in db.execute(query)}


def consented_by(engine: sa.Engine, member_id: str) -> frozenset[str]:
    """Digests of the plans that this member consented to."""
    query = sa.select(t.consents.c.plan_digest).where(t.consents.c.member_id == member_id)
    with reading(engine) as db:
        return frozenset(db.execute(query).scalars())


def still_open(plans: Iterable[Proposed], begun: Collection[str], revoked: Collection[str]) -> list[Proposed]:
    """The plans that wait for somebody: no run began from them, and a quorum of their members is still in."""
    return [
        one
        for one in plans
        if one.digest not in begun
        and sum(m.member_id not in revoked for m in one.plan.members) >= one.plan.quorum
    ]


def _plans(db: sa.Connection, digests: Sequence[str]) -> dict[str, Plan]:
    """Built once by digest, under which a plan never changes. What has another digest than its row is not kept."""
    found = {digest: _BUILT[digest] for digest in digests if digest in _BUILT}
    for unknown in _parts([digest for digest in digests if digest not in found]):
        query = sa.select(t.plans.c.digest, t.plans.c.body).where(t.plans.c.digest.in_(unknown))
        for digest, body in db.execute(query):
            found[digest] = plan = build(Plan, json.loads(body), "plan")
            if len(_BUILT) < MOST_KEPT and plan.digest == digest:
                _BUILT[digest] = plan
    return found


def _parts(digests: Sequence[str]) -> Iterable[Sequence[str]]:
    return (digests[first : first + _AT_ONCE] for first in range(0, len(digests), _AT_ONCE))
