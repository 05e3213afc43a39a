"""Two records of one content in one sum: what the pages say of such a pair, against the exact mixture of Gaussians.

Ganesh, "Tight group-level DP guarantees for DP-SGD with sampling via mixture of Gaussians mechanisms", 2024.
"""

from __future__ import annotations

import math

import pytest
from dp_accounting.pld import privacy_loss_distribution

from shared.domain.privacy import GaussianEvent
from shared.privacy.accountant import calibrate_noise_multiplier, epsilon

ROUNDS, RATE, DELTA = 150, 0.1, 1e-5
GRID = 4e-3
"""Of losses: finer, the numbers below change by less than 0.002."""


def of_two(sigma: float, rate: float, rounds: int, delta: float) -> float:
    """ε of two records, drawn by a coin each, that move the sum the same way: 0, C or 2C a round."""
    chances = [(1.0 - rate) ** 2, 2.0 * rate * (1.0 - rate), rate**2]
    round_of = privacy_loss_distribution.from_mixture_gaussian_mechanism(
        sigma, [0, 1, 2], chances, value_discretization_interval=GRID
    )
    return float(round_of.self_compose(rounds).get_epsilon_for_delta(delta))


@pytest.mark.parametrize(
    ("target", "said"),
    [(1.0, 2.2), *(pytest.param(*x, marks=pytest.mark.slow) for x in ((3.0, 6.7), (8.0, 18.7)))],
)
def test_two_members_with_one_record_pay_more_than_the_sum_at_the_same_delta(
    target: float, said: float
) -> None:
    sigma = calibrate_noise_multiplier(target, DELTA, RATE, ROUNDS)
    one = epsilon([GaussianEvent(sigma, RATE, ROUNDS)], DELTA)
    two = of_two(sigma, RATE, ROUNDS, DELTA)
    assert two > 1.05 * 2.0 * one
    assert two == pytest.approx(said, abs=0.05)
    # σ/2, as clause 7.5 counts it, is no less than that; and so is the sum, with the δ of a group of two.
    assert two <= epsilon([GaussianEvent(sigma / 2.0, RATE, ROUNDS)], DELTA)
    assert of_two(sigma, RATE, ROUNDS, (1.0 + math.exp(one)) * DELTA) <= 2.0 * one


def test_in_mode_local_the_sum_is_enough_because_each_member_adds_its_own_noise() -> None:
    sigma = calibrate_noise_multiplier(8.0, DELTA, RATE, ROUNDS)
    one = epsilon([GaussianEvent(sigma, RATE, ROUNDS)], DELTA)
    assert epsilon([GaussianEvent(sigma, RATE, 2 * ROUNDS)], DELTA) < 2.0 * one
