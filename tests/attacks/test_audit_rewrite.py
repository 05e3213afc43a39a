"""Somebody with the whole database rewrites the audit log and makes every hash right again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from coordinator.audit.log import hash_at, verify_chain
from coordinator.audit.roll_keys import roll_key_of
from coordinator.audit.verification import verify_all
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import audit_countersignatures, members, meta
from participant.audit_heads import countersign, newest_head
from shared.domain.canonical import canonical_bytes
from shared.domain.consortium import Role
from shared.domain.errors import BadSignature, BrokenChain, RolledBack
from shared.release.envelope import seal
from shared.release.signing import SigningKey, verify_value
from shared.wire.audit import KIND, AuditHead, AuditVerification, SignedHead
from tests.audit_kit import rewrite, sign_head, source_of
from tests.desk import Desk
from tests.roll_kit import Joined, joined

REWRITES = {
    "an actor was changed": lambda row: row | {"actor": "account:Eve"} if row["seq"] == 2 else row,
    "a line was taken out": lambda row: None if row["seq"] == 2 else row,
    "a time was changed": lambda row: row | {"at": "2020-01-01T00:00:00Z"} if row["seq"] == 1 else row,
    "the last line was cut off": lambda row: None if row["seq"] == 4 else row,
}


@pytest.fixture
def north(desk: Desk, tmp_path: Path) -> Joined:
    made = joined(desk, tmp_path / "members", "North")
    desk.secret("South")
    desk.secret("West")
    sign_head(desk, made)
    return made


def verified(desk: Desk) -> AuditVerification:
    with reading(desk.room.engine) as connection:
        return verify_all(connection, roll_key_of(desk.room))


@pytest.mark.parametrize("attack", REWRITES)
def test_a_log_with_right_hashes_everywhere_fails_a_countersignature(
    desk: Desk, north: Joined, attack: str
) -> None:
    assert verified(desk).intact and verified(desk).head_seq == 4
    rewrite(desk.room.engine, REWRITES[attack])
    with reading(desk.room.engine) as connection:
        verify_chain(connection)  # the hashes alone show nothing
    found = verified(desk)
    assert not found.fault and not found.intact
    assert "line 4 had the hash" in found.members[0].fault
    assert "when North signed it" in found.members[0].fault


def test_an_auditor_is_told_the_member_whose_signature_does_not_hold(desk: Desk, north: Joined) -> None:
    rewrite(desk.room.engine, REWRITES["an actor was changed"])
    reply = desk.client(desk.person(Role.AUDITOR)).get("/audit/verification").json()
    assert reply["fault"] == "" and "the log was rewritten" in reply["members"][0]["fault"]


@pytest.mark.parametrize("attack", [name for name in REWRITES if "cut" not in name and "out" not in name])
def test_with_the_countersignatures_deleted_too_each_member_notices_and_signs_nothing(
    desk: Desk, north: Joined, attack: str
) -> None:
    rewrite(desk.room.engine, REWRITES[attack])
    with writing(desk.room.engine) as connection:
        connection.execute(audit_countersignatures.delete())
    before = newest_head(north.home)
    for _ in range(2):
        with pytest.raises(BrokenChain, match="Line 4 .* was rewritten. It was not countersigned"):
            sign_head(desk, north)
        desk.secret("East")  # also when the log has grown since
    assert newest_head(north.home) == before and verified(desk).members == []


def test_a_log_that_lost_lines_is_not_signed_again(desk: Desk, north: Joined) -> None:
    rewrite(desk.room.engine, REWRITES["the last line was cut off"])
    with pytest.raises(RolledBack, match="has 3 lines; this member countersigned line 4"):
        sign_head(desk, north)


def test_a_coordinator_that_lies_about_the_line_signed_before_is_given_away_by_what_the_member_kept(
    desk: Desk, north: Joined
) -> None:
    kept = newest_head(north.home)
    assert kept is not None
    rewrite(desk.room.engine, REWRITES["an actor was changed"])
    desk.secret("East")

    def lie(head: AuditHead) -> AuditHead:
        return head.model_copy(update={"earlier_hash": kept.hash})

    countersign(north.home, source_of(desk, north, lie), desk.clock)
    found = verified(desk)
    assert found.members[0].signatures == 2 and "line 4 had the hash" in found.members[0].fault
    lines = [line for line in north.home.audit_heads.read_text().splitlines() if kept.hash in line]
    assert len(lines) == 1, "held against any export of the log, it shows that line 4 was another one"


def test_signatures_cannot_be_moved_to_another_line_or_member(desk: Desk, north: Joined) -> None:
    def change(**values: Any) -> str:
        with writing(desk.room.engine) as connection:
            connection.execute(audit_countersignatures.update().values(**values))
        return verified(desk).members[0].fault

    desk.secret("East")
    with reading(desk.room.engine) as connection:
        head = verify_chain(connection)
    assert "signature does not verify" in change(seq=head.seq, hash=head.hash)


def take_over(desk: Desk, *, keys_too: bool) -> SigningKey:
    """Sign every countersignature anew with a key of one's own; with `keys_too`, put it in the members' table."""
    own = SigningKey.generate()
    table = audit_countersignatures
    with writing(desk.room.engine) as connection:
        for row in connection.execute(table.select()).all():
            head = SignedHead(
                member_id=row.member_id, seq=row.seq, hash=hash_at(connection, row.seq), at=row.at
            )
            signature = own.sign_value(KIND, head.model_dump())
            mine = (table.c.member_id == row.member_id) & (table.c.seq == row.seq)
            connection.execute(table.update().where(mine).values(hash=head.hash, signature=signature))
        if keys_too:
            connection.execute(members.update().values(identity_public_key=own.public_hex))
    return own


def test_a_key_that_was_put_in_place_of_the_members_own_makes_no_countersignature_hold(
    desk: Desk, north: Joined
) -> None:
    rewrite(desk.room.engine, REWRITES["an actor was changed"])
    own = take_over(desk, keys_too=True)
    auditor = desk.client(desk.person(Role.AUDITOR))
    (standing,) = auditor.get("/audit/verification").json()["members"]
    assert own.public_hex in standing["fault"] and north.identity.public_hex in standing["fault"]
    assert "another key" in standing["fault"]
    for line in auditor.get("/audit/countersignatures").json():
        assert line["identity_public_key"] == north.identity.public_hex
        with pytest.raises(BadSignature):
            head = {name: line[name] for name in SignedHead.model_fields}
            verify_value(line["identity_public_key"], KIND, head, line["signature"])


def test_a_countersignature_by_a_key_that_is_in_no_table_does_not_hold(desk: Desk, north: Joined) -> None:
    rewrite(desk.room.engine, REWRITES["an actor was changed"])
    take_over(desk, keys_too=False)
    assert "signature does not verify" in verified(desk).members[0].fault


def test_a_roll_that_the_roll_key_did_not_sign_vouches_for_nobody(desk: Desk, north: Joined) -> None:
    rewrite(desk.room.engine, REWRITES["an actor was changed"])
    own = take_over(desk, keys_too=True)
    with writing(desk.room.engine) as connection:
        text = connection.execute(sa.select(meta.c.value).where(meta.c.key == "roll")).scalar_one()
        changed = text.replace(north.identity.public_hex, own.public_hex)
        connection.execute(meta.update().where(meta.c.key == "roll").values(value=changed))
    found = verified(desk)
    assert not found.intact and "needs 1 signature(s) by the roll key; 0 verify" in found.members[0].fault
    with writing(desk.room.engine) as connection:
        connection.execute(meta.delete().where(meta.c.key == "roll"))
    found = verified(desk)
    assert not found.intact and "There is no signed roll" in found.members[0].fault
    lines = desk.client(desk.person(Role.AUDITOR)).get("/audit/countersignatures").json()
    assert [line["identity_public_key"] for line in lines] == [""]


def test_a_signer_who_is_not_on_the_roll_is_told_and_holds_nothing(desk: Desk, north: Joined) -> None:
    with writing(desk.room.engine) as connection:
        empty = desk.room.roll.current()
        empty["signed"]["entries"] = []
        envelope = seal("roll", empty["signed"], [desk.room.authority.roll_key()])
        value = canonical_bytes(envelope).decode()
        connection.execute(meta.update().where(meta.c.key == "roll").values(value=value))
    found = verified(desk)
    assert not found.intact and "North is not on the roll" in found.members[0].fault
    assert found.unsigned_lines == found.head_seq


def test_a_revoked_member_stays_on_the_roll_and_what_it_signed_holds(desk: Desk, north: Joined) -> None:
    desk.room.members.revoke(north.member_id, "operator")
    found = verified(desk)
    assert found.intact and found.members[0].signatures == 1


def test_nothing_counts_as_countersigned_in_a_log_whose_chain_is_broken(desk: Desk, north: Joined) -> None:
    with writing(desk.room.engine) as connection:
        connection.exec_driver_sql("UPDATE audit_events SET actor = 'nobody' WHERE seq = 2")
    found = verified(desk)
    assert found.fault and found.unsigned_lines == found.head_seq
