"""The page of a run where something is unusual: before its first round, queued, paused, odd counts, made again."""

from __future__ import annotations

import csv
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.dashboard.run_charts import Window, validation_chart
from coordinator.dashboard.words import ago
from coordinator.runs import history
from coordinator.runs.noised_counts import accuracy
from coordinator.storage import tables
from coordinator.storage.database import writing
from shared.domain.clock import from_text
from shared.domain.run import RunState
from shared.privacy.accountant import epsilon
from tests.dashboard_kit import words
from tests.full_board import FullBoard, full_board
from tests.knock import knock
from tests.runs_kit import RunBoard, runs
from tests.unit.test_dashboard_runs import finished, part

assert runs  # the fixture


@pytest.fixture
def full(prepared_home: Path, tmp_path: Path) -> Iterator[FullBoard]:
    with full_board(prepared_home, tmp_path) as board:
        yield board


def test_page_has_a_line_for_each_member_before_anybody_was_asked(runs: RunBoard) -> None:
    """A live page fills in what is there: a line that it did not begin with would never appear."""
    run = runs.sim.start(runs.sim.plan(rounds=1))
    page = runs.browser().get(f"/runs/{run.id}")
    for member in runs.sim.members:
        assert f"{member.name} not asked yet" in part(page.text, f"bar-{member.id}")
    mine = runs.sim.members[0]
    own = runs.member_browser(0).get(f"/runs/{run.id}").text
    assert f'id="bar-{mine.id}"' in own and own.count('id="bar-') == 1


def test_overview_pauses_and_resumes_for_those_who_may(runs: RunBoard) -> None:
    run = runs.sim.start(runs.sim.plan(rounds=2))
    admin = runs.browser()
    assert f'formaction="/runs/{run.id}/pause"' in admin.get("/").text
    assert admin.post(f"/runs/{run.id}/pause").status_code == 303
    page = admin.get("/").text
    assert f'formaction="/runs/{run.id}/resume"' in page and "/pause" not in page
    assert "formaction" not in runs.browser("Otto").get("/").text


def test_members_that_were_still_training_when_a_round_was_left_are_not_late(runs: RunBoard) -> None:
    waiting = runs.sim.members[1]
    run = runs.sim.start(runs.sim.plan(rounds=1, deadline_s=60.0))
    runs.sim.carrier.held.add(waiting.id)
    browser = runs.browser()
    driving = threading.Thread(target=runs.sim.drive, args=(run,), daemon=True)
    driving.start()
    give_up = time.monotonic() + 20
    while "3 uploaded" not in browser.get(f"/runs/{run.id}").text:
        assert time.monotonic() < give_up
        time.sleep(0.05)
    browser.post(f"/runs/{run.id}/pause")
    driving.join(20)
    line = part(browser.get(f"/runs/{run.id}").text, f"bar-{waiting.id}")
    assert "broken off" in line and "late" not in line


def test_run_that_waits_for_another_says_for_which(runs: RunBoard) -> None:
    first, second = (runs.sim.start(runs.sim.plan(rounds=n)) for n in (1, 2))
    driver = runs.board.coordinator.control.state.driver
    assert "The first round opens as soon as a quorum" in words(runs.browser().get(f"/runs/{second.id}"))
    driver.driving = first.id
    assert f"this one waits for {first.id}" in words(runs.browser().get(f"/runs/{second.id}"))
    assert "waits for" not in words(runs.browser().get(f"/runs/{first.id}"))


def test_last_round_of_a_stopped_run_leads_to_no_further_one(runs: RunBoard) -> None:
    run = runs.sim.start(runs.sim.plan(rounds=3))
    runs.sim.store.move_run(run.id, RunState.PAUSED, "test")
    runs.sim.store.move_run(run.id, RunState.RUNNING, "test")
    close = runs.sim.store.close_round

    def close_and_stop(*arguments: object) -> None:
        close(*arguments)  # type: ignore[arg-type]
        runs.sim.store.move_run(run.id, RunState.STOPPED, "test")

    runs.sim.store.close_round = close_and_stop  # type: ignore[assignment]
    runs.sim.drive(run)
    page = runs.browser().get(f"/runs/{run.id}/rounds/1").text
    assert f"/runs/{run.id}/rounds/2" not in page


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((60.0, 40.0, 5.0), (0.6, 5.0 * (0.16 + 0.36) ** 0.5 / 100.0)),
        ((130.0, -30.0, 10.0), (1.0, 0.1)),
        ((-5.0, 25.0, 1.0), (0.0, 0.05)),
        ((3.0, -9.0, 1.0), None),
        ((15.0, 1.0, 4.1), None),
        ((60.0, 40.0, None), None),
    ],
)
def test_accuracy_is_one_that_can_be_and_has_an_error_bar(
    counts: tuple[float, float, float | None], expected: tuple[float, float] | None
) -> None:
    assert accuracy(*counts) == (None if expected is None else pytest.approx(expected))


