"""Attacks on sessions: fixed beforehand, guessed, kept after their end, led astray, framed, or read from a cache."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode, urljoin

import httpx
import pytest

from coordinator.dashboard.rules import ANYBODY, RULES
from coordinator.dashboard.sessions import COOKIE
from shared.domain.clock import FixedClock, SystemClock
from shared.domain.consortium import MemberState, Role
from tests.dashboard_kit import Board, board
from tests.desk import PASSWORD, served
from tests.full_board import FullBoard, full_board, session_of, with_values
from tests.knock import FORM, Answer, form, knock, session

assert board  # the fixture
WRONG = "not the right phrase"


@pytest.fixture(scope="module")
def full(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullBoard]:
    with full_board(prepared_home, tmp_path_factory.mktemp("sessions")) as made:
        yield made


def sign_in(
    board: Board, name: str = "Ada", password: str = PASSWORD, next: str = "/", **headers: str
) -> Answer:
    body = urlencode({"name": name, "password": password, "next": next}).encode()
    return knock(board.coordinator.asgi, "POST", "/sign-in", {"content-type": FORM} | headers, body)


def cookie_in(answer: Answer) -> str:
    found = [
        v.decode() for k, v in answer.raw_headers if k == b"set-cookie" and v.startswith(COOKIE.encode())
    ]
    return found[0].partition("=")[2].partition(";")[0] if found else ""


def seen_with(board: Board, token: str) -> int:
    return knock(board.coordinator.asgi, "GET", "/", session(token)).status


def test_session_that_was_there_before_signing_in_is_not_adopted(board: Board) -> None:
    """Fixation: the attacker plants a text it knows, or a session of its own, and waits for the visitor to sign in."""
    own = session_of(board, Role.AUDITOR)
    for planted in ("clt_" + "A" * 43, own):
        answer = sign_in(board, cookie=f"{COOKIE}={planted}")
        assert answer.status == 303
        assert cookie_in(answer).startswith("clt_") and cookie_in(answer) != planted
    assert seen_with(board, "clt_" + "A" * 43) == 303
    assert "Ada" not in knock(board.coordinator.asgi, "GET", "/", session(own)).text


def test_each_sign_in_has_a_session_of_its_own(board: Board) -> None:
    tokens = {cookie_in(sign_in(board)) for _ in range(3)}
    assert len(tokens) == 3 and all(len(token) > 40 for token in tokens)


@pytest.mark.parametrize("prefix", ["", "x="])
def test_cookie_of_another_path_or_host_does_not_count(board: Board, prefix: str) -> None:
    """Only the name with `__Host-` is read, which browsers accept from this very host over TLS alone."""
    token = session_of(board, Role.ADMIN)
    for name in ("commonlens", "__Secure-commonlens", "__host-commonlens", " __Host-commonlens2"):
        answer = knock(board.coordinator.asgi, "GET", "/", {"cookie": f"{prefix}{name}={token}"})
        assert answer.status == 303


def test_cookies_are_out_of_reach(full: FullBoard) -> None:
    cookies = [v.decode() for k, v in sign_in(full).raw_headers if k == b"set-cookie"]
    headers, body = form(session_of(full, Role.ADMIN))
    out = knock(full.coordinator.asgi, "POST", "/sign-out", headers, body)
    cookies += [v.decode() for k, v in out.raw_headers if k == b"set-cookie"]
    assert len(cookies) >= 2
    for cookie in cookies:
        flags = {flag.strip().lower() for flag in cookie.split(";")[1:]}
        assert {"httponly", "secure", "samesite=lax", "path=/"} <= flags, cookie
        assert cookie.startswith("__Host-") and "domain" not in cookie.lower()


def test_session_ends_when_it_said(board: Board) -> None:
    token = session_of(board, Role.ADMIN)
    later = FixedClock(SystemClock().now() + timedelta(seconds=601))
    object.__setattr__(board.room, "clock", later)
    assert seen_with(board, token) == 303


def test_new_password_ends_the_sessions_in_every_browser(board: Board) -> None:
    tokens = [cookie_in(sign_in(board)) for _ in range(2)]
    assert [seen_with(board, token) for token in tokens] == [200, 200]
    board.room.accounts.set_password("Ada", "another long phrase", "operator")
    assert [seen_with(board, token) for token in tokens] == [303, 303]
    assert sign_in(board).status == 401


def test_suspended_members_browser_is_shut_out_at_once(board: Board) -> None:
    token = session_of(board, Role.MEMBER)
    assert seen_with(board, token) == 200
    board.room.members.suspend(board.member.member_id, "operator")
    answer = knock(board.coordinator.asgi, "GET", "/", session(token))
    assert answer.status in (303, 401) and "North" not in answer.text
    board.room.members.resume(board.member.member_id, "operator")
    board.room.members.revoke(board.member.member_id, "operator")
    assert board.room.members.get(board.member.member_id).state is MemberState.REVOKED
    assert seen_with(board, token) in (303, 401)


def test_live_page_stops_when_its_session_ends(board: Board) -> None:
    """A stream that was let in once is asked again before each part: see live.py."""
    import threading

    token = session_of(board, Role.ADMIN)
    found: list[Answer] = []
    reader = threading.Thread(
        target=lambda: found.append(knock(board.coordinator.asgi, "GET", "/live", session(token), parts=50))
    )
    reader.start()
    board.room.accounts.set_password("Ada", "another long phrase", "operator")
    reader.join(timeout=20)
    assert not reader.is_alive(), "the stream went on after the session's end"
    assert found and found[0].text.count("event: parts") < 50


# --- open redirect -----------------------------------------------------------------------------------

ASTRAY = [
    "https://evil.example/",
    "//evil.example/",
    "///evil.example",
    "/\\evil.example",
    "\\\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\t//evil.example",
    " //evil.example",
    "http:evil.example",
    "javascript:alert(1)",
    "data:text/html,<script>",
    "/..//evil.example",
    "/.//evil.example",
    "/%2f/evil.example",
    "/%5cevil.example",
    "/@evil.example",
    "/\r\nSet-Cookie: a=b",
    "/\u2028/evil.example",
    "/é",
    "/" + "a" * 199,
]


@pytest.mark.parametrize("wanted", ASTRAY)
def test_signing_in_leads_to_this_server_only(full: FullBoard, wanted: str) -> None:
    answer = sign_in(full, next=wanted)
    assert answer.status == 303
    assert here(answer.header("location"))
    assert answer.header("set-cookie").count("a=b") == 0


@pytest.mark.parametrize("wanted", ASTRAY)
def test_sign_in_page_hands_no_such_address_on(full: FullBoard, wanted: str) -> None:
    page = knock(full.coordinator.asgi, "GET", f"/sign-in?{urlencode({'next': wanted})}")
    assert page.status == 200
    kept = page.text.partition('name="next" value="')[2].partition('"')[0]
    assert here(kept), kept


def here(address: str) -> bool:
    """Whether a browser that follows it stays: read as WHATWG's URL does, where a backslash is a slash."""
    plain = "".join(c for c in address if c not in "\t\r\n").replace("\\", "/").strip()
    return urljoin("https://desk/sign-in", plain).startswith("https://desk/")


