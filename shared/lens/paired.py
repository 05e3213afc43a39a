"""Intervals of the difference between two extractors that looked at the same pictures: 95 %, picture by picture."""

from __future__ import annotations

import math

from shared.lens.estimate import Measured
from shared.lens.measures import (
    Distances,
    Mask,
    Vectors,
    draws,
    moved_ratios,
    movement,
    percentiles,
    share,
)


def told_more(before: Mask, after: Mask) -> Measured:
    """The share of right answers [N] after less that before, of the same questions.

    Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on paired
    data", method 10: Wilson's intervals of both shares, put together with their correlation. Unlike the normal
    interval it has a width where no answer changed.
    """
    first, second = share(after), share(before)
    related = _correlation(before, after)
    down, up = first.value - first.low, first.high - first.value
    other_down, other_up = second.value - second.low, second.high - second.value
    more = first.value - second.value
    low = math.sqrt(max(down**2 - 2 * related * down * other_up + other_up**2, 0.0))
    high = math.sqrt(max(up**2 - 2 * related * up * other_down + other_down**2, 0.0))
    return Measured(more, more - low, more + high)


def moved_more(before: Distances, after: Distances) -> Measured:
    """A movement after less that before, of the same pictures: the same bootstrap draws of both."""
    more = movement(after).value - movement(before).value
    return Measured(more, *percentiles(moved_ratios(after) - moved_ratios(before)))


def mean_of(values: Vectors) -> Measured:
    """The mean of a number of every picture [N], with its percentile bootstrap interval."""
    return Measured(float(values.mean()), *percentiles(values[draws(len(values))].mean(axis=1)))


def _correlation(one: Mask, other: Mask) -> float:
    """φ of two rows of answers, with Newcombe's correction for continuity; 0 where a row has one answer only."""
    both, neither = int((one & other).sum()), int((~one & ~other).sum())
    first, second, total = int(one.sum()), int(other.sum()), len(one)
    margins = first * (total - first) * second * (total - second)
    if not margins:
        return 0.0
    surplus: float = both * neither - (first - both) * (second - both)
    if surplus > 0:
        surplus = max(surplus - total / 2, 0.0)
    return surplus / math.sqrt(margins)
