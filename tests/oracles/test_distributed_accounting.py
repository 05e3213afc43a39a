"""That shared-out discrete noise costs no more than the accountant's continuous Gaussian: against exact sums.

Everything is computed from the probabilities themselves, on grids coarse enough to matter.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution
from scipy import optimize, stats

from shared.domain.privacy import GaussianEvent
from shared.privacy.accountant import epsilon
from shared.privacy.distributed import (
    SMOOTHING_VARIANCE,
    convolution_slack,
    share_variances,
    smoothing_slack,
)

DELTA = 1e-5


def pmf(variance: float, most: int) -> np.ndarray:
    """N_Z(0, variance) on −most … most."""
    z = np.arange(-most, most + 1, dtype=np.float64)
    weights = np.exp(-z * z / (2 * variance))
    return weights / weights.sum()


def summed(variances: list[float], most: int) -> np.ndarray:
    """The distribution of a sum of independent discrete Gaussians, on −most … most."""
    total = pmf(variances[0], most)
    for variance in variances[1:]:
        total = np.convolve(total, pmf(variance, most))[most : 3 * most + 1]
    return total


def exact_epsilon(noise: np.ndarray, shift: int, delta: float = DELTA) -> float:
    """ε of adding `noise` where one unit moves the sum by `shift` grid steps: the hockey-stick divergence."""
    moved = np.roll(noise, shift)

    def excess(candidate: float) -> float:
        return float(np.maximum(noise - math.exp(candidate) * moved, 0.0).sum()) - delta

    return float(optimize.brentq(excess, 0.0, 60.0, xtol=1e-9))


def gaussian_delta(mu: float, eps: float) -> float:
    """Balle and Wang 2018, theorem 8."""
    return float(stats.norm.cdf(mu / 2 - eps / mu) - math.exp(eps) * stats.norm.cdf(-mu / 2 - eps / mu))


@pytest.mark.parametrize(("first", "second"), [(0.5, 0.5), (0.5, 2.0), (0.7, 0.7), (0.8, 1.3), (1.0, 1.0)])
def test_convolution_of_two_is_one_within_the_published_bound_and_not_within_a_tenth_of_it(
    first: float, second: float
) -> None:
    most = 12
    one = pmf(first**2 + second**2, 40)[40 - most : 41 + most]
    two = summed([first**2, second**2], 40)[40 - most : 41 + most]
    apart = float(np.max(np.abs(np.log(two / one))))
    bound = 5.0 * math.exp(-2 * math.pi**2 / (first**-2 + second**-2))
    assert bound / 10 < apart <= bound
    if first == second:
        assert convolution_slack(first, 2) == pytest.approx(bound)


@pytest.mark.parametrize("components", [3, 5, 9])
def test_bound_adds_up_over_many_components(components: int) -> None:
    std = 0.8
    most = 12
    one = pmf(components * std**2, 60)[60 - most : 61 + most]
    many = summed([std**2] * components, 60)[60 - most : 61 + most]
    apart = float(np.max(np.abs(np.log(many / one))))
    assert 0.0 < apart <= convolution_slack(std, components)


def post_processed(variance: float, smoothing: float, most: int) -> np.ndarray:
    """Y ~ N(0, variance − smoothing), then z from the discrete Gaussian of variance `smoothing` centred at Y."""
    width = 1 / 64  # the trapezoid rule: exact to the last bits for functions as smooth as these
    y = np.arange(-60, 60, width)
    density = np.exp(-y * y / (2 * (variance - smoothing)))
    density /= density.sum()
    z = np.arange(-200, 201)
    weights = np.exp(-((z[None, :] - y[:, None]) ** 2) / (2 * smoothing))
    return (density[:, None] * weights / weights.sum(axis=1, keepdims=True)).sum(axis=0)[
        200 - most : 201 + most
    ]


@pytest.mark.parametrize("smoothing", [0.25, 0.36, 0.5, 0.64])
def test_discrete_noise_is_post_processed_continuous_noise_of_a_little_less_variance(
    smoothing: float,
) -> None:
    most = 10
    apart = float(np.max(np.abs(np.log(post_processed(9.0, smoothing, most) / pmf(9.0, 60)[50:71]))))
    bound = 5.0 * math.exp(-2 * math.pi**2 * smoothing)
    # The difference is there, about the square of what could be proven in one line.
    assert bound**2 / 20 < apart <= bound


def test_shipped_smoothing_leaves_nothing_to_see() -> None:
    assert smoothing_slack() < 1e-33
    apart = np.log(post_processed(30.0, SMOOTHING_VARIANCE, 20) / pmf(30.0, 60)[40:81])
    assert float(np.max(np.abs(apart))) < 1e-12


@pytest.mark.parametrize("std", [0.7, 1.0, 2.0, 3.0])
def test_without_smoothing_a_coarse_grid_costs_more_than_the_accountant_says(std: float) -> None:
    def worst(variance: float) -> float:
        noise = pmf(variance, 80)
        return max(
            float(np.maximum(noise - math.exp(e) * np.roll(noise, 1), 0).sum()) / gaussian_delta(1 / std, e)
            for e in np.linspace(0.0, 3.0, 61)
        )

    assert worst(std**2) > 1.2
    assert worst(std**2 + SMOOTHING_VARIANCE) <= 1.0


@pytest.mark.parametrize("sigma", [0.8, 1.5, 4.0])
@pytest.mark.parametrize("grid_steps", [4, 16])
@pytest.mark.parametrize(
    ("cohort", "covered", "kept"), [(10, (1, 2, 3), 0), (10, (1, 2, 3), 3), (10, (2, 3), 1)]
)
def test_honest_shares_cost_at_most_what_is_charged_and_one_share_less_costs_more(
    sigma: float, grid_steps: int, cohort: int, covered: tuple[int, ...], kept: int
) -> None:
    """One coordinate, C = grid_steps·γ, so C' = (grid_steps + 1)·γ: the most that one unit moves the sum."""
    shift, colluders, quorum = grid_steps + 1, 3, 7
    total = (sigma * shift) ** 2
    shares = share_variances(total, cohort, quorum, colluders, covered)[: kept + 1]
    lost = (0, *covered)[kept]
    honest = cohort - lost - colluders
    charged = epsilon((GaussianEvent(sigma, 1.0, 1),), DELTA)
    most = math.ceil(12 * math.sqrt(total + honest * SMOOTHING_VARIANCE)) + shift
    cost = exact_epsilon(summed(list(shares) * honest, most), shift)
    assert cost <= charged
    if grid_steps == 16 and sigma > 1:  # on so fine a grid smoothing is no more than a few per cent
        assert cost > 0.9 * charged
        assert exact_epsilon(summed(list(shares) * (honest - 1), most), shift) > charged


