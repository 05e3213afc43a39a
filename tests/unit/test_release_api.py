"""What the pages of a release say, as JSON: who can learn what, what changed since another, and what was proven."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coordinator.registry.audiences import Bound, audiences
from coordinator.registry.service import ReleaseService
from shared.domain.plan import PlanMember
from tests.dashboard_kit import Board, open_board, words
from tests.knock import Answer, knock
from tests.release_kit import Kit, make_secure_kit


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """Three releases: the second of a plan with more noise, the third of one with another member's size too."""
    kit = make_secure_kit(tmp_path_factory.mktemp("kit"))
    kit.publish("one")
    kit.plan = replace(kit.plan, privacy=replace(kit.plan.privacy, noise_multiplier=1.75))
    kit.publish("two")
    last = kit.plan.members[-1]
    outpost = PlanMember(last.member_id, 900)
    kit.renamed[last.member_id] = "Outpost"
    kit.plan = replace(kit.plan, members=(*kit.plan.members[:-1], outpost))
    kit.publish("three")
    return kit


@pytest.fixture
def board(kit: Kit, tmp_path: Path) -> Iterator[Board]:
    made = open_board(kit.home, tmp_path / "board")
    yield made
    made.coordinator.carrier.stop()
    made.coordinator.engine.dispose()


def send(board: Board, path: str) -> Answer:
    """As the member North's node asks."""
    headers = {"authorization": f"Bearer {board.member.token}"}
    return knock(board.coordinator.asgi, "GET", f"/api/v1/releases/digits/{path}", headers)


def get(board: Board, path: str, status: int = 200) -> dict[str, Any]:
    answer = send(board, path)
    assert answer.status == status, answer.text
    found: dict[str, Any] = json.loads(answer.text)
    return found


def releases(board: Board) -> ReleaseService:
    service: ReleaseService = board.coordinator.control.state.releases
    return service


def test_audiences_are_those_of_the_page_each_with_the_epsilon_that_bounds_it(board: Board, kit: Kit) -> None:
    found = get(board, "3/privacy")
    claimed = releases(board).claimed(releases(board).find("digits", "3"))
    assert [one["key"] for one in found["audiences"]] == [one.key for one in audiences(kit.plan)]
    limits = {Bound.CONSORTIUM.value: claimed.epsilon, Bound.ALONE.value: claimed.epsilon_alone}
    bounds = {one["bound"] for one in found["audiences"]}
    assert bounds == {bound.value for bound in Bound}, "every kind is among them"
    for one in found["audiences"]:
        assert one["epsilon"] == limits.get(one["bound"])
    assert claimed.epsilon_alone > claimed.epsilon > 0.0
    page = words(board.browser("Otto").get("/privacy/digits/3"))
    for text in (
        found["promise"],
        found["not_promised"][0],
        found["believed"][0],
        found["audiences"][0]["who"],
    ):
        assert text in page
    assert (found["unit"], found["delta"]) == (kit.plan.privacy.unit.value, kit.plan.privacy.delta)


def test_changes_are_those_since_the_release_before(board: Board) -> None:
    found = get(board, "2/changes")
    assert found["before"] == "digits-1"
    by_name = {change["what"]: change for change in found["changes"]}
    assert (
        by_name["privacy.noise_multiplier"]["after"] == "1.75"
        and by_name["privacy.noise_multiplier"]["private"]
    )
    assert by_name["highest ε"]["before"] > by_name["highest ε"]["after"], "more noise, less ε"
    assert "member Outpost" not in by_name
    page = words(board.browser("Otto").get("/extractors/digits/2"))
    assert by_name["highest ε"]["before"] in page and by_name["highest ε"]["after"] in page


def test_any_two_releases_of_an_extractor_can_be_compared(board: Board) -> None:
    found = get(board, "3/changes?since=1")
    names = [change["what"] for change in found["changes"]]
    assert found["before"] == "digits-1" and "member Outpost" in names and "highest ε" in names
    assert [change["what"] for change in get(board, "3/changes")["changes"]][0] == "member Outpost"
    assert get(board, "2/changes?since=2")["changes"] == []
    assert send(board, "3/changes?since=9").status == 404


def test_first_release_has_none_before_it(board: Board) -> None:
    assert get(board, "1/changes") == {"release": "digits-1", "before": None, "notes": [], "changes": []}


def test_damaged_release_claims_nothing(board: Board) -> None:
    (board.home / "releases" / "digits" / "1" / "certificate.json").write_bytes(b"{}")
    for path in ("1/privacy", "1/changes", "2/changes"):
        answer = send(board, path)
        assert answer.status == 401 and "Nothing of it is shown" in answer.text, path


def test_answer_does_not_wait_for_a_slow_verification_and_says_so(
    board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.registry.release_routes.PATIENCE_S", 0.0)
    (board.home / "releases" / "digits" / "2" / "model.safetensors").touch()
    early = get(board, "2", status=202)
    assert early["checking"] and early["checked"] is None and early["release"] == "digits-2"
    releases(board).check(releases(board).find("digits", "2"))
    late = get(board, "2")
    assert not late["checking"] and late["checked"]["problem"] == "" and late["checked"]["at"]
