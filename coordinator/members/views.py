"""Members and invitations as the API and the pages show them."""

from __future__ import annotations

import sqlalchemy as sa

from coordinator.audit.search import of_member
from coordinator.members.access import Caller
from coordinator.members.invitations import InvitationLine
from coordinator.members.room import MembersRoom
from coordinator.members.status import MemberStatus
from coordinator.storage.database import reading
from shared.domain.consortium import Member, Purpose, Role
from shared.domain.errors import NotFound
from shared.domain.strict import to_plain
from shared.release.fingerprint import fingerprint
from shared.wire.enrolment import (
    AuditView,
    BudgetView,
    InvitationReply,
    InvitationRequest,
    InvitationView,
    MemberDetail,
    MemberView,
    join_line,
)

MOST_HISTORY = 100


def visible_members(room: MembersRoom, caller: Caller) -> list[Member]:
    """All members for who oversees the consortium; for a member, itself."""
    members = room.members.every()
    return [m for m in members if caller.role is not Role.MEMBER or m.id == caller.id]


def visible_member(room: MembersRoom, caller: Caller, member_id: str) -> Member:
    """One of `visible_members`. Raises NotFound, in the same words whether there is none or it is not theirs."""
    if caller.role is Role.MEMBER and member_id != caller.id:
        raise NotFound("There is no member of this id that you may see. Nothing was done. List the members.")
    return room.members.get(member_id)


def invite(room: MembersRoom, request: InvitationRequest, actor: str) -> InvitationReply:
    """Make an invitation. The reply holds the secret, which nobody knows afterwards."""
    invitation, secret = room.invitations.invite(
        request.member_name, Purpose(request.purpose), actor, request.lifetime_s, request.needs_approval
    )
    url, ca_fingerprint = room.config.url, room.authority.fingerprint()
    return InvitationReply(
        id=invitation.id,
        member_name=invitation.member_name,
        purpose=invitation.purpose.value,
        secret=secret,
        expires_at=invitation.expires_at,
        needs_approval=invitation.needs_approval,
        url=url,
        ca_fingerprint=ca_fingerprint,
        join_line=join_line(url, ca_fingerprint, invitation.purpose.value),
    )


def invitation_view(line: InvitationLine) -> InvitationView:
    """An invitation as a list shows it."""
    invitation = line.invitation
    return InvitationView(
        id=invitation.id,
        member_name=invitation.member_name,
        purpose=invitation.purpose.value,
        created_by=line.created_by,
        created_at=line.created_at,
        expires_at=invitation.expires_at,
        spent_at=invitation.spent_at,
        withdrawn_at=invitation.withdrawn_at,
        needs_approval=invitation.needs_approval,
    )


def differing(room: MembersRoom) -> dict[str, str]:
    """Member id → how the database has it otherwise than the signed roll."""
    return {one.member_id: one.what for one in room.roll.differences()}


def member_view(member: Member, status: MemberStatus, online: bool, differs: str) -> MemberView:
    """Everything but the node key."""
    left = status.budget_left
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
        fingerprint=fingerprint(member.identity_public_key),
        differs=differs,
        online=online,
        last_seen_at=status.last_seen_at,
        budget_left=None
        if left is None
        else BudgetView(share=left.share, epsilon=left.epsilon, delta=left.delta),
        budget_at=status.budget_at,
    )


def member_detail(room: MembersRoom, member: Member, online: bool) -> MemberDetail:
    """With its history."""
    differs = differing(room).get(member.id, "")
    view = member_view(member, room.status.of(member.id), online, differs)
    return MemberDetail(
        **view.model_dump(exclude={"budget_left"}),
        budget_left=view.budget_left,
        history=history(room.engine, member.id),
    )


def history(engine: sa.Engine, member_id: str) -> list[AuditView]:
    """The newest audit lines about a member and of what it did, newest first."""
    with reading(engine) as connection:
        return [AuditView(**to_plain(event)) for event in of_member(connection, member_id, MOST_HISTORY)]
