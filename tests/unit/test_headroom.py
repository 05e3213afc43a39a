"""What is known to fit spares compositions, and never lets through what composing would refuse."""

from __future__ import annotations

from collections import Counter

import pytest

from shared.domain.errors import UnsoundPlan
from shared.domain.privacy import GaussianEvent
from shared.privacy import headroom
from shared.privacy.accountant import epsilon
from shared.privacy.headroom import Headroom, Steps, events_of, steps_of

DELTA = 1e-5
TRAIN: Steps = Counter({(2.0, 0.1): 1})
VALIDATE: Steps = Counter({(2.0, 0.1): 1, (40.0, 1.0): 1})


@pytest.fixture
def compositions(monkeypatch: pytest.MonkeyPatch) -> list[Steps]:
    """What the accountant was asked for."""
    asked: list[Steps] = []

    def counted(events: tuple[GaussianEvent, ...], delta: float) -> float:
        asked.append(steps_of(events))
        return epsilon(events, delta)

    monkeypatch.setattr(headroom, "epsilon", counted)
    return asked


def accepted(ceiling: float, rounds: list[Steps]) -> tuple[Steps, int]:
    """What is spent when each round is charged that fits, and how many did."""
    room, spent, count = Headroom(), Counter[tuple[float, float]](), 0
    for added in rounds:
        if room.excess(spent, added, DELTA, ceiling) is not None:
            break
        spent += added
        count += 1
    return spent, count


def test_exactly_those_rounds_fit_that_fit_when_each_is_composed(compositions: list[Steps]) -> None:
    rounds = [VALIDATE if n % 5 == 0 else TRAIN for n in range(1, 2000)]
    ceiling = 4.0
    spent, count = accepted(ceiling, rounds)
    assert 200 < count < 1900
    assert epsilon(events_of(spent), DELTA) <= ceiling
    assert epsilon(events_of(spent + rounds[count]), DELTA) > ceiling
    # Near the ceiling each round is composed, up to three times; before it one composition is for many.
    assert len(compositions) < count / 3


def test_the_cost_that_is_told_is_that_of_the_round_and_not_of_the_look_ahead() -> None:
    room = Headroom()
    spent: Steps = Counter({(2.0, 0.1): 500})
    found = room.excess(spent, TRAIN, DELTA, 0.5)
    assert found == epsilon((GaussianEvent(2.0, 0.1, 501),), DELTA) > 0.5


@pytest.mark.parametrize("other", [(DELTA, 4.0), (1e-9, 6.0)])
def test_what_fits_under_one_ceiling_says_nothing_of_another(other: tuple[float, float]) -> None:
    room = Headroom()
    spent: Steps = Counter({(2.0, 0.1): 400})
    assert room.excess(spent, TRAIN, DELTA, 6.0) is None
    found = room.excess(spent, TRAIN, *other)
    assert found == epsilon((GaussianEvent(2.0, 0.1, 401),), other[0]) > other[1]


def test_another_kind_of_step_is_composed_however_little_it_is(compositions: list[Steps]) -> None:
    room = Headroom()
    assert room.excess(Counter(), TRAIN, DELTA, 4.0) is None
    assert room.excess(TRAIN, TRAIN, DELTA, 4.0) is None
    assert len(compositions) == 1
    found = room.excess(TRAIN, Counter({(0.05, 1.0): 1}), DELTA, 4.0)
    assert found is not None and found > 4.0 and len(compositions) > 1


def test_nothing_that_does_not_compare_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headroom, "epsilon", lambda events, delta: float("nan"))
    assert Headroom().excess(Counter(), TRAIN, DELTA, 4.0) is not None


def test_a_look_beyond_what_can_be_analysed_refuses_nothing() -> None:
    added: Steps = Counter({(1e6, 1.0): 10**8})
    assert Headroom().excess(Counter(), added, DELTA, 4.0) is None
    with pytest.raises(UnsoundPlan):
        Headroom().excess(Counter(), Counter({(1e6, 1.0): 2 * 10**9}), DELTA, 4.0)
