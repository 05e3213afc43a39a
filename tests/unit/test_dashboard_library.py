"""Pages of extractors that nobody trained here, of lens profiles, and of channels."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.registry.shelf import Shelf, read_catalogue
from shared.domain.clock import SystemClock
from tests.dashboard_kit import Board, open_board, words
from tests.library_kit import ABOUT, keep_both
from tests.release_kit import Kit, make_kit


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    folder = tmp_path_factory.mktemp("library")
    kit = make_kit(folder, moment=SystemClock().now())
    keep_both(kit, folder)
    kit.publish("one")
    kit.publish("two")
    return kit


@pytest.fixture
def board(kit: Kit, tmp_path: Path) -> Iterator[Board]:
    made = open_board(kit.home, tmp_path / "board")
    yield made
    made.coordinator.carrier.stop()
    made.coordinator.engine.dispose()


def channels(board: Board) -> dict[str, str]:
    catalogue = read_catalogue(Shelf(board.home), SystemClock())
    return {name: entry.id for name, entry in catalogue.channels_of("digits").items()}


def test_catalogue_says_of_what_nobody_trained_here_its_kind_and_no_epsilon(board: Board) -> None:
    page = board.browser("Otto").get("/extractors?name=colours")
    assert ABOUT["colours"] in words(page) and "classical" in words(page) and "Apache-2.0" in words(page)
    assert "ε alone" not in page.text and 'src="/extractors/colours/1/lens"' in page.text


def test_its_page_has_the_picture_the_origin_and_proofs_of_its_own(board: Board) -> None:
    page = board.browser("Otto").get("/extractors/colours/1")
    assert page.status_code == 200 and "All 5 hold" in words(page)
    assert "No member's records had a part in it, so there is no ε to state" in words(page)
    assert 'src="/extractors/colours/1/lens"' in page.text and "Who can learn what" not in words(page)
    assert "--explain" not in words(page) and "commonlens pull" in words(page)


def test_the_picture_is_the_releases_own_and_may_run_nothing(board: Board) -> None:
    answer = board.browser("Otto").get("/extractors/colours/1/lens")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.content == (board.home / "releases/colours/1/lens.svg").read_bytes()
    ElementTree.fromstring(answer.content)
    assert board.browser("Otto").get("/extractors/digits/1/lens").status_code == 404


def test_privacy_pages_speak_of_what_was_trained_only(board: Board) -> None:
    page = board.browser("Otto").get("/privacy")
    assert "digits-2" in words(page) and "colours-1" not in words(page)
    assert board.browser("Otto").get("/privacy/colours/1").status_code == 404


def test_an_admin_moves_a_channel_and_takes_it_away(board: Board) -> None:
    ada = board.browser("Ada")
    assert "A channel is a signed pointer" in words(ada.get("/extractors?name=digits"))
    done = ada.post("/channels/digits", channel="stable", release="digits-1")
    assert done.headers["location"] == "/extractors?name=digits"
    assert channels(board) == {"latest": "digits-2", "stable": "digits-1"}
    assert "stable" in words(ada.get("/extractors/digits/1"))
    ada.post("/channels/digits", channel="stable", release="digits-1", remove="yes")
    assert channels(board) == {"latest": "digits-2"}


def test_whoever_may_not_move_a_channel_sees_no_form_and_cannot_send_one(board: Board) -> None:
    otto = board.browser("Otto")
    assert "/channels/" not in otto.get("/extractors?name=digits").text
    assert otto.post("/channels/digits", channel="stable", release="digits-1").status_code == 403
    assert channels(board) == {"latest": "digits-2"}


@pytest.mark.parametrize(
    ("path", "channel", "release", "status"),
    [
        ("digits", "latest", "digits-1", 422),
        ("digits", "stable", "digits-9", 404),
        ("digits", "stable", "colours-1", 404),
        ("nothing", "stable", "digits-1", 404),
    ],
)
def test_a_channel_that_cannot_be_is_refused(
    board: Board, path: str, channel: str, release: str, status: int
) -> None:
    answer = board.browser("Ada").post(f"/channels/{path}", channel=channel, release=release)
    assert answer.status_code == status and channels(board) == {"latest": "digits-2"}
