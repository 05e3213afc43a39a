"""What the hub refuses reaches people as the client's own errors: names, tokens, withdrawn releases."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    BadRequestError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub_client_kit import LINES, REPO, api, bytes_of, gated, hub, kit, serving, stranger
from tests.hub_kit import SPACE, Hub
from tests.release_kit import Kit

__all__ = ["gated", "hub", "kit", "stranger"]


def test_errors_are_of_the_clients_own_classes(hub: Hub) -> None:
    client = api(hub)
    with pytest.raises(RepositoryNotFoundError, match=f"named {SPACE}/EXTRACTOR"):
        client.model_info(f"{SPACE}/nothing")
    with pytest.raises(RepositoryNotFoundError, match=f"named {SPACE}/EXTRACTOR"):
        hf_hub_download("digits", "plan.json", endpoint=hub.url, token=False)
    with pytest.raises(RevisionNotFoundError, match=r"no such revision.+latest, main, stable"):
        client.model_info(REPO, revision="v9")
    with pytest.raises(RevisionNotFoundError):
        snapshot_download(REPO, revision="refs/pr/1", endpoint=hub.url, token=False)
    with pytest.raises(EntryNotFoundError, match="no such file"):
        hf_hub_download(REPO, "pytorch_model.bin", endpoint=hub.url, token=False)
    with pytest.raises(EntryNotFoundError, match="no such folder"):
        list(client.list_repo_tree(REPO, "nowhere"))
    with pytest.raises(BadRequestError, match="cannot filter by num_parameters"):
        list(client.list_models(num_parameters="min:1B"))


def test_that_a_file_is_missing_is_remembered_with_its_commit(hub: Hub, tmp_path: Path) -> None:
    """So that tools which look for optional files do not ask again."""
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(REPO, "merges.txt", endpoint=hub.url, token=False, cache_dir=tmp_path)
    noted = list(tmp_path.rglob(".no_exist/*/merges.txt"))
    assert [path.parent.name for path in noted] == [hub.commit(3)]


def test_hub_is_read_only(hub: Hub) -> None:
    client = api(hub)
    with pytest.raises(HfHubHTTPError):
        client.create_repo(f"{SPACE}/new")
    with pytest.raises(HfHubHTTPError):
        client.delete_file("plan.json", REPO)
    with pytest.raises(HfHubHTTPError, match="read-only"):
        client.auth_check(REPO, write=True)


def test_gated_releases_need_a_token(gated: Hub, tmp_path: Path) -> None:
    stranger, token = api(gated), gated.token()
    for call in (
        lambda: stranger.model_info(REPO),
        lambda: stranger.model_info(f"{SPACE}/nothing"),
        lambda: list(stranger.list_models()),
        lambda: list(stranger.list_repo_tree(REPO)),
        lambda: stranger.get_paths_info(REPO, "plan.json"),
        lambda: stranger.list_repo_refs(REPO),
        lambda: stranger.list_repo_commits(REPO),
        lambda: stranger.auth_check(REPO),
        lambda: stranger.file_exists(REPO, "plan.json"),
        lambda: hf_hub_download(REPO, "plan.json", endpoint=gated.url, token=False),
        lambda: snapshot_download(REPO, endpoint=gated.url, token=False),
    ):
        with pytest.raises(GatedRepoError, match="needs a token, and none was sent"):
            call()
    known = api(gated, token)
    assert known.model_info(REPO).gated == "manual" and known.file_exists(REPO, "plan.json")
    assert len(list(known.list_models(gated=True))) == len(LINES)
    got = snapshot_download(REPO, endpoint=gated.url, token=token, local_dir=tmp_path / "got")
    assert bytes_of(Path(got)) == bytes_of(gated.folder(3))


def test_a_token_that_does_not_hold_is_no_missing_approval(gated: Hub) -> None:
    """Nor a missing repository: nobody has to be asked for anything but another token."""
    revoked, expired = gated.token(), gated.token(lifetime_s=0)
    for token in ("clt_wrong", revoked, expired):
        client = api(gated, token)
        for call in (
            lambda client=client: client.model_info(REPO),
            lambda client=client: list(client.list_models()),
            lambda token=token: snapshot_download(REPO, endpoint=gated.url, token=token),
        ):
            with pytest.raises(HfHubHTTPError, match="not valid") as found:
                call()
            assert not isinstance(found.value, RepositoryNotFoundError)
        with pytest.raises(
            HfHubHTTPError, match="Invalid credentials"
        ) as found:  # HEAD has no body to say more
            hf_hub_download(REPO, "plan.json", endpoint=gated.url, token=token)
        assert not isinstance(found.value, RepositoryNotFoundError)


def test_a_token_says_whose_it_is(gated: Hub) -> None:
    found = api(gated, gated.token()).whoami()
    assert found["name"] == "Otto" and [org["name"] for org in found["orgs"]] == [SPACE]
    assert found["auth"]["accessToken"]["role"] == "read"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api(gated, "clt_wrong").whoami()


def test_a_withdrawn_release_comes_by_tag_and_commit_with_its_reason_and_never_as_main(
    kit: Kit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = kit.copy(tmp_path / "coordinator")
    with serving(own) as hub:
        client, withdrawn = api(hub), hub.commit(3)
        hub.coordinator.control.state.releases.withdraw(
            "digits-3", "account:Ada", "Learned from wrong labels."
        )
        assert client.model_info(REPO).sha == hub.commit(2)
        assert {b.name: b.target_commit for b in client.list_repo_refs(REPO).branches} == {
            name: hub.commit(2) for name in ("main", "latest", "stable")
        }
        for revision in ("v3", "digits-3", withdrawn):
            info = client.model_info(REPO, revision=revision)
            assert info.sha == withdrawn and "yanked" in info.tags
        got = snapshot_download(
            REPO, revision=withdrawn, endpoint=hub.url, token=False, local_dir=tmp_path / "got"
        )
        assert bytes_of(Path(got)) == bytes_of(hub.folder(3))
        assert "digits-3 was withdrawn: Learned from wrong labels." in caplog.text
        titles = [commit.title for commit in client.list_repo_commits(REPO, revision="v3")]
        assert titles[0] == "digits-3 (withdrawn)"
        for number in (1, 2):
            hub.coordinator.control.state.releases.withdraw(f"digits-{number}", "account:Ada", "Also wrong.")
        assert not client.revision_exists(REPO, "stable"), "a channel is no pin"
        with pytest.raises(RevisionNotFoundError, match="was withdrawn, so there is no main"):
            client.model_info(REPO)
        assert REPO not in [model.id for model in client.list_models()]
        assert client.model_info(REPO, revision="v1").sha == hub.commit(1)
