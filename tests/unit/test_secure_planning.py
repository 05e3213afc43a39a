"""Mode secure from draft to plan: defaults of clauses 3 and 5, both ε, what its noise comes to, and the grid."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from coordinator.cli_plans import _print_check, out
from coordinator.runs.draft import PlanDraft, PrivacyDraft, TrainingDraft
from coordinator.runs.planning import PlanCheck, complete
from coordinator.runs.routes import _rendered_check
from coordinator.workers.probe import Probe
from shared.domain.errors import UnsoundPlan
from shared.domain.plan import Plan, default_colluders, least_quorum
from shared.domain.privacy import Mode
from shared.domain.strict import build, to_plain
from shared.privacy.accountant import epsilon
from shared.privacy.distributed import (
    COUNT_SCALE,
    grid_variance,
    largest_batch,
    largest_sum,
    share_variances,
)
from shared.privacy.secure_soundness import check_grid
from shared.privacy.soundness import check_soundness
from tests.unit.test_planning import DRAFT, member

TEN = [member(f"m{n:02}", 2000) for n in range(10)]
SECURE = replace(DRAFT, privacy=PrivacyDraft(3.0, 1.0, 0.1), rounds=138)


def checked(draft: PlanDraft = SECURE, members: int = 10, coordinates: int = 1000) -> PlanCheck:
    return complete(draft, "Testing", TEN[:members], Probe("sha256:00", "start", coordinates, 0.01, 4))


def planned(**changes: object) -> Plan:
    return checked(replace(SECURE, **changes)).plan


def secured(plan: Plan, **changes: object) -> Plan:
    return replace(plan, secure=replace(plan.secure, **changes))


def test_defaults_are_those_of_the_protocol() -> None:
    plan = planned()
    assert plan.privacy.mode is Mode.SECURE
    assert (plan.colluders, plan.quorum) == (3, 7) == (default_colluders(10), least_quorum(10))
    assert plan.secure is not None
    assert (plan.secure.ring_bits, plan.secure.tolerance_steps) == (32, 3)
    assert (plan.secure.mask_reach, plan.secure.share_threshold) == (0, 7)
    assert math.log2(plan.secure.grid_width).is_integer()


@pytest.mark.parametrize("members", range(4, 11))
def test_default_quorum_and_colluders_are_sound_for_every_size(members: int) -> None:
    check_soundness(checked(members=members).plan)


def test_more_than_four_drop_outs_share_four_noise_steps() -> None:
    many = [member(f"m{n:02}", 2000) for n in range(30)]
    plan = complete(SECURE, "Testing", many, Probe("sha256:00", "start", 1000, 0.01, 4)).plan
    assert plan.secure is not None
    assert (plan.quorum, plan.secure.tolerance_steps, plan.secure.mask_reach) == (21, 4, 10)


def test_noise_in_the_mean_gradient_is_the_numbers_of_clause_3_6() -> None:
    check = checked()
    assert check.plan.privacy.noise_multiplier == pytest.approx(1.89, abs=0.011)
    scale = 1.89 / check.plan.privacy.noise_multiplier
    assert check.noise.everybody * scale == pytest.approx(0.226, abs=0.001)
    assert check.noise.local * scale == pytest.approx(0.599, abs=0.002)
    assert check.noise.curator * scale == pytest.approx(0.189, abs=0.0005)
    # Three drop-outs leave seven, of whom three may collude: σ·√(7/4)/7.
    assert check.noise.at_quorum * scale == pytest.approx(1.89 * math.sqrt(7 / 4) / 7, rel=0.003)
    alone = checked(replace(SECURE, colluders=0)).noise
    assert alone.everybody * scale == pytest.approx(0.189, abs=0.0005)


def test_without_excess_removal_noise_would_be_sized_for_the_quorum() -> None:
    check = checked()
    plan = check.plan
    assert plan.secure is not None
    # Everything that ten members add: each a share for the 7 − 3 honest ones of the least sum (clause 3.2).
    added = 10 * sum(share_variances(grid_variance(plan), 10, 7, 3, (1, 2, 3)))
    unremoved = math.sqrt(added) * plan.secure.grid_width / 10
    assert unremoved == pytest.approx(plan.privacy.noise_multiplier * math.sqrt(10 / 4) / 10, rel=0.003)
    # Clause 3.9: 1.6 × what ten survivors would need; removal leaves what 10 − 3 honest ones need.
    assert unremoved / check.noise.curator == pytest.approx(1.58, abs=0.01)
    assert check.noise.everybody == pytest.approx(unremoved * math.sqrt(4 / 7), rel=0.003)


def test_one_coarse_noise_step_changes_neither_end() -> None:
    # One step for three drop-outs: a single one costs as much as three, nobody's costs nothing.
    coarse = checked(replace(SECURE, tolerance_steps=1)).noise
    fine = checked().noise
    assert coarse.everybody == pytest.approx(fine.everybody)
    assert coarse.at_quorum == pytest.approx(fine.at_quorum)


def test_noise_alone_that_could_wrap_is_refused_though_all_records_would_fit() -> None:
    """Clause 3.4 counts 12 standard deviations of everybody's noise beside the batches; for the counts as well."""
    plan = secured(planned(), ring_bits=16, grid_width=2.0**-5)
    units = sum(largest_batch(plan, m.member_id) for m in plan.members)
    records = units * plan.privacy.clip_norm_l2 / 2.0**-5
    whole = grid_variance(plan) ** 0.5 * math.sqrt(10 / 4)
    assert largest_sum(plan) == pytest.approx(records + 12 * whole, rel=0.01)
    quiet = replace(plan, privacy=replace(plan.privacy, sampling_rate=0.001, noise_multiplier=1.0))
    check_grid(quiet)
    loud = replace(quiet, privacy=replace(quiet.privacy, noise_multiplier=100.0))
    with pytest.raises(UnsoundPlan, match="the sum may reach .* and would wrap"):
        check_grid(loud)
    few = tuple(replace(m, declared_size=100) for m in plan.members)
    counted = replace(quiet, evaluate_every=10, members=few)
    check_grid(counted)
    loud = replace(counted, privacy=replace(counted.privacy, evaluation_noise_multiplier=60.0))
    with pytest.raises(UnsoundPlan, match="a validation count may reach .* and would wrap"):
        check_grid(loud)


