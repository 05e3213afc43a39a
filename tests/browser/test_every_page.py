"""Every page, light and dark, wide and on a phone, with scripts off: axe-core finds nothing serious, all of it fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from coordinator.runs.service import RunService
from shared.domain.consortium import Purpose
from tests.browser.chromium import Person, chromium, person
from tests.desk import PASSWORD, enrolment, served
from tests.full_board import FullBoard, consented_by_one_of_two, full_board, more_of_life
from tests.workers_kit import FORM, lay_probe

SERIOUS = ("serious", "critical")
ABOUT_COLOURS = ["color-contrast", "link-in-text-block"]
"""Rules of axe: nothing else of a page is another in the dark."""
HEAVIEST_BYTES = 300_000
LONG_WORD = "Donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft"
NOTES = ("A note.", "Read https://" + LONG_WORD * 2)
UNFOLD = "document.querySelectorAll('details').forEach(one => { one.open = true; })"
MAY_SCROLL_ON_A_PHONE = {
    "Differences from the plan before",
    "Members and declared sizes, side by side",
    "What it costs, side by side",
    "What it says, side by side",
    "ε read as odds",
}
"""Tables whose rows are read across, so that their columns stay beside each other."""
PATHS = (
    "/",
    "/members",
    "/members/{member_id}",
    "/members/{consented}",
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
        full_board(prepared_home, tmp_path_factory.mktemp("pages"), notes=NOTES) as board,
        served(board.coordinator.asgi, board.home) as base,
    ):
        lay_probe(board.home, FORM)
        secret = board.room.invitations.invite(LONG_WORD, Purpose.CONTRIBUTE, "account:Ada")[1]
        longest = board.room.members.enrol(enrolment(secret)).member_id
        more_of_life(board)
        consented_by_one_of_two(board, longest)
        yield board, base


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


def pages(board: FullBoard) -> list[str]:
    plan = board.coordinator.control.state.runs.plan(board.plan)
    return [path.format(**board.values(), consented=plan.members[0].member_id) for path in PATHS]


def unstarted(board: FullBoard) -> str:
    """The digest of a plan from which no run began."""
    runs: RunService = board.coordinator.control.state.runs
    plan = replace(runs.plan(board.plan), rounds=5)
    runs.store.add_plan(plan, "account:Ada", "digits.safetensors")
    return str(plan.digest)


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
        admin.page.evaluate(UNFOLD)
        admin.page.emulate_media(color_scheme="light")
        found[path, "light"] = serious(admin)
        admin.page.emulate_media(color_scheme="dark")
        found[path, "dark"] = serious(admin, runOnly=ABOUT_COLOURS)
    assert {where: what for where, what in found.items() if what} == {}


SMALL_TARGETS = """() => [...document.querySelectorAll("a[href], button, summary, input, select, textarea")]
    .filter(one => one.getClientRects().length && !one.matches(".skip"))
    .filter(one => !one.matches("main p a") || one.closest("p").textContent.trim() === one.textContent.trim())
    .filter(one => (one.closest("label") ?? one).getBoundingClientRect().height < 31.9)
    .map(one => `${one.tagName} in ${one.parentElement.tagName}: ${one.textContent.trim()}`)"""
"""What is lower than 32 px. A link in a sentence is as high as its line."""


@dataclass
class Walk:
    """What was seen on the way through every page at some widths of the window."""

    wider: list[str] = field(default_factory=list)
    """Pages that are wider than the window."""
    cut: list[tuple[str, int, str]] = field(default_factory=list)
    """Pages, widths, and what of them has more to the side than it shows."""
    small: dict[str, list[str]] = field(default_factory=dict)
    """What is too low to be hit by a finger, by page."""
    complaints: list[str] = field(default_factory=list)
    """Of all pages but the last: of one that is not there the browser itself complains."""


def settled(admin: Person, path: str) -> None:
    """Everything is there, also what a script asks for when the page is open, and unfolded."""
    if path == "/plans/new":
        admin.page.locator("#check .plan-figures").wait_for()
    admin.page.evaluate(UNFOLD)


def walk(board: FullBoard, admin: Person, *widths: int) -> Walk:
    seen = Walk()
    for path in (f"/plans/compare?a={board.plan}&b={unstarted(board)}", *pages(board)):
        seen.complaints = list(admin.complaints)
        admin.page.set_viewport_size({"width": widths[0], "height": 844})
        admin.open(path)
        settled(admin, path)
        if not admin.fits():
            seen.wider.append(path)
        seen.small[path] = admin.page.evaluate(SMALL_TARGETS)
        for width in widths:
            admin.page.set_viewport_size({"width": width, "height": 844})
            found = admin.page.eval_on_selector_all(
                ".scroll", "all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.ariaLabel)"
            )
            seen.cut += [(path, width, name) for name in found]
        admin.page.wait_for_timeout(150)  # what a script asks for late is complained about, too
    return seen


@pytest.fixture(scope="module")
def on_a_desk(life: tuple[FullBoard, str], browser: Browser) -> Walk:
    board, base = life
    return walk(board, ada(browser, base), 1280, 1210, 1024, 820)


@pytest.fixture(scope="module")
def on_a_phone(life: tuple[FullBoard, str], browser: Browser) -> Walk:
    board, base = life
    return walk(board, ada(browser, base, has_touch=True), 390)


def test_no_page_is_wider_than_a_phone(on_a_phone: Walk) -> None:
    assert on_a_phone.wider == []


def test_no_table_is_cut_off_at_its_edge(on_a_desk: Walk, on_a_phone: Walk) -> None:
    """A column behind the edge of a table is one that nobody looks for. What is folded up is unfolded for this."""
    assert on_a_desk.cut == []
    assert [(path, name) for path, _, name in on_a_phone.cut if name not in MAY_SCROLL_ON_A_PHONE] == []


def test_targets_are_32_pixels_high_on_a_phone(on_a_phone: Walk) -> None:
    assert {path: small for path, small in on_a_phone.small.items() if small} == {}


def test_columns_that_are_no_table_begin_at_the_same_place(
    life: tuple[FullBoard, str], browser: Browser
) -> None:
    """Words after states of different lengths, and a bar under its number."""
    _, base = life
    left = "all => all.map(e => Math.round(e.getBoundingClientRect().left))"
    for width in (1280, 390):
        admin = ada(browser, base, viewport={"width": width, "height": 844})
        admin.open("/")
        admin.page.evaluate("document.querySelector('#health .state').textContent = 'look at it'")
        words = admin.page.eval_on_selector_all("#health dd + dd", left)
        states = admin.page.eval_on_selector_all("#health dt + dd", left)
        assert len(words) > 5 and len(set(words)) == len(set(states)) == 1, width
        admin.open("/members")
        bars = admin.page.eval_on_selector_all("#members-table progress", left)
        numbers = admin.page.eval_on_selector_all("#members-table span.number", left)
        assert len(bars) == 2 and set(bars) == set(numbers), width
        assert len(set(admin.page.eval_on_selector_all("#members-table span.number + .private", left))) == 1


def test_red_teams_pictures_are_there(life: tuple[FullBoard, str], browser: Browser) -> None:
    board, base = life
    admin = ada(browser, base)
    admin.open("/privacy/{extractor}/{number}".format(**board.values()))
    admin.see("Nothing exceeded its claim")
    widths = admin.page.eval_on_selector_all("figure img", "all => all.map(e => e.naturalWidth)")
    assert len(widths) == 2 and min(widths) > 100 and admin.complaints == []


def test_nothing_is_asked_of_anybody_else_and_nothing_complains(on_a_desk: Walk, on_a_phone: Walk) -> None:
    assert on_a_desk.complaints + on_a_phone.complaints == []


def test_refused_form_stays_where_no_script_runs(life: tuple[FullBoard, str], browser: Browser) -> None:
    """Its address takes forms only: loaded again by itself it would be an error, and what was typed gone."""
    board, base = life
    admin = ada(browser, base, java_script_enabled=False)
    reloads = admin.page.locator("meta[http-equiv=refresh]")
    for path, opens, sends in (
        (f"/runs/{board.run}", "#stop > summary", "Stop this run"),
        (f"/plans/{unstarted(board)}", "", "Withdraw the plan"),
    ):
        admin.open(path)
        assert reloads.count() == 1, path
        if opens:
            admin.page.click(opens)
        admin.page.fill("input[name=name]", "something else")
        admin.page.click(f"button:has-text('{sends}')")
        admin.page.locator("[role=alert]").wait_for()
        assert admin.page.url != base + path and reloads.count() == 0, path


def test_page_that_loads_itself_again_can_be_held_still(
    life: tuple[FullBoard, str], browser: Browser
) -> None:
    """Typing takes longer than the ten seconds after which a run's page would begin anew."""
    board, base = life
    admin = ada(browser, base, java_script_enabled=False)
    admin.open(f"/runs/{board.run}?from=1&to=1")
    admin.page.click("noscript a")  # hold it still; no text is looked for in there
    assert admin.page.locator("meta[http-equiv=refresh]").count() == 0
    assert admin.page.input_value("#to") == "1", "what was asked for stays"
    admin.page.click("noscript a")
    assert admin.page.url == f"{base}/runs/{board.run}?from=1&to=1"
    assert admin.page.locator("meta[http-equiv=refresh]").count() == 1


