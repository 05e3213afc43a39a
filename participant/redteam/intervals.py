"""Intervals around what a dry run measured, and the test of its draws: statistics of self_audit.py and guessing.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, chi2, norm

Floats = npt.NDArray[np.float64]
ERROR = 1e-5
"""Probability with which one interval's one end is wrong."""
Z = float(norm.isf(ERROR))


@dataclass(frozen=True)
class Interval:
    """A number and both ends, each wrong with probability ERROR."""

    found: float
    low: float
    high: float


def shift_of(scores: Floats, present: npt.NDArray[np.int64], absent: npt.NDArray[np.int64]) -> Interval:
    """How far a canary moves its own coordinate, in units of the sensitivity: difference of two means."""
    inside, outside = scores[present], np.delete(scores, np.concatenate([present, absent]))
    outside = np.concatenate([outside, scores[absent]])
    found = float(inside.mean() - outside.mean())
    error = math.sqrt(inside.var(ddof=1) / len(inside) + outside.var(ddof=1) / len(outside))
    return Interval(found, found - Z * error, found + Z * error)


def std_of(samples: Sequence[Floats]) -> Interval:
    """Std around each sample's own mean, with the exact interval for Gaussian noise (chi-squared)."""
    freedom = sum(len(sample) - 1 for sample in samples)
    squares = float(sum(np.square(sample - sample.mean()).sum() for sample in samples))
    return Interval(
        math.sqrt(squares / freedom),
        math.sqrt(squares / float(chi2.isf(ERROR, freedom))),
        math.sqrt(squares / float(chi2.ppf(ERROR, freedom))),
    )


def least_share(successes: int, trials: int) -> float:
    """The lower end around the probability of a success, exact for independent trials (Clopper, Pearson 1934)."""
    return 0.0 if successes == 0 else float(beta.ppf(ERROR, successes, trials - successes + 1))


def poisson_p_value(drawn: npt.NDArray[np.bool_], rate: float) -> tuple[float, str]:
    """The probability that independent coins of `rate` look so unusual; bool [rounds, units].

    Three statistics, each tested on both sides: how many were drawn in all; how batch sizes scatter, which a
    fixed size does not; how often each unit came, which shuffled epochs make equal. A fourth on its lower side
    only, where its skew makes the normal tail too large and never too small: how often a unit came twice running,
    which it cannot within an epoch, also where epochs leave a remainder out. The least p-value, times seven.
    """
    rounds, units = drawn.shape
    coin = rate * (1.0 - rate)
    total = (float(drawn.sum()) - rounds * units * rate) / math.sqrt(rounds * units * coin)
    sizes = float(np.square(drawn.sum(axis=1) - units * rate).sum() / (units * coin))
    visits = float(np.square(drawn.sum(axis=0) - rounds * rate).sum() / (rounds * coin))
    running = (float((drawn[1:] & drawn[:-1]).sum()) - units * (rounds - 1) * rate**2) / math.sqrt(
        units * ((rounds - 1) * (rate**2 - rate**4) + 2 * (rounds - 2) * (rate**3 - rate**4))
    )
    tails = {
        "how many were drawn": (float(norm.sf(total)), float(norm.cdf(total))),
        "the scatter of batch sizes": (float(chi2.sf(sizes, rounds)), float(chi2.cdf(sizes, rounds))),
        "how often each came": (float(chi2.sf(visits, units)), float(chi2.cdf(visits, units))),
        "how often one came twice running": (float(norm.cdf(running)),),
    }
    unusual = min(tails, key=lambda name: min(tails[name]))
    return min(1.0, 7.0 * min(tails[unusual])), f"the most unusual is {unusual}"
