"""What members saw of the audit log, signed by them: who rewrites the log later cannot make these signatures again.

A member signs (its id, number and hash of the last line, its own time) with its identity key. A hash covers all
lines before it, so a signature under line n holds the first n lines in place. What a member signs is taken only
while the log has that hash at that line: a later mismatch says that the log was changed, and not the member's word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from coordinator.audit.log import hash_at
from coordinator.storage.tables import audit_countersignatures as table
from coordinator.storage.tables import audit_events, members
from shared.domain.clock import Clock, to_text
from shared.domain.errors import BadSignature, BrokenChain
from shared.release.signing import verify_value
from shared.wire.audit import KIND, CountersignatureView, SignedHead

_BATCH = 1000


@dataclass(frozen=True)
class Countersignature:
    """One, with the key to check it by and what the log has at its line now."""

    member_id: str
    member_name: str
    identity_public_key: str
    seq: int
    hash: str
    at: str
    signature: str
    received_at: str
    found_hash: str
    """Empty where the log has no such line any more."""

    @property
    def head(self) -> SignedHead:
        """What was signed."""
        return SignedHead(member_id=self.member_id, seq=self.seq, hash=self.hash, at=self.at)

    def view(self) -> CountersignatureView:
        """With everything needed to check it elsewhere."""
        return CountersignatureView(
            **{name: getattr(self, name) for name in CountersignatureView.model_fields}
        )

    def fault(self) -> str:
        """Why it does not hold, or nothing where it does."""
        try:
            verify_value(self.identity_public_key, KIND, self.head.model_dump(), self.signature)
        except BadSignature as error:
            return error.message
        if self.found_hash != self.hash:
            return (
                f"line {self.seq} had the hash {self.hash} when {self.member_name} signed it, and "
                f"{f'has {self.found_hash}' if self.found_hash else 'is missing'} now: the log was rewritten"
            )
        return ""


def accept(
    connection: sa.Connection, clock: Clock, public_key: str, head: SignedHead, signature: str
) -> None:
    """Keep a member's countersignature. Raises BadSignature, or BrokenChain where the log has another hash there."""
    verify_value(public_key, KIND, head.model_dump(), signature)
    found = hash_at(connection, head.seq)
    if found != head.hash:
        raise BrokenChain(
            f"Line {head.seq} of the audit log should have the hash {head.hash} that was signed; "
            f"{f'it has {found}' if found else 'there is no such line'}. The countersignature was not kept. Tell "
            "the consortium's auditor."
        )
    known = sa.select(table.c.seq).where(table.c.member_id == head.member_id, table.c.seq == head.seq)
    if connection.execute(known).one_or_none() is None:
        row = {**head.model_dump(), "signature": signature, "received_at": to_text(clock.now())}
        connection.execute(table.insert().values(row))


def every(connection: sa.Connection) -> Iterator[Countersignature]:
    """All, by member and line."""
    query = (
        sa.select(table, members.c.name, members.c.identity_public_key, audit_events.c.hash.label("found"))
        .join(members, members.c.id == table.c.member_id)
        .outerjoin(audit_events, audit_events.c.seq == table.c.seq)
        .order_by(members.c.name, table.c.member_id, table.c.seq)
    )
    for row in connection.execution_options(yield_per=_BATCH).execute(query):
        yield Countersignature(
            member_id=row.member_id,
            member_name=row.name,
            identity_public_key=row.identity_public_key,
            seq=row.seq,
            hash=row.hash,
            at=row.at,
            signature=row.signature,
            received_at=row.received_at,
            found_hash=row.found or "",
        )
