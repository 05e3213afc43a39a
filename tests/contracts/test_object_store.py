"""Large files of releases in an S3 store: against a real server process, over a line that can be cut."""

from __future__ import annotations

import logging
import secrets
import ssl
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import obstore
import pytest

from coordinator.cli import app as coordinator_app
from coordinator.config import CONFIG_FILE, read_config
from coordinator.registry.publish import publish
from coordinator.registry.service import ReleaseService
from coordinator.registry.shelf import Shelf, read_catalogue, refresh, yank
from coordinator.registry.storage_move import preflight
from coordinator.registry.store import LARGE_BYTES
from coordinator.storage.database import migrate, open_database
from shared.cli import app as anybody_app
from shared.console import run_arguments
from shared.domain.canonical import digest_of_file
from shared.domain.errors import CommonlensError, DigestMismatch, InvalidConfig, StoreUnreachable
from shared.domain.ids import ReleaseId
from shared.domain.release import ONNX_FILE, WEIGHTS_FILE
from shared.release.envelope import read_document
from shared.release.limits import MANIFEST_BYTES
from shared.release.manifest import parse_manifest
from shared.verification import verify_release
from tests.hub_kit import SPACE, Hub, hub_kit, hub_served
from tests.object_store_kit import KEYS, Line, S3Server, configure, s3_server
from tests.release_kit import Kit

VALUES = 2_200_000
"""About 8.8 MB of weights: two parts to write, three blocks to read."""
LARGE = [ONNX_FILE, WEIGHTS_FILE]
STEPS = ("13.1 intent", "13.2 build", "13.3 sign", "13.4 verify", "13.5 place", "13.5.1 store", "13.6 show")


class Killed(BaseException):
    """Stands for kill −9: nothing in the code under test may catch it."""


