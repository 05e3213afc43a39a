"""The privacy loss distribution of one Poisson-subsampled Gaussian step, on a grid (clause 7.4).

With x the outcome along the one record's contribution, of norm 1, and Q = N(0, σ²), P = (1 - q)·N(0, σ²) + q·N(1, σ²):

    loss(x) = ln(P(x)/Q(x)) = ln(1 - q + q·exp((2x - 1)/(2σ²))), which grows with x.

`dp-accounting` composes distributions and says what they cost. It also builds this one, but inverts the loss point by
point in Python, which took nine tenths of what an ε takes; here all points are inverted at once. That both give the
same is shown in tests/oracles/test_loss_distribution.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from dp_accounting.pld import pld_pmf, privacy_loss_distribution
from dp_accounting.pld.privacy_loss_mechanism import AdjacencyType, GaussianPrivacyLoss
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

Losses = NDArray[np.float64]


def nothing(grid: float) -> Any:
    """The distribution of no step at all, to compose others with; `grid` is its width in units of ε."""
    return privacy_loss_distribution.identity(value_discretization_interval=grid)


def subsampled_gaussian(noise_multiplier: float, sampling_rate: float, grid: float) -> Any:
    """Both directions of add-or-remove-one for one step, as a PrivacyLossDistribution that dominates the true one.

    "Connect the dots" (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi, PoPETs 2022, algorithm 1) makes it from δ at
    every point of the grid; outcomes rarer than e⁻⁵⁰ count as certain failure.
    """

    def dots(direction: AdjacencyType) -> Any:
        step = GaussianPrivacyLoss(noise_multiplier, sampling_prob=sampling_rate, adjacency_type=direction)
        bounds = step.connect_dots_bounds()
        least, most = math.floor(bounds.epsilon_lower / grid), math.ceil(bounds.epsilon_upper / grid)
        losses = np.arange(least, most + 1) * grid
        curve = _when_removed if direction is AdjacencyType.REMOVE else _when_added
        deltas = np.clip(curve(losses, noise_multiplier, sampling_rate), 0.0, 1.0)
        return pld_pmf.create_pmf_pessimistic_connect_dots_fixed_gap(grid, least, most, deltas)

    if sampling_rate == 1.0:  # both directions are the same
        return privacy_loss_distribution.PrivacyLossDistribution(dots(AdjacencyType.REMOVE))
    return privacy_loss_distribution.PrivacyLossDistribution(
        dots(AdjacencyType.REMOVE), dots(AdjacencyType.ADD)
    )


def _when_removed(epsilons: Losses, sigma: float, rate: float) -> Losses:
    """δ(ε) = P(X > x) - e^ε·Q(X > x) where loss(x) = ε (Balle, Wang, ICML 2018, theorem 5)."""
    x = sigma**2 * _inside(epsilons, rate) + 0.5
    above = (1.0 - rate) * ndtr(-x / sigma) + rate * ndtr((1.0 - x) / sigma)
    # The logarithm first: e^ε alone overflows.
    return np.asarray(above - np.exp(epsilons + log_ndtr(-x / sigma)))


def _when_added(epsilons: Losses, sigma: float, rate: float) -> Losses:
    """δ(ε) = Q(X < x) - e^ε·P(X < x) where loss(x) = -ε: the other direction's losses are these with the other sign."""
    x = sigma**2 * _inside(-epsilons, rate) + 0.5
    log_below = np.logaddexp(
        math.log1p(-rate) + log_ndtr(x / sigma), math.log(rate) + log_ndtr((x - 1.0) / sigma)
    )
    return np.asarray(ndtr(x / sigma) - np.exp(epsilons + log_below))


def _inside(losses: Losses, rate: float) -> Losses:
    """The loss of the same outcome without sampling: ln((e^loss - (1 - q))/q); -∞ where no outcome loses so little.

    Written so that neither a loss beyond 700 overflows nor one near 0 loses its digits.
    """
    if rate == 1.0:
        return losses
    above, below = np.maximum(losses, 0.0), np.minimum(losses, 0.0)
    with np.errstate(divide="ignore"):  # ln 0 is the -∞ that is wanted
        lower = np.log1p(np.maximum(np.expm1(below) / rate, -1.0))
    return np.asarray(above + np.log1p(-np.expm1(-above) * (1.0 - rate) / rate) + lower)
