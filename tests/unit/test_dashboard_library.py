"""Pages of extractors that nobody trained here, of lens profiles, and of channels."""

from __future__ import annotations

import html
import json
import re
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.registry.build import KeepRequest, weights_only
from coordinator.registry.library import StandardLibrary
from coordinator.registry.publish import publish
from coordinator.registry.shelf import Shelf, read_catalogue
from shared.domain.clock import SystemClock
from shared.domain.ids import ReleaseId
from shared.domain.release import Source, SourceKind
from shared.extractors.packages import Packages
from shared.extractors.standard_entries import STANDARD_EXTRACTORS
from shared.lens.profile_shape import read_profile
from shared.lens.words import describe
from tests.dashboard_kit import Board, open_board, words
from tests.knock import knock
from tests.library_kit import ABOUT, keep_both
from tests.release_kit import Kit, make_kit

SOURCE = Source(SourceKind.CLASSICAL, "Sees little.", "Apache-2.0", "this software")
LINES = re.compile(r'<pre id="line-(\w+)"[^>]*>(.*?)</pre>', re.DOTALL)
NOWHERE = Packages(("no_such_package",), ("no-such-package==1",))


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    folder = tmp_path_factory.mktemp("library")
    kit = make_kit(folder, moment=SystemClock().now())
    keep_both(kit, folder)
    kit.publish("one")
    kit.publish("two", notes=("Knows a second <i>kind</i> of digit.",))
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
    profile = json.loads((board.home / "releases/colours/1/lens.json").read_text())
    assert describe(read_profile(profile, "lens.json")) in html.unescape(words(page))
    assert "--explain" not in words(page) and "commonlens pull" in words(page)


@pytest.mark.parametrize(
    ("file", "key", "line", "given"),
    [
        (
            "tokenizer.json",
            "sentences",
            'SentenceTransformer("test-consortium/other", revision="v1")',
            "*.txt",
        ),
        ("timm.safetensors", "timm", 'create_model("hf-hub:test-consortium/other@v1"', "*.png"),
        ("config.json", "", "", "*.png"),
    ],
)
def test_lines_to_copy_are_for_what_it_reads_and_who_loads_it(
    kit: Kit, tmp_path: Path, file: str, key: str, line: str, given: str
) -> None:
    own = kit.copy(tmp_path / "home")

    def export(folder: Path, _: str) -> dict[str, str]:
        (folder / file).write_text("{}")
        return {}

    publish(own.home, KeepRequest("other", SOURCE, own.starting), own.clock, export=export)
    made = open_board(own.home, tmp_path / "board")
    page = made.browser("Otto").get("/extractors/other/1")
    made.coordinator.carrier.stop()
    made.coordinator.engine.dispose()
    found = {name: html.unescape(text) for name, text in LINES.findall(page.text)}
    assert {"sentences", "timm"} & found.keys() == {key} - {""} and line in found.get(key, "")
    assert f"commonlens embed other-1 {given} --root" in found["embed"]
    assert ("texts, one a line," in words(page)) == (given == "*.txt")


def test_the_line_of_an_extractor_has_a_changelog_newest_first(board: Board) -> None:
    page = board.browser("Otto").get("/extractors?name=digits")
    said = words(page).partition("Changelog")[2]
    note = "Knows a second <i>kind</i> of digit. 4 closed rounds, 3 members, highest ε"
    assert said.index("digits-2") < said.index(note) < said.index("digits-1")
    assert note in words(page) and 'href="/extractors/digits/2#changes"' in page.text
    assert "Knows a second <i>kind</i> of digit." in words(board.browser("Otto").get("/extractors/digits/2"))
    assert "Changelog" not in words(board.browser("Otto").get("/extractors/digits/1"))


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


def slowly(board: Board, kit: Kit) -> tuple[StandardLibrary, threading.Event]:
    """Its library makes small networks, once it is let to."""
    go_on = threading.Event()
    weights = board.home / "releases" / "thumbnails" / "1" / "model.safetensors"

    def keep(name: str, _actor: str) -> ReleaseId:
        go_on.wait(30.0)
        request = KeepRequest(name, SOURCE, weights)
        return publish(board.home, request, SystemClock(), export=weights_only)

    state = board.coordinator.control.state
    missing = replace(STANDARD_EXTRACTORS["minilm"], needs=NOWHERE)
    state.library = StandardLibrary(state.releases, keep, {**STANDARD_EXTRACTORS, "minilm": missing})
    return state.library, go_on


def finish(library: StandardLibrary, go_on: threading.Event) -> None:
    """Let it make what was asked for."""
    go_on.set()
    library.join(30.0)
    assert library._thread is None


def test_an_admin_adds_a_standard_extractor_and_sees_how_far_it_is(board: Board, kit: Kit) -> None:
    library, go_on = slowly(board, kit)
    ada = board.browser("Ada")
    page = ada.get("/extractors")
    assert 'action="/library/hog"' in page.text and 'action="/library/colours"' not in page.text
    assert "Sees shape by which way edges run" in words(page)
    assert 'action="/library/minilm"' not in page.text
    assert f"On the coordinator: {NOWHERE.install} , then start it again." in words(page)
    done = ada.post("/library/hog")
    assert done.headers["location"] == "/extractors#standard"
    page = ada.get("/extractors")
    assert "hog is being made." in words(page) and 'action="/library/hog"' not in page.text
    assert "Library well 1 of 8 standard extractors; being filled, hog now" in words(ada.get("/"))
    refused = ada.post("/library/hog")
    assert refused.status_code == 409 and "The library has hog already" in words(refused)
    finish(library, go_on)
    assert 'href="/extractors/hog/1"' in ada.get("/extractors").text
    assert "Last release" in words(ada.get("/")) and 'href="/extractors/digits/2"' in ada.get("/").text


def test_whoever_may_not_add_one_sees_no_form_and_cannot_send_one(board: Board, kit: Kit) -> None:
    library, _ = slowly(board, kit)
    otto = board.browser("Otto")
    assert "not there" in words(otto.get("/extractors")) and "/library/" not in otto.get("/extractors").text
    assert otto.post("/library/hog").status_code == 403 and library._thread is None


def test_a_program_adds_one_and_asks_how_far_it_is(board: Board, kit: Kit) -> None:
    library, go_on = slowly(board, kit)
    accounts = board.room.accounts

    def send(method: str, path: str, name: str) -> tuple[int, Any]:
        token = accounts.issue_token(name, 3600, "operator")
        headers = {"authorization": f"Bearer {token}"}
        answer = knock(board.coordinator.asgi, method, f"/api/v1{path}", headers)
        return answer.status, json.loads(answer.text)

    assert send("POST", "/library/hog", "Otto")[0] == 403
    assert send("POST", "/library/sift", "Ada")[0] == 404
    status, begun = send("POST", "/library/hog", "Ada")
    assert (status, begun["name"], begun["release"]) == (202, "hog", "")
    found = {one["name"]: one for one in send("GET", "/library", "Otto")[1]["extractors"]}
    assert found["hog"]["state"] == "making" and found["colours"]["release"] == "colours-1"
    assert (found["minilm"]["state"], found["minilm"]["problem"]) == ("not-installed", NOWHERE.install)
    finish(library, go_on)