@dataclass
class Site:
    """A coordinator's home with a store, and the line between them."""

    kit: Kit
    server: S3Server
    line: Line

    def publish(self, checkpoint: str = "one", kill_after: str = "") -> ReleaseId:
        """A release with two large files; `kill_after` a step nothing more happens."""

        def ended(step: str) -> None:
            if step == kill_after:
                raise Killed

        return publish(
            self.kit.home, self.kit.request(checkpoint), self.kit.clock, ended, export=self._export
        )

    def _export(self, folder: Path, _release: str) -> Mapping[str, str]:
        (folder / ONNX_FILE).write_bytes(b"the same network, another form" * (LARGE_BYTES // 20))
        return {}

    @property
    def folder(self) -> Path:
        return self.kit.folder(1)

    def listed(self) -> list[str]:
        return [str(entry.id) for entry in read_catalogue(Shelf(self.kit.home), self.kit.clock).releases]

    def here(self) -> list[str]:
        """Which of the large files are on this machine's disk."""
        return [name for name in LARGE if (self.folder / name).exists()]

    def command(self, *words: str) -> int:
        return run_arguments(coordinator_app, [*words, "--home", str(self.kit.home)])

    def verifies(self, number: int = 1) -> None:
        """Every proof holds of what can be put together of disk and store."""
        with Shelf(self.kit.home).large.whole(self.kit.folder(number)) as complete:
            verify_release(complete, pinned_root=self.kit.root, clock=self.kit.clock)


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return hub_kit(tmp_path_factory.mktemp("consortium"), VALUES)


@pytest.fixture
def site(
    server: S3Server, consortium: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    for name, value in {**KEYS, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"}.items():
        monkeypatch.setenv(name, value)
    server.refuse_after("inf")
    server.new_bucket(f"bucket-{secrets.token_hex(4)}")
    line = Line(server.port)
    line.join()
    kit = consortium.copy(tmp_path / "coordinator")
    configure(kit.home, line.endpoint, server.bucket)
    yield Site(kit, server, line)
    line.cut()


@pytest.fixture
def hub(site: Site) -> Iterator[tuple[Hub, httpx.Client]]:
    """The whole coordinator with one release, and a client that trusts it."""
    site.publish()
    with hub_served(site.kit) as hub:
        tls = ssl.create_default_context(cafile=hub.ca)
        client = httpx.Client(base_url=hub.url, verify=tls, timeout=60.0, trust_env=False)
        with client:
            yield hub, client


def promised(folder: Path) -> dict[str, str]:
    files = parse_manifest(read_document(folder / "manifest.json", MANIFEST_BYTES)).claimed.files
    return {name: file.digest for name, file in files.items()}


# --- Publishing ------------------------------------------------------------------------------------


def test_publishing_leaves_documents_here_and_puts_large_files_into_the_store_by_digest(site: Site) -> None:
    site.publish()
    kept = {path.name for path in site.folder.iterdir()}
    wanted = {"manifest.json", "trust.json", "model.sig", "README.md", "plan.json", "certificate.json"}
    assert kept == wanted
    digests = {promised(site.folder)[name].removeprefix("sha256:") for name in LARGE}
    assert set(site.server.objects()) == {f"lenses/sha256/{digest}" for digest in digests}
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
    site: Site, answered: int
) -> None:
    site.server.refuse_after(answered)
    with pytest.raises((InvalidConfig, StoreUnreachable)):
        site.publish()
    assert site.listed() == [] and site.here() == LARGE
    verify_release(site.folder, pinned_root=site.kit.root, clock=site.kit.clock)
    site.server.refuse_after("inf")
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


def test_an_object_with_other_bytes_under_its_name_is_written_anew(site: Site) -> None:
    site.publish()
    (key,) = [key for key, size in site.server.objects().items() if size > 4 * LARGE_BYTES]
    site.command("storage", "move", "--back")
    damage(site.server, key)
    assert site.command("storage", "move") == 0
    assert site.here() == []
    site.verifies()


def test_a_file_that_is_not_the_promised_one_is_not_put_into_the_store(site: Site) -> None:
    site.publish()
    site.command("storage", "move", "--back")
    path = site.folder / ONNX_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(
        DigestMismatch, match=r"model\.onnx should be sha256:.* It was not put into the store\."
    ):
        Shelf(site.kit.home).large.put_away(site.folder)
    assert site.here() == LARGE


def damage(server: S3Server, key: str) -> None:
    """Another byte in the middle of an object."""
    data = bytearray(bytes(obstore.get(server.client(), key).bytes()))
    data[len(data) // 2] ^= 1
    obstore.put(server.client(), key, bytes(data))


# --- Reading ---------------------------------------------------------------------------------------


def test_every_address_gives_the_bytes_that_the_manifest_promises(
    site: Site, hub: tuple[Hub, httpx.Client], tmp_path: Path
) -> None:
    served, client = hub
    assert site.here() == []
    for name, digest in promised(site.folder).items():
        for address in (
            f"/api/v1/releases/digits/1/files/{name}",
            f"/{SPACE}/digits/resolve/main/{name}",
        ):
            answer = client.get(address)
            (tmp_path / "got").write_bytes(answer.content)
            assert (answer.status_code, digest_of_file(tmp_path / "got")) == (200, digest), address
            assert answer.headers["etag"] == f'"{digest.removeprefix("sha256:")}"', address
    assert served.coordinator.control.state.releases.downloads.of("digits-1").weights == 2


def test_a_range_that_lies_across_blocks_is_exact(site: Site, hub: tuple[Hub, httpx.Client]) -> None:
    _, client = hub
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
    site: Site, hub: tuple[Hub, httpx.Client], caplog: pytest.LogCaptureFixture
) -> None:
    _, client = hub
    address = f"/api/v1/releases/digits/1/files/{WEIGHTS_FILE}"
    whole, got = client.get(address).content, b""
    with pytest.raises(httpx.RemoteProtocolError), client.stream("GET", address) as answer:
        site.server.refuse_after(0)
        for data in answer.iter_raw():
            got += data
    assert 0 < len(got) < len(whole)
    assert "a download was cut off" in caplog.text
    site.server.refuse_after("inf")
    rest = client.get(address, headers={"range": f"bytes={len(got)}-", "if-range": answer.headers["etag"]})
    assert (rest.status_code, got + rest.content) == (206, whole)


# --- Moving, and what the operator is told -----------------------------------------------------------


def test_releases_are_moved_in_and_back_and_no_byte_changes(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(site.kit.home, "", "")
    site.publish()
    assert site.here() == LARGE and site.server.objects() == {}
    assert site.command("storage", "move") == 2
    assert "coordinator.toml names no object store" in capsys.readouterr().err

    configure(site.kit.home, site.line.endpoint, site.server.bucket)
    assert site.command("storage", "check") == 0
    said = []
    for words in ([], [], ["--back"], ["--back"]):
        assert site.command("storage", "move", *words) == 0
        said.append(capsys.readouterr().out.splitlines()[-1])
        site.verifies()
    assert said == [
        "2 file(s) moved into the store.",
        "0 file(s) moved into the store.",
        "2 file(s) moved to this disk.",
        "0 file(s) moved to this disk.",
    ]
    configure(site.kit.home, "", "")
    verify_release(site.folder, pinned_root=site.kit.root, clock=site.kit.clock)


def test_a_damaged_object_is_not_brought_back(site: Site) -> None:
    site.publish()
    for key, size in site.server.objects().items():
        if size > 4 * LARGE_BYTES:
            damage(site.server, key)
    with pytest.raises(DigestMismatch, match="does not hold sha256:.* as it was put there"):
        Shelf(site.kit.home).large.bring_back(site.folder)
    assert WEIGHTS_FILE not in site.here()
    assert not list(site.folder.glob("*.partial")) and not list(site.folder.glob(".*.partial"))


WRONG = {
    "no such bucket": ("has no such bucket", InvalidConfig),
    "wrong keys": ("refuses the keys", InvalidConfig),
    "no keys": ("was given no keys", InvalidConfig),
    "down": ("did not answer as a store does", StoreUnreachable),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_store_that_is_wrong_is_named_and_keys_are_not(
    site: Site, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, kind = WRONG[what]
    if what == "no such bucket":
        configure(site.kit.home, site.line.endpoint, "another-bucket")
    elif what == "wrong keys":
        site.server.refuse_after(0)
    elif what == "no keys":
        for name in KEYS:
            monkeypatch.delenv(name)
        # Where a machine in a cloud asks for the keys of its role: nobody answers there.
        monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://169.254.169.254:1")
        monkeypatch.setenv("NO_PROXY", "*")
    else:
        site.line.cut()
    assert site.command("storage", "check") == kind.exit_code
    said = capsys.readouterr().err
    assert text in " ".join(said.split()) and site.line.endpoint in said
    assert not any(secret in said for secret in KEYS.values())


def test_a_start_is_refused_where_the_store_refuses_and_not_where_it_is_down(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    preflight(site.kit.home)
    site.line.cut()
    with caplog.at_level(logging.ERROR):
        preflight(site.kit.home)
    assert "did not answer as a store does" in caplog.text
    site.line.join()
    site.server.refuse_after(0)
    with pytest.raises(InvalidConfig, match="refuses the keys"):
        preflight(site.kit.home)


def test_a_start_clears_what_a_killed_verification_left(site: Site) -> None:
    site.publish()
    left = site.kit.home / "releases" / ".whole-killed"
    left.mkdir()
    (left / "part").write_bytes(b"a part")
    preflight(site.kit.home)
    assert not left.exists() and site.listed() == ["digits-1"]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ('url = "s3://key:hidden@bucket"', r"storage\.url: expected s3://bucket .* without keys, found '…@bucket'"),
        ('url = "s3://bucket?secret=hidden"', r"storage\.url: .* found 's3://bucket'"),
        ('url = "https://bucket"', r"storage\.url: .* found 'https://bucket'"),
        ('url = "s3://"', r"storage\.url"),
        ('region = "eu-west-1"', r"storage\.url: .* found ''"),
        ('url = "s3://bucket"\nendpoint = "http://store.example.org"', r"storage\.endpoint: expected an address that"),
        ('url = "s3://bucket"\nendpoint = "https://k:hidden@store"', r"storage\.endpoint: .* found '…@store'"),
        ('url = "s3://bucket"\nendpoint = "https://store/bucket"', r"storage\.endpoint"),
        ('url = "s3://bucket"\nregion = ""', r"storage\.region"),
        ('url = "s3://bucket"\naccess_key_id = "hidden"', r"access_key_id"),
        ('url = "s3://bucket"\nca_file = "none.pem"', r"storage\.ca_file: none\.pem cannot be read"),
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_work_is_refused_without_telling_keys(
    consortium: Kit, tmp_path: Path, lines: str, text: str
) -> None:
    home = consortium.copy(tmp_path / "coordinator").home
    configure(home, "", "")
    with (home / CONFIG_FILE).open("a") as file:
        file.write(f"\n[storage]\n{lines}\n")
    with pytest.raises(InvalidConfig, match=text) as caught:
        preflight(home)
    assert "hidden" not in caught.value.message


def test_a_configuration_that_is_being_edited_changes_nothing_until_it_can_be_read(
    site: Site, hub: tuple[Hub, httpx.Client]
) -> None:
    _, client = hub
    (site.kit.home / CONFIG_FILE).write_text("[storage]\nurl = ")
    assert client.get(f"/api/v1/releases/digits/1/files/{WEIGHTS_FILE}").status_code == 200
    with pytest.raises(CommonlensError):
        read_config(site.kit.home)


def test_the_server_of_these_tests_is_a_process_that_speaks_s3(server: S3Server) -> None:
    """Or nothing here would say anything."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(server.endpoint) as answer:
        assert b"ListAllMyBucketsResult" in answer.read()