def test_both_epsilons_are_shown_at_both_deltas() -> None:
    check = checked(replace(SECURE, evaluate_every=10))
    cost, plan = check.costs[0], check.plan
    assert cost.epsilon == epsilon(plan.events_of_run(), 1e-5) <= 3.0
    assert cost.epsilon_alone == epsilon(plan.events_alone_of_run(), 1e-5) > 4 * cost.epsilon
    assert cost.epsilon_at_second_delta > cost.epsilon
    assert cost.epsilon_alone_at_second_delta > cost.epsilon_alone
    local = checked(replace(SECURE, privacy=replace(SECURE.privacy, mode=Mode.LOCAL))).costs[0]
    assert local.epsilon_alone == local.epsilon


@pytest.mark.parametrize("members", [1, 2, 3])
def test_fewer_than_four_contributors_fall_back_to_mode_local_and_the_check_says_so(members: int) -> None:
    check = checked(members=members)
    assert (check.plan.privacy.mode, check.plan.secure, check.plan.colluders) == (Mode.LOCAL, None, 0)
    assert check.notes == (
        f"Mode secure needs at least 4 contributors, there are {members}: the plan is of mode local, in which "
        "each member adds all of the noise (clause 3.7).",
    )
    assert checked(members=4).notes == ()


@pytest.mark.parametrize("coordinates", [10, 1000, 100_000])
def test_grid_costs_a_thousandth_where_the_ring_has_room_and_never_wraps(coordinates: int) -> None:
    check = checked(coordinates=coordinates)
    assert check.plan.secure is not None
    assert 0.0 < check.grid_cost <= 2.0**-10
    assert check.plan.sensitivity_l2 == pytest.approx(
        1.0 + check.plan.secure.grid_width * math.sqrt(coordinates)
    )
    assert largest_sum(check.plan) < 2**31
    assert 0.0 < check.additive_slack < 1e-20


