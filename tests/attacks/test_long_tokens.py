"""A browser left open, or a session that was stolen, is turned into an access that lasts a year."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.dashboard.sessions import COOKIE
from coordinator.members.own_tokens import WITHOUT_PASSWORD_DAYS
from tests.dashboard_kit import Board, Browser, board, words
from tests.desk import PASSWORD

assert board  # the fixture
LONG = (WITHOUT_PASSWORD_DAYS + 1, 365)


def tokens_of(board: Board, name: str) -> list[str]:
    return [token.name for token in board.room.own_tokens.of(board.room.accounts.id_of(name)).api]


def by_api(browser: Browser, **body: Any) -> Any:
    headers = {"authorization": f"Bearer {browser.cookies[COOKIE]}"}
    return Browser(browser.asgi).request("POST", "/api/v1/account/tokens", json=body, headers=headers)


@pytest.mark.parametrize("days", LONG)
@pytest.mark.parametrize("typed", ["", PASSWORD[::-1]])
def test_session_alone_makes_no_token_that_outlives_it_by_far(board: Board, days: int, typed: str) -> None:
    thief = board.browser("Ada")
    page = thief.post("/account/tokens", name="mine", days=days, current=typed)
    assert page.status_code == 422 and (
        "Your password is not right" if typed else "No token was made"
    ) in words(page)
    body = {"name": "mine", "lifetime_days": days} | ({"current": typed} if typed else {})
    assert by_api(thief, **body).status_code in (401, 422)
    assert tokens_of(board, "Ada") == []


def test_owner_makes_a_long_token_with_the_password_and_a_short_one_without(board: Board) -> None:
    ada = board.browser("Ada")
    assert ada.post("/account/tokens", name="long", days=365, current=PASSWORD).status_code == 200
    assert ada.post("/account/tokens", name="short", days=WITHOUT_PASSWORD_DAYS).status_code == 200
    made = by_api(ada, name="long too", lifetime_days=365, current=PASSWORD)
    assert made.status_code == 201
    assert sorted(tokens_of(board, "Ada")) == ["long", "long too", "short"]


def test_password_cannot_be_guessed_at_the_form_for_tokens(board: Board) -> None:
    """Its tries are counted with those of signing in: by the account, wherever they come from."""
    thief = board.browser("Ada")
    limit = board.room.config.limits.sign_in_attempts
    for number in range(limit):
        thief.post("/account/tokens", name="mine", days=365, current=f"guess number {number}")
    refused = thief.post("/account/tokens", name="mine", days=365, current=PASSWORD)
    assert refused.status_code in (422, 429) and tokens_of(board, "Ada") == []
    assert by_api(thief, name="mine", lifetime_days=365, current=PASSWORD).status_code == 429
    assert tokens_of(board, "Ada") == []


def test_account_that_signs_in_elsewhere_is_told_to_choose_a_shorter_time(board: Board) -> None:
    board.room.accounts.create("Olga", board.room.accounts.by_name("Otto").role, None, "operator")
    olga = Browser(board.coordinator.asgi)
    account = board.room.accounts.by_name("Olga")
    olga.cookies.set(COOKIE, board.room.accounts.open_session(account, 600.0, "oidc")[0])
    assert "365 days" not in olga.get("/account").text
    refused = olga.post("/account/tokens", name="x", days=365, current="anything at all")
    assert refused.status_code == 422 and tokens_of(board, "Olga") == []
    assert olga.post("/account/tokens", name="x", days=WITHOUT_PASSWORD_DAYS).status_code == 200
