"""Lines of the audit log that were written before there were salts hold for ever; data/ is never made again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.audit.export import json_lines
from coordinator.audit.log import HEAD_KEY, append, verify_chain
from coordinator.audit.search import Wanted
from coordinator.storage.database import migrate, open_database, reading, writing
from coordinator.storage.tables import audit_events, meta
from shared.domain.canonical import canonical_bytes
from shared.domain.clock import FixedClock, from_text
from shared.domain.errors import BrokenChain

FROZEN = Path(__file__).parent / "data" / "audit-v1.jsonl"
CLOCK = FixedClock(from_text("2026-12-01T12:00:00Z"))


@pytest.fixture
def old(tmp_path: Path) -> sa.Engine:
    """A database of today that has the old lines, as after an update."""
    engine = open_database(f"sqlite:///{tmp_path / 'c.db'}")
    migrate(engine)
    lines = [json.loads(text) for text in FROZEN.read_text("utf-8").splitlines()]
    with writing(engine) as connection:
        for line in lines:
            row = line | {"detail": canonical_bytes(line["detail"]).decode()}
            connection.execute(audit_events.insert().values(row))
        head = canonical_bytes({"seq": len(lines), "hash": lines[-1]["hash"]}).decode()
        connection.execute(meta.update().where(meta.c.key == HEAD_KEY).values(value=head))
    return engine


def test_lines_without_a_salt_still_verify_and_salted_ones_follow_them(old: sa.Engine) -> None:
    with writing(old) as connection:
        assert verify_chain(connection).seq == 4
        append(connection, CLOCK, "account:Ada", "member.resumed", "mem_0123456789ab", {"was": "suspended"})
        assert verify_chain(connection).seq == 5


def test_old_lines_are_exported_byte_for_byte(old: sa.Engine) -> None:
    assert b"".join(json_lines(old, Wanted())) == FROZEN.read_bytes()


@pytest.mark.parametrize(("seq", "salt"), [(2, "00" * 16), (5, ""), (5, "00" * 16)])
def test_a_salt_that_was_added_taken_away_or_changed_breaks_the_chain(
    old: sa.Engine, seq: int, salt: str
) -> None:
    with writing(old) as connection:
        append(connection, CLOCK, "account:Ada", "member.resumed", "mem_0123456789ab", {"was": "suspended"})
        connection.execute(audit_events.update().where(audit_events.c.seq == seq).values(salt=salt))
    with reading(old) as connection, pytest.raises(BrokenChain, match=f"broken at line {seq}: expected hash"):
        verify_chain(connection)
