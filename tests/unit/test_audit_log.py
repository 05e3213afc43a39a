"""The audit chain: whatever is changed, cut or reordered shows, with the line's number."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.audit.log import append, entries, verify_chain
from coordinator.audit.masking import SecretMask, holds_secret, install_masking, mask
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import audit_events, meta
from shared.domain.clock import FixedClock, from_text
from shared.domain.errors import BrokenChain, InvalidMessage
from shared.domain.invitation import new_secret
from tests.desk import open_tables

CLOCK = FixedClock(from_text("2026-11-21T12:00:00Z"))


@pytest.fixture
def engine(tmp_path: Path) -> sa.Engine:
    engine = open_tables(tmp_path)
    with writing(engine) as connection:
        for number in range(1, 5):
            append(connection, CLOCK, "account:ada", "member.suspended", f"mem_{number}", {"n": number})
    return engine


def test_an_untouched_chain_holds(engine: sa.Engine) -> None:
    with reading(engine) as connection:
        assert verify_chain(connection).seq == 4
        assert [event.seq for event in entries(connection, after=1, limit=2)] == [2, 3]


def test_an_empty_chain_holds(tmp_path: Path) -> None:
    with reading(open_tables(tmp_path)) as connection:
        assert verify_chain(connection).seq == 0


@pytest.mark.parametrize(
    ("attack", "statement", "line"),
    [
        ("an actor was changed", "UPDATE audit_events SET actor = 'x' WHERE seq = 2", 2),
        ("a detail was changed", "UPDATE audit_events SET detail = '{}' WHERE seq = 3", 3),
        ("a detail was broken", "UPDATE audit_events SET detail = '{' WHERE seq = 3", 3),
        ("a hash was changed", "UPDATE audit_events SET hash = 'sha256:0' WHERE seq = 1", 1),
        ("a line was taken out of the middle", "DELETE FROM audit_events WHERE seq = 2", 2),
        ("the first line was taken away", "DELETE FROM audit_events WHERE seq = 1", 1),
        ("the end was cut off", "DELETE FROM audit_events WHERE seq = 4", 4),
        ("everything was cut off", "DELETE FROM audit_events", 1),
    ],
)
def test_the_broken_line_is_named(engine: sa.Engine, attack: str, statement: str, line: int) -> None:
    with writing(engine) as connection:
        connection.execute(sa.text(statement))
    with reading(engine) as connection, pytest.raises(BrokenChain, match=f"broken at line {line}:"):
        verify_chain(connection)


def test_two_lines_that_changed_places_show(engine: sa.Engine) -> None:
    with writing(engine) as connection:
        for old, new in ((2, 99), (3, 2), (99, 3)):
            connection.execute(audit_events.update().where(audit_events.c.seq == old).values(seq=new))
    with (
        reading(engine) as connection,
        pytest.raises(BrokenChain, match="broken at line 2: it should follow"),
    ):
        verify_chain(connection)


def test_a_missing_head_shows(engine: sa.Engine) -> None:
    with writing(engine) as connection:
        connection.execute(meta.delete().where(meta.c.key == "audit_head"))
    with reading(engine) as connection, pytest.raises(BrokenChain, match="head is missing"):
        verify_chain(connection)


def test_a_line_is_undone_with_its_change(engine: sa.Engine) -> None:
    with pytest.raises(ZeroDivisionError), writing(engine) as connection:
        append(connection, CLOCK, "account:ada", "member.revoked", "mem_1")
        raise ZeroDivisionError
    with reading(engine) as connection:
        assert verify_chain(connection).seq == 4


def test_a_line_with_a_secret_is_refused(engine: sa.Engine) -> None:
    with pytest.raises(InvalidMessage, match="would have held a token"), writing(engine) as connection:
        append(connection, CLOCK, "operator", "invitation.created", "inv_1", {"secret": new_secret()})


def test_masking_keeps_the_prefix_and_nothing_more() -> None:
    secret = new_secret()
    assert mask(f"spent {secret}, ok") == "spent clj_…, ok"
    assert not holds_secret(mask(f"a {secret} b {secret}"))
    assert "MIG" not in mask("-----BEGIN PRIVATE KEY-----\nMIGabc\n-----END PRIVATE KEY-----")
    assert mask("clj_ is the prefix; mem_0123456789ab a member") == (
        "clj_ is the prefix; mem_0123456789ab a member"
    )


def test_a_logged_secret_is_masked_in_message_arguments_and_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = new_secret()
    caplog.handler.addFilter(SecretMask())
    log = logging.getLogger("test.masking")
    log.warning("argument %s", secret)
    try:
        raise ValueError(f"it was {secret}")
    except ValueError:
        log.exception("failed")
    assert secret not in caplog.text
    assert "argument clj_…" in caplog.text
    assert "it was clj_…" in caplog.text


def test_masking_is_installed_once_for_each_handler() -> None:
    handler, root = logging.NullHandler(), logging.getLogger()
    root.addHandler(handler)
    try:
        install_masking()
        install_masking()
        assert [type(f) for f in handler.filters] == [SecretMask]
    finally:
        root.removeHandler(handler)
