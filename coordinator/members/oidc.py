"""Signing in elsewhere: OpenID Connect, authorization code with PKCE (RFC 7636), state and nonce.

The account is found by issuer and subject, never by a name or an e-mail address, which a provider may give to somebody
else. The role follows the configured claim at every sign-in; whoever has none any more loses what it had here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import sqlalchemy as sa

from coordinator.audit.log import append
from coordinator.audit.masking import holds_secret
from coordinator.config import Oidc
from coordinator.members.accounts import Account, find_account_by_id, get_account, insert_account
from coordinator.members.oidc_provider import Provider
from coordinator.members.tokens import revoke_tokens
from coordinator.storage.database import writing
from coordinator.storage.tables import account_identities, accounts
from shared.domain.clock import Clock, to_text
from shared.domain.consortium import Role
from shared.domain.errors import NotAllowed, SignInFailed
from shared.domain.ids import new_id

ACTOR = "system"
RETURN_PATH = "/sign-in/oidc/return"
SKEW_S = 60
LONGEST_SUBJECT = 255
_NAMES_OF_OTHERS = ("admin", "operator", "system", "nobody")
"""The audit log has actors of these names already."""
_LIKE_AN_ID = re.compile(r"(acc|mem|run|inv|tok)_")
"""Pages that show a name for an id would show another's for it."""