def test_grid_is_wider_where_the_range_asks_for_it() -> None:
    large = checked(
        replace(SECURE, privacy=replace(SECURE.privacy, sampling_rate=0.5)), coordinates=11_000_000
    )
    assert 2.0**-10 < large.grid_cost < 0.03
    assert large.plan.secure is not None
    finer = secured(large.plan, grid_width=large.plan.secure.grid_width / 2)
    with pytest.raises(
        UnsoundPlan, match="In a ring of 32 bits everything must stay below 2,147,483,648 grid"
    ):
        check_soundness(finer)


def test_sixteen_bits_halve_the_upload_where_sums_are_small() -> None:
    cheap = PrivacyDraft(8.0, 1.0, 0.005, noise_multiplier=1.0)
    small = replace(SECURE, ring_bits=16, rounds=20, privacy=cheap)
    check = checked(small, members=4)
    assert check.plan.secure is not None
    assert check.plan.secure.ring_bits == 16
    assert check.bytes_per_round == (4 + 2) * 1000 * 4
    assert largest_sum(check.plan) < 2**15
    with pytest.raises(UnsoundPlan, match="A ring of 16 bits has no room for this plan's sums"):
        checked(replace(SECURE, ring_bits=16))
    with pytest.raises(UnsoundPlan, match="a validation count may reach .* and would wrap"):
        checked(replace(small, evaluate_every=5), members=4)


def test_validation_counts_have_room_for_millions_of_records() -> None:
    plan = planned(evaluate_every=5)
    assert plan.declared_total * COUNT_SCALE * 100 < 2**31


def test_largest_batch_is_above_nearly_every_draw_and_never_above_the_whole_data_set() -> None:
    plan = planned()
    name = plan.members[0].member_id
    assert 210 * 1.3 < largest_batch(plan, name) < 210 * 2
    whole = replace(plan, privacy=replace(plan.privacy, sampling_rate=1.0))
    assert largest_batch(whole, name) == pytest.approx(2100)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"training": TrainingDraft(5, 0.5, 0.5)},
            "Mode secure takes 1 local step a round, the plan has 5: later steps start where no public transcript",
        ),
        ({"quorum": 6}, "The quorum must be above (members + colluders) / 2 = 6.5"),
        ({"quorum": 3, "colluders": 3}, "a quorum of 3 and 3 colluders (clause 3.2)"),
        ({"colluders": 4}, "(members + colluders) / 2 = 7"),
        (
            {"tolerance_steps": 0},
            "Without tolerance steps nobody may drop out, and the plan's quorum is 7 of 10",
        ),
        ({"tolerance_steps": 5}, "secure.tolerance_steps must be 0 to 4"),
        ({"ring_bits": 24}, "secure.ring_bits must be 16 or 32"),
    ],
)
def test_unsound_secure_draft_is_refused_with_its_reason(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(UnsoundPlan) as caught:
        planned(**changes)
    assert sentence in caught.value.message
    assert "The plan was not accepted." in caught.value.message


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"share_threshold": 6}, "rebuilt by exactly the quorum's 7 shares, the plan says 6"),
        ({"share_threshold": 8}, "rebuilt by exactly the quorum's 7 shares, the plan says 8"),
        ({"mask_reach": 3}, "must share masks with at least 7 others"),
        ({"mask_reach": -1}, "secure.mask_reach must be 0 or more"),
        ({"grid_width": 0.0}, "secure.grid_width must be above 0 and finite"),
        ({"grid_width": math.nan}, "secure.grid_width must be above 0 and finite"),
        ({"grid_width": 1e-12}, "would wrap (clause 3.4)"),
    ],
)
def test_secure_terms_that_do_not_hold_are_refused_by_members_too(
    changes: dict[str, object], sentence: str
) -> None:
    plan = planned()
    check_soundness(plan)
    with pytest.raises(UnsoundPlan) as caught:
        check_soundness(secured(plan, **changes))
    assert sentence in caught.value.message