@pytest.mark.parametrize("grid_steps", [4, 16])
def test_a_member_left_alone_pays_at_most_epsilon_alone(grid_steps: int) -> None:
    sigma, members, colluders, shift = 3.0, 10, 3, grid_steps + 1
    base = share_variances((sigma * shift) ** 2, members, 7, colluders, (1, 2, 3))[0]
    most = math.ceil(14 * math.sqrt(base)) + 10 * shift
    alone = epsilon((GaussianEvent(sigma / math.sqrt(members - colluders), 1.0, 1),), DELTA)
    cost = exact_epsilon(pmf(base, most), shift)
    assert cost <= alone
    assert exact_epsilon(pmf(base / 2 - SMOOTHING_VARIANCE, most), shift) > alone


def test_many_coordinates_and_rounds_compose_as_the_accountant_says() -> None:
    """dp-accounting's own discrete Gaussian: 4 coordinates moved by 8 steps each, 5 rounds, all composed."""
    sigma, moved, coordinates, rounds = 3.0, 8, 4, 5
    sensitivity = moved * math.sqrt(coordinates)
    variance = (sigma * sensitivity) ** 2 + 4 * SMOOTHING_VARIANCE
    one = privacy_loss_distribution.from_discrete_gaussian_mechanism(
        math.sqrt(variance), sensitivity=moved, value_discretization_interval=1e-3
    )
    theirs = one.self_compose(coordinates * rounds).get_epsilon_for_delta(DELTA)
    ours = epsilon((GaussianEvent(sigma, 1.0, rounds),), DELTA)
    assert 0.97 * ours < theirs <= ours
