"""A real Chromium for the tests of pages: what it complains about is a failure, wherever it comes from."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

PROGRAMS = ("/usr/bin/chromium-headless-shell", "/usr/bin/chromium")
"""Debian's packages of these names. The first is the same browser without windows, for a third less time."""
PROGRAM = Path(os.environ.get("COMMONLENS_CHROMIUM") or next(filter(os.path.exists, PROGRAMS), PROGRAMS[-1]))
OFF = (
    # A page of the browser's own for suggestions under the address bar, in a process of every window.
    "WebUIOmniboxPopup",
    "WebUIOmniboxAimPopup",
    # Only the last --disable-features counts: of what Playwright turns off, what asks others or keeps a page back.
    "AimEnabled",
    "HttpsUpgrades",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
)
FLAGS = (
    f"--disable-features={','.join(OFF)}",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PASSWORD = "a good long sentence"


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; the test is skipped, saying so, where there is none."""
    if not PROGRAM.exists():
        pytest.skip(
            f"needs Chromium at {' or '.join(PROGRAMS)} (Debian's packages of these names), "
            "or COMMONLENS_CHROMIUM naming another"
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(PROGRAM), args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Person:
    """Somebody in front of a window, signed in or not."""

    context: BrowserContext
    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)
    """What the console and the network said that they should not."""

    def open(self, path: str) -> None:
        self.page.goto(self.base + path)

    def sign_in(self, name: str, password: str = PASSWORD) -> None:
        self.open("/sign-in")
        self.page.fill("#name", name)
        self.page.fill("#password", password)
        self.page.click("button.primary")
        self.page.wait_for_selector("nav.rail")

    def see(self, text: str, timeout_s: float = 60.0) -> None:
        """Wait until the page shows `text`."""
        self.page.get_by_text(text).first.wait_for(timeout=timeout_s * 1000)

    def fits(self) -> bool:
        """Whether nothing is wider than the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def person(browser: Browser, base: str, **options: Any) -> Person:
    """A window of its own. The consortium's CA is not in any browser's store, so its certificate is let through."""
    context = browser.new_context(ignore_https_errors=True, **options)
    page = context.new_page()
    made = Person(context, page, base)
    page.on("pageerror", lambda error: made.complaints.append(f"script: {error}"))
    page.on(
        "console",
        lambda line: made.complaints.append(f"console: {line.text}") if line.type == "error" else None,
    )
    page.on(
        "request",
        lambda request: (
            made.complaints.append(f"asked a third party: {request.url}")
            if not request.url.startswith(base)
            else None
        ),
    )
    return made
