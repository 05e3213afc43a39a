"""The audit log on the wire: the head that members countersign, and what a check of the whole log found.

Clause 5.1 lets members trust each other's identity keys; a countersignature is by such a key, kind "audit-head".
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from shared.wire.enrolment import Body, Moment, ShortText, SignatureHex

KIND: Final = "audit-head"
Hash = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Line = Annotated[int, Field(ge=0, le=2**53, strict=True)]


class AuditHead(Body):
    """GET /audit/head: number and hash of the last line; of an earlier line too, where one was asked about."""

    seq: Line
    hash: Hash
    earlier_seq: Line = 0
    earlier_hash: Hash | None = None
    """None where the log has no line of that number, or where a member asks that did not countersign it."""


class SignedHead(Body):
    """What a member signs: that at its time `at` the log's last line had this number and hash."""

    member_id: ShortText
    seq: Line
    hash: Hash
    at: Moment


class CountersignatureRequest(Body):
    """POST /audit/countersignatures."""

    seq: Line
    hash: Hash
    at: Moment
    signature: SignatureHex


class CountersignatureView(Body):
    """One countersignature with everything needed to check it elsewhere."""

    member_id: ShortText
    member_name: str
    identity_public_key: str
    seq: int
    hash: str
    at: str
    signature: str
    received_at: str


class MemberStanding(Body):
    """How far one member's countersignatures reach, and whether they hold."""

    member_id: ShortText
    member_name: str
    signatures: int
    newest_seq: int
    newest_hash: str
    newest_at: str
    fault: str
    """Of the first that does not hold; empty where all do."""


class AuditVerification(Body):
    """GET /audit/verification."""

    head_seq: int
    head_hash: str
    fault: str
    """The line where the chain breaks, in words; empty where it holds."""
    seconds: float
    members: list[MemberStanding]
    unsigned_lines: int
    """Lines after the newest countersignature that holds."""

    @property
    def intact(self) -> bool:
        """Whether the chain and all countersignatures hold."""
        return not self.fault and not any(member.fault for member in self.members)
