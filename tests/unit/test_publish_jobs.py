"""A release that nobody waits for: kept in the database, told by the API, and never lost by a restart."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from coordinator.audit.log import entries
from coordinator.cli import app
from coordinator.config import CONFIG_FILE, Config, config_text
from coordinator.members.accounts import bootstrap_admin
from coordinator.runs import publishing
from coordinator.runs.noised_counts import accuracy
from coordinator.runs.publish_jobs import PublishJobs
from coordinator.runs.publishing import Publisher
from coordinator.runs.store import RunRow
from coordinator.storage import tables
from coordinator.storage.database import reading, writing
from coordinator.workers.redteam import Gate
from shared.console import run_arguments
from shared.domain.errors import IllegalMove
from shared.domain.plan import Plan
from tests.dashboard_kit import words
from tests.desk import CONSORTIUM, served
from tests.knock import Answer, knock
from tests.runs_kit import RunBoard, runs

assert runs  # the fixture


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for the red team's process, which takes 20 s; everything around it is the real code."""

    def passes(plan: Plan, weights: Path, folder: Path) -> Gate:
        return Gate(True, (), folder / "redteam.json")

    monkeypatch.setattr(publishing, "require_gate", passes)


def send(runs: RunBoard, method: str, path: str, token: str = "", body: Any = None) -> Answer:
    token = token or runs.board.room.accounts.issue_token("Ada", 600.0, "operator")
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    sent = b"" if body is None else json.dumps(body).encode()
    return knock(runs.board.coordinator.asgi, method, f"/api/v1{path}", headers, sent)


def status(runs: RunBoard, run: RunRow, token: str = "") -> dict[str, Any]:
    answer = send(runs, "GET", f"/runs/{run.id}/publishing", token)
    assert answer.status == 200, answer.text
    found: dict[str, Any] = json.loads(answer.text)
    return found


def completed(runs: RunBoard) -> RunRow:
    return runs.sim.drive(runs.sim.start(runs.sim.plan(rounds=1)))


def publisher(runs: RunBoard) -> Publisher:
    found: Publisher = runs.board.coordinator.control.state.publisher
    return found


def jobs(runs: RunBoard) -> PublishJobs:
    """As another process sees them: over the same database, with nothing in memory."""
    return PublishJobs(runs.board.room.engine, runs.board.room.clock)


def restarted(runs: RunBoard) -> Publisher:
    """The publisher of a coordinator that was started anew over the same home."""
    sim, room = runs.sim, runs.board.room
    return Publisher(runs.board.home, sim.store, sim.driver, sim.every_member, jobs(runs), room.clock)


def wait(runs: RunBoard, run: RunRow) -> None:
    pause = threading.Event()
    for _ in range(6000):
        if status(runs, run)["job"]["ended_at"] is not None:
            return
        pause.wait(0.01)
    raise AssertionError("the job did not end")


def actions(runs: RunBoard) -> list[tuple[str, str, Any]]:
    with reading(runs.board.room.engine) as db:
        return [(line.actor, line.action, line.detail) for line in entries(db, limit=1000)]


def test_release_is_begun_by_the_api_and_its_status_leads_to_it(runs: RunBoard) -> None:
    run = completed(runs)
    assert status(runs, run) == {"job": None, "releases": [], "released_as": [], "may_publish": True}
    begun = send(runs, "POST", f"/runs/{run.id}/publishing")
    assert begun.status == 202 and json.loads(begun.text)["ended_at"] is None
    wait(runs, run)
    found = status(runs, run)
    assert found["job"]["release"] == "tiny-1" and found["job"]["problem"] == ""
    assert found["releases"] == found["released_as"] == ["tiny-1"] and not found["may_publish"]
    assert ("account:Ada", "release.publish", {"run": run.id}) in actions(runs)
    assert "Published as tiny-1" in words(runs.browser().get(f"/runs/{run.id}"))


def test_release_that_cannot_be_made_says_why(runs: RunBoard) -> None:
    run = completed(runs)
    (runs.sim.starting / runs.sim.store.starting_weights(run.plan_digest)).unlink()
    send(runs, "POST", f"/runs/{run.id}/publishing")
    wait(runs, run)
    found = status(runs, run)
    assert found["job"]["problem"] and found["job"]["release"] == "" and found["may_publish"]
    assert "release.refused" in [action for _, action, _ in actions(runs)]


