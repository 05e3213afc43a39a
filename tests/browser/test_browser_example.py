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
def page_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install("browser", tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def example(page_folder: Path, export_once: Export, tmp_path_factory: pytest.TempPathFactory) -> Example:
    made = make_example(tmp_path_factory.mktemp("release"), export_once)
    shutil.copytree(made.release, page_folder / "release")
    shutil.copyfile(made.head, page_folder / "head.json")
    return made


def test_the_browser_gives_the_labels_and_embeddings_of_python(page_folder: Path, example: Example) -> None:
    labels, embeddings = example.python(example.pictures)
    with chromium() as browser, served(page_folder.parent) as base:
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


def test_webassembly_is_what_the_policy_has_to_be_loosened_for(page_folder: Path, example: Example) -> None:
    page = page_folder / "index.html"
    whole = page.read_text()
    page.write_text(whole.replace(" 'wasm-unsafe-eval'", ""))
    try:
        with chromium() as browser, served(page_folder.parent) as base:
            somebody = person(browser, base)
            with somebody.page.expect_event("pageerror", timeout=60_000) as refused:
                somebody.open("/browser/")
            assert "wasm" in str(refused.value).lower()
    finally:
        page.write_text(whole)
