"""Large files of releases in an S3 store: published into it and read out of it, over a line that can be cut.

Against a real server process. What the operator's commands do is in test_object_store_operator.py.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from coordinator.config import CONFIG_FILE, read_config
from coordinator.registry.service import ReleaseService
from coordinator.registry.shelf import refresh, yank
from coordinator.storage.database import migrate, open_database
from shared.cli import app as anybody_app
from shared.console import run_arguments
from shared.domain.canonical import digest_of_file
from shared.domain.errors import CommonlensError, InvalidConfig, StoreUnreachable
from shared.domain.release import BESIDE_THE_PROMISE, WEIGHTS_FILE
from shared.verification import verify_release
from tests.hub_kit import SPACE, Hub, hub_kit, hub_served
from tests.object_store_kit import LARGE, Killed, S3Server, Site, site_over
from tests.release_kit import Kit

VALUES = 2_200_000
"""About 8.8 MB of weights: two parts to write, three blocks to read."""
STEPS = ("13.1 intent", "13.2 build", "13.3 sign", "13.4 verify", "13.5 place", "13.5.1 store", "13.6 show")


@pytest.fixture(scope="module")
def large_consortium(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return hub_kit(tmp_path_factory.mktemp("consortium"), VALUES)


@pytest.fixture
def large_site(
    server: S3Server, large_consortium: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    with site_over(server, large_consortium, tmp_path / "coordinator", monkeypatch) as site:
        yield site


def served(site: Site) -> Iterator[tuple[Hub, httpx.Client]]:
    """The whole coordinator with one release, and a client that trusts it."""
    site.publish()
    with hub_served(site.kit) as hub:
        tls = ssl.create_default_context(cafile=hub.ca)
        client = httpx.Client(base_url=hub.url, verify=tls, timeout=60.0, trust_env=False)
        with client:
            yield hub, client


@pytest.fixture
def hub(site: Site) -> Iterator[tuple[Hub, httpx.Client]]:
    yield from served(site)


@pytest.fixture
def large_hub(large_site: Site) -> Iterator[tuple[Hub, httpx.Client]]:
    yield from served(large_site)


# --- Publishing ------------------------------------------------------------------------------------


def test_publishing_leaves_documents_here_and_puts_large_files_into_the_store_by_digest(site: Site) -> None:
    site.publish()
    kept = {path.name for path in site.folder.iterdir()}
    assert kept == {*site.promised, *BESIDE_THE_PROMISE} - set(LARGE)
    assert kept >= {"manifest.json", "trust.json", "model.sig", "README.md", "plan.json", "certificate.json"}
    assert set(site.server.objects()) == {site.key(name) for name in LARGE}
    site.verifies()


def test_releases_with_the_same_bytes_share_one_object(site: Site) -> None:
    site.publish("one")
    site.publish("two")
    assert len(site.server.objects()) == 2
    site.verifies(1)
    site.verifies(2)


@pytest.mark.parametrize("step", STEPS)
def test_killed_after_any_step_nothing_is_half_visible_and_publishing_again_finishes(
    site: Site, step: str
) -> None:
    with pytest.raises(Killed):
        site.publish(kill_after=step)
    assert site.listed() == (["digits-1"] if step == STEPS[-1] else [])
    assert site.publish("two") == ("digits-1" if step < STEPS[4] else "digits-2")
    assert site.publish("one") == ("digits-2" if step < STEPS[4] else "digits-1")
    assert site.here() == []
    site.verifies(1)
    site.verifies(2)
    left = sorted(path.name for path in (site.kit.home / "releases").iterdir())
    assert left == [".lock", "catalogue.json", "digits"]


@pytest.mark.parametrize("answered", range(12))
def test_a_store_that_refuses_at_any_request_loses_nothing_and_shows_nothing(
    large_site: Site, answered: int
) -> None:
    site = large_site
    site.line.refuse_after(answered)
    with pytest.raises((InvalidConfig, StoreUnreachable)):
        site.publish()
    assert site.listed() == [] and site.here() == LARGE
    verify_release(site.folder, pinned_root=site.kit.root, clock=site.kit.clock)
    site.line.refuse_after(math.inf)
    assert site.publish() == "digits-1"
    assert site.listed() == ["digits-1"] and site.here() == []
    site.verifies()


def test_a_store_that_is_down_is_told_and_publishing_goes_on_where_it_was(site: Site) -> None:
    site.line.cut()
    with pytest.raises(StoreUnreachable, match="did not answer as a store does. Nothing is lost"):
        site.publish()
    assert site.listed() == [] and site.here() == LARGE
    site.line.join()
    assert site.publish() == "digits-1"
    assert site.listed() == ["digits-1"] and site.here() == []


# --- Reading ---------------------------------------------------------------------------------------


def test_every_address_gives_the_bytes_that_the_manifest_promises(
    site: Site, hub: tuple[Hub, httpx.Client], tmp_path: Path
) -> None:
    served, client = hub
    assert site.here() == []
    for name, digest in site.promised.items():
        for address in (
            f"/api/v1/releases/digits/1/files/{name}",
            f"/{SPACE}/digits/resolve/main/{name}",
        ):
            answer = client.get(address)
            (tmp_path / "got").write_bytes(answer.content)
            assert (answer.status_code, digest_of_file(tmp_path / "got")) == (200, digest), address
            assert answer.headers["etag"] == f'"{digest.removeprefix("sha256:")}"', address
    assert served.coordinator.control.state.releases.downloads.of("digits-1").weights == 2


def test_a_range_that_lies_across_blocks_is_exact(large_hub: tuple[Hub, httpx.Client]) -> None:
    _, client = large_hub
    address = f"/{SPACE}/digits/resolve/main/{WEIGHTS_FILE}"
    whole = client.get(address).content
    block = 4 * 1024 * 1024
    for first, last in ((0, 0), (block - 1, block), (block, 2 * block), (10, len(whole) - 1)):
        answer = client.get(address, headers={"range": f"bytes={first}-{last}"})
        assert (answer.status_code, answer.content) == (206, whole[first : last + 1])
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
    assert client.get(address, headers={"range": "bytes=-7"}).content == whole[-7:]
    beyond = client.get(
        f"/api/v1/releases/digits/1/files/{WEIGHTS_FILE}", headers={"range": f"bytes={len(whole)}-"}
    )
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(whole)}")


def test_a_stranger_pulls_and_verifies(site: Site, hub: tuple[Hub, httpx.Client], tmp_path: Path) -> None:
    served, _ = hub
    words = ["pull", served.url, "--ca-fingerprint", site.kit.fingerprint, "--to", str(tmp_path)]
    assert run_arguments(anybody_app, words) == 0
    verify_release(tmp_path / "digits-1", pinned_root=site.kit.root)


def test_the_coordinator_checks_every_proof_itself_and_leaves_nothing_behind(site: Site) -> None:
    site.publish()
    engine = open_database(read_config(site.kit.home).database(site.kit.home))
    migrate(engine)
    service = ReleaseService(site.kit.home, engine, site.kit.clock)
    checked = service.check(service.find("digits", "1"))
    assert checked.problem == "" and len(checked.proofs) == 10
    assert site.here() == [] and list(site.folder.parent.parent.glob(".whole-*")) == []
    engine.dispose()


def test_keys_are_rotated_and_a_withdrawn_release_is_still_whole(site: Site) -> None:
    site.publish()
    yank(site.kit.home, "digits-1", site.kit.clock)
    before = (site.folder / "model.sig").read_bytes()
    refresh(site.kit.home, site.kit.clock)
    assert (site.folder / "model.sig").read_bytes() != before and site.here() == []
    site.verifies()


def test_while_the_store_is_down_small_files_are_sent_and_large_ones_answer_503(
    site: Site, hub: tuple[Hub, httpx.Client]
) -> None:
    _, client = hub
    site.line.cut()
    for base in ("/api/v1/releases/digits/1/files", f"/{SPACE}/digits/resolve/main"):
        for name in ("manifest.json", "README.md", "plan.json", "certificate.json", "model.sig"):
            assert client.get(f"{base}/{name}").status_code == 200, name
        answer = client.get(f"{base}/{WEIGHTS_FILE}")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "conflict.store-unreachable"
        assert answer.json()["detail"] == (
            "The coordinator's store of large files does not answer, and model.safetensors is there. Nothing was "
            "sent; smaller files are. Try again later."
        )
    assert client.get(f"/api/models/{SPACE}/digits").status_code == 200
    site.line.join()
    assert client.get(f"{base}/{WEIGHTS_FILE}").status_code == 200


def test_a_download_that_the_store_cuts_goes_on_from_where_it_was(
    large_site: Site, large_hub: tuple[Hub, httpx.Client], caplog: pytest.LogCaptureFixture
) -> None:
    site, (_, client) = large_site, large_hub
    address = f"/api/v1/releases/digits/1/files/{WEIGHTS_FILE}"
    whole, got = client.get(address).content, b""
    with pytest.raises(httpx.RemoteProtocolError), client.stream("GET", address) as answer:
        site.line.refuse_after(0)
        for data in answer.iter_raw():
            got += data
    assert 0 < len(got) < len(whole)
    assert "a download was cut off" in caplog.text
    site.line.refuse_after(math.inf)
    rest = client.get(address, headers={"range": f"bytes={len(got)}-", "if-range": answer.headers["etag"]})
    assert (rest.status_code, got + rest.content) == (206, whole)


def test_a_configuration_that_is_being_edited_changes_nothing_until_it_can_be_read(
    site: Site, hub: tuple[Hub, httpx.Client]
) -> None:
    _, client = hub
    (site.kit.home / CONFIG_FILE).write_text("[storage]\nurl = ")
    assert client.get(f"/api/v1/releases/digits/1/files/{WEIGHTS_FILE}").status_code == 200
    with pytest.raises(CommonlensError):
        read_config(site.kit.home)


def test_the_server_of_these_tests_is_a_store_that_knows_its_keys_alone(server: S3Server) -> None:
    """Or nothing here would say anything."""
    answer = httpx.get(server.endpoint, trust_env=False)
    assert answer.status_code == 403 and "<Code>AccessDenied</Code>" in answer.text
    assert answer.headers["server"].startswith("SeaweedFS")