def test_chart_of_counts_that_noise_carried_above_one_stays_in_its_frame(runs: RunBoard) -> None:
    run = finished(runs)
    with writing(runs.board.room.engine) as db:
        db.execute(
            tables.rounds.update().values(counts_correct=130.0, counts_wrong=-30.0, counts_noise_std=10.0)
        )
    chart = validation_chart(history.round_lines(runs.board.room.engine, run.id), Window(1, 3))
    assert chart is not None
    assert "100.0 % ± 10.0 %" in part(runs.browser().get(f"/runs/{run.id}").text, "validation")
    assert "e+" not in str(chart) and "114" not in str(chart)


def test_run_whose_checkpoint_moved_on_can_be_published_again(full: FullBoard) -> None:
    admin, releases = full.browser("Ada"), full.coordinator.control.state.releases
    published = releases.claimed(releases.find("digits", "1")).manifest.checkpoint_digest
    _move_run(full, state=RunState.COMPLETED.value, checkpoint_digest=published)
    page = admin.get(f"/runs/{full.run}")
    assert "Published as digits-1" in words(page) and "/publish" not in page.text
    _move_run(full, checkpoint_digest="sha256:" + "d5" * 32)
    assert f'href="/runs/{full.run}/publish"' in admin.get(f"/runs/{full.run}").text


def test_epsilon_of_the_chart_comes_as_csv(runs: RunBoard) -> None:
    plan = runs.sim.secure_plan(rounds=8, evaluate_every=4)
    run = runs.sim.start(plan)
    answer = runs.member_browser(0).get(f"/runs/{run.id}/epsilon.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(answer.text.splitlines()))
    assert (rows[0]["charged_rounds"], rows[-1]["charged_rounds"]) == ("1", "8")
    whole = [
        epsilon(events, plan.privacy.delta) for events in (plan.events_of_run(), plan.events_alone_of_run())
    ]
    assert [float(rows[-1][name]) for name in ("epsilon", "epsilon_alone")] == pytest.approx(whole)


def _move_run(full: FullBoard, **values: str) -> None:
    with writing(full.room.engine) as db:
        db.execute(sa.update(tables.runs).where(tables.runs.c.id == full.run).values(**values))


def test_why_a_run_ended_names_nobody_to_a_member(full: FullBoard) -> None:
    """Wrong shares came from somebody: that is for those who run the consortium."""
    words_of_ours = "Wrong shares came from South."
    with writing(full.room.engine) as db:
        db.execute(sa.update(tables.runs).values(state=RunState.FAILED.value, reason=words_of_ours))
        db.execute(sa.update(tables.rounds).values(note=words_of_ours))
        db.execute(
            sa.insert(tables.round_events).values(
                run_id=full.run,
                number=2,
                attempt=1,
                kind="round.abandoned",
                detail=words_of_ours,
                at="2026-01-01T00:00:00Z",
                seconds=1.0,
            )
        )
    pages = [f"/runs/{full.run}", f"/runs/{full.run}/rounds/2"]
    for path in (*pages, f"/api/v1/runs/{full.run}", "/api/v1/runs", f"/api/v1/runs/{full.run}/events"):
        member, admin = (_seen(full, path, token) for token in (full.member.token, ""))
        assert "Wrong shares" in admin, path
        assert "Wrong shares" not in member, path


def _seen(full: FullBoard, path: str, token: str) -> str:
    """What a member's program or browser reads, or without a token an admin's."""
    if not path.startswith("/api/"):
        return (full.member_browser() if token else full.browser("Ada")).get(path).text
    token = token or full.room.accounts.issue_token("Otto", 60.0, "operator")
    return knock(full.coordinator.asgi, "GET", path, {"authorization": f"Bearer {token}"}).text


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-3.0, "just now"),
        (0.05, "just now"),
        (3.9, "3 s ago"),
        (130.0, "2 min 10 s ago"),
        (90_000.0, "25 h 00 min ago"),
    ],
)
def test_moments_are_told_in_whole_seconds(seconds: float, said: str) -> None:
    then = "2026-11-22T12:00:00Z"
    assert ago(then, from_text(then) + timedelta(seconds=seconds)) == said
