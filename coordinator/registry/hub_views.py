"""Facts of the registry in the JSON shapes that hubs' clients read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from coordinator.registry.build import LOADED_BY
from coordinator.registry.hub_facts import Facts, commit_of
from coordinator.registry.hub_shelf import HEADS, TAGS, HubRepo
from coordinator.registry.hub_tree import Files, Json, file_line, last_commit
from shared.domain.release import ONNX_FILE, WEIGHTS_FILE, CatalogueEntry, ReleaseFile
from shared.release.card import MODEL_INDEX

LIBRARY: Final = "commonlens"
TASKS: Final = {"image": "image-feature-extraction", "text": "sentence-similarity"}
YANKED: Final = "yanked"
_FORMATS: Final = {"safetensors": WEIGHTS_FILE, "onnx": ONNX_FILE}
"""Tags that other hubs give by the files of a repository."""
_LISTED = (
    "id",
    "modelId",
    "private",
    "likes",
    "downloads",
    "tags",
    "pipeline_tag",
    "library_name",
    "createdAt",
)
_FULL = (*_LISTED, "author", "sha", "lastModified", "gated", "disabled", "siblings")


@dataclass(frozen=True)
class Shown:
    """One release of a repository with what is asked elsewhere than in its folder."""

    repo: HubRepo
    facts: Facts
    files: Files
    created_at: str
    """Of the repository: when its first release was made."""
    downloads: int
    """Of all releases together."""
    gated: bool


def tags_of(facts: Facts) -> list[str]:
    """What a release is found by."""
    told = facts.card.get("tags")
    own = [tag for tag in told if isinstance(tag, str)] if isinstance(told, list) else []
    licence = facts.card.get("license")
    programs = [
        program for file, program in LOADED_BY.items() if file in facts.promised
    ]  # older cards lack them
    formats = [name for name, file in _FORMATS.items() if file in facts.promised]
    tags = [LIBRARY, _task(facts), facts.modality, facts.architecture, facts.kind, *own, *programs, *formats]
    tags += [f"license:{licence}"] if isinstance(licence, str) else []
    tags += [YANKED] if facts.entry.yanked else []
    return list(dict.fromkeys(tag for tag in tags if tag))


def model_view(shown: Shown, blobs: bool = False) -> Json:
    """Everything about one revision of a repository; `blobs`: with sizes and digests of its files."""
    facts, repo = shown.facts, shown.repo
    return {
        "_id": facts.commit[:24],
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.id.partition("/")[0],
        "sha": facts.commit,
        "private": False,
        "gated": "manual" if shown.gated else False,
        "disabled": False,
        "createdAt": shown.created_at,
        "lastModified": facts.created_at,
        "downloads": shown.downloads,
        "downloadsAllTime": shown.downloads,
        "likes": 0,
        "tags": tags_of(facts),
        "pipeline_tag": _task(facts),
        "library_name": LIBRARY,
        "cardData": dict(facts.card),
        "config": dict(facts.config),
        MODEL_INDEX: facts.card.get(MODEL_INDEX),
        "safetensors": {"parameters": {"F32": facts.parameters}, "total": facts.parameters},
        "usedStorage": sum(file.size_bytes for file in shown.files.values()),
        "siblings": [_sibling(name, file, blobs) for name, file in sorted(shown.files.items())],
    }


def expanded(view: Json, expand: Iterable[str]) -> Json:
    """Only what was asked for, and what the view is known by."""
    wanted = {"_id", "id", "modelId", *expand}
    return {key: value for key, value in view.items() if key in wanted}


def listed_view(shown: Shown, *, full: bool, card: bool, config: bool) -> Json:
    """One line of a list of repositories."""
    wanted = {*(_FULL if full else _LISTED), *(["cardData"] if card else []), *(["config"] if config else [])}
    return {key: value for key, value in model_view(shown).items() if key == "_id" or key in wanted}


def refs_view(repo: HubRepo) -> Json:
    """Every branch and tag of a repository."""

    def lines(kind: str, names: Mapping[str, CatalogueEntry]) -> list[Json]:
        return [
            {"name": name, "ref": f"{kind}/{name}", "targetCommit": commit_of(entry)}
            for name, entry in names.items()
        ]

    return {
        "branches": lines(HEADS, repo.branches),
        "tags": lines(TAGS, repo.tags),
        "converts": [],
        "pullRequests": [],
    }


def commit_view(repo: HubRepo, facts: Facts) -> Json:
    """One release as a commit of its line."""
    return {**last_commit(facts), "message": "", "authors": [{"user": repo.id.partition("/")[0]}]}


def _task(facts: Facts) -> str:
    told = facts.card.get("pipeline_tag")
    return told if isinstance(told, str) else TASKS.get(facts.modality, "feature-extraction")


def _sibling(name: str, file: ReleaseFile, blobs: bool) -> Json:
    if not blobs:
        return {"rfilename": name}
    line = file_line(name, file)
    large = {"sha256": line["lfs"]["oid"], "size": file.size_bytes, "pointerSize": line["lfs"]["pointerSize"]}
    return {"rfilename": name, "size": file.size_bytes, "blobId": line["oid"], "lfs": large}
