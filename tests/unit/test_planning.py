"""From a draft to a complete plan: defaults of the protocol, what it costs, and what is refused by name."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from coordinator.members.names import Names
from coordinator.runs.draft import PlanDraft, PrivacyDraft, TrainingDraft
from coordinator.runs.planning import LEAST_NOISE, check_soundness, complete, cost_of
from coordinator.workers.probe import Probe
from shared.domain.consortium import Member, MemberState, Node, Purpose
from shared.domain.errors import InvalidConfig, NotFound, UnsoundPlan
from shared.domain.extractor import ExtractorSpec, RecordKind
from shared.domain.ids import MemberId
from shared.domain.plan import Plan, ServerOptimizer, SharedHead, least_quorum
from shared.domain.privacy import Mode
from shared.domain.strict import build, to_plain
from shared.privacy.accountant import epsilon

PROBE = Probe("sha256:00", "start.safetensors", 1000, 0.01, 4)
TRAINING = TrainingDraft(1, 0.5, 0.5)
PRIVACY = PrivacyDraft(8.0, 1.0, 1.0, Mode.LOCAL, noise_multiplier=4.0)
DRAFT = PlanDraft("digits", ExtractorSpec("fixed-mlp", 1, 8, 8, 4), TRAINING, PRIVACY, rounds=3)


def member(name: str, size: int = 200, **changes: object) -> Member:
    fields: dict = {"purpose": Purpose.CONTRIBUTE, "state": MemberState.ACTIVE, **changes}
    return Member(
        id=MemberId(f"mem_{name}"),
        name=name,
        identity_public_key="00" * 32,
        declared_size=size,
        node=Node("pem", "cpu", "0.1.0"),
        enrolled_at="2026-01-01T00:00:00Z",
        **fields,
    )


MEMBERS = [member(name) for name in "cabd"]


def planned(draft: PlanDraft = DRAFT, members: list[Member] = MEMBERS) -> Plan:
    return complete(draft, "Testing", members, PROBE).plan


def privacy(**changes: object) -> PlanDraft:
    return replace(DRAFT, privacy=replace(PRIVACY, **changes))


def extractor(**changes: object) -> PlanDraft:
    return replace(DRAFT, extractor=replace(DRAFT.extractor, **changes))


def test_every_active_contributor_with_a_size_is_in_the_plan_in_a_fixed_order() -> None:
    others = [
        member("user", purpose=Purpose.USE),
        member("gone", state=MemberState.REVOKED),
        member("away", state=MemberState.SUSPENDED),
        member("empty", size=0),
    ]
    listed = [m.member_id for m in planned(members=MEMBERS + others).members]
    assert listed == ["mem_a", "mem_b", "mem_c", "mem_d"]
    assert planned(members=MEMBERS[::-1]).digest == planned().digest


def test_default_quorum_is_the_least_whole_number_above_two_thirds() -> None:
    assert [least_quorum(n) for n in range(1, 11)] == [1, 2, 3, 3, 4, 5, 5, 6, 7, 7]
    assert planned().quorum == 3


def test_noise_is_as_small_as_the_target_allows_and_no_smaller() -> None:
    draft = privacy(noise_multiplier=None)
    plan = planned(draft)
    sigma = plan.privacy.noise_multiplier
    assert epsilon(plan.events_of_run(), plan.privacy.delta) <= 8.0
    with pytest.raises(UnsoundPlan, match="promises ε = 8 and its rounds cost"):
        planned(privacy(noise_multiplier=sigma * 0.99))


def test_validation_is_paid_for_out_of_the_same_target() -> None:
    without = planned(privacy(noise_multiplier=None))
    with_it = planned(replace(privacy(noise_multiplier=None), evaluate_every=1))
    assert with_it.privacy.noise_multiplier > without.privacy.noise_multiplier
    assert epsilon(with_it.events_of_run(), 1e-5) <= 8.0


def test_easy_target_still_gets_the_least_noise() -> None:
    plan = planned(privacy(noise_multiplier=None, target_epsilon=150.0))
    assert plan.privacy.noise_multiplier == LEAST_NOISE


def test_cost_is_shown_at_two_deltas_with_bytes_and_seconds() -> None:
    check = complete(replace(DRAFT, training=replace(TRAINING, local_steps=2)), "Testing", MEMBERS, PROBE)
    cost = check.costs[0]
    assert cost.expected_batch_size == 200.0
    assert cost.seconds_per_round == pytest.approx(200 * 2 * 0.01)
    assert cost.epsilon == pytest.approx(epsilon(check.plan.events_of_run(), 1e-5))
    assert cost.epsilon_at_second_delta > cost.epsilon
    assert check.bytes_per_round == 2 * 4 * 1000 * 4
    copies = complete(
        replace(DRAFT, training=replace(TRAINING, augmentations=("flip",), augmentation_multiplicity=4)),
        "Testing",
        MEMBERS,
        PROBE,
    )
    assert copies.costs[0].seconds_per_round == pytest.approx(200 * 4 * 0.01)


@pytest.mark.parametrize(
    ("draft", "sentence"),
    [
        (privacy(delta=2e-5), "δ may be at most 1e-05 here"),
        (privacy(delta=0.0), "δ may be at most 1e-05 here"),
        (privacy(noise_multiplier=0.29), "noise multiplier must be from 0.3 to 10000, the plan has 0.29"),
        (privacy(target_epsilon=1.0), "promises ε = 1 and its rounds cost"),
    ],
)
def test_unsound_plan_is_refused_by_name(draft: PlanDraft, sentence: str) -> None:
    with pytest.raises(UnsoundPlan) as caught:
        planned(draft)
    assert sentence in caught.value.message
    assert "The plan was not accepted." in caught.value.message


def test_organisation_named_twice_is_refused() -> None:
    with pytest.raises(UnsoundPlan, match="Each organisation contributes once .clause 5.1., a is named"):
        planned(replace(DRAFT, members=("a", "b", "a")))


@pytest.mark.parametrize(
    ("draft", "rule"),
    [
        (replace(DRAFT, quorum=0), "quorum must be 1 to 4"),
        (replace(DRAFT, quorum=5), "quorum must be 1 to 4"),
        # Where float32 norms underflow, nothing would be clipped; where updates overflow, that would tell.
        (privacy(clip_norm_l2=1e-30), "clip_norm_l2 must be from 0.0001"),
        (privacy(clip_norm_l2=1e30), "clip_norm_l2 must be from 0.0001"),
        (replace(DRAFT, training=TrainingDraft(1, 1e38, 1.0)), "learning_rate must be above 0 and at most"),
        (replace(DRAFT, training=TrainingDraft(1, 1.0, 1e38)), "head_learning_rate must be above 0"),
        (
            privacy(sampling_rate=1e-9),
            "sampling_rate times declared size must be 1 to 100,000 for each member",
        ),
        (replace(DRAFT, rounds=2_000_000), "rounds times local_steps must be at most"),
        (
            replace(DRAFT, training=replace(TRAINING, augmentation_multiplicity=2)),
            "training.augmentation_multiplicity must be 1 to 64, and 1 without augmentations",
        ),
        (
            replace(DRAFT, training=replace(TRAINING, augmentations=("cutmix",))),
            "augmentations must be among flip, shift2; found cutmix",
        ),
        (extractor(std=(0.0,)), "extractor.std must be from 0.0001 to 10000, found [0.0]"),
        (extractor(std=(-0.5,)), "extractor.std must be from 0.0001 to 10000, found [-0.5]"),
        (extractor(std=(1e-50,)), "extractor.std must be from 0.0001 to 10000, found [1e-50]"),
        (extractor(mean=(1e39,)), "extractor.mean must be from -10000 to 10000, found [1e+39]"),
        (extractor(mean=(0.5,) * 3), "extractor.mean must have 1 number, found 3"),
        (extractor(std=()), "extractor.std must have 1 number, found 0"),
        (extractor(channels=3, std=(0.5,) * 2), "extractor.std must have 1 or 3 numbers, found 2"),
        (extractor(channels=2), "extractor.channels must be 1 (grey) or 3 (RGB), found 2"),
    ],
)
def test_number_out_of_its_bounds_is_refused_by_name(draft: PlanDraft, rule: str) -> None:
    with pytest.raises(UnsoundPlan) as caught:
        planned(draft)
    assert rule in caught.value.message
    assert "found " in caught.value.message
    assert caught.value.message.endswith("The plan was not accepted. Correct these numbers.")


def test_mean_and_std_mean_nothing_to_a_text() -> None:
    text = ExtractorSpec("ngram-bag", 1, 1, 64, 4, mean=(), std=(0.0,), kind=RecordKind.TEXT)
    assert planned(replace(DRAFT, extractor=text)).extractor == text


def test_large_member_needs_a_smaller_delta() -> None:
    large = [*MEMBERS, member("e", size=50_000)]
    with pytest.raises(UnsoundPlan, match="δ may be at most 2e-06 here .* the plan has 1e-05"):
        planned(members=large)
    assert planned(privacy(delta=2e-6), large).privacy.delta == 2e-6


@pytest.mark.parametrize("name", ["two--hyphens", "hyphen-", "-hyphen", "Capital", "", "dot.s", "x" * 65])
def test_name_that_no_hubs_client_could_ask_for_is_refused(name: str) -> None:
    with pytest.raises(InvalidConfig, match="extractor_name expects .* no hub's client could ask for"):
        planned(replace(DRAFT, extractor_name=name))


def test_plan_from_before_keeps_a_name_that_no_new_one_gets() -> None:
    plan = replace(planned(), extractor_name="two--hyphens-")
    assert cost_of(build(Plan, to_plain(plan), "plan"), Names(), PROBE).plan == plan
    check_soundness(plan)


def test_plan_without_anybody_is_refused() -> None:
    with pytest.raises(UnsoundPlan, match="needs at least one active contributor"):
        planned(members=[member("user", purpose=Purpose.USE)])


def test_member_that_cannot_contribute_is_named() -> None:
    members = [*MEMBERS, member("away", state=MemberState.SUSPENDED)]
    with pytest.raises(NotFound, match="away, nobody: no active contributor with a declared size"):
        planned(replace(DRAFT, members=("a", "away", "nobody")), members)


def test_all_numbers_out_of_range_are_named_at_once() -> None:
    draft = replace(
        DRAFT,
        rounds=0,
        evaluate_every=-1,
        deadline_s=0.05,
        training=TrainingDraft(0, 0.0, -1.0),
        privacy=replace(
            PRIVACY,
            sampling_rate=1.5,
            clip_norm_l2=0.0,
            target_epsilon=math.nan,
            evaluation_noise_multiplier=0.9,
        ),
        server=ServerOptimizer("sgd", averaging_decay=1.0),
    )
    with pytest.raises(UnsoundPlan) as caught:
        planned(draft)
    for field in (
        "rounds",
        "local_steps",
        "training.learning_rate",
        "head_learning_rate",
        "sampling_rate",
        "clip_norm_l2",
        "target_epsilon",
        "evaluation_noise_multiplier",
        "evaluate_every",
        "deadline_s",
        "server.name",
        "averaging_decay",
    ):
        assert field in caught.value.message


def test_plan_is_the_same_after_a_journey_as_plain_values() -> None:
    plan = planned()
    again = build(Plan, to_plain(plan), "plan")
    assert again == plan
    assert again.digest == plan.digest


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 4},
        {"quorum": 2},
        {"deadline_s": 121.0},
        {"starting_weights": "sha256:01"},
        {"server": ServerOptimizer("fedadam")},
        {"training": replace(TRAINING.terms, augmentations=("flip",))},
    ],
)
def test_any_change_is_another_digest(change: dict[str, object]) -> None:
    assert replace(planned(), **change).digest != planned().digest


def test_weights_are_shares_of_the_declared_sizes() -> None:
    plan = planned(members=[member("a", 300), member("b", 100)])
    assert [plan.weight(m.member_id) for m in plan.members] == [0.75, 0.25]
    assert plan.weight("mem_x") == plan.expected_batch_size("mem_x") == 0.0


def test_rounds_cost_together_what_the_run_costs() -> None:
    plan = replace(planned(), rounds=5, evaluate_every=2)
    by_round = [event for n in range(1, 6) for event in plan.events_of_round(n)]
    for kind in plan.events_of_run():
        same = [replace(event, count=kind.count) == kind for event in by_round]
        assert sum(event.count for event, it_is in zip(by_round, same, strict=True) if it_is) == kind.count
    check_soundness(plan)


def test_learning_rates_stay_or_follow_a_cosine() -> None:
    plan = planned()
    assert [plan.learning_rate_factor(n) for n in range(1, plan.rounds + 1)] == [1.0] * plan.rounds
    falling = replace(plan, rounds=4, training=replace(TRAINING.terms, schedule="cosine"))
    expected = [1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)]
    assert [falling.learning_rate_factor(n) for n in range(1, 5)] == pytest.approx(expected)
    with pytest.raises(UnsoundPlan, match="training.schedule must be among constant, cosine"):
        planned(replace(DRAFT, training=replace(TRAINING, schedule="step")))


def shared(*classes: str, draft: PlanDraft = DRAFT) -> PlanDraft:
    return replace(draft, training=replace(TRAINING, shared_classes=classes))


def test_shared_classes_make_one_head_that_is_summed_with_the_extractor() -> None:
    plan = planned(shared("cat", "dog", "owl"))
    assert plan.shared_head == SharedHead(("cat", "dog", "owl"), inputs=4)
    assert (plan.extractor_coordinates, plan.trainable_coordinates) == (1000, 1000 + 3 * 5)
    assert build(Plan, to_plain(plan), "plan") == plan
    assert plan.digest != planned(shared("dog", "cat", "owl")).digest


def test_plan_without_shared_classes_is_written_as_it_always_was() -> None:
    plain = to_plain(planned())
    assert "shared_head" not in plain
    assert "shared_classes" not in plain["training"]
    assert planned().digest == planned(shared()).digest
    assert planned().extractor_coordinates == planned().trainable_coordinates


def test_head_costs_bytes_and_no_epsilon() -> None:
    private, together = (complete(draft, "Testing", MEMBERS, PROBE) for draft in (DRAFT, shared("a", "b")))
    assert [cost.epsilon for cost in together.costs] == [cost.epsilon for cost in private.costs]
    assert together.bytes_per_round - private.bytes_per_round == 2 * 4 * 4 * 2 * 5


@pytest.mark.parametrize(
    ("classes", "rule"),
    [
        (("cat",), "training.shared_classes must be 2 to 1000 different names"),
        (("cat", "dog", "cat"), "training.shared_classes must be 2 to 1000 different names"),
        (tuple(str(n) for n in range(1001)), "training.shared_classes must be 2 to 1000 different names"),
        (("cat", ""), "must have 1 to 100 printable characters"),
        (("cat", "x" * 101), "must have 1 to 100 printable characters"),
        (("cat", "dog\n"), "must have 1 to 100 printable characters"),
        (("cat", "\u202edog"), "must have 1 to 100 printable characters"),
    ],
)
def test_list_of_shared_classes_that_is_none_is_refused_by_name(classes: tuple[str, ...], rule: str) -> None:
    with pytest.raises(UnsoundPlan) as caught:
        planned(shared(*classes))
    assert rule in caught.value.message


def test_shared_head_that_does_not_fit_the_coordinates_is_refused() -> None:
    plan = planned(shared("cat", "dog"))
    assert plan.shared_head is not None
    for head, rule in (
        (replace(plan.shared_head, inputs=0), "shared_head.inputs must be at least 1"),
        (replace(plan.shared_head, inputs=1000), "trainable_coordinates must hold the extractor's and"),
    ):
        with pytest.raises(UnsoundPlan, match=rule):
            check_soundness(replace(plan, shared_head=head))


def test_purpose_is_part_of_the_digest_and_a_plan_without_one_is_written_as_it_always_was() -> None:
    told = planned(replace(DRAFT, purpose="  Reads scanned forms.  "))
    assert told.purpose == "Reads scanned forms." and build(Plan, to_plain(told), "plan") == told
    assert told.digest != planned().digest
    assert "purpose" not in to_plain(planned()) and planned(replace(DRAFT, purpose=" ")) == planned()


@pytest.mark.parametrize("text", ["x" * 501, "two\nlines", "a\u202eb", "a\x1b[2Jb", "a\u200bb"])
def test_purpose_that_is_no_line_of_text_is_refused_by_whoever_checks(text: str) -> None:
    rule = "purpose must be one line of at most 500 characters that can be seen, found "
    with pytest.raises(UnsoundPlan, match=rule):
        planned(replace(DRAFT, purpose=text))
    with pytest.raises(
        UnsoundPlan, match=rule
    ):  # a member's own check, of a plan that the coordinator let through
        check_soundness(replace(planned(), purpose=text))
