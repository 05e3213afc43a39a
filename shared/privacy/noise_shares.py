"""One member's share of the noise of a secure sum: a base component, and a step for each drop-out tolerated.

What both sides must agree on to the last integer: the member draws every component, the coordinator draws
those again whose seeds were revealed, and takes them out of the sum (clause 3.9; Jiang, Wang, Chen, "Efficient
federated learning with dropout-resilient differential privacy", EuroSys 2024, calls this XNoise).

A secure vector is int64 [d], the extractor part on the grid, followed in rounds that validate by two counts in
units of 1/COUNT_SCALE (clause 6.2).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from shared.domain.plan import Plan
from shared.privacy.discrete_gaussian import blocks_from_seeds, fresh_seed
from shared.privacy.distributed import (
    COUNT_SCALE,
    count_variance,
    grid_variance,
    retained_variance,
    share_variances,
)

Integers = npt.NDArray[np.int64]
BASE = 0
"""The component that always stays. The steps are 1, 2 …"""
COUNTS = 2
"""Elements that validation adds: units right and units wrong."""


def vector_length(plan: Plan, round_number: int) -> int:
    """Number of ring elements of one contribution."""
    return plan.trainable_coordinates + (COUNTS if plan.evaluates(round_number) else 0)


def base_share(plan: Plan, round_number: int, cohort_size: int, covered: Sequence[int]) -> Integers:
    """The component that always stays, int64 [vector_length], under a seed that nobody keeps."""
    return step_share(plan, round_number, cohort_size, covered, BASE, fresh_seed())


def step_share(
    plan: Plan, round_number: int, cohort_size: int, covered: Sequence[int], step: int, seed: bytes
) -> Integers:
    """Component `step`, 1 to len(covered), int64 [vector_length]: the same for every holder of its seed."""
    share = np.empty(vector_length(plan, round_number), dtype=np.int64)
    for part, integers in step_blocks(plan, round_number, cohort_size, covered, {step: seed}):
        share[part] = integers
    return share


def own_blocks(
    plan: Plan, round_number: int, cohort_size: int, covered: Sequence[int], step_seeds: Sequence[bytes]
) -> Iterator[tuple[slice, Integers]]:
    """All noise of one member, a new `base_share` and every step of its, as `step_blocks` gives it.

    Where few may drop out there are fewer steps than seeds.
    """
    seeds = [fresh_seed(), *step_seeds[: len(covered)]]
    components = range(BASE, len(covered) + 1)
    return step_blocks(plan, round_number, cohort_size, covered, dict(zip(components, seeds, strict=True)))


def step_blocks(
    plan: Plan, round_number: int, cohort_size: int, covered: Sequence[int], seeds: Mapping[int, bytes]
) -> Iterator[tuple[slice, Integers]]:
    """The sum of `step_share` over step → seed, block by block in little memory.

    Consecutive slices of [0, vector_length) and what stands there: one array that is used again for the next, so
    use it up at once. Nothing where there are no steps.
    """
    parts = [_parts(plan, round_number, cohort_size, covered, step) for step in seeds]
    first = 0
    for part, of_steps in enumerate(zip(*parts, strict=True)):
        keyed = zip(seeds.values(), of_steps, strict=True)
        components = [(_part_seed(seed, part), std) for seed, (_, std) in keyed]
        size = of_steps[0][0]
        for where, integers in blocks_from_seeds(components, size):
            yield slice(first + where.start, first + where.stop), integers
        first += size


def retained_counts_std(plan: Plan, cohort_size: int, covered: Sequence[int], survivors: int) -> float:
    """Std of the noise on each summed count, in units, once the excess is removed (clauses 3.9, 6.2)."""
    variance = retained_variance(
        count_variance(plan), cohort_size, plan.quorum, plan.colluders, covered, survivors
    )
    return math.sqrt(variance) / COUNT_SCALE


def _parts(
    plan: Plan, round_number: int, cohort_size: int, covered: Sequence[int], component: int
) -> list[tuple[int, float]]:
    """(size, std) of the parts of a secure vector, in their order."""
    totals = [(plan.trainable_coordinates, grid_variance(plan))]
    if plan.evaluates(round_number):
        totals.append((COUNTS, count_variance(plan)))
    parts = []
    for size, total in totals:
        shares = share_variances(total, cohort_size, plan.quorum, plan.colluders, covered)
        parts.append((size, math.sqrt(shares[component])))
    return parts


def _part_seed(seed: bytes, part: int) -> bytes:
    # Two parts of another std are drawn from one seed: each under a key of its own.
    return hashlib.sha256(seed + bytes([part])).digest()
