"""What the overview says to wait for: everything that somebody has to act on, and nothing that hides the rest."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from coordinator.dashboard.waiting import waited
from coordinator.dashboard.words import odds
from coordinator.runs.epsilon_book import BOOK
from coordinator.runs.round import RoundRecord
from coordinator.runs.service import RunService
from coordinator.storage import tables
from coordinator.storage.database import writing
from shared.domain.clock import to_text
from shared.domain.consortium import BudgetLeft, Purpose
from shared.domain.plan import PlanMember
from shared.domain.run import RoundState, RunState
from tests.dashboard_kit import Board, Browser, board, words
from tests.desk import enrolment
from tests.plans import small_plan

assert board  # the fixture


def services(board: Board) -> RunService:
    runs: RunService = board.coordinator.control.state.runs
    return runs


def join(board: Board, name: str, needs_approval: bool = False) -> str:
    """The id of a new contributor."""
    secret = board.room.invitations.invite(name, Purpose.CONTRIBUTE, "operator", None, needs_approval)[1]
    return board.room.members.enrol(enrolment(secret)).member_id


def propose(board: Board, name: str, quorum: int, *ids: str, **changes: object) -> str:
    """The digest of a plan for these members."""
    every = tuple(PlanMember(one, 5000) for one in ids)
    plan = small_plan(extractor_name=name, members=every, quorum=quorum, **changes)
    services(board).store.add_plan(plan, "account:Ada", "none")
    return str(plan.digest)


def consent(board: Board, digest: str, *ids: str) -> None:
    for one in ids:
        services(board).store.add_consent(digest, one, "signature")


def waiting(browser: Browser) -> str:
    """The words of that card."""
    found = re.search(r'id="waiting">(.*?)</section>', browser.get("/").text, re.DOTALL)
    assert found is not None
    return " ".join(re.sub(r"<[^>]+>", "", found[1]).split())


def test_plan_that_only_an_admin_can_start_waits_for_one(board: Board) -> None:
    north = board.member.member_id
    digest = propose(board, "x0", 1, north)
    consent(board, digest, north)
    assert f"x0 {digest[7:15]}ready to start" in waiting(board.browser("Ada"))
    run = services(board).start(digest, "account:Ada")
    assert waiting(board.browser("Ada")) == f"x0, {run.id}1 member offline: North"
    board.coordinator.control.state.online = lambda: frozenset({north})
    assert waiting(board.browser("Ada")) == "Nothing waits for anybody."


def test_a_run_waits_for_its_own_members_that_are_offline_and_each_is_told_of_itself(board: Board) -> None:
    north, *others = board.member.member_id, *(join(board, f"Hospital {number}") for number in range(4))
    digest = propose(board, "x0", 1, north, *others)
    consent(board, digest, north, *others[:3])
    run = services(board).store.create_run(digest, "account:Ada")
    said = waiting(board.browser("Ada"))
    assert f"x0, {run.id}4 members offline" in said and "Hospital" not in said
    assert "1 member offline: North" in waiting(board.member_browser())
    services(board).store.move_run(run.id, RunState.PAUSED, "account:Ada")
    assert "offline" not in waiting(board.browser("Ada"))


def test_missing_consents_are_one_line_a_plan_with_its_age_and_few_names(board: Board) -> None:
    ids = [join(board, f"Hospital {number}") for number in range(5)]
    digest = propose(board, "x0", 5, *ids)
    with writing(board.room.engine) as db:
        moment = to_text(board.room.clock.now() - timedelta(minutes=38))
        db.execute(tables.plans.update().values(proposed_at=moment))
    assert f"x0 {digest[7:15]}5 consents missing, 38 min" in waiting(board.browser("Ada"))
    assert "Hospital" not in waiting(board.browser("Ada"))
    consent(board, digest, *ids[2:4])
    said = "3 consents missing: Hospital 0, Hospital 1, Hospital 4, 38 min"
    assert said in waiting(board.browser("Ada"))


def test_two_hundred_missing_consents_hide_no_budget_and_no_invitation(board: Board) -> None:
    ids = [join(board, f"Hospital {number:03d}") for number in range(23)]
    for number in range(9):
        propose(board, f"x{number}", 23, *ids)
    board.room.status.report(ids[7], "0.1.0", BudgetLeft(0.08, 0.4, 1e-5))
    board.room.invitations.invite("Clinic F", Purpose.CONTRIBUTE, "operator")
    shown, _, folded = waiting(board.browser("Ada")).partition("more")
    assert "Hospital 007budget 92 % used" in shown and "Clinic Finvitation not used yet" in shown
    assert shown.index("budget") < shown.index("invitation") < shown.index("consents")
    assert (shown + folded).count("23 consents missing") == 9


def test_member_with_a_missing_consent_and_a_spent_budget_waits_for_both(board: Board) -> None:
    north = board.member.member_id
    propose(board, "x0", 1, north)
    board.room.status.report(north, "0.1.0", BudgetLeft(0.001, 0.4, 1e-5))
    said = waiting(board.browser("Ada"))
    assert "Northbudget 99 % used" in said and "1 consent missing: North" in said


def test_plan_without_a_quorum_of_members_that_are_still_in_waits_for_nobody(board: Board) -> None:
    north, west = board.member.member_id, join(board, "West")
    propose(board, "x0", 2, north, west)
    consent(board, propose(board, "x1", 1, north, west), west)
    assert "ready to start, 1 consent missing: North" in waiting(board.browser("Ada"))
    board.room.members.revoke(west, "operator")
    said = waiting(board.browser("Ada"))
    assert "x0" not in said
    assert "1 consent missing: North" in said and "ready" not in said, "no round would ask West"
    for path in ("/members", f"/members/{north}"):
        step = words(board.browser("Ada").get(path))
        assert "consent to plan x1" in step and "1 more" not in step, "x0 waits for nobody there either"


def test_member_is_told_of_plans_that_name_it_and_of_nobody_else(board: Board) -> None:
    north, west = board.member.member_id, join(board, "West")
    propose(board, "x0", 2, north, west)
    propose(board, "x1", 1, west)
    said = waiting(board.member_browser())
    assert "2 consents missing, yours among them" in said
    assert "x1" not in said and "West" not in said


def test_paused_run_and_member_to_approve_stand_before_consents(board: Board) -> None:
    north = board.member.member_id
    digest = propose(board, "x0", 1, north)
    run = services(board).store.create_run(digest, "account:Ada")
    services(board).store.move_run(run.id, RunState.PAUSED, "account:Ada")
    join(board, "West", needs_approval=True)
    propose(board, "x1", 1, north)
    said = waiting(board.browser("Ada"))
    assert said.index("paused: resume or stop") < said.index("Westapprove") < said.index("consent missing")


def test_member_that_went_is_said_with_the_moment_and_the_last_to_go_stands_first(board: Board) -> None:
    west, now = join(board, "West"), board.room.clock.now()
    board.room.status.seen([board.member.member_id], "2026-01-02T09:12:00Z")
    board.room.status.seen([west], to_text(now))
    join(board, "East")
    said = words(board.browser("Ada").get("/"))
    when = "2 Jan, 09:12" if now.year == 2026 else "2 Jan 2026"
    assert f"Offline: West since {now:%H:%M} UTC, North since {when} UTC, East never seen" in said


def test_second_running_run_waits_for_the_one_that_is_driven(board: Board) -> None:
    north = board.member.member_id
    first, second = (
        services(board).store.create_run(propose(board, name, 1, north), "operator") for name in ("x0", "x1")
    )
    board.coordinator.control.state.driver.driving = first.id
    said = words(board.browser("Ada").get("/"))
    assert f"waits for {first.id}" in said and f"waits for {second.id}" not in said
    assert said.count("mode local · running") == 1


def test_epsilon_on_the_overview_stands_beside_its_odds(board: Board) -> None:
    north = board.member.member_id
    digest = propose(board, "x0", 1, north)
    store = services(board).store
    run = store.create_run(digest, "operator")
    assert "Nothing is charged yet" in words(board.browser("Ada").get("/"))
    store.move_round(run.id, 1, store.open_round(run.id, RoundRecord(1, (north,), {})), RoundState.ASKED)
    board.browser("Ada").get("/")
    BOOK.wait()
    page = words(board.browser("Ada").get("/"))
    assert "a guess right at most" in page and run.id in board.browser("Ada").get("/").text
    assert "whoever guesses, from an even bet, whether one record was in the data" in page


def test_odds_without_a_bound_say_that_there_is_none() -> None:
    assert odds(None, 1e-5) == odds(float("inf"), 1e-5) == "100 % (there is no bound)"
    assert odds(50.0, 1e-5) == "nearly 100 %"
    assert odds(1.0, 1e-5) == "73.2 %"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(59, ""), (60, "1 min"), (3599, "59 min"), (3600, "1 h"), (172_799, "47 h"), (259_200, "3 d")],
)
def test_waiting_is_told_coarsely(board: Board, seconds: int, said: str) -> None:
    now = board.room.clock.now().replace(microsecond=0)
    assert waited(to_text(now - timedelta(seconds=seconds)), now) == said
