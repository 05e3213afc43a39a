"""What finished rounds measured: the only thing that says how accurate a plan like them may become."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from coordinator.runs import noised_counts
from coordinator.runs.proposals import Proposal
from coordinator.storage import tables as t
from coordinator.storage.database import reading
from shared.domain.plan import Plan


@dataclass(frozen=True)
class Measured:
    """The last validation of one run."""

    run_id: str
    plan: Plan
    round_number: int
    accuracy: float
    spread: float
    """One standard deviation of the noise that was added to the counts (clause 6.2), not of anything else."""
    same_extractor: bool
    """Whether it had the very extractor that was asked about, and not only its name."""


def measured_before(engine: sa.Engine, proposals: list[Proposal], like: Plan) -> list[Measured]:
    """Of all runs under the extractor name of `like` with a validated round, by target ε and then by age."""
    plans = {p.digest: p.plan for p in proposals if p.plan.extractor_name == like.extractor_name}
    query = (
        sa.select(t.runs.c.plan_digest, t.rounds)
        .join(t.runs, t.runs.c.id == t.rounds.c.run_id)
        .where(t.runs.c.plan_digest.in_(plans) & t.rounds.c.counts_correct.is_not(None))
        .order_by(t.runs.c.created_at, t.rounds.c.number, t.rounds.c.attempt)
    )
    with reading(engine) as db:
        last = {row.run_id: row for row in db.execute(query)}
    found = []
    for row in last.values():
        share = accuracy(row.counts_correct, row.counts_wrong, row.counts_noise_std)
        if share is not None:
            plan = plans[row.plan_digest]
            found.append(Measured(row.run_id, plan, row.number, *share, plan.extractor == like.extractor))
    return sorted(found, key=lambda one: one.plan.privacy.target_epsilon)


def accuracy(correct: float, wrong: float, noise_std: float | None) -> tuple[float, float] | None:
    """`noised_counts.accuracy` of an accuracy that can be one: noise may carry the counts beyond 0 and 1."""
    total = correct + wrong
    if noise_std is None or total <= 0.0:
        return None
    possible = min(total, max(0.0, correct))
    return noised_counts.accuracy(possible, total - possible, noise_std)
