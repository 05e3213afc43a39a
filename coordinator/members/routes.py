"""HTTP for joining, signing in and membership, under /api/v1. Routes parse, call and render; nothing else."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request

from coordinator.audit.log import page_after, read_head
from coordinator.members import views
from coordinator.members.access import (
    Caller,
    address_of,
    origin_of,
    require,
    require_anyone,
    require_member,
    room_of,
)
from coordinator.members.allowance import SIGN_IN_LINKS, SOFTWARE_CHANGES
from coordinator.members.node_directory import NodeDirectory
from coordinator.members.room import MembersRoom
from coordinator.members.status import MemberStatus
from coordinator.members.store import get_member
from coordinator.storage.database import reading
from shared.domain.clock import to_text
from shared.domain.consortium import BudgetLeft, Member, Role
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
    MemberDetail,
    MemberView,
    NodeReport,
    SignInLinkReply,
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
Id = Annotated[str, Path(max_length=40)]


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
    """A token for a person, for some hours; with a code where the account has a second factor."""
    attempts, subject = room.sign_in_attempts, room.accounts.id_of(body.name)
    with attempts.attempt(address_of(request), "password", f"name:{body.name}", subject=subject):
        account, token, expires_at = room.accounts.sign_in(
            body.name, body.password, room.config.limits.session_lifetime_s, body.code, origin_of(request)
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
    return views.invite(room, body, caller.actor)


@router.get("/invitations")
def list_invitations(_caller: Overseer, room: Room) -> list[InvitationView]:
    """All invitations, newest first; never a secret."""
    return [views.invitation_view(line) for line in room.invitations.every()]


@router.post("/invitations/{invitation_id}/withdraw")
def withdraw_invitation(invitation_id: Id, caller: Admin, room: Room) -> InvitationView:
    """Take back an invitation that nobody has used yet."""
    return views.invitation_view(room.invitations.withdraw(invitation_id, caller.actor))


@router.get("/members")
def list_members(caller: Anyone, room: Room, request: Request) -> list[MemberView]:
    """All members, in the order in which they joined; for a member, itself."""
    status, online, differs = room.status.every(), _online(request), views.differing(room)
    return [
        views.member_view(
            member, status.get(member.id, MemberStatus()), member.id in online, differs.get(member.id, "")
        )
        for member in views.visible_members(room, caller)
    ]


@router.get("/members/{member_id}")
def show_member(member_id: Id, caller: Anyone, room: Room, request: Request) -> MemberDetail:
    """One member and the newest audit lines about it."""
    member = views.visible_member(room, caller, member_id)
    return views.member_detail(room, member, member.id in _online(request))


@router.post("/members/{member_id}/approve")
def approve(member_id: Id, caller: Admin, room: Room, request: Request) -> MemberView:
    """Let a member in that joined and waits for approval."""
    return _changed(room, request, room.members.approve(member_id, caller.actor))


@router.post("/members/{member_id}/suspend")
def suspend(member_id: Id, caller: Admin, room: Room, request: Request) -> MemberView:
    """Shut a member out until it is resumed."""
    return _changed(room, request, room.members.suspend(member_id, caller.actor))


@router.post("/members/{member_id}/resume")
def resume(member_id: Id, caller: Admin, room: Room, request: Request) -> MemberView:
    """Let a suspended member in again."""
    return _changed(room, request, room.members.resume(member_id, caller.actor))


@router.post("/members/{member_id}/revoke")
def revoke(member_id: Id, caller: Admin, room: Room, request: Request) -> MemberView:
    """Shut a member out for ever."""
    return _changed(room, request, room.members.revoke(member_id, caller.actor))


@router.get("/roll")
def roll(_caller: Anyone, room: Room) -> dict[str, Any]:
    """The signed roll, for everybody who is signed in."""
    return room.roll.current()


@router.post("/node/restarted", status_code=204)
def node_restarted(caller: OwnNode, request: Request) -> None:
    """A member's node says that it starts afresh: its old connection is forgotten at once."""
    request.app.state.engine.free_node(caller.id)


@router.post("/node/sign-in-link", status_code=201)
def sign_in_link(caller: OwnNode, room: Room) -> SignInLinkReply:
    """A link by which this member's operator opens the dashboard: once, within two minutes."""
    SIGN_IN_LINKS.take(room.clock, caller.id)
    code, expires_at = room.links.make(caller.id)
    return SignInLinkReply(url=f"{room.config.url}/sign-in/member?code={code}", expires_at=expires_at)


@router.post("/node/report", status_code=204)
def node_report(body: NodeReport, caller: OwnNode, room: Room) -> None:
    """A member's node says which software it runs and, where its policy lets it, how much of its budget is left."""
    left = body.budget
    budget = None if left is None else BudgetLeft(left.share, left.epsilon, left.delta)
    with reading(room.engine) as connection:
        known = get_member(connection, caller.id).node.software_version
    if known != body.software_version:  # only that leaves an audit line
        SOFTWARE_CHANGES.take(room.clock, caller.id)
    room.status.report(caller.id, body.software_version, budget)


@router.get("/audit")
def audit(
    _caller: Overseer,
    room: Room,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AuditReply:
    """A page of the audit log, oldest first, and whether its lines follow each other from line `after` on."""
    with reading(room.engine) as connection:
        page, fault = page_after(connection, after, limit)
        head = read_head(connection)
    return AuditReply(
        entries=[AuditView(**to_plain(event)) for event in page],
        head_seq=head.seq,
        head_hash=head.hash,
        intact=not fault,
        fault=fault,
    )


def _changed(room: MembersRoom, request: Request, member: Member) -> MemberView:
    differs = views.differing(room).get(member.id, "")
    return views.member_view(member, room.status.of(member.id), member.id in _online(request), differs)


def _online(request: Request) -> frozenset[str]:
    nodes: NodeDirectory = request.app.state.engine
    return nodes.online()
