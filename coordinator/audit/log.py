"""The audit log: one hash-chained line for every change, written in the change's own transaction.

Line n carries the hash of line n-1, so a changed, missing or reordered line breaks the chain. The head
(number and hash of the last line) is kept in `meta`, so that cutting off the end shows too. Whoever can
rewrite the whole database can rewrite both, with right hashes everywhere: what then gives them away are the heads
that members countersigned (countersignatures.py), and exports that somebody kept elsewhere.

Members learn hashes and not what the lines say. There are few things that a line can say, so each hash covers a
random salt of its own: without it nobody can tell by a hash whether a guess at the line is right.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from coordinator.audit.masking import holds_secret
from coordinator.storage.tables import audit_events, meta
from shared.domain.canonical import canonical_bytes, digest_of
from shared.domain.clock import Clock, to_text
from shared.domain.errors import BrokenChain, InvalidMessage
from shared.domain.strict import later, to_plain

HEAD_KEY = "audit_head"
FIRST_HASH = "sha256:" + "0" * 64
SALT_BYTES = 16
Detail = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True)
class AuditEvent:
    """One change: when, who (`account:<name>`, `member:<id>`, `operator`, `system`), what, to which thing."""

    seq: int
    at: str
    actor: str
    action: str
    subject: str
    detail: dict[str, str | int | float | bool | None]
    prev_hash: str
    hash: str
    salt: str = later("")
    """Random, hex; lines written before there were salts have none, and their hashes cover none."""

    def hashed(self) -> str:
        """What `hash` should be: over all that the line has but itself."""
        fields = to_plain(self)
        del fields["hash"]
        return digest_of(fields)


@dataclass(frozen=True)
class Head:
    """Number and hash of the last line; number 0 before the first one."""

    seq: int
    hash: str


def append(
    connection: sa.Connection,
    clock: Clock,
    actor: str,
    action: str,
    subject: str,
    detail: Detail | None = None,
) -> AuditEvent:
    """Add a line inside the caller's transaction: the change and its line are kept or undone together.

    Raises InvalidMessage when a line would hold a secret; the transaction is undone with it.
    """
    before = read_head(connection, lock=True)
    fields = {
        "seq": before.seq + 1,
        "at": to_text(clock.now()),
        "actor": actor,
        "action": action,
        "subject": subject,
        "detail": dict(detail or {}),
        "prev_hash": before.hash,
        "salt": secrets.token_hex(SALT_BYTES),
    }
    text = canonical_bytes(fields).decode("utf-8")
    if holds_secret(text):
        raise InvalidMessage(
            f"An audit line for {action} would have held a token, an invitation's secret or a private key. Nothing "
            "was changed. Leave it out of the name or the note: everybody who audits reads the line."
        )
    event = AuditEvent(hash=digest_of(fields), **fields)  # type: ignore[arg-type]
    row = {**fields, "detail": canonical_bytes(event.detail).decode("utf-8"), "hash": event.hash}
    connection.execute(audit_events.insert().values(row))
    head = canonical_bytes({"seq": event.seq, "hash": event.hash}).decode("utf-8")
    connection.execute(meta.update().where(meta.c.key == HEAD_KEY).values(value=head))
    return event


def read_head(connection: sa.Connection, lock: bool = False) -> Head:
    """The last line's number and hash; `lock` makes other writers wait for this transaction's end."""
    query = sa.select(meta.c.value).where(meta.c.key == HEAD_KEY)
    text = connection.execute(query.with_for_update() if lock else query).scalar_one_or_none()
    try:
        value = json.loads(text or "")
        return Head(int(value["seq"]), str(value["hash"]))
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenChain(
            "The audit log's head is missing or unreadable. Nothing was changed. Restore the database from a "
            "backup and compare it with this one."
        ) from error


def entries(connection: sa.Connection, after: int = 0, limit: int = 100) -> list[AuditEvent]:
    """Lines with numbers above `after`, oldest first, at most `limit`."""
    return [event_of(row) for row in _rows_after(connection, after, limit)]


def page_after(connection: sa.Connection, after: int, limit: int) -> tuple[list[AuditEvent], str]:
    """Lines above `after`, oldest first, and what is wrong with their chain; empty where it holds.

    Checked from line `after` on: whoever reads page after page has checked the whole chain, each line once.
    """
    rows = _rows_after(connection, after, limit)
    head, previous, fault = read_head(connection), Head(after, hash_at(connection, after)), ""
    try:
        for row in rows:
            previous = _follow(previous, row)
        if len(rows) < limit and after <= head.seq and previous != head:
            raise _cut(head, previous)
    except BrokenChain as error:
        fault = error.message
    return [event_of(row) for row in rows], fault


def _rows_after(connection: sa.Connection, after: int, limit: int) -> Sequence[sa.Row[tuple[object, ...]]]:
    table = audit_events
    return connection.execute(
        sa.select(table).where(table.c.seq > after).order_by(table.c.seq).limit(limit)
    ).all()


def hash_at(connection: sa.Connection, seq: int) -> str:
    """The hash of line `seq` as it stands now; empty where there is no such line."""
    query = sa.select(audit_events.c.hash).where(audit_events.c.seq == seq)
    return FIRST_HASH if seq == 0 else connection.execute(query).scalar_one_or_none() or ""


def verify_chain(connection: sa.Connection) -> Head:
    """Recompute every hash from the first line and give the head. Raises BrokenChain naming the line."""
    previous = Head(0, FIRST_HASH)
    query = sa.select(audit_events).order_by(audit_events.c.seq)
    for row in connection.execution_options(yield_per=1000).execute(query):
        previous = _follow(previous, row)
    head = read_head(connection)
    if head != previous:
        raise _cut(head, previous)
    return head


def _follow(previous: Head, row: sa.Row[tuple[object, ...]]) -> Head:
    number = previous.seq + 1
    if row.seq != number:
        raise _broken(number, f"expected line {number}, found line {row.seq}")
    if row.prev_hash != previous.hash:
        raise _broken(number, f"it should follow {previous.hash}, it follows {row.prev_hash}")
    try:
        event = event_of(row)
    except ValueError as error:
        raise _broken(number, "its detail is not JSON") from error
    found = event.hashed()
    if found != event.hash:
        raise _broken(number, f"expected hash {event.hash}, found {found}")
    return Head(number, event.hash)


def _cut(head: Head, found: Head) -> BrokenChain:
    return _broken(found.seq + 1, f"expected {head.seq} lines, found {found.seq} that hold together")


def _broken(number: int, what: str) -> BrokenChain:
    return BrokenChain(
        f"The audit log is broken at line {number}: {what}. Nothing was changed. "
        "Compare the database with a backup to see who changed it."
    )


def event_of(row: sa.Row[tuple[object, ...]]) -> AuditEvent:
    """A line as an object. Raises ValueError where its detail is not JSON."""
    fields = dict(row._mapping)
    fields["detail"] = json.loads(fields["detail"])
    return AuditEvent(**fields)
