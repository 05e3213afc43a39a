"""Invitations: a one-time secret for one organisation; what is kept is only the secret's hash."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from coordinator.audit.log import append
from coordinator.members.names import refuse_alike, refuse_mixed
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import invitations, members
from shared.domain.clock import Clock, to_text
from shared.domain.consortium import Purpose
from shared.domain.errors import IllegalMove, InvitationRejected, NotFound
from shared.domain.ids import InvitationId, new_id
from shared.domain.invitation import DEFAULT_LIFETIME_S, Invitation, hash_secret, new_secret


@dataclass(frozen=True)
class InvitationLine:
    """An invitation as a list shows it."""

    invitation: Invitation
    created_by: str
    created_at: str


class InvitationService:
    """Makes invitations and lists them; enrolment spends them."""

    def __init__(self, engine: sa.Engine, clock: Clock, lifetime_s: float = DEFAULT_LIFETIME_S) -> None:
        self._engine = engine
        self._clock = clock
        self._lifetime_s = lifetime_s

    def invite(
        self,
        member_name: str,
        purpose: Purpose,
        actor: str,
        lifetime_s: float | None = None,
        needs_approval: bool = False,
    ) -> tuple[Invitation, str]:
        """(what is kept, the secret: shown this once and known to nobody afterwards).

        Raises InvalidMessage, AlreadyExists for a name that can be taken for another (names.py).
        """
        refuse_mixed(member_name)
        secret = new_secret()
        moment = self._clock.now()
        ends = moment + timedelta(seconds=self._lifetime_s if lifetime_s is None else lifetime_s)
        invitation = Invitation(
            id=InvitationId(new_id("inv")),
            member_name=member_name,
            purpose=purpose,
            secret_sha256=hash_secret(secret),
            expires_at=to_text(ends),
            spent_at=None,
            needs_approval=needs_approval,
        )
        with writing(self._engine) as connection:
            refuse_alike(member_name, _names_in_use(connection, to_text(moment)))
            insert_invitation(connection, invitation, actor, to_text(moment))
            detail = {
                "name": member_name,
                "purpose": purpose.value,
                "expires_at": invitation.expires_at,
                "needs_approval": needs_approval,
            }
            append(connection, self._clock, actor, "invitation.created", invitation.id, detail)
        return invitation, secret

    def withdraw(self, invitation_id: str, actor: str) -> InvitationLine:
        """Take an invitation back: its time ends now. Raises NotFound, IllegalMove where it is not open any more."""
        moment, mine = to_text(self._clock.now()), invitations.c.id == invitation_id
        still_open = invitations.c.spent_at.is_(None) & (invitations.c.expires_at > moment)
        statement = invitations.update().where(mine, still_open)
        with writing(self._engine) as connection:
            # In one statement: of an enrolment and a withdrawal at the same moment only one gets through.
            changed = connection.execute(statement.values(withdrawn_at=moment, expires_at=moment)).rowcount
            row = connection.execute(sa.select(invitations).where(mine)).one_or_none()
            if row is None:
                raise NotFound(
                    f"There is no invitation {invitation_id[:80]!r}. Nothing was changed. List the invitations."
                )
            if not changed:
                raise IllegalMove(_why_not_open(row.spent_at, row.withdrawn_at, row.expires_at))
            detail = {"name": row.member_name}
            append(connection, self._clock, actor, "invitation.withdrawn", invitation_id, detail)
        return InvitationLine(_invitation(row), row.created_by, row.created_at)

    def every(self) -> list[InvitationLine]:
        """All invitations, newest first."""
        query = sa.select(invitations).order_by(invitations.c.created_at.desc(), invitations.c.id)
        with reading(self._engine) as connection:
            return [
                InvitationLine(_invitation(row), row.created_by, row.created_at)
                for row in connection.execute(query)
            ]

    def open(self) -> list[InvitationLine]:
        """Those that somebody can still join with, newest first."""
        moment = to_text(self._clock.now())
        return [line for line in self.every() if line.invitation.open_at(moment)]


def _names_in_use(connection: sa.Connection, moment: str) -> list[str]:
    """Of members, whatever their state, and of invitations that somebody can still join with."""
    c = invitations.c
    still_open = c.spent_at.is_(None) & (c.expires_at > moment)
    names = sa.union(sa.select(members.c.name), sa.select(c.member_name).where(still_open))
    return list(connection.execute(names).scalars())


def insert_invitation(
    connection: sa.Connection, invitation: Invitation, created_by: str, created_at: str
) -> None:
    """Add a row."""
    row = {
        "id": invitation.id,
        "member_name": invitation.member_name,
        "purpose": invitation.purpose.value,
        "secret_sha256": invitation.secret_sha256,
        "created_by": created_by,
        "created_at": created_at,
        "expires_at": invitation.expires_at,
        "spent_at": invitation.spent_at,
        "withdrawn_at": invitation.withdrawn_at,
        "needs_approval": invitation.needs_approval,
    }
    connection.execute(invitations.insert().values(row))


def spend_invitation(connection: sa.Connection, clock: Clock, secret: str) -> Invitation:
    """Spend the secret inside the caller's transaction: of two requests at once only one gets through.

    InvitationRejected has the same words whether it is unknown, spent or over: guessing learns nothing.
    """
    moment = to_text(clock.now())
    mine = invitations.c.secret_sha256 == hash_secret(secret)
    statement = (
        invitations.update()
        .where(mine, invitations.c.spent_at.is_(None), invitations.c.expires_at > moment)
        .values(spent_at=moment)
    )
    if connection.execute(statement).rowcount != 1:
        raise InvitationRejected(
            "The invitation is unknown, already used, or over. Nothing was enrolled. "
            "Ask the consortium's admin for a new one."
        )
    return _invitation(connection.execute(sa.select(invitations).where(mine)).one())


def _invitation(row: sa.Row[tuple[object, ...]]) -> Invitation:
    return Invitation(
        id=InvitationId(row.id),
        member_name=row.member_name,
        purpose=Purpose(row.purpose),
        secret_sha256=row.secret_sha256,
        expires_at=row.expires_at,
        spent_at=row.spent_at,
        withdrawn_at=row.withdrawn_at,
        needs_approval=row.needs_approval,
    )


def _why_not_open(spent_at: str | None, withdrawn_at: str | None, expires_at: str) -> str:
    if spent_at is not None:
        return (
            f"The invitation was used at {spent_at}. It was not withdrawn. "
            "Suspend or revoke the member that joined with it."
        )
    ended = f"was withdrawn at {withdrawn_at}" if withdrawn_at else f"ended at {expires_at}"
    return f"The invitation {ended}. Nothing was changed: nobody can join with it any more."
