"""That a plan is told at least as much slack as its members' real noise shares have, of coordinates and of counts.

The other side goes through every cohort that a plan may have and through every number of noise steps that may stay,
and takes the published bound of each (Kairouz, Liu, Steinke 2021; see shared/privacy/distributed.py). Grids are so
coarse here that it matters.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from shared.domain.errors import UnsoundPlan
from shared.domain.plan import Plan, SecureTerms
from shared.domain.privacy import Mode
from shared.privacy.distributed import additive_slack, share_variances
from shared.privacy.secure_soundness import check_grid
from shared.secagg.parameters import tolerance
from tests.plans import members, small_plan

FINE = 1e4
"""Std of the whole noise on a grid on which nothing is to be seen of its being discrete."""
TEN, MANY = (10, 7, 3, 3), (60, 59, 0, 1)
"""Members, quorum, colluders, noise steps. Of MANY two cohorts are possible, and there the bound leaves no room."""
SHARES = [
    (TEN, 9.0, FINE),
    (TEN, FINE, 0.28),
    (TEN, 9.0, 0.28),
    ((10, 7, 3, 1), 9.0, 0.28),
    ((5, 4, 1, 1), 5.0, 0.16),
    ((10, 10, 2, 0), 5.0, 0.16),
    ((30, 21, 8, 4), 30.0, 1.0),
    (MANY, 48.0, FINE),
    (MANY, FINE, 1.5),
    (MANY, 48.0, 1.5),
]


def plan_of(shape: tuple[int, int, int, int], coordinate_std: float, units: float, **changes: int) -> Plan:
    """`coordinate_std`: of the whole noise on a coordinate, in grid steps; `units`: on a count, in units."""
    count, quorum, colluders, steps = shape
    plan = small_plan(
        mode=Mode.SECURE,
        noise_multiplier=1.0,
        evaluation_noise_multiplier=units,
        members=members(count, 1000),
        quorum=quorum,
        colluders=colluders,
        **{"trainable_coordinates": 4, "rounds": 6, "evaluate_every": 2, **changes},
    )
    # σ·(C + γ·√d) = std·γ, with σ and C 1.
    width = 1.0 / (coordinate_std - math.sqrt(plan.trainable_coordinates))
    return replace(plan, secure=SecureTerms(width, 32, steps, 0, quorum))


def coordinate_slack(shape: tuple[int, int, int, int], std: float) -> float:
    """The worst of one coordinate over all cohorts and all steps kept."""
    count, quorum, colluders, steps = shape
    worst = 0.0
    for cohort in range(quorum, count + 1):
        shares = share_variances(std**2, cohort, quorum, colluders, tolerance(cohort, quorum, steps))
        for kept in range(len(shares)):
            least, parts = min(shares[: kept + 1]), (cohort - colluders) * (kept + 1)
            bound = 5.0 * (parts - 1) * math.exp(-(math.pi**2) * least)
            worst = max(worst, bound if least >= 0.25 else math.inf)  # it is not shown for a std below 1/2
    return worst


def slack_of(plan: Plan, shape: tuple[int, int, int, int], coordinate_std: float, units: float) -> float:
    coordinates = plan.rounds * plan.trainable_coordinates * coordinate_slack(shape, coordinate_std)
    evaluations = sum(plan.evaluates(number) for number in range(1, plan.rounds + 1))
    return 2.0 * (coordinates + 2 * evaluations * coordinate_slack(shape, 32 * units))


@pytest.mark.parametrize(("shape", "coordinate_std", "units"), SHARES)
def test_slack_is_never_less_than_that_of_the_shares(
    shape: tuple[int, int, int, int], coordinate_std: float, units: float
) -> None:
    plan = plan_of(shape, coordinate_std, units)
    found, least = additive_slack(plan), slack_of(plan, shape, coordinate_std, units)
    assert 0.0 < least <= found
    if shape == MANY:
        assert found < 1.5 * least


def test_a_plan_is_refused_for_counts_alone_whose_noise_shares_are_a_few_grid_steps_wide() -> None:
    """One unit of noise among 22 honest members: the step that covers a drop-out is less than two grid steps wide."""
    shape = (30, 21, 8, 4)
    with pytest.raises(UnsoundPlan, match="a noise share is only a few grid steps wide"):
        check_grid(plan_of(shape, FINE, 1.0))
    check_grid(plan_of(shape, FINE, 1.0, evaluate_every=0))
    check_grid(plan_of(shape, FINE, 3.0))