def test_grid_so_coarse_that_a_share_is_hardly_noise_is_refused() -> None:
    plan = planned()
    coarse = secured(plan, grid_width=1000.0)
    wide = replace(coarse, privacy=replace(coarse.privacy, noise_multiplier=0.3, target_epsilon=1e6))
    wide = replace(wide, trainable_coordinates=1)
    with pytest.raises(
        UnsoundPlan, match="may differ from Gaussian noise by at most 1e-09 in ε, the plan's could"
    ):
        check_soundness(wide)


def test_secure_terms_belong_to_mode_secure_and_to_no_other() -> None:
    plan = planned()
    rule = "secure must be set in mode secure, and only there"
    with pytest.raises(UnsoundPlan, match=rule):
        check_soundness(replace(plan, secure=None))
    with pytest.raises(UnsoundPlan, match=rule):
        check_soundness(replace(plan, privacy=replace(plan.privacy, mode=Mode.LOCAL)))


def test_secure_plan_is_the_same_after_a_journey_as_plain_values() -> None:
    plan = planned()
    again = build(Plan, json.loads(json.dumps(to_plain(plan))), "plan")
    assert again == plan
    assert again.digest == plan.digest != secured(plan, grid_width=2.0**-20).digest


@pytest.mark.parametrize(("members", "mode"), [(10, "secure"), (3, "local")])
def test_check_prints_both_epsilons_the_noise_and_what_holds_by_count(members: int, mode: str) -> None:
    rendered = json.loads(json.dumps(_rendered_check(checked(members=members)), allow_nan=False))
    with out.capture() as captured:
        _print_check(rendered)
    said = " ".join(captured.get().split())
    assert f"mode {mode}" in said
    assert "Noise in the mean gradient" in said
    assert ("alone" in said) == ("probability 0" in said) == (mode == "secure")
    assert ("Note: Mode secure needs at least 4" in said) == (mode == "local")


def test_epsilon_without_a_bound_is_said_to_have_none() -> None:
    check = checked()
    endless = replace(check, costs=(replace(check.costs[0], epsilon_alone=math.inf),))
    rendered = json.loads(json.dumps(_rendered_check(endless), allow_nan=False))
    with out.capture() as captured:
        _print_check(rendered)
    assert "no bound" in captured.get()


def test_check_says_that_a_shared_heads_label_names_become_public_and_counts_it_for_the_grid() -> None:
    training = replace(DRAFT.training, shared_classes=("cat", "[bold]dog"))
    check = checked(replace(SECURE, training=training), coordinates=20)
    with out.capture() as captured:
        _print_check(json.loads(json.dumps(_rendered_check(check), allow_nan=False)))
    said = " ".join(captured.get().split())
    assert "One training head for all members: 2 classes over 4 numbers of the embedding" in said
    assert "Its label names become public in this plan." in said
    assert "30 coordinates" in said
    plan = check.plan
    assert plan.secure is not None
    assert plan.sensitivity_l2 == pytest.approx(1.0 + plan.secure.grid_width * math.sqrt(30))
    with out.capture() as captured:
        _print_check(json.loads(json.dumps(_rendered_check(checked()), allow_nan=False)))
    assert "training head" not in captured.get()


def test_a_grid_too_fine_for_any_number_is_refused_in_words() -> None:
    plan = secured(planned(), grid_width=1e-300)
    assert math.isinf(grid_variance(plan))
    with pytest.raises(UnsoundPlan):
        check_soundness(plan)


@pytest.mark.parametrize(("members", "said"), [(4, 25), (10, 70), (50, 460), (200, 2000)])
def test_epsilon_alone_at_a_target_of_8_is_what_the_sharp_edges_say(members: int, said: int) -> None:
    many = [member(f"m{n:03}", 2000) for n in range(members)]
    draft = replace(DRAFT, privacy=PrivacyDraft(8.0, 1.0, 0.1), rounds=150)
    cost = complete(draft, "Testing", many, Probe("sha256:00", "start", 1000, 0.01, 4)).costs[0]
    assert cost.epsilon_alone == pytest.approx(said, rel=0.02)
