"""HTTP for the audit log beside its lines: its head, members' countersignatures, a check of everything, exports."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from coordinator.audit.countersignatures import accept, every, is_kept
from coordinator.audit.export import json_lines
from coordinator.audit.log import hash_at, read_head
from coordinator.audit.roll_keys import roll_key_of
from coordinator.audit.search import wanted
from coordinator.audit.verification import verify_all
from coordinator.members.access import Caller, require, require_anyone, require_member, room_of
from coordinator.members.allowance import COUNTERSIGNATURES
from coordinator.members.room import MembersRoom
from coordinator.storage.database import reading, writing
from shared.domain.consortium import Role
from shared.wire.audit import (
    AuditHead,
    AuditVerification,
    CountersignatureRequest,
    CountersignatureView,
    SignedHead,
)

router = APIRouter(prefix="/api/v1/audit")
Room = Annotated[MembersRoom, Depends(room_of)]
Overseer = Annotated[Caller, Depends(require(Role.ADMIN, Role.AUDITOR))]


@router.get("/head")
def head(
    caller: Annotated[Caller, Depends(require_anyone)],
    room: Room,
    earlier: Annotated[int, Query(ge=0, le=2**53)] = 0,
) -> AuditHead:
    """The last line's number and hash, for members to countersign: it says nothing of what the lines say.

    With `earlier`, also the hash of that line: a member asks for one that it countersigned itself, and of the others
    it learns none, because a line without a salt can be guessed and recognised by its hash.
    """
    with reading(room.engine) as connection:
        found = read_head(connection)
        seen = caller.role is not Role.MEMBER or is_kept(connection, caller.id, earlier)
        known = hash_at(connection, earlier) if earlier and seen else ""
    return AuditHead(seq=found.seq, hash=found.hash, earlier_seq=earlier, earlier_hash=known or None)


@router.post("/countersignatures", status_code=204)
def countersign(
    body: CountersignatureRequest, caller: Annotated[Caller, Depends(require_member)], room: Room
) -> None:
    """A member's node hands in its signature under the head that it saw."""
    signed = SignedHead(member_id=caller.id, seq=body.seq, hash=body.hash, at=body.at)
    key = room.members.get(caller.id).identity_public_key
    with writing(room.engine) as connection:
        if not is_kept(connection, caller.id, body.seq):  # guesses at a hash count too
            COUNTERSIGNATURES.take(room.clock, caller.id)
        accept(connection, room.clock, key, signed, body.signature)


@router.get("/countersignatures")
def countersignatures(_caller: Overseer, room: Room) -> list[CountersignatureView]:
    """All of them, with the signers' keys as the roll has them."""
    with reading(room.engine) as connection:
        return [one.view() for one in every(connection, roll_key_of(room))]


@router.get("/verification")
def verification(_caller: Overseer, room: Room) -> AuditVerification:
    """Recompute the whole chain and check every countersignature."""
    with reading(room.engine) as connection:
        return verify_all(connection, roll_key_of(room))


@router.get("/lines.jsonl", response_class=StreamingResponse)
def lines(
    _caller: Overseer,
    room: Room,
    actor: Annotated[str, Query(max_length=120)] = "",
    action: Annotated[str, Query(max_length=60)] = "",
    subject: Annotated[str, Query(max_length=120)] = "",
    since: Annotated[str, Query(max_length=40)] = "",
    until: Annotated[str, Query(max_length=40)] = "",
) -> StreamingResponse:
    """All lines that fit, oldest first, as JSON lines."""
    found = json_lines(room.engine, wanted(actor, action, subject, since, until))
    return StreamingResponse(found, media_type="application/jsonl")
