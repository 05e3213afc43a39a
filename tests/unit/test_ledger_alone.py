"""The second number of clause 3.7 in the ledger: what was spent if nobody else's noise can be counted on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from shared.domain.errors import BudgetExceeded, ChargeMismatch, UnsoundPlan
from shared.domain.privacy import Budget, Charge, GaussianEvent
from shared.privacy.accountant import epsilon
from shared.privacy.ledger import Ledger

TOGETHER, ALONE = GaussianEvent(8.0, 1.0, 1), GaussianEvent(3.0, 1.0, 1)


def charge(number: int, alone: tuple[GaussianEvent, ...] | None = (ALONE,)) -> Charge:
    return Charge("dat_1", "sha256:00", "run_1", number, (TOGETHER,), alone)


def test_both_numbers_are_kept_over_the_whole_life_and_across_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    for number in (1, 2):
        ledger.charge(charge(number), Budget(100.0, 1e-5))
    ledger.charge(charge(2), Budget(100.0, 1e-5))  # a retry pays nothing more
    ledger.charge(charge(3, alone=None), Budget(100.0, 1e-5))  # mode local: no worse alone
    for view in (ledger, Ledger(path), Ledger.read(path)):
        assert view.spent("dat_1") == (GaussianEvent(8.0, 1.0, 3),)
        assert view.spent_and_alone("dat_1")[1] == (GaussianEvent(3.0, 1.0, 2), TOGETHER)
        assert view.spent_and_alone("dat_2")[1] == ()


def test_ceiling_alone_stops_a_round_that_the_other_ceiling_would_allow(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    limit = epsilon((GaussianEvent(3.0, 1.0, 2),), 1e-5) * 1.001
    budget = Budget(100.0, 1e-5, epsilon_alone=limit)
    for number in (1, 2):
        ledger.charge(charge(number), budget)
    with pytest.raises(BudgetExceeded) as caught:
        ledger.charge(charge(3), budget)
    assert "where every other member deviates" in caught.value.message
    assert "Ask for a plan of mode local" in caught.value.message
    assert len(ledger.spent("dat_1")) == 1
    ledger.charge(charge(2), budget)  # what was paid for is still paid for
    ledger.charge(charge(3), Budget(100.0, 1e-5))  # 0 sets no ceiling


@pytest.mark.parametrize("ceiling", [-1.0, math.nan, math.inf])
def test_ceiling_that_is_no_number_refuses_everything(tmp_path: Path, ceiling: float) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with pytest.raises(UnsoundPlan, match="A ceiling for ε alone must be finite, and 0 for none"):
        ledger.charge(charge(1), Budget(100.0, 1e-5, epsilon_alone=ceiling))
    assert ledger.spent("dat_1") == ()


@pytest.mark.parametrize("other", [(GaussianEvent(0.5, 1.0, 1),), (GaussianEvent(6.0, 1.0, 1),), None])
def test_a_round_is_not_tried_again_for_another_cost_alone_than_was_paid(
    tmp_path: Path, other: tuple[GaussianEvent, ...] | None
) -> None:
    """Its token would allow a noise share six times smaller than what the ledger says of it for ever."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.charge(charge(1), Budget(100.0, 1e-5))
    with pytest.raises(ChargeMismatch, match="Nothing was charged"):
        ledger.charge(charge(1, alone=other), Budget(100.0, 1e-5))
    assert ledger.spent_and_alone("dat_1")[1] == (ALONE,)
    assert ledger.charge(charge(1), Budget(100.0, 1e-5)).charge.events_alone == (ALONE,)
