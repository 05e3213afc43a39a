"""Plans are checked again beside the lists that show them: nobody waits, nothing is checked twice."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from coordinator.runs import plan_checks
from coordinator.runs.plan_checks import PlanChecks, refused_line
from shared.domain.errors import UnsoundPlan
from shared.domain.plan import Plan
from tests.patience import PATIENCE_S
from tests.plans import small_plan

PLANS = [small_plan(rounds=rounds) for rounds in range(1, 201)]


class Slow:
    """Finds fault with plans of an even number of rounds, once it is let."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.order: list[int] = []

    def __call__(self, plan: Plan) -> None:
        assert self.go_on.wait(PATIENCE_S)
        self.order.append(plan.rounds)
        if plan.rounds % 2 == 0:
            raise UnsoundPlan(f"Rounds must be odd, the plan has {plan.rounds}. The plan was not accepted.")


def settled(checks: PlanChecks, plans: list[Plan]) -> dict[str, str]:
    return wait_for(lambda: found if len(found := checks.known(plans)) == len(plans) else None)


def wait_for(look: Callable[[], dict[str, str] | None]) -> dict[str, str]:
    for _ in range(int(PATIENCE_S / 0.01)):
        found = look()
        if found is not None:
            return found
        time.sleep(0.01)
    raise AssertionError("it never came")


def test_a_list_of_two_hundred_plans_waits_for_no_check_and_none_is_made_twice() -> None:
    slow = Slow()
    checks = PlanChecks(slow)
    assert checks.known(PLANS) == checks.known(PLANS) == {} and slow.order == []
    slow.go_on.set()
    found = settled(checks, PLANS)
    assert slow.order == [plan.rounds for plan in PLANS]
    assert [bool(found[str(plan.digest)]) for plan in PLANS] == [False, True] * 100
    assert checks.fault(PLANS[1]).startswith("Rounds must be odd, the plan has 2.") and len(slow.order) == 200


def test_whoever_asks_about_one_plan_waits_for_the_answer_and_a_list_then_has_it() -> None:
    slow = Slow()
    checks = PlanChecks(slow)
    slow.go_on.set()
    assert checks.fault(PLANS[0]) == "" and "the plan has 2" in checks.fault(PLANS[1])
    known = checks.known(PLANS[:2])
    assert list(known.values()) == [checks.fault(PLANS[0]), checks.fault(PLANS[1])] and slow.order == [1, 2]


def test_a_check_that_breaks_off_is_a_fault_and_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def breaks(plan: Plan) -> None:
        if plan.rounds == 1:
            raise ZeroDivisionError

    checks = PlanChecks(breaks)
    with caplog.at_level(logging.ERROR):
        found = settled(checks, PLANS[:2])
    assert "Something broke on this side" in found[str(PLANS[0].digest)]
    assert found[str(PLANS[1].digest)] == ""
    assert f"checking plan {PLANS[0].digest}" in caplog.text and "ZeroDivisionError" in caplog.text


def test_no_more_is_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_checks, "MOST_KNOWN", 2)
    slow = Slow()
    checks = PlanChecks(slow)
    slow.go_on.set()
    for plan in (*PLANS[:3], PLANS[1], PLANS[0]):
        checks.fault(plan)
    assert slow.order == [1, 2, 3, 1], "the oldest went"


def test_a_list_names_the_rule_and_what_can_be_done() -> None:
    assert refused_line(
        "δ may be at most 1e-05 here, the plan has 0.1. The plan was not accepted. Lower δ."
    ) == (
        "no longer passes the check: δ may be at most 1e-05 here, the plan has 0.1; withdraw it or propose it anew"
    )
