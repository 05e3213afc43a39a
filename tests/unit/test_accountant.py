"""What the accountant promises: an upper bound, for every grouping of the events, or a refusal."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from shared.domain.errors import UnsoundPlan
from shared.domain.privacy import RELATION, GaussianEvent, Unit
from shared.privacy import accountant
from shared.privacy.accountant import (
    ACCOUNTANT,
    calibrate_noise_multiplier,
    epsilon,
    guarantee,
    highest_delta,
)

TRAINING = GaussianEvent(1.5, 0.05, 100)
EVALUATION = GaussianEvent(20.0, 1.0, 10)


def test_nothing_released_costs_nothing() -> None:
    assert epsilon((), 1e-5) == 0.0


def test_a_run_costs_the_same_charged_round_by_round_or_at_once() -> None:
    rounds = [GaussianEvent(1.5, 0.05, 1)] * 100
    assert epsilon(rounds, 1e-5) == epsilon((TRAINING,), 1e-5)


def test_order_of_the_events_does_not_matter() -> None:
    events = [TRAINING, EVALUATION, GaussianEvent(2.0, 0.2, 7), GaussianEvent(4.0, 0.01, 300)]
    forwards, backwards = epsilon(events, 1e-5), epsilon(reversed(events), 1e-5)
    assert forwards == pytest.approx(backwards, rel=1e-9)


@pytest.mark.parametrize("event", [TRAINING, EVALUATION])
def test_rounding_in_the_clipped_sum_is_counted_as_a_hundred_thousandth_of_the_clip_norm(
    event: GaussianEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """dp_sgd.py bounds it for every plan; without the margin that much more influence would be paid by nobody."""
    counted = epsilon((event,), 1e-5)
    monkeypatch.setattr(accountant, "_FLOAT_SLACK", 1.0)
    influence = 1.0 + 1e-5
    assert counted >= epsilon((replace(event, noise_multiplier=event.noise_multiplier / influence),), 1e-5)
    assert counted > epsilon((event,), 1e-5)


def test_composition_costs_more_than_each_part_and_less_than_the_sum() -> None:
    alone = [epsilon((event,), 1e-5) for event in (TRAINING, EVALUATION)]
    together = epsilon((TRAINING, EVALUATION), 1e-5)
    assert max(alone) < together < sum(alone)


@pytest.mark.parametrize(
    "cheaper",
    [
        GaussianEvent(1.6, 0.05, 100),
        GaussianEvent(1.5, 0.045, 100),
        GaussianEvent(1.5, 0.05, 90),
    ],
)
def test_more_noise_rarer_sampling_or_fewer_steps_cost_less(cheaper: GaussianEvent) -> None:
    assert epsilon((cheaper,), 1e-5) < epsilon((TRAINING,), 1e-5)


def test_one_step_more_costs_more_in_every_round_of_a_run() -> None:
    costs = [epsilon((GaussianEvent(3.0, 0.2, count),), 1e-5) for count in range(1, 40)]
    assert costs == sorted(costs)
    assert len(set(costs)) == len(costs)


def test_smaller_delta_costs_more() -> None:
    costs = [epsilon((TRAINING, EVALUATION), delta) for delta in (1e-5, 1e-6, 1e-7, 1e-9)]
    assert costs == sorted(costs)
    assert len(set(costs)) == len(costs)


def test_steps_without_sampling_compose_exactly() -> None:
    # Σ count/σ²: 4 steps at σ = 20 are one at σ = 10.
    many = epsilon((GaussianEvent(20.0, 1.0, 4),), 1e-5)
    assert many == pytest.approx(epsilon((GaussianEvent(10.0, 1.0, 1),), 1e-5), rel=1e-9)
    mixed = (GaussianEvent(20.0, 1.0, 2), GaussianEvent(20.0 / math.sqrt(2.0), 1.0, 1))
    assert epsilon(mixed, 1e-5) == pytest.approx(many, rel=1e-9)


def test_norms_a_few_ulps_above_the_clip_are_paid_for() -> None:
    with_slack = epsilon((GaussianEvent(1.0 * (1.0 + 1e-5), 1.0, 1),), 1e-5)
    assert epsilon((GaussianEvent(1.0, 1.0, 1),), 1e-5) > with_slack


def test_tiny_steps_do_not_pile_up_rounding() -> None:
    # 5,000 steps at σ = 8, q = 0.001: a grid of 1e-3 would say 0.066; the converged value is 0.0239.
    assert epsilon((GaussianEvent(8.0, 0.001, 5000),), 1e-5) == pytest.approx(0.0239, rel=0.02)


def test_noise_too_small_to_mean_anything_costs_infinity() -> None:
    assert epsilon((GaussianEvent(0.001, 0.5, 3),), 1e-5) == math.inf


def test_many_different_runs_in_one_life_compose() -> None:
    life = [GaussianEvent(5.0 + i / 10, 0.01, 20) for i in range(30)]
    together = epsilon(life, 1e-5)
    assert epsilon((GaussianEvent(7.9, 0.01, 600),), 1e-5) < together
    assert together < epsilon((GaussianEvent(5.0, 0.01, 600),), 1e-5)


@pytest.mark.parametrize(
    "event",
    [
        GaussianEvent(0.0, 0.1, 1),
        GaussianEvent(-1.0, 0.1, 1),
        GaussianEvent(math.nan, 0.1, 1),
        GaussianEvent(math.inf, 0.1, 1),
        GaussianEvent(1e-200, 0.1, 1),
        GaussianEvent(1.0, 0.0, 1),
        GaussianEvent(1.0, 1.01, 1),
        GaussianEvent(1.0, math.nan, 1),
        GaussianEvent(1.0, 0.1, 0),
        GaussianEvent(1.0, 0.1, -3),
        GaussianEvent(1.0, 0.1, 10**12),
        GaussianEvent(1.0, 0.1, 1.5),  # type: ignore[arg-type]
    ],
)
def test_an_event_outside_the_analysis_is_refused(event: GaussianEvent) -> None:
    with pytest.raises(UnsoundPlan, match=r"An event needs a noise multiplier from .* No ε was computed"):
        epsilon((TRAINING, event), 1e-5)


@pytest.mark.parametrize("delta", [0.0, -1e-5, 1e-11, 1.0, math.nan, math.inf])
def test_a_delta_outside_the_analysis_is_refused(delta: float) -> None:
    with pytest.raises(UnsoundPlan, match=r"δ must be at least 1e-10 and below 1, and is .* No ε was"):
        epsilon((TRAINING,), delta)


def test_guarantee_is_the_whole_statement() -> None:
    said = guarantee((TRAINING,), 1e-6, Unit.PERSON)
    assert said.epsilon == epsilon((TRAINING,), 1e-6)
    assert (said.delta, said.unit) == (1e-6, Unit.PERSON)
    assert (said.relation, said.accountant) == (RELATION, ACCOUNTANT)
    assert ACCOUNTANT == "pld (dp-accounting 0.6.0)"


@pytest.mark.parametrize(
    ("declared_size", "delta"), [(1, 1e-5), (10_000, 1e-5), (20_000, 5e-6), (1_000_000, 1e-7)]
)
def test_highest_delta_is_a_tenth_of_a_units_share_and_never_above_1e_5(
    declared_size: int, delta: float
) -> None:
    assert highest_delta(declared_size) == pytest.approx(delta)


def test_highest_delta_of_an_empty_data_set_is_refused() -> None:
    with pytest.raises(UnsoundPlan, match="at least 1 unit, and is 0"):
        highest_delta(0)


@pytest.mark.parametrize("target", [0.1, 1.0, 3.0, 8.0, 60.0])
def test_calibrated_noise_fits_and_one_digit_less_does_not(target: float) -> None:
    sigma = calibrate_noise_multiplier(target, 1e-5, 0.05, 150)
    digit = 0.001 if sigma < 1 else 0.01 if sigma < 10 else 0.1
    assert epsilon((GaussianEvent(sigma, 0.05, 150),), 1e-5) <= target
    assert epsilon((GaussianEvent(sigma - digit, 0.05, 150),), 1e-5) > target
    assert float(f"{sigma:.3g}") == sigma


def test_calibration_pays_for_the_other_events_too() -> None:
    alone = calibrate_noise_multiplier(3.0, 1e-5, 0.05, 150)
    beside = calibrate_noise_multiplier(3.0, 1e-5, 0.05, 150, other_events=(EVALUATION,))
    assert beside > alone
    assert epsilon((GaussianEvent(beside, 0.05, 150), EVALUATION), 1e-5) <= 3.0


def test_calibration_refuses_what_the_other_events_alone_overspend() -> None:
    with pytest.raises(
        UnsoundPlan, match=r"The target is ε 0.5 at δ 1e-05; even at noise multiplier 999 .* ε 4.377"
    ):
        calibrate_noise_multiplier(0.5, 1e-5, 0.05, 150, other_events=(GaussianEvent(2.0, 1.0, 4),))


def test_calibration_refuses_a_target_that_is_not_a_number() -> None:
    with pytest.raises(UnsoundPlan, match="The target is ε nan"):
        calibrate_noise_multiplier(math.nan, 1e-5, 0.05, 150)
