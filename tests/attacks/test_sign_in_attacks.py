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
from shared.domain.errors import SignInFailed
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
    value["stamp"] = board.room.accounts.by_name("Otto").stamp
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


def changing_in_between(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, every password of Otto's that was found right has just been changed by the operator."""
    accounts = board.room.accounts
    verify = accounts._verify

    def and_changed(hashed: str, password: str) -> bool:
        right = verify(hashed, password)
        if right:
            accounts.set_password("Otto", OTHER_PASSWORD, "operator")
        return right

    monkeypatch.setattr(accounts, "_verify", and_changed)


def open_sessions(board: Board, name: str) -> int:
    return len(board.room.own_tokens.of(board.room.accounts.id_of(name)).sessions)


def test_no_session_outlives_the_password_that_opened_it(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing_in_between(board, monkeypatch)
    browser = board.browser()
    answer = browser.sign_in("Otto")
    assert answer.status_code == 401 and "The password was changed" in words(answer)
    api = Web(board.coordinator.control, {})
    assert api.post("/sessions", json={"name": "Otto", "password": OTHER_PASSWORD}).status_code == 401
    assert COOKIE not in browser.cookies and open_sessions(board, "Otto") == 0


def test_a_first_step_under_the_password_before_is_none(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser, secret = half_way(board)
    check = board.room.accounts.second_factors.check

    def and_changed(account_id: str, code: str) -> str:
        by = check(account_id, code)
        board.room.accounts.set_password("Otto", OTHER_PASSWORD, "operator")
        return by

    monkeypatch.setattr(board.room.accounts.second_factors, "check", and_changed)
    assert send_code(browser, code_of(secret, 1)) == 401
    assert COOKIE not in browser.cookies and open_sessions(board, "Otto") == 0


def test_a_first_step_counts_for_the_password_that_was_looked_at(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = half_way(board)
    changing_in_between(board, monkeypatch)
    browser = board.browser()
    assert browser.sign_in("Otto").headers["location"] == "/sign-in/code"
    assert send_code(browser, code_of(secret, 1)) == 401 and COOKIE not in browser.cookies


def test_a_change_of_the_password_that_was_overtaken_opens_nothing(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    thief, accounts = board.browser("Otto"), board.room.accounts
    change = accounts.change_password

    def and_changed_back(*arguments: str) -> object:
        result = change(*arguments)
        accounts.set_password("Otto", "the owner's third phrase", "operator")
        return result

    monkeypatch.setattr(accounts, "change_password", and_changed_back)
    answer = thief.post("/account/password", current=PASSWORD, password=OTHER_PASSWORD, again=OTHER_PASSWORD)
    assert answer.status_code != 303 and open_sessions(board, "Otto") == 0


def test_no_token_is_made_by_a_session_that_ends_meanwhile(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    thief, own = board.browser("Otto"), board.room.own_tokens
    make = own.make

    def overtaken(*arguments: object, **named: object) -> object:
        board.room.accounts.set_password("Otto", OTHER_PASSWORD, "operator")
        return make(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(own, "make", overtaken)
    answer = thief.post("/account/tokens", name="x", days=1)
    assert "new-token" not in answer.text and "clt_" not in answer.text
    assert board.room.own_tokens.of(board.room.accounts.id_of("Otto")).api == []


def test_nothing_is_opened_for_an_account_that_was_just_removed(board: Board) -> None:
    account = board.room.accounts.check_password("Otto", PASSWORD)
    board.room.accounts.remove("Otto", "operator")
    with pytest.raises(SignInFailed):
        board.room.accounts.open_session(account, 60, "password")


def test_a_stolen_session_is_not_shown_a_second_factor_that_waits(board: Board) -> None:
    owner = board.browser("Otto")
    shown = owner.post("/account/second-factor", current=PASSWORD)
    secret = re.sub(r"\s", "", re.findall(r'id="secret">([^<]+)<', shown.text)[0])
    thief = Browser(board.coordinator.asgi, owner.cookies)
    wrong = thief.post("/account/second-factor/confirm", code="000000")
    for page in (wrong, thief.get("/account")):
        text = re.sub(r"\s", "", page.text)
        assert secret not in text and "otpauth" not in text and "<svgviewBox" not in text
    assert wrong.status_code == 422 and "does not fit the secret" in words(wrong)
    assert 'action="/account/second-factor/confirm"' in wrong.text, "a typing mistake is put right at once"
    assert owner.post("/account/second-factor/confirm", code=code_of(secret)).status_code == 200
    assert "10 recovery codes left" in words(owner.get("/account"))


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
