"""huggingface_hub, as it is, fetches files from a running coordinator: revisions, cache, ranges, a cut line."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import (
    close_session,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)

from shared.domain.errors import ProofFailed
from shared.verification import verify_release
from tests.hub_client_kit import REPO, api, bytes_of, gated, hub, kit, serving, stranger
from tests.hub_kit import Hub, cut_line, hub_kit, put_beside
from tests.release_kit import Kit

__all__ = ["gated", "hub", "kit", "stranger"]
DOCS = Path(__file__).parents[2] / "docs"


def test_snapshot_is_the_release_byte_for_byte_and_verifies(hub: Hub, tmp_path: Path) -> None:
    folder = Path(snapshot_download(REPO, endpoint=hub.url, local_dir=tmp_path / "got", token=False))
    assert bytes_of(folder) == bytes_of(hub.folder(3))
    assert (folder / ".cache" / "huggingface" / "download").is_dir()
    verified = verify_release(folder, pinned_root=hub.kit.root, clock=hub.kit.clock)
    assert verified.manifest.release == "digits-3" and verified.pinned
    assert "left out: .cache/huggingface" in verified.proofs[2].line
    assert "Verification succeeded" in _public_tool(folder)
    (folder / ".cache" / "huggingface" / "download" / "model.py").write_text("")
    with pytest.raises(ProofFailed, match=r"extra file '\.cache/huggingface/download/model\.py'"):
        verify_release(folder, pinned_root=hub.kit.root, clock=hub.kit.clock)


def _public_tool(folder: Path) -> str:
    """What OpenSSF's command says where it is called as docs/hub.md tells it."""
    (lines,) = re.findall(r"```sh\ncd digits\n(.*?)```", (DOCS / "hub.md").read_text(), re.DOTALL)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-ec", lines], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("revision", "number"),
    [
        ("main", 3),
        ("latest", 3),
        ("stable", 2),
        ("v1", 1),
        ("digits-2", 2),
        ("refs/heads/main", 3),
        ("refs/tags/v1", 1),
    ],
)
def test_a_file_comes_by_branch_and_by_tag(hub: Hub, revision: str, number: int) -> None:
    got = hf_hub_download(REPO, "manifest.json", revision=revision, endpoint=hub.url, token=False)
    assert Path(got).read_bytes() == (hub.folder(number) / "manifest.json").read_bytes()
    assert Path(got).parent.name == hub.commit(number)


def test_every_ref_that_is_listed_is_a_revision_by_its_name_and_in_full(hub: Hub, tmp_path: Path) -> None:
    client = api(hub)
    found = client.list_repo_refs(REPO)
    assert {"refs/heads/main", "refs/heads/stable"} <= {one.ref for one in found.branches}
    for one in (*found.branches, *found.tags):
        for revision in (one.name, one.ref):
            assert client.model_info(REPO, revision=revision).sha == one.target_commit
            assert [item.path for item in client.list_repo_tree(REPO, revision=revision)]
            assert client.list_repo_commits(REPO, revision=revision)[0].commit_id == one.target_commit
            assert client.get_paths_info(REPO, ["plan.json"], revision=revision)[0].path == "plan.json"
    folder = snapshot_download(
        REPO, revision="refs/heads/stable", endpoint=hub.url, local_dir=tmp_path / "got", token=False
    )
    assert bytes_of(Path(folder)) == bytes_of(hub.folder(2))
    for wrong in ("refs/heads/v1", "refs/tags/main", "refs/heads/other", "refs/pr/1", "heads/main"):
        assert not client.revision_exists(REPO, wrong)


def test_a_file_comes_by_commit_and_by_its_beginning(hub: Hub) -> None:
    for revision in (hub.commit(1), hub.commit(1)[:7], hub.commit(1)[:12]):
        got = hf_hub_download(REPO, "plan.json", revision=revision, endpoint=hub.url, token=False)
        assert Path(got).read_bytes() == (hub.folder(1) / "plan.json").read_bytes()


def test_a_second_download_transfers_nothing(hub: Hub, tmp_path: Path) -> None:
    first = snapshot_download(REPO, endpoint=hub.url, token=False)
    hub.asked.clear()
    assert snapshot_download(REPO, endpoint=hub.url, token=False) == first
    hf_hub_download(REPO, "model.safetensors", endpoint=hub.url, token=False)
    files = [asked for asked in hub.asked if "/resolve/" in asked.path]
    assert [asked for asked in files if asked.method == "GET"] == [] and sum(a.sent_bytes for a in files) == 0


def test_what_two_releases_share_is_fetched_once(hub: Hub) -> None:
    """The cache is by ETag, and that is the digest: an equal file of another release is not fetched again."""
    snapshot_download(REPO, endpoint=hub.url, token=False, revision="v1", allow_patterns="trust.json")
    hub.asked.clear()
    snapshot_download(REPO, endpoint=hub.url, token=False, revision="v2", allow_patterns="trust.json")
    assert hub.sent("/trust.json") == 0 and any(asked.path.endswith("/trust.json") for asked in hub.asked)