def test_what_could_not_be_done_leads_back(life: tuple[FullBoard, str], browser: Browser) -> None:
    board, base = life
    admin = ada(browser, base)
    admin.open(f"/runs/{board.run}")
    admin.page.evaluate("document.getElementById('do-pause').submit()")  # somebody paused it a moment ago
    admin.see("from there it can become running")
    admin.page.click("text=Back")
    admin.page.wait_for_url(f"**/runs/{board.run}")


def test_channel_that_is_not_there_is_not_said_to_be_taken_away(
    life: tuple[FullBoard, str], browser: Browser
) -> None:
    board, base = life
    admin = ada(browser, base)
    for name, said in (("stabel", "has no channel stabel"), ("stable", "stable is taken away")):
        if name == "stable":
            admin.open("/extractors?name=digits")
            admin.page.click("text=Move the channel")
            admin.see("stable points to digits-1 now")
        admin.open("/extractors?name=digits")
        admin.page.fill("#channel", name)
        admin.page.click("text=Take it away")
        admin.page.click("text=Take the channel away")
        admin.see(said, timeout_s=5)


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


def test_a_short_digest_copies_whole_by_mouse_and_by_keyboard(
    life: tuple[FullBoard, str], browser: Browser
) -> None:
    board, base = life
    admin = ada(browser, base, permissions=["clipboard-read", "clipboard-write"])
    admin.open(f"/runs/{board.run}")
    short = admin.page.locator("#rounds code[title]").first
    whole = short.get_attribute("title")
    assert whole and len(whole) > 60 > len(short.inner_text())
    for act in (short.click, lambda: short.press("Enter"), lambda: short.press(" ")):
        admin.page.evaluate("navigator.clipboard.writeText('')")
        act()
        admin.page.locator("code.copied").wait_for()
        assert admin.page.evaluate("navigator.clipboard.readText()") == whole
        admin.page.locator("code.copied").wait_for(state="detached")
    assert short.get_attribute("tabindex") == "0" and short.get_attribute("role") == "button"


def test_a_refused_copy_says_so(life: tuple[FullBoard, str], browser: Browser) -> None:
    board, base = life
    admin = ada(browser, base)
    admin.open(f"/runs/{board.run}")
    admin.page.evaluate(
        "() => { navigator.clipboard.writeText = () => Promise.reject(new Error('refused')); }"
    )
    admin.page.locator("#rounds code[title]").first.click()
    admin.page.locator("code.not-copied").wait_for()
