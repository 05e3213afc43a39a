"""Plans as they stand before their members: who proposed each and when, who consented and when. Reads only.

Live pages look at all plans again and again, and 200 plans of 200 members have 40,000 consents: plans are built once,
and consents are read only for the plans that somebody asks about.

A consent counts while its member is active: no round asks another (cohort.py). On a withdrawn plan none counts.
"""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from coordinator.storage import tables as t
from coordinator.storage.database import reading
from shared.domain.consortium import MemberState
from shared.domain.errors import IllegalMove, NotFound
from shared.domain.plan import Plan
from shared.domain.strict import build

MOST_KEPT = 1000
"""Built plans; of 200 members each they take about 100 MB."""
_AT_ONCE = 500
"""Digests in one query: databases limit how many values a statement may hold."""
_BUILT: dict[str, Plan] = {}
_STATES = sa.select(t.members.c.id, t.members.c.state)
STILL_IN = frozenset(MemberState) - {MemberState.REVOKED}
"""A member that is suspended or waits for approval may come back, one that was revoked never."""


class PlanState(enum.Enum):
    """Where a plan stands by itself; the rest follows from its consents and runs."""

    PROPOSED = "proposed"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True)
class Proposed:
    """One plan and where it came from."""

    plan: Plan
    proposed_by: str
    proposed_at: str
    state: PlanState

    @property
    def withdrawn(self) -> bool:
        """Whether an admin took it back, for good."""
        return self.state is PlanState.WITHDRAWN

    @property
    def digest(self) -> str:
        """Of the plan."""
        return str(self.plan.digest)


@dataclass(frozen=True)
class Proposal(Proposed):
    """One plan and what its members said to it."""

    consents: Mapping[str, str]
    """Member id → when it consented."""
    states: Mapping[str, MemberState]
    """Member id → state today, of all members of the consortium."""
    spent: Mapping[str, str] = field(default_factory=dict)
    """As `spent_consents`; known where one plan is asked about."""

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids of the plan's members that have not consented and still can."""
        left = (m.member_id for m in self.plan.members if m.member_id not in self.consents)
        return tuple(id_ for id_ in left if self.states.get(id_) is not MemberState.REVOKED)

    @property
    def uncounted(self) -> Mapping[str, str]:
        """Member id → why its consent does not count."""
        if self.withdrawn:
            return dict.fromkeys(self._signed, "plan withdrawn")
        states = {member_id: self.states[member_id] for member_id in self._signed}
        return {id_: state.value for id_, state in states.items() if state is not MemberState.ACTIVE}

    @property
    def _signed(self) -> tuple[str, ...]:
        return tuple(m.member_id for m in self.plan.members if m.member_id in self.consents)

    @property
    def given(self) -> int:
        """How many consents of its members count."""
        return len(self._signed) - len(self.uncounted)

    @property
    def may_start(self) -> bool:
        """Whether the consents of a quorum of its members count."""
        return self.given >= self.plan.quorum

    @property
    def may_start_again(self) -> bool:
        """Whether enough of them are left for a run: nodes refuse one that an earlier run used up."""
        left = [id_ for id_ in self._signed if id_ not in self.uncounted and id_ not in self.spent]
        return len(left) >= self.plan.quorum


def every_plan(engine: sa.Engine) -> list[Proposed]:
    """All plans, oldest first, without their consents."""
    c = t.plans.c
    query = sa.select(c.digest, c.proposed_by, c.proposed_at, c.state).order_by(c.proposed_at, c.number)
    with reading(engine) as db:
        lines = db.execute(query).all()
        plans = _plans(db, [line.digest for line in lines])
    return [_proposed(plans[line.digest], line) for line in lines]


def with_consents(engine: sa.Engine, plans: Sequence[Proposed]) -> list[Proposal]:
    """The same plans, each with who consented and when."""
    c = t.consents.c
    consents: dict[str, dict[str, str]] = {one.digest: {} for one in plans}
    with reading(engine) as db:
        for digests in _parts(list(consents)):
            query = sa.select(c.plan_digest, c.member_id, c.at).where(c.plan_digest.in_(digests))
            for digest, member_id, at in db.execute(query):
                consents[digest][member_id] = at
        states = {id_: MemberState(state) for id_, state in db.execute(_STATES)} if consents else {}
    return [
        Proposal(one.plan, one.proposed_by, one.proposed_at, one.state, consents[one.digest], states)
        for one in plans
    ]