@pytest.mark.parametrize("path", ["//evil.example", "//evil.example/%2e%2e", "/\\evil.example", "/%0d%0aa:b"])
def test_way_to_the_sign_in_page_leads_nowhere_else(full: FullBoard, path: str) -> None:
    answer = knock(full.coordinator.asgi, "GET", path)
    assert answer.status == 404 or here(answer.header("location"))


# --- brute force -------------------------------------------------------------------------------------


def limited(board: Board, attempts: int = 5) -> FixedClock:
    """`board` counts by a clock that stands still; gives the clock."""
    clock = FixedClock(SystemClock().now())
    counter = board.room.sign_in_attempts
    counter._clock = counter._limiter._clock = clock
    counter._limiter._limit = attempts
    return clock


def from_address(board: Board, address: str, name: str, password: str) -> Answer:
    """A sign-in as uvicorn would hand it on from this address."""

    async def application(scope, receive, send):  # type: ignore[no-untyped-def]
        await board.coordinator.asgi(scope | {"client": (address, 1)}, receive, send)

    body = urlencode({"name": name, "password": password}).encode()
    return knock(application, "POST", "/sign-in", {"content-type": FORM}, body)


def test_guessing_one_name_from_many_addresses_is_slowed_down(board: Board) -> None:
    clock = limited(board)
    found = [from_address(board, f"192.0.2.{n}", "Ada", WRONG).status for n in range(7)]
    assert found == [401] * 5 + [429] * 2
    right = from_address(board, "192.0.2.99", "Ada", PASSWORD)
    assert right.status == 429 and cookie_in(right) == "", (
        "the right password is refused too, or it could be guessed"
    )
    assert "Wait" in right.text and "seconds" in right.text
    assert from_address(board, "192.0.2.99", "Otto", PASSWORD).status == 303, (
        "others are not shut out with it"
    )
    clock.advance(board.room.config.limits.attempts_window_s)
    assert from_address(board, "192.0.2.99", "Ada", PASSWORD).status == 303


