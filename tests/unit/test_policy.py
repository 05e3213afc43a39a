"""The member's own rules: the coordinator proposes, this file decides (clause 7.3)."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from participant.policy import (
    DEFAULT_ARCHITECTURES,
    Policy,
    check_plan,
    check_rules,
    read_policy,
    write_default_policy,
)
from shared.domain.errors import InvalidConfig, PolicyForbids, UnsoundPlan
from shared.domain.plan import Plan, SecureTerms
from shared.domain.privacy import Budget, GaussianEvent, Mode, Unit
from shared.extractors.architectures import TRAINABLE
from shared.privacy.accountant import epsilon
from tests.plans import members, small_plan

PLAN = small_plan(
    trainable_coordinates=1,
    noise_multiplier=4.0,
    sampling_rate=1.0,
    rounds=2,
    quorum=2,
    colluders=1,
    members=members(2, 100, first=1),
)
POLICY = Policy("own", 10.0)
SECURE = replace(
    PLAN,
    privacy=replace(PLAN.privacy, mode=Mode.SECURE),
    quorum=3,
    members=members(4, 100, first=1),
    secure=SecureTerms(2.0**-12, 32, tolerance_steps=1, mask_reach=0, share_threshold=3),
)
SPENT = (GaussianEvent(2.0, 1.0, 1),)
TWO_STEPS = replace(PLAN.training, local_steps=2)


def check(policy: Policy, plan: Plan, unit: Unit = Unit.RECORD, size: int = 100, who: str = "mem_1") -> None:
    check_rules(policy, plan, who, unit, size)


def test_plan_within_the_rules_is_allowed() -> None:
    check(POLICY, PLAN)
    check_plan(POLICY, PLAN, "mem_1", Unit.RECORD, 100, (), ())
    check_plan(POLICY, SECURE, "mem_1", Unit.RECORD, 100, (), ())


@pytest.mark.parametrize(
    ("policy", "plan", "reason"),
    [
        (replace(POLICY, architectures=("vit-tiny",)), PLAN, "architecture fixed-mlp is not among vit-tiny"),
        (replace(POLICY, modes=("secure",)), PLAN, "mode local is not allowed"),
        (replace(POLICY, starting_weights=("sha256:11",)), PLAN, "its starting weights are not on the list"),
        (replace(POLICY, least_quorum=3), PLAN, "its quorum 2 is below 3"),
        (
            replace(POLICY, most_colluders=2),
            SECURE,
            "it holds against 1 colluding members, the policy asks for 2",
        ),
        (POLICY, replace(SECURE, colluders=0), "it holds against 0 colluding members, the policy asks for 1"),
        (
            POLICY,
            replace(SECURE, training=TWO_STEPS),
            "mode secure with more than one local step is not sound",
        ),
        (replace(POLICY, delta=1e-6), PLAN, "its δ 1e-05 is above 1e-06"),
    ],
)
def test_each_rule_refuses_by_name(policy: Policy, plan: Plan, reason: str) -> None:
    with pytest.raises(PolicyForbids) as caught:
        check(policy, plan)
    assert reason in caught.value.message
    assert "No record was touched." in caught.value.message


def test_colluders_matter_only_where_others_noise_is_counted_on() -> None:
    check(replace(POLICY, most_colluders=5), PLAN)
    check(replace(POLICY, most_colluders=0), replace(SECURE, colluders=0))


def test_several_local_steps_are_sound_in_mode_local() -> None:
    check(POLICY, replace(PLAN, training=TWO_STEPS))


def test_member_that_the_plan_does_not_name_refuses_it() -> None:
    with pytest.raises(PolicyForbids, match="this member is not in the plan"):
        check(POLICY, PLAN, who="mem_3")


def test_plan_that_declares_another_size_is_refused_with_both_numbers() -> None:
    with pytest.raises(PolicyForbids, match="declares a size of 100 for this member, it declared 90"):
        check(POLICY, PLAN, size=90)


def test_plan_for_records_is_refused_where_persons_are_to_be_hidden() -> None:
    with pytest.raises(PolicyForbids, match="its unit is record, the data set's is person"):
        check(POLICY, PLAN, unit=Unit.PERSON)


def test_all_reasons_are_named_at_once() -> None:
    strict = replace(POLICY, modes=("secure",), least_quorum=3, delta=1e-6)
    with pytest.raises(PolicyForbids) as caught:
        check(strict, PLAN)
    assert all(part in caught.value.message for part in ("mode local", "quorum 2", "δ 1e-05"))


def test_price_is_composed_with_everything_spent_before() -> None:
    check_plan(replace(POLICY, epsilon=2.0), PLAN, "mem_1", Unit.RECORD, 100, (), ())
    with pytest.raises(PolicyForbids, match=r"would have spent ε = \d+\.\d+ of 2 at δ = 1e-05"):
        check_plan(replace(POLICY, epsilon=2.0), PLAN, "mem_1", Unit.RECORD, 100, SPENT, SPENT)


def test_price_if_every_other_member_deviates_is_capped_only_where_the_policy_says_so() -> None:
    def ask(most: float, spent_alone: tuple[GaussianEvent, ...] = ()) -> None:
        check_plan(
            replace(POLICY, most_epsilon_alone=most), SECURE, "mem_1", Unit.RECORD, 100, (), spent_alone
        )

    alone = epsilon(SECURE.events_alone_of_run(), 1e-5)
    assert alone > 1.5 * epsilon(SECURE.events_of_run(), 1e-5)
    ask(0.0)
    ask(alone * 1.01)
    with pytest.raises(
        PolicyForbids, match=r"were every other member to deviate, .* \(ask for a plan of mode local\)"
    ):
        ask(alone * 0.99)
    with pytest.raises(PolicyForbids, match="were every other member to deviate"):
        ask(alone * 1.01, SPENT)


def test_member_checks_the_soundness_of_a_secure_plan_by_itself() -> None:
    for changes in ({"quorum": 2}, {"secure": None}, {"members": SECURE.members[:3], "quorum": 3}):
        with pytest.raises(UnsoundPlan):
            check_plan(POLICY, replace(SECURE, **changes), "mem_1", Unit.RECORD, 100, (), ())


def test_default_policy_is_read_back_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    write_default_policy(path, "own", 3.0)
    write_default_policy(path, "other", 99.0)
    policy = read_policy(path)
    assert (policy.data_set, policy.budget) == ("own", Budget(3.0, 1e-5))
    assert policy == Policy("own", 3.0, declare_budget=True)


def test_without_a_policy_or_with_a_misspelt_one_nothing_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    with pytest.raises(InvalidConfig, match="There is no policy.toml.*data add --epsilon"):
        read_policy(path)
    path.write_text('data_set = "own"\nepsilon = 3.0\nleast_quorom = 3\n', "utf-8")
    with pytest.raises(InvalidConfig, match="unknown key 'least_quorom'.*Did you mean 'least_quorum'"):
        read_policy(path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("epsilon = inf", "epsilon: expected a finite number, found inf"),
        ("epsilon = nan", "epsilon: expected a finite number, found nan"),
        ("epsilon = -3", "epsilon: expected a number above 0, found -3"),
        ("epsilon = 0", "epsilon: expected a number above 0, found 0"),
        ("epsilon = 3.0\ndelta = 0", "delta: expected a number above 0 and at most 1e-05, found 0"),
        ("epsilon = 3.0\ndelta = 1e-4", "delta: expected a number above 0 and at most 1e-05, found 0.0001"),
        (
            "epsilon = 3.0\nmost_epsilon_alone = -1",
            "most_epsilon_alone: expected 0 or a number above, found -1",
        ),
    ],
)
def test_policy_with_a_ceiling_that_is_none_is_refused_where_it_is_read(
    tmp_path: Path, line: str, said: str
) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(f'data_set = "own"\n{line}\n', "utf-8")
    with pytest.raises(
        InvalidConfig, match=f"^{re.escape(f'policy.toml.{said}. ')}.* Correct this value\\.$"
    ):
        read_policy(path)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ({"std": (0.0,)}, "extractor.std must be from 0.0001 to 10000, found [0.0]"),
        ({"mean": (0.5, 0.5, 0.5)}, "extractor.mean must have 1 number, found 3"),
    ],
)
def test_member_refuses_by_itself_a_plan_whose_pictures_become_no_numbers(
    numbers: dict[str, tuple[float, ...]], said: str
) -> None:
    plan = replace(PLAN, extractor=replace(PLAN.extractor, **numbers))
    with pytest.raises(UnsoundPlan, match=re.escape(said)):
        check_plan(POLICY, plan, "mem_1", Unit.RECORD, 100, (), ())


def test_a_first_policy_allows_every_architecture_that_can_be_trained() -> None:
    assert tuple(TRAINABLE) == DEFAULT_ARCHITECTURES
