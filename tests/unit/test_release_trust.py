"""The trust document, its rotation, and what a client remembers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from coordinator.members.certificates import make_ca
from shared.domain.clock import FixedClock
from shared.domain.consortium import MemberState, Roll, RollEntry
from shared.domain.errors import (
    BadSignature,
    DigestMismatch,
    Expired,
    Invalid,
    RolledBack,
    WrongAuthority,
)
from shared.domain.ids import MemberId
from shared.domain.release import Catalogue, CatalogueEntry
from shared.domain.strict import to_plain
from shared.release.authority import ca_fingerprint, checked_fingerprint, root_of_ca
from shared.release.envelope import Envelope, seal
from shared.release.roles import open_catalogue, open_roll, sign_catalogue, sign_roll
from shared.release.signing import SigningKey
from shared.release.store import TrustStore
from shared.release.trust import RootKeys, Trust, check_rotation, open_trust, rotate, sign_trust

CLOCK = FixedClock(datetime(2026, 11, 21, tzinfo=UTC))
ROOTS = [SigningKey.generate() for _ in range(3)]
ROLL_KEY, RELEASE_KEY = SigningKey.generate(), SigningKey.generate()
CA_PEM, _ = make_ca("C", ROOTS[0].public_hex, CLOCK.now())


def trust(
    version: int = 1, roots: list[SigningKey] = ROOTS[:1], threshold: int = 1, **changes: object
) -> Trust:
    document = Trust(
        consortium="C",
        version=version,
        expires_at="2027-11-21T00:00:00Z",
        root=RootKeys(tuple(k.public_hex for k in roots), threshold),
        roll_key=ROLL_KEY.public_hex,
        release_key=RELEASE_KEY.public_hex,
        ca_sha256=ca_fingerprint(CA_PEM),
    )
    return replace(document, **changes)  # type: ignore[arg-type]


def store(folder: Path, envelope: Envelope | None = None) -> TrustStore:
    envelope = envelope or sign_trust(trust(), ROOTS[:1])
    return TrustStore.create(
        folder / "state.json",
        url="https://h",
        ca_pem=CA_PEM,
        pinned_root=ROOTS[0].public_hex,
        trust=envelope,
        clock=CLOCK,
    )


def test_trust_opens_under_its_root_key_and_under_its_root_fingerprint() -> None:
    envelope = sign_trust(trust(roots=ROOTS, threshold=2), ROOTS[:2])
    for pin in (
        ROOTS[0].public_hex,
        ROOTS[1].public_hex,
        trust(roots=ROOTS, threshold=2).root.fingerprint,
        None,
    ):
        assert open_trust(envelope, pin, CLOCK).version == 1


def test_trust_of_another_root_is_refused() -> None:
    envelope = sign_trust(trust(), ROOTS[:1])
    with pytest.raises(BadSignature, match="did not sign this trust document"):
        open_trust(envelope, ROOTS[1].public_hex, CLOCK)
    with pytest.raises(WrongAuthority, match="The root pinned here is sha256:"):
        open_trust(envelope, trust(roots=ROOTS).root.fingerprint, CLOCK)
    with pytest.raises(Invalid, match="A pinned root is a public key"):
        open_trust(envelope, "abc", CLOCK)


def test_two_of_three_needs_two() -> None:
    with pytest.raises(BadSignature, match=r"needs 2 signature\(s\) by the root keys it names; 1 verify"):
        sign_trust(trust(roots=ROOTS, threshold=2), ROOTS[:1])


def test_trust_expires_to_the_second() -> None:
    envelope = sign_trust(trust(expires_at="2026-11-21T00:00:01Z"), ROOTS[:1])
    open_trust(envelope, None, CLOCK)
    late = FixedClock(datetime(2026, 11, 21, 0, 0, 1, tzinfo=UTC))
    with pytest.raises(Expired, match="valid until 2026-11-21T00:00:01Z and that time is over"):
        open_trust(envelope, None, late)
    assert open_trust(envelope, None, late, allow_expired=True).version == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"root": RootKeys((), 1)},
        {"root": RootKeys((ROOTS[0].public_hex,), 0)},
        {"root": RootKeys((ROOTS[0].public_hex,), 2)},
        {"root": RootKeys((ROOTS[0].public_hex, ROOTS[0].public_hex), 2)},
        {"roll_key": "AB" * 32},
        {"version": 0},
        {"ca_sha256": "0" * 64},
        {"format": "commonlens-trust/2"},
        {"expires_at": "soon"},
    ],
)
def test_trust_of_a_wrong_form_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(Invalid, match="Nothing was read"):
        open_trust(sign_trust(trust(**wrong), ROOTS[:1]), None, CLOCK)  # type: ignore[arg-type]


def test_rotation_needs_the_old_and_the_new_threshold() -> None:
    first = sign_trust(trust(), ROOTS[:1])
    second = trust(2, ROOTS[1:], 2)
    assert check_rotation(first, rotate(first, second, ROOTS)).version == 2
    with pytest.raises(BadSignature, match="by the root keys trusted until now; 0 verify"):
        rotate(first, second, ROOTS[1:])
    with pytest.raises(BadSignature, match="by the root keys it names; 1 verify"):
        rotate(first, second, ROOTS[:2])


def test_a_pinned_root_still_vouches_for_the_document_that_replaced_it() -> None:
    first = sign_trust(trust(), ROOTS[:1])
    second = rotate(first, trust(2, ROOTS[1:], 2), ROOTS)
    assert open_trust(second, ROOTS[0].public_hex, CLOCK).version == 2
    third = rotate(second, trust(3, ROOTS[1:], 2), ROOTS[1:])
    with pytest.raises(BadSignature, match="did not sign"):
        open_trust(third, ROOTS[0].public_hex, CLOCK)


def test_client_refuses_an_older_trust_and_two_of_one_version(tmp_path: Path) -> None:
    client = store(tmp_path)
    first, second = client.trust_envelope, rotate(client.trust_envelope, trust(2), ROOTS[:1])
    client.accept_trust(second, CLOCK)
    client = TrustStore.open(tmp_path / "state.json")
    with pytest.raises(RolledBack, match="has version 1; version 2 was already seen here"):
        client.accept_trust(first, CLOCK)
    twin = sign_trust(trust(2, expires_at="2028-01-01T00:00:00Z"), ROOTS[:1])
    with pytest.raises(RolledBack, match="Two different trust documents carry version 2"):
        client.accept_trust(twin, CLOCK)
    assert TrustStore.open(tmp_path / "state.json").trust.version == 2


def test_client_refuses_another_consortium_and_another_ca(tmp_path: Path) -> None:
    client = store(tmp_path)
    with pytest.raises(WrongAuthority, match="is of the consortium 'C'; the one received is of 'D'"):
        client.accept_trust(sign_trust(trust(2, consortium="D"), ROOTS[:1]), CLOCK)
    other = sign_trust(trust(2, ca_sha256="sha256:" + "0" * 64), ROOTS[:1])
    with pytest.raises(WrongAuthority, match="names the certificate authority sha256:0000"):
        client.accept_trust(other, CLOCK)


def roll(version: int, name: str = "North") -> Roll:
    entry = RollEntry(MemberId("mem_1"), name, ROOTS[0].public_hex, MemberState.ACTIVE)
    return Roll("C", version, (entry,), "2027-01-01T00:00:00Z")


def test_roll_is_signed_by_the_roll_key_alone() -> None:
    assert open_roll(sign_roll(roll(1), ROLL_KEY), trust(), CLOCK) == roll(1)
    with pytest.raises(BadSignature, match="by the roll key; 0 verify"):
        open_roll(sign_roll(roll(1), RELEASE_KEY), trust(), CLOCK)


def test_roll_that_names_one_key_twice_is_refused() -> None:
    one = roll(1).entries[0]
    doubled = replace(roll(1), entries=(one, replace(one, member_id=MemberId("mem_2"))))
    with pytest.raises(Invalid, match="names one identity key twice"):
        open_roll(sign_roll(doubled, ROLL_KEY), trust(), CLOCK)


def test_client_refuses_an_older_roll_after_a_restart(tmp_path: Path) -> None:
    store(tmp_path).accept_roll(sign_roll(roll(5), ROLL_KEY), CLOCK)
    client = TrustStore.open(tmp_path / "state.json")
    client.accept_roll(sign_roll(roll(5), ROLL_KEY), CLOCK)
    with pytest.raises(RolledBack, match="has version 4; version 5"):
        client.accept_roll(sign_roll(roll(4), ROLL_KEY), CLOCK)
    with pytest.raises(RolledBack, match="Two different roll documents"):
        client.accept_roll(sign_roll(roll(5, "Other"), ROLL_KEY), CLOCK)


def catalogue(version: int, *entries: CatalogueEntry) -> Envelope:
    return sign_catalogue(Catalogue("C", version, "2027-01-01T00:00:00Z", entries), RELEASE_KEY)


ONE = CatalogueEntry("digits-1", "digits", 1, "sha256:" + "1" * 64)


def test_client_refuses_a_catalogue_that_hides_or_changes_a_release(tmp_path: Path) -> None:
    client = store(tmp_path)
    client.accept_catalogue(catalogue(1, ONE), CLOCK)
    with pytest.raises(RolledBack, match="digits-1 was seen here before and is missing"):
        client.accept_catalogue(catalogue(2), CLOCK)
    with pytest.raises(DigestMismatch, match="A release never changes"):
        client.accept_catalogue(catalogue(2, replace(ONE, manifest_digest="sha256:" + "2" * 64)), CLOCK)
    assert client.accept_catalogue(catalogue(2, replace(ONE, yanked=True)), CLOCK).version == 2
    with pytest.raises(RolledBack, match="has version 1"):
        client.accept_catalogue(catalogue(1, ONE), CLOCK)


def test_what_another_process_accepted_meanwhile_is_not_forgotten(tmp_path: Path) -> None:
    store(tmp_path).accept_catalogue(catalogue(1, ONE), CLOCK)
    slow = TrustStore.open(tmp_path / "state.json")
    two = CatalogueEntry("digits-2", "digits", 2, "sha256:" + "2" * 64)
    TrustStore.open(tmp_path / "state.json").accept_catalogue(catalogue(3, ONE, two), CLOCK)
    with pytest.raises(RolledBack, match="digits-2 was seen here before and is missing"):
        slow.accept_catalogue(catalogue(2, ONE), CLOCK)
    slow.accept_roll(sign_roll(roll(5), ROLL_KEY), CLOCK)
    assert "digits-2" in TrustStore.open(tmp_path / "state.json").state.releases


@pytest.mark.parametrize(
    "entries",
    [(ONE, ONE), (replace(ONE, id="digits-2"),), (replace(ONE, extractor_name="../x", id="../x-1"),)],
)
def test_catalogue_of_a_wrong_form_is_refused(entries: tuple[CatalogueEntry, ...]) -> None:
    with pytest.raises(Invalid):
        open_catalogue(catalogue(1, *entries), trust(), CLOCK)


def test_reason_of_a_withdrawal_is_signed_and_a_catalogue_from_before_reads_as_it_did(tmp_path: Path) -> None:
    old = to_plain(Catalogue("C", 1, "2027-01-01T00:00:00Z", (replace(ONE, yanked=True),)))
    assert set(old["releases"][0]) == {"id", "extractor_name", "number", "manifest_digest", "yanked"}
    client = store(tmp_path)
    client.accept_catalogue(seal("catalogue", old, [RELEASE_KEY]), CLOCK)
    assert dict(client.state.withdrawn) == {"digits-1": ""}
    told = catalogue(2, replace(ONE, yanked=True, reason="Wrong labels."))
    assert client.accept_catalogue(told, CLOCK).releases[0].because == ": Wrong labels"
    client.accept_roll(sign_roll(roll(5), ROLL_KEY), CLOCK)
    assert dict(TrustStore.open(tmp_path / "state.json").state.withdrawn) == {"digits-1": "Wrong labels."}
    told["signed"]["releases"][0]["reason"] = "Another."
    with pytest.raises(BadSignature):
        open_catalogue(told, trust(), CLOCK)


@pytest.mark.parametrize("reason", ["two\nlines", "\x1b[2J", "a\u202eb", "x" * 301])
def test_reason_that_is_no_line_of_text_is_refused(reason: str) -> None:
    with pytest.raises(Invalid, match="reason why digits-1 was withdrawn is no line of at most 300"):
        open_catalogue(catalogue(1, replace(ONE, yanked=True, reason=reason)), trust(), CLOCK)


def test_expired_catalogue_is_refused() -> None:
    late = FixedClock(datetime(2027, 1, 2, tzinfo=UTC))
    with pytest.raises(Expired, match="The catalogue document was valid until 2027-01-01"):
        open_catalogue(catalogue(1, ONE), trust(), late)


def test_one_fingerprint_pins_ca_and_root() -> None:
    assert root_of_ca(CA_PEM, ca_fingerprint(CA_PEM)) == ROOTS[0].public_hex
    with pytest.raises(WrongAuthority, match="should be sha256:0000"):
        root_of_ca(CA_PEM, "sha256:" + "0" * 64)
    with pytest.raises(WrongAuthority, match="is no certificate"):
        root_of_ca("nonsense", "sha256:" + "0" * 64)


def test_fingerprint_may_be_typed_as_other_tools_print_it() -> None:
    written = ca_fingerprint(CA_PEM)
    pairs = written.removeprefix("sha256:").upper()
    assert checked_fingerprint(":".join(pairs[i : i + 2] for i in range(0, 64, 2))) == written
    with pytest.raises(Invalid, match="this one has 3"):
        checked_fingerprint("sha256:abc")
