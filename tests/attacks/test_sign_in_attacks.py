"""Attacks on signing in: sessions fixed beforehand, codes and links used twice, states that somebody changed."""

from __future__ import annotations

import base64
import re

import pytest

from coordinator.dashboard.pages_session import HALF_WAY
from coordinator.dashboard.sessions import COOKIE
from coordinator.members.member_links import LIFETIME_S
from coordinator.members.totp import MOST_FAILURES
from coordinator.storage.database import reading
from coordinator.storage.tables import sign_in_codes
from shared.domain.clock import SystemClock
from tests.dashboard_kit import Board, Browser, board, words
from tests.desk import PASSWORD, Web
from tests.unit.test_dashboard_account import OTHER_PASSWORD, code_of, with_second_factor

assert board  # the fixture


def link_code(board: Board) -> str:
    node = Web(board.coordinator.control, {"authorization": f"Bearer {board.member.token}"})
    return str(node.post("/node/sign-in-link").json()["url"]).partition("code=")[2]


def open_link(browser: Browser, code: str) -> int:
    return browser.request("POST", "/sign-in/member", data={"code": code}).status_code


def send_code(browser: Browser, code: str) -> int:
    return browser.request("POST", "/sign-in/code", data={"code": code}).status_code


def half_way(board: Board) -> tuple[Browser, str]:
    """(a browser that sent the right password of an account with a second factor, the secret)."""
    secret, _ = with_second_factor(board.browser("Otto"))
    browser = board.browser()
    browser.sign_in("Otto")
    return browser, secret


class LaterClock(SystemClock):
    """The machine's clock, some seconds ahead."""

    def __init__(self, seconds: float) -> None:
        from datetime import timedelta

        self._ahead = timedelta(seconds=seconds)

    def now(self):  # type: ignore[no-untyped-def]
        return super().now() + self._ahead


def test_a_session_that_was_put_into_the_browser_beforehand_is_never_taken_over(board: Board) -> None:
    fixed = "clt_" + "A" * 43
    browser = board.browser()
    browser.cookies.set(COOKIE, fixed, domain="desk.local")
    browser.sign_in("Ada")
    assert browser.cookies[COOKIE] != fixed
    attacker = board.browser()
    attacker.cookies.set(COOKIE, fixed, domain="desk.local")
    assert attacker.get("/").status_code == 303


def test_the_attackers_own_session_in_the_victims_browser_is_ended_by_signing_in(board: Board) -> None:
    attacker, victim = board.browser("Otto"), board.browser()
    victim.cookies.set(COOKIE, attacker.cookies[COOKIE], domain="desk.local")
    victim.sign_in("Ada")
    assert attacker.get("/").status_code == 303


def test_a_code_that_was_looked_over_the_shoulder_opens_no_second_session(board: Board) -> None:
    victim, secret = half_way(board)
    attacker = board.browser()
    attacker.sign_in("Otto")
    code = code_of(secret, 1)
    assert send_code(victim, code) == 303
    assert send_code(attacker, code) == 401 and COOKIE not in attacker.cookies


def test_the_second_step_without_the_first_opens_nothing(board: Board) -> None:
    _, secret = half_way(board)
    browser = board.browser()
    assert send_code(browser, code_of(secret, 1)) == 401 and COOKIE not in browser.cookies


def test_the_state_between_the_steps_cannot_be_changed_or_made(board: Board) -> None:
    browser, secret = half_way(board)
    state = browser.cookies[HALF_WAY]
    data = bytearray(base64.urlsafe_b64decode(state))
    data[20] ^= 1
    forged = [base64.urlsafe_b64encode(bytes(data)).decode(), state[:-8], "e30=", "x", ""]
    for wrong in forged:
        attacker = board.browser()
        attacker.cookies.set(HALF_WAY, wrong, domain="desk.local")
        assert send_code(attacker, code_of(secret, 1)) == 401


def test_a_sealed_state_of_another_purpose_is_no_first_step(board: Board) -> None:
    _, secret = half_way(board)
    value = {"account": board.room.accounts.id_of("Otto"), "next": "/"}
    value["stamp"] = board.room.accounts.stamp(value["account"])
    attacker = board.browser()
    other = board.room.seal.close("__Host-oidc", {"until": "2999-01-01T00:00:00Z", "value": value})
    attacker.cookies.set(HALF_WAY, other, domain="desk.local")
    assert send_code(attacker, code_of(secret, 1)) == 401


def test_a_first_step_is_void_after_the_password_changed(board: Board) -> None:
    browser, secret = half_way(board)
    board.room.accounts.set_password("Otto", OTHER_PASSWORD, "operator")
    assert send_code(browser, code_of(secret, 1)) == 401


def test_a_first_step_is_void_after_some_minutes(board: Board) -> None:
    browser, secret = half_way(board)
    object.__setattr__(board.room, "clock", LaterClock(301))
    assert send_code(browser, code_of(secret, 1)) == 401


