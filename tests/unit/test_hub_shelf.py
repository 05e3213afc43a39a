"""The registry as a hub sees it: names that clients accept, revisions, a card's metadata, and reading once."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from huggingface_hub.utils._validators import validate_repo_id

from coordinator.app import build_coordinator
from coordinator.config import Config
from coordinator.registry.hub_errors import HubRefusal
from coordinator.registry.hub_facts import card_data
from coordinator.registry.hub_shelf import HubRepo, namespace
from shared.domain.release import CatalogueEntry
from tests.hub_kit import CONSORTIUM, SPACE, hub_kit
from tests.knock import knock


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Test Consortium", SPACE),
        ("  Größe & Söhne – GmbH ", "groe-sohne-gmbh"),
        ("研究所", "consortium"),
        ("../../etc", "etc"),
        ("a--b..c", "a-b-c"),
        ("x" * 100, "x" * 60),
    ],
)  # fmt: skip
def test_every_name_of_a_consortium_makes_a_part_that_clients_accept(name: str, expected: str) -> None:
    assert namespace(name) == expected
    validate_repo_id(f"{namespace(name)}/digits")


def test_a_commit_is_found_by_seven_digits_and_only_if_one_is_meant() -> None:
    entries = tuple(
        CatalogueEntry(f"x-{number}", "x", number, "sha256:" + begin + "0" * (64 - len(begin)))
        for number, begin in ((1, "abcdef01"), (2, "abcdef02"), (3, "1234567"))
    )
    repo = HubRepo("s/x", "x", entries, {}, {})
    assert repo.entry("1234567").number == 3 and repo.entry("abcdef02").number == 2
    for revision in ("abcdef0", "123456", "1234567g", "1234567" + "0" * 34, "ABCDEF01"):
        with pytest.raises(HubRefusal, match="no such revision"):
            repo.entry(revision)


def test_what_is_pinned_goes_before_what_moves() -> None:
    """A channel may be called like a release's id; whoever asks for that release still gets it."""
    old, new = (CatalogueEntry(f"x-{number}", "x", number, f"sha256:{number}") for number in (1, 2))
    repo = HubRepo("s/x", "x", (new, old), {"main": new, "x-1": new}, {"v1": old, "x-1": old})
    assert repo.entry("x-1") is old and repo.entry("main") is new


def test_metadata_of_a_card_is_read_line_by_line() -> None:
    card = '---\nlicense: "mit"\ntags: ["a", "b"]\nbad: {\n  deep: 1\nn: 3\n---\n# x\nlicense: "none"\n'
    assert card_data(card) == {"license": "mit", "tags": ["a", "b"], "n": 3}
    assert card_data('# x\n---\nlicense: "mit"\n---\n') == {} and card_data("---\nlicense: 1\n") == {}
    assert card_data("---\nx: " + "[" * 50_000 + "\ny: NaN\n---\n") == {}


def test_catalogue_and_releases_are_read_once_until_they_change(tmp_path: Path) -> None:
    """Reading them at every request would let anybody keep the coordinator busy."""
    kit = hub_kit(tmp_path, values=100)
    kit.publish("one")
    coordinator = build_coordinator(kit.home, Config(CONSORTIUM, public_releases=True), kit.clock)
    shelf = coordinator.control.state.hub

    def main() -> str:
        sha: str = json.loads(knock(coordinator.asgi, "GET", f"/api/models/{SPACE}/digits").text)["sha"]
        return sha

    first = main()
    before = shelf.repos()
    facts = shelf.facts(before["digits"].main)
    assert main() == first and shelf.repos() is before and shelf.facts(before["digits"].main) is facts
    kit.publish("two")
    assert main() != first and shelf.repos()["digits"].main.number == 2
    assert shelf.facts(before["digits"].main) is facts, "what a release says never changes"
    coordinator.carrier.stop()
    coordinator.engine.dispose()


def test_files_beside_the_promise_are_told_as_they_are_today(tmp_path: Path) -> None:
    """A rotation of keys replaces them; their digests are those of the new bytes."""
    kit = hub_kit(tmp_path, values=100)
    kit.publish("one")
    coordinator = build_coordinator(kit.home, Config(CONSORTIUM, public_releases=True), kit.clock)
    path = f"/{SPACE}/digits/resolve/main/trust.json"
    before = knock(coordinator.asgi, "HEAD", path).header("etag")
    trust = kit.folder() / "trust.json"
    trust.with_name("new").write_bytes(trust.read_bytes() + b"\n")
    trust.with_name("new").replace(trust)
    answer = knock(coordinator.asgi, "GET", path)
    assert answer.header("etag") == f'"{hashlib.sha256(trust.read_bytes()).hexdigest()}"' != before
    trust.unlink()
    assert knock(coordinator.asgi, "HEAD", path).status == 404
    coordinator.carrier.stop()
    coordinator.engine.dispose()


@pytest.mark.parametrize("damage", ["signature", "cut", "form", "none"])
def test_a_damaged_catalogue_is_the_coordinators_fault_and_said_in_words(tmp_path: Path, damage: str) -> None:
    """A 401 would have clients ask for another token, and a 422 for another name."""
    kit = hub_kit(tmp_path, values=100)
    kit.publish("one")
    coordinator = build_coordinator(kit.home, Config(CONSORTIUM, public_releases=True), kit.clock)
    path = kit.home / "releases" / "catalogue.json"
    envelope = json.loads(path.read_text())
    key = envelope["signatures"][0]["key"]
    texts = {
        "signature": json.dumps(envelope | {"signatures": [{"key": key, "sig": "00" * 64}]}),
        "cut": path.read_text()[:-10],
        "form": json.dumps({"signatures": [], "signed": []}),
        "none": "{}",
    }
    path.write_text(texts[damage])
    for asked in (f"/api/models/{SPACE}/digits", "/api/models", f"/{SPACE}/digits/resolve/main/plan.json"):
        answer = knock(coordinator.asgi, "GET", asked)
        assert answer.status == 503
        assert answer.header("x-error-message").startswith(
            "This coordinator's catalogue of releases is damaged: "
        )
    page = knock(coordinator.asgi, "GET", "/extractors")
    assert page.status == 503 and "puts back releases/catalogue.json from a backup" in page.text
    if damage != "signature":  # the signature of what is handed on is for whoever gets it to check
        assert knock(coordinator.asgi, "GET", "/api/v1/releases").status == 503
    coordinator.carrier.stop()
    coordinator.engine.dispose()
