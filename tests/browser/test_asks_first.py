"""What ends something asks first: by keyboard, with scripts off, and nothing happens before the second button."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import Person, chromium, person
from tests.desk import PASSWORD, served
from tests.full_board import FullBoard, full_board, more_of_life

ACTS = (
    ("/members/{member_id}", "suspend", "no round asks it and no consent of it counts", "was suspended"),
    ("/members", "withdraw-{invitation_id}", "Nobody can join with it any more", "was withdrawn"),
    ("/account", "revoke-", "is refused from that moment on", "revoked"),
    ("/extractors?name={extractor}", "channel-away", "points to nothing any more", "stable is taken away"),
)
"""A page, the beginning of the id of what opens on it, what it says there, and what is said afterwards."""


@pytest.fixture(scope="module")
def life(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FullBoard, str]]:
    with (
        full_board(prepared_home, tmp_path_factory.mktemp("asks")) as board,
        served(board.coordinator.asgi, board.home) as base,
    ):
        more_of_life(board)
        yield board, base


@pytest.fixture(scope="module")
def admin(life: tuple[FullBoard, str]) -> Iterator[Person]:
    with chromium() as browser:
        yield _ada(browser, life[1])


def _ada(browser: Browser, base: str) -> Person:
    made = person(browser, base, java_script_enabled=False)
    made.sign_in("Ada", PASSWORD)
    return made


@pytest.mark.parametrize(("path", "opens", "says", "done"), ACTS, ids=lambda text: text[:12])
def test_an_end_is_asked_for_twice_by_keyboard_and_without_scripts(
    life: tuple[FullBoard, str], admin: Person, path: str, opens: str, says: str, done: str
) -> None:
    values = life[0].values()
    if opens == "channel-away":
        admin.open(path.format(**values))
        admin.page.click("text=Move the channel")
    admin.open(path.format(**values))
    asks = admin.page.locator(f"details[id^='{opens.format(**values)}']")
    button = asks.locator("button")
    assert not button.is_visible() and not asks.get_by_text(says).is_visible()
    asks.locator("summary").press("Enter")
    assert button.is_visible() and asks.get_by_text(says).is_visible()
    admin.page.keyboard.press("Tab")
    assert button.evaluate("e => e === document.activeElement")
    admin.page.keyboard.press("Enter")
    admin.see(done, timeout_s=10)
    assert admin.complaints == []