def test_guessing_codes_is_slowed_down_by_account_and_ends_for_good(board: Board) -> None:
    browser, secret = half_way(board)
    statuses = [send_code(browser, f"{guess:06}") for guess in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    assert send_code(browser, code_of(secret, 1)) == 429, "the right one is not looked at either"
    account_id = board.room.accounts.id_of("Otto")
    for guess in range(MOST_FAILURES):
        with pytest.raises(Exception, match="code is not right"):
            board.room.accounts.second_factors.check(account_id, f"{guess:06}")
    assert board.room.accounts.second_factors.of(account_id).locked


def test_a_link_opens_once(board: Board) -> None:
    code = link_code(board)
    first, second = board.browser(), board.browser()
    assert open_link(first, code) == 303
    assert open_link(second, code) == 401 and COOKIE not in second.cookies
    assert "The link was used" in words(second.get(f"/sign-in/member?code={code}"))


def test_looking_at_a_link_spends_nothing_and_opens_nothing(board: Board) -> None:
    code, scanner = link_code(board), board.browser()
    for _ in range(3):
        assert scanner.get(f"/sign-in/member?code={code}").status_code == 200
    assert COOKIE not in scanner.cookies and open_link(board.browser(), code) == 303


def test_a_newer_link_ends_the_one_before(board: Board) -> None:
    before, code = link_code(board), link_code(board)
    assert open_link(board.browser(), before) == 401
    assert open_link(board.browser(), code) == 303


def test_a_link_is_over_after_two_minutes(board: Board) -> None:
    code = link_code(board)
    board.room.links._clock = LaterClock(LIFETIME_S + 1)
    assert open_link(board.browser(), code) == 401


def test_a_link_of_a_member_that_was_shut_out_opens_nothing(board: Board) -> None:
    code = link_code(board)
    board.room.members.suspend(board.member.member_id, "operator")
    assert open_link(board.browser(), code) == 401


def test_what_a_link_opened_is_shut_with_the_member(board: Board) -> None:
    browser = board.browser()
    open_link(browser, link_code(board))
    assert browser.get("/").status_code == 200
    board.room.members.suspend(board.member.member_id, "operator")
    assert browser.get("/").status_code == 401


def test_the_database_keeps_no_link(board: Board) -> None:
    code = link_code(board)
    with reading(board.room.engine) as connection:
        assert code not in str(list(connection.execute(sign_in_codes.select())))


def test_people_and_browsers_cannot_ask_for_a_members_link(board: Board) -> None:
    browser = board.browser()
    open_link(browser, link_code(board))
    for token in (browser.cookies[COOKIE], board.browser("Ada").cookies[COOKIE]):
        api = Web(board.coordinator.control, {"authorization": f"Bearer {token}"})
        answer = api.post("/node/sign-in-link")
        assert answer.status_code == 403 and "Only a member's own node" in answer.json()["detail"]


def test_a_members_browser_session_cannot_act_as_its_node(board: Board) -> None:
    browser = board.browser()
    open_link(browser, link_code(board))
    api = Web(board.coordinator.control, {"authorization": f"Bearer {browser.cookies[COOKIE]}"})
    assert api.post("/node/restarted").status_code == 403
    assert api.get("/roll").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
    ],
)
def test_another_site_cannot_sign_anybody_in(board: Board, headers: dict[str, str]) -> None:
    browser = board.browser()
    data = {"name": "Otto", "password": PASSWORD}
    assert browser.request("POST", "/sign-in", data=data, headers=headers).status_code == 403
    code = link_code(board)
    answer = browser.request("POST", "/sign-in/member", data={"code": code}, headers=headers)
    assert answer.status_code == 403 and COOKIE not in browser.cookies
    assert open_link(browser, code) == 303, "it was not spent"


def test_whoever_opens_a_members_link_is_told_whom_it_signs_in_and_which_session_ends(board: Board) -> None:
    browser = board.browser("Ada")
    said = words(browser.get(f"/sign-in/member?code={link_code(board)}"))
    assert (
        "Sign in as North" in said and "You are signed in as Ada in this browser. That session ends." in said
    )


def test_sessions_and_tokens_of_others_cannot_be_ended(board: Board) -> None:
    ada, otto = board.browser("Ada"), board.browser("Otto")
    theirs = re.findall(r"/account/sessions/(tok_[0-9a-f]+)/end", ada.get("/account").text)[0]
    for path in (f"/account/sessions/{theirs}/end", f"/account/tokens/{theirs}/revoke"):
        assert otto.post(path).status_code == 404
    assert ada.get("/").status_code == 200


def test_a_token_for_programs_cannot_make_itself_last(board: Board) -> None:
    made = board.browser("Otto").post("/account/tokens", name="x", days=1)
    token = re.findall(r'id="new-token">(clt_[\w-]+)<', made.text)[0]
    api = Web(board.coordinator.control, {"authorization": f"Bearer {token}"})
    assert api.get("/account").status_code == 200
    for path, body in (
        ("/account/tokens", {"name": "y"}),
        ("/account/password", {"current": PASSWORD, "password": OTHER_PASSWORD}),
        ("/account/second-factor", {"current": PASSWORD}),
        ("/account/second-factor/remove", {"code": "000000"}),
    ):
        answer = api.post(path, json=body)
        assert answer.status_code == 403 and "a token for programs was sent" in answer.json()["detail"]


def test_what_is_shown_once_stands_in_no_cookie_and_is_never_kept_by_the_browser(board: Board) -> None:
    made = board.browser("Otto").post("/account/tokens", name="x", days=1)
    assert made.headers["cache-control"] == "no-store" and "set-cookie" not in made.headers
