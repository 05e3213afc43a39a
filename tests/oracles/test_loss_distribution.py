"""The loss distribution of one step against dp-accounting's own and against the δ that its definition gives."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
from dp_accounting import NeighboringRelation
from dp_accounting.pld import privacy_loss_distribution

from shared.privacy.loss_distribution import subsampled_gaussian

STEPS = [
    # σ, q, grid: from little noise to much, from rare sampling to none.
    (0.02, 0.3, 0.1),
    (0.5, 0.01, 1e-3),
    (1.0, 0.9, 1e-3),
    (1.5, 0.05, 1e-4),
    (3.0, 0.25, 1e-3),
    (20.0, 0.3, 1e-4),
    (300.0, 1e-3, 1e-5),
    (2.0, 1.0, 1e-3),
]


@pytest.mark.parametrize(("sigma", "rate", "grid"), STEPS)
def test_it_is_the_one_that_the_library_builds_point_by_point(sigma: float, rate: float, grid: float) -> None:
    ours = subsampled_gaussian(sigma, rate, grid)
    theirs = privacy_loss_distribution.from_gaussian_mechanism(
        standard_deviation=sigma,
        value_discretization_interval=grid,
        sampling_prob=rate,
        use_connect_dots=True,
        neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
    )
    for epsilon in (0.0, 0.1, 1.0, 5.0):
        assert ours.get_delta_for_epsilon(epsilon) == pytest.approx(
            theirs.get_delta_for_epsilon(epsilon), rel=1e-9, abs=1e-13
        )
    if sigma > 0.1:  # many steps with less noise cost more than the grid of either can hold
        many, of_theirs = ours.self_compose(50), theirs.self_compose(50)
        for delta in (1e-3, 1e-5, 1e-9):
            assert many.get_epsilon_for_delta(delta) == pytest.approx(
                of_theirs.get_epsilon_for_delta(delta), rel=1e-6, abs=1e-9
            )


@pytest.mark.parametrize("direction", ["removed", "added"])
@pytest.mark.parametrize(("sigma", "rate", "grid"), STEPS)
def test_it_is_above_the_true_curve_and_meets_it_on_the_grid(
    sigma: float, rate: float, grid: float, direction: str
) -> None:
    made = subsampled_gaussian(sigma, rate, grid)
    pmf = made._pmf_remove if direction == "removed" else made._pmf_add
    for multiple in (-2000, -300, -10, 0, 1, 10, 100, 1000, 2500):
        for between in (0.0, 0.5):
            epsilon = (multiple + between) * grid
            true, found = by_definition(epsilon, sigma, rate, direction), pmf.get_delta_for_epsilon(epsilon)
            assert found >= true - 1e-13
            if not between:
                assert found == pytest.approx(true, rel=1e-9, abs=1e-12)


def by_definition(epsilon: float, sigma: float, rate: float, direction: str) -> float:
    """sup over sets S of A(S) - e^ε·B(S), with 60 digits: S is where A's density is above e^ε times B's.

    The densities' ratio grows (or falls) with x, so S ends where it crosses e^ε, found by bisection.
    """
    with mpmath.workdps(60):
        s, q, e = mpmath.mpf(sigma), mpmath.mpf(rate), mpmath.exp(mpmath.mpf(epsilon))

        def ratio(x: mpmath.mpf) -> mpmath.mpf:
            return 1 - q + q * mpmath.exp((2 * x - 1) / (2 * s * s))

        def mixed(x: mpmath.mpf) -> mpmath.mpf:  # below x
            return (1 - q) * mpmath.ncdf(x, 0, s) + q * mpmath.ncdf(x, 1, s)

        crosses = e if direction == "removed" else 1 / e
        least, most = mpmath.mpf(-100) * (s + 1), mpmath.mpf(100) * (s + 1) * (s + 1)
        if ratio(least) >= crosses:  # every outcome loses more, or none so much
            return float(1 - e) if direction == "removed" else 0.0
        for _ in range(250):
            middle = (least + most) / 2
            least, most = (middle, most) if ratio(middle) < crosses else (least, middle)
        below, pure = mixed(least), mpmath.ncdf(least, 0, s)
        if direction == "removed":
            return float((1 - below) - e * (1 - pure))
        return float(pure - e * below)


def test_a_loss_without_sampling_neither_overflows_nor_loses_its_digits() -> None:
    # σ = 0.02 loses 1250 and more in one step: e to that is beyond float64.
    made = subsampled_gaussian(0.02, 1.0, 0.1)
    assert math.isfinite(made.get_epsilon_for_delta(1e-5))
    assert np.isfinite(made.get_delta_for_epsilon(1200.0))
