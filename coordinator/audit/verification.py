"""Check the whole audit log: every hash from the first line, and every member's countersignature."""

from __future__ import annotations

import itertools
import time

import sqlalchemy as sa

from coordinator.audit.countersignatures import Countersignature, every
from coordinator.audit.log import Head, read_head, verify_chain
from shared.domain.errors import BrokenChain
from shared.wire.audit import AuditVerification, MemberStanding


def verify_all(connection: sa.Connection, roll_key: str) -> AuditVerification:
    """What holds and what does not; raises nothing for a log that was changed.

    While the chain is broken no line stands under a countersignature: a signed hash speaks of the lines before it
    only because each line follows from the one before.
    """
    started = time.monotonic()
    fault = ""
    try:
        head = verify_chain(connection)
    except BrokenChain as error:
        fault, head = error.message, _head_as_it_stands(connection)
    by_member = itertools.groupby(every(connection, roll_key), key=lambda one: one.member_id)
    members = [_standing(list(signed)) for _, signed in by_member]
    reached = 0 if fault else max((one.newest_seq for one in members if not one.fault), default=0)
    return AuditVerification(
        head_seq=head.seq,
        head_hash=head.hash,
        fault=fault,
        seconds=time.monotonic() - started,
        members=members,
        unsigned_lines=max(0, head.seq - reached),
    )


def _head_as_it_stands(connection: sa.Connection) -> Head:
    try:
        return read_head(connection)
    except BrokenChain:
        return Head(0, "")


def _standing(signed: list[Countersignature]) -> MemberStanding:
    newest = signed[-1]
    return MemberStanding(
        member_id=newest.member_id,
        member_name=newest.member_name,
        signatures=len(signed),
        newest_seq=newest.seq,
        newest_hash=newest.hash,
        newest_at=newest.at,
        fault=next((fault for one in signed if (fault := one.fault())), ""),
    )
