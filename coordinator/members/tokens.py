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


class TokenUse(enum.Enum):
    """How it came about: somebody signed in, or it was made for a program."""

    SESSION = "session"
    API = "api"


@dataclass(frozen=True)
class Token:
    """What is kept of a token."""

    id: str
    owner_id: str
    kind: TokenKind
    expires_at: str | None
    revoked_at: str | None
    use: TokenUse = TokenUse.API
    name: str = ""
    """What its owner called it; of a session, where it was opened."""
    created_at: str = ""

    def valid(self, clock: Clock) -> bool:
        """Whether it is neither revoked nor over."""
        return self.revoked_at is None and (self.expires_at is None or to_text(clock.now()) < self.expires_at)


def issue_token(
    connection: sa.Connection,
    clock: Clock,
    owner_id: str,
    kind: TokenKind,
    lifetime_s: float | None,
    use: TokenUse = TokenUse.API,
    name: str = "",
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
        "use": use.value,
        "name": name,
    }
    connection.execute(tokens.insert().values(row))
    return text, expires_at


def find_token(connection: sa.Connection, text: str) -> Token | None:
    """What is kept of `text`, valid or not; None for a token that was never issued."""
    row = connection.execute(sa.select(tokens).where(tokens.c.sha256 == hash_secret(text))).one_or_none()
    return None if row is None else _token(row)


def tokens_of(connection: sa.Connection, clock: Clock, owner_id: str) -> list[Token]:
    """An owner's tokens that hold, newest first."""
    query = (
        sa.select(tokens)
        .where(tokens.c.owner_id == owner_id, tokens.c.revoked_at.is_(None))
        .order_by(tokens.c.created_at.desc(), tokens.c.id)
    )
    return [token for token in map(_token, connection.execute(query)) if token.valid(clock)]


def revoke_tokens(
    connection: sa.Connection,
    clock: Clock,
    *,
    owner_id: str | None = None,
    token_id: str | None = None,
    use: TokenUse | None = None,
    except_id: str = "",
) -> int:
    """Stop the tokens that fit everything named, from this transaction's commit on; how many were stopped.

    Raises ValueError when neither an owner nor a token is named.
    """
    if owner_id is None and token_id is None:
        raise ValueError("name an owner or a token")
    named = ((tokens.c.owner_id, owner_id), (tokens.c.id, token_id), (tokens.c.use, use and use.value))
    fits = [column == value for column, value in named if value is not None]
    statement = tokens.update().where(tokens.c.revoked_at.is_(None), tokens.c.id != except_id, *fits)
    return connection.execute(statement.values(revoked_at=to_text(clock.now()))).rowcount


def _token(row: sa.Row[tuple[object, ...]]) -> Token:
    return Token(
        id=row.id,
        owner_id=row.owner_id,
        kind=TokenKind(row.kind),
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        use=TokenUse(row.use),
        name=row.name,
        created_at=row.created_at,
    )
