"""What two releases do differently, over HTTP: measured once by a real worker, then kept and shown."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from coordinator.dashboard.words import one_in
from coordinator.members.allowance import Allowance
from coordinator.openapi import description_of
from coordinator.registry.behaviour import Comparisons, ComparisonState
from coordinator.registry.shelf import yank
from coordinator.workers import difference, difference_worker
from shared.domain.clock import SystemClock
from shared.domain.errors import BadSignature, DigestMismatch, Invalid, TooManyAttempts
from shared.domain.release import ONNX_FILE
from tests.behaviour_kit import (
    DAMAGES,
    Document,
    Slow,
    comparisons,
    entries,
    make_compared_kit,
    mean_colour,
    open_again,
    put,
    wait_for,
)
from tests.dashboard_kit import Board, Browser, open_board, words
from tests.release_kit import Kit

PAGE = "/extractors/diff?before=digits-1&after=digits-2"
API = "/api/v1/releases/digits/2/diff"
MARKUP = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return make_compared_kit(tmp_path_factory.mktemp("behaviour"))


@pytest.fixture(scope="module")
def board(kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    made = open_board(kit.home, tmp_path_factory.mktemp("board") / "coordinator")
    yield made
    made.coordinator.carrier.stop()
    made.coordinator.engine.dispose()


@pytest.fixture(scope="module")
def asked(board: Board) -> list[httpx.Response]:
    """What a visitor without scripts sees: before it asks, when it has asked, and when it was measured."""
    otto = board.browser("Otto")
    seen = [otto.get(PAGE)]
    assert not (board.home / "differences").exists(), "looking begins nothing"
    sent = otto.post("/extractors/diff", before="digits-1", after="digits-2")
    assert sent.status_code == 303 and sent.headers["location"] == PAGE
    seen.append(otto.get(PAGE))
    going = api(board, "Ada", "GET")
    assert going.status_code == 202 and going.json()["state"] == "measuring" and going.json()["since"]
    wait_for(comparisons(board), *entries(board.home, "digits-1", "digits-2"))
    return [*seen, otto.get(PAGE)]


@pytest.fixture(scope="module")
def document(board: Board, asked: list[httpx.Response]) -> Document:
    """What the worker found."""
    (path,) = (board.home / "differences").glob("*.json")
    found: Document = json.loads(path.read_text("utf-8"))["difference"]
    return found


@pytest.fixture
def home(board: Board, document: Document, tmp_path: Path) -> Path:
    """A home where digits-1 and digits-2 were compared, to do as one likes with."""
    return shutil.copytree(board.home, tmp_path / "home")


def nobody(*_: object) -> Any:
    raise AssertionError("measured although it is known")


def api(board: Board, name: str, method: str, **arguments: Any) -> httpx.Response:
    token = board.room.accounts.issue_token(name, 600, "operator")
    headers = {"authorization": f"Bearer {token}"}
    return Browser(board.coordinator.asgi).request(method, API, headers=headers, **arguments)


# the page


def test_first_visit_offers_to_measure_and_the_next_says_that_it_goes_on(
    asked: list[httpx.Response],
) -> None:
    before, during, after = asked
    assert "have not been compared yet" in words(before) and ">Measure</button>" in before.text
    assert "Refresh" not in before.headers
    assert "Being measured" in words(during) and "since" in words(during)
    assert during.headers["Refresh"] == "4" and "Refresh" not in after.headers
    assert "Load the page again" in words(during) and "<select" not in during.text


def test_page_says_what_changed_with_intervals_and_in_words_whether_by_chance(
    asked: list[httpx.Response], document: Document
) -> None:
    page, said = asked[-1], words(asked[-1])
    behaviour = document["behaviour"]
    colour = next(told for told in behaviour["tells"] if told["what"] == "colour")
    assert colour["more"]["high"] < -0.4, "digits-2 is blind to colour"
    shown = f"colour {percent(colour['before'])} {percent(colour['after'])} {percent(colour['more'], '+')} worse 288"
    assert shown in said
    assert "within chance" in said and "farther" in said and "less far" in said
    for sentence in document["words"].split(". "):
        assert sentence.rstrip(".") in said
    stayed = behaviour["neighbours"]
    assert f"all {percent(stayed['stayed'])} {100 * stayed['same_before']['value']:.0f}" in said
    assert page.text.count("<h1") == 1 and "Not compared" not in said


def test_classes_of_every_question_are_folded_under_one_line_that_says_what_changed(
    asked: list[httpx.Response], document: Document
) -> None:
    text, said = asked[-1].text, words(asked[-1])
    assert text.count('<details class="classes">') == 5, "none is open"
    for told in document["behaviour"]["tells"]:
        line = re.sub(r"<[^>]*>", "", re.findall(rf'question">{told["what"]}<.*?</summary>', text)[0])
        for one in told["classes"]:
            shown = " ".join(
                (one["what"], *map(percent, (one["before"], one["after"])), percent(one["more"], "+"))
            )
            assert shown in said
            changed = one["more"]["low"] > 0 or one["more"]["high"] < 0
            sign = f"{one['what']} {100 * one['more']['value']:+.0f}"
            assert (sign in line) == changed or "all 6" in line
    assert "worse : all 6" in said  # digits-2 sees no colour at all


def percent(estimate: dict[str, float], sign: str = "") -> str:
    value, low, high = (format(100 * estimate[name], f"{sign}.0f") for name in ("value", "low", "high"))
    return f"{value} {low} to {high}"


def test_page_has_the_epsilons_of_every_member_and_sizes(
    asked: list[httpx.Response], document: Document
) -> None:
    said = words(asked[-1])
    assert len(document["spent"]) == 6
    for each in document["spent"]:
        assert each["together"]["epsilon"] > each["after"]["epsilon"], "two runs"
        assert f"{each['name']} {one_in(each['delta'])}" in said
    assert "model.onnx" in said and "Neither release states a speed" in said
    assert "commonlens diff digits-1 digits-2 --root " in said


def test_pictures_stand_beside_their_numbers_and_nothing_is_inline(asked: list[httpx.Response]) -> None:
    text = asked[-1].text
    pictures = re.findall(r"<svg[^>]*>", text)
    assert len(pictures) == 5 + (6 + 6 + 6 + 4 + 4) + 7 + 7 and all(
        'aria-hidden="true"' in one for one in pictures
    )
    assert "style=" not in text and "<style" not in text and "onload" not in text
    assert text.count("<table") == text.count("<caption") == 10
    assert "<th>" not in text and all("scope=" in th for th in re.findall(r"<th [^>]*>", text))


def test_whoever_may_read_releases_may_compare_them_and_others_may_not(
    board: Board, asked: list[httpx.Response]
) -> None:
    for browser in (board.browser("Ada"), board.browser("Otto"), board.member_browser()):
        assert "From digits-1 to digits-2" in words(browser.get(PAGE))
        assert browser.get(f"{PAGE}9").status_code == 404
        assert browser.get("/extractors/diff?before=../1&after=digits-1").status_code == 404
        assert browser.post("/extractors/diff", before="digits-9", after="digits-1").status_code == 404
    stranger = board.browser()
    assert stranger.get(PAGE).headers["location"].startswith("/sign-in?next=")
    assert stranger.request("POST", "/extractors/diff", data={"before": "digits-1"}).status_code == 401
    assert stranger.get(f"{API}?before=digits-1").status_code == 401


def test_releases_lead_here_and_two_are_chosen_in_a_form(board: Board, asked: list[httpx.Response]) -> None:
    otto = board.browser("Otto")
    assert f'href="{PAGE}"'.replace("&", "&amp;") in otto.get("/extractors/digits/2").text
    assert 'href="/extractors/diff?after=words-1"' in otto.get("/extractors/words/1").text
    assert 'href="/extractors/diff"' in otto.get("/extractors").text
    for path in ("/extractors/diff", "/extractors/diff?after=digits-2"):
        assert re.findall(r'value="([^"]+)" selected', otto.get(path).text) == ["digits-1", "digits-2"]
    kept = otto.get("/extractors/diff?after=words-1")
    assert re.findall(r'value="([^"]+)" selected', kept.text) == ["digits-2", "words-1"]


def test_a_release_is_not_compared_with_itself(board: Board) -> None:
    otto = board.browser("Otto")
    sent = otto.post("/extractors/diff", before="digits-1", after="digits-1")
    page = otto.get(sent.headers["location"])
    assert page.status_code == 422 and "both are digits-1. Nothing was measured" in words(page)
    assert api(board, "Otto", "GET", params={"before": "digits-2"}).status_code == 422


def test_two_that_cannot_be_compared_are_refused_by_the_worker_and_may_be_asked_again(board: Board) -> None:
    otto = board.browser("Otto")
    path = otto.post("/extractors/diff", before="words-1", after="digits-2").headers["location"]
    found = wait_for(comparisons(board), *entries(board.home, "words-1", "digits-2"))
    assert found.state is ComparisonState.FAILED
    page = otto.get(path)
    assert "words-1 reads texts, digits-2 images" in words(page) and ">Measure again</button>" in page.text


def test_page_of_texts_of_other_machines_and_of_members_who_left(home: Path, document: Document) -> None:
    made = json.loads(json.dumps(document))
    made["before"], made["after"] = made["after"], made["before"]
    made["behaviour"] |= {"moves": [], "before": None, "after": None, "tells": made["behaviour"]["tells"][:1]}
    made["before"] |= {"speed": [rate(100.0)], "measured_on": "A, 1 thread", "int8_missing": MARKUP}
    made["after"] |= {"speed": [rate(50.0)], "measured_on": "B, 2 threads", "sizes_bytes": {}}
    made["spent"][0] |= {"name": MARKUP, "before": None, "together": {"epsilon": 1.0, "alone": 7.5}}
    put(home, made)
    board = open_again(home)
    page = board.browser("Otto").get("/extractors/diff?before=digits-2&after=digits-1")
    said = words(page)
    assert "What moves it" not in said and "Dashed: guessing" not in said
    assert "Not the same machine, so speeds are not to be compared: A, 1 thread; B, 2 threads" in said
    assert "onnx fp32, batch 1 100 records/s 50 records/s –" in said and "model.onnx 2" in said
    assert f"{MARKUP} 1 in 100,000 no part" in said and "1.000 alone 7.500" in said
    assert MARKUP not in page.text and '<details class="classes" open>' in page.text
    assert f" has no model-int8.onnx: {MARKUP}." in said
    board.coordinator.carrier.stop()
    board.coordinator.engine.dispose()


def rate(records_per_s: float) -> Document:
    return {"program": "onnx fp32", "batch": 1, "records_per_s": records_per_s}


# the API


def test_api_gives_the_same_difference_in_exactly_the_shape_that_is_described(
    board: Board, document: Document
) -> None:
    for arguments in ({}, {"params": {"before": "digits-1"}}):
        answer = api(board, "Otto", "GET", **arguments)
        assert answer.status_code == 200
        found = answer.json()
        assert found["state"] == "measured" and found["difference"] == document
    described = json.loads(json.dumps(description_of(board.coordinator.control)))
    for schema in described["components"]["schemas"].values():
        schema["additionalProperties"] = False
    of_route = described["paths"]["/api/v1/releases/{extractor}/{number}/diff"]["get"]["responses"]["200"]
    schema = of_route["content"]["application/json"]["schema"]
    jsonschema_rs.validate({**schema, "components": described["components"]}, found)


def test_api_measures_nothing_that_is_known(board: Board, document: Document) -> None:
    (path,) = (board.home / "differences").glob("*.json")
    was = path.stat().st_mtime_ns
    for body in ({}, {"before": "digits-1"}):
        answer = api(board, "Ada", "POST", json=body)
        assert answer.status_code == 200 and answer.json()["difference"] == document
    assert path.stat().st_mtime_ns == was


def test_first_of_its_line_needs_another_one_named(board: Board) -> None:
    token = board.room.accounts.issue_token("Otto", 600, "operator")
    headers = {"authorization": f"Bearer {token}"}
    answer = board.browser().get(API.replace("/2/", "/1/"), headers=headers)
    assert answer.status_code == 404 and "No release before digits-1" in answer.json()["detail"]


# what is kept


def test_a_restart_and_a_withdrawal_lose_nothing(home: Path, document: Document) -> None:
    yank(home, "digits-1", SystemClock())
    before, after = entries(home, "digits-1", "digits-2")
    assert before.yanked
    service = Comparisons(home, SystemClock(), nobody)
    assert service.begin(before, after, "somebody").state is ComparisonState.MEASURED
    assert service.standing(after, before).state is ComparisonState.UNMEASURED


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_or_of_another_format_is_made_anew(
    home: Path, document: Document, damage: str
) -> None:
    (path,) = (home / "differences").glob("*.json")
    path.write_text(DAMAGES[damage](json.loads(path.read_text("utf-8"))), "utf-8")
    service = Comparisons(home, SystemClock(), lambda *_: document)
    pair = entries(home, "digits-1", "digits-2")
    assert service.standing(*pair).state is ComparisonState.UNMEASURED
    assert service.begin(*pair, "somebody").state is not ComparisonState.UNMEASURED
    assert wait_for(service, *pair).state is ComparisonState.MEASURED


def test_no_more_is_kept_than_there_is_room_for(
    home: Path, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.registry.behaviour.MOST_ON_DISK", 1)
    swapped = document | {"before": document["after"], "after": document["before"]}
    service = Comparisons(home, SystemClock(), lambda *_: swapped)
    first, second = entries(home, "digits-1", "digits-2")
    service.begin(second, first, "somebody")
    assert wait_for(service, second, first).state is ComparisonState.MEASURED
    assert service.standing(first, second).state is ComparisonState.UNMEASURED, "the oldest went"


# what goes wrong


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("LONGEST_S", 0.05, r"was not done by then\. Nothing was kept\. Try again"),
        ("WORKER", "coordinator.workers.no_such_worker", r"broke off \(incident_.*Measure again"),
    ],
)
def test_a_worker_that_takes_too_long_or_crashes_is_told_and_asked_again(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, value: Any, told: str
) -> None:
    home = shutil.copytree(kit.home, tmp_path / "home")
    pair = entries(home, "digits-1", "digits-2")
    service = Comparisons(home, SystemClock())
    monkeypatch.setattr(difference, setting, value)
    service.begin(*pair, "somebody")
    failed = wait_for(service, *pair)
    assert failed.state is ComparisonState.FAILED and str(tmp_path) not in failed.problem
    assert re.search(told, failed.problem)
    assert service.begin(*pair, "somebody").going
    wait_for(service, *pair)


def test_worker_uses_nothing_that_its_manifest_does_not_promise(kit: Kit, tmp_path: Path) -> None:
    own = kit.copy(tmp_path / "home")
    pair = entries(own.home, "digits-1", "digits-2")
    asked = {
        name: {"folder": str(own.folder(entry.number)), "manifest_digest": entry.manifest_digest}
        for name, entry in zip(("before", "after"), pair, strict=True)
    }
    question = asked | {"root": own.root}
    with pytest.raises(DigestMismatch, match="lists digits-1 with the manifest"):
        difference_worker._compare(question | {"before": asked["before"] | {"manifest_digest": "sha256:0"}})
    with pytest.raises(BadSignature, match="Proof 1 of 10"):
        difference_worker._compare(question | {"root": "0" * 64})
    (own.folder(2) / ONNX_FILE).write_bytes(mean_colour())
    with pytest.raises(DigestMismatch, match="model.onnx should"):
        difference_worker._compare(question)


def test_an_answer_of_the_worker_that_does_not_fit_is_not_kept(home: Path, document: Document) -> None:
    shutil.rmtree(home / "differences")
    pair = entries(home, "digits-1", "digits-2")
    service = Comparisons(home, SystemClock(), lambda *_: document | {"words": 3})
    service.begin(*pair, "somebody")
    assert "worker's answer.words: expected a text, found 3" in wait_for(service, *pair).problem
    assert not (home / "differences").exists()


def test_one_is_measured_at_a_time_and_nobody_has_more_than_two_under_way(
    home: Path, document: Document
) -> None:
    run = Slow(document)
    service = Comparisons(home, SystemClock(), run)
    one, two, words_one = entries(home, "digits-1", "digits-2", "words-1")
    pairs = [(two, one), (one, words_one), (words_one, two)]
    service.begin(*pairs[0], "north")
    service.begin(*pairs[0], "north")
    service.begin(*pairs[1], "north")
    with pytest.raises(TooManyAttempts, match="at most 2 comparisons under way, and this one has 2"):
        service.begin(*pairs[2], "north")
    assert service.standing(*pairs[2]).state is ComparisonState.UNMEASURED
    assert service.begin(*pairs[2], "south").state is ComparisonState.WAITING
    assert service.begin(*pairs[1], "south").state is ComparisonState.WAITING, "one measurement for all"
    run.go_on.set()
    assert {wait_for(service, *pair).state for pair in pairs} == {ComparisonState.MEASURED}
    assert run.order == [before.manifest_digest for before, _ in pairs] and run.most == 1


def test_nobody_begins_more_in_an_hour_than_is_allowed(
    home: Path, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowance = Allowance(1, "new comparisons", "An account or a member")
    monkeypatch.setattr("coordinator.registry.behaviour.COMPARISONS", allowance)
    service = Comparisons(home, SystemClock(), lambda *_: document)
    one, two, words_one = entries(home, "digits-1", "digits-2", "words-1")
    service.begin(one, words_one, "north")
    wait_for(service, one, words_one)
    with pytest.raises(
        TooManyAttempts, match=r"An account or a member has at most 1 new comparisons in an hour"
    ):
        service.begin(two, words_one, "north")
    assert service.begin(one, two, "north").difference is not None, "what is known costs nothing"
    with pytest.raises(Invalid, match="both are digits-1"):
        service.begin(one, replace(one), "north")
