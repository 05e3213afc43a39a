"""A one-time secret: visible prefix, only a hash stored, single use, expires."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from shared.domain.consortium import Purpose
from shared.domain.ids import InvitationId

SECRET_PREFIX = "clj_"
DEFAULT_LIFETIME_S = 3600


@dataclass(frozen=True)
class Invitation:
    """What the coordinator keeps of an invitation: never the secret, only its SHA-256."""

    id: InvitationId
    member_name: str
    purpose: Purpose
    secret_sha256: str
    expires_at: str
    spent_at: str | None
    withdrawn_at: str | None = None
    """An admin took it back; its time ended then."""
    needs_approval: bool = False
    """Whoever joins with it is pending until an admin approves."""

    def open_at(self, moment: str) -> bool:
        """Whether somebody can still join with it."""
        return self.spent_at is None and self.expires_at > moment


def new_secret() -> str:
    """A fresh secret of 192 bits with the visible prefix `clj_`, so that leak scanners find it."""
    return SECRET_PREFIX + secrets.token_urlsafe(24)


def hash_secret(secret: str) -> str:
    """SHA-256 of a high-entropy secret, in hex. (Passwords of people get argon2 instead.)"""
    return hashlib.sha256(secret.encode("utf-8")).hexdigest()
