"""The authority: keys made once and all at once, one fingerprint that pins everything."""

from __future__ import annotations

import ssl
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from coordinator.members import authority
from coordinator.members.authority import (
    AuthorityFiles,
    create_authority,
    ensure_authority,
    renew_server_certificate,
)
from coordinator.members.certificates import belong_together, make_server_certificate, names_of
from shared.domain.clock import FixedClock, SystemClock
from shared.domain.errors import AlreadyExists, Invalid, NotFound, OutOfSpace
from shared.release.authority import ca_fingerprint, root_of_ca
from shared.release.signing import SigningKey
from shared.release.trust import open_trust

NAMES = ("localhost", "127.0.0.1")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(SystemClock().now())


def test_the_fingerprint_pins_the_ca_the_root_and_the_trust_document(
    tmp_path: Path, clock: FixedClock
) -> None:
    fingerprint = create_authority(tmp_path, "Testing", NAMES, clock)
    files = AuthorityFiles(tmp_path)
    root = root_of_ca(files.ca_pem(), fingerprint)
    assert root == SigningKey.load(files.keys / "root.pem").public_hex
    trust = open_trust(files.trust_envelope(), root, clock)
    assert trust.ca_sha256 == fingerprint == ca_fingerprint(files.ca_pem())
    assert trust.roll_key == files.roll_key().public_hex
    assert trust.release_key == files.release_key().public_hex


def test_the_ca_may_sign_servers_and_no_other_ca(tmp_path: Path, clock: FixedClock) -> None:
    create_authority(tmp_path, "Testing", NAMES, clock)
    ca = x509.load_pem_x509_certificate(AuthorityFiles(tmp_path).ca_pem().encode())
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical and constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    server = x509.load_pem_x509_certificate(AuthorityFiles(tmp_path).server.read_bytes())
    server.verify_directly_issued_by(ca)
    assert server.not_valid_after_utc - server.not_valid_before_utc == timedelta(days=397)
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_private_keys_are_private(tmp_path: Path, clock: FixedClock) -> None:
    create_authority(tmp_path, "Testing", NAMES, clock)
    keys = AuthorityFiles(tmp_path).keys
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    for name in ("root.pem", "roll.pem", "release.pem", "ca-key.pem", "server-key.pem"):
        assert stat.S_IMODE((keys / name).stat().st_mode) == 0o600, name


def test_an_authority_is_never_overwritten(tmp_path: Path, clock: FixedClock) -> None:
    fingerprint = create_authority(tmp_path, "Testing", NAMES, clock)
    with pytest.raises(AlreadyExists, match="There are already keys"):
        create_authority(tmp_path, "Testing", NAMES, clock)
    assert AuthorityFiles(tmp_path).fingerprint() == fingerprint


def test_a_crash_half_way_leaves_no_keys_and_can_be_run_again(
    tmp_path: Path, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutOfSpace("The disk is full.")

    with monkeypatch.context() as patched:
        patched.setattr(authority, "write_json", full)
        with pytest.raises(OutOfSpace):
            create_authority(tmp_path, "Testing", NAMES, clock)
    assert list(tmp_path.iterdir()) == []
    create_authority(tmp_path, "Testing", NAMES, clock)


def test_an_init_that_crashed_later_finds_its_own_keys_again(tmp_path: Path, clock: FixedClock) -> None:
    fingerprint = ensure_authority(tmp_path, "Testing", NAMES, clock)
    assert ensure_authority(tmp_path, "Testing", ("lens.example.org",), clock) == fingerprint
    assert names_of(AuthorityFiles(tmp_path).server.read_text()) == ("lens.example.org",)
    with pytest.raises(AlreadyExists, match="of the consortium 'Testing', not 'Other'"):
        ensure_authority(tmp_path, "Other", NAMES, clock)


def test_before_init_the_next_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Run commonlens-coordinator init first"):
        AuthorityFiles(tmp_path).fingerprint()


def test_renewal_keeps_the_ca_and_changes_the_server(tmp_path: Path, clock: FixedClock) -> None:
    fingerprint = create_authority(tmp_path, "Testing", NAMES, clock)
    files = AuthorityFiles(tmp_path)
    before = files.server.read_text()
    assert renew_server_certificate(tmp_path, ("lens.example.org",), clock)
    assert files.fingerprint() == fingerprint
    assert files.server.read_text() != before
    assert names_of(files.server.read_text()) == ("lens.example.org",)
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(files.server, files.server_key)


def test_renewal_when_due_is_done_when_due_only(tmp_path: Path, clock: FixedClock) -> None:
    create_authority(tmp_path, "Testing", NAMES, clock)
    assert not renew_server_certificate(tmp_path, NAMES, clock, only_if_due=True)
    clock.advance(366 * 86400)
    assert not renew_server_certificate(tmp_path, NAMES, clock, only_if_due=True)
    clock.advance(2 * 86400)
    assert renew_server_certificate(tmp_path, NAMES, clock, only_if_due=True)
    assert renew_server_certificate(tmp_path, ("other.example.org",), clock, only_if_due=True)


def test_a_key_that_does_not_fit_its_certificate_makes_renewal_due(tmp_path: Path, clock: FixedClock) -> None:
    create_authority(tmp_path, "Testing", NAMES, clock)
    files = AuthorityFiles(tmp_path)
    ca_key = (files.keys / "ca-key.pem").read_text()
    _, other_key = make_server_certificate(files.ca_pem(), ca_key, NAMES, clock.now())
    files.server_key.write_text(other_key)
    assert renew_server_certificate(tmp_path, NAMES, clock, only_if_due=True)
    assert belong_together(files.server.read_text(), files.server_key.read_text())


@pytest.mark.parametrize(
    ("names", "sentence"), [((), "at least one name"), (("münchen",), "neither a host name")]
)
def test_names_that_no_certificate_can_carry_are_refused(
    tmp_path: Path, clock: FixedClock, names: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(Invalid, match=sentence):
        create_authority(tmp_path, "Testing", names, clock)
    assert not AuthorityFiles(tmp_path).keys.exists()
