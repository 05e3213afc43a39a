"""What members saw of the audit log, signed by them: who rewrites the log later cannot make these signatures again.

A member signs (its id, number and hash of the last line, its own time) with its identity key. A hash covers all
lines before it, so a signature under line n holds the first n lines in place. What a member signs is taken only
while the log has that hash at that line: a later mismatch says that the log was changed, and not the member's word.
The key that counts is the signed roll's (roll_keys.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from coordinator.audit.log import hash_at
from coordinator.audit.roll_keys import RollKeys, keys_on_roll
from coordinator.storage.tables import audit_countersignatures as table
from coordinator.storage.tables import audit_events, members
from shared.domain.clock import Clock, to_text
from shared.domain.errors import BadSignature, BrokenChain
from shared.release.signing import verify_value
from shared.wire.audit import KIND, CountersignatureView, SignedHead

_BATCH = 1000


@dataclass(frozen=True)
class Countersignature:
    """One, with the key to check it by and what the log and the members' table have now."""

    member_id: str
    member_name: str
    identity_public_key: str
    """As the signed roll has it; empty where it vouches for none."""
    seq: int
    hash: str
    at: str
    signature: str
    received_at: str
    found_hash: str
    """Empty where the log has no such line any more."""
    found_key: str
    """What the members' table has."""
    roll_fault: str

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
        if not self.identity_public_key:
            return self.roll_fault or (
                f"{self.member_name} is not on the roll that the roll key signed: nobody vouches for its key"
            )
        if self.found_key != self.identity_public_key:
            return (
                f"the members' table has another key of {self.member_name} ({self.found_key or 'none'}) than the "
                f"signed roll ({self.identity_public_key}): it was put in its place"
            )
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
    """Keep a member's countersignature. Raises BadSignature, or BrokenChain where the log has another hash there.

    Which one it has is not said: a member learns no hash of a line that it did not see as the last one.
    """
    verify_value(public_key, KIND, head.model_dump(), signature)
    found = hash_at(connection, head.seq)
    if found != head.hash:
        raise BrokenChain(
            f"Line {head.seq} of the audit log should have the hash {head.hash} that was signed; "
            f"{'it has another one' if found else 'there is no such line'}. The countersignature was not kept. Tell "
            "the consortium's auditor."
        )
    if not is_kept(connection, head.member_id, head.seq):
        row = {**head.model_dump(), "signature": signature, "received_at": to_text(clock.now())}
        connection.execute(table.insert().values(row))


def is_kept(connection: sa.Connection, member_id: str, seq: int) -> bool:
    """Whether this member's countersignature under line `seq` is here."""
    known = sa.select(table.c.seq).where(table.c.member_id == member_id, table.c.seq == seq)
    return connection.execute(known).one_or_none() is not None


def every(connection: sa.Connection, roll_key: str) -> Iterator[Countersignature]:
    """All, by member and line; `roll_key` is the public half of the key that the roll must be signed with."""
    roll = keys_on_roll(connection, roll_key)
    query = (
        sa.select(table, members.c.name, members.c.identity_public_key, audit_events.c.hash.label("found"))
        .outerjoin(members, members.c.id == table.c.member_id)
        .outerjoin(audit_events, audit_events.c.seq == table.c.seq)
        .order_by(members.c.name, table.c.member_id, table.c.seq)
    )
    for row in connection.execution_options(yield_per=_BATCH).execute(query):
        yield _countersignature(row, roll)


def _countersignature(row: sa.Row[Any], roll: RollKeys) -> Countersignature:
    return Countersignature(
        member_id=row.member_id,
        member_name=row.name or row.member_id,
        identity_public_key=roll.keys.get(row.member_id, ""),
        seq=row.seq,
        hash=row.hash,
        at=row.at,
        signature=row.signature,
        received_at=row.received_at,
        found_hash=row.found or "",
        found_key=row.identity_public_key or "",
        roll_fault=roll.fault,
    )
