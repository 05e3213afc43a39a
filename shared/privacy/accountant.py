"""How much privacy a list of Gaussian events costs: one privacy loss distribution (clauses 7.4, 7.5).

Every number here is an upper bound on ε. The pieces and why each errs upwards:

 - Privacy loss distributions (Sommer, Meiser, Mohammadi, PoPETs 2019; Koskela, Jälkö, Honkela, AISTATS
   2020) for the Poisson-subsampled Gaussian, composed by `dp-accounting`. Losses are put on a grid by
   "connect the dots" (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi, PoPETs 2022, section 4), which
   dominates the true curve whatever the grid; cut tails are counted as certain failure.
 - σ is divided by 1.00001 (`_FLOAT_SLACK`): rounding included, one record moves the float64 sum of clipped gradients
   by at most C(1 + 1e-5), up to 200,000 records drawn in a step (shown in participant/training/dp_sgd.py).
 - Steps without sampling compose exactly: Σ count/σ² is one Gaussian (Dong, Roth, Su, JRSS-B 2022, cor. 3.3).
 - Where no useful bound exists (ε in the hundred thousands) the answer is infinity, never a guess.

The grid width follows the events: an eighth of a typical step's loss where that is small, so that thousands
of tiny steps do not pile up rounding, never so fine that a distribution takes more than about 10⁵ points.
"""

from __future__ import annotations

import functools
import importlib.metadata
import itertools
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shared.domain.errors import UnsoundPlan
from shared.domain.privacy import MAXIMUM_DELTA, RELATION, GaussianEvent, PrivacyGuarantee, Unit

ACCOUNTANT = f"pld (dp-accounting {importlib.metadata.version('dp-accounting')})"
"""Goes into every guarantee and certificate."""
LEAST_DELTA = 1e-10
"""Below this, float64 rounding of the convolutions is no longer negligible beside δ."""

_LAST_PLACE = 900 * 4 - 1
"""Of the noise multipliers of three digits that a plan may get, 0.100 to 999."""
_LEAST_SIGMA, _MOST_SIGMA = 1e-3, 1e6
_MOST_STEPS = 10**9
_FLOAT_SLACK = 1.0 + 1e-5
_COARSEST_GRID = 1e-3
_FINEST_GRID = 1e-5
_MAXIMUM_POINTS = 1e5
_USELESS_LOSS = 1e6


@dataclass(frozen=True)
class _Group:
    """Equal steps; σ already carries the float slack."""

    noise_multiplier: float
    sampling_rate: float
    steps: int


def epsilon(events: Iterable[GaussianEvent], delta: float) -> float:
    """The least ε that the accountant can prove for all `events` together at `delta`; 0.0 for no events.

    Relation: add or remove one unit. Order and grouping of the events do not matter beyond rounding.
    Raises UnsoundPlan for an event or δ outside the analysis: σ must be in [0.001, 1e6], the sampling
    rate in (0, 1], the count a whole number from 1 to 10⁹, δ in [1e-10, 1).
    """
    if not LEAST_DELTA <= delta < 1.0:
        raise UnsoundPlan(
            f"δ must be at least {LEAST_DELTA} and below 1, and is {delta!r}. No ε was computed. "
            "Use the plan's δ (at most 1e-5 and at most one tenth of a unit's share)."
        )
    groups = _grouped(events)
    return _epsilon(groups, delta) if groups else 0.0


@functools.lru_cache(maxsize=1024)
def _epsilon(groups: tuple[_Group, ...], delta: float) -> float:
    """Kept, because publishing and proving a release ask for the same numbers again and again."""
    grid = _grid_width(groups)
    if math.isinf(grid):
        return math.inf
    return max(0.0, float(_composed(groups, grid).get_epsilon_for_delta(delta)))


def guarantee(events: Iterable[GaussianEvent], delta: float, unit: Unit) -> PrivacyGuarantee:
    """The whole statement of clause 1.2 for `events` at `delta`. Raises UnsoundPlan as `epsilon` does."""
    return PrivacyGuarantee(epsilon(events, delta), delta, unit, RELATION, ACCOUNTANT)


