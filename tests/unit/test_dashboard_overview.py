"""The overview says what runs, what waits for whom, who is there, and whether each part is well."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from fastapi import Request

from coordinator.dashboard import health
from shared.domain.clock import FixedClock, SystemClock
from shared.domain.consortium import Purpose
from tests.dashboard_kit import Board, board, words
from tests.full_board import full_board

assert board  # the fixture


def test_overview_says_what_waits_for_whom_and_leads_there(board: Board) -> None:
    board.room.invitations.invite("Clinic F", Purpose.CONTRIBUTE, "operator")
    page = board.browser("Ada").get("/")
    assert "Clinic F invitation not used yet" in words(page)
    assert "0 online 1 offline Offline: North" in words(page)
    assert "Nothing was published yet." in words(page)
    board.room.members.suspend(board.member.member_id, "operator")
    assert "1 suspended" in words(board.browser("Ada").get("/"))


def test_member_sees_neither_invitations_nor_the_health_of_the_machine(board: Board) -> None:
    board.room.invitations.invite("Clinic F", Purpose.CONTRIBUTE, "operator")
    page = board.member_browser().get("/")
    assert page.status_code == 200
    assert "Clinic F" not in page.text and "Health" not in words(page)


def test_health_names_the_part_that_is_not_well(board: Board, monkeypatch) -> None:
    admin = board.browser("Ada")
    # The kit's run driver is never started, and the page says so.
    assert "Rounds failed the run driver has stopped" in words(admin.get("/"))
    assert "Database well SQLite answers" in words(admin.get("/"))
    (board.home / "keys" / "server.pem").write_text("no certificate")
    monkeypatch.setattr(health, "LEAST_FREE_BYTES", 1e18)
    page = words(admin.get("/"))
    assert "Certificate failed the server's certificate cannot be read" in page
    assert "Disk look at it" in page


def test_every_line_of_health_is_for_overseers(board: Board) -> None:
    assert "Health" in words(board.browser("Otto").get("/"))


def test_health_says_what_the_driver_does(board: Board) -> None:
    driver, admin = board.coordinator.control.state.driver, board.browser("Ada")
    driver.start()
    try:
        assert "Rounds well waits for a run" in words(admin.get("/"))
        driver.driving = "run_000000000001"
        assert "Rounds well drives run_000000000001" in words(admin.get("/"))
    finally:
        driver.stop()
        driver.join(10)


def test_catalogue_whose_signature_ended_is_said_to_be_signed_anew(
    prepared_home: Path, tmp_path: Path
) -> None:
    with full_board(prepared_home, tmp_path) as board:
        admin = board.browser("Ada")
        assert "1 in the signed catalogue, valid until" in words(admin.get("/"))
        later = FixedClock(SystemClock().now() + timedelta(days=60))
        object.__setattr__(board.room, "clock", later)
        found = next(one for one in health.every_part(_seen_by(board)) if one.part == "Releases")
        assert found.words == "1 in the signed catalogue; it is signed anew when somebody next asks for it"


def _seen_by(board: Board) -> Request:
    return Request({"type": "http", "app": board.coordinator.control, "headers": []})
