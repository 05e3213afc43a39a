"""The account page: one's own sessions, tokens, password and second factor; and the steps of signing in."""

from __future__ import annotations

import html
import re

import pyotp
import pytest

from coordinator.audit.log import entries
from coordinator.dashboard.pages_session import HALF_WAY
from coordinator.dashboard.sessions import COOKIE
from coordinator.storage.database import reading
from shared.domain.clock import SystemClock
from tests.dashboard_kit import Board, Browser, board, words
from tests.desk import PASSWORD, Web

assert board  # the fixture
OTHER_PASSWORD = "another long phrase"


def actions(board: Board) -> list[str]:
    with reading(board.room.engine) as connection:
        return [event.action for event in entries(connection, limit=1000)]


def code_of(secret: str, later: int = 0) -> str:
    return pyotp.TOTP(secret).generate_otp(int(SystemClock().now().timestamp()) // 30 + later)


def with_second_factor(browser: Browser) -> tuple[str, list[str]]:
    """(secret, recovery codes), set up as a person does it."""
    answer = browser.post("/account/second-factor", current=PASSWORD)
    secret = re.sub(r"\s", "", re.findall(r'id="secret">([^<]+)<', answer.text)[0])
    answer = browser.post("/account/second-factor/confirm", code=code_of(secret))
    codes = html.unescape(re.findall(r'id="recovery">([^<]+)<', answer.text)[0]).split()
    return secret, codes


def session_ids(browser: Browser) -> list[str]:
    return re.findall(r'action="/account/sessions/(tok_[0-9a-f]+)/end"', browser.get("/account").text)


def test_sessions_are_listed_with_this_one_marked_and_end_one_by_one(board: Board) -> None:
    first, second = board.browser("Otto"), board.browser("Otto")
    said = words(first.get("/account"))
    assert said.count("A program, 127.0.0.1") == 2 and said.count("this one") == 1
    other = next(i for i in session_ids(first) if f"{i}/end" not in _own_row(first))
    assert first.post(f"/account/sessions/{other}/end").headers["location"] == "/account"
    assert second.get("/").status_code == 303 and first.get("/").status_code == 200
    mine = session_ids(first)[0]
    answer = first.post(f"/account/sessions/{mine}/end")
    assert answer.headers["location"] == "/sign-in" and COOKIE not in first.cookies


def _own_row(browser: Browser) -> str:
    rows = browser.get("/account").text.split("<tr>")
    return next(row for row in rows if "this one" in row)


def test_all_other_sessions_end_at_once(board: Board) -> None:
    first, second, third = (board.browser("Otto") for _ in range(3))
    answer = first.post("/account/sessions/end-others")
    assert answer.status_code == 303
    assert "2 other sessions ended." in words(first.get("/account"))
    assert [browser.get("/").status_code for browser in (first, second, third)] == [200, 303, 303]
    assert board.browser("Ada").get("/").status_code == 200


def test_a_token_is_shown_once_works_and_stops_when_revoked(board: Board) -> None:
    browser = board.browser("Otto")
    made = browser.post("/account/tokens", name="backup script", days=30)
    token = re.findall(r'id="new-token">(clt_[\w-]+)<', made.text)[0]
    api = Web(board.coordinator.control, {"authorization": f"Bearer {token}"})
    assert api.get("/members").status_code == 200
    page = browser.get("/account")
    assert token not in page.text and "backup script" in words(page)
    token_id = re.findall(r"/account/tokens/(tok_[0-9a-f]+)/revoke", page.text)[0]
    browser.post(f"/account/tokens/{token_id}/revoke")
    assert api.get("/members").status_code == 401
    assert {"token.issued", "token.revoked"} <= set(actions(board))


@pytest.mark.parametrize(
    ("name", "days", "problem"),
    [("", 30, "1 to 60 characters"), ("x" * 61, 30, "1 to 60 characters"), ("x", 900, "900 were asked for")],
)
def test_a_token_has_a_name_and_an_end(board: Board, name: str, days: int, problem: str) -> None:
    answer = board.browser("Otto").post("/account/tokens", name=name, days=days)
    assert answer.status_code == 422 and problem in words(answer)
    assert actions(board)[-1] == "form.refused"


def test_a_token_for_programs_opens_no_page_and_makes_no_token(board: Board) -> None:
    made = board.browser("Otto").post("/account/tokens", name="x", days=1)
    token = re.findall(r'id="new-token">(clt_[\w-]+)<', made.text)[0]
    stolen = board.browser()
    stolen.cookies.set(COOKIE, token, domain="desk.local")
    assert stolen.get("/account").status_code == 303


def test_a_new_password_needs_the_old_one_and_ends_everything_else(board: Board) -> None:
    browser, other = board.browser("Otto"), board.browser("Otto")
    fields = {"password": OTHER_PASSWORD, "again": OTHER_PASSWORD}
    wrong = browser.post("/account/password", current="not my password", **fields)
    assert wrong.status_code == 422 and "current password is not right" in words(wrong)
    differs = browser.post("/account/password", current=PASSWORD, **fields | {"again": "x" * 12})
    assert "typed in two different ways" in words(differs)
    short = browser.post("/account/password", current=PASSWORD, password="short", again="short")
    assert "at least 12 characters" in words(short)
    assert other.get("/").status_code == 200
    assert browser.post("/account/password", current=PASSWORD, **fields).status_code == 303
    assert browser.get("/").status_code == 200 and other.get("/").status_code == 303
    assert board.browser().sign_in("Otto").status_code == 401
    assert board.browser().sign_in("Otto", OTHER_PASSWORD).status_code == 303


def test_a_second_factor_is_set_up_confirmed_asked_for_and_turned_off(board: Board) -> None:
    browser = board.browser("Otto")
    wrong = browser.post("/account/second-factor", current="not my password")
    assert wrong.status_code == 422
    secret, codes = with_second_factor(browser)
    assert len(codes) == 10 and "10 recovery codes left" in words(browser.get("/account"))

    again = board.browser()
    half = again.sign_in("Otto", next="/audit")
    assert half.headers["location"] == "/sign-in/code" and COOKIE not in again.cookies
    assert again.get("/").status_code == 303
    assert "also asks for a code" in words(again.get("/sign-in/code"))
    refused = again.request("POST", "/sign-in/code", data={"code": "000000"})
    assert refused.status_code == 401 and COOKIE not in again.cookies
    done = again.request("POST", "/sign-in/code", data={"code": code_of(secret, 1)})
    assert done.headers["location"] == "/audit" and HALF_WAY not in again.cookies
    assert again.get("/audit").status_code == 200

    assert again.post("/account/second-factor/remove", code="000000").status_code == 422
    assert again.post("/account/second-factor/remove", code=codes[0]).status_code == 303
    assert board.browser("Otto").get("/").status_code == 200
    assert [a for a in actions(board) if a.startswith("second-factor")] == [
        "second-factor.on",
        "second-factor.off",
    ]


def test_a_recovery_code_signs_in(board: Board) -> None:
    _, codes = with_second_factor(board.browser("Otto"))
    browser = board.browser()
    browser.sign_in("Otto")
    assert browser.request("POST", "/sign-in/code", data={"code": codes[3]}).status_code == 303
    assert "9 recovery codes left" in words(browser.get("/account"))


def test_the_api_asks_for_the_code_too(board: Board) -> None:
    secret, _ = with_second_factor(board.browser("Otto"))
    api = Web(board.coordinator.control, {})
    body = {"name": "Otto", "password": PASSWORD}
    refused = api.post("/sessions", json=body)
    assert refused.status_code == 401 and "no code of it was sent" in refused.json()["detail"]
    assert api.post("/sessions", json=body | {"code": code_of(secret, 1)}).status_code == 200


def test_the_qr_code_is_drawn_without_anybody_elses_markup(board: Board) -> None:
    answer = board.browser("Otto").post("/account/second-factor", current=PASSWORD)
    svg = re.findall(r"<svg.*?</svg>", answer.text, re.S)[0]
    assert re.findall(r"<(\w+)", svg) == ["svg", "rect", "path"]
    path = re.findall(r' d="([^"]+)"', svg)[0]
    assert re.fullmatch(r"(M\d+ \d+h1v1h-1z)+", path) and path.count("M") > 300


def test_a_members_link_opens_its_own_view_once(board: Board) -> None:
    node = Web(board.coordinator.control, {"authorization": f"Bearer {board.member.token}"})
    link = node.post("/node/sign-in-link").json()
    path = link["url"].removeprefix(board.room.config.url)
    browser = board.browser()
    page = browser.get(path)
    assert "Sign in as North" in words(page) and COOKIE not in browser.cookies
    code = re.findall(r'name="code" value="([^"]+)"', page.text)[0]
    done = browser.request("POST", "/sign-in/member", data={"code": code})
    assert done.headers["location"] == "/"
    assert "North · member" in words(browser.get("/"))
    assert browser.get("/audit").status_code == 403 and browser.get("/account").status_code == 403
    assert browser.post("/sign-out").headers["location"] == "/sign-in"


def test_failed_sign_ins_leave_one_line_an_address_and_window(board: Board) -> None:
    browser = board.browser()
    for _ in range(5):
        browser.sign_in("Otto", "not the password")
    browser.sign_in("Nobody", "not the password")
    with reading(board.room.engine) as connection:
        failed = [event for event in entries(connection, limit=500) if event.action == "sign-in.failed"]
    assert len(failed) == 1
    assert failed[0].actor == "nobody" and failed[0].subject.startswith("acc_")
    assert failed[0].detail == {"address": "127.0.0.1", "at": "password", "code": "not-trusted.sign-in"}
    for _ in range(5):
        browser.sign_in("Otto", "not the password")
    assert actions(board).count("sign-in.failed") == 2, "one more for the limit that was reached"


def test_what_somebody_typed_for_a_name_stands_in_no_line(board: Board) -> None:
    board.browser().sign_in("my password by mistake", "x")
    with reading(board.room.engine) as connection:
        assert "by mistake" not in str(entries(connection, limit=500))


def test_a_new_session_takes_the_place_of_the_one_before(board: Board) -> None:
    browser = board.browser("Otto")
    before = browser.cookies[COOKIE]
    browser.sign_in("Ada")
    stale = board.browser()
    stale.cookies.set(COOKIE, before, domain="desk.local")
    assert stale.get("/").status_code == 303 and "Ada · admin" in words(browser.get("/"))