def highest_delta(declared_size: int) -> float:
    """The largest δ that clause 7.35 allows a data set of `declared_size` units: min(1e-5, 1/(10·n))."""
    if declared_size < 1:
        raise UnsoundPlan(
            f"A declared size must be at least 1 unit, and is {declared_size}. No δ follows from it. "
            "Declare the data set's size, rounded to two digits."
        )
    return min(MAXIMUM_DELTA, 1.0 / (10.0 * declared_size))


def calibrate_noise_multiplier(
    target_epsilon: float,
    delta: float,
    sampling_rate: float,
    steps: int,
    other_events: Iterable[GaussianEvent] = (),
) -> float:
    """The smallest σ of three significant digits, 0.1 to 999, so that `steps` steps plus `other_events`
    cost at most `target_epsilon` at `delta`.

    Raises UnsoundPlan where no such σ exists: the other events alone may already cost more.
    """
    others = tuple(other_events)

    def cost(place: int) -> float:
        step = GaussianEvent(_three_digits(place), sampling_rate, steps)
        return epsilon((step, *others), delta)

    # Places with too little noise and with enough, and what they cost. ε falls as σ grows.
    little, enough = (-1, math.inf), (_LAST_PLACE, cost(_LAST_PLACE))
    if not enough[1] <= target_epsilon:
        raise UnsoundPlan(
            f"The target is ε {target_epsilon:g} at δ {delta:g}; even at noise multiplier "
            f"{_three_digits(_LAST_PLACE):g} these events cost ε {enough[1]:.4g}. No noise multiplier was chosen. "
            "Raise the target, or plan fewer or rarer steps and evaluations."
        )
    likely: int | None = _central_limit(target_epsilon, delta, sampling_rate, steps)
    turns = itertools.count(1)
    while enough[0] - little[0] > 1:
        middle = (little[0] + enough[0]) // 2
        place = middle if likely is None else min(max(likely, little[0] + 1), enough[0] - 1)
        spent = cost(place)
        if spent <= target_epsilon:
            enough = place, spent
        else:
            little = place, spent
        # Now and then the middle, so that no curve makes it long.
        likely = _meets(target_epsilon, little, enough) if next(turns) % 3 else None
    return _three_digits(enough[0])


def _central_limit(target_epsilon: float, delta: float, sampling_rate: float, steps: int) -> int:
    """The place to begin with (Bu, Dong, Long, Su, HDSR 2020): how long a search takes depends on it, not its end.

    All steps together are about one Gaussian of μ = q·√(T·(exp(1/σ²) - 1)), whose ε is about μ²/2 + μ·√(2·ln(1/δ)).
    """
    tail = -math.log(delta)
    mu = max(math.sqrt(2.0 * (tail + target_epsilon)) - math.sqrt(2.0 * tail), 1e-9)
    return _place_of(-0.5 * math.log(math.log1p((mu / sampling_rate) ** 2 / steps)))


def _meets(target_epsilon: float, *ends: tuple[int, float]) -> int | None:
    """The place where ε would meet the target if it were a power of σ through these; None where that says nothing."""
    known = [
        (math.log(_three_digits(place)), math.log(spent)) for place, spent in ends if 0.0 < spent < math.inf
    ]
    if not known or target_epsilon == 0.0:
        return None
    power = -1.0
    if len(known) == 2:
        (weak, more), (strong, less) = known
        power = (less - more) / (strong - weak)
    sigma, spent = known[0]
    return _place_of(sigma + (math.log(target_epsilon) - spent) / power)


def _place_of(log_sigma: float) -> int:
    """The place of the first σ of three digits that is not below this one; the first or last where there is none."""
    sigma = math.exp(min(max(log_sigma, math.log(0.1)), math.log(999.0)))
    decade = math.floor(math.log10(sigma)) + 1
    return min(max(math.ceil(sigma * 10.0 ** (3 - decade)) - 100 + 900 * decade, 0), _LAST_PLACE)


def _three_digits(place: int) -> float:
    """Number `place` of 0.100, 0.101 … 0.999, 1.00, 1.01 … 999: floats nearest to their decimal text."""
    return float(f"{100 + place % 900}e{place // 900 - 3}")


