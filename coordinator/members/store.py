"""Rows of `members` to `Member` and back; every function works inside the caller's transaction."""

from __future__ import annotations

import hashlib
from typing import Any

import sqlalchemy as sa

from coordinator.storage.tables import member_status, members
from shared.domain.consortium import Member, MemberState, Node, Purpose
from shared.domain.errors import AlreadyExists, NotFound
from shared.domain.ids import MemberId


def insert_member(connection: sa.Connection, member: Member) -> None:
    """Add a member. Raises AlreadyExists when its name is in use, or its keys were ever enrolled."""
    try:
        connection.execute(members.insert().values(_row(member)))
        connection.execute(member_status.insert().values(member_id=member.id))
    except sa.exc.IntegrityError as error:
        raise AlreadyExists(
            "An organisation of this name, or one with these keys, is already enrolled. Nothing was changed. "
            "Ask an admin to revoke the old one, and join with a fresh folder of keys."
        ) from error


def find_member(connection: sa.Connection, member_id: str) -> Member | None:
    """The member, or None."""
    row = connection.execute(sa.select(members).where(members.c.id == member_id)).one_or_none()
    return None if row is None else _member(row)


def get_member(connection: sa.Connection, member_id: str) -> Member:
    """The member. Raises NotFound."""
    found = find_member(connection, member_id)
    if found is None:
        raise NotFound(f"There is no member {member_id[:80]!r}. Nothing was changed. List the members.")
    return found


def find_by_identity_key(connection: sa.Connection, public_key_hex: str) -> Member | None:
    """The member with this identity key, whatever its state."""
    query = sa.select(members).where(members.c.identity_public_key == public_key_hex)
    row = connection.execute(query).one_or_none()
    return None if row is None else _member(row)


def every_member(connection: sa.Connection, *states: MemberState) -> list[Member]:
    """All members, or those in `states`, in the order in which they joined."""
    query = sa.select(members).order_by(members.c.enrolled_at, members.c.id)
    if states:
        query = query.where(members.c.state.in_([state.value for state in states]))
    return [_member(row) for row in connection.execute(query)]


def lock_member(connection: sa.Connection, member_id: str) -> Member:
    """`get_member`, and nobody else changes that row before this transaction ends."""
    connection.execute(sa.select(members.c.id).where(members.c.id == member_id).with_for_update())
    return get_member(connection, member_id)


def set_state(connection: sa.Connection, member_id: str, state: MemberState) -> None:
    """Change the state; whether the move is allowed is the service's to say."""
    connection.execute(members.update().where(members.c.id == member_id).values(state=state.value))


def set_node(connection: sa.Connection, member_id: str, device: str, software_version: str) -> None:
    """Change what a member says of its machine; its keys never change."""
    values = {"device": device, "software_version": software_version}
    connection.execute(members.update().where(members.c.id == member_id).values(values))


def _row(member: Member) -> dict[str, Any]:
    return {
        "id": member.id,
        "name": member.name,
        "purpose": member.purpose.value,
        "state": member.state.value,
        "identity_public_key": member.identity_public_key,
        "declared_size": member.declared_size,
        "node_public_key_pem": member.node.node_public_key_pem,
        "node_key_sha256": hashlib.sha256(member.node.node_public_key_pem.encode("ascii")).hexdigest(),
        "device": member.node.device,
        "software_version": member.node.software_version,
        "enrolled_at": member.enrolled_at,
    }


def _member(row: sa.Row[Any]) -> Member:
    return Member(
        id=MemberId(row.id),
        name=row.name,
        purpose=Purpose(row.purpose),
        state=MemberState(row.state),
        identity_public_key=row.identity_public_key,
        declared_size=row.declared_size,
        node=Node(row.node_public_key_pem, row.device, row.software_version),
        enrolled_at=row.enrolled_at,
    )
