"""Channels: pointers into an extractor's line of releases, moved by signing the catalogue anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.registry.shelf import Shelf, current_catalogue, point_channel, read_catalogue, yank
from shared.domain.errors import BadSignature, IllegalMove, Invalid, NotFound
from shared.release.roles import open_catalogue
from tests.release_kit import Kit, make_kit


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    kit = make_kit(tmp_path_factory.mktemp("channels"))
    kit.publish("one")
    kit.publish("two")
    return kit


@pytest.fixture
def kit(published: Kit, tmp_path: Path) -> Kit:
    return published.copy(tmp_path / "home")


def where(kit: Kit) -> dict[str, str]:
    catalogue = read_catalogue(Shelf(kit.home), kit.clock)
    return {name: entry.id for name, entry in catalogue.channels_of("digits").items()}


def test_latest_is_the_highest_number_that_is_offered_and_moves_by_itself(kit: Kit) -> None:
    assert where(kit) == {"latest": "digits-2"}
    yank(kit.home, "digits-2", kit.clock)
    assert where(kit) == {"latest": "digits-1"}


def test_a_channel_is_moved_and_taken_away_by_a_catalogue_of_a_higher_version(kit: Kit) -> None:
    before = read_catalogue(Shelf(kit.home), kit.clock).version
    point_channel(kit.home, "digits", "stable", "digits-1", kit.clock)
    assert where(kit) == {"latest": "digits-2", "stable": "digits-1"}
    point_channel(kit.home, "digits", "stable", "digits-2", kit.clock)
    assert where(kit)["stable"] == "digits-2"
    point_channel(kit.home, "digits", "stable", "digits-2", kit.clock)  # it is there already
    point_channel(kit.home, "digits", "stable", "", kit.clock)
    assert where(kit) == {"latest": "digits-2"}
    assert read_catalogue(Shelf(kit.home), kit.clock).version == before + 3


def test_a_pointer_that_the_release_key_did_not_sign_is_refused(kit: Kit) -> None:
    point_channel(kit.home, "digits", "stable", "digits-1", kit.clock)
    envelope = current_catalogue(kit.home, kit.clock)
    envelope["signed"]["channels"][0]["release"] = "digits-2"
    with pytest.raises(BadSignature):
        open_catalogue(envelope, Shelf(kit.home).trust(), kit.clock)


def test_a_withdrawn_release_is_in_no_channel(kit: Kit) -> None:
    point_channel(kit.home, "digits", "stable", "digits-1", kit.clock)
    yank(kit.home, "digits-1", kit.clock)
    assert where(kit) == {"latest": "digits-2"}
    with pytest.raises(IllegalMove, match="was withdrawn"):
        point_channel(kit.home, "digits", "stable", "digits-1", kit.clock)


def test_a_catalogue_without_channels_is_written_as_before_there_were_any(kit: Kit) -> None:
    assert "channels" not in current_catalogue(kit.home, kit.clock)["signed"]


@pytest.mark.parametrize("name", ["latest", "main", "v3", "deadbeef", "Stable", "a b", "", "x" * 33, "-x"])
def test_a_name_that_means_something_else_is_refused(kit: Kit, name: str) -> None:
    with pytest.raises(Invalid, match="Nothing was moved"):
        point_channel(kit.home, "digits", name, "digits-1", kit.clock)


@pytest.mark.parametrize(("extractor", "release"), [("digits", "digits-9"), ("other", "digits-1")])
def test_a_release_of_another_line_is_refused(kit: Kit, extractor: str, release: str) -> None:
    with pytest.raises(NotFound, match="was not moved"):
        point_channel(kit.home, extractor, "stable", release, kit.clock)


def test_releases_are_found_by_name_channel_and_id(kit: Kit) -> None:
    point_channel(kit.home, "digits", "stable", "digits-1", kit.clock)
    catalogue = read_catalogue(Shelf(kit.home), kit.clock)
    found = {text: catalogue.find(text) for text in ("digits", "digits@stable", "digits@latest", "digits-1")}
    assert [entry and entry.number for entry in found.values()] == [2, 1, 2, 1]
    assert [catalogue.find(text) for text in ("digits@beta", "other", "other@stable", "digits-3")] == [
        None
    ] * 4