def _grouped(events: Iterable[GaussianEvent]) -> tuple[_Group, ...]:
    """Equal steps counted together in order of first appearance; steps without sampling as one, last.

    The order lets `_prefix` keep what finished runs cost while the newest run grows round by round.
    """
    counts: Counter[tuple[float, float]] = Counter()
    for event in events:
        _check(event)
        counts[event.noise_multiplier / _FLOAT_SLACK, event.sampling_rate] += event.count
    groups = [_Group(sigma, rate, count) for (sigma, rate), count in counts.items() if rate < 1.0]
    # fsum: the same events in another order must not give another float.
    information = math.fsum(count / sigma**2 for (sigma, rate), count in counts.items() if rate == 1.0)
    if information > 0.0:
        groups.append(_Group(1.0 / math.sqrt(information), 1.0, 1))
    return tuple(groups)


def _check(event: GaussianEvent) -> None:
    sigma, rate, count = event.noise_multiplier, event.sampling_rate, event.count
    whole = isinstance(count, int) and 1 <= count <= _MOST_STEPS
    if not (_LEAST_SIGMA <= sigma <= _MOST_SIGMA and 0.0 < rate <= 1.0 and whole):
        raise UnsoundPlan(
            f"An event needs a noise multiplier from {_LEAST_SIGMA:g} to {_MOST_SIGMA:g}, a sampling rate in "
            f"(0, 1] and a whole count from 1 to {_MOST_STEPS:,}; this one has {sigma!r}, {rate!r} and "
            f"{count!r}. No ε was computed. Correct the plan."
        )


def _grid_width(groups: tuple[_Group, ...]) -> float:
    """Width of the loss grid in units of ε, on a ladder of half decades; infinity where no bound is useful.

    Uses the size of a step's loss in the central limit (Bu, Dong, Long, Su, HDSR 2020) as a *scale*: it
    decides how fine to compute, never what is reported.
    """
    total_information, total_steps, widest_step = 0.0, 0, 0.0
    for group in groups:
        sigma, rate = group.noise_multiplier, group.sampling_rate
        information = min(rate**2 * math.expm1(min(sigma**-2, 300.0)), sigma**-2)
        total_information += group.steps * information
        total_steps += group.steps
        widest_step = max(widest_step, 0.5 * sigma**-2 + 10.0 / sigma)
    span = max(widest_step, 0.5 * total_information + 10.0 * math.sqrt(total_information))
    if span > _USELESS_LOSS:
        return math.inf
    # Rounding adds at most grid²/4 to the variance of a step's loss: here at most 1/256 of the whole.
    wanted = math.sqrt(total_information / total_steps) / 8.0
    wanted = min(max(wanted, _FINEST_GRID), _COARSEST_GRID)
    # Rungs of half decades keep the caches below warm while counts grow.
    rung = math.floor(2.0 * math.log10(wanted) + 1e-9)
    rung = max(rung, math.ceil(2.0 * math.log10(span / _MAXIMUM_POINTS)))
    return float(10.0 ** (rung / 2.0))


def _composed(groups: tuple[_Group, ...], grid: float) -> Any:
    """The loss distribution of all groups together."""
    # What grows from round to round is the last sampled group, and the evaluations behind it.
    cut = len(groups) - (2 if groups[-1].sampling_rate == 1.0 else 1)
    result = _prefix(groups[: max(cut, 0)], grid)
    for group in groups[max(cut, 0) :]:
        result = result.compose(_self_composed(group, grid))
    return result


@functools.lru_cache(maxsize=8)
def _prefix(groups: tuple[_Group, ...], grid: float) -> Any:
    from shared.privacy.loss_distribution import nothing

    result = nothing(grid)
    for group in groups:
        result = result.compose(_self_composed(group, grid))
    return result


def _self_composed(group: _Group, grid: float) -> Any:
    step = _one_step(group.noise_multiplier, group.sampling_rate, grid)
    return step if group.steps == 1 else step.self_compose(group.steps)


@functools.lru_cache(maxsize=16)
def _one_step(noise_multiplier: float, sampling_rate: float, grid: float) -> Any:
    # Imported late: the library takes over a second, and most commands compute no ε.
    from shared.privacy.loss_distribution import subsampled_gaussian

    return subsampled_gaussian(noise_multiplier, sampling_rate, grid)
