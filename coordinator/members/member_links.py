"""How a member's operator comes to the dashboard: by a link that its own node asked for, good once and briefly.

The member's token never reaches a browser. What the link opens is a session that sees the member's own row.
"""

from __future__ import annotations

import secrets
from datetime import timedelta

import sqlalchemy as sa

from coordinator.audit.log import append
from coordinator.members.store import find_member
from coordinator.members.tokens import TokenKind, TokenUse, issue_token
from coordinator.storage.database import reading, writing
from coordinator.storage.tables import sign_in_codes
from shared.domain.clock import Clock, to_text
from shared.domain.consortium import Member, MemberState
from shared.domain.errors import SignInFailed
from shared.domain.invitation import hash_secret

CODE_PREFIX = "clc_"
LIFETIME_S = 120.0


class MemberLinks:
    """Makes, shows and spends one-time codes; only their hash is kept, and one a member."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def make(self, member_id: str) -> tuple[str, str]:
        """(code, when it ends); an earlier one of the same member opens nothing any more."""
        code = CODE_PREFIX + secrets.token_urlsafe(24)
        ends = to_text(self._clock.now() + timedelta(seconds=LIFETIME_S))
        row = {"member_id": member_id, "sha256": hash_secret(code), "expires_at": ends}
        with writing(self._engine) as connection:
            connection.execute(sign_in_codes.delete().where(sign_in_codes.c.member_id == member_id))
            connection.execute(sign_in_codes.insert().values(row))
            append(connection, self._clock, f"member:{member_id}", "sign-in-link.made", member_id)
        return code, ends

    def whose(self, code: str) -> Member:
        """Whom it would sign in; nothing is spent. Raises SignInFailed."""
        with reading(self._engine) as connection:
            return self._member(connection, code)

    def spend(self, code: str, lifetime_s: float, origin: str = "") -> tuple[Member, str]:
        """(member, token of a session). Of two requests at once only one gets through. Raises SignInFailed."""
        with writing(self._engine) as connection:
            member = self._member(connection, code)
            mine = sign_in_codes.c.sha256 == hash_secret(code)
            if connection.execute(sign_in_codes.delete().where(mine)).rowcount != 1:
                raise _not_good()
            token, _ = issue_token(
                connection,
                self._clock,
                member.id,
                TokenKind.MEMBER,
                lifetime_s,
                TokenUse.SESSION,
                origin,
            )
            append(
                connection,
                self._clock,
                f"member:{member.id}",
                "session.opened",
                member.id,
                {"by": "its node's link"},
            )
        return member, token

    def _member(self, connection: sa.Connection, code: str) -> Member:
        now = to_text(self._clock.now())
        holds = (sign_in_codes.c.sha256 == hash_secret(code), sign_in_codes.c.expires_at > now)
        row = connection.execute(sa.select(sign_in_codes.c.member_id).where(*holds)).one_or_none()
        member = None if row is None else find_member(connection, row.member_id)
        if member is None or member.state is not MemberState.ACTIVE:
            raise _not_good()
        return member


def _not_good() -> SignInFailed:
    return SignInFailed(
        f"The link was used, or its {LIFETIME_S:.0f} seconds are over. You were not signed in. Run "
        "`commonlens-participant dashboard` again."
    )
