"""First contact and download, against a real server over TLS that may lie."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.registry.build import KeepRequest, weights_only
from coordinator.registry.publish import publish
from coordinator.registry.shelf import refresh, yank
from shared.domain.clock import SystemClock
from shared.domain.errors import (
    BadSignature,
    CommonlensError,
    Conflict,
    DigestMismatch,
    Expired,
    Invalid,
    InvalidMessage,
    NotAllowed,
    NotFound,
    RolledBack,
    Unreachable,
    WrongAuthority,
)
from shared.domain.extractor import ExtractorSpec
from shared.domain.release import Source, SourceKind
from shared.extractors.architectures import starting_weights
from shared.extractors.files import write_weights
from shared.release import hub_client
from shared.release.pinning import pinned_trust
from shared.release.signing import SigningKey
from shared.release.trust import parse_trust, rotate
from shared.verification import verify_release
from tests.pull_kit import FILES, Opened, PullHub, no_proxy, pull_hubs
from tests.release_kit import make_kit
from tests.release_server import Told, registry_app, serving

pytestmark = pytest.mark.usefixtures("no_proxy")
__all__ = ["no_proxy"]

KEPT = ExtractorSpec("small-gn", 1, 8, 8, 4, (0.5,), (0.25,), {"width": 8})


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    # TLS knows only the machine's own time, so these certificates and documents live now.
    yield from pull_hubs(make_kit(tmp_path_factory.mktemp("pull"), moment=SystemClock().now()))


@pytest.fixture
def hub(opened: Opened, tmp_path: Path) -> PullHub:
    return opened(tmp_path)


def test_pulled_release_verifies_under_the_root_that_the_fingerprint_pins(hub: PullHub) -> None:
    pulled = hub.pull()
    assert pulled.folder == hub.to / "digits-1" and hub.shown() == [".commonlens", "digits-1"]
    assert pulled.downloaded_bytes > 0 and pulled.verified.pinned
    assert verify_release(pulled.folder, pinned_root=hub.kit.root, clock=hub.kit.clock).proofs
    assert hub.connect().state.pinned_root == hub.kit.root
    assert hub.staged() == []


def test_second_pull_downloads_nothing_and_needs_no_fingerprint(hub: PullHub) -> None:
    hub.pull()
    store = hub_client.connect(hub.url, hub.to, None, hub.kit.clock)
    assert store.state.url == hub.url
    assert hub.pull("digits-1").downloaded_bytes == 0


def test_newest_release_is_the_default_and_an_older_one_can_be_named(hub: PullHub) -> None:
    hub.kit.publish("two")
    assert hub.pull("digits").entry.id == "digits-2"
    assert hub.pull("digits-1").entry.id == "digits-1"
    with pytest.raises(
        NotFound, match="no release 'faces'; it offers digits. Nothing was downloaded. Name one"
    ):
        hub.pull("faces")


def keep(hub: PullHub, folder: Path, name: str) -> None:
    """One that nobody here trained, as the library of the first day has eight."""
    tensors, layout = starting_weights(KEPT, seed=3)
    write_weights(folder / "kept.safetensors", tensors, KEPT, layout)
    source = Source(SourceKind.RANDOM, "Random weights.", "CC0-1.0", "seed 3")
    publish(
        hub.kit.home,
        KeepRequest(name, source, folder / "kept.safetensors"),
        hub.kit.clock,
        export=weights_only,
    )


def test_the_one_trained_extractor_is_the_default_beside_those_of_the_library(
    hub: PullHub, tmp_path: Path
) -> None:
    keep(hub, tmp_path, "edges")
    keep(hub, tmp_path, "colours")
    assert hub.pull().entry.id == "digits-1"
    yank(hub.kit.home, "digits-1", hub.kit.clock)
    with pytest.raises(NotFound, match=r"offers 2 extractors \(colours, edges\).*Name one of them"):
        hub.pull()


def test_withdrawn_release_is_given_by_its_own_id_alone_and_with_a_warning(hub: PullHub) -> None:
    hub.kit.publish("two")
    yank(hub.kit.home, "digits-2", hub.kit.clock, "Wrong labels.")
    newest = hub.pull()
    assert (newest.entry.id, newest.warning) == ("digits-1", "")
    for _ in ("fetched", "was here already"):
        pinned = hub.pull("digits-2")
        assert pinned.entry.id == "digits-2"
        assert (
            pinned.warning.startswith("digits-2 was withdrawn by the consortium: Wrong labels. It is still")
            and "Take digits-1, its newest." in pinned.warning
        )


def test_a_line_that_was_withdrawn_as_a_whole_is_not_offered_as_one_to_take(hub: PullHub) -> None:
    yank(hub.kit.home, "digits-1", hub.kit.clock, "Wrong labels.")
    with pytest.raises(
        NotAllowed,
        match=r"every release of digits, the newest of them digits-1: Wrong labels\..*It offers nothing now\. Whoever",
    ):
        hub.pull("digits")
    assert "It offers nothing now." in hub.pull("digits-1").warning
    with pytest.raises(NotFound, match="offers 0 extractors"):
        hub.pull()


def test_damaged_copy_is_replaced_as_a_whole(hub: PullHub) -> None:
    folder = hub.pull().folder
    (folder / "README.md").write_text("changed")
    (folder / "extra").write_text("added")
    assert hub.pull().downloaded_bytes > 0
    assert verify_release(folder, pinned_root=hub.kit.root, clock=hub.kit.clock).proofs


def test_leftovers_of_a_killed_pull_are_removed(hub: PullHub) -> None:
    left = hub.to / ".commonlens" / "partial-digits-1-dead"
    left.mkdir(parents=True)
    hub.pull()
    assert not left.exists()


def test_first_contact_needs_a_fingerprint(hub: PullHub) -> None:
    with pytest.raises(WrongAuthority, match="Give --ca-fingerprint"):
        hub_client.connect(hub.url, hub.to, None, hub.kit.clock)
    assert hub.shown() == []


def test_wrong_fingerprint_names_its_step_and_stores_nothing(hub: PullHub) -> None:
    with pytest.raises(
        WrongAuthority, match=r"Step 2 of 3 \(compare the fingerprint\): The certificate authority"
    ):
        hub.connect("sha256:" + "0" * 64)
    assert hub.shown() == []


def test_folder_stays_with_its_consortium(hub: PullHub) -> None:
    hub.pull()
    with pytest.raises(WrongAuthority, match="This folder is pinned to"):
        hub_client.connect("https://elsewhere.example", hub.to, None, hub.kit.clock)
    with pytest.raises(WrongAuthority, match="should be sha256:0000"):
        hub.connect("sha256:" + "0" * 64)


def test_server_with_the_right_words_and_another_certificate_is_refused(hub: PullHub, tmp_path: Path) -> None:
    other = make_kit(tmp_path / "other")
    app = registry_app(hub.kit.home, hub.kit.clock)
    with serving(app, other.home) as url, pytest.raises(WrongAuthority, match="Step 3 of 3"):
        pinned_trust(url, hub.kit.fingerprint, hub.kit.clock)


def test_trust_signed_by_another_root_is_refused_at_first_contact(hub: PullHub, tmp_path: Path) -> None:
    other = make_kit(tmp_path / "other")
    ca_pem = (hub.kit.home / "keys" / "ca.pem").read_text()
    trust = json.loads((other.home / "trust.json").read_text())
    hub.lie("trust", json.dumps({"ca_pem": ca_pem, "trust": trust}))
    with pytest.raises(BadSignature, match="Step 2 of 3"):
        hub.connect()


def test_trust_that_names_another_ca_is_refused(hub: PullHub) -> None:
    files = json.loads((hub.kit.home / "trust.json").read_text())
    following = replace(parse_trust(files), version=2, ca_sha256="sha256:" + "0" * 64)
    root = SigningKey.load(hub.kit.home / "keys" / "root.pem")
    ca_pem = (hub.kit.home / "keys" / "ca.pem").read_text()
    hub.lie("trust", json.dumps({"ca_pem": ca_pem, "trust": rotate(files, following, [root])}))
    with pytest.raises(WrongAuthority, match="names the certificate authority sha256:0000"):
        hub.connect()


def test_nobody_at_the_address_is_unreachable_and_exits_4(hub: PullHub) -> None:
    with pytest.raises(Unreachable, match=r"Step 1 of 3 .*did not accept a connection") as caught:
        pinned_trust("https://127.0.0.1:9", hub.kit.fingerprint, hub.kit.clock)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "url", ["http://lens.example", "lens.example", "https://", "https://a:b@lens.example", "https://x/?q=1"]
)
def test_only_an_https_address_without_secrets_is_called(hub: PullHub, url: str) -> None:
    with pytest.raises(Invalid, match="A coordinator's address looks like"):
        pinned_trust(url, hub.kit.fingerprint, hub.kit.clock)


@pytest.mark.parametrize(
    ("path", "told", "kind", "text"),
    [
        (FILES + "README.md", b"short", DigestMismatch, "README.md with .* bytes; 5 came"),
        (FILES + "README.md", b"x" * 10**6, InvalidMessage, "and has more"),
        (FILES + "manifest.json", b"{" * 9, Invalid, "not a JSON document"),
        (
            FILES + "manifest.json",
            b"x" * (8 * 2**20 + 1),
            InvalidMessage,
            "may have 8388608 bytes and has more",
        ),
        (FILES + "model.safetensors", 404, NotFound, "nothing there"),
        (FILES + "model.safetensors", 500, Unreachable, "expected status 200, the server answered 500"),
        (FILES + "model.safetensors", 302, Unreachable, "the server answered 302"),
        ("releases", b"{}", Invalid, "exactly"),
        ("releases", 403, NotAllowed, "does not show this to the owner of this token"),
        ("trust", b"<html>", Invalid, "not a JSON document"),
        ("trust", b'{"ca_pem": 1}', InvalidMessage, "not from a Commonlens coordinator"),
    ],
)
def test_lying_server_leaves_nothing_visible(
    hub: PullHub, path: str, told: Told, kind: type[CommonlensError], text: str
) -> None:
    hub.lie(path, told)
    with pytest.raises(kind, match=text):
        hub.pull()
    assert [name for name in hub.shown() if name != ".commonlens"] == []
    assert bool(hub.staged()) == (kind in (Unreachable, NotFound)), "a lie is not gone on with"


def test_other_weights_of_the_same_size_are_caught_by_verification(hub: PullHub) -> None:
    data = bytearray((hub.kit.folder() / "model.safetensors").read_bytes())
    data[-2] ^= 1
    hub.lie(FILES + "model.safetensors", bytes(data))
    with pytest.raises(DigestMismatch, match="Proof 3 of 10"):
        hub.pull()
    assert hub.shown() == [".commonlens"]


def test_manifest_of_another_release_is_not_the_one_promised(hub: PullHub) -> None:
    hub.kit.publish("two")
    hub.lie("releases/digits/2/files/manifest.json", (hub.kit.folder(1) / "manifest.json").read_bytes())
    with pytest.raises(DigestMismatch, match="The catalogue promises digits-2"):
        hub.pull()


def test_yesterdays_catalogue_is_refused(hub: PullHub) -> None:
    old = (hub.kit.home / "releases" / "catalogue.json").read_bytes()
    hub.kit.publish("two")
    hub.pull()
    hub.lie("releases", old)
    with pytest.raises(
        RolledBack, match="The release digits-2 was seen here before and is missing|has version 1"
    ):
        hub.pull()


def test_frozen_catalogue_expires(hub: PullHub) -> None:
    old = (hub.kit.home / "releases" / "catalogue.json").read_bytes()
    hub.pull()
    hub.lie("releases", old)
    hub.kit.clock.advance(31 * 86400)
    with pytest.raises(Expired, match="The catalogue document was valid until"):
        hub.pull()


def test_pull_follows_a_rotation_of_the_release_key(hub: PullHub) -> None:
    hub.pull()
    home = hub.kit.home
    current = json.loads((home / "trust.json").read_text())
    (home / "keys" / "release.pem").unlink()
    key = SigningKey.generate()
    key.save(home / "keys" / "release.pem")
    following = replace(parse_trust(current), version=2, release_key=key.public_hex)
    root = SigningKey.load(home / "keys" / "root.pem")
    (home / "trust.json").write_text(json.dumps(rotate(current, following, [root])))
    refresh(home, hub.kit.clock)
    pulled = hub.pull()
    assert pulled.verified.trust.version == 2 and pulled.downloaded_bytes > 0


def test_registry_that_is_not_public_asks_for_a_token_or_for_another(hub: PullHub) -> None:
    class Config:
        public_releases = False

    hub.app.state.config = Config()
    with pytest.raises(NotAllowed, match=r"without a token, and none was sent.+COMMONLENS_TOKEN"):
        hub.pull()
    hub.lie("releases", 401)
    with pytest.raises(NotAllowed, match=r"does not take this token.+suspended or revoked.+Ask the operator"):
        hub.pull(token="clt_over")


@pytest.mark.parametrize(
    "path",
    [
        "releases/digits/1/files/..%2f..%2f..%2ftrust.json",
        "releases/digits/1/files/..%2fcatalogue.json",
        "releases/..%2f..%2fkeys/1/files/root.pem",
        "releases/.building/2/files/manifest.json",
        "releases/digits/2/files/manifest.json",
        "releases/digits/-1/files/manifest.json",
        "releases/digits/1/files/.lock",
        "releases/digits/1/files/other.txt",
    ],
)
def test_registry_serves_only_what_a_listed_manifest_names(hub: PullHub, path: str) -> None:
    (hub.kit.folder(1) / "other.txt").write_text("not in the manifest")
    store = hub.connect()
    from shared.release.pinning import read_limited, verified_client

    with verified_client(hub.url, store.state.ca_pem) as client, pytest.raises(NotFound):
        read_limited(client, f"/api/v1/{path}", 10**6, "Probe")


def test_two_pulls_in_one_folder_do_not_meet(hub: PullHub) -> None:
    import fcntl

    hub.connect()
    descriptor = os.open(hub.to / ".commonlens" / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with pytest.raises(Conflict, match="Another pull is at work"):
            hub.pull()
    finally:
        os.close(descriptor)
