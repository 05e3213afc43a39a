"""What a plan's page says of consents that do not count, of a withdrawn plan, and of one that fails a check."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.audit.log import entries
from coordinator.runs.service import RunService
from coordinator.runs.store import RunStore
from coordinator.storage.database import reading
from shared.domain.clock import FixedClock, SystemClock
from shared.domain.consortium import Purpose
from shared.domain.plan import Plan, PlanMember
from shared.domain.run import RunState
from tests.dashboard_kit import Board, open_board, words
from tests.desk import enrolment
from tests.plans import small_plan
from tests.unit.test_run_store import record

NAMES = ("South", "East")


@dataclass
class PlanBoard(Board):
    """Three members, and a plan to which two of them consented; two are its quorum."""

    plan: Plan

    @property
    def runs(self) -> RunService:
        runs: RunService = self.coordinator.control.state.runs
        return runs

    @property
    def path(self) -> str:
        return f"/plans/{self.plan.digest}"

    def id_of(self, name: str) -> str:
        return next(m.id for m in self.room.members.every() if m.name == name)

    def add(self, plan: Plan, *names: str) -> Plan:
        self.runs.store.add_plan(plan, "account:Ada", "none")
        for name in names:
            self.runs.store.add_consent(str(plan.digest), self.id_of(name), "ab" * 64)
        return plan


@pytest.fixture
def board(prepared_home: Path, tmp_path: Path) -> Iterator[PlanBoard]:
    opened = open_board(prepared_home, tmp_path / "coordinator")
    for name in NAMES:
        secret = opened.room.invitations.invite(name, Purpose.CONTRIBUTE, "operator")[1]
        opened.room.members.enrol(enrolment(secret))
    members = tuple(PlanMember(m.id, 5000) for m in opened.room.members.every())
    plan = small_plan(
        members=members,
        quorum=2,
        noise_multiplier=2.0,
        sampling_rate=0.1,
        extractor_name="tiny",
        trainable_coordinates=10,
    )
    made = PlanBoard(**vars(opened), plan=plan)
    made.add(plan, *NAMES)
    yield made
    made.coordinator.carrier.stop()
    made.coordinator.engine.dispose()


@pytest.mark.parametrize("state", ["suspended", "revoked"])
def test_consent_of_a_member_that_was_shut_out_is_shown_as_not_counting_and_why(
    board: PlanBoard, state: str
) -> None:
    ada = board.browser("Ada")
    assert (
        "2 of 3 consented; quorum 2" in words(ada.get(board.path))
        and "Start the run" in ada.get(board.path).text
    )
    members = board.room.members
    {"suspended": members.suspend, "revoked": members.revoke}[state](board.id_of("East"), "operator")
    page = ada.get(board.path)
    said = words(page)
    assert "1 of 3 consented; quorum 2" in said and "start-button" not in page.text
    assert f"East ( {state} ) consented too; that does not count" in said.replace(
        f"({state})", f"( {state} )"
    )
    assert f"does not count {state}; consented" in said
    assert "1 of 3" in words(ada.get("/plans")) and "ready to start" not in words(ada.get("/plans"))
    refused = ada.post(f"{board.path}/runs")
    assert refused.status_code == 403 and f"What East ({state}) signed does not count" in words(refused)


def test_late_consents_are_spoken_of_only_while_one_is_missing(board: PlanBoard) -> None:
    late = "Whoever has not consented when the run starts can still do so"
    assert late in words(board.browser("Ada").get(board.path))
    assert "An admin can start the run." in words(board.browser("Otto").get(board.path))
    board.runs.store.add_consent(str(board.plan.digest), board.member.member_id, "ab" * 64)
    said = words(board.browser("Ada").get(board.path))
    assert "3 of 3 consented" in said and late not in said


def test_revoked_member_that_never_consented_is_not_waited_for(board: PlanBoard) -> None:
    board.room.members.revoke(board.id_of("South"), "operator")
    board.room.members.revoke(board.member.member_id, "operator")
    said = words(board.browser("Ada").get(board.path))
    assert "A run can start when 1 more consents." in said and "Waiting for" not in said
    assert "none revoked" in said


def test_second_run_waits_until_who_was_in_the_first_consents_again(board: PlanBoard) -> None:
    ada, digest, clock = board.browser("Ada"), str(board.plan.digest), FixedClock(SystemClock().now())
    store = RunStore(board.room.engine, clock)
    clock.advance(60)
    run = store.create_run(digest, "account:Ada")
    answered = record(1, board.id_of("East"))
    store.abandon_round(run.id, answered, store.open_round(run.id, answered), "too few")
    assert "One consent pays for one run" not in words(ada.get(board.path)), "the first is still under way"
    store.move_run(run.id, RunState.STOPPED, "account:Ada")

    page = ada.get(board.path)
    assert "Another can start when enough members consent again; used up is that of East" in words(page)
    assert "start-button" not in page.text
    refused = ada.post(f"{board.path}/runs")
    assert refused.status_code == 403 and f"used up those of East ({run.id}). No run was started" in words(
        refused
    )

    clock.advance(60)
    store.add_consent(digest, board.id_of("East"), "ab" * 64)
    assert "start-button" in ada.get(board.path).text


def test_plan_is_withdrawn_once_its_extractors_name_is_typed(board: PlanBoard) -> None:
    ada, north = board.browser("Ada"), board.member_browser()
    for typed in ("", "Tiny", "tiny2", str(board.plan.digest)):
        refused = ada.post(f"{board.path}/withdraw", name=typed)
        assert refused.status_code == 422 and "type its extractor's name exactly: tiny" in words(refused)
    assert "waits for you" in words(north.get("/plans"))
    answer = ada.post(f"{board.path}/withdraw", name="tiny")
    assert answer.headers["location"] == board.path
    page = ada.get(board.path)
    assert "withdrawn No consent to it counts, and no run can begin from it" in words(page)
    for gone in ("start-button", "/withdraw", "progress"):
        assert gone not in page.text
    assert "plan withdrawn; consented" in words(page)
    with reading(board.room.engine) as connection:
        (line,) = [e for e in entries(connection) if e.action == "plan.withdraw"]
    assert line.actor == "account:Ada"


def test_members_see_that_a_plan_was_withdrawn_and_are_asked_for_nothing(board: PlanBoard) -> None:
    north = board.member_browser()
    assert "consent to plan tiny" in words(board.browser("Ada").get("/members"))
    board.runs.withdraw(str(board.plan.digest), "account:Ada")
    listed, page = words(north.get("/plans")), words(north.get(board.path))
    assert "withdrawn" in listed and "waits for you" not in listed
    assert "withdrawn No consent to it counts" in page and "Your consent is missing" not in page
    for path in ("/", f"/members/{board.member.member_id}"):
        said = words(north.get(path))
        assert "consent to plan" not in said and "consents missing" not in said, path
    assert "plan withdrawn" in words(north.get(f"/members/{board.member.member_id}"))
    for browser in (north, board.browser("Otto")):
        assert browser.post(f"{board.path}/withdraw", name="tiny").status_code == 403


def test_plan_that_a_run_began_from_has_no_form_to_withdraw_it_and_stays(board: PlanBoard) -> None:
    ada, run = board.browser("Ada"), board.runs.start(str(board.plan.digest), "account:Ada")
    assert f'action="{board.path}/withdraw"' not in ada.get(board.path).text
    refused = ada.post(f"{board.path}/withdraw", name="tiny")
    assert refused.status_code == 409 and f"Run {run.id} began from plan" in words(refused)


def test_api_says_whose_consent_counts_and_withdraws(board: PlanBoard) -> None:
    board.room.members.suspend(board.id_of("East"), "operator")
    token = board.room.accounts.issue_token("Ada", 600.0, "operator")
    api, headers = board.browser(), {"authorization": f"Bearer {token}"}
    (listed,) = api.get("/api/v1/plans", headers=headers).json()["plans"]
    counts = {m["name"]: (m["consented"], m["counts"]) for m in listed["members"]}
    assert counts == {"North": (False, False), "South": (True, True), "East": (True, False)}
    shown = api.request("POST", f"/api/v1{board.path}/withdraw", headers=headers)
    assert shown.status_code == 200 and shown.json()["withdrawn"] is True
    assert set(shown.json()["uncounted"].values()) == {"plan withdrawn"}
    again = api.request("POST", f"/api/v1{board.path}/withdraw", headers=headers)
    assert again.status_code == 409 and "was withdrawn, for good" in again.json()["detail"]


def test_plan_that_fails_a_check_of_today_has_a_page_that_says_which_and_starts_no_run(
    board: PlanBoard,
) -> None:
    terms = replace(board.plan.privacy, noise_multiplier=0.05)
    bad = board.add(replace(board.plan, privacy=terms), *NAMES)
    path = f"/plans/{bad.digest}"
    for browser in (board.browser("Ada"), board.browser("Otto"), board.member_browser()):
        page = browser.get(path)
        assert page.status_code == 200
        said = words(page)
        assert "fails the check 2 of 3 consented" in said
        assert "The noise multiplier must be from 0.3 to 10000, the plan has 0.05" in said
        assert "No run can start" in said and "start-button" not in page.text
        assert "What it costs" not in said and "What it promises" not in said
    ada = board.browser("Ada")
    compared = words(ada.get(f"/plans/compare?a={board.plan.digest}&b={bad.digest}"))
    assert "fails a check of this version: The noise multiplier" in compared
    refused = ada.post(f"{path}/runs")
    assert refused.status_code == 403 and "noise multiplier must be from 0.3" in words(refused)
    assert ada.post(f"{path}/withdraw", name="tiny").status_code == 303
    assert board.runs.store.runs() == []


REFUSED = (
    "no longer passes the check: The noise multiplier must be from 0.3 to 10000, the plan has 0.05; withdraw it or "
    "propose it anew"
)


@pytest.fixture
def worn(board: PlanBoard) -> Plan:
    """A second plan, to which a quorum consented; no software of today would have it."""
    terms = replace(board.plan.privacy, noise_multiplier=0.05)
    return board.add(replace(board.plan, extractor_name="worn", privacy=terms), *NAMES)


def listed(board: PlanBoard, name: str) -> dict[str, Any]:
    """The line of that plan in the API, once it was checked."""
    headers = {"authorization": f"Bearer {board.room.accounts.issue_token('Otto', 600.0, 'operator')}"}
    api = board.browser()
    for _ in range(1000):
        plans = {
            one["extractor_name"]: one for one in api.get("/api/v1/plans", headers=headers).json()["plans"]
        }
        if plans[name]["fault"] is not None:
            return plans[name]
        time.sleep(0.02)
    raise AssertionError(f"{name} is still being checked")


def test_lists_do_not_wait_for_what_fails_the_check_and_say_so(board: PlanBoard, worn: Plan) -> None:
    assert listed(board, "worn")["fault"].startswith("The noise multiplier must be from 0.3 to 10000")
    assert listed(board, "tiny")["fault"] == ""
    for browser in (board.browser("Ada"), board.browser("Otto"), board.member_browser()):
        rows = re.findall(r"<tr>.*?</tr>", browser.get("/plans").text, re.DOTALL)
        row = next(row for row in rows if "worn" in row)
        assert REFUSED in row and 'state bad">fails the check' in row
        for untrue in (
            "waiting for consents",
            "ready to start",
            "waits for you",
            "missing:",
            "being checked",
        ):
            assert untrue not in row
        overview = browser.get("/").text
        waits = overview[overview.index('id="waiting"') :].partition("</section>")[0]
        (line,) = [line for line in waits.split("<li>") if "worn" in line]
        assert REFUSED in line and f"/plans/{worn.digest}" in line
        assert "ready" not in line and "consent" not in line
        assert waits.index("worn") < waits.index("tiny"), "before what goes on by itself"


def test_nobody_is_asked_to_consent_to_what_fails_the_check(board: PlanBoard, worn: Plan) -> None:
    listed(board, "worn")
    ada, north = board.browser("Ada"), f"/members/{board.member.member_id}"
    for path in ("/members", north):
        said = words(ada.get(path))
        assert "consent to plan tiny" in said and "1 more" not in said and "plan worn" not in said, path
    page = ada.get(north)
    assert "plan fails the check" in words(page)
    assert f"plan consent {board.plan.digest}" in page.text
    assert f"plan consent {worn.digest}" not in page.text


def test_api_says_of_one_plan_at_once_that_it_fails_the_check_and_starts_none(
    board: PlanBoard, worn: Plan
) -> None:
    headers = {"authorization": f"Bearer {board.room.accounts.issue_token('Ada', 600.0, 'operator')}"}
    api, path = board.browser(), f"/api/v1/plans/{worn.digest}"
    assert "the plan has 0.05" in api.get(path, headers=headers).json()["fault"]
    refused = api.request("POST", f"{path}/runs", headers=headers)
    assert refused.status_code == 403 and "the plan has 0.05" in refused.json()["detail"]
    assert api.request("POST", f"{path}/withdraw", headers=headers).status_code == 200
    assert listed(board, "worn")["fault"] == "", "nothing could begin from it anyway"
    assert "worn" not in words(board.browser("Ada").get("/"))


def test_a_plans_page_says_that_consent_is_agreeing_to_be_named(board: PlanBoard) -> None:
    """Clause 8.4."""
    page = words(board.browser("Ada").get(board.path))
    assert "Whoever consents agrees to be named in the release, to anybody who may read it" in page