def every_proposal(engine: sa.Engine) -> list[Proposal]:
    """All plans with all consents, oldest first. For whoever needs less there is `every_plan`."""
    return with_consents(engine, every_plan(engine))


def one_proposal(engine: sa.Engine, digest: str) -> Proposal:
    """The plan with this digest. Raises NotFound."""
    c = t.plans.c
    with reading(engine) as db:
        row = db.execute(sa.select(c.proposed_by, c.proposed_at, c.state).where(c.digest == digest)).first()
        if row is None:
            raise no_plan(digest)
        one = _proposed(_plans(db, [digest])[digest], row)
        spent = spent_consents(db, digest)
    return dataclasses.replace(with_consents(engine, [one])[0], spent=spent)


def spent_consents(db: sa.Connection, digest: str) -> dict[str, str]:
    """Member id → a run of the plan that its consent paid for: one consent pays for one run.

    What a node was asked and did not answer is not known here: its own ledger says whether it was charged. A consent of
    the second in which the run began may be an older or a newer one, and is let pass.
    """
    given, answered, runs = t.consents.c, t.contributions.c, t.runs.c
    query = (
        sa.select(given.member_id, sa.func.max(runs.id))
        .join(t.runs, runs.plan_digest == given.plan_digest)
        .where(given.plan_digest == digest, given.at < runs.created_at)
        # Not joined: pages ask while they are live, and a run has as many contributions as members times rounds.
        .where(sa.exists().where(answered.run_id == runs.id, answered.member_id == given.member_id))
        .group_by(given.member_id)
    )
    return {member_id: run_id for member_id, run_id in db.execute(query)}


def consent_counts(
    engine: sa.Engine, of: Collection[MemberState] = frozenset({MemberState.ACTIVE})
) -> dict[str, int]:
    """Plan digest → how many members in the states `of` consented; without plans that none of them did."""
    c = t.consents.c
    query = (
        sa.select(c.plan_digest, sa.func.count())
        .join(t.members, t.members.c.id == c.member_id)
        .where(t.members.c.state.in_([state.value for state in of]))
        .group_by(c.plan_digest)
    )
    with reading(engine) as db:
        return {digest: count for digest, count in db.execute(query)}


def consented_by(engine: sa.Engine, member_id: str) -> frozenset[str]:
    """Digests of the plans that this member consented to."""
    query = sa.select(t.consents.c.plan_digest).where(t.consents.c.member_id == member_id)
    with reading(engine) as db:
        return frozenset(db.execute(query).scalars())


def not_begun(plans: Iterable[Proposed], begun: Collection[str]) -> list[Proposed]:
    """The plans that are not withdrawn and that no run began from."""
    return [one for one in plans if not one.withdrawn and one.digest not in begun]


def still_open(plans: Iterable[Proposed], begun: Collection[str], revoked: Collection[str]) -> list[Proposed]:
    """Those of them that wait for somebody: a quorum of their members is still in."""
    return [
        one
        for one in not_begun(plans, begun)
        if sum(m.member_id not in revoked for m in one.plan.members) >= one.plan.quorum
    ]


def no_plan(digest: str) -> NotFound:
    """What whoever names a plan that does not exist is told."""
    return NotFound(f"There is no plan {digest[:80]}. Nothing was done. List the plans there are.")


def withdrawn_error(digest: str) -> IllegalMove:
    """What whoever wants something of a withdrawn plan is told."""
    return IllegalMove(
        f"Plan {digest} was withdrawn, for good: no consent to it counts and no run begins from it. Nothing was "
        "changed. Propose another plan; one that differs in any line is another."
    )


def _proposed(plan: Plan, row: Any) -> Proposed:
    return Proposed(plan, row.proposed_by, row.proposed_at, PlanState(row.state))


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