class OidcSignIn:
    """Sends people to the provider, and makes accounts of those who come back."""

    def __init__(self, home: Path, config: Oidc, url: str, engine: sa.Engine, clock: Clock) -> None:
        self._config = config
        self._redirect_uri = url + RETURN_PATH
        self._engine = engine
        self._clock = clock
        self._provider = Provider(home, config, clock)

    @property
    def label(self) -> str:
        """Who signs people in."""
        return self._config.label

    def begin(self) -> tuple[str, dict[str, str]]:
        """(where to go, what this browser alone must keep until it comes back). Raises Unreachable, SignInFailed."""
        kept = {name: secrets.token_urlsafe(32) for name in ("state", "nonce", "verifier")}
        challenge = hashlib.sha256(kept["verifier"].encode()).digest()
        endpoint = self._provider.metadata()["authorization_endpoint"]
        query = {
            "response_type": "code",
            "client_id": self._config.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": " ".join(self._config.scopes),
            "state": kept["state"],
            "nonce": kept["nonce"],
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode("ascii"),
            "code_challenge_method": "S256",
        }
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}", kept

    def finish(self, kept: Mapping[str, str] | None, query: Mapping[str, str]) -> Account:
        """The account of whoever came back with `query`, in the browser that kept `kept`.

        Raises SignInFailed where anything does not fit, NotAllowed where the provider gives no role here.
        """
        if kept is None or not hmac.compare_digest(query.get("state", "").encode(), kept["state"].encode()):
            raise SignInFailed(
                "This answer of the provider does not belong to a sign-in that this browser began in the last "
                "minutes. You were not signed in. Begin again."
            )
        if query.get("iss", self._config.issuer) != self._config.issuer:  # RFC 9207
            raise SignInFailed("The answer is another provider's. You were not signed in. Begin again.")
        code = query.get("code", "")
        if not code:
            reason = query.get("error", "")
            said = reason if re.fullmatch(r"[a-z_]{1,60}", reason) else "no code"
            raise SignInFailed(f"The provider answered: {said}. You were not signed in. Begin again.")
        token = self._provider.id_token(code, kept["verifier"], self._redirect_uri)
        claims = self._provider.claims(token)
        self._check(claims, kept["nonce"])
        return self._account(claims)

    def _check(self, claims: Mapping[str, Any], nonce: str) -> None:
        """Raise SignInFailed unless the token is for us, for now and for this browser (OIDC Core, 3.1.3.7)."""
        now = self._clock.now().timestamp()
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        client_id = self._config.client_id
        wrong = {
            "issuer": claims.get("iss") != self._config.issuer,
            "audience": client_id not in audiences,
            "authorized party": claims.get("azp", client_id if len(audiences) == 1 else None) != client_id,
            "nonce": not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()),
            "expiry": not _number(claims.get("exp")) or claims["exp"] <= now - SKEW_S,
            "time of issue": not _number(claims.get("iat")) or claims["iat"] > now + SKEW_S,
            "first time": not _number(claims.get("nbf", 0)) or claims.get("nbf", 0) > now + SKEW_S,
            "subject": not isinstance(claims.get("sub"), str)
            or not 0 < len(claims["sub"]) <= LONGEST_SUBJECT,
        }
        found = [name for name, is_wrong in wrong.items() if is_wrong]
        if found:
            raise SignInFailed(
                f"The provider's ID token does not fit: {', '.join(found)}. You were not signed in. Begin again; if it "
                "lasts, tell the operator."
            )

    def _account(self, claims: Mapping[str, Any]) -> Account:
        role, subject = self._role(claims), str(claims["sub"])
        with writing(self._engine) as connection:
            known = self._known(connection, subject)
            if role is None:
                if known is not None:
                    revoke_tokens(connection, self._clock, owner_id=known.id)
                    append(connection, self._clock, ACTOR, "account.role-missing", known.id)
            elif known is None:
                return self._made(connection, subject, role, claims)
            elif known.role is not role:
                connection.execute(accounts.update().where(accounts.c.id == known.id).values(role=role.value))
                revoke_tokens(connection, self._clock, owner_id=known.id)
                detail = {"from": known.role.value, "to": role.value}
                append(connection, self._clock, ACTOR, "account.role-changed", known.id, detail)
        if role is None or known is None:
            raise NotAllowed(
                f"You are known to {self._config.label}, and none of the values of the claim {self._config.role_claim} "
                "gives you a role here. You were not signed in. Ask an admin of the consortium."
            )
        return replace(known, role=role)

    def _role(self, claims: Mapping[str, Any]) -> Role | None:
        value = claims.get(self._config.role_claim)
        values = value if isinstance(value, list) else [value]
        found = {self._config.roles[v] for v in values if isinstance(v, str) and v in self._config.roles}
        return next((role for role in (Role.ADMIN, Role.AUDITOR) if role in found), None)

    def _known(self, connection: sa.Connection, subject: str) -> Account | None:
        mine = (
            account_identities.c.issuer == self._config.issuer,
            account_identities.c.subject == subject,
        )
        row = connection.execute(sa.select(account_identities.c.account_id).where(*mine)).one_or_none()
        return None if row is None else find_account_by_id(connection, row.account_id)

    def _made(
        self, connection: sa.Connection, subject: str, role: Role, claims: Mapping[str, Any]
    ) -> Account:
        account_id = new_id("acc")
        name = _name(claims)
        taken = {_read(known) for known in connection.execute(sa.select(accounts.c.name)).scalars()}
        if _read(name) in taken | {*_NAMES_OF_OTHERS, ""}:
            name = f"{name} ({account_id})".strip()
        insert_account(connection, Account(account_id, name, role, False, to_text(self._clock.now())), None)
        row = {"issuer": self._config.issuer, "subject": subject, "account_id": account_id}
        connection.execute(account_identities.insert().values(row))
        detail = {"role": role.value, "issuer": self._config.issuer[:200]}
        append(connection, self._clock, ACTOR, "account.created", account_id, detail)
        return get_account(connection, name)[0]


def _name(claims: Mapping[str, Any]) -> str:
    """What a person is called here: for reading only, as no account is found by it."""
    for claim in ("name", "preferred_username", "sub"):
        value = claims.get(claim)
        text = "".join(c for c in value if c.isprintable())[:60].strip() if isinstance(value, str) else ""
        if text and not holds_secret(text) and not _LIKE_AN_ID.match(_read(text)):
            return text
    return ""


def _read(name: str) -> str:
    """As somebody reads it: names that differ only in what nobody sees are the same one (Unicode, NFKC)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
