"""A member that guesses what a line of the audit log says, and knows by the line's hash whether it guessed right."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from coordinator.audit.log import AuditEvent, entries
from coordinator.members.service import MOVES
from coordinator.storage.database import reading
from participant.enrol import read_link
from shared.domain.canonical import digest_of
from shared.domain.clock import to_text
from shared.domain.strict import to_plain
from shared.wire.audit import AuditHead
from tests.desk import Desk
from tests.roll_kit import Joined, joined


@pytest.fixture
def north(desk: Desk, tmp_path: Path) -> Joined:
    return joined(desk, tmp_path / "members", "North")


def head_seen_by(desk: Desk, member: Joined) -> AuditHead:
    """All that a member is told of the log."""
    answer = desk.client(read_link(member.home.root).token).get("/audit/head")
    return AuditHead.model_validate(answer.json())


def guesses(desk: Desk, before: AuditHead, subject: str) -> Iterator[dict[str, Any]]:
    """Everything that may have happened to `subject` in the last minute, as the line after `before` would say it."""
    for second in range(60):
        at = to_text(desk.clock.now() - timedelta(seconds=second))
        for action in ("member.approved", "member.suspended", "member.resumed", "member.revoked"):
            for was in MOVES:
                yield {
                    "seq": before.seq + 1,
                    "at": at,
                    "actor": "account:Ada",
                    "action": action,
                    "subject": subject,
                    "detail": {"was": was.value},
                    "prev_hash": before.hash,
                }


def newest(desk: Desk, after: int) -> AuditEvent:
    with reading(desk.room.engine) as connection:
        (found,) = entries(connection, after=after)
    return found


def test_a_member_cannot_tell_by_the_heads_it_signs_what_happened_to_another(
    desk: Desk, north: Joined
) -> None:
    other = desk.member("South")
    before = head_seen_by(desk, north)
    desk.room.members.suspend(other.member_id, "account:Ada")
    head = head_seen_by(desk, north)
    said = [guess for guess in guesses(desk, before, other.member_id) if digest_of(guess) == head.hash]
    assert not said, f"the member knows now: {said[0]['action']} at {said[0]['at']}"
    line = to_plain(newest(desk, before.seq))
    unsalted = {name: value for name, value in line.items() if name not in ("hash", "salt")}
    assert unsalted in list(guesses(desk, before, other.member_id)), (
        "the guesses have the line: the salt hides it"
    )


def test_no_two_lines_have_one_salt(desk: Desk, north: Joined) -> None:
    with reading(desk.room.engine) as connection:
        salts = [event.salt for event in entries(connection)]
    assert len(salts) >= 2 and len(set(salts)) == len(salts) and all(len(salt) == 32 for salt in salts)
