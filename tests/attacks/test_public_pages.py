"""Where releases are public, a stranger reads the pages of releases, and nothing else of the coordinator opens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.config import Config
from coordinator.dashboard.rules import PUBLIC_READS
from coordinator.registry.kept import stamp
from tests.attacks.test_dashboard_privileges import TABLE, Route, outcome
from tests.desk import CONSORTIUM
from tests.full_board import FullBoard, ask, full_board, more_of_life
from tests.knock import Answer, knock
from tests.markup import parsed

MARK = "xssprobe"
NOTE = f"={MARK}\"'><script>{MARK}()</script><img src=x onerror={MARK}()><{MARK}>{{{{7*7}}}}"


@pytest.fixture(scope="module")
def open_board(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullBoard]:
    """A coordinator whose releases are public, with a release whose notes attack."""
    config = Config(CONSORTIUM, public_releases=True)
    with full_board(prepared_home, tmp_path_factory.mktemp("public"), config, notes=(NOTE,)) as board:
        more_of_life(board)
        yield board


def lines() -> dict[Route, set[str]]:
    found = (line.split() for line in TABLE.splitlines() if line.strip())
    return {(method, path): set(who) for method, path, *who in found}


@pytest.mark.parametrize("route", sorted(lines()), ids=" ".join)
def test_a_stranger_gets_through_where_the_table_says_so_and_nowhere_else(
    open_board: FullBoard, route: Route
) -> None:
    may = bool(lines()[route] & {"p", "anybody"})
    assert (outcome(ask(open_board, route, None)) == "let through") == may
    assert (route in PUBLIC_READS) == ("p" in lines()[route] and not re.search(r"^/api|resolve", route[1]))


def read(board: FullBoard, path: str) -> Answer:
    return knock(board.coordinator.asgi, "GET", path)


def walk(board: FullBoard) -> dict[str, Answer]:
    """Every page that a stranger reaches from the first by links, pictures and forms that are sent by GET."""
    seen: dict[str, Answer] = {}
    ahead = ["/extractors", "/extractors/diff?before=digits-1&after=digits-1"]
    while ahead:
        path = ahead.pop()
        if path not in seen:
            seen[path] = answer = read(board, path)
            if answer.header("content-type").startswith("text/html") and not path.startswith("/sign-in"):
                found = re.findall(r'(?:href|src|action)="(/[^"#]*)', answer.text)
                ahead += [where.replace("&amp;", "&") for where in found if not where.startswith("/static/")]
    return seen


def test_every_link_that_a_stranger_is_shown_opens(open_board: FullBoard) -> None:
    seen = walk(open_board)
    assert {"/extractors/digits/1", "/extractors/digits/1/files/model.safetensors", "/sign-in"} <= set(seen)
    wrong = {path: a.status for path, a in seen.items() if a.status != 200 and "after=digits-1" not in path}
    assert wrong == {}
    assert not any('method="post"' in a.text for path, a in seen.items() if path != "/sign-in")


def test_pages_of_strangers_say_nothing_of_the_coordinators_own_and_nothing_as_markup(
    open_board: FullBoard,
) -> None:
    entry = open_board.coordinator.control.state.releases.find("digits", "1")
    for path, answer in walk(open_board).items():
        if answer.header("content-type").startswith("text/html"):
            assert parsed(answer.text, MARK).faults == [], path
            for own in ("Ada", "Otto", "North", "nightly", "Trained, not published", "Standard extractors"):
                assert own not in answer.text, (path, own)
    page = read(open_board, "/extractors/digits/1")
    assert f"&lt;script&gt;{MARK}()" in page.text and "commonlens pull" in page.text
    # Nobody's question makes this machine verify a release that did not sign in.
    assert "They are checked here for those who sign in" in page.text
    service = open_board.coordinator.control.state.releases
    checked = service._checks.peek((stamp(service.folder(entry)), entry.manifest_digest))
    assert checked is None and not service._running


def test_where_releases_are_not_public_every_page_leads_to_signing_in(
    prepared_home: Path, tmp_path: Path
) -> None:
    with full_board(prepared_home, tmp_path) as board:
        for _, path in sorted(PUBLIC_READS):
            where = path.replace("{name}", "digits").replace("{number}", "1").replace("{file}", "plan.json")
            assert read(board, where).header("location").startswith("/sign-in?next=/extractors"), where
        assert "/extractors" not in read(board, "/sign-in").text
