"""What earlier runs measured: closed rounds with useful counts, and the runs nearest to a plan's ε."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from coordinator.dashboard.frame import TEMPLATES
from coordinator.runs.measured import MOST_SHOWN, Measured, measured_before, nearest
from coordinator.runs.noised_counts import accuracy
from coordinator.runs.proposals import every_plan
from coordinator.runs.round import RoundRecord, Validation
from coordinator.runs.service import RunService
from coordinator.storage import tables
from coordinator.storage.database import writing
from shared.domain.plan import Plan, PlanMember
from shared.domain.run import RoundState
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
    plan = small_plan(members=(PlanMember(board.member.member_id, "North", 5000),), rounds=9)
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


def test_table_shows_the_nearest_and_says_of_how_many() -> None:
    class Check:
        plan = small_plan(target_epsilon=1.0)

    found = [of(epsilon / 2.0) for epsilon in range(1, 21)]
    near = nearest(found, 1.0)
    text = TEMPLATES.get_template("plans/measured.html").render(check=Check, measured=found, near=near)
    assert "12 of 20 earlier runs named x, those nearest to target ε 1" in text
    assert len(near) == MOST_SHOWN and "/runs/run_0.5" in text and "/runs/run_10" not in text
    whole = TEMPLATES.get_template("plans/measured.html").render(
        check=Check, measured=found[:3], near=found[:3]
    )
    assert "Last validation of earlier runs named x;" in whole


def test_measured_runs_are_told_as_json(board: Board) -> None:
    runs: RunService = board.coordinator.control.state.runs
    like = small_plan(members=(PlanMember(board.member.member_id, "North", 5000),), rounds=9)
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
    told = json.loads(knock(board.coordinator.asgi, "GET", path, headers).text)["measured"]
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
