"""Somebody with the whole database rewrites the audit log and makes every hash right again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.audit.log import verify_chain
from coordinator.audit.verification import verify_all
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import audit_countersignatures
from participant.audit_heads import countersign, newest_head
from shared.domain.consortium import Role
from shared.domain.errors import BrokenChain, RolledBack
from shared.wire.audit import AuditHead, AuditVerification
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
        return verify_all(connection)


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
