"""A person's own sessions and API tokens: list them, make a token, end one or all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from coordinator.audit.log import append
from coordinator.audit.masking import holds_secret
from coordinator.members.tokens import (
    Token,
    TokenKind,
    TokenUse,
    issue_token,
    revoke_tokens,
    tokens_of,
)
from coordinator.storage.database import reading, writing
from shared.domain.clock import Clock
from shared.domain.errors import InvalidMessage, NotFound, SignInFailed

LONGEST_LIFETIME_DAYS = 366
WITHOUT_PASSWORD_DAYS = 30
"""A session lasts hours: whoever took one must not turn it into an access for a year."""
MOST_TOKENS = 50
MOST_NAME_CHARACTERS = 60


@dataclass(frozen=True)
class OwnTokens:
    """What holds of an owner, newest first."""

    sessions: list[Token]
    api: list[Token]


class OwnTokenService:
    """Every call is about one owner's tokens; nobody else's can be named."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def of(self, owner_id: str) -> OwnTokens:
        """All that hold now."""
        with reading(self._engine) as connection:
            found = tokens_of(connection, self._clock, owner_id)
        return OwnTokens(
            [token for token in found if token.use is TokenUse.SESSION],
            [token for token in found if token.use is TokenUse.API],
        )

    def make(
        self,
        account_id: str,
        actor: str,
        name: str,
        lifetime_days: float,
        check_password: Callable[[], None] | None,
        session: str = "",
    ) -> tuple[str, str]:
        """(the token, shown this once; when it ends). It may do what its owner may, until then.

        For more than WITHOUT_PASSWORD_DAYS, `check_password` is called first, and what it raises is raised; None says
        that no password was sent. Raises InvalidMessage for that, for an empty name or a lifetime that is too long, or
        where there are MOST_TOKENS; and SignInFailed where `session`, or without it every session of the owner, ended
        since somebody asked: a change of the password ends every token, and this one would not have been among them.
        """
        name = name.strip()
        if not 0 < len(name) <= MOST_NAME_CHARACTERS or not name.isprintable() or holds_secret(name):
            raise InvalidMessage(
                f"A token's name has 1 to {MOST_NAME_CHARACTERS} characters that can be printed, and is no secret. No "
                "token was made. Give it a name by which you know it again."
            )
        if not 0 < lifetime_days <= LONGEST_LIFETIME_DAYS:
            raise InvalidMessage(
                f"A token is good for up to {LONGEST_LIFETIME_DAYS} days; {lifetime_days:g} were asked for. No token "
                "was made. Choose a shorter time."
            )
        if lifetime_days > WITHOUT_PASSWORD_DAYS:
            if check_password is None:
                raise InvalidMessage(
                    f"A token for more than {WITHOUT_PASSWORD_DAYS} days needs your password again, and none was sent. "
                    "No token was made. Send it, or choose a shorter time; who has no password here has only that."
                )
            check_password()
        with writing(self._engine) as connection:
            held = tokens_of(connection, self._clock, account_id)
            if not any(t.use is TokenUse.SESSION and session in ("", t.id) for t in held):
                raise SignInFailed("Your session ended meanwhile. No token was made. Sign in again.")
            there = [t for t in held if t.use is TokenUse.API]
            if len(there) >= MOST_TOKENS:
                raise InvalidMessage(
                    f"You have {len(there)} tokens, and may have {MOST_TOKENS}. No token was made. Revoke one first."
                )
            token, expires_at = issue_token(
                connection,
                self._clock,
                account_id,
                TokenKind.ACCOUNT,
                lifetime_days * 86_400,
                TokenUse.API,
                name,
            )
            detail = {"name": name, "expires_at": expires_at}
            append(connection, self._clock, actor, "token.issued", account_id, detail)
        return token, expires_at or ""

    def end(self, owner_id: str, actor: str, token_id: str) -> Token:
        """End one session or token of the owner's; what it was. Raises NotFound for anything else."""
        with writing(self._engine) as connection:
            found = [t for t in tokens_of(connection, self._clock, owner_id) if t.id == token_id]
            if not found:
                raise NotFound(
                    "You have no such session or token any more. Nothing was changed. Load the list again."
                )
            action = "session.ended" if found[0].use is TokenUse.SESSION else "token.revoked"
            revoke_tokens(connection, self._clock, owner_id=owner_id, token_id=token_id)
            append(connection, self._clock, actor, action, owner_id, {"token": token_id})
        return found[0]

    def end_others(self, owner_id: str, actor: str, but: str) -> int:
        """End all of an owner's sessions but the one with the id `but`; how many there were."""
        with writing(self._engine) as connection:
            ended = revoke_tokens(
                connection, self._clock, owner_id=owner_id, use=TokenUse.SESSION, except_id=but
            )
            append(connection, self._clock, actor, "session.others-ended", owner_id, {"ended": ended})
        return ended
