"""Every page, light and dark, wide and on a phone, with scripts off: axe-core finds nothing serious, all of it fits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from tests.browser.chromium import Person, chromium, person
from tests.desk import PASSWORD, served
from tests.full_board import FullBoard, full_board

SERIOUS = ("serious", "critical")
ABOUT_COLOURS = ["color-contrast", "link-in-text-block"]
"""Rules of axe: nothing else of a page is another in the dark."""
HEAVIEST_BYTES = 300_000
PATHS = (
    "/",
    "/members",
    "/members/{member_id}",
    "/invitations",
    "/plans",
    "/plans/new",
    "/plans/{digest}",
    "/runs",
    "/runs/{run_id}",
    "/runs/{run_id}/rounds/1",
    "/runs/{run_id}/publish",
    "/extractors",
    "/extractors?name={extractor}",
    "/extractors/diff",
    "/extractors/{extractor}/{number}",
    "/privacy",
    "/privacy/{extractor}/{number}",
    "/audit",
    "/audit/verify",
    "/account",
    "/nothing-here",
)


@pytest.fixture(scope="module")
def life(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FullBoard, str]]:
    """A coordinator in the middle of its life, behind TLS, and its address."""
    with (
        full_board(prepared_home, tmp_path_factory.mktemp("pages")) as board,
        served(board.coordinator.asgi, board.home) as base,
    ):
        yield board, base


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


def pages(board: FullBoard) -> list[str]:
    return [path.format(**board.values()) for path in PATHS]


def ada(browser: Browser, base: str, **options: object) -> Person:
    made = person(browser, base, **options)
    made.sign_in("Ada", PASSWORD)
    return made


def serious(admin: Person, **options: object) -> list[str]:
    """What axe has against the page in front of `admin`."""
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:120]}"
        for one in Axe()
        .run(admin.page, options={"resultTypes": ["violations"], **options})
        .response["violations"]
        if one["impact"] in SERIOUS
    ]


def test_axe_finds_nothing_serious_in_the_light_nor_in_the_dark(
    life: tuple[FullBoard, str], browser: Browser
) -> None:
    board, base = life
    window = {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}}
    # axe is put into the page, and what fades in has less contrast until it is there.
    admin = ada(browser, base, bypass_csp=True, reduced_motion="reduce", **window)
    found = {}
    for path in pages(board):
        admin.open(path)
        admin.page.emulate_media(color_scheme="light")
        found[path, "light"] = serious(admin)
        admin.page.emulate_media(color_scheme="dark")
        found[path, "dark"] = serious(admin, runOnly=ABOUT_COLOURS)
    assert {where: what for where, what in found.items() if what} == {}


def test_no_page_is_wider_than_a_phone(life: tuple[FullBoard, str], browser: Browser) -> None:
    board, base = life
    admin = ada(browser, base, viewport={"width": 390, "height": 844}, has_touch=True)
    wide = []
    for path in pages(board):
        admin.open(path)
        if not admin.fits():
            wide.append(path)
    assert wide == []


def test_every_page_works_without_scripts_and_is_light(life: tuple[FullBoard, str], browser: Browser) -> None:
    board, base = life
    admin = ada(browser, base, java_script_enabled=False)
    weights: list[int] = []
    admin.page.on("response", lambda answer: weights.append(len(answer.body())) if answer.ok else None)
    for path in pages(board):
        weights.clear()
        admin.open(path)
        assert admin.page.locator("h1").count() == 1, path
        assert admin.page.locator("main [hidden]:visible").count() == 0, path
        assert sum(weights) < HEAVIEST_BYTES, path


def test_whole_page_can_be_walked_by_keyboard(life: tuple[FullBoard, str], browser: Browser) -> None:
    board, base = life
    admin = ada(browser, base)
    admin.open("/members")
    admin.page.keyboard.press("Tab")
    assert admin.page.evaluate("document.activeElement.className") == "skip"
    admin.page.keyboard.press("Enter")
    assert admin.page.evaluate("document.activeElement.id") == "main"
    for _ in range(40):
        admin.page.keyboard.press("Tab")
        if "Invite" in (admin.page.evaluate("document.activeElement.textContent") or ""):
            break
    outline = admin.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline not in ("none", ""), "where the focus is cannot be seen"
    admin.page.keyboard.press("Enter")
    admin.page.wait_for_url("**/invitations")


def test_a_short_digest_copies_whole_at_a_click(life: tuple[FullBoard, str], browser: Browser) -> None:
    board, base = life
    admin = ada(browser, base, permissions=["clipboard-read", "clipboard-write"])
    admin.open(f"/runs/{board.run}")
    short = admin.page.locator("#rounds code[title]").first
    whole = short.get_attribute("title")
    assert whole and len(whole) > 60 > len(short.inner_text())
    short.click()
    admin.page.locator("code.copied").wait_for()
    assert admin.page.evaluate("navigator.clipboard.readText()") == whole


def test_nothing_is_asked_of_anybody_else_and_nothing_complains(
    life: tuple[FullBoard, str], browser: Browser
) -> None:
    board, base = life
    admin = ada(browser, base)
    for path in pages(board)[:-1]:
        admin.open(path)
        admin.page.wait_for_timeout(150)
    assert admin.complaints == []