def test_etag_and_size_are_those_of_the_bytes(hub: Hub) -> None:
    for path in hub.folder(3).iterdir():
        found = get_hf_file_metadata(hf_hub_url(REPO, path.name, endpoint=hub.url), token=False)
        assert found.etag == hashlib.sha256(path.read_bytes()).hexdigest(), path.name
        assert found.size == path.stat().st_size
        assert found.commit_hash == hub.commit(3)
        assert found.xet_file_data is None and found.location.startswith(hub.url)


def test_a_file_in_a_folder_comes_like_any_other(kit: Kit, tmp_path: Path) -> None:
    own = kit.copy(tmp_path / "coordinator")
    put_beside(own, {"parts/config.json": b'{"dim": 4}', "parts/two.json": b"{}"}, number=3)
    with serving(own) as hub:
        got = hf_hub_download(
            REPO, "config.json", subfolder="parts", endpoint=hub.url, token=False, cache_dir=tmp_path / "c"
        )
        assert Path(got).read_bytes() == b'{"dim": 4}'
        client = api(hub)
        flat = {line.path: line for line in client.list_repo_tree(REPO)}
        deep = {line.path: line for line in client.list_repo_tree(REPO, recursive=True)}
        inside = {line.path for line in client.list_repo_tree(REPO, "parts")}
        assert "parts" in flat and "parts/config.json" not in flat
        assert set(deep) == set(flat) | {"parts/config.json", "parts/two.json"}
        assert inside == {"parts/config.json", "parts/two.json"}
        assert flat["parts"].tree_id == _git_tree(tmp_path, client, inside)


def _git_tree(folder: Path, client: Any, inside: set[str]) -> str:
    """What git itself calls a folder of the pointers."""
    infos = client.get_paths_info(REPO, sorted(inside))
    tree = "".join(f"100644 blob {info.blob_id}\t{Path(info.path).name}\n" for info in infos)
    git = ["git", "-C", str(folder)]
    subprocess.run([*git, "init", "-q"], check=True)
    made = subprocess.run(
        [*git, "mktree", "--missing"], input=tree, capture_output=True, text=True, check=True
    )
    return made.stdout.strip()


def test_download_goes_on_where_a_cut_line_left_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client writes pieces of 10 MiB, so the file has three and the line breaks in the second."""
    kit = hub_kit(tmp_path / "large", values=6_500_000)
    kit.publish()
    with serving(kit) as hub, cut_line(hub.url, after_bytes=15_000_000) as url:
        monkeypatch.setenv("SSL_CERT_FILE", str(hub.ca))  # this consortium is another one

        def fetch() -> Path:
            return Path(
                hf_hub_download(
                    REPO, "model.safetensors", endpoint=url, token=False, cache_dir=tmp_path / "cut"
                )
            )

        hub.asked.clear()
        with pytest.raises(Exception, match=r"(?i)peer closed|eof|reset|disconnected|closed"):
            fetch()
        close_session()
        got = fetch()
        expected = (hub.folder() / "model.safetensors").read_bytes()
        assert got.read_bytes() == expected
        parts = [
            asked for asked in hub.asked if asked.method == "GET" and asked.path.endswith(".safetensors")
        ]
        assert [part.range for part in parts] == ["", f"bytes={10 * 2**20}-"]
        assert parts[1].status == 206 and parts[1].sent_bytes == len(expected) - 10 * 2**20
        assert hub.weights("digits-1") == 1, "a download that went on is one download"


def test_the_header_of_the_weights_is_read_by_ranges_and_not_counted(hub: Hub) -> None:
    before = hub.weights("digits-3")
    hub.asked.clear()
    found = api(hub).get_safetensors_metadata(REPO)
    assert set(found.files_metadata["model.safetensors"].tensors) == {"a.weight", "b.bias"}
    assert [a.status for a in hub.asked if a.method == "GET" and a.path.endswith(".safetensors")] == [206]
    assert hub.weights("digits-3") == before


def test_fetched_weights_are_counted_once(hub: Hub, tmp_path: Path) -> None:
    before = hub.weights("digits-2")
    for _ in range(2):
        hf_hub_download(
            REPO, "model.safetensors", revision="v2", endpoint=hub.url, token=False, cache_dir=tmp_path
        )
    assert hub.weights("digits-2") == before + 1
    assert api(hub).model_info(REPO).downloads == sum(hub.weights(f"digits-{number}") for number in (1, 2, 3))


def test_the_clients_own_check_of_every_file_holds_and_can_fail(hub: Hub, tmp_path: Path) -> None:
    folder = Path(snapshot_download(REPO, endpoint=hub.url, local_dir=tmp_path / "got", token=False))
    found = api(hub).verify_repo_checksums(REPO, local_dir=folder)
    assert found.checked_count == len(bytes_of(hub.folder(3))) and not found.mismatches
    assert not found.missing_paths
    (folder / "plan.json").write_bytes((folder / "plan.json").read_bytes().replace(b"digits", b"digitz", 1))
    found = api(hub).verify_repo_checksums(REPO, local_dir=folder)
    assert [wrong["path"] for wrong in found.mismatches] == ["plan.json"]
