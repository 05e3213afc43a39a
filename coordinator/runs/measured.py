"""What finished rounds measured: the only thing that says how accurate a plan like them may become."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from coordinator.runs.noised_counts import accuracy
from coordinator.runs.proposals import Proposed
from coordinator.storage import tables as t
from coordinator.storage.database import reading
from shared.domain.plan import Plan
from shared.domain.run import RoundState

MOST_SHOWN = 12
"""Of all earlier runs, beside the costs of a plan."""


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


def measured_before(engine: sa.Engine, plans: Sequence[Proposed], like: Plan) -> list[Measured]:
    """The last closed round with useful counts of every run of these `plans` under the extractor name of `like`.

    By target ε, and runs of the same ε oldest first. Rounds that ended with nothing measured no released weights.
    """
    alike = {p.digest: p.plan for p in plans if p.plan.extractor_name == like.extractor_name}
    c = t.rounds.c
    closed = (c.state == RoundState.CLOSED.value) & c.counts_correct.is_not(None)
    query = (
        sa.select(
            c.run_id, t.runs.c.plan_digest, c.number, c.counts_correct, c.counts_wrong, c.counts_noise_std
        )
        .join(t.runs, t.runs.c.id == c.run_id)
        .where(t.runs.c.plan_digest.in_(alike) & closed)
        # Runs of one second: whichever had a round closed first.
        .order_by(t.runs.c.created_at, c.closed_at, c.run_id, c.number)
    )
    found: dict[str, Measured] = {}
    with reading(engine) as db:
        rows = db.execute(query).all()
    for row in rows:
        share = accuracy(row.counts_correct, row.counts_wrong, row.counts_noise_std)
        if share is not None and (row.run_id not in found or row.number > found[row.run_id].round_number):
            plan = alike[row.plan_digest]
            same = plan.extractor == like.extractor
            found[row.run_id] = Measured(row.run_id, plan, row.number, *share, same)
    return sorted(found.values(), key=lambda one: one.plan.privacy.target_epsilon)


def nearest(found: Sequence[Measured], epsilon: float, most: int = MOST_SHOWN) -> list[Measured]:
    """Those with the ε nearest to this one, in the order of `found`; of equally near ones the newest.

    Near as on the dial, where equal ways are equal factors.
    """
    aim = math.log(epsilon)
    newest_first = reversed(range(len(found)))
    by_distance = sorted(
        newest_first, key=lambda i: abs(math.log(found[i].plan.privacy.target_epsilon) - aim)
    )
    return [found[i] for i in sorted(by_distance[:most])]


@dataclass(frozen=True)
class Band:
    """Between which accuracies a run at one ε would lie, going by the runs of the same extractor nearest to it."""

    low: float
    high: float
    below: float
    """Target ε of the runs that `low` comes from: this ε, or the nearest one under it."""
    above: float
    """The same of the nearest one over it."""


def expected_band(found: Sequence[Measured], epsilon: float) -> Band | None:
    """What runs with the very extractor measured at this target ε, each with its spread; if none had it, what those at
    the nearest ε on either side did, since noise falls as ε grows and accuracy is expected to grow with it.

    None where that is not both sides: one side bounds nothing.
    """
    same = [one for one in found if one.same_extractor]
    targets = {one.plan.privacy.target_epsilon for one in same}
    below, above = [e for e in targets if e <= epsilon], [e for e in targets if e >= epsilon]
    if not below or not above:
        return None
    nearest_two = {max(below), min(above)}
    counted = [one for one in same if one.plan.privacy.target_epsilon in nearest_two]
    return Band(
        max(0.0, min(one.accuracy - one.spread for one in counted)),
        min(1.0, max(one.accuracy + one.spread for one in counted)),
        max(below),
        min(above),
    )
