"""Somebody who can write to the database, and has no key, wants the roll key to vouch for a key of theirs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from coordinator.members.kept_roll import KEPT_FILE
from coordinator.members.renewal import renew_trust
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import member_status, members, meta
from shared.domain.canonical import canonical_bytes
from shared.domain.consortium import MemberState, Purpose, RollEntry
from shared.domain.errors import AlreadyExists, KeyReplaced, NotFound
from shared.release.signing import SigningKey
from tests.desk import Desk, enrolment, open_desk
from tests.roll_kit import Joined, joined, roll_of

OWN = SigningKey.generate()


@pytest.fixture
def north(desk: Desk, tmp_path: Path) -> Joined:
    made = joined(desk, tmp_path / "members", "North")
    joined(desk, tmp_path / "members", "South")
    invitation = desk.room.invitations.invite("West", Purpose.CONTRIBUTE, "operator", needs_approval=True)
    desk.room.members.enrol(enrolment(invitation[1]))
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


def a_row_of_ones_own(db: sa.Connection, member_id: str) -> None:
    """An organisation that never enrolled, beside what somebody did to another."""
    row = dict(db.execute(sa.select(members).where(members.c.id == member_id)).mappings().one())
    own = {"id": "mem_000000000000", "name": "Friend", "node_key_sha256": "0" * 64}
    db.execute(members.insert().values(row | own | {"identity_public_key": OWN.public_hex}))


def taken_out(db: sa.Connection, member_id: str) -> None:
    db.execute(member_status.delete().where(member_status.c.member_id == member_id))
    db.execute(members.delete().where(members.c.id == member_id))


ATTACKS: dict[str, Callable[[sa.Connection, str], None]] = {
    "another key": swap_key,
    "another key and no roll": swap_and_forget_the_roll,
    "another key and a new count": swap_and_count_anew,
    "another key under another id": another_id,
    "two members' names": names_changed_places,
    "a row of one's own": a_row_of_ones_own,
    "taken out": taken_out,
}


def id_of(desk: Desk, name: str) -> str:
    """As the desk knew it before anybody wrote beside it."""
    return next(entry.member_id for entry in roll_of(desk).entries if entry.name == name)


def after_half_its_time(desk: Desk, north: str, south: str, west: str) -> None:
    desk.clock.advance(16 * 86_400.0)


def when_another_is_suspended_and_resumed(desk: Desk, north: str, south: str, west: str) -> None:
    desk.room.members.suspend(south, "operator")
    desk.room.members.resume(south, "operator")


def when_another_is_revoked(desk: Desk, north: str, south: str, west: str) -> None:
    desk.room.members.revoke(south, "operator")


def when_another_is_approved(desk: Desk, north: str, south: str, west: str) -> None:
    desk.room.members.approve(west, "operator")


def when_it_is_shut_out_itself(desk: Desk, north: str, south: str, west: str) -> None:
    with suppress(NotFound):  # the attacks that leave no such row
        desk.room.members.suspend(north, "operator")
        desk.room.members.revoke(north, "operator")


def when_somebody_wants_to_join(desk: Desk, north: str, south: str, west: str) -> None:
    with pytest.raises(KeyReplaced, match="Nobody was enrolled, and the invitation is not spent"):
        desk.member("East")


def after_a_restart_and_a_new_roll_key(desk: Desk, north: str, south: str, west: str) -> None:
    renew_trust(desk.home, [desk.home / "keys" / "root.pem"], desk.clock, new_roll_key=True)


MOMENTS = [
    when_somebody_wants_to_join,
    when_another_is_approved,
    when_another_is_suspended_and_resumed,
    after_half_its_time,
    after_a_restart_and_a_new_roll_key,
    when_it_is_shut_out_itself,
    when_another_is_revoked,
]
"""One after the other on one desk, as what one of them lets through may reach a roll at the next."""


@pytest.mark.parametrize("attack", ATTACKS)
def test_roll_key_signs_no_other_name_or_key_than_it_signed_before(
    desk: Desk, north: Joined, attack: str
) -> None:
    before, ids = roll_of(desk), [id_of(desk, name) for name in ("North", "South", "West")]
    with writing(desk.room.engine) as db:
        ATTACKS[attack](db, north.member_id)
    for moment in MOMENTS:
        # Of two members whose names changed places both differ: neither may be let in again.
        lets_in_south = moment is when_another_is_suspended_and_resumed and attack == "two members' names"
        with pytest.raises(KeyReplaced) if lets_in_south else nullcontext():
            moment(desk, *ids)
        desk = at_the_same_time(open_desk(desk.home), desk)
        for entry, known in zip(roll_of(desk).entries, before.entries, strict=True):
            assert replace(entry, state=known.state) == known, moment.__name__
        for signed in every_roll(desk):
            assert OWN.public_hex not in signed, moment.__name__


def at_the_same_time(again: Desk, desk: Desk) -> Desk:
    again.clock.advance((desk.clock.now() - again.clock.now()).total_seconds())
    return again


def every_roll(desk: Desk) -> list[str]:
    """What members are sent, and what is kept."""
    with reading(desk.room.engine) as db:
        served = db.execute(sa.select(meta.c.value).where(meta.c.key == "roll")).scalar() or ""
    return [served, (desk.home / KEPT_FILE).read_text("utf-8")]


@pytest.mark.parametrize("attack", ATTACKS)
def test_whoever_looks_is_told_what_differs_until_it_is_right_again(
    desk: Desk, north: Joined, attack: str
) -> None:
    roll = desk.room.roll
    assert roll.differences() == ()
    with writing(desk.room.engine) as db:
        rows = {
            table: [dict(row) for row in db.execute(sa.select(table)).mappings()]
            for table in (members, member_status, meta)
        }
        ATTACKS[attack](db, north.member_id)
    names = {one.name for one in roll.differences()}
    assert names == {"Friend"} if attack == "a row of one's own" else "North" in names
    assert all(one.what for one in roll.differences())
    with writing(desk.room.engine) as db:
        db.exec_driver_sql("PRAGMA defer_foreign_keys = ON")
        for table in (member_status, members, meta):
            db.execute(table.delete())
        for table in (members, member_status, meta):
            db.execute(table.insert(), rows[table])
    assert roll.differences() == ()
    desk.member("East")


def test_member_whose_key_was_swapped_can_be_shut_out_and_is_not_let_in(desk: Desk, north: Joined) -> None:
    with writing(desk.room.engine) as db:
        swap_key(db, north.member_id)
    desk.room.members.suspend(north.member_id, "operator")
    with pytest.raises(KeyReplaced, match="North .* was not let in") as caught:
        desk.room.members.resume(north.member_id, "operator")
    assert OWN.public_hex in caught.value.message
    entry = roll_of(desk).entry(north.member_id)
    assert entry == RollEntry(
        north.member_id,
        "North",
        north.identity.public_hex,
        MemberState.SUSPENDED,  # type: ignore[arg-type]
    )
    assert [one.name for one in desk.room.roll.differences()] == ["North"]
    desk.room.members.revoke(north.member_id, "operator")
    assert desk.room.roll.differences() == (), "nothing that it does counts any more"
    desk.member("East")
    assert {entry.name for entry in roll_of(desk).entries} == {"North", "South", "West", "East"}


def test_member_that_waits_for_approval_is_not_approved_under_another_key(desk: Desk, north: Joined) -> None:
    west = id_of(desk, "West")
    with writing(desk.room.engine) as db:
        swap_key(db, west)
    with pytest.raises(KeyReplaced, match="was not let in"):
        desk.room.members.approve(west, "operator")
    entry = roll_of(desk).entry(west)
    assert entry is not None and entry.state is MemberState.PENDING
    assert len(desk.nodes.allowed) == 2


def test_who_was_revoked_stays_so_whatever_the_database_says_later(desk: Desk, north: Joined) -> None:
    desk.room.members.revoke(north.member_id, "operator")
    with writing(desk.room.engine) as db:
        db.execute(members.update().where(members.c.id == north.member_id).values(state="active"))
    desk.room.members.suspend(id_of(desk, "South"), "operator")
    entry = roll_of(desk).entry(north.member_id)
    assert entry is not None and entry.state is MemberState.REVOKED
    assert [one.what for one in desk.room.roll.differences()] == [
        "was revoked for good, and is active in the database"
    ]
    desk.room.members.revoke(north.member_id, "operator")
    assert desk.room.roll.differences() == ()


def test_no_two_lines_of_the_roll_have_one_key(desk: Desk, north: Joined) -> None:
    """North comes back with its old key, of which the database knows nothing any more: nobody could read that roll."""
    with writing(desk.room.engine) as db:
        swap_key(db, north.member_id)
    desk.room.members.revoke(north.member_id, "operator")
    secret = desk.secret("North")
    with pytest.raises(AlreadyExists, match="on the signed roll already"):
        desk.room.members.enrol(enrolment(secret, north.identity))
    desk.room.members.enrol(enrolment(secret))
    assert roll_of(desk).entries[-1].name == "North"


def test_key_that_was_swapped_signs_for_nobody_here(desk: Desk, north: Joined) -> None:
    """Rounds, consents and certificates take members from the service: it has the key that the roll has."""
    with writing(desk.room.engine) as db:
        swap_key(db, north.member_id)
        names_changed_places(db, north.member_id)
    found = desk.room.members.get(north.member_id)
    assert (found.name, found.identity_public_key) == ("North", north.identity.public_hex)
    assert found in desk.room.members.every()


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
    desk.clock.advance(16 * 86_400.0)
    entry = roll_of(desk).entry(north.member_id)
    assert entry is not None and entry.identity_public_key == north.identity.public_hex
    assert [one.name for one in desk.room.roll.differences()] == ["North"]


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
