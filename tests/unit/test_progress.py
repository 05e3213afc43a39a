"""How far a run is, as JSON: the figures of its page, and both ε of each member; a member reads its own alone."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from coordinator.runs.epsilon_book import BOOK, EpsilonBook, compute
from coordinator.runs.history import charged_by_member, charged_rounds
from coordinator.runs.publishing import cohort_rounds
from coordinator.runs.store import RunRow
from coordinator.storage import tables
from coordinator.storage.database import writing
from shared.domain.run import RunState
from shared.privacy.accountant import epsilon
from shared.release.certificate import spends
from tests.dashboard_kit import words
from tests.knock import Answer, knock
from tests.runs_kit import RunBoard, runs

assert runs  # the fixture


def person(runs: RunBoard) -> str:
    return runs.board.room.accounts.issue_token("Otto", 600.0, "operator")


def ask(runs: RunBoard, run: RunRow, token: str) -> Answer:
    headers = {"authorization": f"Bearer {token}"}
    return knock(runs.board.coordinator.asgi, "GET", f"/api/v1/runs/{run.id}/progress", headers)


def progress(runs: RunBoard, run: RunRow, token: str = "") -> dict[str, Any]:
    answer = ask(runs, run, token or person(runs))
    assert answer.status == 200, answer.text
    found: dict[str, Any] = json.loads(answer.text)
    return found


def finished(runs: RunBoard, secure: bool = False, **changes: object) -> RunRow:
    make = runs.sim.secure_plan if secure else runs.sim.plan
    run = runs.sim.drive(runs.sim.start(make(rounds=3, evaluate_every=1, **changes)))
    with writing(runs.board.room.engine) as db:
        counts = {"counts_correct": 60.0, "counts_wrong": 40.0, "counts_noise_std": 5.0}
        db.execute(tables.rounds.update().values(counts))
    return run


def test_progress_says_what_the_page_says(runs: RunBoard) -> None:
    run = finished(runs)
    found, page = progress(runs, run), words(runs.browser().get(f"/runs/{run.id}"))
    assert (found["state"], found["current_round"], found["planned_rounds"]) == ("completed", 3, 3)
    assert "completed · 3 of 3 rounds" in page and found["closed"] == 3 and found["abandoned"] == 0
    assert found["validated"] == {"number": 3, "accuracy": 0.6, "spread": pytest.approx(0.036, abs=1e-3)}
    assert "60.0 % ± 3.6 % after round 3" in page
    rounds = runs.sim.store.rounds(run.id)
    assert found["bytes_up"] == sum(row["bytes_up"] for row in rounds) > 0
    assert sum(found["seconds"].values()) == pytest.approx(
        sum(sum(row["seconds"].values()) for row in rounds)
    )
    assert found["pace_s"] > 0 and found["eta_s"] is None, "a run that is over has nothing left"


def test_every_member_s_epsilon_is_what_its_certificate_will_say(runs: RunBoard) -> None:
    run = finished(runs, secure=True)
    first = progress(runs, run)
    assert [m["charged_rounds"] for m in first["members"]] == [3, 3, 3, 3]
    BOOK.wait()
    found = progress(runs, run)
    plan = runs.sim.store.plan(run.plan_digest)
    spend = spends(plan, cohort_rounds(runs.sim.store.rounds(run.id)))
    assert found["delta"] == plan.privacy.delta and found["target_epsilon"] == plan.privacy.target_epsilon
    for member in found["members"]:
        of = spend[member["member_id"]]
        assert member["spent"]["rounds"] == 3
        assert member["spent"]["epsilon"] == pytest.approx(epsilon(of.events, plan.privacy.delta))
        assert member["spent"]["epsilon_alone"] == pytest.approx(epsilon(of.events_alone, plan.privacy.delta))
        assert member["spent"]["epsilon_alone"] > member["spent"]["epsilon"]
    assert found["planned_epsilon"][-1] == {
        **found["members"][0]["spent"],
        "rounds": plan.rounds,
    }, "all planned rounds are gone through"


def test_member_that_was_never_asked_spent_nothing_and_the_others_their_own(runs: RunBoard) -> None:
    absent = runs.sim.members[3]
    runs.sim.carrier.offline.add(absent.id)
    run = finished(runs, quorum=2, deadline_s=4.0)
    progress(runs, run)
    BOOK.wait()
    by_id = {m["member_id"]: m for m in progress(runs, run)["members"]}
    assert by_id[absent.id]["charged_rounds"] == 0
    assert by_id[absent.id]["spent"] == {"rounds": 0, "epsilon": 0.0, "epsilon_alone": 0.0}
    assert by_id[runs.sim.members[0].id]["spent"]["epsilon"] > 0.0
    engine = runs.board.room.engine
    charged = charged_by_member(engine, run.id)
    assert charged == {m.id: charged_rounds(engine, run.id, m.id) for m in runs.sim.members[:3]}


def test_member_reads_its_own_row_and_nothing_of_another(runs: RunBoard) -> None:
    run = finished(runs, secure=True)
    mine, others = runs.sim.members[1], [runs.sim.members[n] for n in (0, 2, 3)]
    answer = ask(runs, run, runs.token(1))
    found = json.loads(answer.text)
    assert [m["member_id"] for m in found["members"]] == [mine.id]
    assert [m["name"] for m in found["round"]["members"]] == [mine.name]
    assert found["round"]["counts"] == {"unmasked": 3}
    for other in others:
        assert other.id not in answer.text and other.name not in answer.text


def test_running_run_says_what_is_left_at_its_pace(runs: RunBoard) -> None:
    run = runs.sim.start(runs.sim.plan(rounds=9))
    assert progress(runs, run)["round"] is None and progress(runs, run)["eta_s"] is None
    plan = runs.sim.store.plan(run.plan_digest)
    runs.sim.driver._one_round(run.id, plan, 1, runs.sim.driver.server_state(run, plan))
    found = progress(runs, run)
    assert found["state"] == "running" and found["current_round"] == 1
    assert found["eta_s"] == pytest.approx(8 * found["pace_s"])
    assert found["bytes_per_s"] == pytest.approx(
        (found["bytes_up"] + found["bytes_down"]) / sum(found["seconds"].values()), rel=1e-3
    )
    runs.sim.store.move_run(run.id, RunState.PAUSED, "operator")
    assert progress(runs, run)["eta_s"] is None


def test_run_that_waits_for_another_says_for_which(runs: RunBoard) -> None:
    first = runs.sim.start(runs.sim.plan(rounds=9))
    second = runs.sim.start(runs.sim.plan(rounds=8))
    runs.board.coordinator.control.state.driver.driving = first.id
    assert progress(runs, second)["waits_for"] == first.id
    assert progress(runs, first)["waits_for"] is None


def test_open_round_says_what_each_member_does(runs: RunBoard) -> None:
    waiting = runs.sim.members[1]
    run = runs.sim.start(runs.sim.plan(rounds=1, quorum=2, deadline_s=30.0))
    runs.sim.carrier.held.add(waiting.id)
    with runs.driving(run):
        until = time.monotonic() + 10
        now = progress(runs, run)["round"]
        while now is None or now["counts"].get("uploaded") != 3:
            assert time.monotonic() < until, now
            now = progress(runs, run)["round"]
        assert {m["member_id"]: m["word"] for m in now["members"]}[waiting.id] == "training"
        assert now["phases"][0] == {"name": "train", "done": 3, "of": 4, "state": "now"}
        assert 0.0 < now["deadline_s"] <= 30.0
        runs.sim.carrier.release(waiting.id)


def test_epsilon_of_several_members_is_computed_in_one_go(runs: RunBoard) -> None:
    plan = runs.sim.secure_plan(rounds=3)
    book = EpsilonBook()
    assert book.spent_each(plan, [[1], [], [1, 2]])[0] is None
    book.wait()
    both = book.spent_each(plan, [[1], [], [1, 2]])
    assert both[0] == compute(plan, [1]) and both[2] == compute(plan, [1, 2])
    assert both[1] is not None and both[1].rounds == 0


def test_there_is_no_progress_of_a_run_that_is_not_there(runs: RunBoard) -> None:
    headers = {"authorization": f"Bearer {person(runs)}"}
    answer = knock(runs.board.coordinator.asgi, "GET", "/api/v1/runs/run_none/progress", headers)
    assert answer.status == 404 and "There is no run run_none" in answer.text
