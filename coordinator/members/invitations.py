"""Invitations: a one-time secret for one organisation; what is kept is only the secret's hash."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from coordinator.audit.log import append
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import invitations
from shared.domain.clock import Clock, to_text
from shared.domain.consortium import Purpose
from shared.domain.errors import InvitationRejected
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
        self, member_name: str, purpose: Purpose, actor: str, lifetime_s: float | None = None
    ) -> tuple[Invitation, str]:
        """(what is kept, the secret: shown this once and known to nobody afterwards)."""
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
        )
        with writing(self._engine) as connection:
            insert_invitation(connection, invitation, actor, to_text(moment))
            detail = {"name": member_name, "purpose": purpose.value, "expires_at": invitation.expires_at}
            append(connection, self._clock, actor, "invitation.created", invitation.id, detail)
        return invitation, secret

    def every(self) -> list[InvitationLine]:
        """All invitations, newest first."""
        query = sa.select(invitations).order_by(invitations.c.created_at.desc(), invitations.c.id)
        with reading(self._engine) as connection:
            return [
                InvitationLine(_invitation(row), row.created_by, row.created_at)
                for row in connection.execute(query)
            ]


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
    )
