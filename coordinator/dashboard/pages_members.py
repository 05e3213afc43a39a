"""Members: who belongs to the consortium, inviting an organisation, and one member's page with what may be done."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Path, Request
from pydantic import ValidationError
from starlette.responses import Response

from coordinator.dashboard.frame import page, part, then
from coordinator.dashboard.gate import Seeing, gate
from coordinator.dashboard.live import stream
from coordinator.dashboard.members_facts import invitations_open, lifetimes, member_facts, table_facts
from coordinator.dashboard.members_search import ROWS, STATES, Looking, pages_of, plain
from coordinator.dashboard.pulse import Parts
from coordinator.dashboard.sessions import Viewer
from coordinator.members import views
from coordinator.members.access import room_of
from shared.domain.consortium import MemberState
from shared.domain.errors import CommonlensError, Invalid
from shared.wire.enrolment import InvitationRequest
from shared.wire.problems import to_problem

router = APIRouter(dependencies=[Depends(gate)])
Id = Annotated[str, Path(max_length=40)]
Text = Annotated[str, Form(max_length=200)]
Search = Annotated[Looking, Depends()]


@router.get("/members")
def members_page(request: Request, viewer: Seeing, looking: Search) -> Response:
    """Who belongs, as far as somebody looks for them, and the invitations that are open."""
    return page(request, "members/list.html", **_facts(request, viewer, looking))


@router.get("/members/live")
def members_live(request: Request, viewer: Seeing, looking: Search) -> Response:
    """The tables as they change: an organisation that joins appears. What was typed is not looked for here."""
    bounded = looking.without_text(len(room_of(request).members.every()))
    return stream(request, viewer, partial(_parts, looking=bounded))


def _parts(request: Request, viewer: Viewer, looking: Looking) -> Parts:
    facts = _facts(request, viewer, looking)
    names = ("table", "invitations") if facts["invitations"] is not None else ("table",)
    return {f"members-{name}": part(request, viewer, f"members/{name}.html", **facts) for name in names}


def _facts(request: Request, viewer: Viewer, looking: Looking) -> dict[str, Any]:
    facts = table_facts(request, viewer)
    found = looking.found(facts["rows"])
    here = looking.within(len(found))
    first = (here.page - 1) * ROWS
    return facts | {
        "rows": found[first : first + ROWS],
        "everybody": len(facts["rows"]),
        "found": len(found),
        "first": first + 1,
        "pages": pages_of(len(found)),
        "looking": here,
        "states": STATES,
        "invitations": invitations_open(request, viewer),
    }


@router.get("/invitations")
def invite_page(request: Request) -> Response:
    """The form."""
    return _invite_form(request)


@router.post("/invitations")
def invite(
    request: Request,
    viewer: Seeing,
    name: Text = "",
    purpose: Text = "contribute",
    lifetime: Text = "",
    approval: Text = "",
) -> Response:
    """Make an invitation. The answer is the only page that ever shows its secret, so it is no redirect."""
    typed = {"name": name, "purpose": purpose, "lifetime": lifetime, "approval": approval}
    try:
        reply = views.invite(room_of(request), _asked(typed), viewer.caller.actor)
    except CommonlensError as error:
        return _invite_form(request, to_problem(error).status, error.message, typed)
    there = (m for m in room_of(request).members.every() if m.state is not MemberState.REVOKED)
    known = next((m.state.value for m in there if m.name == reply.member_name), "")
    return page(request, "members/invited.html", status=201, invitation=reply, known=known)


@router.post("/invitations/{invitation_id}/withdraw")
def withdraw(request: Request, viewer: Seeing, invitation_id: Id) -> Response:
    """Take an open invitation back."""
    room_of(request).invitations.withdraw(invitation_id, viewer.caller.actor)
    return then(request, "/members", "The invitation was withdrawn. Nobody can join with it any more.")


def _asked(typed: dict[str, str]) -> InvitationRequest:
    try:
        return InvitationRequest.model_validate(
            {
                "member_name": plain(typed["name"]),
                "purpose": typed["purpose"],
                "lifetime_s": float(typed["lifetime"]) if typed["lifetime"] else None,
                "needs_approval": bool(typed["approval"]),
            }
        )
    except (ValidationError, ValueError) as error:
        wrong = error.errors()[0]["loc"][0] if isinstance(error, ValidationError) else "lifetime_s"
        raise Invalid(_WRONG[str(wrong)]) from error


_WRONG = {
    "member_name": "A name has 1 to 100 letters, digits, spaces and . & ' ( ) + , - and this one does not fit. "
    "Nobody was invited. Write it with these.",
    "purpose": "An organisation joins to contribute or to use releases. Nobody was invited. Choose one of the two.",
    "lifetime_s": "An invitation is good for up to 30 days. Nobody was invited. Choose a time from the list.",
}


def _invite_form(
    request: Request, status: int = 200, problem: str = "", typed: dict[str, str] | None = None
) -> Response:
    return page(
        request,
        "members/invite.html",
        status=status,
        problem=problem,
        typed=typed or {"name": "", "purpose": "contribute", "lifetime": "", "approval": ""},
        lifetimes=lifetimes(room_of(request).config.limits.invitation_lifetime_s),
    )


@router.get("/members/{member_id}")
def member_page(request: Request, viewer: Seeing, member_id: Id) -> Response:
    """One member: who it is, what it agreed to, took part in, and what was done about it."""
    return _member_page(request, viewer, member_id)


@router.post("/members/{member_id}/approve")
def approve(request: Request, viewer: Seeing, member_id: Id) -> Response:
    """Let a pending member in."""
    room_of(request).members.approve(member_id, viewer.caller.actor)
    return then(request, f"/members/{member_id}", "The member was approved. Its node is let in from now on.")


@router.post("/members/{member_id}/suspend")
def suspend(request: Request, viewer: Seeing, member_id: Id) -> Response:
    """Shut a member out until it is resumed."""
    room_of(request).members.suspend(member_id, viewer.caller.actor)
    return then(request, f"/members/{member_id}", "The member was suspended. Its node and its token stopped.")


@router.post("/members/{member_id}/resume")
def resume(request: Request, viewer: Seeing, member_id: Id) -> Response:
    """Let a suspended member in again."""
    room_of(request).members.resume(member_id, viewer.caller.actor)
    return then(request, f"/members/{member_id}", "The member was resumed, with the same keys.")


@router.post("/members/{member_id}/revoke")
def revoke(request: Request, viewer: Seeing, member_id: Id, name: Text = "") -> Response:
    """Shut a member out for ever, once its name was typed."""
    room = room_of(request)
    member = room.members.get(member_id)
    if plain(name) != plain(member.name):
        problem = (
            f"To revoke it, type the member's name exactly: {member.name}. What was typed is another text. "
            "Nothing was changed."
        )
        return _member_page(request, viewer, member_id, 422, problem)
    room.members.revoke(member_id, viewer.caller.actor)
    return then(
        request, f"/members/{member_id}", "The member was revoked. Its node and its token stopped for ever."
    )


def _member_page(
    request: Request, viewer: Viewer, member_id: str, status: int = 200, problem: str = ""
) -> Response:
    facts = member_facts(request, viewer, member_id)
    return page(request, "members/member.html", status=status, problem=problem, **facts)
