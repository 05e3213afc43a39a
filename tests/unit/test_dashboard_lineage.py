"""Pages of a release that started from another: what both cost, and of whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.release.promise import epsilon_text
from shared.verification import verify_release
from tests.dashboard_kit import Board, open_board, words
from tests.release_kit import Kit, continued, make_kit


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    """digits-2 goes on from digits-1, without West."""
    folder = tmp_path_factory.mktemp("lineage-pages")
    first = make_kit(folder)
    first.publish()
    second = continued(first, 1, folder / "second.safetensors", members=first.plan.members[:2])
    second.publish("two")
    return second


@pytest.fixture
def board(kit: Kit, tmp_path: Path) -> Iterator[Board]:
    made = open_board(kit.home, tmp_path / "board")
    yield made
    made.coordinator.carrier.stop()
    made.coordinator.engine.dispose()


def test_privacy_page_says_which_rounds_are_composed_and_whose_consent_is_to_another_plan(
    board: Board, kit: Kit
) -> None:
    said = words(board.browser("Otto").get("/privacy/digits/2"))
    assert "Among the rounds charged are 4 closed ones of digits-1 , which the weights came out of" in said
    assert "Composed into ε is what digits-1 cost" in said and "signed the plan of a release before" in said
    assert "quorum 2 of 2" in said
    release = verify_release(kit.folder(2), pinned_root=kit.root, clock=kit.clock)
    for lines in release.recomputed.values():
        assert epsilon_text(lines[0].epsilon) in said
    of_first = words(board.browser("Otto").get("/privacy/digits/1"))
    assert "Among the rounds charged" not in of_first and "Composed into" not in of_first


def test_catalogue_shows_the_composed_number(board: Board, kit: Kit) -> None:
    one, two = (verify_release(kit.folder(n), pinned_root=kit.root, clock=kit.clock) for n in (1, 2))
    highest = [max(lines[0].epsilon for lines in each.recomputed.values()) for each in (one, two)]
    assert highest[1] > 1.2 * highest[0]
    said = words(board.browser("Otto").get("/extractors/digits/2"))
    assert epsilon_text(highest[1]) in said
