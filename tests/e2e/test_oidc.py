"""Signing in by a real OpenID provider: a process of its own, asked over HTTP as a browser and as a client."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from coordinator.audit.log import entries
from coordinator.config import Config, Oidc
from coordinator.storage.database import reading
from shared.domain.consortium import Role
from tests.dashboard_kit import Board, Browser, open_board, words
from tests.desk import CONSORTIUM
from tests.patience import PATIENCE_S


class RealProvider:
    """A provider process on loopback, and a person's browser there."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "ignore",
                "-m",
                "oidc_provider_mock",
                "--port",
                str(port),
                "--require-nonce",
                "true",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                httpx.get(f"{self.url}/.well-known/openid-configuration", trust_env=False).raise_for_status()
                return
            except httpx.HTTPError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise
                time.sleep(0.1)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def person(self, subject: str, **claims: object) -> None:
        """Somebody whom the provider knows."""
        httpx.put(f"{self.url}/users/{subject}", json=claims, trust_env=False).raise_for_status()

    def signs_in(self, address: str, subject: str, **form: str) -> str:
        """A person at the provider's own page; where that page leads afterwards, on our side."""
        answer = httpx.post(address, data={"sub": subject, **form}, trust_env=False)
        assert answer.status_code == 302, answer.text
        parts = urlsplit(answer.headers["location"])
        return f"{parts.path}?{parts.query}"


@pytest.fixture(scope="module")
def provider() -> Iterator[RealProvider]:
    made = RealProvider()
    yield made
    made.stop()


@pytest.fixture
def board(prepared_home: Path, tmp_path: Path, provider: RealProvider) -> Iterator[Board]:
    oidc = Oidc(
        issuer=provider.url,
        client_id="commonlens",
        client_secret_file="oidc-secret",
        label="Northern Login",
        roles={"lens-admins": Role.ADMIN, "lens-auditors": Role.AUDITOR},
    )
    made = open_board(prepared_home, tmp_path / "coordinator", Config(CONSORTIUM, oidc=oidc))
    (made.home / "oidc-secret").write_text("a secret of the client\n")
    yield made
    made.coordinator.carrier.stop()
    made.coordinator.engine.dispose()


def through(browser: Browser, provider: RealProvider, subject: str, next: str = "/") -> httpx.Response:
    """The whole way: our link, the provider's page, and back."""
    led = browser.get(f"/sign-in/oidc?next={next}")
    assert led.status_code == 303 and led.headers["location"].startswith(f"{provider.url}/oauth2/authorize?")
    return browser.get(provider.signs_in(led.headers["location"], subject))


def actions(board: Board) -> list[str]:
    with reading(board.room.engine) as connection:
        return [event.action for event in entries(connection, limit=1000)]


def test_a_person_signs_in_at_the_provider_and_comes_back_to_the_page_it_wanted(
    board: Board, provider: RealProvider
) -> None:
    provider.person("u-1", name="Grace Hopper", groups=["staff", "lens-auditors"], email="ada@example.org")
    browser = board.browser()
    assert "Sign in with Northern Login" in words(browser.get("/sign-in"))
    back = through(browser, provider, "u-1", next="/audit")
    assert (back.status_code, back.headers["location"]) == (303, "/audit")
    said = words(browser.get("/account"))
    assert "Grace Hopper · auditor" in said and "has no password here" in said
    assert browser.post("/members/mem_0/suspend").status_code == 403
    assert "account.created" in actions(board)


def test_the_account_is_the_same_next_time_whatever_the_person_is_called_then(
    board: Board, provider: RealProvider
) -> None:
    provider.person("u-2", name="Jean", groups="lens-admins")
    through(board.browser(), provider, "u-2")
    provider.person("u-2", name="Somebody Else", groups="lens-admins")
    browser = board.browser()
    through(browser, provider, "u-2")
    assert "Jean · admin" in words(browser.get("/"))


def test_a_name_that_is_taken_leads_to_no_other_persons_account(board: Board, provider: RealProvider) -> None:
    provider.person(
        "u-3", name="Ada", preferred_username="Ada", email="ada@example.org", groups=["lens-auditors"]
    )
    browser = board.browser()
    through(browser, provider, "u-3")
    said = words(browser.get("/"))
    assert "Ada (acc_" in said and "· auditor" in said
    assert [a.role for a in board.room.accounts.every() if a.name == "Ada"] == [Role.ADMIN]


@pytest.mark.parametrize(
    "groups", [None, [], ["staff"], "lens-admins-not", {"lens-admins": True}, ["member"], 7]
)
def test_whoever_has_no_value_with_a_role_is_not_let_in(
    board: Board, provider: RealProvider, groups: object
) -> None:
    provider.person("u-4", name="Eve", groups=groups)
    browser = board.browser()
    refused = through(browser, provider, "u-4")
    assert refused.status_code == 403 and "none of the values of the claim groups" in words(refused)
    assert browser.get("/").status_code == 303
    assert "Eve" not in [a.name for a in board.room.accounts.every()]


def test_a_role_follows_the_provider_and_what_was_open_before_ends(
    board: Board, provider: RealProvider
) -> None:
    provider.person("u-5", name="Lin", groups=["lens-admins", "lens-auditors"])
    before = board.browser()
    through(before, provider, "u-5")
    assert "Lin · admin" in words(before.get("/"))
    provider.person("u-5", name="Lin", groups=["lens-auditors"])
    after = board.browser()
    through(after, provider, "u-5")
    assert "Lin · auditor" in words(after.get("/")) and before.get("/").status_code == 303
    provider.person("u-5", name="Lin", groups=[])
    assert through(board.browser(), provider, "u-5").status_code == 403
    assert after.get("/").status_code == 303, "no role any more: nothing stays open"
    assert {"account.role-changed", "account.role-missing"} <= set(actions(board))


def test_a_person_who_says_no_at_the_provider_is_told_so(board: Board, provider: RealProvider) -> None:
    browser = board.browser()
    led = browser.get("/sign-in/oidc")
    state = dict(httpx.URL(led.headers["location"]).params)["state"]
    back = browser.get(f"/sign-in/oidc/return?error=access_denied&state={state}")
    assert back.status_code == 401 and "The provider answered: access_denied" in words(back)


def test_the_way_back_cannot_be_walked_twice(board: Board, provider: RealProvider) -> None:
    provider.person("u-6", name="Kim", groups=["lens-admins"])
    browser = board.browser()
    led = browser.get("/sign-in/oidc")
    path = provider.signs_in(led.headers["location"], "u-6")
    kept = dict(browser.cookies)
    assert browser.get(path).status_code == 303
    assert browser.get(path).status_code == 401
    thief = board.browser()
    for name, value in kept.items():
        thief.cookies.set(name, value, domain="desk.local")
    assert thief.get(path).status_code == 401, "the provider takes a code once"


def test_signing_in_with_a_password_still_works_beside_it(board: Board) -> None:
    assert board.browser("Ada").get("/").status_code == 200


def test_a_provider_that_does_not_answer_is_named(prepared_home: Path, tmp_path: Path) -> None:
    oidc = Oidc(issuer="http://127.0.0.1:9", client_id="x", roles={"a": Role.ADMIN})
    made = open_board(prepared_home, tmp_path / "coordinator", Config(CONSORTIUM, oidc=oidc))
    answer = made.browser().get("/sign-in/oidc")
    assert answer.status_code == 409 and "http://127.0.0.1:9 did not answer" in words(answer)
    made.coordinator.carrier.stop()
