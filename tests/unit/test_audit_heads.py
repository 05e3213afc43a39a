"""Members countersign the audit log's head: what they sign, what they refuse, and what the coordinator takes."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from coordinator.audit.roll_keys import roll_key_of
from coordinator.audit.verification import verify_all
from coordinator.storage.database import reading
from participant.audit_heads import HeadWatch, countersign, newest_head
from shared.domain.errors import BadSignature, BrokenChain, Invalid
from shared.release.signing import SigningKey, verify_value
from shared.wire.audit import AuditHead, AuditVerification, CountersignatureRequest
from tests.audit_kit import HeadOfDesk, sign_head, source_of
from tests.desk import Desk
from tests.roll_kit import Joined, joined


@pytest.fixture
def north(desk: Desk, tmp_path: Path) -> Joined:
    return joined(desk, tmp_path / "members", "North")


def verified(desk: Desk) -> AuditVerification:
    with reading(desk.room.engine) as connection:
        return verify_all(connection, roll_key_of(desk.room))


def test_a_member_signs_the_last_line_with_its_identity_key(desk: Desk, north: Joined) -> None:
    sign_head(desk, north)
    kept, found = newest_head(north.home), verified(desk)
    assert kept is not None and (kept.seq, kept.hash) == (found.head_seq, found.head_hash)
    statement = {"member_id": north.member_id, "seq": kept.seq, "hash": kept.hash, "at": kept.at}
    verify_value(north.identity.public_hex, "audit-head", statement, kept.signature)
    assert [(m.member_name, m.signatures, m.newest_seq, m.fault) for m in found.members] == [
        ("North", 1, kept.seq, "")
    ]
    assert found.intact and found.unsigned_lines == 0


def test_new_lines_are_unsigned_until_the_next_look(desk: Desk, north: Joined) -> None:
    sign_head(desk, north)
    desk.member("South")
    assert verified(desk).unsigned_lines == 2
    sign_head(desk, north)
    found = verified(desk)
    assert found.unsigned_lines == 0 and found.members[0].signatures == 2


def test_the_same_head_is_signed_once_and_handed_in_again(desk: Desk, north: Joined) -> None:
    for _ in range(3):
        sign_head(desk, north)
        desk.clock.advance(60)
    assert len(north.home.audit_heads.read_text().splitlines()) == 1
    assert verified(desk).members[0].signatures == 1


def test_what_was_signed_but_never_arrived_is_handed_in_at_the_next_look(desk: Desk, north: Joined) -> None:
    class Deaf(HeadOfDesk):
        def send_countersignature(self, request: CountersignatureRequest) -> None:
            raise ConnectionError

    with pytest.raises(ConnectionError):
        countersign(north.home, Deaf(source_of(desk, north).web), desk.clock)
    assert newest_head(north.home) is not None and verified(desk).members == []
    sign_head(desk, north)
    assert verified(desk).members[0].signatures == 1


def test_what_a_member_signed_is_its_own_and_survives_a_crash_in_the_middle_of_a_line(
    desk: Desk, north: Joined
) -> None:
    sign_head(desk, north)
    assert stat.S_IMODE(north.home.audit_heads.stat().st_mode) == 0o600
    first = newest_head(north.home)
    with north.home.audit_heads.open("ab") as file:
        file.write(b'{"member_id":"mem_')
    assert newest_head(north.home) == first
    desk.member("South")
    sign_head(desk, north)
    lines = [json.loads(line)["seq"] for line in north.home.audit_heads.read_text().splitlines()]
    assert first is not None and lines == [first.seq, first.seq + 2]


def test_a_file_that_somebody_wrote_into_is_not_signed_over(desk: Desk, north: Joined) -> None:
    north.home.audit_heads.write_text("hello\n")
    with pytest.raises(Invalid, match="not JSON. Nothing was signed"):
        sign_head(desk, north)


def test_the_node_says_each_thing_once_and_goes_on(desk: Desk, north: Joined) -> None:
    said: list[str] = []
    sign_head(desk, north)

    def cut(head: AuditHead) -> AuditHead:
        return head.model_copy(update={"seq": 1})

    watch = HeadWatch(north.home, source_of(desk, north, cut), said.append, desk.clock, pause_s=0.0)
    watch.look()
    watch.look()
    assert len(said) == 1 and "The log lost lines. It was not countersigned." in said[0]


def test_the_node_looks_at_most_once_in_its_pause(desk: Desk, north: Joined) -> None:
    watch = HeadWatch(north.home, source_of(desk, north), lambda text: None, desk.clock)
    watch.look()
    desk.member("South")
    watch.look()
    assert verified(desk).members[0].signatures == 1


def test_a_signature_by_another_key_is_not_kept(desk: Desk, north: Joined) -> None:
    source = source_of(desk, north)
    head = source.audit_head(0)
    statement = {
        "member_id": north.member_id,
        "seq": head.seq,
        "hash": head.hash,
        "at": "2026-11-21T12:00:00Z",
    }
    for key, signed in (
        (SigningKey.generate(), statement),
        (north.identity, statement | {"seq": head.seq - 1}),
        (north.identity, statement | {"member_id": "mem_000000000000"}),
    ):
        signature = key.sign_value("audit-head", signed)
        with pytest.raises(BadSignature):
            source.send_countersignature(
                CountersignatureRequest(
                    seq=head.seq, hash=head.hash, at="2026-11-21T12:00:00Z", signature=signature
                )
            )
    assert verified(desk).members == []


def test_a_member_cannot_make_a_log_look_rewritten_by_signing_what_it_never_was(
    desk: Desk, north: Joined
) -> None:
    source, at = source_of(desk, north), "2026-11-21T12:00:00Z"
    for seq, digest in ((1, "sha256:" + "ab" * 32), (10_000, "sha256:" + "ab" * 32)):
        statement = {"member_id": north.member_id, "seq": seq, "hash": digest, "at": at}
        request = CountersignatureRequest(
            seq=seq, hash=digest, at=at, signature=north.identity.sign_value("audit-head", statement)
        )
        with pytest.raises(BrokenChain, match="countersignature was not kept"):
            source.send_countersignature(request)
    assert verified(desk).intact


def test_the_head_says_nothing_of_what_the_lines_say(desk: Desk, north: Joined) -> None:
    answer = desk.client(desk.member("South").token).get("/audit/head", params={"earlier": 1}).json()
    assert set(answer) == {"seq", "hash", "earlier_seq", "earlier_hash"}
    assert desk.client().get("/audit/head").status_code == 401
