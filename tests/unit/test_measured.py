"""What earlier runs measured: closed rounds with useful counts, and the runs nearest to a plan's ε."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from coordinator.dashboard.frame import TEMPLATES
from coordinator.dashboard.plan_lines import measured_facts
from coordinator.runs.measured import MOST_SHOWN, Band, Measured, expected_band, measured_before, nearest
from coordinator.runs.noised_counts import accuracy
from coordinator.runs.proposals import every_plan
from coordinator.runs.round import RoundRecord, Validation
from coordinator.runs.service import RunService
from coordinator.storage import tables
from coordinator.storage.database import writing
from shared.domain.plan import Plan, PlanMember
from shared.domain.run import RoundState
from shared.domain.strict import to_plain
from tests.dashboard_kit import Board, board
from tests.knock import knock
from tests.plans import small_plan

assert board  # the fixture


def test_noise_carries_an_accuracy_neither_below_nothing_nor_above_all() -> None:
    assert accuracy(110.0, -10.0, 5.0) == (1.0, 0.05)
    assert accuracy(-10.0, 110.0, 5.0) == (0.0, 0.05)
    assert accuracy(90.0, 10.0, 2.0) == pytest.approx((0.9, 2.0 * (0.9**2 + 0.1**2) ** 0.5 / 100.0))


def test_accuracy_of_unknown_noise_or_of_no_counts_is_none() -> None:
    assert accuracy(90.0, 10.0, None) is None
    assert accuracy(3.0, -3.0, 5.0) is None and accuracy(-5.0, 3.0, 5.0) is None


def measured(board: Board, plan: Plan) -> list[Measured]:
    return measured_before(board.room.engine, every_plan(board.room.engine), plan)


def test_round_that_ended_with_nothing_is_no_measurement(board: Board) -> None:
    runs: RunService = board.coordinator.control.state.runs
    plan = small_plan(members=(PlanMember(board.member.member_id, 5000),), rounds=9)
    runs.store.add_plan(plan, "operator", "none")
    run, ids = runs.store.create_run(str(plan.digest), "operator"), (board.member.member_id,)
    for number, counts in ((1, (90.0, 10.0)), (2, (-5.0, 1.0)), (3, (20.0, 80.0))):
        record = RoundRecord(number, ids, {})
        attempt = runs.store.open_round(run.id, record)
        record.validation = Validation(*counts, 2.0)
        runs.store.move_round(run.id, number, attempt, RoundState.ASKED)
        if number == 3:
            runs.store.abandon_round(run.id, record, attempt, "too few answered")
        else:
            runs.store.move_round(run.id, number, attempt, RoundState.SUMMED)
            runs.store.close_round(run.id, record, attempt, "sha256:c")
    assert [(one.round_number, one.accuracy) for one in measured(board, plan)] == [(1, 0.9)]
    with writing(board.room.engine) as db:
        db.execute(tables.rounds.update().values(counts_noise_std=None))
    assert measured(board, plan) == []


def of(epsilon: float, run: str = "") -> Measured:
    return Measured(run or f"run_{epsilon:g}", small_plan(target_epsilon=epsilon), 1, 0.5, 0.1, True)


def test_nearest_is_near_as_on_the_dial_and_the_newest_of_equals() -> None:
    found = [of(epsilon) for epsilon in (0.5, 1.0, 2.0, 4.0, 8.0)]
    assert [one.run_id for one in nearest(found, 1.0, 3)] == ["run_0.5", "run_1", "run_2"]
    assert [one.run_id for one in nearest(found, 9.0, 2)] == ["run_4", "run_8"]
    equal = [of(8.0, f"run_{number:02d}") for number in range(20)]
    assert [one.run_id for one in nearest(equal, 1.0)] == [f"run_{number:02d}" for number in range(8, 20)]


def test_band_is_what_runs_at_this_epsilon_measured_or_those_on_both_sides_of_it() -> None:
    found = [
        Measured("a", small_plan(target_epsilon=1.0), 9, 0.4, 0.05, True),
        Measured("b", small_plan(target_epsilon=2.0), 9, 0.6, 0.05, True),
        Measured("c", small_plan(target_epsilon=2.0), 9, 0.64, 0.01, True),
        Measured("d", small_plan(target_epsilon=8.0), 9, 0.98, 0.05, True),
        Measured("e", small_plan(target_epsilon=4.0), 9, 0.1, 0.05, False),
    ]
    assert expected_band(found, 2.0) == Band(pytest.approx(0.55), pytest.approx(0.65), 2.0, 2.0)
    assert expected_band(found, 3.0) == Band(pytest.approx(0.55), 1.0, 2.0, 8.0), (
        "clipped, and without the other's"
    )
    assert expected_band(found, 1.5) == Band(pytest.approx(0.35), pytest.approx(0.65), 1.0, 2.0)
    assert expected_band(found, 0.5) is None and expected_band(found, 9.0) is None, "one side bounds nothing"
    assert expected_band([], 1.0) is None and expected_band(found[4:], 4.0) is None


def measured_words(found: list[Measured], epsilon: float) -> str:
    class Check:
        plan = small_plan(target_epsilon=epsilon)

    facts = measured_facts(found, Check.plan)
    return " ".join(TEMPLATES.get_template("plans/measured.html").render(check=Check, **facts).split())


def test_page_says_what_a_plan_between_two_measured_ones_may_reach() -> None:
    found = [of(1.0), of(4.0)]
    assert "Between the two, this plan is expected at <strong>40.0 % to 60.0 %" in measured_words(found, 2.0)
    assert "No run above it bounds this plan's." in measured_words(found, 8.0)
    assert "No run below it bounds this plan's." in measured_words(found, 0.5)
    assert "expected at" not in measured_words(found, 4.0)
    assert "The 2 runs at it lie between 40.0 % and 60.0 %" in measured_words([of(4.0), of(4.0, "b")], 4.0)


def test_table_shows_the_nearest_and_says_of_how_many() -> None:
    found = [of(epsilon / 2.0) for epsilon in range(1, 21)]
    near, text = nearest(found, 1.0), measured_words(found, 1.0)
    assert "12 of 20 earlier runs named x, those nearest to target ε 1" in text
    assert len(near) == MOST_SHOWN and "/runs/run_0.5" in text and "/runs/run_10" not in text
    assert "Last validation of earlier runs named x;" in measured_words(found[:3], 1.0)


def test_measured_runs_are_told_as_json(board: Board) -> None:
    runs: RunService = board.coordinator.control.state.runs
    like = small_plan(members=(PlanMember(board.member.member_id, 5000),), rounds=9)
    other = replace(like, extractor=replace(like.extractor, width=like.extractor.width + 1), rounds=8)
    for plan in (like, other, replace(like, extractor_name="else")):
        runs.store.add_plan(plan, "operator", "none")
        run = runs.store.create_run(str(plan.digest), "operator")
        record = RoundRecord(1, (board.member.member_id,), {})
        attempt = runs.store.open_round(run.id, record)
        record.validation = Validation(90.0, 10.0, 2.0)
        for state in (RoundState.ASKED, RoundState.SUMMED):
            runs.store.move_round(run.id, 1, attempt, state)
        runs.store.close_round(run.id, record, attempt, "sha256:c")
    headers = {"authorization": f"Bearer {board.member.token}"}
    path = f"/api/v1/plans/{like.digest}/measured"
    answer = json.loads(knock(board.coordinator.asgi, "GET", path, headers).text)
    told, epsilon = answer["measured"], like.privacy.target_epsilon
    assert answer["expected"] == to_plain(expected_band(measured(board, like), epsilon))
    assert answer["expected"]["below"] == epsilon
    # Both began within one second, so either may come first.
    assert sorted(one["same_extractor"] for one in told) == [False, True]
    one = next(found for found in measured(board, like) if found.same_extractor)
    assert next(found for found in told if found["same_extractor"]) == {
        "run_id": one.run_id,
        "plan_digest": str(like.digest),
        "target_epsilon": like.privacy.target_epsilon,
        "round_number": 1,
        "accuracy": one.accuracy,
        "spread": one.spread,
        "same_extractor": True,
    }
    assert knock(board.coordinator.asgi, "GET", "/api/v1/plans/sha256:0/measured", headers).status == 404
