"""The plan form's own script, in a real browser: the dial, the checks that follow it, and where refusals lead."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, Route, expect

from coordinator.runs.proposals import every_plan
from shared.domain.consortium import Purpose
from tests.browser.chromium import Person, chromium, person
from tests.dashboard_kit import Board, open_board
from tests.desk import PASSWORD, enrolment, served
from tests.workers_kit import FORM, TINY, lay_probe

SMALL = {
    "extractor_name": "tiny",
    "extractor.height": "8",
    "extractor.width": "8",
    "extractor.embedding_dim": "4",
    "options.fixed-mlp.hidden": "6",
    "options.fixed-mlp.grid": "2",
    "rounds": "3",
}
PATIENCE_MS = 30_000.0
"""For what takes a moment on a machine that is not busy."""
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def consortium(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Board, str]]:
    """A coordinator with three contributors, behind TLS, and its address."""
    board = open_board(prepared_home, tmp_path_factory.mktemp("plan-form") / "coordinator")
    lay_probe(board.home, FORM, TINY)
    for name in ("South", "East"):
        secret = board.room.invitations.invite(name, Purpose.CONTRIBUTE, "operator")[1]
        board.room.members.enrol(enrolment(secret))
    with served(board.coordinator.asgi, board.home) as base:
        yield board, base
    board.coordinator.engine.dispose()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def window(consortium: tuple[Board, str], browser: Browser) -> Person:
    """One for all tests: each of its own takes the browser a second."""
    return person(browser, consortium[1])


@pytest.fixture
def ada(window: Person) -> Iterator[Person]:
    """In front of the form, which was checked once with a small extractor."""
    window.open("/plans/new")
    if "/sign-in" in window.page.url:  # the first test, and the one after a session ended
        window.sign_in("Ada", PASSWORD)
        window.open("/plans/new")
    window.complaints.clear()
    window.page.locator("#settings > summary").click()
    for key, text in SMALL.items():
        field(window.page, key).fill(text)
    expect(window.page.locator("#check")).to_contain_text("No run named tiny")
    checked(window.page, 3.0)
    yield window
    window.page.unroute_all()


def field(page: Page, key: str) -> Locator:
    """The field of a setting."""
    return page.locator(f'#plan-form [name="{key}"]')


def says(page: Page, target: float) -> bool:
    """Whether the form says that a plan with this target was checked: what its rounds cost is a little less."""
    found = re.match(
        r"ε ([\d.]+), alone: [a-z\d. ]+; a guess is right at most", page.locator("#check-state").inner_text()
    )
    return found is not None and 0.9 * target < float(found[1]) <= target


def checked(page: Page, target: float) -> None:
    """Wait for that."""
    until(page, lambda: says(page, target), f"a check at ε {target:g}")


def until(page: Page, happened: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + PATIENCE_MS / 1000.0
    while not happened():
        assert time.monotonic() < ends, f"{what} did not come: {page.locator('#check-state').inner_text()}"
        page.wait_for_timeout(50)


def noise(page: Page) -> float:
    found = re.search(r"σ ([\d.]+)", page.locator("#in-terms").text_content() or "")
    assert found is not None
    return float(found[1])


def checks(page: Page) -> list[Request]:
    """The checks that are asked for from now on."""
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request) if request.url.endswith("/check") else None)
    return asked


def test_dial_and_number_move_together_and_what_it_costs_follows_by_itself(ada: Person) -> None:
    page, before = ada.page, noise(ada.page)
    dial, number = page.locator("#dial"), page.locator("#f-privacy-target_epsilon")
    expect(dial).to_be_visible()
    assert (number.input_value(), dial.get_attribute("aria-valuetext")) == ("3", "ε 3")
    dial.focus()
    page.keyboard.press("Home")
    expect(number).to_have_value("0.5")
    assert dial.get_attribute("aria-valuetext") == "ε 0.5"
    checked(page, 0.5)
    assert noise(page) > 2 * before
    page.keyboard.press("End")
    expect(number).to_have_value("10")
    number.fill("2.2")
    assert dial.input_value() == "49", "the middle of a scale by ratios: √(0.5 · 10) is 2.2"
    checked(page, 2.2)
    assert page.url.endswith("/plans/new") and ada.complaints == []


def test_one_check_is_asked_for_at_a_time_and_the_last_wish_is_answered(ada: Person) -> None:
    page, held, asked = ada.page, list[Route](), list[str]()

    def hold(route: Route) -> None:
        held.append(route)
        asked.append(route.request.url)

    page.route("**/plans/check", hold)
    number = page.locator("#f-privacy-target_epsilon")
    for text in ("7", "6", "5", "4"):
        number.fill(text)
        page.wait_for_timeout(600)  # longer than the form's pause: each is a wish of its own
    assert len(asked) == 1, "the others wait for the first"
    expect(page.locator("#check")).to_have_attribute("aria-busy", "true")
    held.pop().continue_()
    until(page, lambda: len(held) == 1, "the second check")
    held.pop().continue_()
    checked(page, 4.0)
    expect(page.locator("#check")).not_to_have_attribute("aria-busy", "true")
    assert len(asked) == 2, "those in between are not asked for"


def test_typing_is_waited_for_until_it_rests(ada: Person) -> None:
    asked = checks(ada.page)
    ada.page.locator("#f-privacy-target_epsilon").evaluate(
        """each => { for (const text of ["1", "1.", "1.5"]) {
            each.value = text; each.dispatchEvent(new Event("input", {bubbles: true})); } }"""
    )
    checked(ada.page, 1.5)
    assert len(asked) == 1


def test_refusal_marks_its_field_and_leads_there(ada: Person) -> None:
    page = ada.page
    page.locator("#settings > summary").click()
    page.locator("#settings").evaluate("each => { each.open = false; }")
    rounds = page.locator("#f-rounds")
    rounds.evaluate(
        "each => { each.value = 'twelve'; each.dispatchEvent(new Event('input', {bubbles: true})); }"
    )
    expect(page.locator("#check")).to_contain_text("Rounds: expected a whole number, found 'twelve'")
    expect(page.locator("#check-state")).to_have_text("Refused")
    assert rounds.get_attribute("aria-invalid") == "true"
    page.locator("#check a[data-wrong]").click()
    expect(rounds).to_be_focused()
    assert page.locator("#settings").evaluate("each => each.open"), "it is opened where the field is inside"
    rounds.fill("3")
    checked(page, 3.0)
    assert rounds.get_attribute("aria-invalid") is None


def test_options_of_other_architectures_are_hidden_and_keep_what_was_typed(ada: Person) -> None:
    page = ada.page
    hidden = field(page, "options.fixed-mlp.hidden")
    assert page.locator("[data-architecture]:visible").count() == 1
    page.locator("#f-extractor-architecture").select_option("small-gn")
    expect(hidden).to_be_hidden()
    assert page.locator("[data-architecture]:visible").get_attribute("data-architecture") == "small-gn"
    page.locator("#f-extractor-architecture").select_option("fixed-mlp")
    expect(hidden).to_be_visible()
    assert hidden.input_value() == "6"


def test_check_button_stays_on_the_page_and_says_when_nobody_answers(ada: Person) -> None:
    page = ada.page
    page.route("**/plans/check", lambda route: route.abort())
    page.locator("#check-button").click()
    expect(page.locator("#check-state")).to_have_text(
        "Not checked: the coordinator did not answer. Press Check to try again."
    )
    page.unroute("**/plans/check")
    page.locator("#check-button").click()
    checked(page, 3.0)
    assert page.url.endswith("/plans/new")


def test_propose_comes_after_the_costs_on_a_phone_and_for_the_keyboard(ada: Person) -> None:
    page = ada.page
    propose, costs = page.locator("#plan-form button.primary"), page.locator("#check")
    before = "(one, other) => Boolean(one.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING)"
    assert costs.evaluate(before, propose.element_handle())
    for width, below in ((1280, False), (390, True)):
        page.set_viewport_size({"width": width, "height": 844})
        shown, button = costs.bounding_box(), propose.bounding_box()
        assert shown is not None and button is not None
        assert (button["y"] >= shown["y"] + shown["height"]) is below, width


def test_protocols_terms_stay_unfolded_while_the_dial_moves(ada: Person) -> None:
    page, unfolded = ada.page, "each => each.open"
    page.locator("#in-terms > summary").click()
    page.locator("#f-privacy-target_epsilon").fill("2")
    checked(page, 2.0)
    assert page.locator("#in-terms").evaluate(unfolded)
    assert "C/B" in page.locator("#check").inner_text()
    page.locator("#in-terms > summary").click()
    shown = page.locator("#check").inner_text()
    assert [term for term in ("C/B", "ring", "σ", "1e-0") if term in shown] == []
    assert "except with a chance of 1 in 100,000" in shown


def test_session_that_ended_is_said_and_what_was_typed_stays(
    ada: Person, consortium: tuple[Board, str]
) -> None:
    board, page = consortium[0], ada.page
    owner = board.room.accounts.id_of("Ada")
    board.room.own_tokens.end_others(owner, "operator", "")
    page.locator("#f-privacy-target_epsilon").fill("2")
    expect(page.locator("#check-state")).not_to_contain_text("ε")
    assert page.locator("#f-privacy-target_epsilon").input_value() == "2"


def test_proposing_leads_to_the_plan_as_it_was_checked(ada: Person, consortium: tuple[Board, str]) -> None:
    page = ada.page
    page.locator("#f-privacy-target_epsilon").fill("6")
    checked(page, 6.0)
    page.locator("#plan-form button.primary").click()
    page.wait_for_url(re.compile(r"/plans/sha256:[0-9a-f]{64}$"))
    newest = every_plan(consortium[0].room.engine)[-1]
    assert page.url.endswith(newest.digest) and newest.plan.privacy.target_epsilon == 6.0
    assert ada.complaints == []
