"""Membership: rows, signed roll, audit line and carrier move together."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.audit.log import verify_chain
from coordinator.members.service import canonical_node_key
from coordinator.storage.database import reading
from shared.domain.consortium import MemberState, Purpose, Roll
from shared.domain.errors import (
    AlreadyExists,
    BadSignature,
    IllegalMove,
    InvalidMessage,
    InvitationRejected,
    NotFound,
)
from shared.release.roles import open_roll
from shared.release.signing import SigningKey
from shared.release.trust import parse_trust
from tests.desk import Desk, NodesInMemory, enrolment, node_key_pem


def roll_of(desk: Desk) -> Roll:
    return open_roll(desk.room.roll.current(), parse_trust(desk.room.authority.trust_envelope()), desk.clock)


def test_an_enrolled_member_is_on_the_roll_and_may_speak(desk: Desk) -> None:
    identity = SigningKey.generate()
    reply = desk.room.members.enrol(enrolment(desk.secret("North"), identity, size=12345))
    member = desk.room.members.get(reply.member_id)
    assert (member.name, member.state, member.declared_size) == ("North", MemberState.ACTIVE, 12000)
    assert roll_of(desk).entry(reply.member_id).identity_public_key == identity.public_hex  # type: ignore[union-attr]
    assert desk.nodes.allowed == {reply.member_id: member.node.node_public_key_pem}
    assert desk.audit_actions() == ["invitation.created", "member.enrolled"]


def test_every_change_raises_the_rolls_version(desk: Desk) -> None:
    member_id = desk.member().member_id
    versions = [roll_of(desk).version]
    for change in (desk.room.members.suspend, desk.room.members.resume, desk.room.members.revoke):
        change(member_id, "account:ada")
        versions.append(roll_of(desk).version)
    assert versions == [1, 2, 3, 4]
    assert roll_of(desk).entry(member_id).state is MemberState.REVOKED  # type: ignore[union-attr]


def test_an_empty_consortium_has_a_roll_too(desk: Desk) -> None:
    assert roll_of(desk).entries == ()
    assert roll_of(desk).version == 1


def test_a_roll_is_signed_anew_before_it_ends(desk: Desk) -> None:
    first = roll_of(desk)
    desk.clock.advance(14 * 86400)
    assert roll_of(desk).version == first.version
    desk.clock.advance(2 * 86400)
    assert roll_of(desk).version == first.version + 1


def test_the_carrier_is_told_of_every_change(desk: Desk) -> None:
    member_id = desk.member().member_id
    desk.room.members.suspend(member_id, "a")
    desk.room.members.resume(member_id, "a")
    desk.room.members.revoke(member_id, "a")
    assert [call for call, _ in desk.nodes.calls] == ["register", "suspend", "register", "unregister"]


def test_a_carrier_that_starts_is_told_of_active_members_only(desk: Desk) -> None:
    active, suspended, revoked = (desk.member(name).member_id for name in ("North", "South", "West"))
    desk.room.members.suspend(suspended, "a")
    desk.room.members.revoke(revoked, "a")
    desk.nodes.allowed.clear()
    desk.room.members.register_all()
    assert set(desk.nodes.allowed) == {active}


def test_moves_that_cannot_be_are_refused_in_words(desk: Desk) -> None:
    member_id = desk.member().member_id
    with pytest.raises(
        IllegalMove, match="is active; from there it can become revoked, suspended, not active"
    ):
        desk.room.members.resume(member_id, "a")
    desk.room.members.revoke(member_id, "a")
    with pytest.raises(IllegalMove, match="is revoked; from there it can become nothing any more"):
        desk.room.members.resume(member_id, "a")
    with pytest.raises(
        NotFound, match="There is no member 'mem_nobody'. Nothing was changed. List the members."
    ):
        desk.room.members.suspend("mem_nobody", "a")


def test_a_carrier_that_fails_leaves_the_invitation_unspent(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = desk.secret()

    class CarrierDown(NodesInMemory):
        def register(self, member_id: str, node_public_key_pem: str) -> None:
            raise ConnectionError("carrier down")

    with monkeypatch.context() as patched:
        patched.setattr(desk.room.members, "_nodes", CarrierDown())
        with pytest.raises(ConnectionError):
            desk.room.members.enrol(enrolment(secret))
    assert desk.room.members.every() == []
    desk.room.members.enrol(enrolment(secret))
    with reading(desk.room.engine) as connection:
        verify_chain(connection)


def test_a_lost_reply_is_mended_by_a_new_invitation_with_the_same_keys(desk: Desk) -> None:
    identity, node = SigningKey.generate(), node_key_pem()
    first = desk.room.members.enrol(enrolment(desk.secret("North"), identity, node))
    again = desk.room.members.enrol(enrolment(desk.secret("North"), identity, node))
    assert again.member_id == first.member_id and again.token != first.token
    assert desk.client(first.token).get("/roll").status_code == 401
    assert desk.client(again.token).get("/roll").status_code == 200
    assert len(desk.room.members.every()) == 1


@pytest.mark.parametrize("change", ["another name", "another node key", "suspended", "revoked"])
def test_known_identity_keys_open_nothing_else(desk: Desk, change: str) -> None:
    identity, node = SigningKey.generate(), node_key_pem()
    first = desk.room.members.enrol(enrolment(desk.secret("North"), identity, node))
    if change == "suspended":
        desk.room.members.suspend(first.member_id, "a")
    if change == "revoked":
        desk.room.members.revoke(first.member_id, "a")
    secret = desk.secret("South" if change == "another name" else "North")
    with pytest.raises(AlreadyExists, match="identity key is already enrolled"):
        desk.room.members.enrol(
            enrolment(secret, identity, node_key_pem() if change == "another node key" else node)
        )


def test_one_name_is_one_organisation_until_it_is_revoked(desk: Desk) -> None:
    first = desk.member("North")
    with pytest.raises(AlreadyExists, match="An organisation of this name"):
        desk.member("North")
    desk.room.members.revoke(first.member_id, "a")
    assert desk.member("North").member_id != first.member_id


def test_one_node_key_is_enrolled_once_in_whatever_spelling(desk: Desk) -> None:
    node = node_key_pem()
    desk.room.members.enrol(enrolment(desk.secret("North"), node_pem=node))
    spelled = "\n" + node.replace("\n", "\r\n")
    assert canonical_node_key(spelled) == canonical_node_key(node)
    with pytest.raises(AlreadyExists):
        desk.room.members.enrol(enrolment(desk.secret("South"), node_pem=spelled))


def test_a_proof_by_another_key_is_refused_and_spends_nothing(desk: Desk) -> None:
    secret = desk.secret()
    right = enrolment(secret)
    forged = right.model_copy(update={"identity_public_key": SigningKey.generate().public_hex})
    with pytest.raises(BadSignature, match="does not verify"):
        desk.room.members.enrol(forged)
    desk.room.members.enrol(right)


@pytest.mark.parametrize(
    ("pem", "sentence"),
    [("not a key", "is not a PEM public key"), ("p256", "expected an EC P-384 public key")],
)
def test_only_p384_node_keys_are_taken(desk: Desk, pem: str, sentence: str) -> None:
    if pem == "p256":
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    secret = desk.secret()
    with pytest.raises(InvalidMessage, match=sentence):
        desk.room.members.enrol(enrolment(secret, node_pem=pem))
    desk.room.members.enrol(enrolment(secret))


def test_an_invitation_ends_when_it_said(desk: Desk) -> None:
    secret = desk.secret(lifetime_s=60)
    desk.clock.advance(60)
    with pytest.raises(InvitationRejected, match="unknown, already used, or over"):
        desk.room.members.enrol(enrolment(secret))


def test_a_contributor_without_a_size_is_refused_and_its_invitation_stays_good(desk: Desk) -> None:
    secret = desk.secret()
    with pytest.raises(
        InvalidMessage, match=r"at least 1 record; this one declares 0.*invitation is not spent"
    ):
        desk.room.members.enrol(enrolment(secret, size=0))
    assert desk.room.members.every() == [] and desk.audit_actions() == ["invitation.created"]
    reply = desk.room.members.enrol(enrolment(secret, size=4321))
    assert desk.room.members.get(reply.member_id).declared_size == 4300


def test_who_only_uses_releases_declares_no_size(desk: Desk) -> None:
    _, secret = desk.room.invitations.invite("Reader", Purpose.USE, "operator")
    reply = desk.room.members.enrol(enrolment(secret, size=0))
    assert desk.room.members.get(reply.member_id).declared_size == 0


def test_an_invitation_to_use_releases_is_not_spent_by_who_expects_to_train(desk: Desk) -> None:
    _, secret = desk.room.invitations.invite("Reader", Purpose.USE, "operator")
    with pytest.raises(
        InvalidMessage, match=r"using releases only, and 4,321 records are declared.*not spent"
    ):
        desk.room.members.enrol(enrolment(secret, size=4321))
    assert desk.room.members.every() == []
    assert desk.room.members.enrol(enrolment(secret, size=0)).member_id


def test_no_secret_is_in_the_database(desk: Desk, tmp_path: Path) -> None:
    secret = desk.secret()
    reply = desk.room.members.enrol(enrolment(secret))
    desk.room.engine.dispose()
    for path in desk.home.glob("coordinator.db*"):
        data = path.read_bytes()
        assert secret.encode() not in data and reply.token.encode() not in data
