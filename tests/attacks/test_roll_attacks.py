"""Somebody who can write to the database, and has no key, wants the roll key to vouch for a key of theirs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.members.kept_roll import KEPT_FILE
from coordinator.members.renewal import renew_trust
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import members, meta
from shared.domain.canonical import canonical_bytes
from shared.domain.consortium import MemberState
from shared.domain.errors import KeyReplaced
from shared.release.signing import SigningKey
from tests.desk import Desk, open_desk
from tests.roll_kit import Joined, joined, roll_of

OWN = SigningKey.generate()


@pytest.fixture
def north(desk: Desk, tmp_path: Path) -> Joined:
    made = joined(desk, tmp_path / "members", "North")
    joined(desk, tmp_path / "members", "South")
    return made


def swap_key(db: sa.Connection, member_id: str) -> None:
    mine = members.c.id == member_id
    db.execute(members.update().where(mine).values(identity_public_key=OWN.public_hex))


def swap_and_forget_the_roll(db: sa.Connection, member_id: str) -> None:
    swap_key(db, member_id)
    db.execute(meta.delete().where(meta.c.key == "roll"))


def swap_and_count_anew(db: sa.Connection, member_id: str) -> None:
    swap_and_forget_the_roll(db, member_id)
    db.execute(meta.update().where(meta.c.key == "roll_version").values(value="0"))


def another_id(db: sa.Connection, member_id: str) -> None:
    """As if the organisation had been revoked, forgotten, and enrolled again."""
    swap_key(db, member_id)
    db.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
    for table, column in (("members", "id"), ("member_status", "member_id")):
        db.exec_driver_sql(f"UPDATE {table} SET {column} = 'mem_000000000000' WHERE {column} = '{member_id}'")


def names_changed_places(db: sa.Connection, member_id: str) -> None:
    db.execute(members.update().where(members.c.name == "South").values(name="between"))
    db.execute(members.update().where(members.c.id == member_id).values(name="South"))
    db.execute(members.update().where(members.c.name == "between").values(name="North"))


ATTACKS: dict[str, Callable[[sa.Connection, str], None]] = {
    "another key": swap_key,
    "another key and no roll": swap_and_forget_the_roll,
    "another key and a new count": swap_and_count_anew,
    "another key under another id": another_id,
    "two members' names": names_changed_places,
}


def after_half_its_time(desk: Desk) -> None:
    desk.clock.advance(16 * 86_400.0)
    desk.room.roll.current()


def when_somebody_joins(desk: Desk) -> None:
    desk.member("East")


def when_a_member_is_suspended(desk: Desk) -> None:
    south = next(
        m for m in desk.room.members.every() if m.node.node_public_key_pem in desk.nodes.allowed.values()
    )
    desk.room.members.suspend(south.id, "operator")


def after_a_restart_and_a_new_roll_key(desk: Desk) -> None:
    renew_trust(desk.home, [desk.home / "keys" / "root.pem"], desk.clock, new_roll_key=True)
    open_desk(desk.home).room.roll.current()


MOMENTS = [
    after_half_its_time,
    when_somebody_joins,
    when_a_member_is_suspended,
    after_a_restart_and_a_new_roll_key,
]


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: moment.__name__)
@pytest.mark.parametrize("attack", ATTACKS)
def test_roll_key_signs_no_other_key_than_it_signed_before(
    desk: Desk, north: Joined, attack: str, moment: Callable[[Desk], None]
) -> None:
    with writing(desk.room.engine) as db:
        ATTACKS[attack](db, north.member_id)
    with pytest.raises(KeyReplaced, match="No roll was signed") as caught:
        moment(desk)
    assert north.identity.public_hex in caught.value.message or "North" in caught.value.message
    with reading(desk.room.engine) as db:
        kept = db.execute(sa.select(meta.c.value).where(meta.c.key == "roll")).scalar() or ""
    assert OWN.public_hex not in kept


def test_what_members_really_do_is_signed(desk: Desk, north: Joined) -> None:
    desk.member("East")
    desk.room.members.suspend(north.member_id, "operator")
    desk.room.members.resume(north.member_id, "operator")
    desk.room.members.revoke(north.member_id, "operator")
    desk.member("North")  # come back, with keys of its own and another id
    desk.clock.advance(16 * 86_400.0)
    again = open_desk(desk.home)
    assert [entry.name for entry in roll_of(again).entries].count("North") == 2


def test_coordinator_that_kept_no_file_yet_holds_to_the_roll_in_its_database(
    desk: Desk, north: Joined
) -> None:
    """As after an update, or after a crash between a commit and the writing of the file."""
    (desk.home / KEPT_FILE).unlink()
    with writing(desk.room.engine) as db:
        swap_key(db, north.member_id)
    with pytest.raises(KeyReplaced):
        after_half_its_time(desk)


def test_older_roll_put_back_in_the_database_is_not_served(desk: Desk, north: Joined) -> None:
    old = desk.room.roll.current()
    desk.room.members.suspend(north.member_id, "operator")
    with writing(desk.room.engine) as db:
        value = canonical_bytes(old).decode()
        db.execute(meta.update().where(meta.c.key == "roll").values(value=value))
    entry = roll_of(desk).entry(north.member_id)
    assert entry is not None and entry.state is MemberState.SUSPENDED


def test_enrolment_that_was_undone_is_on_no_kept_roll(desk: Desk, north: Joined) -> None:
    before = (desk.home / KEPT_FILE).read_bytes()
    desk.nodes.register = lambda *_: 1 / 0  # type: ignore[assignment,method-assign]
    with pytest.raises(ZeroDivisionError):
        desk.member("East")
    assert (desk.home / KEPT_FILE).read_bytes() == before
    desk.room.members.suspend(north.member_id, "operator")
