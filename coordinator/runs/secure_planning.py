"""What a plan of mode secure needs beside its draft: drop-outs, masks, ring and grid; and what its noise comes to."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from coordinator.runs.draft import PlanDraft
from shared.domain.errors import UnsoundPlan
from shared.domain.plan import Plan, SecureTerms
from shared.domain.privacy import Mode
from shared.privacy.distributed import grid_variance, largest_sum, retained_variance
from shared.privacy.secure_soundness import MOST_TOLERANCE_STEPS
from shared.secagg.graph import choose_graph
from shared.secagg.parameters import tolerance

GRID_COST = 2.0**-10
"""What the grid may add to the sensitivity, as a part of C, where the ring's range allows it."""
MOST_GRID_COST = 1.0


@dataclass(frozen=True)
class NoiseFigures:
    """Std of the noise on each coordinate of the mean gradient, in units of C/B, B an average expected batch.

    Clause 3.6 gives them for ten members at ε = 3.
    """

    curator: float
    """A trusted curator over everybody's records: σ/n, the least there can be."""
    everybody: float
    """All members in the sum, excess removed."""
    at_quorum: float
    """The fewest members in the sum."""
    local: float
    """Mode local at the same σ: σ/√n."""


def provisional_terms(plan: Plan, draft: PlanDraft) -> SecureTerms:
    """All but the grid's final width, for a plan whose parties are sound."""
    graph = choose_graph(len(plan.members), plan.quorum, plan.colluders)
    may_drop = len(plan.members) - plan.quorum
    steps = draft.tolerance_steps
    return SecureTerms(
        grid_width=_widths(plan)[0],
        ring_bits=draft.ring_bits,
        tolerance_steps=min(may_drop, MOST_TOLERANCE_STEPS) if steps is None else steps,
        mask_reach=graph.mask_reach,
        share_threshold=graph.share_threshold,
    )


def with_grid(plan: Plan) -> Plan:
    """The plan with the finest useful grid that its ring has room for, γ = C times a power of two (clause 3.4).

    Raises UnsoundPlan where even a grid that doubles the sensitivity would wrap.
    """
    secure = plan.secure
    if secure is None:
        return plan
    for width in _widths(plan):
        fitted = replace(plan, secure=replace(secure, grid_width=width))
        if grid_cost(fitted) > MOST_GRID_COST:
            break
        if largest_sum(fitted) < 2 ** (secure.ring_bits - 1):
            return fitted
    raise UnsoundPlan(
        f"A ring of {secure.ring_bits} bits has no room for this plan's sums on a grid that at most doubles the "
        f"noise (clause 3.4). Nothing was proposed. Set ring_bits = 32, or plan smaller batches."
    )


def grid_cost(plan: Plan) -> float:
    """By how much the grid raises sensitivity and noise, as a part: C'/C − 1; 0.0 in mode local."""
    return plan.sensitivity_l2 / plan.privacy.clip_norm_l2 - 1.0


def noise_figures(plan: Plan) -> NoiseFigures:
    """What the noise of one round is in the mean gradient. For local_steps above 1: of one step."""
    members, sigma = len(plan.members), plan.privacy.noise_multiplier
    curator, local = sigma / members, sigma / math.sqrt(members)
    if plan.privacy.mode is Mode.LOCAL or plan.secure is None:
        return NoiseFigures(curator, local, sigma / math.sqrt(plan.quorum), local)
    covered = tolerance(members, plan.quorum, plan.secure.tolerance_steps)
    step = plan.secure.grid_width / plan.privacy.clip_norm_l2

    def in_mean(survivors: int) -> float:
        kept = retained_variance(
            grid_variance(plan), members, plan.quorum, plan.colluders, covered, survivors
        )
        return math.sqrt(kept) * step / survivors

    return NoiseFigures(curator, in_mean(members), in_mean(plan.quorum), local)


def _widths(plan: Plan) -> list[float]:
    """Grid widths to try, finest first: γ·√d from GRID_COST·C upwards."""
    finest = math.floor(math.log2(GRID_COST / math.sqrt(plan.trainable_coordinates)))
    return [plan.privacy.clip_norm_l2 * 2.0**power for power in range(finest, 1)]
