"""huggingface_hub, as it is, reads what a running coordinator has: repositories, trees, branches, tags, commits."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, hf_hub_download
from huggingface_hub.errors import BadRequestError

from coordinator.registry import hub_list
from coordinator.registry.build import KeepRequest, weights_only
from coordinator.registry.publish import publish
from shared.domain.release import Source, SourceKind
from tests.hub_client_kit import LINES, REPO, api, bytes_of, gated, hub, kit, serving, stranger
from tests.hub_kit import SPACE, Hub, put_beside
from tests.release_kit import Kit

__all__ = ["gated", "hub", "kit", "stranger"]


def test_model_info_says_what_the_release_is(hub: Hub) -> None:
    found = api(hub).model_info(REPO)
    manifest = json.loads((hub.folder(3) / "manifest.json").read_text())["signed"]
    first = json.loads((hub.folder(1) / "manifest.json").read_text())["signed"]
    assert (found.id, found.author, found.sha) == (REPO, SPACE, hub.commit(3))
    assert found.last_modified.strftime("%Y-%m-%dT%H:%M:%SZ") == manifest["created_at"]
    assert found.created_at.strftime("%Y-%m-%dT%H:%M:%SZ") == first["created_at"] < manifest["created_at"]
    assert found.library_name == "commonlens" and found.pipeline_tag == "image-feature-extraction"
    assert {"image", "small-gn", "trained"} <= set(found.tags) and "yanked" not in found.tags
    assert found.private is False and found.gated is False and found.disabled is False
    assert found.safetensors.total == 20_004
    assert {s.rfilename for s in found.siblings} == set(bytes_of(hub.folder(3)))
    assert {s.size for s in found.siblings} == {None}


def test_model_info_reads_the_cards_metadata(hub: Hub) -> None:
    card = ModelCard.load(str(hub.folder(3) / "README.md"))
    found = api(hub).model_info(REPO)
    assert card.data.license and found.card_data.license == card.data.license
    assert f"license:{card.data.license}" in found.tags
    assert set(card.data.tags) <= set(found.tags)
    assert (card.data.license_name, card.data.license_link) == (
        "northern-terms-1.0",
        "https://lens.example/terms",
    )
    assert found.card_data.to_dict() == card.data.to_dict() and "## Changes" in card.text


def test_model_info_gives_sizes_and_digests_when_asked(hub: Hub) -> None:
    siblings = {
        s.rfilename: s for s in api(hub).model_info(REPO, revision="v1", files_metadata=True).siblings
    }
    weights = hub.folder(1) / "model.safetensors"
    assert siblings["model.safetensors"].size == weights.stat().st_size
    pointer = (
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{siblings['model.safetensors'].lfs.sha256}\nsize {weights.stat().st_size}\n"
    )
    made = subprocess.run(
        ["git", "hash-object", "--stdin"], input=pointer, capture_output=True, text=True, check=True
    )
    assert siblings["model.safetensors"].blob_id == made.stdout.strip()
    assert siblings["model.safetensors"].lfs.pointer_size == len(pointer)


def test_expand_gives_what_was_asked_for_alone(hub: Hub) -> None:
    found = api(hub).model_info(REPO, expand=["sha", "downloads"])
    assert found.sha == hub.commit(3) and found.downloads is not None
    assert found.tags is None and found.siblings is None


def test_tree_files_and_paths_agree(hub: Hub) -> None:
    client = api(hub)
    tree = {
        line.path: line for line in client.list_repo_tree(REPO, recursive=True, revision="v2", expand=True)
    }
    assert set(tree) == set(client.list_repo_files(REPO, revision="v2")) == set(bytes_of(hub.folder(2)))
    line = tree["plan.json"]
    assert line.size == (hub.folder(2) / "plan.json").stat().st_size
    assert line.last_commit.oid == hub.commit(2) and line.last_commit.title == "digits-2"
    found = client.get_paths_info(REPO, ["plan.json", "no-such-file"], revision="v2")
    assert [(info.path, info.lfs.sha256) for info in found] == [("plan.json", line.lfs.sha256)]


def test_refs_are_channels_and_numbers(hub: Hub) -> None:
    found = api(hub).list_repo_refs(REPO, include_pull_requests=True)
    assert {b.name: b.target_commit for b in found.branches} == {
        "main": hub.commit(3),
        "latest": hub.commit(3),
        "stable": hub.commit(2),
    }
    tags = {t.name: t.target_commit for t in found.tags}
    assert tags == {
        name: hub.commit(number) for number in (1, 2, 3) for name in (f"v{number}", f"digits-{number}")
    }
    assert found.converts == [] and found.pull_requests == []


def test_commits_are_the_line_of_releases(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_list, "PAGE", 2)  # so that the list goes on
    found = api(hub).list_repo_commits(REPO)
    assert [commit.commit_id for commit in found] == [hub.commit(n) for n in (3, 2, 1)]
    assert [commit.title for commit in found] == ["digits-3", "digits-2", "digits-1"]
    assert found[0].created_at > found[2].created_at and found[0].authors == [SPACE]
    assert len(api(hub).list_repo_commits(REPO, revision="v2")) == 2


def test_list_of_models_goes_on_page_by_page(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_list, "PAGE", 2)
    hub.asked.clear()
    found = [model.id for model in api(hub).list_models()]
    assert sorted(found) == sorted(f"{SPACE}/{line}" for line in LINES)
    assert len(hub.asked) == 3
    hub.asked.clear()
    assert [m.id for m in api(hub).list_models(limit=3)] == found[:3] and len(hub.asked) == 2


def test_list_of_models_finds_what_is_meant(hub: Hub) -> None:
    def names(**asked: Any) -> list[str]:
        return sorted(model.id.partition("/")[2] for model in api(hub).list_models(**asked))

    assert names(search="EDG") == ["edges"] and names(search="nothing") == []
    assert names(search="Trained IMAGE") == list(LINES) and names(search="trained text") == []
    assert (
        names(search="lens") == names(search="...") == []
    )  # `commonlens` is a tag, and this is no word of it
    assert names(author=SPACE) == list(LINES) and names(author="others") == []
    assert names(filter="image") == list(LINES) and names(filter="text") == []
    assert names(filter=["image", "small-gn", "trained"]) == list(LINES)
    assert names(filter=["image", "vit-tiny"]) == []
    assert names(filter="safetensors") == list(LINES) and names(filter="onnx") == []
    assert names(pipeline_tag="image-feature-extraction") == list(LINES)
    assert names(pipeline_tag="fill-mask") == []
    assert names(gated=False) == list(LINES) and names(gated=True) == []
    assert names(inference="warm") == [] and names(apps="ollama") == []


def test_list_of_models_is_in_the_order_asked_for(hub: Hub, tmp_path: Path) -> None:
    hf_hub_download(f"{SPACE}/leaves", "model.safetensors", endpoint=hub.url, token=False, cache_dir=tmp_path)
    assert hub.weights("leaves-1") == 1
    by_downloads = [(model.downloads, model.id) for model in api(hub).list_models(sort="downloads")]
    assert by_downloads[0] == (1, f"{SPACE}/leaves") and {n for n, _ in by_downloads[1:]} == {0}
    newest = [model.last_modified for model in api(hub).list_models(sort="last_modified", full=True)]
    assert newest == sorted(newest, reverse=True) and None not in newest
    with pytest.raises(BadRequestError, match="sorted by one of"):
        list(api(hub).list_models(sort="beauty"))


def test_list_of_models_tells_more_when_asked(hub: Hub) -> None:
    plain = next(iter(api(hub).list_models(search="digits")))
    assert plain.sha is None and plain.siblings is None and plain.card_data is None
    full = next(iter(api(hub).list_models(search="digits", full=True, cardData=True)))
    assert full.sha == hub.commit(3) and full.siblings and full.card_data.license
    some = next(iter(api(hub).list_models(search="digits", expand=["sha"])))
    assert some.sha == hub.commit(3) and some.tags is None


def test_existence_is_told(hub: Hub) -> None:
    client = api(hub)
    assert client.repo_exists(REPO) and not client.repo_exists(f"{SPACE}/nothing")
    assert not client.repo_exists("others/digits") and not client.repo_exists("digits")
    assert not client.repo_exists(REPO, repo_type="dataset")
    assert client.revision_exists(REPO, "v3") and not client.revision_exists(REPO, "v9")
    assert client.file_exists(REPO, "plan.json") and not client.file_exists(REPO, "pytorch_model.bin")
    assert not client.file_exists(REPO, "plan.json", revision="v9")
    client.auth_check(REPO)


def test_models_are_found_by_the_program_that_loads_them_also_where_the_card_does_not_say_so(
    kit: Kit, tmp_path: Path
) -> None:
    own = kit.copy(tmp_path / "coordinator")
    put_beside(own, {"modules.json": b"[]"}, number=3)
    with serving(own) as hub:
        assert [model.id for model in api(hub).list_models(filter="sentence-transformers")] == [REPO]
        assert [model.id for model in api(hub).list_models(filter="timm")] == []


def test_models_are_found_by_the_formats_of_their_files(kit: Kit, tmp_path: Path) -> None:
    own = kit.copy(tmp_path / "coordinator")
    put_beside(own, {"model.onnx": b"onnx"}, number=3)
    with serving(own) as hub:
        assert [model.id for model in api(hub).list_models(filter=["onnx", "safetensors"])] == [REPO]


def test_models_are_found_by_what_they_are_for_and_by_their_kind(kit: Kit, tmp_path: Path) -> None:
    own = kit.copy(tmp_path / "coordinator")
    own.plan = replace(
        own.plan, extractor_name="joints", purpose="Cracks in welded seams, from grey pictures."
    )
    own.publish("joints")
    source = Source(SourceKind.RANDOM, "Sees by chance, to compare others with.", "CC0-1.0", "seed 3")
    publish(own.home, KeepRequest("dice", source, own.starting), own.clock, export=weights_only)
    with serving(own) as hub:

        def names(search: str) -> list[str]:
            return sorted(model.id.partition("/")[2] for model in api(hub).list_models(search=search))

        assert names("welded") == names("Seams cracks") == ["joints"] and names("eld") == []
        assert names("random") == names("chance") == ["dice"]