def test_no_second_one_is_begun_meanwhile_and_none_of_a_run_that_goes_on(runs: RunBoard) -> None:
    run = completed(runs)
    jobs(runs).begin(run.id)
    refused = send(runs, "POST", f"/runs/{run.id}/publishing")
    assert refused.status == 409 and "No second one was begun" in refused.text
    going = runs.sim.start(runs.sim.plan(rounds=2))
    assert not status(runs, going)["may_publish"]
    refused = send(runs, "POST", f"/runs/{going.id}/publishing")
    assert refused.status == 409 and "Nothing was published" in refused.text
    assert status(runs, going)["job"] is None
    assert send(runs, "POST", "/runs/run_none/publishing").status == 404
    assert send(runs, "GET", "/runs/run_none/publishing").status == 404


def test_member_and_auditor_read_the_status(runs: RunBoard) -> None:
    run = completed(runs)
    jobs(runs).begin(run.id)
    otto = runs.board.room.accounts.issue_token("Otto", 600.0, "operator")
    for token in (runs.token(0), otto):
        assert status(runs, run, token)["job"]["run_id"] == run.id
        assert send(runs, "POST", f"/runs/{run.id}/publishing", token).status == 403


def test_how_a_job_ended_is_known_after_a_restart(runs: RunBoard) -> None:
    run = completed(runs)
    publisher(runs).begin(run.id, "account:Ada")
    wait(runs, run)
    after = restarted(runs)
    after.settle()
    job = after.job(run.id)
    assert job is not None and job == publisher(runs).job(run.id) and job.release == "tiny-1"


def test_job_that_was_under_way_when_the_coordinator_stopped_was_interrupted(runs: RunBoard) -> None:
    run = completed(runs)
    jobs(runs).begin(run.id)
    restarted(runs).settle()
    found = status(runs, run)
    assert "It was interrupted" in found["job"]["problem"] and found["job"]["ended_at"] is not None
    assert "Publish again" in found["job"]["problem"] and found["may_publish"]
    page = words(runs.browser().get(f"/runs/{run.id}"))
    assert "No release was made. It was interrupted" in page and "Publish a release" in page
    restarted(runs).settle()
    assert actions(runs).count(("system", "release.refused", {"code": "interrupted"})) == 1
    publisher(runs).begin(run.id, "account:Ada")
    wait(runs, run)
    assert status(runs, run)["releases"] == ["tiny-1"]


def test_release_that_was_finished_before_the_coordinator_stopped_is_no_interruption(runs: RunBoard) -> None:
    run = completed(runs)
    publisher(runs).publish(run.id, "account:Ada")
    jobs(runs).begin(run.id)
    restarted(runs).settle()
    found = status(runs, run)["job"]
    assert found["release"] == "tiny-1" and found["problem"] == ""


def test_coordinator_settles_the_jobs_when_it_starts(runs: RunBoard) -> None:
    run = completed(runs)
    jobs(runs).begin(run.id)

    async def start_and_stop() -> None:
        control = runs.board.coordinator.control
        async with control.router.lifespan_context(control):
            pass

    asyncio.run(start_and_stop())
    assert "It was interrupted" in status(runs, run)["job"]["problem"]


def test_jobs_of_two_runs_are_two(runs: RunBoard) -> None:
    one, other = completed(runs), completed(runs)
    kept = jobs(runs)
    kept.begin(one.id)
    kept.begin(other.id)
    with pytest.raises(IllegalMove, match="is being made since"):
        kept.begin(one.id)
    kept.end(one.id, problem="A finding.")
    assert [job.run_id for job in kept.open()] == [other.id]
    begun = kept.begin(one.id)
    assert begun.problem == "" and not begun.over and kept.last(one.id) == begun


def about(runs: RunBoard, number: int = 1) -> dict[str, Any]:
    path = runs.board.home / "releases" / "tiny" / str(number) / "about.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def test_notes_of_the_form_are_signed_with_the_release_beside_the_last_useful_validation(
    runs: RunBoard,
) -> None:
    run = runs.sim.drive(runs.sim.start(runs.sim.plan(rounds=3, evaluate_every=1)))
    counted = {
        1: (55.0, 45.0, 5.0),
        2: (60.0, 40.0, 5.0),
        3: (3.0, -9.0, 5.0),
    }  # the last drowned in its noise
    with writing(runs.board.room.engine) as db:
        for number, counts in counted.items():
            names = ("counts_correct", "counts_wrong", "counts_noise_std")
            row = tables.rounds.update().where(tables.rounds.c.number == number)
            db.execute(row.values(dict(zip(names, counts, strict=True))))
    ada = runs.browser()
    assert f'href="/runs/{run.id}/publish"' in ada.get(f"/runs/{run.id}").text
    assert "the weights after round 3 of 3" in words(ada.get(f"/runs/{run.id}/publish"))
    assert "60.0 % ± 3.6 % in round 2; it will" in words(ada.get(f"/runs/{run.id}/publish"))
    begun = ada.post(f"/runs/{run.id}/releases", notes="- A first <b>lens</b>.\r\n\r\nFour members.\r\n")
    assert begun.status_code == 303
    wait(runs, run)
    found = about(runs)
    assert found["notes"] == ["A first <b>lens</b>.", "Four members."] and found["licence"]["id"] == "other"
    share, spread = accuracy(*counted[2]) or (0.0, 0.0)
    assert found["validation"] == {"round_number": 2, "accuracy": share, "spread": spread}
    card = (runs.board.home / "releases/tiny/1/README.md").read_text("utf-8")
    assert "With the weights that round 2 began with" in card and "60.0 % ± 3.6 %" in card
    closed = words(runs.browser().get(f"/runs/{run.id}/publish"))
    assert (
        "Nothing can be published now: these weights, after round 3, are tiny-1 already. Back to the run"
        in closed
    )


