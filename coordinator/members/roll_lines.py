"""What the next roll says, from the one that was signed before and the members' table; and where the two differ.

A member keeps its id, name and identity key for ever, nobody is taken off the roll, and whoever was revoked stays so:
to come back it enrols anew, under another id. So everybody on the roll stays on it as it is there, and only its state
is the table's; the one line that is added is that of whoever enrols in the same transaction.

Protects against whoever can write to the database, and not to the coordinator's folder: a key or a name that was put in
place of another, a line that was taken out and an organisation that never enrolled are not signed, and somebody who was
revoked is not let in again. Does not protect against a state that was changed otherwise, an invitation that was put in
the table, or a change to a member that joined in the moment between its enrolment's commit and the writing of the
roll's file. Members' nodes hold all of these for their operators to approve (participant/peers.py). Whoever can write
to the folder has the roll key itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from shared.domain.consortium import Member, MemberState, RollEntry
from shared.domain.errors import AlreadyExists

Lines: TypeAlias = tuple[RollEntry, ...] | None
"""Of the roll that was signed last; None before the first."""


@dataclass(frozen=True)
class Difference:
    """An organisation that is not in the database as it is on the roll."""

    member_id: str
    name: str
    """As it was signed; of one that never was, as the database has it."""
    what: str
    """What is otherwise in the database, after its name."""
    step: str
    """What an admin can do."""
    found: str = ""
    """The name and key that the database has in place of those that were signed."""


def next_lines(before: Lines, members: Sequence[Member], joining: Member | None) -> tuple[RollEntry, ...]:
    """`members` as the table has them. Raises AlreadyExists where the roll has the key of who joins already."""
    if before is None:
        return tuple(map(_line, members))
    states = {member.id: member.state for member in members}
    kept = tuple(replace(line, state=_state(line, states.get(line.member_id))) for line in before)
    if joining is None or any(line.member_id == joining.id for line in before):
        return kept
    if any(line.identity_public_key == joining.identity_public_key for line in before):
        raise AlreadyExists(
            "This identity key is on the signed roll already, under another id. Nobody was enrolled, and the "
            "invitation is not spent. Join with a fresh folder of keys."
        )
    return (*kept, _line(joining))


def differences(before: Lines, members: Sequence[Member], joining: str = "") -> tuple[Difference, ...]:
    """Where the table has something else; not of whoever is revoked in both, which can do nothing any more.

    `joining` is the id of who enrols in the same transaction, and is not on the roll yet.
    """
    if before is None:
        return ()
    rows = {member.id: member for member in members}
    known = {line.member_id for line in before}
    found = [_differing(line, rows.get(line.member_id)) for line in before]
    found += [
        Difference(row.id, row.name, "is in the database and never enrolled", "revoke it")
        for row in members
        if row.id not in known and row.id != joining and row.state is not MemberState.REVOKED
    ]
    return tuple(one for one in found if one is not None)


def as_signed(before: Lines, members: Sequence[Member]) -> list[Member]:
    """The same members, each under the name and with the identity key that it has on the roll."""
    known = {line.member_id: line for line in before or ()}
    return [
        member
        if (line := known.get(member.id)) is None
        else replace(member, name=line.name, identity_public_key=line.identity_public_key)
        for member in members
    ]


def _line(member: Member) -> RollEntry:
    return RollEntry(member.id, member.name, member.identity_public_key, member.state)


def _state(line: RollEntry, state: MemberState | None) -> MemberState:
    return line.state if state is None or line.state is MemberState.REVOKED else state


def _differing(line: RollEntry, row: Member | None) -> Difference | None:
    revoked = line.state is MemberState.REVOKED
    if row is None:
        step = "restore it from a backup"
        return None if revoked else Difference(line.member_id, line.name, "is gone from the database", step)
    if revoked and row.state is MemberState.REVOKED:
        return None
    other = {"name": row.name != line.name, "key": row.identity_public_key != line.identity_public_key}
    if any(other.values()):
        what = f"has another {' and '.join(part for part, is_other in other.items() if is_other)} in the database"
        found = f"{row.name}, key {row.identity_public_key}"
        return Difference(line.member_id, line.name, what, "restore it from a backup, or revoke it", found)
    if revoked:
        what = f"was revoked for good, and is {row.state.value} in the database"
        return Difference(line.member_id, line.name, what, "revoke it again")
    return None
