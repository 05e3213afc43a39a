"""The organisations and their rules: roles, members, their nodes, and the signed roll of them."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from shared.domain.errors import InvalidMessage
from shared.domain.ids import MemberId

MEMBER_NAME = r"^[\w .&'()+,-]+$"
"""And 1 to 100 characters."""
MOST_DECLARED = 10**12
MOST_INVITATION_S = 30.0 * 86400


class Role(enum.Enum):
    """What a person or node may do. An auditor sees everything and changes nothing."""

    ADMIN = "admin"
    MEMBER = "member"
    AUDITOR = "auditor"


class MemberState(enum.Enum):
    """Whether a member's node may speak to the coordinator."""

    PENDING = "pending"
    """Joined by an invitation that asks for an admin's approval, and waits for it."""
    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


class Purpose(enum.Enum):
    """Why a member joined: to contribute training rounds, or only to use the releases."""

    CONTRIBUTE = "contribute"
    USE = "use"


@dataclass(frozen=True)
class Node:
    """One machine of a member: its engine key (EC, uncompressed PEM text) names it to the carrier."""

    node_public_key_pem: str
    device: str
    software_version: str


@dataclass(frozen=True)
class Member:
    """One organisation. `declared_size` is n_declared of clause 6.3 (two significant digits, 0 for users)."""

    id: MemberId
    name: str
    purpose: Purpose
    state: MemberState
    identity_public_key: str
    """Ed25519, 64 hex digits; signs consents and contributions."""
    declared_size: int
    node: Node
    enrolled_at: str


@dataclass(frozen=True)
class BudgetLeft:
    """What a member says is left of its ceiling: of several ceilings, the one with the least share left.

    Follows from public terms of plans and the member's own policy; nothing in it is measured on records (6.1).
    """

    share: float
    """Of the ceiling, from 0 to 1."""
    epsilon: float
    """Of the ceiling, at `delta`."""
    delta: float


@dataclass(frozen=True)
class RollEntry:
    """One line of the consortium roll (clause 5.1): who, and under which identity key."""

    member_id: MemberId
    name: str
    identity_public_key: str
    state: MemberState


@dataclass(frozen=True)
class Roll:
    """The consortium's members, signed by the roll key; a later roll has a higher version."""

    consortium: str
    version: int
    entries: tuple[RollEntry, ...]
    expires_at: str

    def entry(self, member_id: str) -> RollEntry | None:
        """The line of `member_id`, or None."""
        return next((e for e in self.entries if e.member_id == member_id), None)


def round_declared_size(count: int) -> int:
    """`count` rounded to two significant digits (clause 6.3). Raises ValueError below zero."""
    if count < 0:
        raise ValueError(f"a size cannot be negative: {count}")
    if count < 100:
        return count
    scale = int(10 ** (len(str(count)) - 2))
    return ((count + scale // 2) // scale) * scale


def check_member_name(name: str) -> None:
    """Raise InvalidMessage, in words, for a name that no member can have."""
    if not 1 <= len(name) <= 100 or not re.fullmatch(MEMBER_NAME, name):
        raise InvalidMessage(
            "A member's name has 1 to 100 letters, digits, spaces and the signs . & ' ( ) + , - _, and this is "
            f"{name[:100]!r}. Nobody was invited. Choose another name."
        )
