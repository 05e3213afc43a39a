"""Who is asked in a round, and why everybody else is not."""

from __future__ import annotations

from dataclasses import replace

from coordinator.runs.cohort import choose_cohort
from shared.domain.consortium import MemberState
from shared.domain.plan import PlanMember
from tests.plans import small_plan

ACTIVE = MemberState.ACTIVE
NAMES = ("a", "b", "c")
PLAN = small_plan(members=tuple(PlanMember(name, 10) for name in NAMES))


def test_everybody_of_the_plan_is_asked_in_its_order() -> None:
    states = dict.fromkeys(NAMES, ACTIVE)
    assert choose_cohort(PLAN, states, reversed(NAMES), reversed(NAMES)) == (NAMES, {})


def test_everybody_else_is_named_with_the_first_reason() -> None:
    states = {"a": MemberState.SUSPENDED, "b": ACTIVE, "c": ACTIVE}
    cohort, missing = choose_cohort(PLAN, states, ["a", "c"], ["a", "b"])
    assert cohort == ()
    assert missing == {"a": "suspended", "b": "has not consented", "c": "offline"}


def test_revoked_and_unknown_members_are_named() -> None:
    cohort, missing = choose_cohort(PLAN, {"a": MemberState.REVOKED, "c": ACTIVE}, NAMES, NAMES)
    assert (cohort, missing) == (("c",), {"a": "revoked", "b": "unknown"})


def test_nobody_outside_the_plan_is_asked_whoever_is_online() -> None:
    narrow = replace(PLAN, members=PLAN.members[:1])
    cohort, missing = choose_cohort(narrow, dict.fromkeys(NAMES, ACTIVE), NAMES, NAMES)
    assert (cohort, missing) == (("a",), {})
