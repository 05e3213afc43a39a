"""HTTP for joining, signing in and membership, under /api/v1. Routes parse, call and render; nothing else."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from coordinator.audit.log import entries, read_head, verify_chain
from coordinator.members.access import (
    Caller,
    address_of,
    require,
    require_anyone,
    require_member,
    room_of,
)
from coordinator.members.room import MembersRoom
from coordinator.storage.database import reading
from shared.domain.clock import to_text
from shared.domain.consortium import Member, Purpose, Role
from shared.domain.errors import BrokenChain
from shared.domain.strict import to_plain
from shared.wire.enrolment import (
    AuditReply,
    AuditView,
    EnrolmentReply,
    EnrolmentRequest,
    HealthReply,
    InvitationReply,
    InvitationRequest,
    InvitationView,
    MemberView,
    SignInReply,
    SignInRequest,
    TrustReply,
    software_version,
)
from shared.wire.rounds import PROTOCOL_VERSION

router = APIRouter(prefix="/api/v1")
Room = Annotated[MembersRoom, Depends(room_of)]
Admin = Annotated[Caller, Depends(require(Role.ADMIN))]
Overseer = Annotated[Caller, Depends(require(Role.ADMIN, Role.AUDITOR))]
Anyone = Annotated[Caller, Depends(require_anyone)]
OwnNode = Annotated[Caller, Depends(require_member)]


@router.get("/health")
def health() -> HealthReply:
    """Whether the server answers; says nothing else."""
    return HealthReply(version=software_version())


@router.get("/trust")
def trust(room: Room) -> TrustReply:
    """What a newcomer pins, and this side's time. Public."""
    return TrustReply(
        ca_pem=room.authority.ca_pem(),
        trust=room.authority.trust_envelope(),
        coordinator_time=to_text(room.clock.now()),
        version=software_version(),
        protocol=PROTOCOL_VERSION,
    )


@router.post("/enrolments")
def enrol(body: EnrolmentRequest, request: Request, room: Room) -> EnrolmentReply:
    """Spend an invitation. The secret is the only key to this door, so failures are counted."""
    with room.enrolment_attempts.attempt(f"address:{address_of(request)}"):
        return room.members.enrol(body)


@router.post("/sessions")
def sign_in(body: SignInRequest, request: Request, room: Room) -> SignInReply:
    """A token for a person, for some hours."""
    with room.sign_in_attempts.attempt(f"address:{address_of(request)}", f"name:{body.name}"):
        account, token, expires_at = room.accounts.sign_in(
            body.name, body.password, room.config.limits.session_lifetime_s
        )
    return SignInReply(token=token, name=account.name, role=account.role.value, expires_at=expires_at)


@router.delete("/sessions", status_code=204)
def sign_out(
    caller: Annotated[Caller, Depends(require(Role.ADMIN, Role.AUDITOR))],
    room: Room,
) -> None:
    """End the session of the token that was sent."""
    room.accounts.sign_out(caller.token_id, caller.actor, caller.id)


@router.post("/invitations", status_code=201)
def invite(body: InvitationRequest, caller: Admin, room: Room) -> InvitationReply:
    """Invite an organisation; the secret is shown this once."""
    invitation, secret = room.invitations.invite(
        body.member_name, Purpose(body.purpose), caller.actor, body.lifetime_s
    )
    return InvitationReply(
        id=invitation.id,
        member_name=invitation.member_name,
        purpose=invitation.purpose.value,
        secret=secret,
        expires_at=invitation.expires_at,
        url=room.config.url,
        ca_fingerprint=room.authority.fingerprint(),
    )


@router.get("/invitations")
def list_invitations(_caller: Admin, room: Room) -> list[InvitationView]:
    """All invitations, newest first; never a secret."""
    return [
        InvitationView(
            id=line.invitation.id,
            member_name=line.invitation.member_name,
            purpose=line.invitation.purpose.value,
            created_by=line.created_by,
            created_at=line.created_at,
            expires_at=line.invitation.expires_at,
            spent_at=line.invitation.spent_at,
        )
        for line in room.invitations.every()
    ]


@router.get("/members")
def list_members(_caller: Overseer, room: Room) -> list[MemberView]:
    """All members, in the order in which they joined."""
    return [member_view(member) for member in room.members.every()]


@router.post("/members/{member_id}/suspend")
def suspend(member_id: str, caller: Admin, room: Room) -> MemberView:
    """Shut a member out until it is resumed."""
    return member_view(room.members.suspend(member_id, caller.actor))


@router.post("/members/{member_id}/resume")
def resume(member_id: str, caller: Admin, room: Room) -> MemberView:
    """Let a suspended member in again."""
    return member_view(room.members.resume(member_id, caller.actor))


@router.post("/members/{member_id}/revoke")
def revoke(member_id: str, caller: Admin, room: Room) -> MemberView:
    """Shut a member out for ever."""
    return member_view(room.members.revoke(member_id, caller.actor))


@router.get("/roll")
def roll(_caller: Anyone, room: Room) -> dict[str, Any]:
    """The signed roll, for everybody who is signed in."""
    return room.roll.current()


@router.post("/node/restarted", status_code=204)
def node_restarted(caller: OwnNode, request: Request) -> None:
    """A member's node says that it starts afresh: its old connection is forgotten at once."""
    request.app.state.engine.free_node(caller.id)


@router.get("/audit")
def audit(
    _caller: Overseer,
    room: Room,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AuditReply:
    """A page of the audit log, oldest first, and whether the whole chain holds."""
    with reading(room.engine) as connection:
        try:
            head, fault = verify_chain(connection), ""
        except BrokenChain as error:
            head, fault = read_head(connection), error.message
        page = entries(connection, after, limit)
    return AuditReply(
        entries=[AuditView(**to_plain(event)) for event in page],
        head_seq=head.seq,
        head_hash=head.hash,
        intact=not fault,
        fault=fault,
    )


def member_view(member: Member) -> MemberView:
    """A member as the API shows it: everything but the node key."""
    return MemberView(
        id=member.id,
        name=member.name,
        purpose=member.purpose.value,
        state=member.state.value,
        identity_public_key=member.identity_public_key,
        declared_size=member.declared_size,
        device=member.node.device,
        software_version=member.node.software_version,
        enrolled_at=member.enrolled_at,
    )
