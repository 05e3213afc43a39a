"""The frame of the dashboard: sessions, roles, forms, headers, errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordinator.audit.log import entries
from coordinator.dashboard import room as dashboard
from coordinator.dashboard.pages_runs import MOST_TYPED_CHARACTERS
from coordinator.dashboard.rules import RULES, require_rules
from coordinator.dashboard.sessions import COOKIE, local_path
from coordinator.storage.database import reading
from shared.domain.errors import Broken
from tests.dashboard_kit import Board, board, words

assert board  # the fixture
TEMPLATES = Path(dashboard.__file__).parent / "templates"


def test_page_without_a_session_leads_to_the_sign_in_page_and_back(board: Board) -> None:
    browser = board.browser()
    led = browser.get("/?a=1")
    assert (led.status_code, led.headers["location"]) == (303, "/sign-in?next=/%3Fa%3D1")
    asked = browser.sign_in("Ada", next="/?a=1")
    assert (asked.status_code, asked.headers["location"]) == (303, "/?a=1")
    assert "Ada · admin" in words(browser.get("/"))


def test_session_cookie_is_out_of_reach_of_scripts_and_other_hosts(board: Board) -> None:
    cookie = board.browser().sign_in("Ada").headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=clt_") and COOKIE.startswith("__Host-")
    assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"))
    assert "Domain" not in cookie


def test_wrong_password_says_no_more_than_that_and_keeps_the_name(board: Board) -> None:
    browser = board.browser()
    for name in ("Ada", "Nobody"):
        refused = browser.sign_in(name, "another long phrase")
        assert refused.status_code == 401
        assert "The name or the password is not right." in words(refused)
        assert f'value="{name}"' in refused.text
        assert COOKIE not in refused.cookies


def test_signing_out_ends_the_session_on_the_server(board: Board) -> None:
    browser = board.browser("Ada")
    token = browser.cookies[COOKIE]
    assert browser.post("/sign-out").headers["location"] == "/sign-in"
    assert COOKIE not in browser.cookies
    stale = board.browser()
    stale.cookies.set(COOKIE, token, domain="desk.local")
    assert stale.get("/").status_code == 303


def test_pages_allow_no_code_or_frame_but_their_own(board: Board) -> None:
    for path in ("/", "/sign-in", "/nothing-here", "/static/live.js"):
        policy = board.browser("Ada").get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


def test_templates_hold_no_inline_script_style_or_handler() -> None:
    for path in TEMPLATES.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:|\|\s*safe", text), path
        assert not re.search(r"<script(?![^>]*\ssrc=\"/static/)", text), path
        assert "https://" not in text.replace('xmlns="http://www.w3.org/2000/svg"', ""), path


def test_templates_ask_only_for_rules_that_exist() -> None:
    for path in TEMPLATES.rglob("*.html"):
        for asked in re.findall(r'may\("(\w+)", "([^"]+)"\)', path.read_text(encoding="utf-8")):
            assert asked in RULES, f"{path.name}: {asked}"


def test_route_without_a_rule_does_not_start() -> None:
    routes = [route for router in dashboard.PAGES for route in router.routes]
    require_rules(routes)
    with pytest.raises(Broken, match=r"rules without a route: \[.*/sign-in"):
        require_rules(routes[2:])


def test_form_leaves_an_audit_line_before_it_is_carried_out_and_after(board: Board) -> None:
    browser = board.browser("Otto")
    browser.post("/sign-out")
    with reading(board.room.engine) as connection:
        actions = [event.action for event in entries(connection)]
    assert actions[-3:] == ["form.sent", "session.ended", "form.done"]


@pytest.mark.parametrize(
    ("wanted", "goes"),
    [
        ("/runs/run_1?x=2", "/runs/run_1?x=2"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("runs", "/"),
        ("/a\nb", "/"),
        ("", "/"),
    ],
)
def test_signing_in_leads_nowhere_but_to_a_path_of_this_server(wanted: str, goes: str) -> None:
    assert local_path(wanted) == goes


def test_errors_are_pages_for_people_and_problems_for_programs(board: Board) -> None:
    page = board.browser("Ada").get("/nothing-here")
    assert page.status_code == 404 and "There is nothing at this address" in words(page)
    problem = board.browser().get("/api/v1/nothing-here")
    assert problem.headers["content-type"] == "application/problem+json"


def test_field_that_is_too_long_is_named_with_its_limit(board: Board) -> None:
    ada = board.browser("Ada")
    refused = ada.post("/runs/run_1/releases", notes="x" * (MOST_TYPED_CHARACTERS + 1))
    assert refused.status_code == 422 and "xx" not in refused.text
    limit, found = f"{MOST_TYPED_CHARACTERS:,}", f"{MOST_TYPED_CHARACTERS + 1:,}"
    assert (
        f"notes: expected at most {limit} characters, found {found}. Nothing was changed. Go back and correct it."
        in (words(refused))
    )
    address = words(ada.get("/runs/run_1/rounds/x"))
    assert (
        "number: expected a whole number. Nothing was changed. Go back and look for it from the menu."
        in address
    )
