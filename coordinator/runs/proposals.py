"""Plans as they stand before their members: who proposed each and when, who consented and when. Reads only."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from coordinator.storage import tables as t
from coordinator.storage.database import reading
from shared.domain.errors import NotFound
from shared.domain.plan import Plan, PlanMember
from shared.domain.strict import build


@dataclass(frozen=True)
class Proposal:
    """One plan and what its members said to it."""

    plan: Plan
    proposed_by: str
    proposed_at: str
    consents: Mapping[str, str]
    """Member id → when it consented."""

    @property
    def digest(self) -> str:
        """Of the plan."""
        return str(self.plan.digest)

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


def every_proposal(engine: sa.Engine) -> list[Proposal]:
    """All plans, oldest first."""
    with reading(engine) as db:
        rows = db.execute(sa.select(t.plans).order_by(t.plans.c.proposed_at, t.plans.c.digest)).all()
        signed = db.execute(sa.select(t.consents)).all()
    consents: dict[str, dict[str, str]] = {}
    for row in signed:
        consents.setdefault(row.plan_digest, {})[row.member_id] = row.at
    return [
        Proposal(_plan(row.body), row.proposed_by, row.proposed_at, consents.get(row.digest, {}))
        for row in rows
    ]


def one_proposal(engine: sa.Engine, digest: str) -> Proposal:
    """The plan with this digest. Raises NotFound."""
    with reading(engine) as db:
        row = db.execute(sa.select(t.plans).where(t.plans.c.digest == digest)).first()
        signed = db.execute(sa.select(t.consents).where(t.consents.c.plan_digest == digest)).all()
    if row is None:
        raise NotFound(f"There is no plan {digest[:80]}. Nothing was done. List the plans there are.")
    return Proposal(
        _plan(row.body), row.proposed_by, row.proposed_at, {line.member_id: line.at for line in signed}
    )


@functools.lru_cache(maxsize=512)
def _plan(body: str) -> Plan:
    """A body never changes, and live pages look at all of them again and again."""
    return build(Plan, json.loads(body), "plan")
