"""Bearer tokens: 256 random bits with a visible prefix; only their SHA-256 is kept."""

from __future__ import annotations

import enum
import secrets
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from coordinator.storage.tables import tokens
from shared.domain.clock import Clock, to_text
from shared.domain.ids import new_id
from shared.domain.invitation import hash_secret

TOKEN_PREFIX = "clt_"


class TokenKind(enum.Enum):
    """Whose token it is: a person's account, or a member's node."""

    ACCOUNT = "account"
    MEMBER = "member"


@dataclass(frozen=True)
class Token:
    """What is kept of a token."""

    id: str
    owner_id: str
    kind: TokenKind
    expires_at: str | None
    revoked_at: str | None

    def valid(self, clock: Clock) -> bool:
        """Whether it is neither revoked nor over."""
        return self.revoked_at is None and (self.expires_at is None or to_text(clock.now()) < self.expires_at)


def issue_token(
    connection: sa.Connection, clock: Clock, owner_id: str, kind: TokenKind, lifetime_s: float | None
) -> tuple[str, str | None]:
    """(the token, shown this once; when it ends, or None for never)."""
    text = TOKEN_PREFIX + secrets.token_urlsafe(32)
    moment = clock.now()
    expires_at = None if lifetime_s is None else to_text(moment + timedelta(seconds=lifetime_s))
    row = {
        "id": new_id("tok"),
        "owner_id": owner_id,
        "sha256": hash_secret(text),
        "kind": kind.value,
        "created_at": to_text(moment),
        "expires_at": expires_at,
    }
    connection.execute(tokens.insert().values(row))
    return text, expires_at


def find_token(connection: sa.Connection, text: str) -> Token | None:
    """What is kept of `text`, valid or not; None for a token that was never issued."""
    row = connection.execute(sa.select(tokens).where(tokens.c.sha256 == hash_secret(text))).one_or_none()
    if row is None:
        return None
    return Token(row.id, row.owner_id, TokenKind(row.kind), row.expires_at, row.revoked_at)


def revoke_tokens(
    connection: sa.Connection, clock: Clock, *, owner_id: str | None = None, token_id: str | None = None
) -> int:
    """Stop one token, or all of an owner's, from this transaction's commit on; how many were stopped."""
    which = tokens.c.id == token_id if owner_id is None else tokens.c.owner_id == owner_id
    statement = tokens.update().where(which, tokens.c.revoked_at.is_(None))
    return connection.execute(statement.values(revoked_at=to_text(clock.now()))).rowcount