def test_paused_run_says_which_release_its_weights_are(runs: RunBoard) -> None:
    run = completed(runs)
    publisher(runs).publish(run.id, "account:Ada")
    move = tables.runs.update().where(tables.runs.c.id == run.id)
    with writing(runs.board.room.engine) as db:
        db.execute(move.values(state="paused"))
    page, form = f"/runs/{run.id}", f"/runs/{run.id}/publish"
    assert "Published as tiny-1 : the weights as they are now, after round 1." in words(
        runs.browser().get(page)
    )
    told = runs.browser().get(form)
    assert 'after round 1, are <a href="/extractors/tiny/1">tiny-1</a> already.' in told.text
    assert "Resume the run: after another closed round there is something new to publish." in words(told)
    with writing(runs.board.room.engine) as db:
        db.execute(move.values(checkpoint_digest="sha256:" + "d5" * 32, current_round=2))
    assert "Published as tiny-1 : the weights after an earlier round." in words(runs.browser().get(page))
    assert status(runs, run)["released_as"] == [] and status(runs, run)["may_publish"]


def test_notes_that_cannot_be_published_come_back_with_the_form(runs: RunBoard) -> None:
    run = completed(runs)
    refused = runs.browser().post(f"/runs/{run.id}/releases", notes="fine\nbell\x07")
    assert refused.status_code == 422 and "Note 2 has the character U+0007" in words(refused)
    assert "\nfine\nbell" in refused.text and status(runs, run)["job"] is None
    token = runs.token(0)
    refused = runs.browser().post(f"/runs/{run.id}/releases", notes=f"use {token}")
    assert refused.status_code == 422 and "The notes hold a secret" in words(refused)
    too_long = runs.browser().post(f"/runs/{run.id}/releases", notes="x" * 20_000)
    assert too_long.status_code == 422 and status(runs, run)["job"] is None


def test_notes_of_the_api_are_optional_and_a_release_keeps_its_own(runs: RunBoard) -> None:
    run = completed(runs)
    assert send(runs, "POST", f"/runs/{run.id}/releases", body={"notes": "a\tb"}).status == 422
    assert send(runs, "POST", f"/runs/{run.id}/releases", body={"notes": "One."}).status == 201
    assert about(runs)["notes"] == ["One."]
    for body in (None, {"notes": ""}, {"notes": "One."}):
        again = send(runs, "POST", f"/runs/{run.id}/releases", body=body)
        assert again.status == 201 and json.loads(again.text)["release"] == "tiny-1"
    other = send(runs, "POST", f"/runs/{run.id}/releases", body={"notes": "Two."})
    assert other.status == 409 and "It was not changed: a release never changes." in other.text
    said = json.loads(send(runs, "GET", "/releases/tiny/1/changes").text)
    assert said["notes"] == ["One."]


def test_terminal_says_of_weights_that_they_are_a_release_already(
    runs: RunBoard, capsys: pytest.CaptureFixture[str]
) -> None:
    run, board = completed(runs), runs.board
    bootstrap_admin(board.home, board.room.accounts)
    with served(board.coordinator.asgi, board.home) as url:
        config = Config(CONSORTIUM, host="127.0.0.1", port=int(urlsplit(url).port or 0))
        (board.home / CONFIG_FILE).write_text(config_text(config))
        for already in (False, True):
            assert run_arguments(app, ["release", "publish", run.id, "--home", str(board.home)]) == 0
            said = capsys.readouterr().out
            assert said.endswith("tiny-1\n")
            assert ("The weights of this run are tiny-1 already. Nothing was made anew." in said) is already