def test_guessing_many_names_from_one_address_is_slowed_down(board: Board) -> None:
    limited(board)
    found = [from_address(board, "192.0.2.1", f"name {n}", WRONG).status for n in range(7)]
    assert found == [401] * 5 + [429] * 2
    assert from_address(board, "192.0.2.1", "Ada", PASSWORD).status == 429
    assert from_address(board, "192.0.2.2", "Ada", PASSWORD).status == 303


def test_pages_and_api_count_together(board: Board) -> None:
    """Else whoever is at the limit here goes on there."""
    limited(board)
    for n in range(5):
        from_address(board, f"192.0.2.{n}", "Ada", WRONG)
    body = f'{{"name": "Ada", "password": "{PASSWORD}"}}'.encode()
    api = knock(
        board.coordinator.asgi, "POST", "/api/v1/sessions", {"content-type": "application/json"}, body
    )
    assert api.status == 429


def test_header_of_the_senders_own_does_not_make_it_somebody_else(board: Board) -> None:
    """Over a socket: it is uvicorn that believes X-Forwarded-For of whoever is on the same machine."""
    limited(board)
    with served(board.coordinator.asgi, board.home) as base, httpx.Client(verify=False) as client:
        found = [
            client.post(
                f"{base}/sign-in",
                data={"name": f"name {n}", "password": WRONG, "next": "/"},
                headers={"x-forwarded-for": f"198.51.100.{n}", "forwarded": f"for=_{n}"},
            ).status_code
            for n in range(6)
        ]
    assert found == [401] * 5 + [429]


def test_name_that_is_not_there_is_refused_in_the_same_words(full: FullBoard) -> None:
    """And after the same work: a hash is computed either way (accounts.py)."""
    texts = []
    for name in ("Ada", "Zoe"):
        page = sign_in(full, name, WRONG)
        texts.append(page.text.replace(f'value="{name}"', ""))
    assert texts[0] == texts[1]


# --- frames and caches -------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [None, Role.MEMBER, Role.AUDITOR, Role.ADMIN])
def test_no_page_is_framed_sniffed_or_kept(full: FullBoard, role: Role | None) -> None:
    token = session_of(full, role)
    for method, path in sorted(RULES):
        roles = RULES[method, path]
        if method != "GET" or (role is None and roles != ANYBODY) or (role and roles and role not in roles):
            continue
        for values in (full.values(), {}):
            answer = knock(full.coordinator.asgi, "GET", with_values(path, values), session(token))
            policy = answer.header("content-security-policy")
            kept = answer.header("cache-control")
            html = answer.header("content-type").startswith("text/html")
            assert "no-store" in kept or ("private" in kept and not html) or answer.status == 303, path
            assert answer.header("x-content-type-options") == "nosniff" or not answer.body, path
            if html:
                assert "frame-ancestors 'none'" in policy and "unsafe" not in policy, path
                assert "form-action 'self'" in policy and "base-uri 'none'" in policy, path
                assert answer.header("referrer-policy") in ("same-origin", "no-referrer"), path


def test_way_to_the_sign_in_page_is_not_kept_either(full: FullBoard) -> None:
    """Else the browser of somebody who signed in goes on being led away from the page."""
    assert knock(full.coordinator.asgi, "GET", "/members").header("cache-control") in ("no-store", "")


def test_session_is_in_no_address_and_no_page(full: FullBoard) -> None:
    token = session_of(full, Role.ADMIN)
    answer = knock(full.coordinator.asgi, "GET", f"/?{urlencode({COOKIE: token})}")
    assert answer.status == 303, "a session in the address opens nothing"
    page = knock(full.coordinator.asgi, "GET", "/", session(token))
    assert token not in page.text and "clt_" not in page.text
