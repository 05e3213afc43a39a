"""The browser example is the extractor too, under a strict policy and without a request to anybody else."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

from coordinator.registry.build import Export
from tests.browser.chromium import chromium, person
from tests.export_kit import Example, install, make_example


class Quiet(http.server.SimpleHTTPRequestHandler):
    """`python -m http.server`, without a line for every request."""

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests: each opens a window that knows nothing of the others."""
    with chromium() as made:
        yield made


@pytest.fixture(scope="module")
def page_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install("browser", tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def example(page_folder: Path, export_once: Export, tmp_path_factory: pytest.TempPathFactory) -> Example:
    made = make_example(tmp_path_factory.mktemp("release"), export_once)
    shutil.copytree(made.release, page_folder / "release")
    shutil.copyfile(made.head, page_folder / "head.json")
    return made


@pytest.mark.slow  # a quarter of a minute in WebAssembly; Node.js does the same in tests/contracts
def test_the_browser_gives_the_labels_and_embeddings_of_python(
    page_folder: Path, example: Example, browser: Browser
) -> None:
    labels, embeddings = example.python(example.pictures)
    with served(page_folder.parent) as base:
        somebody = person(browser, base)
        somebody.open("/browser/")
        somebody.page.wait_for_selector("body[data-ready=yes]", timeout=60_000)
        somebody.page.set_input_files("#pictures", [str(path) for path in example.pictures])
        lines = somebody.page.locator("#answers li")
        lines.nth(len(labels) - 1).wait_for(timeout=60_000)
        shown, found = (
            lines.all_text_contents(),
            [json.loads(line.get_attribute("data-embedding") or "") for line in lines.all()],
        )
        complaints = somebody.complaints
    assert [line.partition(": ")[2].rpartition(" (")[0] for line in shown] == labels
    assert np.abs(np.array(found) - embeddings).max() <= 1e-4
    assert complaints == []


@pytest.mark.slow
def test_the_page_says_what_it_cannot_read_and_labels_the_others(
    page_folder: Path, example: Example, browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "cut.png").write_bytes(example.pictures[0].read_bytes()[:90])
    chosen = [tmp_path / "cut.png", *example.resized]
    labels, embeddings = example.python(example.resized)
    with served(page_folder.parent) as base:
        somebody = person(browser, base)
        somebody.open("/browser/")
        somebody.page.wait_for_selector("body[data-ready=yes]", timeout=60_000)
        somebody.page.set_input_files("#pictures", [str(path) for path in chosen])
        lines = somebody.page.locator("#answers li")
        lines.nth(len(chosen) - 1).wait_for(timeout=60_000)
        shown = lines.all_text_contents()
        found = [json.loads(line.get_attribute("data-embedding") or "") for line in lines.all()[1:]]
        fits, complaints = somebody.fits(), somebody.complaints
    assert shown[0] == "cut.png: is no picture that this browser can decode, or is cut off."
    assert [line.partition(": ")[2].rpartition(" (")[0] for line in shown[1:]] == labels
    assert np.abs(np.array(found) - embeddings).max() <= 1e-4
    assert fits and complaints == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "left", "said"),
    [
        ("head.json", None, "head.json is not there (404)"),
        ("head.json", 100, "head.json is not whole"),
        ("release/model.onnx", None, "release/model.onnx is not there (404)"),
        ("release/model.onnx", 3000, "release/model.onnx cannot be run"),
    ],
)
def test_the_page_says_what_it_lacks(
    page_folder: Path, example: Example, browser: Browser, name: str, left: int | None, said: str
) -> None:
    path = page_folder / name
    whole = path.read_bytes()
    try:
        path.unlink() if left is None else path.write_bytes(whole[:left])
        with served(page_folder.parent) as base:
            somebody = person(browser, base)
            somebody.open("/browser/")
            somebody.page.wait_for_selector("#state.wrong", timeout=60_000)
            shown = somebody.page.text_content("#state") or ""
            assert said in shown and somebody.page.is_disabled("#pictures")
    finally:
        path.write_bytes(whole)


@pytest.mark.slow
def test_webassembly_is_what_the_policy_has_to_be_loosened_for(
    page_folder: Path, example: Example, browser: Browser
) -> None:
    page = page_folder / "index.html"
    whole = page.read_text()
    page.write_text(whole.replace(" 'wasm-unsafe-eval'", ""))
    try:
        with served(page_folder.parent) as base:
            somebody = person(browser, base)
            with somebody.page.expect_event("pageerror", timeout=60_000) as refused:
                somebody.open("/browser/")
            assert "wasm" in str(refused.value).lower()
    finally:
        page.write_text(whole)
